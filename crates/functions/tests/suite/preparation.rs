//! Preparation of functions ahead of expected calls.

use std::time::{Duration, Instant};

use crate::support::{ask, environment, run, start};
use crate::warm::{again, answers};
use headwater_functions::{Error, ExpectedCall, Functions};

/// A function that returns true at its first execution in a process. The import of its module takes
/// CPU time and prints a line.
const FIRST: &str = "
import time
while time.process_time() < 0.3:
    pass
print('imported')
calls = []
def f():
    calls.append(1)
    return len(calls) == 1
";

fn expected(at: Instant) -> ExpectedCall {
    ExpectedCall { at, cause: "the schedule `0 6 * * *` at 06:00 UTC".into() }
}

fn soon() -> ExpectedCall {
    expected(Instant::now() + Duration::from_secs(30))
}

/// Polls until no instance is left; fails after two minutes.
async fn nothing_runs(functions: &Functions) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while functions.instances().idle > 0 {
        assert!(Instant::now() < deadline, "an instance is left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_prepared_instance_has_imported_the_function_but_not_called_it() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    functions.prepare(&again(&environment, FIRST), soon()).await;
    let counts = functions.instances();
    assert_eq!((counts.running, counts.idle), (0, 1));
    let warm = functions.warm_instances(&environment.id);
    let shown: Vec<_> = warm.iter().map(|one| (one.label.as_str(), one.reason.as_str())).collect();
    let reason = "started ahead of the schedule `0 6 * * *` at 06:00 UTC";
    assert_eq!(shown, [("m", reason)]);
    let (is_first, outcome, lines) = answers(&functions, again(&environment, FIRST)).await;
    assert!(is_first && !outcome.is_cold() && lines.is_empty(), "{outcome:?} {lines:?}");
    // The call that uses the instance is charged for the import.
    assert!(outcome.usage.cpu_us >= 200_000, "{outcome:?}");
    let (is_first, outcome, _) = answers(&functions, again(&environment, FIRST)).await;
    assert!(!is_first && outcome.usage.cpu_us < 200_000, "{outcome:?}");
}

#[tokio::test]
async fn an_idle_instance_is_kept_for_the_expected_call() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    answers(&functions, again(&environment, FIRST)).await;
    let late = expected(Instant::now() + Duration::from_secs(100));
    functions.prepare(&again(&environment, FIRST), late).await;
    assert_eq!(functions.instances().idle, 1);
    let warm = functions.warm_instances(&environment.id);
    assert_eq!(warm[0].reason, "kept for the schedule `0 6 * * *` at 06:00 UTC");
    let kept = warm[0].until - warm[0].since;
    assert!(kept.num_seconds() >= 100, "{kept}");
}

#[tokio::test]
async fn the_instance_of_a_burst_is_kept_for_a_minute() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    for _ in 0..8 {
        answers(&functions, again(&environment, FIRST)).await;
    }
    let warm = functions.warm_instances(&environment.id);
    let reasons: Vec<_> = warm.iter().map(|one| one.reason.as_str()).collect();
    assert_eq!(reasons, ["kept after its last call"]);
    let kept = warm[0].until - warm[0].since;
    assert!(kept.num_seconds() <= 60, "{kept}");
}

#[tokio::test]
async fn nothing_runs_after_an_expected_call_that_does_not_arrive() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let past = expected(Instant::now().checked_sub(Duration::from_secs(10)).unwrap());
    functions.prepare(&again(&environment, FIRST), past).await;
    nothing_runs(&functions).await;
    // The CPU time of the import is charged to the next call, which imports the module itself.
    let (is_first, outcome, _) = answers(&functions, again(&environment, FIRST)).await;
    assert!(is_first && outcome.usage.cpu_us >= 400_000, "{outcome:?}");
}

#[tokio::test]
async fn a_function_without_reuse_gets_its_zygote() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    functions.prepare(&ask(&environment, FIRST), soon()).await;
    assert_eq!((functions.instances().idle, functions.zygotes().len()), (0, 1));
    let (_, outcome, _) = answers(&functions, ask(&environment, FIRST)).await;
    assert!(!outcome.is_cold(), "{outcome:?}");
}

#[tokio::test]
async fn an_import_that_fails_is_reported_by_the_call() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "raise ValueError('no settings')";
    functions.prepare(&again(&environment, source), soon()).await;
    assert_eq!(functions.instances().idle, 0);
    let (returned, _) = run(&functions, again(&environment, source)).await;
    assert!(matches!(returned, Err(Error::FunctionRaised { .. })), "{returned:?}");
}

#[tokio::test]
async fn an_instance_whose_module_requests_the_lake_is_not_used() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "
from headwater import lake
try:
    rows = lake.query('SELECT 1')
except Exception:
    rows = None
def f():
    return rows is None
";
    functions.prepare(&again(&environment, source), soon()).await;
    assert_eq!(functions.instances().idle, 0);
    let (_, outcome, _) = answers(&functions, again(&environment, source)).await;
    assert!(!outcome.is_cold(), "{outcome:?}");
}
