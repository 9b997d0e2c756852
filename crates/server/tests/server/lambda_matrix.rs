//! Every operation of Lambda's REST API, and requests to the URLs of functions, with every kind of
//! credential. The test fails if an operation is missing in the table.

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::access::Users;
use crate::access_matrix::ALL;
use crate::declared_operations::{self, Mismatches};
use crate::signed::{Answer, Key, Signed, invalid_keys, key, send};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![trial("lambda_matrix::every_operation_is_decided", matrix)]
}

/// An operation, its request (method, path, body), and the expected responses. The users have no
/// grant, the grant to call functions, and all grants except administration. A response is an
/// exception or a status. `F` stands for the path of the function `f`. For each principal, the rows
/// are executed in order.
type Row = (&'static str, &'static str, &'static str, &'static str, Answers);

type Answers = [&'static str; 3];

const NO: &str = "AccessDeniedException";
const ALWAYS: Answers = ["200", "200", "200"];
const CALLS: Answers = [NO, "200", "200"];
const DEPLOYS: Answers = [NO, NO, "200"];
const CREATES: Answers = [NO, NO, "201"];
/// The response to a request for the mapping of a function that the principal may not deploy: the
/// mapping does not seem to exist.
const NONE: &str = "ResourceNotFoundException";
const CHANGES: Answers = [NONE, NONE, "202"];
const DELETES: Answers = [NO, NO, "204"];

const OPERATIONS: [Row; 54] = [
    ("CreateFunction", "POST", "/2015-03-31/functions", NEW, CREATES),
    // The list contains only functions that the principal may deploy.
    ("ListFunctions", "GET", "/2015-03-31/functions", "", ALWAYS),
    ("GetFunction", "GET", "/2015-03-31/F", "", DEPLOYS),
    ("GetConfiguration", "GET", "/2015-03-31/F/configuration", "", DEPLOYS),
    ("UpdateConfiguration", "PUT", "/2015-03-31/F/configuration", DESCRIPTION, DEPLOYS),
    ("UpdateCode", "PUT", "/2015-03-31/F/code", CODE, DEPLOYS),
    ("Invoke", "POST", "/2015-03-31/F/invocations", "{}", CALLS),
    ("InvokeStream", "POST", "/2021-11-15/F/response-streaming-invocations", "{}", CALLS),
    ("InvokeAsync", "POST", "/2014-11-13/F/invoke-async", "{}", [NO, "202", "202"]),
    ("PublishVersion", "POST", "/2015-03-31/F/versions", "{}", CREATES),
    ("ListVersions", "GET", "/2015-03-31/F/versions", "", DEPLOYS),
    ("CreateAlias", "POST", "/2015-03-31/F/aliases", ALIAS, CREATES),
    ("ListAliases", "GET", "/2015-03-31/F/aliases", "", DEPLOYS),
    ("GetAlias", "GET", "/2015-03-31/F/aliases/live", "", DEPLOYS),
    ("UpdateAlias", "PUT", "/2015-03-31/F/aliases/live", DESCRIPTION, DEPLOYS),
    ("DeleteAlias", "DELETE", "/2015-03-31/F/aliases/made", "", DELETES),
    ("PutConcurrency", "PUT", "/2017-10-31/F/concurrency", CONCURRENCY, DEPLOYS),
    ("GetConcurrency", "GET", "/2019-09-30/F/concurrency", "", DEPLOYS),
    ("DeleteConcurrency", "DELETE", "/2017-10-31/F/concurrency", "", DELETES),
    (
        "PutProvisioned",
        "PUT",
        "/2019-09-30/F/provisioned-concurrency?Qualifier=live",
        PROVISIONED,
        [NO, NO, "202"],
    ),
    ("GetProvisioned", "GET", "/2019-09-30/F/provisioned-concurrency?List=ALL", "", DEPLOYS),
    (
        "DeleteProvisioned",
        "DELETE",
        "/2019-09-30/F/provisioned-concurrency?Qualifier=live",
        "",
        DELETES,
    ),
    ("GetCodeSigning", "GET", "/2020-06-30/F/code-signing-config", "", DEPLOYS),
    ("CreateUrl", "POST", "/2021-10-31/F/url", URL, CREATES),
    ("GetUrl", "GET", "/2021-10-31/F/url", "", DEPLOYS),
    ("UpdateUrl", "PUT", "/2021-10-31/F/url", URL, DEPLOYS),
    ("ListUrls", "GET", "/2021-10-31/F/urls", "", DEPLOYS),
    ("DeleteUrl", "DELETE", "/2021-10-31/F/url", "", DELETES),
    ("PutInvokeConfig", "PUT", "/2019-09-25/F/event-invoke-config", RETRIES, DEPLOYS),
    ("GetInvokeConfig", "GET", "/2019-09-25/F/event-invoke-config", "", DEPLOYS),
    ("UpdateInvokeConfig", "POST", "/2019-09-25/F/event-invoke-config", RETRIES, DEPLOYS),
    ("ListInvokeConfigs", "GET", "/2019-09-25/F/event-invoke-config/list", "", DEPLOYS),
    ("DeleteInvokeConfig", "DELETE", "/2019-09-25/F/event-invoke-config", "", DELETES),
    ("AddPermission", "POST", "/2015-03-31/F/policy", PERMISSION, CREATES),
    ("GetPolicy", "GET", "/2015-03-31/F/policy", "", DEPLOYS),
    ("RemovePermission", "DELETE", "/2015-03-31/F/policy/made", "", DELETES),
    ("Tag", "POST", "/2017-03-31/tags/f", r#"{"Tags":{"a":"b"}}"#, DELETES),
    ("ListTags", "GET", "/2017-03-31/tags/f", "", DEPLOYS),
    ("Untag", "DELETE", "/2017-03-31/tags/f?tagKeys=a", "", DELETES),
    ("AccountSettings", "GET", "/2016-08-19/account-settings", "", ALWAYS),
    ("Layers::List", "GET", "/2018-10-31/layers", "", ALWAYS),
    ("Layers::Publish", "POST", "/2018-10-31/layers/base/versions", LAYER, CREATES),
    ("Layers::ListVersions", "GET", "/2018-10-31/layers/base/versions", "", CALLS),
    ("Layers::Get", "GET", "/2018-10-31/layers/base/versions/1", "", CALLS),
    ("Layers::AddPermission", "POST", "/2018-10-31/layers/base/versions/1/policy", USE, CREATES),
    ("Layers::GetPolicy", "GET", "/2018-10-31/layers/base/versions/1/policy", "", CALLS),
    (
        "Layers::RemovePermission",
        "DELETE",
        "/2018-10-31/layers/base/versions/1/policy/made",
        "",
        DELETES,
    ),
    ("Layers::Delete", "DELETE", "/2018-10-31/layers/base/versions/1", "", DELETES),
    ("Mappings::Create", "POST", "/2015-03-31/event-source-mappings", MAPPING, [NO, NO, "202"]),
    // The list contains only mappings of functions that the principal may deploy.
    ("Mappings::List", "GET", "/2015-03-31/event-source-mappings", "", ALWAYS),
    (
        "Mappings::Get",
        "GET",
        "/2015-03-31/event-source-mappings/{mapping}",
        "",
        [NONE, NONE, "200"],
    ),
    ("Mappings::Update", "PUT", "/2015-03-31/event-source-mappings/{mapping}", "{}", CHANGES),
    ("Mappings::Delete", "DELETE", "/2015-03-31/event-source-mappings/{mapping}", "", CHANGES),
    ("DeleteFunction", "DELETE", "/2015-03-31/functions/made", "", DELETES),
];

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

/// The URL of an alias that only callers with a signature may use, and the URL of a public alias.
const PRIVATE: &str = "/lambda-url/f:live/";
const PUBLIC: &str = "/lambda-url/open/";

const NEW: &str = r#"{"FunctionName":"made","Runtime":"python3.11","Handler":"app.handler",
    "Role":"arn:aws:iam::000000000000:role/any","Code":{"ZipFile":"{zip}"}}"#;
const DESCRIPTION: &str = r#"{"Description":"text"}"#;
const CODE: &str = r#"{"ZipFile":"{zip}"}"#;
const ALIAS: &str = r#"{"Name":"made","FunctionVersion":"1"}"#;
const PROVISIONED: &str = r#"{"ProvisionedConcurrentExecutions":1}"#;
const CONCURRENCY: &str = r#"{"ReservedConcurrentExecutions":2}"#;
const URL: &str = r#"{"AuthType":"AWS_IAM"}"#;
const RETRIES: &str = r#"{"MaximumRetryAttempts":1}"#;
const PERMISSION: &str =
    r#"{"StatementId":"made","Action":"lambda:InvokeFunction","Principal":"000000000000"}"#;
const LAYER: &str = r#"{"Content":{"ZipFile":"{zip}"}}"#;
const MAPPING: &str = r#"{"EventSourceArn":"arn:aws:sqs:us-east-1:000000000000:q",
    "FunctionName":"f:live","Enabled":false}"#;
