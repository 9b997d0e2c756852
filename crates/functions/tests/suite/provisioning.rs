//! Provisioned concurrency: instances that are started before calls, kept and replaced.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{ask, environment, run, start};
use crate::warm::{again, answers};
use headwater_functions::{Environment, Functions, Invocation};

/// A function that returns true at its first execution in a process.
const FIRST: &str = "
calls = []
def f():
    calls.append(1)
    return len(calls) == 1
";

/// A function whose process ends while it executes a call.
const CRASH: &str = "
import os
def f():
    os._exit(3)
";

/// Returns a call with a limit of 1 GiB, so that half of the memory suffices for several instances.
fn small(environment: &Arc<Environment>, source: &str) -> Invocation {
    let mut call = again(environment, source);
    call.limits.memory_bytes = 1 << 30;
    call
}

/// Polls until the setting `f` has this number of instances; fails after two minutes.
async fn becomes_ready(functions: &Functions, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while functions.provisioned("f").is_none_or(|status| status.ready != count) {
        let status = functions.provisioned("f");
        assert!(Instant::now() < deadline, "{count} instances are not ready: {status:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn provisioned_instances_start_without_a_call_and_end_with_the_setting() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    functions.provision("f", 2, Ok(small(&environment, FIRST)));
    becomes_ready(&functions, 2).await;
    assert_eq!(functions.instances().idle, 2);
    let warm = functions.warm_instances(&environment.id);
    assert!(warm.iter().all(|one| one.reason == "kept by provisioned concurrency"), "{warm:?}");
    let (is_first, outcome, _) = answers(&functions, small(&environment, FIRST)).await;
    assert!(is_first && !outcome.is_cold(), "{outcome:?}");
    functions.retain_provisioned(|_| false);
    assert_eq!((functions.instances().idle, functions.provisioned("f")), (0, None));
}

#[tokio::test]
async fn another_version_replaces_the_instances_of_the_earlier_one() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    functions.provision("f", 1, Ok(again(&environment, FIRST)));
    becomes_ready(&functions, 1).await;
    let other = format!("{FIRST}\n# changed\n");
    functions.provision("f", 1, Ok(again(&environment, &other)));
    becomes_ready(&functions, 1).await;
    assert_eq!(functions.instances().idle, 1, "the instance of the earlier version has ended");
    let (is_first, outcome, _) = answers(&functions, again(&environment, &other)).await;
    assert!(is_first && !outcome.is_cold(), "{outcome:?}");
}

#[tokio::test]
async fn an_instance_that_crashes_is_replaced() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    functions.provision("f", 1, Ok(again(&environment, CRASH)));
    becomes_ready(&functions, 1).await;
    let (returned, _) = run(&functions, again(&environment, CRASH)).await;
    returned.expect_err("the process ends");
    let deadline = Instant::now() + Duration::from_secs(120);
    while functions.instances().idle != 1 {
        assert!(Instant::now() < deadline, "the instance is not replaced");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_function_whose_start_fails_gives_its_memory_to_the_others() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    // If it could start, this function would get all memory of provisioned instances, because its
    // name is first.
    let broken = small(&environment, "raise ValueError('broken')");
    functions.provision("a", 10_000, Ok(broken));
    functions.provision("f", 2, Ok(small(&environment, FIRST)));
    becomes_ready(&functions, 2).await;
    let status = functions.provisioned("a").expect("a status");
    assert_eq!((status.requested, status.ready), (10_000, 0));
    assert!(status.problem.is_some_and(|problem| problem.contains("broken")));
    // The memory is distributed by name again after a start.
    functions.provision("a", 10_000, Ok(small(&environment, &format!("{FIRST}\n# a\n"))));
    let before = functions.provisioned("f").expect("a status");
    assert_eq!((before.requested, before.allotted), (2, 0));
}

#[tokio::test]
async fn a_function_that_cannot_keep_instances_has_a_reason() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    functions.provision("f", 1, Ok(ask(&environment, FIRST)));
    let status = functions.provisioned("f").expect("a status");
    assert_eq!((status.ready, status.allotted), (0, 0));
    let problem = status.problem.expect("a reason");
    assert!(problem.contains("needs a new instance"), "{problem}");
    // The status of a function whose import fails contains the error.
    functions.provision("f", 1, Ok(again(&environment, "raise ValueError('broken')")));
    let deadline = Instant::now() + Duration::from_secs(120);
    while functions.provisioned("f").and_then(|status| status.problem).is_none() {
        assert!(Instant::now() < deadline, "no failed start is reported");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let problem = functions.provisioned("f").and_then(|status| status.problem);
    assert!(problem.is_some_and(|text| text.contains("broken")));
}
