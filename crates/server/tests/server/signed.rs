//! Requests that botocore signs with access keys and sends.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use headwater_model::Principal;
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::access::Users;
use crate::support::{PATIENCE, request};
use crate::{clients, s3_clients};

/// The id and the secret of an access key; `None` for a request without a signature.
pub type Key = Option<(String, String)>;

/// A signed request.
#[derive(Debug, Clone)]
pub struct Signed<'a> {
    /// The service that gets the request.
    pub service: &'a str,
    /// The service in the signature. It can differ from `service`.
    pub scope: &'a str,
    pub key: &'a Key,
    pub method: &'a str,
    pub path: String,
    /// The source object, for the copy operations of S3.
    pub copies: Option<&'a str>,
    /// The name of the operation, for requests to SQS.
    pub target: Option<&'a str>,
    pub body: String,
}

impl<'a> Signed<'a> {
    /// Creates a request without a body.
    pub fn new(service: &'a str, key: &'a Key, method: &'a str, path: impl Into<String>) -> Self {
        let (path, body) = (path.into(), String::new());
        Signed { service, scope: service, key, method, path, copies: None, target: None, body }
    }

    fn json(&self) -> Value {
        let headers = match (self.copies, self.target) {
            (Some(source), _) => json!({"x-amz-copy-source": source}),
            (_, Some(operation)) => json!({"x-amz-target": format!("AmazonSQS.{operation}")}),
            _ => json!({}),
        };
        json!({
            "service": self.service,
            "scope": self.scope,
            "key": self.key,
            "method": self.method,
            "path": self.path,
            "headers": headers,
            "body": self.body,
        })
    }
}

/// The response to a signed request.
#[derive(Debug, Deserialize)]
pub struct Answer {
    status: u16,
    kind: String,
    pub body: String,
}

impl Answer {
    /// Returns the error code in the response's protocol; the status if the response contains no
    /// code.
    pub fn code(&self) -> String {
        let code = self.body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        match code {
            Some((code, _)) => code.to_owned(),
            None if self.kind.is_empty() => self.status.to_string(),
            None => self.kind.clone(),
        }
    }
}

/// Sends requests one after the other.
pub async fn send(url: &str, requests: &[Signed<'_>]) -> Vec<Answer> {
    let requests = Value::from(requests.iter().map(Signed::json).collect::<Vec<_>>()).to_string();
    let mut command = Command::new(s3_clients::python());
    command.arg(clients::client("signed_requests.py")).arg(url);
    let printed = piped(command, requests).await;
    serde_json::from_str(&printed).expect("answers")
}

/// Runs a command with a string as standard input. Returns the command's output.
pub async fn piped(mut command: Command, input: String) -> String {
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let work = move || {
        let mut running = command.spawn().expect("a command");
        running.stdin.take().expect("an input").write_all(input.as_bytes()).expect("written");
        running.wait_with_output().expect("an end")
    };
    let output = tokio::task::spawn_blocking(work).await.expect("a command");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (printed, errors) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{printed}{errors}");
    printed
}

/// Creates an access key as the owner.
pub async fn key(users: &Users, new: Value) -> Key {
    let made = users.server.post("/v1/access-keys", new).await;
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    Some((text(&made["key"]["id"]), text(&made["secret"])))
}

/// Returns keys that authenticate no principal, with their names in the tables of tests. `probe` is
/// a path that any valid key may read.
pub async fn invalid_keys(
    users: &Users,
    url: &str,
    service: &str,
    probe: &str,
) -> [(&'static str, Key); 6] {
    let (id, _) = key(users, json!({})).await.expect("a key");
    let wrong = Some((id, format!("hws_{}", "0".repeat(56))));
    let unknown = Some((format!("HWAK{}", "A".repeat(16)), "hws_0".to_owned()));
    let revoked = key(users, json!({})).await;
    let path = format!("/v1/access-keys/{}", revoked.as_ref().expect("a key").0);
    let answer = users.server.send(request(Method::DELETE, &path, None)).await;
    assert_eq!(answer.status(), 204);
    users.user("disabled", &["administer on lake"]).await;
    let disabled = key(users, json!({"user": "disabled"})).await;
    let owner = Principal::owner();
    users.access.disable_user(&owner, "disabled", true).await.expect("disabled");
    let soon = chrono::Utc::now() + chrono::TimeDelta::milliseconds(500);
    let expired = key(users, json!({"expires": soon})).await;
    let deadline = Instant::now() + PATIENCE;
    while send(url, &[Signed::new(service, &expired, "GET", probe)]).await[0].status == 200 {
        assert!(Instant::now() < deadline, "the key does not expire");
    }
    [
        ("none", None),
        ("unknown", unknown),
        ("wrong secret", wrong),
        ("expired", expired),
        ("revoked", revoked),
        ("disabled", disabled),
    ]
}
