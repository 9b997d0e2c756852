//! Messages of a real NATS JetStream server.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_nats::jetstream::{self, stream};
use futures::future::join_all;
use headwater_model::{ErrorCode, Event, EventData, NatsMessage, Trigger};
use headwater_store::Store;
use headwater_triggers::Triggers;
use serde_json::{Value, json};

use crate::external_servers::{HOUR_SCALE, Outside, until_fault};
use crate::servers::NatsProcess;
use crate::support::{Dying, Mortal, until};

impl Outside {
    fn messages(&self) -> Vec<NatsMessage> {
        let commits = self.tables.commits.lock().expect("commits");
        let messages = |event: &Event| match &event.data {
            EventData::NatsReceived { messages, .. } => messages.clone(),
            data => panic!("another event: {data:?}"),
        };
        commits.values().flat_map(messages).collect()
    }

    /// Polls until all sequence numbers up to `last` have arrived. Checks that no number has
    /// arrived twice.
    async fn until_all(&self, triggers: &Triggers, last: u64) {
        let mut counts = BTreeMap::new();
        until("all messages arrived", async || {
            // The store of a process that crashed returns errors.
            let _ = triggers.tick().await;
            counts.clear();
            for message in self.messages() {
                *counts.entry(message.sequence).or_insert(0) += 1;
            }
            (1..=last).all(|sequence| counts.contains_key(&sequence))
        })
        .await;
        assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    }
}

fn trigger(server: &NatsProcess, source: Value) -> Trigger {
    let mut source = source;
    source["url"] = json!(server.url());
    source["stream"] = json!("ORDERS");
    let trigger = json!({"name": "orders", "run": true, "nats": source});
    serde_json::from_value(trigger).expect("a trigger")
}

/// Connects and creates the stream.
async fn stream(server: &NatsProcess) -> jetstream::Context {
    let client = async_nats::connect(server.url()).await.expect("a client");
    let context = jetstream::new(client);
    let subjects = vec!["orders.>".to_owned()];
    let config = stream::Config { name: "ORDERS".into(), subjects, ..stream::Config::default() };
    context.get_or_create_stream(config).await.expect("a stream");
    context
}

async fn publish(context: &jetstream::Context, subject: &'static str, payload: Vec<u8>) {
    let sent = context.publish(subject, payload.into()).await.expect("a message");
    sent.await.expect("an acknowledgement");
}

