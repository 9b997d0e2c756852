//! Notifications and outbox rows of a real PostgreSQL server.

use std::sync::Arc;

use headwater_model::{Event, Trigger};
use headwater_store::Store;
use headwater_triggers::Triggers;
use serde_json::{Value, json};

use crate::external_servers::{HOUR_SCALE, Outside, until_fault};
use crate::servers::{PASSWORD, PostgresProcess};
use crate::support::{Dying, Mortal, until};

const OUTBOX: &str = "CREATE TABLE outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
                      kind text NOT NULL, amount numeric)";

/// Returns the state of a process with the secret of the triggers.
async fn with_password() -> Outside {
    let outside = Outside::new();
    outside.secrets().set("SHOP_PASSWORD", PASSWORD, "test").await.expect("a secret");
    outside
}

impl Outside {
    /// Polls until there are this many events.
    async fn until_events(&self, triggers: &Triggers, count: usize) -> Vec<Event> {
        until("the events arrived", async || {
            triggers.tick().await.expect("a tick");
            self.events().len() >= count
        })
        .await;
        self.events()
    }
}

fn trigger(server: &PostgresProcess, source: Value) -> Trigger {
    let mut source = source;
    source["url"] = json!(server.url());
    if source.get("secret").is_none() {
        source["secret"] = json!("SHOP_PASSWORD");
    }
    let trigger = json!({"name": "shop", "run": true, "postgres": source});
    serde_json::from_value(trigger).expect("a trigger")
}

fn kinds(events: &[Event]) -> Vec<String> {
    let kind = |row: &Value| row["kind"].as_str().expect("a kind").to_owned();
    events.iter().flat_map(Event::payloads).map(kind).collect()
}

#[tokio::test]
async fn notifications_are_events_and_are_received_again_after_the_server_was_away() {
    let mut server = PostgresProcess::start();
    let outside = with_password().await;
    let source = trigger(&server, json!({"channel": "Orders"}));
    let triggers = outside.open(&outside.store, vec![source]).await.expect("triggers");
    assert_eq!(triggers.list()[0].error, None);
    server
        .sql(r#"SELECT pg_notify('Orders', '{"id": 7}'); NOTIFY "Orders", 'text'; NOTIFY orders"#);
    let events = outside.until_events(&triggers, 2).await;
    assert_eq!(events[0].payloads(), [&json!({"id": 7})]);
    assert_eq!(events[1].payloads(), [&json!("text")]);
    assert_eq!(events[0].subject.as_deref(), Some("Orders"));
    assert_eq!(events[0].source, format!("postgres://127.0.0.1:{}/shop", server.port()));

    server.stop();
    until_fault(&triggers, "postgres://127.0.0.1").await;
    server.restart();
    until("the trigger listens again", async || {
        triggers.tick().await.expect("a tick");
        triggers.list()[0].error.is_none()
    })
    .await;
    server.sql(r#"NOTIFY "Orders", 'back'"#);
    let events = outside.until_events(&triggers, 3).await;
    assert_eq!(events[2].payloads(), [&json!("back")]);
}

#[tokio::test]
async fn rows_of_an_outbox_are_events_in_order_and_are_deleted() {
    let mut server = PostgresProcess::start();
    let outside = with_password().await;
    server.sql(OUTBOX);
    server.sql("INSERT INTO outbox (kind, amount) SELECT 'before', 1.5 FROM generate_series(1, 3)");
    let source = json!({"outbox": "public.outbox", "channel": "outbox", "batch": 2});
    let source = trigger(&server, source);
    let triggers = outside.open(&outside.store, vec![source]).await.expect("triggers");
    let events = outside.events();
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].payloads()[0], &json!({"id": 1, "kind": "before", "amount": 1.5}));
    assert_eq!((events[0].payloads().len(), events[1].payloads().len()), (2, 1));
    assert_eq!(server.sql("SELECT count(*) FROM outbox"), "0");

    // Rows that are inserted during a lost connection are not missed.
    server.stop();
    until_fault(&triggers, "is unavailable: error communicating with database: Connection refused")
        .await;
    server.restart();
    server.sql("INSERT INTO outbox (kind) SELECT 'row ' || n FROM generate_series(1, 700) n");
    let delivered = async || kinds(&outside.until_events(&triggers, 3).await);
    until("all rows are events", async || delivered().await.len() == 703).await;
    let expected: Vec<String> = (1..=700).map(|number| format!("row {number}")).collect();
    assert_eq!(delivered().await[3..], expected);
    assert_eq!(server.sql("SELECT count(*) FROM outbox"), "0");
}

