//! Rights that are lost between the acceptance of an event and its delivery, and loops of events.

use std::process::Command;

use headwater_model::Principal;
use hyper::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::access::{Users, permission};
use crate::bucket_triggers::write;
use crate::s3_clients::{python, run, with_key};
use crate::support::{TestServer, deployment};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("events::a_call_of_a_user_without_the_right_fails_unexecuted", calls),
        trial("events::a_function_with_an_output_to_its_own_queue_is_called_once", loops),
        trial("events::a_mapping_with_an_output_to_its_own_queue_calls_once", mapped_loops),
        trial("events::a_message_waits_while_the_deployer_may_not_read_the_queue", messages),
        trial("events::a_trigger_belongs_to_the_user_that_created_it", owned),
        trial("events::an_event_waits_while_the_deployer_is_over_a_limit", limited),
    ]
}

/// A function that fails, so that its events wait for a retry.
const FLAKY: &str = "\
import headwater


@headwater.function(reuse=True)
def flaky(event):
    raise ValueError(\"not today\")
";

const KEEP: &str = "\
import headwater


@headwater.function(reuse=True)
def keep(event):
    return event
";

async fn calls() {
    let server = TestServer::start().await;
    write(server.folder.path(), "headwater.toml", "[project]\nname = \"shop\"\n");
    write(server.folder.path(), "functions/flaky.py", FLAKY);
    let deployed = server.deploy().await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    let users = Users::on(server).await;
    for name in ["ana", "ben"] {
        let token = users.user(name, &["invoke on function:flaky"]).await;
        let call = json!({"arguments": {"event": name}});
        let path = "/v1/functions/flaky/invoke-async";
        let (status, accepted) = users.send(&token, Method::POST, path, Some(call)).await;
        assert_eq!(status, 202, "{accepted}");
        let path = format!("/v1/trigger-events/{}", accepted["event"].as_str().expect("an id"));
        users.server.until(&path, |event| event["attempts"].as_u64() > Some(0)).await;
        let owner = Principal::owner();
        let expected = if name == "ana" {
            let granted = permission("invoke on function:flaky");
            users.access.revoke(&owner, name, granted).await.expect("revoked");
            "user `ana` may not invoke function `flaky`"
        } else {
            users.access.drop_user(&owner, name).await.expect("dropped");
            "user `ben` was dropped or disabled"
        };
        let attempts = |event: &Value| event["attempts"].as_u64().expect("a number");
        let failed = users.server.until(&path, |event| event["status"] == "failed").await;
        assert_eq!(failed["error"]["message"], expected, "{failed}");
        assert!(attempts(&failed) < 6, "the retries are left: {failed}");
        // The failed event is listed, and a replay has the same outcome.
        let listed = users.server.get("/v1/trigger-events?status=failed").await;
        assert!(listed.to_string().contains(expected), "{listed}");
        let replayed = users.server.post(&format!("{path}/replay"), json!({})).await;
        assert_eq!(replayed["attempts"], 0, "{replayed}");
        let failed = users.server.until(&path, |event| event["status"] == "failed").await;
        assert_eq!(attempts(&failed), 0, "the function was not called: {failed}");
    }
    users.server.running.shutdown().await;
}

/// Sends a message to a queue, which is created if it is missing.
async fn send(server: &TestServer, body: &str) {
    let script = format!(
        "import boto3, sys\n\
         sqs = boto3.client('sqs', endpoint_url=sys.argv[1])\n\
         url = sqs.create_queue(QueueName='orders')['QueueUrl']\n\
         sqs.send_message(QueueUrl=url, MessageBody='{body}')\n"
    );
    let key = server.post("/v1/access-keys", json!({})).await;
    let http = server.running.http_addr().expect("an address");
    let mut command = Command::new(python());
    command.args(["-c", &script]).arg(format!("http://{http}"));
    with_key(&mut command, &key);
    run(command).await;
}

/// A server with a trigger on the queue `orders`, which the user `dev` has deployed.
async fn deployed_by_dev() -> Users {
    let server = TestServer::start().await;
    let project = "[project]\nname = \"shop\"\n\n[[trigger]]\nname = \"orders\"\n\
                   queue = \"orders\"\nfunction = \"keep\"\n";
    write(server.folder.path(), "headwater.toml", project);
    write(server.folder.path(), "functions/keep.py", KEEP);
    let users = Users::on(server).await;
    let grants = ["deploy on project:shop", "read on queue:orders"];
    let dev = users.user("dev", &grants).await;
    let files = deployment(users.server.folder.path());
    let (status, deployed) = users.send(&dev, Method::POST, "/v1/deployments", Some(files)).await;
    assert!(status.is_success(), "{deployed}");
    users
}

async fn owned() {
    let server = TestServer::start().await;
    write(server.folder.path(), "headwater.toml", "[project]\nname = \"shop\"\n");
    write(server.folder.path(), "functions/keep.py", KEEP);
    let deployed = server.deploy().await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    let users = Users::on(server).await;
    let grants = ["deploy on project:shop", "invoke on function:keep"];
    let (ana, eve) = (users.user("ana", &grants).await, users.user("eve", &grants).await);
    let change = async |token: &str, method: Method, path: &str, name: &str| {
        let trigger = json!({"name": name, "schedule": "0 6 * * *", "function": "keep"});
        let body = Some(trigger).filter(|_| method != Method::DELETE);
        let (status, answer) = users.send(token, method, path, body).await;
        assert!(status.is_success(), "{answer}");
    };
    // Returns the number of triggers that each user sees.
    let seen = async || {
        let mut counts = Vec::new();
        for token in [&ana, &eve] {
            let (_, triggers) = users.get(token, "/v1/triggers").await;
            counts.push(triggers.as_array().map_or(0, Vec::len));
        }
        counts
    };
    change(&ana, Method::POST, "/v1/triggers", "nightly").await;
    assert_eq!(seen().await, [1, 0]);
    change(&ana, Method::PUT, "/v1/triggers/nightly", "nightly").await;
    assert_eq!(seen().await, [1, 0]);
    // A trigger that another user replaces belongs to no user, because its events may show names
    // that this user may not see.
    change(&eve, Method::PUT, "/v1/triggers/nightly", "nightly").await;
    assert_eq!(seen().await, [0, 0]);
    change(&eve, Method::DELETE, "/v1/triggers/nightly", "").await;
    change(&eve, Method::POST, "/v1/triggers", "nightly").await;
    assert_eq!(seen().await, [0, 1]);
    change(&eve, Method::DELETE, "/v1/triggers/nightly", "").await;
    // The name `*` gives no right to other triggers.
    users
        .server
        .post(
            "/v1/triggers",
            json!({"name": "other", "schedule": "0 6 * * *",
        "function": "keep"}),
        )
        .await;
    change(&ana, Method::POST, "/v1/triggers", "*").await;
    assert_eq!(seen().await, [0, 0]);
    users.server.running.shutdown().await;
}

async fn limited() {
    let users = deployed_by_dev().await;
    let limit = json!({"money_per_day": 0.0});
    let (status, set) = users.server.ask(Method::PUT, "/v1/limits/dev", Some(&limit)).await;
    assert_eq!(status, 200, "{set}");
    send(&users.server, "one").await;
    let waits = |events: &Value| events[0]["error"]["code"] == "quota_exceeded";
    let events = users.server.until("/v1/trigger-events", waits).await;
    assert_eq!(events[0]["status"], "pending", "{events}");
    assert_eq!(events[0]["attempts"], 0, "{events}");
    users.server.running.shutdown().await;
}

async fn messages() {
    let users = deployed_by_dev().await;
    send(&users.server, "one").await;
    let has = |count: usize| {
        move |events: &Value| events.as_array().is_some_and(|events| events.len() == count)
    };
    users.server.until("/v1/trigger-events?status=done", has(1)).await;

    let granted = permission("read on queue:orders");
    users.access.revoke(&Principal::owner(), "dev", granted).await.expect("revoked");
    let stops = async |message: &str| {
        let is_stopped = |triggers: &Value| triggers[0]["error"]["message"] == message;
        users.server.until("/v1/triggers", is_stopped).await;
    };
    stops("user `dev` may not read queue `orders`").await;
    send(&users.server, "two").await;
    // The message stays in the queue until the user may read it again.
    let events = users.server.get("/v1/trigger-events").await;
    assert!(has(1)(&events), "{events}");
    users.grant("dev", &["read on queue:orders"]).await;
    users.server.until("/v1/trigger-events?status=done", has(2)).await;
    users.access.drop_user(&Principal::owner(), "dev").await.expect("dropped");
    stops("user `dev` was dropped or disabled").await;
    send(&users.server, "three").await;
    let calls = users.server.get("/v1/jobs?kind=function").await;
    assert_eq!(calls.as_array().map(Vec::len), Some(2), "{calls}");
    users.server.running.shutdown().await;
}

const ECHO: &str = "\
import headwater


@headwater.function(outputs=[\"queue://orders\"])
def echo(event):
    return {\"again\": True}
";

/// A script that maps the queue to the function, sends a message, and prints the state of the
/// mapping.
const MAPPED: &str = "\
import boto3, re, sys, time
sqs, aws = (boto3.client(name, endpoint_url=sys.argv[1]) for name in ['sqs', 'lambda'])
url = sqs.create_queue(QueueName='orders')['QueueUrl']
arn = 'arn:aws:sqs:us-east-1:000000000000:orders'
made = aws.create_event_source_mapping(EventSourceArn=arn, FunctionName='echo')
sqs.send_message(QueueUrl=url, MessageBody='one')
until, state = time.time() + 60, ''
while 'caused' not in state and time.time() < until:
    time.sleep(0.1)
    state = aws.get_event_source_mapping(UUID=made['UUID'])['LastProcessingResult']
print(re.sub('message `[^`]*`', 'message `ID`', state.replace(made['UUID'], 'UUID')))
";

async fn mapped_loops() {
    let server = TestServer::start().await;
    write(server.folder.path(), "headwater.toml", "[project]\nname = \"shop\"\n");
    write(server.folder.path(), "functions/echo.py", ECHO);
    let deployed = server.deploy().await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    let key = server.post("/v1/access-keys", json!({})).await;
    let http = server.running.http_addr().expect("an address");
    let mut command = Command::new(python());
    command.args(["-c", MAPPED]).arg(format!("http://{http}"));
    with_key(&mut command, &key);
    let state = run(command).await;
    let expected = "PROBLEM: message `ID` closes a loop, so it is postponed: a call of this \
                    mapping caused the message; its causes: `/mappings/UUID`. Delete the message, \
                    and remove the code that sends it.\n";
    assert_eq!(state, expected);
    let calls = server.get("/v1/jobs?kind=function").await;
    assert_eq!(calls.as_array().map(Vec::len), Some(1), "{calls}");
    server.running.shutdown().await;
}

async fn loops() {
    let server = TestServer::start().await;
    let project = "[project]\nname = \"shop\"\n\n[[trigger]]\nname = \"orders\"\n\
                   queue = \"orders\"\nfunction = \"echo\"\n";
    write(server.folder.path(), "headwater.toml", project);
    write(server.folder.path(), "functions/echo.py", ECHO);
    let deployed = server.deploy().await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    send(&server, "one").await;
    let has_one = |events: &Value| events.as_array().is_some_and(|events| events.len() == 1);
    let failed = server.until("/v1/trigger-events?status=failed", has_one).await;
    let error = &failed[0]["error"];
    assert_eq!(error["code"], "loop_detected", "{failed}");
    let expected = "the event closes a loop of triggers: `orders` -> `orders`";
    assert_eq!(error["message"], expected, "{failed}");
    assert_eq!(failed[0]["data"]["messages"][0]["payload"]["again"], true, "{failed}");
    server.until("/v1/trigger-events?status=done", has_one).await;
    let calls = server.get("/v1/jobs?kind=function").await;
    assert_eq!(calls.as_array().map(Vec::len), Some(1), "{calls}");
    server.running.shutdown().await;
}
