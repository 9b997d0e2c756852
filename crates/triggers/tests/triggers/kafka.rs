//! Records of Kafka topics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use headwater_model::{
    Actor, AuthMethod, AuthenticatedUser, ErrorCode, Event, EventData, KafkaRecord, Timestamp,
    Trigger,
};
use headwater_store::Store;
use headwater_triggers::{ConnectionPolicy, Triggers, function_argument};
use serde_json::{Value, json};

use crate::external_servers::{HOUR_SCALE, Outside, until_fault};
use crate::kafka_server::KafkaProcess;
use crate::support::{Dying, Mortal, until};

/// Partitions of a topic in the mock cluster.
const PARTITIONS: i32 = 4;

impl Outside {
    /// The committed events, in the order of their first attempts.
    fn attempted(&self) -> Vec<Event> {
        let commits = self.tables.commits.lock().expect("commits");
        let tries = self.tables.tries.lock().expect("tries");
        let mut seen = BTreeSet::new();
        let is_first =
            |event: &&Event| commits.contains_key(&event.id) && seen.insert(event.id.clone());
        tries.iter().filter(is_first).cloned().collect()
    }

    /// The records of each partition, in the order of their events.
    fn records(&self) -> BTreeMap<i32, Vec<KafkaRecord>> {
        let mut records: BTreeMap<i32, Vec<KafkaRecord>> = BTreeMap::new();
        for event in self.attempted() {
            match event.data {
                EventData::KafkaReceived { partition, records: new, .. } => {
                    records.entry(partition).or_default().extend(new);
                }
                data => panic!("another event: {data:?}"),
            }
        }
        records
    }

    fn payloads(&self, partition: i32) -> Vec<Value> {
        let records = self.records().remove(&partition).unwrap_or_default();
        records.into_iter().map(|record| record.payload).collect()
    }

    /// Polls until this number of records has arrived. Checks that no record has arrived twice, and
    /// that each partition is in order.
    async fn until_count(&self, triggers: &Triggers, count: usize) {
        until("all records arrived", async || {
            // The store of a process that crashed returns errors.
            let _ = triggers.tick().await;
            self.records().values().map(Vec::len).sum::<usize>() >= count
        })
        .await;
        let records = self.records();
        assert_eq!(records.values().map(Vec::len).sum::<usize>(), count);
        for records in records.values() {
            let in_order = records.windows(2).all(|pair| pair[0].offset < pair[1].offset);
            assert!(in_order, "{records:?}");
        }
    }
}

fn trigger(cluster: &KafkaProcess, source: Value) -> Trigger {
    let mut source = source;
    source["servers"] = json!(cluster.servers());
    source["topic"] = json!("orders");
    let trigger = json!({"name": "orders", "run": true, "kafka": source});
    serde_json::from_value(trigger).expect("a trigger")
}

fn create(cluster: &mut KafkaProcess) {
    let partitions = cluster.run(&json!({"do": "topic", "topic": "orders"}));
    assert_eq!(partitions, json!(PARTITIONS));
}

fn values(texts: impl IntoIterator<Item = usize>) -> Value {
    texts.into_iter().map(|text| json!({"value": text.to_string()})).collect()
}