const USE: &str = r#"{"StatementId":"made","Action":"lambda:GetLayerVersion","Principal":"*"}"#;

/// A ZIP archive with the file `app.py`: `handler = lambda event, context: {}`.
const ZIP: &str = "UEsDBBQAAAAAAAAAIVzKDgy9JAAAACQAAAAGAAAAYXBwLnB5aGFuZGxlciA9IGxhbWJkYSBldmVudCwg\
    Y29udGV4dDoge30KUEsBAhQDFAAAAAAAAAAhXMoODL0kAAAAJAAAAAYAAAAAAAAAAAAAAIABAAAAAGFwcC5weVBLBQYA\
    AAAAAQABADQAAABIAAAAAAA=";

async fn matrix() {
    let operations = declared_operations::variants("lambda/src/route.rs", "Operation").into_iter();
    let operations = operations.filter(|name| name != "Layers" && name != "Mappings");
    let layers = declared_operations::variants("lambda/src/layer.rs", "LayerOperation").into_iter();
    let layers = layers.map(|name| format!("Layers::{name}"));
    let mappings = declared_operations::variants("lambda/src/queue_mapping.rs", "MappingOperation")
        .into_iter();
    let mappings = mappings.map(|name| format!("Mappings::{name}"));
    let rows: Vec<&str> = OPERATIONS.iter().map(|row| row.0).collect();
    declared_operations::assert_complete(operations.chain(layers).chain(mappings).collect(), &rows);
    let users = Users::start().await;
    let url = format!("http://{}", users.server.running.http_addr().expect("an address"));
    let mapping = prepare(&url, &key(&users, json!({})).await).await;
    let calls = ["invoke on function:*"];
    for (name, grants) in [("limited", &[][..]), ("caller", &calls[..]), ("full", &ALL[..])] {
        users.user(name, grants).await;
    }
    let full = key(&users, json!({"user": "full"})).await;
    let invalid = invalid_keys(&users, &url, "lambda", "/2016-08-19/account-settings").await;
    let mut mismatches = Mismatches::default();
    for (name, expected) in INVALID {
        let found = invalid.iter().find(|one| one.0 == name);
        let (key, scope) = found.map_or((&full, "s3"), |one| (&one.1, "lambda"));
        for (row, code) in OPERATIONS.iter().zip(codes(&url, key, scope, &mapping).await) {
            mismatches.check(&format!("{} with the key `{name}`", row.0), &code, expected);
        }
        let codes = url_codes(&url, key, scope).await.join(" ");
        mismatches.check(&format!("URLs with the key `{name}`"), &codes, "403 200");
    }
    let other = json!([{"actions": ["invoke", "deploy"], "object": "function:other"}]);
    for (name, new, column) in [
        ("a user without grants", json!({"user": "limited"}), 0),
        ("a key without scopes", json!({"user": "full", "scopes": []}), 0),
        ("a key with the scope of another function", json!({"user": "full", "scopes": other}), 0),
        ("a caller", json!({"user": "caller"}), 1),
        ("a user with all grants", json!({"user": "full"}), 2),
    ] {
        let key = key(&users, new).await;
        let expected = if column == 0 { "403 200" } else { "200 200" };
        let found = url_codes(&url, &key, "lambda").await.join(" ");
        mismatches.check(&format!("URLs as {name}"), &found, expected);
        for (row, code) in OPERATIONS.iter().zip(codes(&url, &key, "lambda", &mapping).await) {
            mismatches.check(&format!("{} as {name}", row.0), &code, row.4[column]);
        }
    }
    mismatches.assert_none();
}

