//! Decorators of models and expectations: every argument, in every form.

use headwater_project::{Materialization, PythonFunction, Step, StepCode, StepKind};
use headwater_sandbox::NetworkAccess;

use super::{check_refused, parse, step};
use crate::support::{bauplan_files, refusal};

fn function(step: &Step) -> &PythonFunction {
    match &step.body {
        StepCode::Python(function) => function,
        StepCode::Sql(_) => panic!("`{}` is SQL", step.name),
    }
}

/// Returns the model with these arguments of the decorator.
fn model(arguments: &str) -> Step {
    step(&format!(
        "import bauplan\n@bauplan.model({arguments})\ndef m(t=bauplan.Model('t')):\n    return t\n"
    ))
}

#[test]
fn the_package_is_found_under_every_name() {
    for (import, prefix) in [
        ("import bauplan", "bauplan."),
        ("import bauplan as b", "b."),
        ("import bauplan.standard_expectations\nimport bauplan", "bauplan."),
        ("from bauplan import model, Model, python", ""),
        ("try:\n    import bauplan\nexcept ImportError:\n    raise", "bauplan."),
    ] {
        let code = format!(
            "{import}\n@{prefix}python('3.11')\n@{prefix}model()\ndef m(t={prefix}Model('t')):\n    return t\n"
        );
        let found = step(&code);
        assert_eq!((found.name.as_str(), found.kind), ("bauplan.m", StepKind::Python), "{import}");
        assert_eq!(function(&found).python.as_deref(), Some("3.11"), "{import}");
    }
}

#[test]
fn models_have_the_defaults_of_bauplan() {
    let found = model("");
    assert_eq!(found.table.to_string(), "bauplan.m");
    assert_eq!(found.materialization, Materialization::None);
    assert!(found.allow_takeover && !found.always_runs && found.columns.is_none());
    assert!(found.partition_by.is_empty() && function(&found).network.denies_all());
    assert_eq!(found.at.to_string(), "models.py:3");
}

#[test]
fn every_argument_of_a_model_is_read() {
    assert_eq!(model("'other'").table.to_string(), "bauplan.other");
    assert_eq!(model("name='rides.other'").table.to_string(), "rides.other");
    assert_eq!(model("columns=['a', 'b']").columns.unwrap(), ["a", "b"]);
    assert_eq!(model("columns=['*']").columns, None);
    assert_eq!(model("columns=None").columns, None);
    assert!(matches!(function(&model("internet_access=True")).network, NetworkAccess::On));
    assert!(function(&model("internet_access=False")).network.denies_all());
    assert!(model("cache_strategy='NONE'").always_runs);
    assert!(!model("cache_strategy='DEFAULT'").always_runs);
}

#[test]
fn every_materialization_is_read() {
    for (arguments, expected) in [
        ("materialization_strategy=None", Materialization::None),
        ("materialization_strategy='NONE'", Materialization::None),
        ("materialization_strategy='REPLACE'", Materialization::Replace),
        ("materialization_strategy='APPEND'", Materialization::Append),
        ("materialize=True", Materialization::Replace),
        ("materialize=False", Materialization::None),
        (
            "materialization_strategy='OVERWRITE_PARTITIONS', partitioned_by='a'",
            Materialization::OverwritePartitions,
        ),
    ] {
        assert_eq!(model(arguments).materialization, expected, "{arguments}");
    }
}

#[test]
fn partitions_are_read_in_every_form() {
    for (written, expected) in [
        ("'a'", "a"),
        ("'a, b'", "a|b"),
        ("['a', 'day(c)']", "a|day(c)"),
        ("('YEAR(c)', 'b')", "year(c)|b"),
        ("'month(c), hour(d)'", "month(c)|hour(d)"),
        ("'Hour( c )'", "hour(c)"),
    ] {
        let found = model(&format!("partitioned_by={written}")).partition_by;
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.join("|"), expected, "{written}");
    }
}

#[test]
fn packages_and_limits_are_read() {
    let found = step(
        "import bauplan\n\
         @bauplan.resources(cpus=2, memory='1GiB', memory_swap='1GiB', timeout=30)\n\
         @bauplan.model()\n\
         @bauplan.python(version='3.12', pip={'polars': '1.38.1', 'scikit-learn': '1.7', 'bauplan': '0.1'})\n\
         def m(t=bauplan.Model('t')):\n    return t\n",
    );
    let body = function(&found);
    assert_eq!((body.python.as_deref(), body.cpu_millis), (Some("3.12"), Some(2_000)));
    let packages: Vec<_> = body.packages.as_ref().unwrap().iter().collect();
    let names: Vec<_> =
        packages.iter().map(|(name, version)| format!("{name} {version}")).collect();
    assert_eq!(names, ["polars 1.38.1", "scikit-learn 1.7"]);
    assert_eq!(found.memory_bytes, Some(1 << 30));
    assert_eq!(found.timeout.map(|timeout| timeout.as_secs()), Some(30));
    let bare = step(
        "import bauplan\n@bauplan.python()\n@bauplan.model()\ndef m(t=bauplan.Model('t')):\n    return t\n",
    );
    assert_eq!((&function(&bare).python, &function(&bare).packages), (&None, &None));
}