#[tokio::test]
async fn records_are_events_with_key_headers_and_payload() {
    let mut cluster = KafkaProcess::start();
    create(&mut cluster);
    let headers = json!([["h", null], ["h", "text"], ["bytes", "\u{80}"]]);
    let records = json!([
        {"key": "k", "value": "{\"id\": 1}", "headers": headers},
        {"key": "\u{ff}", "value": "\u{ff}\u{0}"},
        {"key": "deleted", "value": null},
        {"value": ""},
    ]);
    cluster.produce("orders", 2, &records);
    let outside = Outside::new();
    let source = trigger(&cluster, json!({"batch": 100}));
    let triggers = outside.start(source.clone()).await;
    outside.until_count(&triggers, 4).await;
    let records = outside.records().remove(&2).expect("records");
    assert_eq!((records[0].offset, records[0].key.as_deref()), (0, Some("k")));
    assert_eq!(records[0].payload, json!({"id": 1}));
    assert_eq!(records[0].headers, BTreeMap::from([("h".to_owned(), "text".to_owned())]));
    assert_eq!(records[1].key.as_deref(), Some("/w=="));
    assert_eq!((&records[1].payload, records[1].is_base64), (&json!("/wA="), true));
    assert_eq!((records[2].key.as_deref(), &records[2].payload), (Some("deleted"), &Value::Null));
    assert_eq!((records[3].key.as_deref(), &records[3].payload), (None, &json!("")));
    let event = &outside.attempted()[0];
    assert_eq!(event.subject.as_deref(), Some("orders-2"));
    assert_eq!(event.source, format!("kafka://{}/orders", cluster.servers()));
    assert_eq!(event.time, records[0].time);
    let argument = function_argument(&source, event);
    assert_eq!(argument["eventSource"], "aws:SelfManagedKafka");
    assert_eq!(argument["bootstrapServers"], cluster.servers());
    let first = &argument["records"]["orders-2"][0];
    assert_eq!((&first["key"], &first["value"]), (&json!("aw=="), &json!("eyJpZCI6IDF9")));
    assert_eq!(first["headers"][2], json!({"bytes": [-128]}));
    assert_eq!(first["timestampType"], "CREATE_TIME");
    assert_eq!(first["timestamp"], records[0].time.timestamp_millis());
    let format = trigger(&cluster, json!({"format": "cloudevents"}));
    assert_eq!(function_argument(&format, event), json!(event));
}

#[tokio::test]
async fn batches_of_each_codec_are_read_and_control_records_skipped() {
    let mut cluster = KafkaProcess::start();
    create(&mut cluster);
    // The end of a transaction, as a server writes it.
    let control = control_batch();
    let raw = json!({"do": "raw", "topic": "orders", "partition": 0, "batch": control});
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let record = json!({"value": codec, "repeat": 200});
        cluster.produce_with(codec, "orders", 0, &json!([record, record, record]));
        assert_eq!(cluster.run(&raw)[0], 0, "the server accepts the control record");
    }
    let outside = Outside::new();
    let triggers = outside.start(trigger(&cluster, json!({"batch": 10}))).await;
    outside.until_count(&triggers, 15).await;
    let payloads = outside.payloads(0);
    for (number, codec) in ["none", "gzip", "snappy", "lz4", "zstd"].iter().enumerate() {
        for payload in &payloads[number * 3..number * 3 + 3] {
            assert_eq!(payload, &json!(codec.repeat(200)));
        }
    }
    let offsets: Vec<i64> = outside.records()[&0].iter().map(|record| record.offset).collect();
    assert_eq!(offsets, [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18]);
    assert_eq!(triggers.list()[0].error, None);
}

/// Returns a batch with the control record of a committed transaction, in base64.
fn control_batch() -> String {
    let record = [32, 0, 0, 0, 8, 0, 0, 0, 1, 12, 0, 0, 0, 0, 0, 0, 0];
    let mut checked = 0x30_i16.to_be_bytes().to_vec();
    checked.extend([0; 4 + 8 + 8]);
    checked.extend(5_i64.to_be_bytes());
    checked.extend([0; 2 + 4]);
    checked.extend(1_i32.to_be_bytes());
    checked.extend(record);
    let length = i32::try_from(checked.len() + 9).expect("a length");
    let mut batch = [0; 8].to_vec();
    batch.extend(length.to_be_bytes());
    batch.extend([0, 0, 0, 0, 2]);
    batch.extend(crc32c::crc32c(&checked).to_be_bytes());
    batch.extend(checked);
    STANDARD.encode(batch)
}