/// Creates functions, an alias, URLs, a layer, a queue and an event source mapping as the owner.
/// Returns the id of the mapping.
async fn prepare(url: &str, owner: &Key) -> String {
    let request = |path: &str, body: &str| {
        let body = body.replace("{zip}", ZIP);
        Signed { body, ..Signed::new("lambda", owner, "POST", path) }
    };
    let functions = "/2015-03-31/functions";
    let answers = send(
        url,
        &[
            request(functions, &NEW.replace("made", "f")),
            request(functions, &NEW.replace("made", "open")),
            request("/2015-03-31/functions/f/versions", "{}"),
            request("/2015-03-31/functions/f/aliases", &ALIAS.replace("made", "live")),
            request("/2021-10-31/functions/f/url?Qualifier=live", URL),
            request("/2021-10-31/functions/open/url", r#"{"AuthType":"NONE"}"#),
            request("/2018-10-31/layers/base/versions", LAYER),
            request("/2018-10-31/layers/base/versions/1/policy", &USE.replace("made", "kept")),
        ],
    )
    .await;
    assert!(answers.iter().all(|answer| answer.code() == "201"), "{answers:?}");
    let body = r#"{"QueueName":"q"}"#.to_owned();
    let target = Some("CreateQueue");
    let queue = Signed { target, body, ..Signed::new("sqs", owner, "POST", "/") };
    let mapping = request("/2015-03-31/event-source-mappings", &MAPPING.replace(":live", ""));
    let answers = send(url, &[queue, mapping]).await;
    let created: Value = serde_json::from_str(&answers[1].body).expect("JSON");
    created["UUID"].as_str().unwrap_or_else(|| panic!("{answers:?}")).to_owned()
}

/// Sends the request of each row. Returns the codes of the responses.
async fn codes(url: &str, key: &Key, scope: &str, mapping: &str) -> Vec<String> {
    let signed = |row: &Row| {
        let path = row.2.replace("/F", "/functions/f").replace("{mapping}", mapping);
        let body = row.3.replace("{zip}", ZIP);
        Signed { scope, body, ..Signed::new("lambda", key, row.1, path) }
    };
    let requests: Vec<Signed<'_>> = OPERATIONS.iter().map(signed).collect();
    send(url, &requests).await.iter().map(Answer::code).collect()
}

/// Returns the responses of the URL that needs a signature, and of the public URL.
async fn url_codes(url: &str, key: &Key, scope: &str) -> Vec<String> {
    let request = |path| Signed { scope, ..Signed::new("lambda", key, "GET", path) };
    let answers = send(url, &[request(PRIVATE), request(PUBLIC)]).await;
    answers.iter().map(Answer::code).collect()
}