#[tokio::test]
async fn a_database_that_is_away_for_an_hour_loses_no_row() {
    let mut server = PostgresProcess::start();
    let outside = Outside { time_scale: HOUR_SCALE, ..with_password().await };
    server.sql(OUTBOX);
    server.sql("INSERT INTO outbox (kind) SELECT 'before ' || n FROM generate_series(1, 5) n");
    let source = trigger(&server, json!({"outbox": "outbox", "channel": "outbox"}));
    let triggers = outside.open(&outside.store, vec![source]).await.expect("triggers");
    server.stop();
    until_fault(&triggers, "is unavailable: error communicating with database: Connection refused")
        .await;
    outside.wait_an_hour(&triggers).await;
    server.restart();
    server.sql("INSERT INTO outbox (kind) SELECT 'after ' || n FROM generate_series(1, 5) n");
    let mut received = kinds(&outside.until_events(&triggers, 10).await);
    received.sort();
    let expected = ["after", "before"].map(|when| (1..=5).map(move |n| format!("{when} {n}")));
    assert_eq!(received, expected.into_iter().flatten().collect::<Vec<_>>());
    until("the fault is gone", async || {
        triggers.tick().await.expect("a tick");
        triggers.list()[0].error.is_none()
    })
    .await;
}

#[tokio::test]
async fn a_crash_at_any_call_of_the_store_loses_and_doubles_no_row() {
    let server = PostgresProcess::start();
    server.sql("CREATE TABLE outbox (id uuid PRIMARY KEY, kind text)");
    for dying in [Dying::Before, Dying::After] {
        let mut calls = 1;
        while crash_at(&server, calls, dying).await {
            calls += 1;
        }
        assert!(calls > 10, "only {calls} calls");
    }
}

/// Runs a process that crashes at its store call number `calls`, and another process that delivers
/// the remaining rows. Returns true if the first process crashed.
async fn crash_at(server: &PostgresProcess, calls: i64, dying: Dying) -> bool {
    let outside = with_password().await;
    let triggers = || vec![trigger(server, json!({"outbox": "outbox"}))];
    let rows = "INSERT INTO outbox SELECT gen_random_uuid(), n::text FROM generate_series(1, 3) n";
    server.sql(rows);
    let mortal = Mortal::new(&outside.store, calls, dying);
    let as_store: Arc<dyn Store> = mortal.clone();
    let died = outside.open(&as_store, triggers()).await.is_err() || mortal.dead.is_cancelled();
    let second = outside.open(&outside.store, triggers()).await.expect("the second process");
    second.tick().await.expect("a tick");
    let mut delivered = kinds(&outside.events());
    delivered.sort();
    assert_eq!(delivered, ["1", "2", "3"], "{dying:?} call {calls}");
    assert_eq!(server.sql("SELECT count(*) FROM outbox"), "0", "{dying:?} call {calls}");
    died
}

#[tokio::test]
async fn database_errors_are_errors_of_the_trigger() {
    let server = PostgresProcess::start();
    let outside = with_password().await;
    let secrets = outside.secrets();
    secrets.set("WRONG", "other", "test").await.expect("a secret");
    server.sql(OUTBOX);
    for (source, expected) in [
        (json!({"outbox": "outbox", "secret": "WRONG"}), "password authentication failed"),
        (json!({"channel": "c", "secret": "WRONG"}), "password authentication failed"),
        (json!({"channel": "c", "secret": "ABSENT"}), "ABSENT"),
        (json!({"outbox": "outbux"}), "does not exist"),
        (json!({"outbox": "outbox", "key": "uid"}), "has no column `uid`"),
    ] {
        let source = trigger(&server, source);
        let triggers = outside.open(&outside.store, vec![source]).await.expect("triggers");
        let error = triggers.list()[0].error.clone().expect("a fault");
        assert!(error.message.contains(expected), "{error}");
        assert!(!error.message.contains(PASSWORD), "{error}");
        triggers.stop();
    }
}