#[tokio::test]
async fn a_lost_kafka_server_loses_and_doubles_no_record() {
    let mut cluster = KafkaProcess::start();
    create(&mut cluster);
    let outside = Outside::new();
    let source = || trigger(&cluster, json!({"batch": 7}));
    let definition = source();
    let process = outside.start(source()).await;
    for partition in 0..PARTITIONS {
        cluster.produce("orders", partition, &values(0..50));
    }
    process.tick().await.expect("a tick");
    cluster.run(&json!({"do": "down"}));
    let fault = until_fault(&process, "Kafka at").await;
    assert_eq!(fault.code, ErrorCode::Unavailable, "{fault}");
    for partition in 0..PARTITIONS {
        cluster.produce("orders", partition, &values(50..80));
    }
    cluster.run(&json!({"do": "up"}));
    outside.until_count(&process, 320).await;
    until("the fault is gone", async || {
        process.tick().await.expect("a tick");
        process.list()[0].error.is_none()
    })
    .await;
    process.stop();

    // Another process with the same store continues.
    let next = outside.start(definition).await;
    cluster.produce("orders", 3, &values(80..90));
    outside.until_count(&next, 330).await;
}

#[tokio::test]
async fn a_kafka_server_that_is_away_for_an_hour_loses_no_record() {
    let mut cluster = KafkaProcess::start();
    create(&mut cluster);
    let outside = Outside { time_scale: HOUR_SCALE, ..Outside::new() };
    let process = outside.start(trigger(&cluster, json!({"batch": 7}))).await;
    cluster.produce("orders", 0, &values(0..50));
    process.tick().await.expect("a tick");
    cluster.run(&json!({"do": "down"}));
    until_fault(&process, "Kafka at").await;
    outside.wait_an_hour(&process).await;
    cluster.produce("orders", 0, &values(50..80));
    cluster.run(&json!({"do": "up"}));
    outside.until_count(&process, 80).await;
    until("the fault is gone", async || {
        process.tick().await.expect("a tick");
        process.list()[0].error.is_none()
    })
    .await;
}

#[tokio::test]
async fn a_crash_at_any_call_of_the_store_loses_and_doubles_no_record() {
    let mut cluster = KafkaProcess::start();
    create(&mut cluster);
    for calls in 1..=5 {
        for dying in [Dying::Before, Dying::After] {
            crash_at(&mut cluster, calls, dying).await;
        }
    }
}

/// Runs a process that crashes at the `calls`-th call of the store after its start, and another
/// process that delivers the remaining records.
async fn crash_at(cluster: &mut KafkaProcess, calls: i64, dying: Dying) {
    let outside = Outside::new();
    let source = || trigger(cluster, json!({"start": "new", "batch": 2}));
    let (first_source, second_source) = (source(), source());
    let mortal = Mortal::new(&outside.store, i64::MAX, dying);
    let as_store: Arc<dyn Store> = mortal.clone();
    let first = outside.open(&as_store, vec![first_source]).await.expect("the first process");
    mortal.die_at(calls);
    cluster.produce("orders", 0, &values(0..5));
    cluster.produce("orders", 1, &values(0..5));
    until("the store failed", async || {
        let _ = first.tick().await;
        mortal.dead.is_cancelled()
    })
    .await;
    first.stop();
    let second = outside.start(second_source).await;
    outside.until_count(&second, 10).await;
}

#[tokio::test]
async fn a_trigger_starts_at_its_position() {
    let mut cluster = KafkaProcess::start();
    create(&mut cluster);
    cluster.produce("orders", 0, &values([1]));
    tokio::time::sleep(Duration::from_millis(5)).await;
    let between = chrono::Utc::now();
    tokio::time::sleep(Duration::from_millis(5)).await;
    cluster.produce("orders", 0, &values([2]));
    let (new, since) = (Outside::new(), Outside::new());
    let of_new = new.start(trigger(&cluster, json!({"start": "new"}))).await;
    of_new.stop();
    // A record that arrives while no process runs is not missed.
    cluster.produce("orders", 0, &values([3]));
    let of_new = new.start(trigger(&cluster, json!({"start": "new"}))).await;
    new.until_count(&of_new, 1).await;
    assert_eq!(new.payloads(0), [json!("3")]);
    let start = between.to_rfc3339();
    let of_since = since.start(trigger(&cluster, json!({"start": start}))).await;
    since.until_count(&of_since, 2).await;
    assert_eq!(since.payloads(0), [json!("2"), json!("3")]);
}

