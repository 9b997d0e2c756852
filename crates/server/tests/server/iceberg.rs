//! Tests of the Iceberg REST catalog: entity tags, tokens, idempotent and atomic commits.

use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::{TestServer, bearer, json, request};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("iceberg::an_unchanged_table_is_not_sent_again", tags),
        trial("iceberg::a_token_is_exchanged_for_the_secret", tokens),
        trial("iceberg::a_repeated_commit_is_applied_once", once),
        trial("iceberg::an_idempotency_key_identifies_one_request", keys),
        trial("iceberg::a_transaction_changes_all_tables_or_none", together),
        trial("iceberg::a_staged_table_is_created_with_its_rows", staged),
        trial("iceberg::an_unreadable_snapshot_is_rejected", unreadable),
        trial("iceberg::columns_of_other_engines_keep_their_field_ids", column_ids),
        trial("iceberg::a_field_id_is_assigned_on_one_branch_only", field_ids),
        trial("iceberg::a_request_with_an_idempotency_key_is_applied_once", requests_with_keys),
        trial("iceberg::garbage_collection_is_disabled_for_clients", no_garbage),
        trial("iceberg::changes_that_break_a_table_are_rejected", broken_changes),
        trial("iceberg::a_commit_to_a_view_finds_no_table", views),
        trial("iceberg::a_location_belongs_to_one_table", locations),
        trial("iceberg::an_empty_commit_changes_nothing", nothing),
        trial("iceberg::a_registered_table_is_validated_like_a_new_one", registered),
        trial("iceberg::row_ids_are_assigned_once", row_ids),
    ]
}

/// Returns the URL path of a table of `public` on a branch.
fn table(branch: &str, name: &str) -> String {
    format!("/iceberg/v1/{branch}/namespaces/public/tables/{name}")
}

async fn sql(server: &TestServer, branch: &str, sql: &str) -> Value {
    server.post("/v1/query", json!({"sql": sql, "ref": branch})).await
}

async fn commits(server: &TestServer, branch: &str) -> usize {
    let commits = server.get(&format!("/v1/refs/{branch}/commits?limit=1000")).await;
    commits.as_array().expect("commits").len()
}

/// Starts a server with a table `t` of one row on `main`, and a branch `dev` without the row. Also
/// returns the commit that adds the row to `dev`, in the form that another engine sends.
async fn one_row_ahead() -> (TestServer, Value) {
    let server = TestServer::start().await;
    sql(&server, "main", "CREATE TABLE t (id BIGINT)").await;
    server.post("/v1/branches", json!({"name": "dev"})).await;
    sql(&server, "main", "INSERT INTO t VALUES (1)").await;
    let loaded = server.get(&table("main", "t")).await;
    let commit = append_of(&loaded["metadata"]);
    (server, commit)
}

