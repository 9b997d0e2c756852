//! Triggers on real PostgreSQL and NATS servers and on a Kafka cluster, through the HTTP API.

use async_nats::jetstream::{self, stream};
use aws_lambda_events::kafka::KafkaEvent;
use hyper::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::event_shapes::{check_example, check_type};
use crate::kafka_server::KafkaProcess;
use crate::servers::{NatsProcess, PASSWORD, PostgresProcess};
use crate::signed::{self, Signed};
use crate::support::{TestServer, request};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("triggers::a_row_in_postgresql_starts_a_run_with_its_values", row_starts_run),
        trial("triggers::messages_of_a_killed_nats_server_are_in_the_table_once", messages),
        trial("triggers::records_of_kafka_reach_a_table_once_in_the_event_of_aws", records),
        trial("triggers::an_event_source_mapping_of_kafka_delivers_each_record", mapping),
        trial("triggers::a_deployment_checks_the_secrets_of_triggers", secrets),
    ]
}

/// Number of messages sent before, and sent after, the server is killed.
const MESSAGES: usize = 60;

const TABLE: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, customer text);
    CREATE FUNCTION created() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_notify('orders', to_jsonb(NEW)::text); RETURN NEW; END $$;
    CREATE TRIGGER created AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION created()";

fn write(server: &TestServer, path: &str, text: &str) {
    let path = server.folder.path().join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}

async fn deploy(server: &TestServer, trigger: &str) {
    write(server, "headwater.toml", &format!("[project]\nname = \"shop\"\n\n{trigger}"));
    let deployed = server.deploy().await;
    assert!(deployed.get("code").is_none(), "{deployed}");
}

async fn row_starts_run() {
    let started = tokio::task::spawn_blocking(PostgresProcess::start);
    let postgres = started.await.expect("PostgreSQL");
    postgres.sql(TABLE);
    let server = TestServer::start().await;
    let secret = json!({"value": PASSWORD});
    let set = server.send(request(Method::PUT, "/v1/secrets/SHOP_PASSWORD", Some(&secret))).await;
    assert!(set.status().is_success(), "{}", set.status());
    let model = "-- headwater: materialization = append\nSELECT $id AS id, $customer AS customer\n";
    write(&server, "models/seen.sql", model);
    let trigger = format!(
        "[[trigger]]\nname = \"order\"\nrun = true\n\
         postgres = {{ url = \"{}\", secret = \"SHOP_PASSWORD\", channel = \"orders\" }}\n\
         parameters = {{ id = \"{{payload.id}}\", customer = \"{{payload.customer}}\" }}\n\n\
         [parameters.id]\ntype = \"int\"\ndefault = 0\n\n[parameters.customer]\ndefault = \"\"\n",
        postgres.url()
    );
    deploy(&server, &trigger).await;
    let triggers = server.get("/v1/triggers").await;
    assert_eq!(triggers[0]["error"], Value::Null, "{triggers}");
    postgres.sql("INSERT INTO orders VALUES (7, 'Ada'), (8, 'O''Brien; {time}')");
    let is_done = |events: &Value| events.as_array().is_some_and(|events| events.len() == 2);
    server.until("/v1/trigger-events?status=done", is_done).await;
    let seen = server.rows("SELECT id, customer FROM seen ORDER BY id").await;
    let expected = json!([{"id": 7, "customer": "Ada"}, {"id": 8, "customer": "O'Brien; {time}"}]);
    assert_eq!(seen, expected);
    server.running.shutdown().await;
}

async fn publish(nats: &NatsProcess, numbers: std::ops::Range<usize>) {
    let context = jetstream::new(async_nats::connect(nats.url()).await.expect("a client"));
    let subjects = vec!["readings".to_owned()];
    let config = stream::Config { name: "READINGS".into(), subjects, ..stream::Config::default() };
    context.get_or_create_stream(config).await.expect("a stream");
    for number in numbers {
        let payload = json!({"number": number}).to_string();
        let sent = context.publish("readings", payload.into()).await.expect("a message");
        sent.await.expect("an acknowledgement");
    }
}