#[tokio::test]
async fn messages_are_events_with_subject_headers_and_payload() {
    let server = NatsProcess::start(&[]);
    let context = stream(&server).await;
    let outside = Outside::new();
    publish(&context, "orders.new", br#"{"id": 1}"#.to_vec()).await;
    let source = trigger(&server, json!({"subject": "orders.*"}));
    let triggers = outside.open(&outside.store, vec![source]).await.expect("triggers");
    publish(&context, "orders.deep.other", b"not for this trigger".to_vec()).await;
    publish(&context, "orders.binary", vec![0xff, 0]).await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", "m1");
    for _ in 0..2 {
        // The server drops the second message, which has the same id.
        let sent = context.publish_with_headers("orders.text", headers.clone(), "7".into()).await;
        sent.expect("a message").await.expect("an acknowledgement");
    }
    until("three messages arrived", async || {
        triggers.tick().await.expect("a tick");
        outside.messages().len() == 3
    })
    .await;
    let messages = outside.messages();
    assert_eq!((messages[0].subject.as_str(), messages[0].sequence), ("orders.new", 1));
    assert_eq!(messages[0].payload, json!({"id": 1}));
    assert_eq!((&messages[1].payload, messages[1].is_base64), (&json!("/wA="), true));
    assert_eq!((&messages[2].payload, messages[2].is_base64), (&json!("7"), false));
    assert_eq!(messages[2].headers["Nats-Msg-Id"], "m1");
    let commits = outside.tables.commits.lock().expect("commits");
    let first = commits.values().next().expect("an event");
    assert_eq!(first.subject.as_deref(), Some("orders.new"));
    assert_eq!(first.source, format!("{}/ORDERS", server.url()));
}

#[tokio::test]
async fn a_killed_nats_server_loses_and_doubles_no_message() {
    let mut server = NatsProcess::start(&[]);
    let outside = Outside::new();
    let source = || vec![trigger(&server, json!({"batch": 10}))];
    let triggers = source();
    let context = stream(&server).await;
    let process = outside.open(&outside.store, triggers.clone()).await.expect("triggers");
    for number in 0..150 {
        publish(&context, "orders.new", format!("{number}").into_bytes()).await;
    }
    process.tick().await.expect("a tick");
    drop(context);
    server.kill();
    until("the loss is a fault", async || {
        process.tick().await.expect("a tick");
        process.list()[0].error.is_some()
    })
    .await;
    server.restart();
    let context = stream(&server).await;
    for number in 150..300 {
        publish(&context, "orders.new", format!("{number}").into_bytes()).await;
    }
    outside.until_all(&process, 300).await;
    process.stop();

    // Another process with the same store continues.
    let next = outside.open(&outside.store, triggers).await.expect("triggers");
    for number in 300..320 {
        publish(&context, "orders.new", format!("{number}").into_bytes()).await;
    }
    outside.until_all(&next, 320).await;
}

#[tokio::test]
async fn a_nats_server_that_is_away_for_an_hour_loses_no_message() {
    let mut server = NatsProcess::start(&[]);
    let context = stream(&server).await;
    let outside = Outside { time_scale: HOUR_SCALE, ..Outside::new() };
    let triggers = outside.start(trigger(&server, json!({"batch": 10}))).await;
    for number in 0..50 {
        publish(&context, "orders.new", format!("{number}").into_bytes()).await;
    }
    drop(context);
    server.kill();
    let fault = until_fault(&triggers, "NATS at").await;
    assert_eq!(fault.code, ErrorCode::Unavailable);
    outside.wait_an_hour(&triggers).await;
    server.restart();
    let context = stream(&server).await;
    for number in 50..100 {
        publish(&context, "orders.new", format!("{number}").into_bytes()).await;
    }
    outside.until_all(&triggers, 100).await;
    assert_eq!(triggers.list()[0].error, None);
}

#[tokio::test]
async fn a_crash_at_any_call_of_the_store_loses_and_doubles_no_message() {
    // The server redelivers messages after 30 s, so run all crashes concurrently.
    let calls = 1..=4;
    let cases = calls.flat_map(|calls| [(calls, Dying::Before), (calls, Dying::After)]);
    join_all(cases.map(|(calls, dying)| crash_at(calls, dying))).await;
}

/// Runs a process that crashes at its store call number `calls` after its start, and another
/// process that delivers the remaining messages.
async fn crash_at(calls: i64, dying: Dying) {
    let server = NatsProcess::start(&[]);
    let context = stream(&server).await;
    let outside = Outside::new();
    let triggers = vec![trigger(&server, json!({}))];
    let mortal = Mortal::new(&outside.store, i64::MAX, dying);
    let as_store: Arc<dyn Store> = mortal.clone();
    let first = outside.open(&as_store, triggers.clone()).await.expect("the first process");
    mortal.die_at(calls);
    for number in 0..5 {
        publish(&context, "orders.new", format!("{number}").into_bytes()).await;
    }
    until("the store failed", async || {
        let _ = first.tick().await;
        mortal.dead.is_cancelled()
    })
    .await;
    first.stop();
    let second = outside.open(&outside.store, triggers).await.expect("the second process");
    outside.until_all(&second, 5).await;
}

#[tokio::test]
async fn a_stream_with_a_password_is_read_and_faults_are_shown() {
    let server = NatsProcess::start(&["--user", "ana", "--pass", "secret"]);
    let options = async_nats::ConnectOptions::with_user_and_password("ana".into(), "secret".into());
    let client = options.connect(server.url()).await.expect("a client");
    let context = jetstream::new(client);
    let outside = Outside::new();
    let secrets = outside.secrets();
    secrets.set("NATS_PASSWORD", "secret", "test").await.expect("a secret");
    secrets.set("WRONG", "other", "test").await.expect("a secret");
    let open = async |secret: &str| {
        let source = trigger(&server, json!({"user": "ana", "secret": secret}));
        outside.open(&outside.store, vec![source]).await.expect("triggers")
    };
    let error = open("WRONG").await.list()[0].error.clone().expect("a fault");
    assert!(error.message.to_lowercase().contains("authorization"), "{error}");
    let triggers = open("NATS_PASSWORD").await;
    let error = triggers.list()[0].error.clone().expect("a fault");
    assert!(error.message.contains("stream `ORDERS`"), "{error}");

    let subjects = vec!["orders.>".to_owned()];
    let config = stream::Config { name: "ORDERS".into(), subjects, ..stream::Config::default() };
    context.create_stream(config).await.expect("a stream");
    publish(&context, "orders.new", b"x".to_vec()).await;
    outside.until_all(&triggers, 1).await;
    assert_eq!(triggers.list()[0].error, None);
}
