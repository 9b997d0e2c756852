//! Events in the formats of AWS, compared with the types and examples of the crate
//! `aws_lambda_events`. Each field that AWS sends is present.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lambda_events::eventbridge::EventBridgeEvent;
use aws_lambda_events::lambda_function_urls::{
    LambdaFunctionUrlRequest, LambdaFunctionUrlResponse,
};
use aws_lambda_events::s3::S3Event;
use aws_lambda_events::sqs::SqsEvent;
use libtest_mimic::Trial;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::bucket_triggers::write;
use crate::s3_clients::{address, python, run, started};
use crate::support::{TestServer, bearer};
use crate::{clients, trial};

pub fn trials() -> Vec<Trial> {
    vec![trial("events::have_each_field_of_the_examples_of_aws", shapes)]
}

const PROJECT: &str = r#"
[project]
name = "shapes"

[[trigger]]
name = "object"
bucket = { name = "landing", prefix = "in/", events = ["created", "removed"] }
function = "keep"

[[trigger]]
name = "schedule"
schedule = { cron = "* * * * * *" }
function = "keep"

[[trigger]]
name = "queue"
queue = "orders"
function = "keep"

[[trigger]]
name = "fifo"
queue = "orders.fifo"
function = "keep"
"#;

const KEEP: &str = "\
import headwater


@headwater.function(reuse=True)
def keep(event):
    return event
";

/// Fields of the examples that events of Headwater do not have, with the reason.
const S3_ABSENT: [&str; 1] = [
    // Only for buckets with versions, which Headwater does not have.
    ".Records[].s3.object.versionId",
];
const URL_ABSENT: [&str; 10] = [
    // Only for API Gateway, whose examples have the same format.
    ".pathParameters",
    ".stageVariables",
    // Only with client certificates.
    ".requestContext.authentication",
    // Only for users of Cognito and of an organisation of AWS.
    ".requestContext.authorizer.iam.cognitoIdentity",
    ".requestContext.authorizer.iam.principalOrgId",
    // Headers that the client of the example sent.
    ".headers.accept",
    ".headers.content-length",
    ".headers.Header1",
    ".headers.Header2",
    // The example is not signed.
    ".requestContext.authorizer",
];

/// JSON objects that are maps: their keys are not fields of a type.
const MAPS: [&str; 3] =
    [".queryStringParameters", ".Records[].messageAttributes", ".Records[].attributes"];

/// Returns the paths of the non-null fields of a value.
fn fields(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    add_fields(value, String::new(), &mut found);
    found
}

fn add_fields(value: &Value, path: String, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) if !MAPS.contains(&path.as_str()) => {
            for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                let path = format!("{path}.{name}");
                found.insert(path.clone());
                add_fields(value, path, found);
            }
        }
        Value::Array(values) => {
            for value in values {
                add_fields(value, format!("{path}[]"), found);
            }
        }
        _ => {}
    }
}

