//! Python files: decorated functions are found without executing code, and errors have their line.

use std::collections::BTreeMap;

use headwater_project::{Materialization, Project, PythonFunction, Step, StepCode, StepKind};
use headwater_sandbox::NetworkAccess;

use crate::support::{self, files, refusal};

fn parse(others: &[(&str, &str)]) -> Project {
    let manifest = "[parameters]\np = { default = \"x\" }\nq = { type = \"int\", default = 1 }\n";
    support::parse(&files(manifest, others)).unwrap()
}

fn function(step: &Step) -> &PythonFunction {
    match &step.body {
        StepCode::Python(function) => function,
        StepCode::Sql(_) => panic!("`{}` is SQL", step.name),
    }
}

/// Returns the error for a function below `import headwater`, which is on the first line.
fn refused(code: &str) -> String {
    refusal(&files("", &[("models/m.py", &format!("import headwater\n{code}"))]))
}

#[test]
fn function_limits_are_read_and_secrets_are_hidden() {
    let model = "@headwater.model(cpus=1.5, network=['db.example.com:5432', '10.0.0.7'], tmp='2GiB', env={'TOKEN': 'hush', 'MODE': 'a'}, priority='low')\n\
                 def m():\n    return []\n";
    let project = parse(&[("models/m.py", &format!("import headwater\n{model}"))]);
    let function = function(&project.steps[0]);
    assert_eq!((function.cpu_millis, function.temp_bytes), (Some(1500), Some(2 << 30)));
    assert_eq!(function.system, None);
    assert_eq!(function.priority, Some(headwater_model::Priority::Low));
    let NetworkAccess::Hosts(hosts) = &function.network else { panic!("{:?}", function.network) };
    assert_eq!((hosts[0].to_string().as_str(), hosts[1].port), ("db.example.com:5432", None));
    assert_eq!(function.variables.names().collect::<Vec<_>>(), ["MODE", "TOKEN"]);
    assert!(!format!("{:?}", function.variables).contains("hush"));
    for (arguments, named) in [
        ("network=['http://example.com']", "`network`"),
        ("cpus=0", "`cpus`"),
        ("cpus='all'", "`cpus`"),
        ("tmp='big'", "`tmp`"),
        ("priority='urgent'", "`priority`"),
        ("env={'1st': 'hush'}", "`env`"),
        ("env={'TOKEN': ['hush']}", "`env`"),
    ] {
        let refusal = refused(&format!("@headwater.model({arguments})\ndef m():\n    return []\n"));
        assert!(refusal.contains(named) && !refusal.contains("hush"), "{refusal}");
    }
}

