//! Runs of Python: the functions' inputs, outputs and failures.

use std::time::Duration;

use headwater_model::{ErrorCode, JobEventKind, Priority, StepStatus};

use crate::support::{Ran, World, files, functions_options};

const MANIFEST: &str = "[defaults]\npython = \"3.11\"\n\
    [parameters]\nleast = { type = \"int\", default = 2 }\n";

async fn world() -> World {
    let world = World::new().await;
    let rows =
        "CREATE TABLE t AS SELECT * FROM (VALUES (1, 'a'), (2, 'b'), (3, 'c')) AS v(id, name)";
    world.sql("main", &[rows]).await;
    world
}

fn refused(ran: &Ran) -> String {
    ran.refusal().replace(&ran.id.to_string(), "ID")
}

const MODELS: &str = r#"
import headwater
from helpers import double


@headwater.model(materialization="replace", columns=["id", "twice"])
def doubled(
    t=headwater.Model("T", columns=["id"], filter="id >= $least"),
    least=headwater.Parameter("least"),
):
    print("columns", t.column_names, "at least", least)
    return [{"id": row["id"], "twice": double(row["id"])} for row in t.to_pylist()]


@headwater.model()
def handed_on(doubled=headwater.Model("doubled"), t=headwater.Model("t")):
    assert t.num_rows == 3
    return doubled


@headwater.expectation()
def twice_is_twice(handed_on=headwater.Model("handed_on", columns=["twice", "id"])):
    assert handed_on.column_names == ["twice", "id"]
    return all(row["twice"] == 2 * row["id"] for row in handed_on.to_pylist())
"#;

const SUM: &str =
    "-- headwater: materialization = replace\nSELECT sum(twice) AS sum FROM handed_on";

#[tokio::test]
async fn a_model_runs_again_after_its_packages_changed() {
    let world = World::new().await;
    world.sql("main", &["CREATE TABLE t AS SELECT 1 AS id"]).await;
    let model = "import headwater\n\n\n@headwater.model(materialization='replace')\n\
                 def copied(t=headwater.Model('t')):\n    return t\n";
    let project = files("[defaults]\npython = '3.11'\n", &[("copied.py", model)]);
    world.run(&project).await.report();
    assert_eq!(world.plan(&project).await, "copied: unchanged");

    // Replace the recorded packages, as if an older pyarrow had been installed in the first run.
    let name = "public.copied".parse().unwrap();
    let mut transaction = world.lake.transaction("main", "tester").await.unwrap();
    let table = transaction.table(&name).await.unwrap();
    let snapshot = table.metadata().current_snapshot().unwrap().clone();
    let properties = snapshot.summary().additional_properties.clone();
    let packages = &properties["headwater.environment.packages"];
    assert!(packages.contains("pyarrow"), "{packages}");
    for (key, value) in properties.iter().filter(|(key, _)| key.starts_with("headwater.")) {
        transaction.snapshot_property(key, value);
    }
    let older = serde_json::json!({"copied": {"pyarrow": "1.0.0"}}).to_string();
    transaction.snapshot_property("headwater.environment.packages", older);
    let none = arrow::array::RecordBatch::new_empty(table.schema());
    transaction.append(&name, Box::pin(futures::stream::iter([Ok(none)]))).await.unwrap();
    transaction.commit("an older environment").await.unwrap();
    assert_eq!(world.plan(&project).await, "copied: changed environment");
    let ran = world.run(&project).await;
    assert_eq!(ran.steps(), "copied succeeded");
    let reasons = &ran.step("copied").reasons;
    let changed = "package `pyarrow` changed: 1.0.0 -> ";
    assert!(reasons.iter().any(|reason| reason.starts_with(changed)), "{reasons:?}");
    assert_eq!(world.plan(&project).await, "copied: unchanged");
}

#[tokio::test]
async fn functions_and_queries_read_each_other() {
    let world = world().await;
    let helpers = ("models/helpers.py", "def double(x):\n    return 2 * x\n");
    let project = files(MANIFEST, &[("models/m.py", MODELS), helpers, ("models/sum.sql", SUM)]);
    let ran = world.run(&project).await;
    assert_eq!(ran.report().tables, ["doubled", "sum"]);
    assert_eq!(
        ran.steps(),
        "doubled succeeded, handed_on succeeded, sum succeeded, twice_is_twice succeeded"
    );
    assert_eq!(ran.printed(), ["doubled models/m.py:11 columns ['id'] at least 2"]);
    let shown = world.sql("main", &["SELECT sum FROM sum"]).await;
    assert!(shown.contains("| 10 "), "{shown}");
    let python = ran.report().steps.iter().find(|step| step.step == "doubled").unwrap();
    assert!(python.usage.cpu_us > 0 && python.usage.memory_bytes_peak > 0 && python.cost > 0.0);
    assert_eq!(python.rows, Some(2));

    assert!(world.run(&project).await.all(StepStatus::Unchanged));
    let mut other = project.clone();
    let slower = "def double(x):\n    return x + x\n";
    other.insert("models/helpers.py".to_owned(), slower.into());
    let reasons = world.plan(&other).await;
    assert!(reasons.starts_with("doubled: changed code"), "{reasons}");
    let stricter = world
        .run_with(&project, |request| {
            request.parameters.insert("least".to_owned(), "3".to_owned());
        })
        .await;
    assert!(stricter.all(StepStatus::Succeeded));
    let shown = world.sql("main", &["SELECT sum FROM sum"]).await;
    assert!(shown.contains("| 6 "), "{shown}");
}

