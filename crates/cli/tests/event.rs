//! Asynchronous calls and their events, from the command line.

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use support::{Workspace, until};

/// The numbers of calls, calling threads and server kills in the test that kills the server.
const CALLS: usize = 240;
const CALLERS: usize = 4;
const KILLS: usize = 4;

const SCORE: &str = "\
import headwater


@headwater.function(reuse=True)
@headwater.python(pip={})
def score(n):
    if n < 0:
        raise ValueError('negative')
    return n
";

fn deployed() -> Workspace {
    let workspace = Workspace::new();
    let _ = std::fs::remove_dir_all(workspace.path().join("models"));
    workspace.write("functions/score.py", SCORE);
    workspace.ok(&["deploy"]);
    workspace
}

/// Calls the function with a number, and retries until a server accepts the call.
fn call_until_accepted(workspace: &Workspace, number: usize) -> String {
    let (argument, key) = (format!("n={number}"), format!("call-{number}"));
    let arguments = ["function", "invoke", "score", "--arg", &argument, "--async", "--key", &key];
    let mut event = String::new();
    until("a server accepts the call", || {
        let answer = workspace.run(&arguments);
        answer.stdout.trim().clone_into(&mut event);
        answer.code == 0
    });
    event
}

#[test]
fn no_accepted_call_is_lost_when_the_server_is_killed() {
    let workspace = deployed();
    let accepted = AtomicUsize::new(0);
    let events: BTreeSet<String> = std::thread::scope(|scope| {
        let call = |caller: usize| {
            let numbers = (caller..CALLS).step_by(CALLERS);
            let call = |number| {
                let event = call_until_accepted(&workspace, number);
                accepted.fetch_add(1, Ordering::Relaxed);
                event
            };
            numbers.map(call).collect::<Vec<String>>()
        };
        let callers: Vec<_> =
            (0..CALLERS).map(|caller| scope.spawn(move || call(caller))).collect();
        for kill in 1..=KILLS {
            let reached = kill * CALLS / (KILLS + 1);
            until("calls are accepted", || accepted.load(Ordering::Relaxed) >= reached);
            workspace.kill_server();
        }
        callers.into_iter().flat_map(|caller| caller.join().expect("a caller")).collect()
    });
    assert_eq!(events.len(), CALLS, "each call is one event");
    let mut done = Value::Null;
    until("all events are done", || {
        done = workspace.json(&["event", "ls", "--status", "done", "-n", "1000"]);
        done.as_array().map_or(0, Vec::len) >= CALLS
    });
    let done = done.as_array().expect("events");
    let ids: BTreeSet<String> =
        done.iter().filter_map(|event| event["id"].as_str().map(str::to_owned)).collect();
    assert_eq!(ids, events);
    let jobs = workspace.json(&["job", "ls", "--kind", "function", "-n", "10000"]);
    let succeeded =
        jobs.as_array().expect("jobs").iter().filter(|job| job["status"] == "succeeded");
    let results: BTreeSet<u64> =
        succeeded.filter_map(|job| job["result"]["function"].as_u64()).collect();
    assert_eq!(results, (0..CALLS as u64).collect(), "each call was executed");
}

#[test]
fn events_are_listed_shown_replayed_and_removed() {
    let workspace = deployed();
    let first = call_until_accepted(&workspace, 1);
    assert_eq!(call_until_accepted(&workspace, 1), first);
    let shown = |event: &str| workspace.json(&["event", "show", event]);
    until("the event is done", || shown(&first)["status"] == "done");
    let event = shown(&first);
    assert_eq!(event["trigger"], "/functions/score");
    assert_eq!(event["type"], "headwater.function.invoked");
    assert_eq!(event["data"], json!({"function": "score", "arguments": {"n": 1}}));
    assert_eq!((&event["author"], &event["attempts"]), (&json!("eva"), &json!(1)));
    let text = workspace.ok(&["event", "show", &first]);
    assert!(text.contains("call of score") && text.contains("done"), "{text}");

    let arguments = ["function", "invoke", "score", "--arg", "n=-1", "--async"];
    let failing = workspace.ok(&arguments).trim().to_owned();
    until("an attempt failed", || shown(&failing)["error"]["code"] == "function_failed");
    let listed = workspace.ok(&["event", "ls", "--trigger", "/functions/score"]);
    assert!(listed.contains("negative"), "{listed}");
    workspace.ok(&["event", "replay", &failing]);
    until("the event is removed", || workspace.run(&["event", "rm", &failing]).code == 0);
    let error = workspace.fails(3, &["event", "show", &failing]);
    assert!(error.contains(&format!("there is no event `{failing}`")), "{error}");
    let error = workspace.fails(2, &["event", "rm", &first]);
    assert!(error.contains("is done and cannot be removed"), "{error}");
}

#[test]
fn a_wrong_call_is_rejected_before_it_is_accepted() {
    let workspace = deployed();
    workspace.fails(2, &["function", "invoke", "score", "--arg", "m=1", "--async"]);
    workspace.fails(3, &["function", "invoke", "scroe", "--async"]);
    let call = ["function", "invoke", "score", "--arg", "n=1"];
    workspace.fails(2, &[&call[..], &["--async", "--key", ""]].concat());
    workspace.fails(2, &[&call[..], &["--key", "a"]].concat());
    assert_eq!(workspace.json(&["event", "ls"]), json!([]));
}