#[tokio::test]
async fn partitions_that_are_added_later_are_read_from_their_first_record() {
    let mut cluster = KafkaProcess::start();
    create(&mut cluster);
    cluster.run(&json!({"do": "show", "partitions": 1}));
    cluster.produce("orders", 0, &values([1]));
    let outside = Outside::new();
    let triggers = outside.start(trigger(&cluster, json!({"start": "new"}))).await;
    cluster.produce("orders", 0, &values([2]));
    outside.until_count(&triggers, 1).await;
    cluster.produce("orders", 1, &values([3, 4]));
    cluster.run(&json!({"do": "show", "partitions": 2}));
    outside.until_count(&triggers, 3).await;
    assert_eq!(outside.payloads(1), [json!("3"), json!("4")]);
}

#[tokio::test]
async fn a_missing_topic_is_an_error_until_it_exists() {
    let mut cluster = KafkaProcess::start();
    let outside = Outside::new();
    let triggers = outside.start(trigger(&cluster, json!({}))).await;
    until_fault(&triggers, "topic `orders` does not exist").await;
    create(&mut cluster);
    cluster.produce("orders", 0, &values([1]));
    outside.until_count(&triggers, 1).await;
}

#[tokio::test]
async fn records_that_the_cluster_deleted_are_shown_and_large_records_read() {
    let mut cluster = KafkaProcess::start();
    create(&mut cluster);
    let outside = Outside::new();
    let source = || trigger(&cluster, json!({"batch": 100}));
    let (one, other) = (source(), source());
    let process = outside.start(one).await;
    cluster.produce("orders", 0, &json!([{"value": "first"}]));
    outside.until_count(&process, 1).await;
    process.stop();
    // The mock cluster keeps 5 MiB of each partition.
    for _ in 0..4 {
        cluster.produce("orders", 0, &json!([{"value": "x", "repeat": 2 << 20}]));
    }
    cluster.produce("orders", 0, &json!([{"value": "last"}]));
    let next = outside.start(other).await;
    let fault = until_fault(&next, "no longer had the records 1 to").await;
    assert!(fault.message.contains("partition 0 of topic `orders`"), "{fault}");
    until("the last record arrived", async || {
        next.tick().await.expect("a tick");
        outside.payloads(0).last() == Some(&json!("last"))
    })
    .await;
    let large = &outside.payloads(0)[1];
    assert_eq!(large.as_str().map(str::len), Some(2 << 20));
    // The loss of records is shown for one day.
    outside.clock.advance(Duration::from_hours(25));
    next.tick().await.expect("a tick");
    assert_eq!(next.list()[0].error, None);
}

#[tokio::test]
async fn records_wait_until_the_batch_is_complete_or_the_window_ends() {
    let mut cluster = KafkaProcess::start();
    create(&mut cluster);
    let outside = Outside::new();
    let source = trigger(&cluster, json!({"batch": 3, "window": "2s"}));
    let triggers = outside.start(source).await;
    for number in 0..4 {
        cluster.produce("orders", 0, &values([number]));
    }
    outside.until_count(&triggers, 4).await;
    let events = outside.attempted();
    let sizes: Vec<usize> = events.iter().map(|event| event.payloads().len()).collect();
    assert_eq!(sizes, [3, 1]);
}