fn model(body: &str) -> String {
    format!(
        "import headwater\n\n@headwater.model()\ndef m(t=headwater.Model(\"t\")):\n    {body}\n"
    )
}

#[tokio::test]
async fn an_exception_is_reported_with_the_functions_own_lines() {
    let world = world().await;
    let code = model("import helpers\n    return helpers.fail(t)");
    let helper = ("models/helpers.py", "def fail(t):\n    raise ValueError('no luck')\n");
    let ran = world.run(&files(MANIFEST, &[("models/m.py", &code), helper])).await;
    insta::assert_snapshot!(refused(&ran), @r"
    function_failed: `m` failed (models/helpers.py:2); `main` is unchanged
      caused by: ValueError: no luck (models/helpers.py:2)
      caused by: models/m.py:6 in m: return helpers.fail(t)
      caused by: models/helpers.py:2 in fail: raise ValueError('no luck')
    ");
    assert_eq!(ran.outcome.unwrap_err().code, ErrorCode::FunctionFailed);
}

#[tokio::test]
async fn a_return_value_that_is_not_a_table_is_rejected() {
    let world = world().await;
    let ran = world.run(&files(MANIFEST, &[("models/m.py", &model("return 7"))])).await;
    insta::assert_snapshot!(refused(&ran), @r"
    function_failed: `m` failed (models/m.py:4); `main` is unchanged
      caused by: `m` returned `int`, which is not a table: a `pyarrow.Table`, a pandas or polars data frame, or a list of dicts
      hint: Return a table: a `pyarrow.Table`, a pandas or polars data frame, or a list of dicts.
    ");
    let declared = model("return t").replace("model()", "model(columns=[\"id\", \"nam\"])");
    let ran = world.run(&files(MANIFEST, &[("models/m.py", &declared)])).await;
    insta::assert_snapshot!(refused(&ran), @r"
    function_failed: the columns that model `m` returned differ from its declaration: `nam` is missing, `name` is not declared (models/m.py:4); `main` is unchanged
      hint: Change the declared columns or the result.
    ");
}

#[tokio::test]
async fn a_function_that_never_ends_is_ended() {
    let world = world().await;
    let endless = model("while True: pass").replace("model()", "model(timeout=\"10s\")");
    let began = std::time::Instant::now();
    let ran = world.run(&files(MANIFEST, &[("models/m.py", &endless)])).await;
    assert!(began.elapsed() < Duration::from_secs(120));
    insta::assert_snapshot!(refused(&ran), @r"
    time_limit: `m` failed (models/m.py:4); `main` is unchanged
      caused by: `m` ran longer than its limit of 10 s, and was at models/m.py:5
      caused by: models/m.py:5 in m: while True: pass
      hint: Raise `timeout` in the function's decorator or in `[defaults]` of headwater.toml.
    ");
}

#[tokio::test]
async fn a_failed_step_stops_the_running_steps() {
    let world = world().await;
    let endless = model("while True: pass").replace("def m(", "def endless(");
    let failing = model("raise KeyError('x')");
    let project = files(MANIFEST, &[("endless.py", &endless), ("m.py", &failing)]);
    let began = std::time::Instant::now();
    let ran = world.run(&project).await;
    assert!(began.elapsed() < Duration::from_secs(120));
    assert_eq!(ran.steps(), "endless skipped, m failed");
}

#[tokio::test]
async fn packages_that_do_not_exist_are_named() {
    let world = world().await;
    let code = model("return t").replace(
        "@headwater.model()",
        "@headwater.python(pip={\"pyarrow\": \"999.0\"})\n@headwater.model()",
    );
    let ran = world.run(&files(MANIFEST, &[("models/m.py", &code)])).await;
    let problem = ran.outcome.as_ref().unwrap_err();
    assert_eq!(problem.code, ErrorCode::EnvironmentFailed);
    assert!(refused(&ran).contains("999.0"), "{}", refused(&ran));
}

const CHECKS: &str = r#"
import headwater


@headwater.model(materialization="replace")
def kept(t=headwater.Model("t")):
    return t


@headwater.expectation()
def says_no(kept=headwater.Model("kept")):
    return kept.num_rows > 3


@headwater.expectation()
def asserts(kept=headwater.Model("kept")):
    assert kept.num_rows > 4, "too few"
    return True


@headwater.expectation()
def passes(kept=headwater.Model("kept")):
    return kept.num_rows == 3
"#;

#[tokio::test]
async fn expectations_keep_a_run_from_merging_or_warn() {
    let world = world().await;
    let project = files(MANIFEST, &[("checks.py", CHECKS)]);
    let strict = world.run(&project).await;
    assert_eq!(strict.steps(), "asserts failed, kept succeeded, passes succeeded, says_no failed");
    let problem = strict.outcome.as_ref().unwrap_err();
    assert_eq!(problem.code, ErrorCode::ExpectationFailed);
    let text = refused(&strict);
    for part in ["expectation `says_no` returned false (checks.py:11)", "AssertionError: too few"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(world.sql("main", &["SELECT * FROM kept"]).await.contains("`kept`"), "not merged");

    let lenient = world.run_with(&project, |request| request.strict = Some(false)).await;
    assert_eq!(lenient.steps(), "asserts warned, kept succeeded, passes succeeded, says_no warned");
    let warned: Vec<&str> = lenient
        .report()
        .steps
        .iter()
        .filter_map(|step| step.error.as_ref().map(|error| error.message.as_str()))
        .collect();
    assert_eq!(warned.len(), 2);
    // The next run skips a check that passed, and repeats a check that warned.
    let again = world.run_with(&project, |request| request.strict = Some(false)).await;
    assert_eq!(again.steps(), "asserts warned, kept unchanged, passes unchanged, says_no warned");
}

#[tokio::test]
async fn a_stopped_function_ends_and_the_target_is_unchanged() {
    let world = world().await;
    let endless = model("while True: pass");
    let ran = world.run_and_stop(&files(MANIFEST, &[("m.py", &endless)])).await;
    insta::assert_snapshot!(refused(&ran), @"cancelled: the run was stopped; `main` is unchanged");
    assert_eq!(world.branches().await, []);
}

#[tokio::test]
async fn a_child_reads_the_same_types_from_a_run_and_a_stored_parent() {
    let world = world().await;
    let code = |more: &str| {
        format!(
            "import headwater\nimport pyarrow as pa\n\n\
             @headwater.model(materialization=\"replace\")\n\
             def stamps():\n    \
                 return pa.table({{'at': pa.array([1], pa.timestamp('ns')), 'big': pa.array(['x'], pa.large_string())}})\n\n\
             @headwater.model(materialization=\"replace\")\n\
             def child(stamps=headwater.Model(\"stamps\")):\n    \
                 return [{{'type': str(stamps.schema.field('at').type){more}}}]\n"
        )
    };
    world.run(&files(MANIFEST, &[("m.py", &code(""))])).await.report();
    let first = world.sql("main", &["SELECT type FROM child"]).await;
    let ran = world.run(&files(MANIFEST, &[("m.py", &code(", 'more': 1"))])).await;
    assert_eq!(ran.steps(), "child succeeded, stamps unchanged");
    assert_eq!(world.sql("main", &["SELECT type FROM child"]).await, first);
}

const SHARING: &str = r#"
import headwater

seen = []


def see(name):
    seen.append(name)
    return [{"seen": ",".join(seen)}]


@headwater.model(materialization="replace", reuse=True)
def first():
    return see("first")


@headwater.model(materialization="replace", reuse=True)
def second(first=headwater.Model("first")):
    return see("second")


@headwater.model(materialization="replace")
def apart(second=headwater.Model("second")):
    return see("apart")


@headwater.expectation(reuse=True)
def both_were_seen(second=headwater.Model("second")):
    return seen == ["first", "second"]
"#;

#[tokio::test]
async fn models_of_a_run_that_reuse_a_process_keep_its_globals() {
    let world = world().await;
    let project = files(MANIFEST, &[("models/m.py", SHARING)]);
    let again = files(MANIFEST, &[("models/m.py", &format!("# Edited.\n{SHARING}"))]);
    for project in [project, again] {
        world.run(&project).await.report();
        for (model, seen) in [("first", "first"), ("second", "first,second"), ("apart", "apart")] {
            let rows =
                world.sql("main", &[&format!("SELECT seen = '{seen}' AS ok FROM {model}")]).await;
            assert!(rows.contains("true"), "{model}: {rows}");
        }
    }
}

/// Plans and runs remember the environments that earlier runs used.
#[tokio::test]
async fn an_environment_that_was_removed_is_built_again() {
    let world = world().await;
    let requirement = "six==1.11.0";
    let code = "import headwater\n\n@headwater.model()\n\
                @headwater.python(\"3.11\", pip={\"six\": \"1.11.0\"})\n\
                def m(t=headwater.Model(\"t\")):\n    import six\n    return t\n";
    let project = files(MANIFEST, &[("models/m.py", code)]);
    let runs = async || {
        let ran = world.run_with(&project, |request| request.no_cache = true).await;
        assert!(ran.all(StepStatus::Succeeded), "{}", ran.steps());
    };
    runs().await;
    runs().await;
    let environments = functions_options().environments_dir;
    let is_of_this = |path: &std::path::Path| {
        let described = std::fs::read_to_string(path.join("headwater-environment.json"));
        path.is_symlink() && described.is_ok_and(|text| text.contains(requirement))
    };
    let all = std::fs::read_dir(&environments).unwrap().map(|entry| entry.unwrap().path());
    let links: Vec<_> = all.filter(|path| is_of_this(path)).collect();
    assert_eq!(links.len(), 1);
    std::fs::remove_file(&links[0]).unwrap();
    runs().await;
    assert!(links[0].is_symlink(), "the environment was not built again");
}

/// A Python file with models. The process of the first model uses CPU time after sending its
/// result.
const SLOW_EXIT: &str = r#"
import os
import time

import headwater

exit = os._exit


def leave(status):
    until = time.process_time() + 0.5
    while time.process_time() < until:
        pass
    exit(status)


@headwater.model()
def first(t=headwater.Model("t")):
    os._exit = leave
    return t


@headwater.model(materialization="replace")
def second(first=headwater.Model("first")):
    BODY
"#;

#[tokio::test]
async fn a_child_starts_while_the_process_of_its_parent_exits() {
    let world = world().await;
    let code = SLOW_EXIT.replace("BODY", "return first");
    let ran = world.run(&files(MANIFEST, &[("models/m.py", &code)])).await;
    assert_eq!(ran.steps(), "first succeeded, second succeeded");
    let position = |is_wanted: &dyn Fn(&JobEventKind) -> bool| {
        ran.events.iter().position(is_wanted).expect("the event")
    };
    let starts =
        position(&|event| matches!(event, JobEventKind::StepStarted { step } if step == "second"));
    let ends = |name: &str| {
        position(
            &|event| matches!(event, JobEventKind::StepEnded { report } if report.step == name),
        )
    };
    assert!(starts < ends("first"), "{:?}", ran.events);
    assert!(ends("first") < ends("second"), "reports follow those of their parents");
    let report = ran.report();
    let usage = |name: &str| ran.step(name).usage;
    assert!(usage("first").cpu_us >= 400_000, "{:?}", usage("first"));
    assert_eq!((usage("first").calls, usage("second").calls), (1, 1));
    assert!(report.usage.cpu_us >= usage("first").cpu_us + usage("second").cpu_us);
    assert!(world.sql("main", &["SELECT count(*) AS n FROM second"]).await.contains("| 3 "));
}

#[tokio::test]
async fn a_child_that_fails_while_its_parent_exits_stops_the_run() {
    let world = world().await;
    let code = SLOW_EXIT.replace("BODY", "raise ValueError('no')");
    let third = "-- headwater: materialization = replace\nSELECT * FROM second";
    let project = files(MANIFEST, &[("models/m.py", &code), ("models/third.sql", third)]);
    let ran = world.run(&project).await;
    assert_eq!(ran.steps(), "first succeeded, second failed, third skipped");
    assert_eq!(ran.step("first").usage.calls, 1, "its process was ended, and its usage is known");
    assert!(world.sql("main", &["SELECT * FROM third"]).await.contains("third"));
}

/// Polls until a function is called, and returns the priority of the call.
async fn priority_of_the_first_call(world: &World) -> Priority {
    let first = async {
        loop {
            if let Some(call) = world.functions.calls().first() {
                return call.priority;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), first).await.expect("a call")
}

#[tokio::test]
async fn the_priority_of_a_run_replaces_that_of_its_models() {
    let world = world().await;
    let slow = "import time\n\nimport headwater\n\n\n\
                @headwater.model(materialization=\"replace\", priority=\"high\")\n\
                def slow():\n    time.sleep(1)\n    return [{\"n\": 1}]\n";
    let project = files("[defaults]\npython = \"3.11\"\n", &[("slow.py", slow)]);
    for (asked, expected) in [(None, Priority::High), (Some(Priority::Low), Priority::Low)] {
        let running = world.run_with(&project, |request| {
            (request.priority, request.no_cache) = (asked, true);
        });
        let (ran, found) = tokio::join!(running, priority_of_the_first_call(&world));
        ran.report();
        assert_eq!(found, expected);
    }
}