async fn messages() {
    let started = tokio::task::spawn_blocking(|| NatsProcess::start(&[]));
    let mut nats = started.await.expect("NATS");
    publish(&nats, 0..MESSAGES).await;
    let server = TestServer::start().await;
    let function = "import headwater\nfrom headwater import lake\n\n\n@headwater.function()\n\
                    def store(event):\n    messages = event[\"data\"][\"messages\"]\n    \
                    return lake.append(\"readings\", [one[\"payload\"] for one in messages])\n";
    write(&server, "functions/store.py", function);
    let trigger = format!(
        "[[trigger]]\nname = \"readings\"\nfunction = \"store\"\nconcurrency = 2\n\
         nats = {{ url = \"{}\", stream = \"READINGS\", batch = 20 }}\n",
        nats.url()
    );
    deploy(&server, &trigger).await;
    let has_some = |events: &Value| events.as_array().is_some_and(|events| !events.is_empty());
    server.until("/v1/trigger-events", has_some).await;
    nats.kill();
    let is_fault = |triggers: &Value| triggers[0]["error"]["code"] == "unavailable";
    server.until("/v1/triggers", is_fault).await;
    let nats = tokio::task::spawn_blocking(move || {
        nats.restart();
        nats
    });
    let nats = nats.await.expect("NATS");
    publish(&nats, MESSAGES..2 * MESSAGES).await;
    let sql = "SELECT count(*) AS n, count(DISTINCT number) AS d FROM readings";
    let body = json!({"sql": sql});
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(120);
    loop {
        let counted = server.post("/v1/query", body.clone()).await;
        let text = counted.to_string();
        assert!(tokio::time::Instant::now() < deadline, "{text}");
        if text.contains(&(2 * MESSAGES).to_string()) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let expected = json!([{"n": 2 * MESSAGES, "d": 2 * MESSAGES}]);
    assert_eq!(server.rows(sql).await, expected);
    server.running.shutdown().await;
}

/// A function that stores the whole event as text, and the values of its records.
const KEEP: &str = "import base64\nimport json\nimport headwater\nfrom headwater import lake\n\n\n\
    @headwater.function()\ndef keep(event):\n    \
    lake.append(\"events\", [{\"event\": json.dumps(event)}])\n    \
    records = [one for part in event[\"records\"].values() for one in part]\n    \
    rows = [{\"offset\": one[\"offset\"], \"partition\": one[\"partition\"],\n             \
    \"value\": base64.b64decode(one[\"value\"] or \"\").decode()} for one in records]\n    \
    return lake.append(\"seen\", rows)\n";

async fn records() {
    let started = tokio::task::spawn_blocking(KafkaProcess::start);
    let mut kafka = started.await.expect("Kafka");
    let numbers = |numbers: std::ops::Range<usize>| -> Value {
        let header = json!([["h", "a"]]);
        let record =
            |number: usize| json!({"key": "k", "value": format!("{number}"), "headers": header});
        numbers.map(record).collect()
    };
    let tombstone = json!([{"key": "gone", "value": null, "headers": [["h", "\u{80}a"]]}]);
    kafka.produce("orders", 1, &tombstone);
    kafka.produce("orders", 0, &numbers(0..MESSAGES));
    let server = TestServer::start().await;
    write(&server, "functions/keep.py", KEEP);
    let trigger = format!(
        "[[trigger]]\nname = \"orders\"\nfunction = \"keep\"\norder_by = \"subject\"\n\
         kafka = {{ servers = \"{}\", topic = \"orders\", batch = 20 }}\n",
        kafka.servers()
    );
    deploy(&server, &trigger).await;
    let has_some = |events: &Value| events.as_array().is_some_and(|events| !events.is_empty());
    server.until("/v1/trigger-events?status=done", has_some).await;
    kafka.run(&json!({"do": "down"}));
    let is_fault = |triggers: &Value| triggers[0]["error"]["code"] == "unavailable";
    server.until("/v1/triggers", is_fault).await;
    kafka.produce("orders", 0, &numbers(MESSAGES..2 * MESSAGES));
    kafka.run(&json!({"do": "up"}));
    let is_done =
        |triggers: &Value| triggers[0]["error"] == Value::Null && triggers[0]["pending"] == 0;
    let sql =
        "SELECT count(*) AS n, count(DISTINCT \"partition\" * 1000 + \"offset\") AS d FROM seen";
    let total = 2 * MESSAGES + 1;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(120);
    while server.rows(sql).await[0]["n"] != total {
        assert!(tokio::time::Instant::now() < deadline, "{}", server.rows(sql).await);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    server.until("/v1/triggers", is_done).await;
    assert_eq!(server.rows(sql).await, json!([{"n": total, "d": total}]));
    check_records(&server, kafka.servers()).await;
    server.running.shutdown().await;
}

/// Checks the events that the function received, and compares one with the example of AWS.
async fn check_records(server: &TestServer, servers: &str) {
    let mut example = None;
    for row in server.rows("SELECT event FROM events").await.as_array().expect("rows") {
        let text = row["event"].as_str().expect("text");
        let event: KafkaEvent = serde_json::from_str(text).expect("an event");
        assert_eq!(event.event_source.as_deref(), Some("aws:SelfManagedKafka"));
        assert_eq!(event.bootstrap_servers.as_deref(), Some(servers));
        for (partition, records) in &event.records {
            let expected = format!("orders-{}", records[0].partition);
            assert_eq!(partition, &expected);
            if records[0].partition == 1 {
                assert_eq!(records[0].value, None);
                assert_eq!(records[0].key.as_deref(), Some("Z29uZQ=="));
                assert_eq!(records[0].headers[0]["h"], [-128, 97]);
            } else {
                example = Some(text.to_owned());
            }
        }
    }
    let text = example.expect("an event of partition 0");
    // The example has other names of the topic and of the header.
    let text = text.replace("\"orders-0\"", "\"AWSKafkaTopic-0\"");
    let text = text.replace("\"h\"", "\"headerKey\"");
    let event: Value = serde_json::from_str(&text).expect("JSON");
    // Only Amazon's own clusters have an ARN.
    let absent = [".eventSourceArn"];
    check_example(&event, "example-kafka-event.json", &absent);
    let parsed: KafkaEvent = check_type(&event, &absent);
    assert_eq!(parsed.records.len(), 1);
}

/// A function that stops at the first record `bad`, and reports this record as AWS specifies.
const REPORT: &str = r#"
import base64

import headwater
from headwater import lake


@headwater.function()
def report(event):
    rows, failed = [], []
    for record in [one for part in event["records"].values() for one in part]:
        value = base64.b64decode(record["value"]).decode()
        if value == "bad":
            identifier = {"partition": "orders-0", "offset": record["offset"]}
            failed.append({"itemIdentifier": identifier})
            break
        rows.append({"value": value})
    if rows:
        lake.append("seen", rows)
    return {"batchItemFailures": failed}
"#;

async fn mapping() {
    let started = tokio::task::spawn_blocking(KafkaProcess::start);
    let mut kafka = started.await.expect("Kafka");
    kafka.produce("orders", 0, &json!([{"value": "1"}, {"value": "bad"}, {"value": "3"}]));
    let server = TestServer::start().await;
    write(&server, "functions/report.py", REPORT);
    deploy(&server, "").await;
    let url = format!("http://{}", server.running.http_addr().expect("an address"));
    let made = server.post("/v1/access-keys", json!({})).await;
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let key = Some((text(&made["key"]["id"]), text(&made["secret"])));
    let path = "/2015-03-31/event-source-mappings";
    let ask = async |method: &'static str, path: String, body: Value| -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Signed { body, ..Signed::new("lambda", &key, method, path) };
        let answer = signed::send(&url, &[request]).await.remove(0);
        serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
    };
    let body = json!({
        "FunctionName": "report",
        "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": [kafka.servers()]}},
        "Topics": ["orders"],
        "StartingPosition": "TRIM_HORIZON",
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "BisectBatchOnFunctionError": true,
        "MaximumRetryAttempts": 1,
    });
    let created = ask("POST", path.to_owned(), body).await;
    let id = text(&created["UUID"]);
    assert_eq!(created["BatchSize"], 100, "{created}");

    let has_some = |events: &Value| events.as_array().is_some_and(|events| !events.is_empty());
    let failed = server.until("/v1/trigger-events?status=failed", has_some).await;
    let records = failed[0]["data"]["records"].as_array().expect("records");
    assert_eq!((records.len(), &records[0]["payload"]), (1, &json!("bad")), "{failed}");
    let is_done = |triggers: &Value| triggers[0]["pending"] == 0;
    server.until("/v1/triggers", is_done).await;
    let seen = server.rows("SELECT value FROM seen ORDER BY value").await;
    assert_eq!(seen, json!([{"value": "1"}, {"value": "3"}]));

    let one = format!("{path}/{id}");
    let found = ask("GET", one.clone(), Value::Null).await;
    assert_eq!((&found["State"], &found["Topics"]), (&json!("Enabled"), &json!(["orders"])));
    assert_eq!(found["LastProcessingResult"], "OK");
    let updated = ask("PUT", one.clone(), json!({"BatchSize": 7})).await;
    assert_eq!((&updated["BatchSize"], &updated["MaximumRetryAttempts"]), (&json!(7), &json!(1)));
    let listed = ask("GET", path.to_owned(), Value::Null).await;
    assert_eq!(listed["EventSourceMappings"][0]["UUID"], json!(id));
    let deleted = ask("DELETE", one, Value::Null).await;
    assert_eq!(deleted["State"], "Deleting");
    assert_eq!(server.get("/v1/triggers").await, json!([]));
    server.running.shutdown().await;
}

async fn secrets() {
    let server = TestServer::start().await;
    let trigger = "[[trigger]]\nname = \"order\"\nrun = true\n\
        postgres = { url = \"postgres://u@127.0.0.1/d\", secret = \"ABSENT\", channel = \"c\" }\n";
    write(&server, "headwater.toml", &format!("[project]\nname = \"shop\"\n\n{trigger}"));
    let refused = server.deploy().await;
    assert_eq!(refused["code"], "secret_not_found", "{refused}");
    server.running.shutdown().await;
}