fn is_absent(path: &str, absent: &[&str]) -> bool {
    absent.iter().any(|one| {
        path.strip_prefix(one).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

/// Checks that an event has each field of an example.
pub fn check_example(event: &Value, example: &str, absent: &[&str]) {
    let text = std::fs::read_to_string(examples().join(example)).expect("an example");
    let expected: Value = serde_json::from_str(&text).expect("JSON");
    let (expected, found) = (fields(&expected), fields(event));
    let is_missing = |path: &&String| !found.contains(*path) && !is_absent(path, absent);
    let missing: Vec<&String> = expected.iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "{example}: {missing:?} are missing in\n{event:#}");
}

/// Parses an event, and checks that each field of its type is present.
pub fn check_type<T: Serialize + DeserializeOwned>(event: &Value, absent: &[&str]) -> T {
    let parsed: T = serde_json::from_value(event.clone()).expect("an event");
    let written = serde_json::to_value(&parsed).expect("JSON");
    let mut nulls = BTreeSet::new();
    add_nulls(&written, String::new(), &mut nulls);
    nulls.retain(|path| !is_absent(path, absent));
    assert!(nulls.is_empty(), "{nulls:?} are missing in\n{event:#}");
    parsed
}

fn add_nulls(value: &Value, path: String, found: &mut BTreeSet<String>) {
    match value {
        Value::Null => {
            found.insert(path);
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                add_nulls(value, format!("{path}.{name}"), found);
            }
        }
        Value::Array(values) => {
            for value in values {
                add_nulls(value, format!("{path}[]"), found);
            }
        }
        _ => {}
    }
}

/// Returns the folder with the examples, in the sources of the crate.
fn examples() -> PathBuf {
    let mut command = Command::new("cargo");
    command.args(["metadata", "--format-version", "1", "--locked"]);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    let metadata: Value = serde_json::from_str(&clients::run(&mut command)).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let found = packages.iter().find(|package| package["name"] == "aws_lambda_events");
    let manifest = found.and_then(|package| package["manifest_path"].as_str()).expect("the crate");
    Path::new(manifest).parent().expect("a folder").join("src/fixtures")
}

async fn deployed() -> TestServer {
    let server = started().await;
    write(server.folder.path(), "headwater.toml", PROJECT);
    write(server.folder.path(), "functions/keep.py", KEEP);
    let deployed = server.deploy().await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    server
}

/// Returns the events that the function received from a trigger, oldest first.
async fn received(server: &TestServer, trigger: &str, count: usize) -> Vec<Value> {
    let path = format!("/v1/trigger-events?status=done&trigger={trigger}");
    let is_done = |events: &Value| events.as_array().is_some_and(|events| events.len() >= count);
    let events = server.until(&path, is_done).await;
    let mut received = Vec::new();
    for event in events.as_array().expect("events").iter().rev() {
        let job = event["job"].as_str().expect("a job");
        let job = server.get(&format!("/v1/jobs/{job}")).await;
        received.push(job["result"]["function"].clone());
    }
    received
}

async fn shapes() {
    let server = deployed().await;
    let http = server.running.http_addr().expect("an address");
    let header = bearer(&server.running);
    let token = header.to_str().expect("text").trim_start_matches("Bearer ").to_owned();
    let mut command = Command::new(python());
    command.arg(clients::client("event_shapes.py")).env("AWS_CONFIG_FILE", "/dev/null");
    command.args([format!("http://{http}"), format!("http://{}", address(&server)), token]);
    let printed: Value = serde_json::from_str(&run(command).await).expect("JSON");

    check_objects(&received(&server, "object", 2).await);
    let scheduled = received(&server, "schedule", 1).await.remove(0);
    check_example(&scheduled, "example-eventbridge-schedule.json", &[]);
    // The details of a virtual machine of AWS.
    let details = [".detail.instance-id", ".detail.state"];
    check_example(&scheduled, "example-eventbridge-event-obj.json", &details);
    let parsed: EventBridgeEvent = check_type(&scheduled, &[]);
    assert_eq!((parsed.detail_type.as_str(), parsed.detail), ("Scheduled Event", json!({})));
    for queue in ["queue", "fifo"] {
        check_messages(&received(&server, queue, 1).await[0], queue == "fifo");
    }
    check_urls(&printed);
    server.running.shutdown().await;
}

fn check_objects(events: &[Value]) {
    check_example(&events[0], "example-s3-event.json", &S3_ABSENT);
    // AWS does not send this field: its libraries add it.
    let absent = [&S3_ABSENT[..], &[".Records[].s3.object.urlDecodedKey"]].concat();
    check_example(&events[0], "example-s3-event-with-decoded.json", &absent);
    let created: S3Event = check_type(&events[0], &absent);
    let record = &created.records[0];
    assert_eq!(record.event_name.as_deref(), Some("ObjectCreated:Put"));
    assert_eq!(record.principal_id.principal_id.as_deref(), Some("owner"));
    assert_eq!(record.request_parameters.source_ip_address.as_deref(), Some("127.0.0.1"));
    assert_eq!(record.s3.object.key.as_deref(), Some("in/Happy+Face.csv"));
    assert_eq!(record.s3.object.size, Some(4));
    // A deletion has no size and no entity tag.
    let object = [".Records[].s3.object.size", ".Records[].s3.object.eTag"];
    let removed: S3Event = check_type(&events[1], &[&absent[..], &object].concat());
    assert_eq!(removed.records[0].event_name.as_deref(), Some("ObjectRemoved:Delete"));
    let sequencer = |event: &S3Event| event.records[0].s3.object.sequencer.clone();
    assert!(sequencer(&created) < sequencer(&removed));
}

fn check_messages(event: &Value, is_fifo: bool) {
    for example in ["example-sqs-event.json", "example-sqs-event-obj.json"] {
        check_example(event, example, &[]);
    }
    let absent =
        ["text", "number", "binary"].map(|name| format!(".Records[].messageAttributes.{name}"));
    let absent: Vec<&str> = absent.iter().map(String::as_str).collect();
    let parsed: SqsEvent = check_type(event, &absent);
    let message = &parsed.records[0];
    assert_eq!(message.body.as_deref(), Some("text"));
    let kinds = ["text", "number", "binary"].map(|name| {
        let attribute = &message.message_attributes[name];
        let value = (attribute.string_value.is_some(), attribute.binary_value.is_some());
        (attribute.data_type.clone().unwrap_or_default(), value)
    });
    let [text, binary] = [(true, false), (false, true)];
    let expected = [("String", text), ("Number.int", text), ("Binary", binary)];
    assert_eq!(kinds, expected.map(|(kind, value)| (kind.to_owned(), value)));
    let mut names = vec![
        "ApproximateReceiveCount",
        "SentTimestamp",
        "SenderId",
        "ApproximateFirstReceiveTimestamp",
    ];
    if is_fifo {
        names.extend(["MessageGroupId", "MessageDeduplicationId", "SequenceNumber"]);
    }
    let found: BTreeSet<&str> = message.attributes.keys().map(String::as_str).collect();
    assert_eq!(found, names.into_iter().collect());
}

fn check_urls(printed: &Value) {
    let (open, signed) = (&printed["url"], &printed["signed"]);
    check_example(open, "example-apigw-v2-request-no-authorizer.json", &URL_ABSENT);
    check_example(open, "example-apigw-v2-request-multi-value-parameters.json", &URL_ABSENT);
    let of_signed = &URL_ABSENT[..URL_ABSENT.len() - 1];
    check_example(signed, "example-apigw-v2-request-iam.json", of_signed);
    let parsed: LambdaFunctionUrlRequest = check_type(open, &URL_ABSENT);
    assert_eq!(parsed.raw_path.as_deref(), Some("/my/path"));
    assert_eq!(parsed.query_string_parameters["x"], "1,2");
    assert_eq!(parsed.cookies.as_deref(), Some(&["c=1".to_owned(), "d=2".to_owned()][..]));
    assert_eq!(parsed.headers["x-forwarded-for"], "127.0.0.1");
    let parsed: LambdaFunctionUrlRequest = check_type(signed, of_signed);
    let authorizer = parsed.request_context.authorizer.expect("an authorizer");
    assert!(authorizer.iam.is_some_and(|iam| iam.access_key.is_some()));
    let response: LambdaFunctionUrlResponse = check_type(&printed["response"], &[]);
    assert_eq!((response.status_code, response.is_base64_encoded), (201, true));
}
