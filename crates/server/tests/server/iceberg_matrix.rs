//! Every endpoint of the Iceberg REST catalog with every kind of credential. The test fails if an
//! endpoint is missing in the table.

use libtest_mimic::Trial;

use crate::access::Users;
use crate::access_matrix::Expected::{self, Forbidden as No, Works as Ok};
use crate::access_matrix::{ALL, READ, expired, revoked, status, tokens_without_scope};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![trial("iceberg_matrix::every_endpoint_is_decided", matrix)]
}

/// An endpoint in the specification's notation, the objects and the body of a request, and the
/// expected responses. The users have no grant, grants to read, and all grants except
/// administration. The ref is `main` for reads, and an unknown branch for changes.
type Row = (&'static str, &'static str, &'static str, [Expected; 3]);

const TABLE: &str = "shop/tables/items";
const VIEW: &str = "shop/views/best";

const ENDPOINTS: [Row; 29] = [
    ("GET /v1/{prefix}/namespaces", "", "", [No, Ok, Ok]),
    ("POST /v1/{prefix}/namespaces", "", r#"{"namespace":["n"]}"#, [No, No, Ok]),
    ("GET /v1/{prefix}/namespaces/{namespace}", "shop", "", [No, Ok, Ok]),
    ("HEAD /v1/{prefix}/namespaces/{namespace}", "shop", "", [No, Ok, Ok]),
    ("DELETE /v1/{prefix}/namespaces/{namespace}", "shop", "", [No, No, Ok]),
    ("POST /v1/{prefix}/namespaces/{namespace}/properties", "shop", PROPERTIES, [No, No, Ok]),
    ("GET /v1/{prefix}/namespaces/{namespace}/tables", "shop", "", [No, Ok, Ok]),
    ("POST /v1/{prefix}/namespaces/{namespace}/tables", "shop", NEW_TABLE, [No, No, Ok]),
    ("GET /v1/{prefix}/namespaces/{namespace}/tables/{table}", TABLE, "", [No, Ok, Ok]),
    ("HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}", TABLE, "", [No, Ok, Ok]),
    ("POST /v1/{prefix}/namespaces/{namespace}/tables/{table}", TABLE, COMMIT, [No, No, Ok]),
    ("DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}", TABLE, "", [No, No, Ok]),
    ("GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials", TABLE, "", [No, Ok, Ok]),
    (
        "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics",
        TABLE,
        METRICS,
        [No, Ok, Ok],
    ),
    ("POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan", TABLE, "{}", [No, Ok, Ok]),
    (
        "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}",
        TABLE,
        "",
        [No, Ok, Ok],
    ),
    (
        "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}",
        TABLE,
        "",
        [No, Ok, Ok],
    ),
    ("POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/tasks", TABLE, TASKS, [No, Ok, Ok]),
    ("POST /v1/{prefix}/namespaces/{namespace}/register", "shop", REGISTER, [No, No, No]),
    ("POST /v1/{prefix}/tables/rename", "", RENAME, [No, No, Ok]),
    ("GET /v1/{prefix}/namespaces/{namespace}/views", "shop", "", [No, Ok, Ok]),
    ("POST /v1/{prefix}/namespaces/{namespace}/views", "shop", NEW_VIEW, [No, No, Ok]),
    ("GET /v1/{prefix}/namespaces/{namespace}/views/{view}", VIEW, "", [No, Ok, Ok]),
    ("HEAD /v1/{prefix}/namespaces/{namespace}/views/{view}", VIEW, "", [No, Ok, Ok]),
    ("POST /v1/{prefix}/namespaces/{namespace}/views/{view}", VIEW, VIEW_COMMIT, [No, No, Ok]),
    ("DELETE /v1/{prefix}/namespaces/{namespace}/views/{view}", VIEW, "", [No, No, Ok]),
    ("POST /v1/{prefix}/namespaces/{namespace}/register-view", "shop", REGISTER, [No, No, No]),
    ("POST /v1/{prefix}/views/rename", "", RENAME, [No, No, Ok]),
    ("POST /v1/{prefix}/transactions/commit", "", TRANSACTION, [No, No, Ok]),
];

/// Endpoints that refer to no object of the lake. Another test covers them.
const WITHOUT_OBJECT: [&str; 2] = ["GET /v1/config", "POST /v1/oauth/tokens"];

const PROPERTIES: &str = r#"{"updates":{"a":"b"},"removals":[]}"#;
const NEW_TABLE: &str =
    r#"{"name":"n","schema":{"type":"struct","schema-id":0,"fields":[]},"stage-create":true}"#;
const COMMIT: &str = r#"{"requirements":[],"updates":[]}"#;
const METRICS: &str = r#"{"report-type":"scan-report"}"#;
const TASKS: &str = r#"{"plan-task":"none"}"#;
const REGISTER: &str = r#"{"name":"n","metadata-location":"file:///none"}"#;
const RENAME: &str = r#"{"source":{"namespace":["shop"],"name":"items"},
    "destination":{"namespace":["shop"],"name":"goods"}}"#;
const NEW_VIEW: &str = r#"{"name":"n","schema":{"type":"struct","schema-id":0,"fields":[]},
    "view-version":{"version-id":1,"timestamp-ms":0,"schema-id":0,"summary":{},
    "default-namespace":["shop"],"representations":[
    {"type":"sql","sql":"SELECT 1 AS a","dialect":"headwater"}]},"properties":{}}"#;
