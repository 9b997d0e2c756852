//! Failing steps: the error has the code of a plain query, usage is recorded, and a branch without
//! changes is deleted.

use std::time::Duration;

use headwater_jobs::JobFilter;
use headwater_model::{ErrorCode, JobStatus, StepStatus, Usage};

use crate::support::{Ran, World, files};

const KEPT: &str = "-- headwater: materialization = replace\n";

async fn world() -> World {
    let world = World::new().await;
    let rows = "CREATE TABLE t AS SELECT value AS id, 'x' || value AS name \
                FROM generate_series(1, 200000) AS s(value)";
    world.sql("main", &[rows]).await;
    world
}

fn refused(ran: &Ran) -> String {
    ran.refusal().replace(&ran.id.to_string(), "ID")
}

#[tokio::test]
async fn an_error_about_the_value_of_a_parameter_names_the_parameter() {
    let world = world().await;
    let model = format!("{KEPT}SELECT id FROM t WHERE DATE '2026-01-01' = $day");
    let project = files("[parameters.day]\ndefault = \"2026-01-01\"\n", &[("m.sql", &model)]);
    let ran = world
        .run_with(&project, |request| {
            request.parameters.insert("day".to_owned(), "garbage".to_owned());
        })
        .await;
    let text = refused(&ran);
    assert!(text.contains("the parameter `day` has the value `garbage`: cannot cast"), "{text}");
    assert!(text.ends_with("hint: Correct the value of `day`."), "{text}");
}

#[tokio::test]
async fn a_failed_query_has_the_same_code_in_a_run_and_outside() {
    let world = world().await;
    let plain = world.sql("main", &["SELECT CAST(name AS INT) AS n FROM t"]).await;
    for head in [
        "",
        "-- headwater: materialization = replace\n",
        "-- headwater: materialization = append\n",
        "-- headwater: materialization = replace\n-- headwater: partition_by = n\n",
    ] {
        let bad = format!("{head}SELECT CAST(name AS INT) AS n FROM t");
        let ran = world.run(&files("", &[("models/bad.sql", &bad)])).await;
        let problem = ran.outcome.as_ref().unwrap_err();
        assert_eq!(problem.code, ErrorCode::BadRow, "{head}: {}", refused(&ran));
        assert_eq!(problem.message, "`bad` failed (models/bad.sql:1); `main` is unchanged");
        let words = |text: &str| text.split('\'').next().map(str::to_owned);
        assert_eq!(words(&problem.causes[0]), words(&plain), "{head}");
        assert_eq!(problem.context["failures"][0]["context"]["file"], "models/bad.sql");
        assert_eq!(ran.step("bad").error.as_ref().unwrap().context["step"], "bad");
    }
}