/// Returns the request for the commit that adds the table's only snapshot to the state before it.
fn append_of(metadata: &Value) -> Value {
    let snapshot = metadata["snapshots"][0].clone();
    let id = snapshot["snapshot-id"].clone();
    json!({
        "requirements": [
            {"type": "assert-table-uuid", "uuid": metadata["table-uuid"]},
            {"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": null}
        ],
        "updates": [
            {"action": "add-snapshot", "snapshot": snapshot},
            {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": id}
        ]
    })
}

async fn tags() {
    let (server, _) = one_row_ahead().await;
    let load = async |tag: Option<&str>, query: &str| {
        let mut sent = request(Method::GET, &format!("{}{query}", table("main", "t")), None);
        if let Some(tag) = tag {
            sent.headers_mut().insert("if-none-match", tag.parse().expect("a header"));
        }
        let response = server.send(sent).await;
        let tag = response.headers().get("etag").expect("a tag").to_str().expect("text").to_owned();
        (response.status().as_u16(), tag)
    };
    let (status, tag) = load(None, "").await;
    assert_eq!(status, 200);
    assert_eq!(load(Some(&tag), "").await, (304, tag.clone()));
    assert_eq!(load(Some(&format!("\"x\", W/{tag}")), "").await.0, 304);
    assert_eq!(load(Some(&tag), "?snapshots=refs").await.0, 200);
    sql(&server, "main", "INSERT INTO t VALUES (2)").await;
    assert_eq!(load(Some(&tag), "").await.0, 200);
}

async fn tokens() {
    let server = TestServer::start().await;
    let own = bearer(&server.running).to_str().expect("text")[7..].to_owned();
    let ask = async |path: &str, form: String| {
        let sent = Request::post(path)
            .header("host", "localhost")
            .header(AUTHORIZATION, "none")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(http_body_util::Full::new(form.into()));
        let response = server.send(sent.expect("a request")).await;
        (response.status().as_u16(), json(response).await)
    };
    for path in ["/iceberg/v1/oauth/tokens", "/iceberg/dev/v1/oauth/tokens"] {
        let form =
            format!("grant_type=client_credentials&client_id=me&client_secret={own}&scope=x");
        let (status, answer) = ask(path, form).await;
        assert_eq!((status, answer["access_token"].as_str()), (200, Some(&*own)));
    }
    let basic = async |secret: &str| {
        use base64::Engine as _;
        let pair = base64::prelude::BASE64_STANDARD.encode(format!("me:{secret}"));
        let sent = Request::post("/iceberg/v1/oauth/tokens")
            .header("host", "localhost")
            .header(AUTHORIZATION, format!("Basic {pair}"))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(http_body_util::Full::new("grant_type=client_credentials".into()));
        let response = server.send(sent.expect("a request")).await;
        (response.status().as_u16(), json(response).await)
    };
    let (status, answer) = basic(&own).await;
    assert_eq!((status, answer["access_token"].as_str()), (200, Some(&*own)));
    assert_eq!(basic("guess").await.0, 401);
    let path = "/iceberg/v1/oauth/tokens";
    let form = "grant_type=client_credentials&client_secret=guess".to_owned();
    assert_eq!(ask(path, form).await.0, 401);
    assert_eq!(ask(path, format!("grant_type=password&client_secret={own}")).await.0, 400);
    assert_eq!(ask(path, "nonsense".to_owned()).await.0, 400);
    let (status, answer) = ask("/iceberg/v1/config", String::new()).await;
    assert_eq!((status, &answer["error"]["type"]), (401, &json!("NotAuthorizedException")));
}

async fn once() {
    let (server, commit) = one_row_ahead().await;
    let before = commits(&server, "dev").await;
    let (status, made) = server.ask(Method::POST, &table("dev", "t"), Some(&commit)).await;
    assert_eq!(status, 200, "{made}");
    assert_eq!(sql(&server, "dev", "SELECT id FROM t").await, json!([{"id": 1}]));
    let (status, again) = server.ask(Method::POST, &table("dev", "t"), Some(&commit)).await;
    assert_eq!((status, &again), (200, &made));
    assert_eq!(commits(&server, "dev").await, before + 1);
    sql(&server, "dev", "INSERT INTO t VALUES (2)").await;
    assert_eq!(server.ask(Method::POST, &table("dev", "t"), Some(&commit)).await.0, 200);
    let rows = sql(&server, "dev", "SELECT count(*) AS n FROM t").await;
    assert_eq!(rows, json!([{"n": 2}]));
    let (status, merged) =
        server.ask(Method::POST, "/v1/branches/main/merge", Some(&json!({"source": "dev"}))).await;
    assert_eq!(status, 200, "{merged}");
    let rows = sql(&server, "main", "SELECT id FROM t ORDER BY id").await;
    assert_eq!(rows, json!([{"id": 1}, {"id": 2}]));
}

async fn keys() {
    let server = TestServer::start().await;
    sql(&server, "main", "CREATE TABLE t (id BIGINT)").await;
    let send = async |key: &str, value: &str| {
        let updates = json!([{"action": "set-properties", "updates": {"a": value}}]);
        let commit = json!({"requirements": [], "updates": updates});
        let mut sent = request(Method::POST, &table("main", "t"), Some(&commit));
        sent.headers_mut().insert("idempotency-key", key.parse().expect("a header"));
        let response = server.send(sent).await;
        assert_eq!(response.status(), 200);
        json(response).await["metadata"]["properties"]["a"].clone()
    };
    let before = commits(&server, "main").await;
    assert_eq!(send("k", "1").await, "1");
    assert_eq!(send("k", "1").await, "1");
    assert_eq!(commits(&server, "main").await, before + 1);
    assert_eq!(send("k", "2").await, "2", "another request with the same key");
    assert_eq!(send("l", "1").await, "1");
    assert_eq!(commits(&server, "main").await, before + 3);
}

async fn together() {
    let (server, commit) = one_row_ahead().await;
    sql(&server, "dev", "CREATE TABLE u (id BIGINT)").await;
    let change = |name: &str, commit: &Value| {
        let mut change = commit.clone();
        change["identifier"] = json!({"namespace": ["public"], "name": name});
        change
    };
    let rename = |snapshot: Value| {
        json!({
            "requirements": [{"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": snapshot}],
            "updates": [{"action": "set-properties", "updates": {"a": "b"}}]
        })
    };
    let before = commits(&server, "dev").await;
    let path = "/iceberg/v1/dev/transactions/commit";
    let changes = json!({"table-changes": [change("t", &commit), change("u", &rename(json!(5)))]});
    let (status, answer) = server.ask(Method::POST, path, Some(&changes)).await;
    assert_eq!((status, &answer["error"]["type"]), (409, &json!("CommitFailedException")));
    assert_eq!(sql(&server, "dev", "SELECT id FROM t").await, json!([]));
    let changes =
        json!({"table-changes": [change("t", &commit), change("u", &rename(Value::Null))]});
    assert_eq!(server.ask(Method::POST, path, Some(&changes)).await.0, 204);
    assert_eq!(sql(&server, "dev", "SELECT id FROM t").await, json!([{"id": 1}]));
    assert_eq!(commits(&server, "dev").await, before + 1);
    let loaded = server.get(&table("dev", "u")).await;
    assert_eq!(loaded["metadata"]["properties"]["a"], "b");
    assert_eq!(server.ask(Method::POST, path, Some(&changes)).await.0, 204, "sent again");
    assert_eq!(commits(&server, "dev").await, before + 1);
    let missing = json!({"table-changes": [change("no", &rename(Value::Null))]});
    assert_eq!(server.ask(Method::POST, path, Some(&missing)).await.0, 404);
}

async fn staged() {
    let server = TestServer::start().await;
    let new = json!({
        "name": "t", "stage-create": true,
        "schema": {"type": "struct", "fields": [{"id": 1, "name": "id", "required": false, "type": "long"}]}
    });
    let tables = "/iceberg/v1/main/namespaces/public/tables";
    let (status, staged) = server.ask(Method::POST, tables, Some(&new)).await;
    assert_eq!(status, 200, "{staged}");
    let metadata = &staged["metadata"];
    let commit = json!({
        "requirements": [{"type": "assert-create"}],
        "updates": [
            {"action": "assign-uuid", "uuid": metadata["table-uuid"]},
            {"action": "upgrade-format-version", "format-version": 2},
            {"action": "add-schema", "schema": metadata["schemas"][0], "last-column-id": 1},
            {"action": "set-current-schema", "schema-id": -1},
            {"action": "add-spec", "spec": metadata["partition-specs"][0]},
            {"action": "set-default-spec", "spec-id": -1},
            {"action": "add-sort-order", "sort-order": {"order-id": 0, "fields": []}},
            {"action": "set-default-sort-order", "sort-order-id": -1},
            {"action": "set-location", "location": metadata["location"]},
            {"action": "set-properties", "updates": {"a": "b"}}
        ]
    });
    let (status, made) = server.ask(Method::POST, &table("main", "t"), Some(&commit)).await;
    assert_eq!(status, 200, "{made}");
    for field in ["table-uuid", "location", "schemas", "partition-specs", "sort-orders"] {
        assert_eq!(made["metadata"][field], metadata[field], "{field}");
    }
    let (status, again) = server.ask(Method::POST, &table("main", "t"), Some(&commit)).await;
    assert_eq!((status, again), (200, made), "the same commit sent twice");
    let mut other = commit.clone();
    other["updates"][0]["uuid"] = json!("00000000-0000-4000-8000-000000000000");
    let (status, answer) = server.ask(Method::POST, &table("main", "t"), Some(&other)).await;
    assert_eq!((status, &answer["error"]["type"]), (409, &json!("CommitFailedException")));
    let (_, answer) = server.ask(Method::POST, &table("main", "u"), Some(&commit)).await;
    let message = answer["error"]["message"].as_str().expect("a message");
    assert!(message.contains("another table"), "{message}");
}

async fn unreadable() {
    let (server, commit) = one_row_ahead().await;
    let list = commit["updates"][0]["snapshot"]["manifest-list"].as_str().expect("a location");
    let path = list.strip_prefix("file://").expect("a file");
    let broken = format!("{path}.broken");
    std::fs::write(&broken, b"no manifest list").expect("a file");
    for location in [format!("{list}.broken"), format!("{list}.missing")] {
        let mut commit = commit.clone();
        commit["updates"][0]["snapshot"]["manifest-list"] = json!(location);
        let (status, answer) = server.ask(Method::POST, &table("dev", "t"), Some(&commit)).await;
        assert_eq!(status, 400, "{answer}");
        let message = answer["error"]["message"].as_str().expect("a message");
        assert!(message.contains(&location), "{message}");
    }
    assert!(std::fs::exists(&broken).expect("a folder"), "files of others are left alone");
    assert_eq!(sql(&server, "dev", "SELECT id FROM t").await, json!([]));
}

async fn column_ids() {
    let (server, _) = one_row_ahead().await;
    let field =
        |id: i64, name: &str| json!({"id": id, "name": name, "required": false, "type": "long"});
    let schema = json!({"type": "struct", "fields": [field(1, "id"), field(2, "theirs")]});
    let commit = json!({
        "requirements": [{"type": "assert-last-assigned-field-id", "last-assigned-field-id": 1}],
        "updates": [
            {"action": "add-schema", "schema": schema, "last-column-id": 2},
            {"action": "set-current-schema", "schema-id": -1}
        ]
    });
    assert_eq!(server.ask(Method::POST, &table("dev", "t"), Some(&commit)).await.0, 200);
    sql(&server, "main", "ALTER TABLE t ADD COLUMN ours BIGINT").await;
    let (status, merged) =
        server.ask(Method::POST, "/v1/branches/main/merge", Some(&json!({"source": "dev"}))).await;
    assert_eq!(status, 200, "{merged}");
    let rows = sql(&server, "main", "SELECT id, ours, theirs FROM t").await;
    assert_eq!(rows, json!([{"id": 1, "ours": null, "theirs": null}]));
}

async fn field_ids() {
    let (server, _) = one_row_ahead().await;
    sql(&server, "main", "ALTER TABLE t ADD COLUMN x BIGINT").await;
    sql(&server, "main", "INSERT INTO t VALUES (2, 7)").await;
    sql(&server, "main", "ALTER TABLE t DROP COLUMN x").await;
    let loaded = server.get(&table("dev", "t")).await;
    assert_eq!(loaded["metadata"]["last-column-id"], 2, "`main` gave it away");
    let field =
        |id: i64, name: &str| json!({"id": id, "name": name, "required": false, "type": "long"});
    let commit = |id: i64| {
        let schema = json!({"type": "struct", "fields": [field(1, "id"), field(id, "y")]});
        json!({
            "requirements": [{"type": "assert-last-assigned-field-id", "last-assigned-field-id": 2}],
            "updates": [
                {"action": "add-schema", "schema": schema},
                {"action": "set-current-schema", "schema-id": -1}
            ]
        })
    };
    let (status, answer) = server.ask(Method::POST, &table("dev", "t"), Some(&commit(2))).await;
    assert_eq!((status, &answer["error"]["type"]), (409, &json!("CommitFailedException")));
    assert_eq!(server.ask(Method::POST, &table("dev", "t"), Some(&commit(3))).await.0, 200);
    let merge = json!({"source": "dev"});
    let (status, merged) = server.ask(Method::POST, "/v1/branches/main/merge", Some(&merge)).await;
    assert_eq!(status, 200, "{merged}");
    let rows = sql(&server, "main", "SELECT id, y FROM t ORDER BY id").await;
    assert_eq!(rows, json!([{"id": 1, "y": null}, {"id": 2, "y": null}]));
}

async fn requests_with_keys() {
    let (server, commit) = one_row_ahead().await;
    let send = async |method: Method, path: &str, key: &str, sent: &Value| {
        let mut request = request(method, path, Some(sent));
        request.headers_mut().insert("idempotency-key", key.parse().expect("a header"));
        server.send(request).await.status().as_u16()
    };
    let namespaces = "/iceberg/v1/dev/namespaces";
    let tables = "/iceberg/v1/dev/namespaces/raw/tables";
    let trip = "/iceberg/v1/dev/namespaces/raw/tables/trip";
    let ride = "/iceberg/v1/dev/namespaces/raw/tables/ride";
    let fields = json!([{"id": 1, "name": "id", "required": false, "type": "long"}]);
    let new = json!({"name": "trip", "schema": {"type": "struct", "fields": fields}});
    let named = |name: &str| json!({"namespace": ["raw"], "name": name});
    let rename = json!({"source": named("trip"), "destination": named("ride")});
    let nothing = json!({});
    let properties = json!({"updates": {"a": "b"}});
    let in_raw = format!("{namespaces}/raw");
    let requests = [
        (Method::POST, namespaces, json!({"namespace": ["raw"]}), 200),
        (Method::POST, &*format!("{in_raw}/properties"), properties, 200),
        (Method::POST, tables, new, 200),
        (Method::POST, "/iceberg/v1/dev/tables/rename", rename, 204),
        (Method::DELETE, ride, nothing.clone(), 204),
        (Method::DELETE, &*in_raw, nothing, 204),
        (Method::POST, &*table("dev", "t"), commit, 200),
    ];
    for (number, (method, path, sent, status)) in requests.iter().enumerate() {
        let key = format!("key-{number}");
        let before = commits(&server, "dev").await;
        assert_eq!(send(method.clone(), path, &key, sent).await, *status, "{method} {path}");
        assert_eq!(commits(&server, "dev").await, before + 1, "{method} {path}");
        if *path == tables {
            assert_eq!(send(method.clone(), path, "another", sent).await, 409);
        }
        assert_eq!(send(method.clone(), path, &key, sent).await, *status, "{method} {path} again");
        assert_eq!(commits(&server, "dev").await, before + 1, "{method} {path} again");
    }
    assert_eq!(server.ask(Method::HEAD, trip, None).await.0, 404);
}

async fn no_garbage() {
    let (server, _) = one_row_ahead().await;
    let loaded = server.get(&table("dev", "t")).await;
    assert_eq!(loaded["metadata"]["properties"]["gc.enabled"], "false");
    let updates =
        json!([{"action": "set-properties", "updates": {"gc.enabled": "true", "a": "b"}}]);
    let commit = json!({"requirements": [], "updates": updates});
    let (_, made) = server.ask(Method::POST, &table("dev", "t"), Some(&commit)).await;
    assert_eq!(made["metadata"]["properties"], json!({"a": "b", "gc.enabled": "false"}));
    let shown = server.get("/v1/refs/dev/tables/t").await;
    assert_eq!(shown["properties"], json!({"a": "b"}));
}

async fn broken_changes() {
    let (server, commit) = one_row_ahead().await;
    let list = commit["updates"][0]["snapshot"]["manifest-list"].as_str().expect("a location");
    let slashes = list.replace("/metadata/", "//metadata/");
    let mut twice = commit.clone();
    twice["updates"][0]["snapshot"]["manifest-list"] = json!(slashes);
    let mut far = commit.clone();
    far["updates"][0]["snapshot"]["sequence-number"] = json!(i64::MAX);
    let field = |id: i64| json!({"id": id, "name": "x", "required": false, "type": "long"});
    let schema = json!({"type": "struct", "fields": [field(2_147_483_600)]});
    let only = |update: Value| json!({"requirements": [], "updates": [update]});
    let uuid = "00000000-0000-4000-8000-000000000000";
    let mut tag = commit.clone();
    tag["updates"][1]["type"] = json!("tag");
    let changes = [
        twice,
        far,
        tag,
        only(json!({"action": "add-schema", "schema": schema})),
        only(json!({"action": "assign-uuid", "uuid": uuid})),
        only(json!({"action": "set-location", "location": "file:///tmp/elsewhere"})),
        only(json!({"action": "no-such-update"})),
    ];
    for change in changes {
        let (status, answer) = server.ask(Method::POST, &table("dev", "t"), Some(&change)).await;
        assert_eq!(status, 400, "{change} {answer}");
    }
    assert_eq!(sql(&server, "dev", "SELECT id FROM t").await, json!([]));
    let mut stale = commit.clone();
    stale["requirements"] = json!([]);
    stale["updates"][0]["snapshot"]["parent-snapshot-id"] = json!(1);
    stale["updates"][0]["snapshot"]["sequence-number"] = json!(0);
    let (status, answer) = server.ask(Method::POST, &table("dev", "t"), Some(&stale)).await;
    assert_eq!((status, &answer["error"]["type"]), (409, &json!("CommitFailedException")));
}

async fn nothing() {
    let (server, _) = one_row_ahead().await;
    let protect = json!({"protected": true});
    assert_eq!(server.ask(Method::PATCH, "/v1/branches/dev", Some(&protect)).await.0, 200);
    let before = commits(&server, "dev").await;
    let commit = json!({"requirements": [], "updates": []});
    let (status, made) = server.ask(Method::POST, &table("dev", "t"), Some(&commit)).await;
    assert_eq!(status, 200, "{made}");
    assert_eq!(commits(&server, "dev").await, before);
}

async fn registered() {
    type Change<'a> = (&'a str, &'a dyn Fn(&mut Value));
    let server = TestServer::start().await;
    sql(&server, "main", "CREATE TABLE t (id INT) TBLPROPERTIES ('format-version' = '3')").await;
    sql(&server, "main", "INSERT INTO t VALUES (1)").await;
    let loaded = server.get(&table("main", "t")).await;
    let file = loaded["metadata-location"].as_str().expect("a location");
    let text = std::fs::read_to_string(file.trim_start_matches("file://")).expect("metadata");
    let metadata: Value = serde_json::from_str(&text).expect("JSON");
    let place = metadata["location"].as_str().expect("a location").to_owned();
    let root = place.rsplit_once('/').expect("a folder").0.to_owned();
    let mut round = 0;
    let mut register = async |change: &dyn Fn(&mut Value)| {
        round += 1;
        let mut other = metadata.clone();
        other["location"] = json!(format!("{root}/other-{round}"));
        other["table-uuid"] = json!(format!("00000000-0000-4000-8000-00000000000{round}"));
        change(&mut other);
        let folder = format!("{}/other-{round}/metadata", root.trim_start_matches("file://"));
        std::fs::create_dir_all(&folder).expect("a folder");
        let name = format!("00000-{round}.metadata.json");
        std::fs::write(format!("{folder}/{name}"), other.to_string()).expect("a file");
        let location = format!("{root}/other-{round}/metadata/{name}");
        let asked = json!({"name": format!("other_{round}"), "metadata-location": location});
        server.ask(Method::POST, "/iceberg/v1/main/namespaces/public/register", Some(&asked)).await
    };
    let (status, answer) = register(&|_| {}).await;
    assert_eq!(status, 200, "{answer}");
    let within = format!("{place}/within");
    let changes: [Change<'_>; 7] = [
        ("is the location of table", &|it| it["location"] = json!(place)),
        ("is inside another table", &|it| it["location"] = json!(within)),
        ("above `last-column-id`", &|it| it["schemas"][0]["fields"][0]["id"] = json!(77)),
        ("`last-column-id` 2147483647 is too large", &|it| it["last-column-id"] = json!(i32::MAX)),
        ("is out of range", &|it| it["last-sequence-number"] = json!(i64::MAX)),
        ("`next-row-id`", &|it| it["next-row-id"] = json!(0)),
        ("nanosecond precision requires format version 3", &|it| {
            it["format-version"] = json!(2);
            it["snapshots"] = json!([]);
            it["refs"] = json!({});
            it["current-snapshot-id"] = Value::Null;
            it["snapshot-log"] = json!([]);
            it["schemas"][0]["fields"][0]["type"] = json!("timestamp_ns");
        }),
    ];
    for (reason, change) in changes {
        let (status, answer) = register(change).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(status, 400, "{reason}: {answer}");
        assert!(message.contains(reason), "{reason}: {message}");
    }
}

async fn row_ids() {
    let server = TestServer::start().await;
    sql(&server, "main", "CREATE TABLE t (id INT) TBLPROPERTIES ('format-version' = '3')").await;
    server.post("/v1/branches", json!({"name": "dev"})).await;
    sql(&server, "main", "INSERT INTO t VALUES (1), (2)").await;
    let loaded = server.get(&table("main", "t")).await;
    let commit = append_of(&loaded["metadata"]);
    let mut fewer = commit.clone();
    fewer["updates"][0]["snapshot"]["added-rows"] = json!(0);
    let (status, answer) = server.ask(Method::POST, &table("dev", "t"), Some(&fewer)).await;
    assert_eq!(status, 400, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("`next-row-id`"), "{message}");
    let (status, answer) = server.ask(Method::POST, &table("dev", "t"), Some(&commit)).await;
    assert_eq!(status, 200, "{answer}");
    let rows = sql(&server, "dev", "SELECT id, _row_id FROM t ORDER BY id").await;
    assert_eq!(rows, json!([{"id": 1, "_row_id": 0}, {"id": 2, "_row_id": 1}]));
}

async fn views() {
    let server = TestServer::start().await;
    sql(&server, "main", "CREATE VIEW seen AS SELECT 1 AS id").await;
    let set = json!({"action": "set-properties", "updates": {"owner": "ada"}});
    let commit = json!({"requirements": [], "updates": [set]});
    let identifier = json!({"namespace": ["public"], "name": "seen"});
    let mut change = commit.clone();
    change["identifier"] = identifier.clone();
    let many = json!({"table-changes": [change]});
    let renamed = json!({"source": identifier, "destination": identifier});
    for (path, sent) in [
        (table("main", "seen"), &commit),
        ("/iceberg/v1/main/transactions/commit".to_owned(), &many),
        ("/iceberg/v1/main/tables/rename".to_owned(), &renamed),
    ] {
        let (status, answer) = server.ask(Method::POST, &path, Some(sent)).await;
        assert_eq!(
            (status, &answer["error"]["type"]),
            (404, &json!("NoSuchTableException")),
            "{path}"
        );
    }
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(server.ask(method, &table("main", "seen"), None).await.0, 404);
    }
}

async fn locations() {
    let server = TestServer::start().await;
    sql(&server, "main", "CREATE TABLE t (id INT)").await;
    let loaded = server.get(&table("main", "t")).await;
    let root = loaded["metadata"]["location"].as_str().expect("a location");
    let root = root.rsplit_once('/').expect("a folder").0.to_owned();
    let fields = json!([{"id": 1, "name": "id", "type": "int", "required": false}]);
    let schema = json!({"type": "struct", "schema-id": 0, "fields": fields});
    let path = "/iceberg/v1/main/namespaces/public/tables";
    for round in 0..5 {
        let place = format!("{root}/own-{round}");
        let asked = |name: &str| json!({"name": format!("{name}_{round}"), "schema": schema, "location": place});
        let (one, two, three) = (asked("one"), asked("two"), asked("three"));
        let made = futures::future::join_all(
            [&one, &two, &three].map(|new| server.ask(Method::POST, path, Some(new))),
        );
        let statuses: Vec<u16> = made.await.into_iter().map(|(status, _)| status).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        let again = server.ask(Method::POST, path, Some(&asked("again"))).await;
        assert_eq!(again.0, 400, "{}", again.1);
    }
}