#[test]
fn decorators_and_default_arguments_are_read() {
    let project = parse(&[(
        "models/m.py",
        r#"
"""Two models and a check."""
import functools
import headwater as hw
from headwater import Model, expectation as check

LIMIT = 10

@hw.model(
    name="shop.orders", materialization="Replace", columns=["a", "b"],
    partition_by=["day(at)", "b"], network=True, memory="512MiB", timeout=30,
)
@hw.python("3.11", pip={"polars": "1.38.1"}, system=["chromium", "sh"])
def orders(
    flights=hw.Model("flights", columns=["a"], filter="b > $q AND c = '$p'"),
    other=Model(name="ns.other", columns=["*"]),
    name=hw.Parameter("p"),
    *,
    limit=LIMIT,
):
    return flights

@hw.model()
@functools.cache
def plain(orders=Model("shop.orders")):
    raise RuntimeError("nothing here is run")

@hw.python(pip={})
@check()
def good(orders=Model("shop.orders")):
    return True

def helper(x):
    return x

raise SystemExit("nor is this")
"#,
    )]);
    let names: Vec<_> = project.steps.iter().map(|step| (step.name.as_str(), step.kind)).collect();
    let kinds = [StepKind::Python, StepKind::Python, StepKind::Expectation];
    assert_eq!(names, [("shop.orders", kinds[0]), ("plain", kinds[1]), ("good", kinds[2])]);

    let orders = &project.steps[0];
    assert_eq!(orders.at.to_string(), "models/m.py:14");
    assert_eq!(orders.materialization, Materialization::Replace);
    assert_eq!(orders.columns.as_deref(), Some(&["a".to_owned(), "b".to_owned()][..]));
    let partition: Vec<String> = orders.partition_by.iter().map(ToString::to_string).collect();
    assert_eq!(partition, ["day(at)", "b"]);
    assert!(orders.reads_network());
    assert_eq!(
        function(orders).system.as_deref(),
        Some(&["chromium".to_owned(), "sh".to_owned()][..])
    );
    assert_eq!(
        (orders.memory_bytes, orders.timeout.map(|it| it.as_secs())),
        (Some(512 << 20), Some(30))
    );
    assert_eq!(function(orders).python.as_deref(), Some("3.11"));
    assert_eq!(function(orders).packages.as_ref().map(|it| it["polars"].as_str()), Some("1.38.1"));
    let (flights, other) = (&orders.inputs[0], &orders.inputs[1]);
    assert_eq!(flights.argument.as_deref(), Some("flights"));
    assert_eq!(flights.columns.as_deref(), Some(&["a".to_owned()][..]));
    assert_eq!((other.table.to_string().as_str(), &other.columns), ("ns.other", &None));
    let used: Vec<_> =
        orders.parameters.iter().map(|it| (it.argument.as_deref(), it.name.as_str())).collect();
    assert_eq!(used, [(None, "q"), (Some("name"), "p")]);

    assert_eq!(function(&project.steps[1]).packages, None);
    assert_eq!(function(&project.steps[2]).packages.as_ref().map(BTreeMap::len), Some(0));
}

#[test]
fn a_file_that_does_not_use_the_sdk_has_no_steps() {
    let project = parse(&[("util.py", "def model():\n    pass\n\n@model\ndef f(x): pass\n")]);
    assert!(project.steps.is_empty());
}

