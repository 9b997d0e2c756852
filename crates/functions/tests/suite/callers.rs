//! Many callers of one function share its warm instances.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::support::{call, environment, options, run};
use headwater_functions::{
    CallOwner, Environment, FunctionResult, Functions, FunctionsOptions, Invocation, Limits,
    ResultKind, ReuseScope,
};

/// Code of a function that returns a name, which is different for each instance.
const NAMED: &str = "import os\nNAME = os.urandom(8).hex()\ndef f():\n    return NAME\n";

fn of(owner: &str, label: &str, environment: &Arc<Environment>) -> Invocation {
    let share = CallOwner { owner: owner.into(), ..CallOwner::default() };
    Invocation {
        kind: ResultKind::Any,
        reuse: ReuseScope::SameFunction,
        label: label.to_owned(),
        share,
        ..call(environment, &format!("# {label}\n{NAMED}"))
    }
}

/// Calls a function and returns the name of its instance.
async fn instance(functions: &Functions, invocation: Invocation) -> String {
    match run(functions, invocation).await.0.unwrap() {
        FunctionResult::Json(name) => String::from_utf8(name.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Each of `callers` callers makes `calls` calls, one after the other. Returns the names of the
/// instances.
async fn loops(
    functions: &Functions,
    callers: usize,
    calls: usize,
    invocation: &Invocation,
) -> BTreeSet<String> {
    let caller = async || {
        let mut names = Vec::new();
        for _ in 0..calls {
            names.push(instance(functions, invocation.clone()).await);
        }
        names
    };
    let all = futures::future::join_all((0..callers).map(|_| caller())).await;
    all.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_of_one_function_share_its_warm_instances() {
    for (concurrency, memory_bytes_total) in [(2, 64 << 30), (2, 9 << 30), (4, 4 << 30)] {
        let options = FunctionsOptions { concurrency, memory_bytes_total, ..options() };
        let functions = Functions::start(options).await.unwrap();
        let environment = environment(&functions, &[]).await;
        let names = loops(&functions, 64, 8, &of("caller", "f", &environment)).await;
        assert!(names.len() <= concurrency, "{} instances for {concurrency}", names.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_one_function_does_not_starve_another() {
    // The memory is sufficient for only one instance.
    let memory_bytes_total = 1 << 30;
    let options = FunctionsOptions { concurrency: 2, memory_bytes_total, ..options() };
    let functions = Functions::start(options).await.unwrap();
    let environment = environment(&functions, &[]).await;
    let limits = Limits { memory_bytes: 768 << 20, ..Limits::default() };
    let of = |label| Invocation { limits: limits.clone(), ..of("caller", label, &environment) };
    let (busy, other) = (of("busy"), of("other"));
    instance(&functions, busy.clone()).await;
    // The calls last longer than the time after which a starved call is promoted.
    let backlog = loops(&functions, 1_000, 8, &busy);
    tokio::pin!(backlog);
    tokio::select! {
        _ = &mut backlog => panic!("the backlog ended first"),
        _ = instance(&functions, other) => {}
    }
    let names = backlog.await;
    assert!(names.len() < 20, "{} instances", names.len());
}
