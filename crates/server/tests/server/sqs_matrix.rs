//! Every operation of SQS's API with every kind of credential. The test fails if an operation is
//! missing in the table.

use libtest_mimic::Trial;
use serde_json::json;

use crate::access::Users;
use crate::access_matrix::ALL;
use crate::declared_operations::{self, Mismatches};
use crate::signed::{Answer, Key, Signed, invalid_keys, key, send};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![trial("sqs_matrix::every_operation_is_decided", matrix)]
}

/// An operation, the body of its request, and the expected responses. The users have no grant, the
/// grant to send messages, and all grants except administration. A response is an error or a
/// status. For each principal, the rows are executed in order.
type Row = (&'static str, &'static str, Answers);

type Answers = [&'static str; 3];

const NO: &str = "AccessDeniedException";
const ALWAYS: Answers = ["200", "200", "200"];
const SENDS: Answers = [NO, "200", "200"];
const FULL: Answers = [NO, NO, "200"];
/// The responses to requests for a queue. A queue on which a principal has no right does not seem
/// to exist.
const SEES: Answers = ["QueueDoesNotExist", "200", "200"];

const OPERATIONS: [Row; 18] = [
    ("CreateQueue", r#"{"QueueName":"made"}"#, FULL),
    ("GetQueueUrl", r#"{"QueueName":"q"}"#, SEES),
    // The list contains only queues on which the principal has a right.
    ("ListQueues", "{}", ALWAYS),
    ("GetQueueAttributes", r#"{"QueueUrl":"q","AttributeNames":["All"]}"#, SEES),
    ("SetQueueAttributes", r#"{"QueueUrl":"q","Attributes":{"DelaySeconds":"0"}}"#, FULL),
    ("TagQueue", r#"{"QueueUrl":"q","Tags":{"a":"b"}}"#, FULL),
    ("ListQueueTags", r#"{"QueueUrl":"q"}"#, SEES),
    ("UntagQueue", r#"{"QueueUrl":"q","TagKeys":["a"]}"#, FULL),
    ("ListDeadLetterSourceQueues", r#"{"QueueUrl":"q"}"#, SEES),
    ("SendMessage", r#"{"QueueUrl":"q","MessageBody":"a"}"#, SENDS),
    ("SendMessageBatch", r#"{"QueueUrl":"q","Entries":[{"Id":"a","MessageBody":"a"}]}"#, SENDS),
    ("ReceiveMessage", r#"{"QueueUrl":"q"}"#, FULL),
    ("DeleteMessage", r#"{"QueueUrl":"q","ReceiptHandle":"{receipt}"}"#, FULL),
    (
        "DeleteMessageBatch",
        r#"{"QueueUrl":"q","Entries":[{"Id":"a","ReceiptHandle":"{receipt}"}]}"#,
        FULL,
    ),
    (
        "ChangeMessageVisibility",
        r#"{"QueueUrl":"q","ReceiptHandle":"{receipt}","VisibilityTimeout":1}"#,
        [NO, NO, "MessageNotInflight"],
    ),
    (
        "ChangeMessageVisibilityBatch",
        r#"{"QueueUrl":"q","Entries":[
            {"Id":"a","ReceiptHandle":"{receipt}","VisibilityTimeout":1}]}"#,
        FULL,
    ),
    ("PurgeQueue", r#"{"QueueUrl":"q"}"#, FULL),
    ("DeleteQueue", r#"{"QueueUrl":"made"}"#, FULL),
];

/// A receipt of a message that was deleted.
const RECEIPT: &str = "00000000000000000001/01234567-89ab-4def-8123-456789abcdef";

/// The expected responses to requests with keys that authenticate no principal, and with a
/// signature for another service.
const INVALID: [(&str, &str); 7] = [
    ("none", "MissingAuthenticationTokenException"),
    ("unknown", "UnrecognizedClientException"),
    ("wrong secret", "InvalidSignatureException"),
    ("expired", "UnrecognizedClientException"),
    ("revoked", "UnrecognizedClientException"),
    ("disabled", "UnrecognizedClientException"),
    ("other service", "InvalidSignatureException"),
];

async fn matrix() {
    let operations = declared_operations::variants("lambda/src/sqs/protocol.rs", "SqsOperation");
    declared_operations::assert_complete(operations, &OPERATIONS.map(|row| row.0));
    let users = Users::start().await;
    let url = format!("http://{}", users.server.running.http_addr().expect("an address"));
    let owner = key(&users, json!({})).await;
    let create = signed(&owner, "sqs", "CreateQueue", r#"{"QueueName":"q"}"#);
    let created = send(&url, &[create]).await;
    assert_eq!(created[0].code(), "200", "{created:?}");
    let sends = ["write on queue:q"];
    for (name, grants) in [("limited", &[][..]), ("sender", &sends[..]), ("full", &ALL[..])] {
        users.user(name, grants).await;
    }
    let full = key(&users, json!({"user": "full"})).await;
    let invalid = invalid_keys(&users, &url, "lambda", "/2016-08-19/account-settings").await;
    let mut mismatches = Mismatches::default();
    for (name, expected) in INVALID {
        let found = invalid.iter().find(|one| one.0 == name);
        let (key, scope) = found.map_or((&full, "lambda"), |one| (&one.1, "sqs"));
        for (row, code) in OPERATIONS.iter().zip(codes(&url, key, scope).await) {
            mismatches.check(&format!("{} with the key `{name}`", row.0), &code, expected);
        }
    }
    let other = json!([{"actions": ["read", "write"], "object": "queue:other"}]);
    for (name, new, column) in [
        ("a user without grants", json!({"user": "limited"}), 0),
        ("a key without scopes", json!({"user": "full", "scopes": []}), 0),
        ("a key with the scope of another queue", json!({"user": "full", "scopes": other}), 0),
        ("a sender", json!({"user": "sender"}), 1),
        ("a user with all grants", json!({"user": "full"}), 2),
    ] {
        let key = key(&users, new).await;
        for (row, code) in OPERATIONS.iter().zip(codes(&url, &key, "sqs").await) {
            mismatches.check(&format!("{} as {name}", row.0), &code, row.2[column]);
        }
    }
    mismatches.assert_none();
}

fn signed<'a>(key: &'a Key, scope: &'a str, operation: &'a str, body: &str) -> Signed<'a> {
    let body = body.replace("{receipt}", RECEIPT);
    Signed { scope, body, target: Some(operation), ..Signed::new("sqs", key, "POST", "/") }
}

/// Sends the request of each row. Returns the codes of the responses.
async fn codes(url: &str, key: &Key, scope: &str) -> Vec<String> {
    let requests: Vec<Signed<'_>> =
        OPERATIONS.iter().map(|row| signed(key, scope, row.0, row.1)).collect();
    send(url, &requests).await.iter().map(Answer::code).collect()
}