const VIEW_COMMIT: &str = r#"{"requirements":[],"updates":[]}"#;
const TRANSACTION: &str = r#"{"table-changes":[{"identifier":{"namespace":["shop"],"name":"items"},
    "requirements":[],"updates":[]}]}"#;

async fn matrix() {
    let users = Users::start().await;
    let config = users.server.get("/iceberg/v1/config").await;
    let served = config["endpoints"].as_array().expect("endpoints").iter();
    let mut served: Vec<&str> = served.map(|one| one.as_str().expect("text")).collect();
    let mut listed: Vec<&str> = ENDPOINTS.iter().map(|row| row.0).chain(WITHOUT_OBJECT).collect();
    served.sort_unstable();
    listed.sort_unstable();
    assert_eq!(served, listed, "each endpoint has a row");
    let limited = users.user("limited", &[]).await;
    let reader = users.user("reader", &READ).await;
    let full = users.user("full", &ALL).await;
    let [unscoped, misscoped] = tokens_without_scope(&users).await;
    let revoked = revoked(&users).await;
    let expired = expired(&users).await;
    for (endpoint, objects, body, [without, reading, all]) in ENDPOINTS {
        let (method, path) = request_of(endpoint, objects);
        let row = (endpoint, method, path.as_str(), body, [without, reading, all]);
        for invalid in ["", &revoked, &expired, "hwp_00"] {
            // After many failed logins the address is locked out, so the status 429 is accepted,
            // too.
            let status = status(&users, &row, invalid).await;
            assert!(matches!(status, 401 | 429), "{endpoint} without a credential: {status}");
        }
        for (name, token, expected) in [
            ("limited", &limited, without),
            ("a token without scopes", &unscoped, without),
            ("a token for another table", &misscoped, without),
            ("reader", &reader, reading),
            ("full", &full, all),
        ] {
            let status = status(&users, &row, token).await;
            assert_eq!(status == 403, expected == No, "{endpoint} as {name}: {status}");
            assert!(!matches!(status, 401 | 500..), "{endpoint} as {name}: {status}");
        }
    }
}

/// Returns the method and path of a request.
fn request_of(endpoint: &'static str, objects: &str) -> (&'static str, String) {
    let (method, path) = endpoint.split_once(' ').expect("a method and a path");
    let reads = matches!(method, "GET" | "HEAD")
        || ["/metrics", "/plan", "/plan/{plan-id}", "/tasks"].iter().any(|end| path.ends_with(end));
    let prefix = if reads { "main" } else { "none" };
    let mut names = objects.split('/').filter(|name| !matches!(*name, "tables" | "views"));
    let mut path = path.replace("{prefix}", prefix).replace("{plan-id}", "none");
    for place in ["{namespace}", "{table}", "{view}"] {
        if path.contains(place) {
            path = path.replace(place, names.next().expect("a name"));
        }
    }
    (method, format!("/iceberg{path}"))
}
