//! Events that are sent in batches, from the command line.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use support::{Workspace, until};

/// The numbers of events, sending threads and server kills in the test that kills the server.
const EVENTS: usize = 320;
const SENDERS: usize = 4;
const KILLS: usize = 4;
const BATCH: usize = 10;

const STORE: &str = "\
import headwater
from headwater import lake


@headwater.function(reuse=True)
def store(event):
    lake.append('received', [{'id': event['id'], 'n': event['data']['n']}])
";

fn deployed() -> Workspace {
    let workspace = Workspace::new();
    let _ = std::fs::remove_dir_all(workspace.path().join("models"));
    workspace.write("functions/store.py", STORE);
    workspace.ok(&["deploy"]);
    workspace
}

fn event(number: usize) -> Value {
    json!({"specversion": "1.0", "id": format!("order-{number}"), "source": "/shop",
        "type": "shop.ordered", "data": {"n": number}})
}

#[test]
fn each_acknowledged_event_is_in_the_table_once_when_the_server_is_killed() {
    let workspace = deployed();
    let accepted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let send = |first: usize| {
            let events: Vec<Value> = (first..first + BATCH).map(event).collect();
            let file = workspace.write(&format!("events-{first}.json"), json!(events).to_string());
            let file = file.to_str().expect("a path").to_owned();
            // A batch whose acknowledgement was lost is sent again.
            until("a server accepts the events", || {
                workspace.run(&["event", "send", "store", &file]).code == 0
            });
            accepted.fetch_add(BATCH, Ordering::Relaxed);
        };
        for sender in 0..SENDERS {
            scope.spawn(move || (sender * BATCH..EVENTS).step_by(SENDERS * BATCH).for_each(send));
        }
        for kill in 1..=KILLS {
            let reached = kill * EVENTS / (KILLS + 1);
            until("events are accepted", || accepted.load(Ordering::Relaxed) >= reached);
            workspace.kill_server();
        }
    });
    let counts = || {
        let sql = "SELECT count(*) AS rows, count(DISTINCT id) AS ids FROM received";
        workspace.run(&["query", sql, "--output", "csv"]).stdout
    };
    until("each event is in the table", || counts().contains(&format!(",{EVENTS}\n")));
    until("no event is pending", || {
        let pending = workspace.json(&["event", "ls", "--status", "pending,running"]);
        pending == json!([])
    });
    assert_eq!(counts(), format!("rows,ids\n{EVENTS},{EVENTS}\n"));
}

#[test]
fn events_are_sent_from_a_file_or_the_standard_input() {
    let workspace = deployed();
    let lines = format!("{}\n{}\n", event(1), event(2));
    workspace.write("events.ndjson", &lines);
    let accepted = workspace.json(&["event", "send", "store", "events.ndjson"]);
    let accepted = accepted.as_array().expect("events").clone();
    assert_eq!(accepted.len(), 2);
    let text = workspace.ok(&["event", "send", "store", "events.ndjson"]);
    assert_eq!(text.lines().next(), accepted[0]["event"].as_str());
    // Each event is delivered by its own call. The calls run at the same time, so they can end in
    // any order.
    for accepted in &accepted {
        let id = accepted["event"].as_str().expect("an id");
        until("the event is done", || workspace.json(&["event", "show", id])["status"] == "done");
    }
    let rows = workspace.rows("SELECT id FROM received ORDER BY id");
    assert_eq!(rows, json!([{"id": "order-1"}, {"id": "order-2"}]));

    let mut wrong = event(3);
    wrong["source"] = "".into();
    workspace.write("wrong.json", json!([event(3), wrong]).to_string());
    let error = workspace.fails(2, &["event", "send", "store", "wrong.json"]);
    assert!(error.contains("event 1 is invalid: it has no `source`"), "{error}");
    assert!(error.contains("no event of the request was accepted"), "{error}");
    workspace.write("broken.json", "[{");
    let error = workspace.fails(2, &["event", "send", "store", "broken.json"]);
    assert!(error.contains("one object per line"), "{error}");
    workspace.fails(3, &["event", "send", "stroe", "events.ndjson"]);
    let events = workspace.json(&["event", "ls"]);
    assert_eq!(events.as_array().map(Vec::len), Some(2), "{events}");
}