#[test]
fn bauplan_models_can_be_combined_with_headwater_expectations() {
    let project = parse(
        "import bauplan\nimport headwater\n\n\
         @bauplan.model(materialization_strategy='REPLACE')\ndef a(t=bauplan.Model('t')):\n    return t\n\n\
         @bauplan.expectation()\n@bauplan.python('3.11')\ndef unique(a=bauplan.Model('a'), b=bauplan.Model('b')):\n    return True\n\n\
         @headwater.model()\ndef b(a=headwater.Model('a')):\n    return a\n\n\
         def helper(t):\n    return t\n",
    );
    let found: Vec<_> = project.steps.iter().map(|step| (step.name.as_str(), step.kind)).collect();
    let expected = [
        ("bauplan.a", StepKind::Python),
        ("bauplan.unique", StepKind::Expectation),
        ("bauplan.b", StepKind::Python),
    ];
    assert_eq!(found, expected);
}

/// Checks that functions with these decorators are rejected.
fn check_decorators(cases: &[(&str, &str)]) {
    for (decorators, expected) in cases {
        let code = format!("{decorators}\ndef m(t=bauplan.Model('t')):\n    return t\n");
        check_refused(&[(&code, expected)]);
    }
}

#[test]
fn wrong_arguments_of_a_model_are_refused_by_name() {
    check_decorators(&[
        (
            "@bauplan.model(materialisation='x')",
            "`model` has no argument `materialisation` (models.py:2)",
        ),
        (
            "@bauplan.model(materialization_strategy='MERGE')",
            "`MERGE` is not a materialization strategy (models.py:2)\n  hint: The strategies are `NONE`, `REPLACE`, `APPEND`, `OVERWRITE_PARTITIONS`.",
        ),
        ("@bauplan.model(materialization_strategy='REPLCE')", "hint: Did you mean `REPLACE`?"),
        (
            "@bauplan.model(materialization_strategy=STRATEGY)",
            "`materialization_strategy` of `model` is not a literal",
        ),
        (
            "@bauplan.model(partitioned_by='week(a)')",
            "`partitioned_by` of `model` does not accept the value `'week(a)'`",
        ),
        (
            "@bauplan.model(cache_strategy='SOME')",
            "`cache_strategy` of `model` does not accept the value `'SOME'`",
        ),
        (
            "@bauplan.model(internet_access='yes')",
            "`internet_access` of `model` does not accept the value `'yes'`",
        ),
        (
            "@bauplan.model(name='a..b')",
            "`a.` is not a usable namespace name: the namespace has an empty level (models.py:2)",
        ),
        (
            "@bauplan.model(materialization_strategy='OVERWRITE_PARTITIONS')",
            "`bauplan.m` overwrites partitions, but is not partitioned",
        ),
        (
            "@bauplan.model(materialization_strategy='APPEND', overwrite_filter='a = 1')",
            "`bauplan.m` has `overwrite_filter`, but does not overwrite partitions",
        ),
        (
            "@bauplan.model(materialization_strategy='OVERWRITE_PARTITIONS', partitioned_by='a', overwrite_filter='a = ')",
            "`overwrite_filter` cannot be used",
        ),
        (
            "@bauplan.model(materialization_strategy='OVERWRITE_PARTITIONS', partitioned_by='a', overwrite_filter='a = $other')",
            "uses parameter `other`, which the project does not declare",
        ),
    ]);
}

#[test]
fn wrong_decorators_are_refused_by_name() {
    check_decorators(&[
        (
            "@bauplan.model",
            "the decorator `model` has no parentheses (models.py:2)\n  hint: Write `@bauplan.model()`.",
        ),
        ("@bauplan.model()\n@bauplan.expectation()", "`m` is decorated twice"),
        ("@bauplan.model()\n@bauplan.python()\n@bauplan.python()", "`m` is decorated twice"),
        (
            "@bauplan.python('3.11')",
            "`m` declares packages, but is neither a model nor an expectation (models.py:3)",
        ),
        (
            "@bauplan.model()\n@bauplan.python(pip=['polars'])",
            "`pip` of `python` does not accept the value `['polars']`",
        ),
        (
            "@bauplan.model()\n@bauplan.extras('ai')",
            "`@bauplan.extras` is not supported; Bauplan removed it (models.py:3)\n  hint: Name the packages in `@bauplan.python(pip={...})`.",
        ),
        (
            "@bauplan.pyspark()\n@bauplan.model()",
            "`@bauplan.pyspark` is not supported; Bauplan removed it (models.py:2)",
        ),
        (
            "@bauplan.modl()",
            "`bauplan` has no decorator `modl` (models.py:2)\n  hint: Did you mean `model`?",
        ),
        (
            "@bauplan.model()\n@bauplan.resources(memory='much')",
            "`memory` of `resources` does not accept the value `'much'`",
        ),
        (
            "import headwater\n@bauplan.model()\n@headwater.python()",
            "`m` has decorators of both `headwater` and `bauplan`",
        ),
    ]);
}

#[test]
fn misplaced_decorators_and_imports_are_refused_by_name() {
    let helper = [("kept.py", "from bauplan.store import load_obj\n")];
    assert!(
        refusal(&bauplan_files("", &helper))
            .contains("`bauplan.store` is not supported (kept.py:1)")
    );
    check_refused(&[
        (
            "class C:\n    @bauplan.model()\n    def m(self):\n        pass\n",
            "`m` is decorated inside another statement (models.py:4)",
        ),
        (
            "@bauplan.model()\nasync def m(t=bauplan.Model('t')):\n    return t\n",
            "`m` is asynchronous, which is not supported",
        ),
        ("from bauplan import *\n", "`from bauplan import *` is not supported (models.py:2)"),
        (
            "from bauplan.store import load_obj\n",
            "`bauplan.store` is not supported (models.py:2)\n  hint: Return the object as a table",
        ),
        (
            "def f():\n    bauplan.store.save_obj('k', 1)\n",
            "`bauplan.store` is not supported (models.py:3)",
        ),
        ("from bauplan import store\n", "`bauplan.store` is not supported"),
    ]);
}
