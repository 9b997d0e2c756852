//! Metering: the sum of the calls' usage equals the usage that the kernel reports.

use crate::support::{answer, call, environment, not_checked, options, run_whole, start};
use headwater_functions::{
    Argument, ArgumentValue, Environment, Error, Functions, Invocation, Limits, ReuseScope,
};
use std::sync::Arc;

const WORKS: &str = "
import time
def f(until):
    while time.process_time() < until:
        pass
    return [{'a': 1}]
";

fn work(environment: &Arc<Environment>, seconds: f64, reuse: bool) -> Invocation {
    let value = ArgumentValue::Json(seconds.into());
    let arguments = vec![Argument { name: "until".to_owned(), value }];
    let limits = Limits { memory_bytes: 256 << 20, ..Limits::default() };
    let reuse = if reuse { ReuseScope::SameFunction } else { ReuseScope::Never };
    Invocation { arguments, limits, reuse, ..call(environment, WORKS) }
}

async fn agrees(functions: &Functions, calls: Vec<Invocation>) {
    let Some(before) = functions.kernel_cpu_us().await else {
        return not_checked("no control group counts processor time on this host");
    };
    let mut sum = 0;
    for call in calls {
        let (outcome, lines) = run_whole(functions, call).await;
        assert!(outcome.returned.is_ok(), "{outcome:?} {lines:?}");
        sum += outcome.usage.cpu_us;
    }
    let total = functions.kernel_cpu_us().await.unwrap() - before;
    let apart = (sum as f64 / total as f64 - 1.0).abs();
    assert!(apart < 0.01, "calls {sum} us, the kernel {total} us: {:.2} % apart", 100.0 * apart);
}

#[tokio::test]
async fn the_sum_over_calls_is_the_kernels_total() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    // The calls prepare sandboxes, so that the number of prepared sandboxes is the same before and
    // after the measurement.
    for _ in 0..10 {
        run_whole(&functions, work(&environment, 0.0, false)).await.0.returned.unwrap();
    }
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    agrees(&functions, (0..15).map(|_| work(&environment, 0.2, false)).collect()).await;
}

#[tokio::test]
async fn the_sum_over_calls_of_one_process_is_the_kernels_total() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    for _ in 0..3 {
        run_whole(&functions, work(&environment, 0.0, true)).await.0.returned.unwrap();
    }
    let calls = (1..=40).map(|number| work(&environment, 0.05 * f64::from(number), true));
    agrees(&functions, calls.collect()).await;
}

/// Returns a call whose memory limit differs from the limits of the previous calls, so that it
/// needs a new sandbox.
fn apart(environment: &Arc<Environment>, number: u64, seconds: f64) -> Invocation {
    let limits = Limits { memory_bytes: (200 + 8 * (number % 6)) << 20, ..Limits::default() };
    Invocation { limits, ..work(environment, seconds, false) }
}

#[tokio::test]
async fn the_cost_of_unused_sandboxes_is_metered() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    for number in 0..18 {
        run_whole(&functions, apart(&environment, number, 0.0)).await.0.returned.unwrap();
    }
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    agrees(&functions, (0..12).map(|number| apart(&environment, number, 0.6)).collect()).await;
}

/// Starts a runtime, and returns it with an environment that exists but has no zygote.
async fn fresh() -> (Functions, Arc<Environment>) {
    environment(&start().await, &[]).await;
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    (functions, environment)
}

/// Minimum CPU time that the imports of the packages need, in microseconds.
const IMPORTS_US: u64 = 50_000;

#[tokio::test]
async fn the_sum_over_calls_of_a_fresh_server_is_the_kernels_total() {
    let (functions, environment) = fresh().await;
    agrees(&functions, (0..15).map(|_| work(&environment, 0.4, false)).collect()).await;
}

#[tokio::test]
async fn the_first_call_is_charged_for_the_imports_and_reports_their_time() {
    let (functions, environment) = fresh().await;
    let (first, _) = run_whole(&functions, work(&environment, 0.0, false)).await;
    let (second, _) = run_whole(&functions, work(&environment, 0.0, false)).await;
    let (first, second) = (first.usage, second.usage);
    assert_eq!((first.calls, first.cold_starts, second.calls, second.cold_starts), (1, 1, 1, 0));
    assert!(first.start_ms >= 50 && second.start_ms < first.start_ms / 2, "{first:?} {second:?}");
    assert!(first.wall_ms < first.start_ms + second.wall_ms + 50, "{first:?} {second:?}");
    if functions.kernel_cpu_us().await.is_some() {
        assert!(first.cpu_us > second.cpu_us + IMPORTS_US, "{first:?} {second:?}");
    }
}

/// If a call ends during the imports, the next call is charged for their CPU time.
#[tokio::test]
async fn unfinished_imports_are_reported_and_charged_to_the_next_call() {
    let (functions, environment) = fresh().await;
    let timeout = std::time::Duration::from_millis(20);
    let limits = Limits { timeout, ..work(&environment, 0.0, false).limits };
    let hasty = Invocation { limits, ..work(&environment, 0.0, false) };
    let (hasty, _) = run_whole(&functions, hasty).await;
    let late = matches!(hasty.returned, Err(Error::TimeLimit { importing: true, .. }));
    assert!(late && hasty.usage.start_ms >= 20 && hasty.usage.calls == 0, "{hasty:?}");
    let (next, _) = run_whole(&functions, work(&environment, 0.0, false)).await;
    let (last, _) = run_whole(&functions, work(&environment, 0.0, false)).await;
    assert!(next.usage.start_ms > last.usage.start_ms, "{next:?} {last:?}");
    if functions.kernel_cpu_us().await.is_some() {
        assert!(next.usage.cpu_us > last.usage.cpu_us + IMPORTS_US, "{next:?} {last:?}");
    }
}

#[tokio::test]
async fn a_failed_call_reports_its_waiting_times() {
    let (functions, environment) = fresh().await;
    let source = "def f(until):\n    raise ValueError('no')\n";
    let arguments = work(&environment, 0.0, false).arguments;
    let fails = Invocation { arguments, ..call(&environment, source) };
    let (failed, _) = run_whole(&functions, fails.clone()).await;
    assert!(failed.returned.is_err() && failed.usage.start_ms >= 50, "{failed:?}");
    assert_eq!((failed.usage.calls, failed.usage.cold_starts), (1, 1));
    let (again, _) = run_whole(&functions, fails).await;
    assert_eq!((again.usage.calls, again.usage.cold_starts), (1, 0), "{again:?}");
}

#[tokio::test]
async fn input_and_output_bytes_are_metered() {
    let functions = headwater_functions::Functions::start(options()).await.unwrap();
    let environment = environment(&functions, &[]).await;
    let source =
        "import pyarrow as pa\ndef f(until):\n    return pa.table({'x': [until] * 100_000})\n";
    let call = Invocation { ..call(&environment, source) };
    let call = Invocation { arguments: work(&environment, 0.25, false).arguments, ..call };
    let (table, outcome) = answer(&functions, call).await;
    assert_eq!(outcome.usage.bytes_in, 4, "the text `0.25`");
    assert_eq!(outcome.usage.bytes_out, table.bytes());
    assert!(outcome.usage.bytes_out >= 800_000, "{:?}", outcome.usage);
}
