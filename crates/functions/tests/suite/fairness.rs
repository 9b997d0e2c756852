//! Fairness: an overload of calls by one caller does not delay the calls of another caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{ask, call, environment, not_checked, options, run, run_whole, start};
use headwater_functions::{
    CallOwner, Error, FunctionResult, Functions, FunctionsOptions, Invocation, Limits, ResultKind,
    ReuseScope,
};
use headwater_model::{ErrorCode, Priority, ToProblem};
use tokio_util::sync::CancellationToken;

const WAITS: &str = "import time\ndef f():\n    time.sleep(0.3)\n    return True\n";
const NOTHING: &str = "def f():\n    return True\n";

fn of(owner: &str, invocation: Invocation) -> Invocation {
    let share = CallOwner { owner: owner.into(), ..CallOwner::default() };
    let limits = Limits { memory_bytes: 256 << 20, ..invocation.limits };
    Invocation { share, label: owner.to_owned(), limits, ..invocation }
}

#[tokio::test]
async fn a_burst_of_one_caller_does_not_delay_others() {
    let options = FunctionsOptions { concurrency: 2, waiting_max: 60, ..options() };
    let functions = Functions::start(options).await.unwrap();
    let environment = environment(&functions, &[]).await;
    run(&functions, ask(&environment, NOTHING)).await.0.unwrap();
    let ended = Arc::new(AtomicUsize::new(0));
    let burst = (0..30).map(|_| {
        let (functions, ended) = (functions.clone(), ended.clone());
        let invocation = of("burst", ask(&environment, WAITS));
        tokio::spawn(async move {
            let outcome = run(&functions, invocation).await.0;
            ended.fetch_add(1, Ordering::Relaxed);
            outcome
        })
    });
    let burst: Vec<_> = burst.collect();
    let waits = |functions: &Functions| {
        functions.calls().into_iter().filter(|call| call.waits_for.is_some()).count()
    };
    while waits(&functions) < 28 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let calls = functions.calls();
    let last = calls.last().unwrap();
    assert_eq!(last.owner, "burst");
    assert_eq!(
        last.waits_for.as_deref(),
        Some(
            "a free instance: the maximum of 2 calls are running (burst: 2); behind 27 calls in \
             the queue"
        )
    );
    for _ in 0..3 {
        run(&functions, of("other", ask(&environment, NOTHING))).await.0.unwrap();
    }
    let before = ended.load(Ordering::Relaxed);
    assert!(before < 20, "{before} of the burst ended before three calls of another");
    for call in burst {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_full_queue_error_names_the_owner() {
    let options = FunctionsOptions { concurrency: 1, waiting_max: 4, ..options() };
    let functions = Functions::start(options).await.unwrap();
    let environment = environment(&functions, &[]).await;
    run(&functions, ask(&environment, NOTHING)).await.0.unwrap();
    let calls = (0..20).map(|_| run(&functions, of("caller `a`", ask(&environment, WAITS))));
    let outcomes = futures::future::join_all(calls).await;
    let refused: Vec<Error> =
        outcomes.into_iter().filter_map(|(outcome, _)| outcome.err()).collect();
    assert_eq!(refused.len(), 17);
    assert_eq!(
        refused[0].to_string(),
        "queue full: 2 function calls queued, 2 from caller `a` (limit 4)"
    );
    assert!(refused[0].hint().unwrap().contains("job get"));
}

#[tokio::test]
async fn a_stopping_server_ends_running_jobs_and_starts_no_others() {
    let options = FunctionsOptions { concurrency: 1, ..options() };
    let functions = Functions::start(options).await.unwrap();
    let environment = environment(&functions, &[]).await;
    run(&functions, ask(&environment, NOTHING)).await.0.unwrap();
    let stopping = CancellationToken::new();
    let calls = (0..6).map(|_| {
        let begins_until = stopping.clone();
        run(&functions, Invocation { begins_until, ..ask(&environment, WAITS) })
    });
    let stop = async {
        while functions.calls().iter().all(|call| call.waits_for.is_some()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stopping.cancel();
    };
    let (outcomes, ()) = tokio::join!(futures::future::join_all(calls), stop);
    let (ended, refused): (Vec<_>, Vec<_>) =
        outcomes.into_iter().partition(|(returned, _)| returned.is_ok());
    assert!((1..=2).contains(&ended.len()), "{ended:?}");
    for (returned, _) in refused {
        let error = returned.unwrap_err();
        assert!(matches!(error, Error::Stopping { .. }), "{error:?}");
        assert_eq!(error.code(), ErrorCode::Unavailable);
    }
    assert!(functions.calls().is_empty());
}

#[tokio::test]
async fn calls_of_higher_priority_run_first() {
    let options = FunctionsOptions { concurrency: 1, ..options() };
    let functions = Functions::start(options).await.unwrap();
    let environment = environment(&functions, &[]).await;
    run(&functions, ask(&environment, NOTHING)).await.0.unwrap();
    let ended = parking_lot::Mutex::new(Vec::new());
    let calls =
        [Priority::Normal, Priority::Low, Priority::Normal, Priority::High].map(|priority| {
            let share = CallOwner { priority, ..CallOwner::default() };
            let invocation = Invocation { share, ..ask(&environment, WAITS) };
            let (functions, ended) = (&functions, &ended);
            async move {
                run(functions, invocation).await.0.unwrap();
                ended.lock().push(priority);
            }
        });
    futures::future::join_all(calls).await;
    let order = ended.into_inner();
    assert_eq!(order, [Priority::Normal, Priority::High, Priority::Normal, Priority::Low]);
}

/// A function that returns its CPU time within one second, in seconds.
const COMPUTES: &str = "import time\ndef f():
    until = time.monotonic() + 1
    while time.monotonic() < until:
        pass
    return [{'cpu': time.process_time()}]
";

const HOGS: [(&str, &str); 4] = [
    ("processors", "pass"),
    ("memory", "held = bytearray(8 << 20)\n            del held"),
    ("processes", "if os.fork() == 0:\n                os._exit(0)\n            os.waitpid(-1, 0)"),
    (
        "/tmp",
        "with open(f'/tmp/{os.getpid()}', 'wb') as file:\n                file.write(bytes(1 << 20))",
    ),
];

#[tokio::test]
async fn sixteen_busy_processes_leave_half_of_the_cpu_to_another_function() {
    let functions = start().await;
    let warnings = functions.warnings();
    let environment = environment(&functions, &[]).await;
    for (what, body) in HOGS {
        let source = format!(
            "import os\ndef f():\n    for _ in range(15):\n        if os.fork() == 0:\n            break\n    \
             while True:\n        if True:\n            {body}\n"
        );
        let limits = Limits { timeout: Duration::from_secs(3), ..Limits::default() };
        let hog = of("hog", Invocation { limits, ..ask(&environment, &source) });
        let victim = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let victim = Invocation { kind: ResultKind::Table, ..call(&environment, COMPUTES) };
            run_whole(&functions, of("victim", victim)).await.0
        };
        let ((hog, _), victim) = tokio::join!(run_whole(&functions, hog), victim);
        assert!(matches!(victim.returned, Ok(FunctionResult::Table(_))), "{what}: {victim:?}");
        assert!(matches!(hog.returned, Err(Error::TimeLimit { .. })), "{what}: {hog:?}");
        let rate = |usage: &headwater_model::Usage| {
            usage.cpu_us as f64 / 1000.0 / usage.wall_ms.max(1) as f64
        };
        let (victims, hogs) = (rate(&victim.usage), rate(&hog.usage));
        if warnings.iter().any(|warning| warning.contains("processors")) {
            not_checked("no control group shares out processors on this host");
        } else {
            // If seventeen calls had equal shares, the call would get one seventeenth of a
            // processor.
            assert!(
                victims > (hogs / 3.0).min(0.4),
                "{what}: the victim {victims:.2}, the hog {hogs:.2}"
            );
        }
    }
}

/// A call that waits for memory holds no permit, and a call that waits for a permit holds no
/// memory.
#[tokio::test]
async fn calls_that_wait_for_memory_and_calls_that_wait_for_a_permit_are_independent() {
    let options = FunctionsOptions { concurrency: 2, memory_bytes_total: 6 << 30, ..options() };
    let functions = Functions::start(options).await.unwrap();
    let environment = environment(&functions, &[]).await;
    let with = |gib: u64, source: &str| Invocation {
        limits: Limits { memory_bytes: gib << 30, ..Limits::default() },
        ..ask(&environment, source)
    };
    let warm = || Invocation { reuse: ReuseScope::SameFunction, ..with(4, NOTHING) };
    run(&functions, warm()).await.0.unwrap();
    let calls = [with(1, WAITS), with(1, WAITS), with(4, WAITS), with(4, WAITS), warm(), warm()];
    let calls = calls.map(|call| run(&functions, call));
    let all = futures::future::join_all(calls);
    let all = tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
    for (outcome, _) in all {
        outcome.unwrap();
    }
}

/// The memory of an idle process is available to a call that needs more memory.
#[tokio::test]
async fn an_idle_process_does_not_block_calls_that_need_memory() {
    let options = FunctionsOptions { memory_bytes_total: 1 << 30, ..options() };
    let functions = Functions::start(options).await.unwrap();
    let environment = environment(&functions, &[]).await;
    let with = |mib: u64, source: &str| Invocation {
        limits: Limits { memory_bytes: mib << 20, ..Limits::default() },
        ..ask(&environment, source)
    };
    let waits = Invocation { reuse: ReuseScope::SameFunction, ..with(640, NOTHING) };
    run(&functions, waits).await.0.unwrap();
    let needs = "def f():\n    return len(bytes(range(256)) * (450 << 12)) > 0\n";
    run(&functions, with(300, needs)).await.0.unwrap();
}

#[tokio::test]
async fn a_call_gets_at_most_the_total_memory_of_functions() {
    let options = FunctionsOptions { memory_bytes_total: 1 << 30, ..options() };
    let functions = Functions::start(options).await.unwrap();
    let environment = environment(&functions, &[]).await;
    let limits = Limits { memory_bytes: 8 << 30, ..Limits::default() };
    let needs = "def f():\n    return len(bytes(range(256)) * (2 << 22)) > 0\n";
    let invocation = Invocation { limits, ..ask(&environment, needs) };
    let (returned, lines) = run(&functions, invocation).await;
    let said = "the function requests 8 GiB of memory, but gets 1 GiB, the limit of all functions together";
    assert!(lines.iter().any(|line| line.3 == said), "{lines:?}");
    let Err(Error::MemoryLimit { limit, .. }) = returned else { panic!("{returned:?}") };
    assert_eq!(limit, 1 << 30);
}