#[tokio::test]
async fn a_python_input_that_fails_has_the_code_of_its_query() {
    let world = world().await;
    let code = "import headwater\n\n@headwater.model()\ndef m(\n    \
                t=headwater.Model(\"t\", filter=\"10 / (id - 7) > 1\"),\n):\n    return t\n";
    let ran = world.run(&files("", &[("m.py", code)])).await;
    insta::assert_snapshot!(refused(&ran), @r"
    bad_row: `m` failed (m.py:5); `main` is unchanged
      caused by: division by zero
    ");
}

fn is_metered(usage: &Usage) -> bool {
    usage.cpu_us > 1_000 && usage.wall_ms > 1
}

#[tokio::test]
async fn the_usage_of_a_failed_query_is_metered() {
    let world = world().await;
    let bad = format!("{KEPT}SELECT max(10 / (id - 7)) AS n FROM t");
    let ran = world.run(&files("", &[("bad.sql", &bad)])).await;
    let step = ran.step("bad");
    assert!(is_metered(&step.usage) && step.usage.bytes_read > 0, "{step:?}");
    assert!(step.cost > 0.0 && step.status == StepStatus::Failed);
    let job = world.jobs.job(ran.id).await.unwrap();
    assert_eq!((job.status, job.usage.cpu_us), (JobStatus::Failed, step.usage.cpu_us));

    let endless = "-- headwater: timeout = 300ms\nSELECT count(*) AS n FROM \
                   generate_series(1, 3000000) AS a(x), generate_series(1, 3000000) AS b(y) \
                   WHERE (x * y) % 7 = 3";
    let ran = world.run(&files("", &[("endless.sql", endless)])).await;
    assert_eq!(ran.outcome.as_ref().unwrap_err().code, ErrorCode::TimeLimit);
    assert!(ran.step("endless").usage.wall_ms >= 300, "{:?}", ran.step("endless"));
}

fn python(name: &str, settings: &str, body: &str) -> String {
    format!(
        "import headwater\n\n@headwater.model({settings})\n@headwater.python(\"3.11\")\n\
         def {name}(t=headwater.Model(\"t\")):\n    sum(range(2_000_000))\n    {body}\n"
    )
}

#[tokio::test]
async fn the_usage_of_a_failed_function_is_metered() {
    let world = world().await;
    let endless = "while True: pass";
    for (settings, body, code) in [
        ("", "raise ValueError()", ErrorCode::FunctionFailed),
        ("", "return 7", ErrorCode::FunctionFailed),
        ("columns=[\"x\"]", "return t", ErrorCode::FunctionFailed),
        ("timeout=\"2s\"", endless, ErrorCode::TimeLimit),
        (
            "memory=\"256MiB\"",
            "return [bytearray(1 << 24) for _ in range(99)]",
            ErrorCode::MemoryLimit,
        ),
    ] {
        let ran = world.run(&files("", &[("m.py", &python("m", settings, body))])).await;
        assert_eq!(ran.outcome.as_ref().unwrap_err().code, code, "{body}: {}", refused(&ran));
        let step = ran.step("m");
        assert!(is_metered(&step.usage) && step.cost > 0.0, "{body}: {step:?}");
        assert!(step.usage.memory_bytes_peak > 1 << 20, "{body}: {step:?}");
        assert_eq!(step.usage.rows_read, 200_000, "{body}: {step:?}");
        let job = world.jobs.job(ran.id).await.unwrap();
        assert_eq!(job.usage.cpu_us, step.usage.cpu_us, "{body}");
        assert!(job.cost > 0.0, "{body}");
        assert_eq!(job.usage.calls, 1 + step.usage.retries, "{body}: {step:?}");
        assert_eq!(job.usage.waited_ms(), step.usage.waited_ms(), "{body}");
    }
    let endless = python("m", "", "print(1)\n    while True: pass");
    let ran = world.run_and_stop_when_printed(&files("", &[("m.py", &endless)])).await;
    let step = ran.step("m");
    assert_eq!(step.status, StepStatus::Skipped);
    assert!(is_metered(&step.usage) && step.cost > 0.0, "{step:?}");
}

#[tokio::test]
async fn a_run_that_wrote_nothing_leaves_no_branch() {
    let world = world().await;
    let bad = format!("{KEPT}-- headwater: name = shop.bad\nSELECT CAST(name AS INT) AS n FROM t");
    let ran = world.run(&files("", &[("bad.sql", &bad)])).await;
    // The hint is that of the cast: it names no branch.
    let hint = "Write a value of this type, or use `TRY_CAST`, which returns null instead.";
    assert_eq!(ran.outcome.as_ref().unwrap_err().hint.as_deref(), Some(hint));
    assert_eq!(world.branches().await, []);
}

#[tokio::test]
async fn a_run_stopped_by_a_user_is_reported_as_cancelled() {
    let world = world().await;
    let first = format!("{KEPT}SELECT id FROM t");
    let waits = format!("{KEPT}SELECT id FROM first CROSS JOIN system.gate");
    let alone = files("", &[("waits.sql", "SELECT * FROM system.gate")]);
    let both = files("", &[("first.sql", &first), ("waits.sql", &waits)]);
    // Stop the run while its only step runs, after another step wrote its table, and during
    // planning.
    for (project, wrote, passes) in [(&alone, false, 1), (&both, true, 1), (&alone, false, 0)] {
        let gate = world.gate(passes);
        let stop = async {
            gate.reached().await;
            let running = world.jobs.list(&JobFilter::default()).await.unwrap();
            world.jobs.stop(running[0].id).await.unwrap();
        };
        let (ran, ()) = tokio::join!(world.run(project), stop);
        let job = world.jobs.job(ran.id).await.unwrap();
        assert_eq!(job.status, JobStatus::Cancelled);
        let told = job.error.unwrap();
        assert_eq!(told.message, "the run was stopped; `main` is unchanged");
        assert_eq!(told.hint.is_some(), wrote, "{told:?}");
        let left = world.branches().await.contains(&(format!("run/{}", ran.id), true));
        assert_eq!(left, wrote);
    }
}

#[tokio::test]
async fn a_model_may_return_nulls_in_a_later_run() {
    let world = world().await;
    let manifest = |last: u32| format!("[parameters.last]\ntype = \"int\"\ndefault = {last}\n");
    let log = "-- headwater: materialization = append\n\
               SELECT 1 AS n, coalesce(name, '') AS name, [1] AS list FROM t WHERE id = $last";
    world.run(&files(&manifest(1), &[("log.sql", log)])).await.report();
    let nulls = "-- headwater: materialization = append\n\
                 SELECT CAST(NULL AS BIGINT) AS n, CAST(NULL AS VARCHAR) AS name, [NULL, 2] AS list \
                 FROM t WHERE id = $last";
    world.run(&files(&manifest(2), &[("log.sql", nulls)])).await.report();
    let shown = world.sql("main", &["SELECT count(*) AS all, count(n) AS n FROM log"]).await;
    assert!(shown.contains("| 2   | 1 |"), "{shown}");
}

#[tokio::test]
async fn waiting_time_does_not_count_as_run_time() {
    let world = world().await;
    let began = std::time::Instant::now();
    let ran = world.run(&files("", &[("m.py", &python("m", "", "raise KeyError('x')"))])).await;
    let step = ran.step("m");
    assert!(Duration::from_millis(step.usage.wall_ms + step.usage.waited_ms()) <= began.elapsed());
}