#[test]
fn decorators_of_other_packages_are_refused_by_name() {
    let code = "import dagster\n\n\n@dagster.model()\n@dagster.python('3.11')\ndef clean(data):\n    return data\n";
    insta::assert_snapshot!(refusal(&files("", &[("models/m.py", code)])), @r"
    invalid_project: `@dagster.model` of `clean` belongs to the package `dagster`, whose projects are not supported (models/m.py:4)
      hint: Write `import headwater` and `@headwater.model()`.
    ");
    let aliased =
        "from other.dsl import expectation as check\n\n@check\ndef whole(data):\n    return True\n";
    insta::assert_snapshot!(refusal(&files("", &[("models/m.py", aliased)])), @r"
    invalid_project: `@check` of `whole` belongs to the package `other.dsl`, whose projects are not supported (models/m.py:3)
      hint: Write `import headwater` and `@headwater.expectation()`.
    ");
    // Other decorators and the project's own modules are ignored.
    let fixture = "import pytest\n\n@pytest.fixture\ndef model():\n    return 1\n";
    let own = "import kit\n\n@kit.model\ndef f():\n    return 1\n";
    let all =
        [("t.py", fixture), ("models/own.py", own), ("kit.py", "def model(f):\n    return f\n")];
    assert!(parse(&all).steps.is_empty());
}

#[test]
fn mistakes_are_rejected_with_their_line() {
    insta::assert_snapshot!(refused("def f(:\n"), @r"
    invalid_project: invalid Python: expected a parameter or the end of the parameter list (models/m.py:2)
      hint: Correct the syntax.
    ");
    insta::assert_snapshot!(refused("N = \"n\"\n@headwater.model(name=N)\ndef f(): pass\n"), @r"
    invalid_project: `name` of `model` is not a literal (models/m.py:3)
      hint: Write the value itself: files are read without being run.
    ");
    insta::assert_snapshot!(refused("@headwater.model(name=f\"a\")\ndef f(): pass\n"), @r"
    invalid_project: `name` of `model` is not a literal (models/m.py:2)
      hint: Write the value itself: files are read without being run.
    ");
    insta::assert_snapshot!(refused("@headwater.model(materialisation=\"x\")\ndef f(): pass\n"), @r"
    invalid_project: `model` has no argument `materialisation` (models/m.py:2)
      hint: Did you mean `materialization`?
    ");
    insta::assert_snapshot!(refused("@headwater.model(materialization=\"x\")\ndef f(): pass\n"), @r#"
    invalid_project: `materialization` of `model` does not accept the value `"x"` (models/m.py:2)
      hint: Write the value as `"none"`, `"replace"`, `"append"`, `"merge"` or `"overwrite_partitions"`.
    "#);
    insta::assert_snapshot!(refused("@headwater.modle()\ndef f(): pass\n"), @r"
    invalid_project: `headwater` has no `modle` that can be used here (models/m.py:2)
      hint: Did you mean `model`?
    ");
    insta::assert_snapshot!(refused("@headwater.model\ndef f(): pass\n"), @r"
    invalid_project: the decorator `model` has no parentheses (models/m.py:2)
      hint: Write `@headwater.model()`.
    ");
    insta::assert_snapshot!(refused("@headwater.expectation\ndef f(): pass\n"), @r"
    invalid_project: the decorator `expectation` has no parentheses (models/m.py:2)
      hint: Write `@headwater.expectation()`.
    ");
    insta::assert_snapshot!(refused("from headwater import function as fn\n@fn\ndef f(): pass\n"), @r"
    invalid_project: the decorator `function` has no parentheses (models/m.py:3)
      hint: Write `@fn()`.
    ");
    insta::assert_snapshot!(refused("@headwater.model(memory=\"big\")\ndef f(): pass\n"), @r#"
    invalid_project: `memory` of `model` does not accept the value `"big"` (models/m.py:2)
      hint: Write the value as `memory="512MiB"`.
    "#);
    insta::assert_snapshot!(refused("@headwater.model(**{})\ndef f(): pass\n"), @"
    invalid_project: `model` has no argument `**` (models/m.py:2)
      hint: The arguments are `name`, `materialization`, `keys`, `columns`, `partition_by`, `allow_takeover`, `reuse`, `network`, `memory`, `timeout`, `cpus`, `tmp`, `env`, `secrets`, `priority`, `overwrite_filter`, `tags`, `retries`, `backoff`, `outputs`, `expect`, `expect_or_warn`, `expect_or_quarantine`, `lineage`.
    ");
    insta::assert_snapshot!(refused("@headwater.model(\"a\", \"b\")\ndef f(): pass\n"), @"
    invalid_project: `model` has too many positional arguments (models/m.py:2)
      hint: Name the arguments: `name=…, materialization=…, keys=…, columns=…, partition_by=…, allow_takeover=…, reuse=…, network=…, memory=…, timeout=…, cpus=…, tmp=…, env=…, secrets=…, priority=…, overwrite_filter=…, tags=…, retries=…, backoff=…, outputs=…, expect=…, expect_or_warn=…, expect_or_quarantine=…, lineage=…`.
    ");
    insta::assert_snapshot!(refused("@headwater.model()\ndef f(a): pass\n"), @r#"
    invalid_project: the argument `a` of `f` has no input (models/m.py:3)
      hint: Write `a=headwater.Model("table")`.
    "#);
    insta::assert_snapshot!(refused("@headwater.model()\ndef f(*args): pass\n"), @r"
    invalid_project: `f` accepts arbitrary arguments with `*args` (models/m.py:3)
      hint: Name every input as an argument.
    ");
    insta::assert_snapshot!(refused("@headwater.model()\nasync def f(): pass\n"), @r"
    invalid_project: `f` is asynchronous, which is not supported (models/m.py:3)
      hint: Write `def` without `async`.
    ");
    insta::assert_snapshot!(refused("@headwater.model()\ndef f(a=headwater.Modle(\"t\")): pass\n"), @r"
    invalid_project: `headwater` has no `Modle` that can be used here (models/m.py:3)
      hint: Did you mean `Model`?
    ");
    insta::assert_snapshot!(refused("@headwater.model()\ndef f(a=headwater.Model): pass\n"), @r#"
    invalid_project: `Model` has no name (models/m.py:3)
      hint: Write `headwater.Model("name")`.
    "#);
    insta::assert_snapshot!(
        refused("@headwater.model()\ndef f(a=headwater.Model(\"t\", colums=[\"b\"])): pass\n"), @r"
    invalid_project: `Model` has no argument `colums` (models/m.py:3)
      hint: Did you mean `columns`?
    ");
    insta::assert_snapshot!(
        refused("@headwater.model()\ndef f(a=headwater.Model(\"t\", columns=[\"b\", \"b\"])): pass\n"), @r"
    invalid_project: `Model` lists the column `b` twice (models/m.py:3)
      hint: Name each column once.
    ");
    insta::assert_snapshot!(
        refused("@headwater.model()\ndef f(a=headwater.Model(\"t\", filter=\"a = 'x\")): pass\n"), @r"
    invalid_project: `filter` cannot be used: unterminated string literal (line 1, column 5) (models/m.py:3)
      hint: Write a condition in SQL, as after WHERE.
    ");
    insta::assert_snapshot!(refused("@headwater.model()\ndef f(a=headwater.Parameter(\"p\")): pass\n"), @r"
    invalid_project: `f` uses parameter `p`, which the project does not declare (models/m.py:3)
      hint: Declare the parameter as `[parameters.p]` in headwater.toml.
    ");
    insta::assert_snapshot!(refused("@headwater.python(\"3.11\", pip=[\"polars\"])\n@headwater.model()\ndef f(): pass\n"), @r#"
    invalid_project: `pip` of `python` does not accept the value `["polars"]` (models/m.py:2)
      hint: Write the value as `pip={"polars": "1.38.1"}`.
    "#);
    insta::assert_snapshot!(refused("@headwater.python(\"3.11\")\ndef f(): pass\n"), @"
    invalid_project: `f` declares packages, but is neither a model nor an expectation (models/m.py:3)
      hint: Add `@headwater.model()`, `@headwater.expectation()` or `@headwater.function()`.
    ");
    insta::assert_snapshot!(refused("@headwater.model()\n@headwater.expectation()\ndef f(): pass\n"), @"
    invalid_project: `f` is decorated twice (models/m.py:4)
      hint: Keep one of `@headwater.model`, `@headwater.expectation` and `@headwater.function`.
    ");
    insta::assert_snapshot!(refused("if True:\n    @headwater.model()\n    def f(): pass\n"), @r"
    invalid_project: `f` is decorated inside another statement (models/m.py:4)
      hint: Define models and expectations at the top level of their file.
    ");
    insta::assert_snapshot!(refused("class A:\n    @headwater.model()\n    def f(): pass\n"), @r"
    invalid_project: `f` is decorated inside another statement (models/m.py:4)
      hint: Define models and expectations at the top level of their file.
    ");
    insta::assert_snapshot!(refused("from headwater import *\n"), @r"
    invalid_project: `from headwater import *` is not supported (models/m.py:2)
      hint: Write `import headwater`.
    ");
}

/// Returns the models whose code differs between two versions of the files.
fn changed(before: &[(&str, &str)], after: &[(&str, &str)]) -> Vec<String> {
    let (before, after) = (parse(before), parse(after));
    let pairs = before.steps.iter().zip(&after.steps);
    let changed = pairs.filter(|(one, other)| function(one).code != function(other).code);
    changed.map(|(step, _)| step.name.clone()).collect()
}

const TWO: &str = "\
import headwater
from helpers import twice

def scale(x):
    import deep.inner
    return deep.inner.scale(x)

@headwater.model()
def first(a=headwater.Model(\"t\")):
    return a

@headwater.model()
def second(a=headwater.Model(\"first\")):
    return a
";

#[test]
fn a_step_changes_with_its_own_code_and_what_it_imports() {
    let files = |main: &'static str, helper: &'static str, inner: &'static str| {
        vec![
            ("models/m.py", main),
            ("models/helpers.py", helper),
            ("deep/__init__.py", ""),
            ("deep/inner.py", inner),
            ("unrelated.py", helper),
        ]
    };
    let before = files(TWO, "x = 1", "y = 1");
    let both = ["first", "second"];
    assert!(changed(&before, &before).is_empty());
    assert_eq!(changed(&before, &files(TWO, "x = 2", "y = 1")), both);
    assert_eq!(changed(&before, &files(TWO, "x = 1", "y = 2")), both);
    let after = Box::leak(TWO.replace("return a\n", "return a # new\n").into_boxed_str());
    assert_eq!(changed(&before, &files(after, "x = 1", "y = 1")), both);
    let second = TWO.replacen("first\")):\n    return a", "first\")):\n    return None", 1);
    let second = Box::leak(second.into_boxed_str());
    assert_eq!(changed(&before, &files(second, "x = 1", "y = 1")), ["second"]);
    let mut unrelated = before.clone();
    unrelated[4].1 = "x = 3";
    assert!(changed(&before, &unrelated).is_empty());
}

#[test]
fn a_step_that_calls_another_changes_with_it() {
    let before = "import headwater\n@headwater.model()\ndef a(): return 1\n\
                  @headwater.model()\ndef b(): return helper()\ndef helper(): return a()\n";
    let after = Box::leak(before.replace("return 1", "return 2").into_boxed_str());
    assert_eq!(changed(&[("m.py", before)], &[("m.py", after)]), ["a", "b"]);
}

#[test]
fn lineage_names_columns_of_inputs() {
    let model = |lineage: &str| {
        format!(
            "@headwater.model(columns=['total', 'n'], lineage={lineage})\n\
             def m(a=headwater.Model('orders', columns=['amount']), b=headwater.Model('raw.rates')):\n    \
             return a\n"
        )
    };
    let code =
        format!("import headwater\n{}", model("{'total': ['orders.amount', 'raw.rates.rate']}"));
    let project = parse(&[("models/m.py", &code)]);
    let lineage = &project.steps[0].lineage;
    let sources: Vec<_> =
        lineage["total"].iter().map(|one| (one.input, one.column.as_str())).collect();
    assert_eq!((sources, lineage.len()), (vec![(0, "amount"), (1, "rate")], 1));
    for (lineage, expected) in [
        (
            "{'totl': ['orders.amount']}",
            "`lineage` names `totl`, which is not in `columns` (models/m.py:2)\n  \
             hint: Did you mean `total`?",
        ),
        (
            "{'total': ['order.amount']}",
            "`order.amount` in `lineage` names `order`, which is not an input (models/m.py:2)\n  \
             hint: Did you mean `orders`?",
        ),
        (
            "{'total': ['orders.amuont']}",
            "`orders.amuont` in `lineage` is not in `columns` of the input (models/m.py:2)\n  \
             hint: Did you mean `amount`?",
        ),
        ("{'total': ['amount']}", "`amount` in `lineage` has no table name (models/m.py:2)"),
        ("['total']", "`lineage` of `model` does not accept the value `['total']`"),
    ] {
        let refused = refused(&model(lineage));
        assert!(refused.contains(expected), "{refused}\nlacks {expected}");
    }
}
