//! Results that are sent before their process has exited.

use std::sync::Arc;

use headwater_functions::{
    EarlyResultSender, Environment, Error, FunctionResult, Functions, Invocation,
    InvocationOutcome, ResultKind,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support::{ask, call, environment, holds, run_whole, start};

/// CPU time that a process uses after it has sent its result, in microseconds.
const EXIT_US: u64 = 300_000;

/// Returns a function whose process uses CPU time when it exits.
fn slow_exit(body: &str) -> String {
    format!(
        "
import os, time
exit = os._exit
def leave(status):
    until = time.process_time() + 0.4
    while time.process_time() < until:
        pass
    exit(status)
def f():
    os._exit = leave
    {body}
"
    )
}

/// Runs a call. Returns its early result, if one was sent before the outcome, and its outcome.
async fn run_early(
    functions: &Functions,
    environment: &Arc<Environment>,
    source: &str,
    kind: ResultKind,
) -> (Option<FunctionResult>, InvocationOutcome) {
    let (sender, result) = EarlyResultSender::new();
    let early_result = Some(sender);
    let invocation = Invocation { kind, early_result, ..call(environment, source) };
    let (sink, _lines) = mpsc::channel(16);
    let mut invoked = Box::pin(functions.invoke(invocation, sink, CancellationToken::new()));
    tokio::select! {
        biased;
        outcome = &mut invoked => (None, outcome),
        Ok(result) = result => (Some(result), invoked.await),
    }
}

#[tokio::test]
async fn a_result_arrives_before_the_exit_and_the_usage_is_complete() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    for (body, kind) in
        [("return [{'a': 7}]", ResultKind::Table), ("return True", ResultKind::Bool)]
    {
        let source = slow_exit(body);
        let (early, outcome) = run_early(&functions, &environment, &source, kind).await;
        let returned = outcome.returned.unwrap();
        match (early.expect("the process is exiting"), returned) {
            (FunctionResult::Table(early), FunctionResult::Table(table)) => {
                assert_eq!((early.rows(), table.rows()), (1, 1));
            }
            (FunctionResult::Bool(early), FunctionResult::Bool(value)) => assert!(early && value),
            other => panic!("{other:?}"),
        }
        assert_eq!(outcome.usage.calls, 1);
        if functions.kernel_cpu_us().await.is_some() {
            assert!(outcome.usage.cpu_us >= EXIT_US, "{:?}", outcome.usage);
            assert!(outcome.usage.memory_bytes_peak > 0, "{:?}", outcome.usage);
        }
    }
}

#[tokio::test]
async fn failures_are_not_sent_early() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = slow_exit("raise ValueError('no')");
    let (early, outcome) = run_early(&functions, &environment, &source, ResultKind::Table).await;
    assert!(early.is_none());
    assert!(matches!(outcome.returned, Err(Error::FunctionRaised { .. })), "{outcome:?}");
    let source = slow_exit("return 7");
    let (early, outcome) = run_early(&functions, &environment, &source, ResultKind::Table).await;
    assert!(early.is_none());
    assert!(matches!(outcome.returned, Err(Error::NotATable { .. })), "{outcome:?}");
}

/// User code can claim that its call has ended, and continue.
#[tokio::test]
async fn a_process_that_continues_after_its_result_is_ended_at_its_time_limit() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    // The limit does not include the imports of the zygote.
    holds(&functions, ask(&environment, "def f():\n    return True\n")).await;
    let source = "
import os, socket
def f():
    socket.socket(fileno=os.dup(3)).send(b'{\"said\": \"bool\", \"value\": true, \"kept\": false}')
    while True:
        pass
";
    let (sender, result) = EarlyResultSender::new();
    let mut invocation = Invocation {
        kind: ResultKind::Bool,
        early_result: Some(sender),
        ..call(&environment, source)
    };
    invocation.limits.timeout = std::time::Duration::from_secs(2);
    let (outcome, _) = run_whole(&functions, invocation).await;
    assert!(matches!(result.await, Ok(FunctionResult::Bool(true))));
    assert!(matches!(outcome.returned, Ok(FunctionResult::Bool(true))), "{outcome:?}");
    assert!(outcome.usage.wall_ms >= 1_500, "the process ran until its limit: {outcome:?}");
}