#[tokio::test]
async fn servers_with_tls_and_a_login_are_read() {
    let names = vec!["127.0.0.1".to_owned()];
    let certified = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let outside = Outside::new();
    let path = |name: &str| outside.folder.path().join(name);
    std::fs::write(path("cert.pem"), certified.cert.pem()).expect("a file");
    std::fs::write(path("key.pem"), certified.signing_key.serialize_pem()).expect("a file");
    let options = json!({"proxy": true, "users": {"ana": "s3cret"},
        "tls": [path("cert.pem"), path("key.pem")]});
    let mut cluster = KafkaProcess::start_with(&options);
    create(&mut cluster);
    let secrets = outside.secrets();
    for (name, value) in
        [("CA", certified.cert.pem().as_str()), ("RIGHT", "s3cret"), ("WRONG", "other")]
    {
        secrets.set(name, value, "test").await.expect("a secret");
    }
    let source = |mechanism: &str, secret: &str, ca: Value| {
        let mut source = json!({"tls": true, "user": "ana", "secret": secret, "start": "new",
            "mechanism": mechanism});
        source["ca"] = ca;
        trigger(&cluster, source)
    };
    let untrusted = source("plain", "RIGHT", Value::Null);
    let sources = ["plain", "scram-sha-256", "scram-sha-512"]
        .map(|mechanism| ["WRONG", "RIGHT"].map(|secret| source(mechanism, secret, json!("CA"))));
    let triggers = outside.start(untrusted).await;
    until_fault(&triggers, "certificate").await;
    triggers.stop();
    for (number, [wrong, right]) in sources.into_iter().enumerate() {
        let triggers = outside.start(wrong).await;
        until_fault(&triggers, "the user or the password is wrong").await;
        triggers.stop();
        let triggers = outside.start(right).await;
        cluster.produce("orders", 0, &values([number]));
        outside.until_count(&triggers, number + 1).await;
        triggers.stop();
    }
}

#[tokio::test]
async fn triggers_of_a_user_do_not_reach_the_host_without_a_grant() {
    let mut cluster = KafkaProcess::start();
    create(&mut cluster);
    let outside = Outside::new();
    let allowed = format!("kafka://{}", cluster.servers());
    let ana = Actor::User(Box::new(AuthenticatedUser {
        name: "ana".to_owned(),
        created: Timestamp::UNIX_EPOCH,
        method: AuthMethod::Token,
        token: None,
        scopes: None,
        expires: None,
    }));
    let user = |allows: bool| {
        let allowed = allowed.clone();
        let allows = move |location: &str| allows && location == allowed;
        ConnectionPolicy::restricted(ana.clone(), Arc::new(allows))
    };
    let port = cluster.servers().rsplit(':').next().expect("a port");
    let sources = [
        json!({"kafka": {"servers": cluster.servers(), "topic": "orders"}}),
        json!({"kafka": {"servers": format!("localhost:{port}"), "topic": "orders"}}),
        json!({"nats": {"url": "nats://127.0.0.1:4222", "stream": "s"}}),
        json!({"nats": {"url": "tls://[::1]:4222", "stream": "s"}}),
        json!({"postgres": {"url": "postgres://u@127.0.0.1/d", "channel": "c"}}),
        json!({"postgres": {"url": "postgres://u@10.0.0.1/d?sslmode=verify-full", "outbox": "t"}}),
    ];
    for source in sources {
        let mut trigger = json!({"name": "t", "run": true});
        trigger
            .as_object_mut()
            .expect("an object")
            .extend(source.as_object().cloned().into_iter().flatten());
        let trigger: Trigger = serde_json::from_value(trigger).expect("a trigger");
        let triggers =
            outside.open_for(&outside.store, vec![trigger], user(false)).await.expect("triggers");
        let fault = until_fault(&triggers, "user `ana` may not").await;
        assert_eq!(fault.code, ErrorCode::Forbidden, "{source}: {fault}");
        triggers.stop();
    }
    let granted = trigger(&cluster, json!({}));
    let triggers =
        outside.open_for(&outside.store, vec![granted], user(true)).await.expect("triggers");
    cluster.produce("orders", 0, &values([1]));
    outside.until_count(&triggers, 1).await;
}
