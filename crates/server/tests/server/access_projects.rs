//! Tests of users without administration that work on a project: runs, imports, deployments and
//! secrets, with the rights of the user.

use headwater_model::Principal;
use hyper::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::access::{Users, permission};
use crate::kafka_server::KafkaProcess;
use crate::support::PATIENCE;
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("access_projects::a_run_has_the_rights_of_its_user", runs),
        trial("access_projects::lineage_has_only_readable_tables", lineage),
        trial("access_projects::a_quarantine_table_needs_rights", quarantine),
        trial("access_projects::the_branch_of_a_failed_run_belongs_to_its_user", failed_run),
        trial("access_projects::an_import_needs_its_table_branch_and_location", imports),
        trial("access_projects::a_deployment_has_the_rights_of_its_user", deployments),
        trial("access_projects::triggers_of_a_user_reach_private_servers_by_grant", addresses),
        trial("access_projects::auditors_read_the_audit_log", audit),
        trial("access_projects::secrets_are_set_and_used_by_grants", secrets),
        trial("access_projects::a_function_in_a_folder_needs_the_right_to_run", in_folder),
    ]
}

impl Users {
    pub async fn grant(&self, user: &str, grants: &[&str]) {
        for grant in grants {
            let granted = self.access.grant(&Principal::owner(), user, permission(grant)).await;
            granted.expect(grant);
        }
    }

    pub async fn post(&self, token: &str, path: &str, body: Value) -> (u16, Value) {
        let (status, answer) = self.send(token, Method::POST, path, Some(body)).await;
        (status.as_u16(), answer)
    }

    /// Starts a job and waits for its end. Returns the status, or the error code.
    pub async fn job(&self, token: &str, path: &str, body: Value) -> String {
        let (status, started) = self.post(token, path, body).await;
        if status >= 400 {
            return started["code"].as_str().unwrap_or_default().to_owned();
        }
        let job = format!("/v1/jobs/{}", started["id"].as_str().expect("an id"));
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let (_, job) = self.get(token, &job).await;
            match job["status"].as_str().expect("a status") {
                "queued" | "running" => {}
                "succeeded" => return "succeeded".to_owned(),
                _ => return job["error"]["code"].as_str().unwrap_or_default().to_owned(),
            }
            assert!(std::time::Instant::now() < deadline, "the job does not end: {job}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

/// A project with one model that reads a table.
pub fn project(sql: &str) -> Value {
    json!({"files": {
        "headwater.toml": "[project]\nname = \"shop\"\n[defaults]\nnamespace = \"shop\"\n",
        "models/copy.sql": format!("-- headwater: materialization = replace\n{sql}\n"),
    }})
}

async fn runs() {
    let users = Users::start().await;
    let ana = users.user("ana", &["read on branch:*", "select on table:shop.items"]).await;
    let reads = project("SELECT id FROM items");
    let run_by = async |token: &str, body: &Value| users.job(token, "/v1/runs", body.clone()).await;
    let run = async |body: &Value| run_by(&ana, body).await;
    // Without any one of these rights, the run is forbidden.
    for grant in ["run on project:shop", "write on branch:main", "insert,create on table:shop.copy"]
    {
        assert_eq!(run(&reads).await, "forbidden", "before {grant}");
        users.grant("ana", &[grant]).await;
    }
    assert_eq!(run(&reads).await, "succeeded");
    let hidden = project("SELECT id FROM sales.orders");
    let by_view = project("SELECT id FROM best");
    let elsewhere = project("SELECT id FROM sales.orders@main");
    let system = project("SELECT summary FROM system.jobs");
    for body in [&hidden, &elsewhere, &system, &by_view] {
        assert_eq!(run(body).await, "forbidden", "{body}");
        let mut dry = body.clone();
        dry["dry_run"] = json!(true);
        let (status, answer) = users.post(&ana, "/v1/runs", dry).await;
        assert_eq!(status, 403, "{answer}");
    }
    // The right to read the view does not include the right to read the view's table.
    users.grant("ana", &["select on view:shop.best"]).await;
    assert_eq!(run(&by_view).await, "forbidden");
    // Replacing rows and columns of the table of another user requires more rights than creating
    // it.
    let grants = [
        "read,write on branch:main",
        "select on table:shop.items",
        "run on project:shop",
        "insert,create on table:shop.copy",
    ];
    let bob = users.user("bob", &grants).await;
    let changed = project("SELECT id, 2 AS more FROM items");
    assert_eq!(run_by(&bob, &changed).await, "forbidden");
    users.grant("bob", &["delete on table:shop.copy"]).await;
    assert_eq!(run_by(&bob, &changed).await, "forbidden");
    users.grant("bob", &["alter on table:shop.copy"]).await;
    assert_eq!(run_by(&bob, &changed).await, "succeeded");
    // The user of the first run owns the table.
    let changed = project("SELECT id, 'x' AS more FROM items");
    assert_eq!(run(&changed).await, "succeeded");
    assert_eq!(users.sql_at(&ana, "main", "SELECT more FROM shop.copy").await.0, 200);
    let other = json!({"files": {"headwater.toml": "[project]\nname = \"other\"\n"}});
    assert_eq!(run(&other).await, "forbidden");
}

async fn lineage() {
    let users = Users::start().await;
    let grants = [
        "run on project:shop",
        "read,write on branch:main",
        "select on table:sales.orders",
        "select,insert,create on namespace:shop",
    ];
    let ana = users.user("ana", &grants).await;
    let sql = "SELECT i.id, o.customer FROM items AS i JOIN sales.orders AS o ON i.id < o.id";
    assert_eq!(users.job(&ana, "/v1/runs", project(sql)).await, "succeeded");
    let models = "SELECT name, materialization FROM system.models";
    let inputs = "SELECT input_name AS i, input_column AS c FROM system.lineage ORDER BY i, c";
    let model = json!([{"name": "copy", "materialization": "replace"}]);
    assert_eq!(users.sql_at(&ana, "main", models).await.1, model);
    let row = |name: &str, column: Value| json!({"i": name, "c": column});
    let (items, id) = (row("items", Value::Null), row("items", json!("id")));
    let (orders, customer) = (row("orders", Value::Null), row("orders", json!("customer")));
    let all = json!([id, items, customer, orders]);
    assert_eq!(users.sql_at(&ana, "main", inputs).await.1, all);
    // A user sees the models of readable tables, but not the names of other inputs and their
    // columns.
    let read = ["read on branch:main", "select on table:shop.copy", "select on table:shop.items"];
    let bob = users.user("bob", &read).await;
    assert_eq!(users.sql_at(&bob, "main", models).await.1, model);
    assert_eq!(users.sql_at(&bob, "main", inputs).await.1, json!([id, items]));
    let eve = users.user("eve", &["read on branch:main", "select on table:shop.items"]).await;
    assert_eq!(users.sql_at(&eve, "main", models).await.1, json!([]));
    assert_eq!(users.sql_at(&eve, "main", inputs).await.1, json!([]));
    // A mask hides the profiles of the table, which contain values of its columns.
    let profiles = "SELECT \"column\" AS c FROM system.profiles ORDER BY c";
    let columns = json!([{"c": "customer"}, {"c": "id"}]);
    for reader in [&ana, &bob] {
        assert_eq!(users.sql_at(reader, "main", profiles).await.1, columns);
    }
    assert_eq!(users.sql_at(&eve, "main", profiles).await.1, json!([]));
    let mask = "CREATE COLUMN MASK names ON shop.copy (customer) \
                USING (CASE WHEN is_member('hr') THEN customer END) TO bob";
    let root = users.user("root", &["administer on lake"]).await;
    users.check(&root, mask, 200).await;
    assert_eq!(users.sql_at(&bob, "main", profiles).await.1, json!([]));
    assert_eq!(users.sql_at(&ana, "main", profiles).await.1, columns);
}

async fn quarantine() {
    let users = Users::start().await;
    let grants = [
        "run on project:shop",
        "write on branch:main",
        "select on table:shop.items",
        "insert,create on table:shop.copy",
    ];
    let ana = users.user("ana", &grants).await;
    let mut body = project("SELECT id FROM items");
    let sql = "-- headwater: materialization = replace\n\
               -- headwater: expect_or_quarantine = id > 1\nSELECT id FROM items";
    body["files"]["models/copy.sql"] = json!(sql);
    assert_eq!(users.job(&ana, "/v1/runs", body.clone()).await, "forbidden");
    users.grant("ana", &["insert,create on table:shop.copy_quarantine"]).await;
    assert_eq!(users.job(&ana, "/v1/runs", body).await, "succeeded");
}

async fn failed_run() {
    let users = Users::start().await;
    let grants = [
        "run on project:shop",
        "write,read on branch:main",
        "select,insert,create on namespace:shop",
    ];
    let ana = users.user("ana", &grants).await;
    let bob = users.user("bob", &grants).await;
    let mut body = project("SELECT id FROM items");
    body["files"]["models/broken.sql"] =
        json!("-- headwater: materialization = replace\nSELECT 1 / (id - 1) AS n FROM copy\n");
    assert_ne!(users.job(&ana, "/v1/runs", body).await, "succeeded");
    let (_, branches) = users.get(&ana, "/v1/branches?prefix=run/").await;
    let name = branches[0]["name"].as_str().expect("a branch").to_owned();
    let (_, others) = users.get(&bob, "/v1/branches?prefix=run/").await;
    assert_eq!(others, json!([]));
    let path = format!("/v1/branches/{}", name.replace('/', "%2F"));
    assert_eq!(users.send(&bob, Method::DELETE, &path, None).await.0, 403);
    assert_eq!(users.send(&ana, Method::DELETE, &path, None).await.0, 204);
}

async fn imports() {
    let users = Users::start().await;
    let ana = users.user("ana", &["read on branch:*"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (allowed, denied) = (folder.path().join("in"), folder.path().join("other"));
    for path in [&allowed, &denied] {
        std::fs::create_dir(path).expect("a folder");
        std::fs::write(path.join("a.csv"), "id\n5\n").expect("a file");
        std::fs::write(path.join("wide.csv"), "id,more\n6,7\n").expect("a file");
    }
    let import = async |table: &str, path: String| {
        let body = json!({"table": table, "sources": [path]});
        users.job(&ana, "/v1/imports", body).await
    };
    let file = |folder: &std::path::Path, name: &str| folder.join(name).display().to_string();
    let location = format!("read on location:{}", allowed.display());
    for grant in ["insert on table:shop.items", "write on branch:main", location.as_str()] {
        assert_eq!(import("shop.items", file(&allowed, "a.csv")).await, "forbidden", "{grant}");
        users.grant("ana", &[grant]).await;
    }
    assert_eq!(import("shop.items", file(&allowed, "a.csv")).await, "succeeded");
    for source in [
        file(&denied, "a.csv"),
        file(folder.path(), "*/a.csv"),
        file(&allowed, "../other/a.csv"),
        file(&allowed, "{a,../../other/a}.csv"),
        file(folder.path(), "in{,/../other}/a.csv"),
    ] {
        assert_eq!(import("shop.items", source.clone()).await, "forbidden", "{source}");
    }
    // A new column requires the right `alter`, a new table the right `create`.
    assert_eq!(import("shop.items", file(&allowed, "wide.csv")).await, "forbidden");
    assert_eq!(import("shop.new", file(&allowed, "a.csv")).await, "forbidden");
    users.grant("ana", &["alter on table:shop.items", "insert,create on table:shop.new"]).await;
    assert_eq!(import("shop.items", file(&allowed, "wide.csv")).await, "succeeded");
    assert_eq!(import("shop.new", file(&allowed, "a.csv")).await, "succeeded");
    // A row filter forbids new columns, also after the table was renamed.
    for sql in [
        "CREATE TABLE shop.stock AS SELECT 1 AS id",
        "CREATE ROW FILTER few ON shop.stock USING (id < 5) TO ana",
        "ALTER TABLE shop.stock RENAME TO shop.kept",
    ] {
        let answer = users.server.rows(sql).await;
        assert!(answer.get("code").is_none(), "{sql}: {answer}");
    }
    users.grant("ana", &["insert,alter on table:shop.kept"]).await;
    assert_eq!(import("shop.kept", file(&allowed, "wide.csv")).await, "forbidden");
    assert_eq!(import("shop.kept", file(&allowed, "a.csv")).await, "succeeded");
    // A user can import its own upload without a right on the upload's location.
    let bob = users.user("bob", &["insert on table:shop.items", "write on branch:main"]).await;
    let upload =
        users.send(&bob, Method::POST, "/v1/uploads?name=a.csv", Some(json!("id"))).await.1;
    let path = upload["path"].as_str().expect("a path").to_owned();
    assert_eq!(import("shop.items", path.clone()).await, "forbidden");
    let body = json!({"table": "shop.items", "sources": [path]});
    assert_eq!(users.job(&bob, "/v1/imports", body).await, "succeeded");
}

async fn in_folder() {
    let users = Users::start().await;
    let ana = users.user("ana", &["read on branch:main"]).await;
    let call = async |project: &str, function: &str| {
        let code = "import headwater\n\n\n@headwater.function()\ndef made():\n    return 7\n";
        let settings = format!("[project]\nname = \"{project}\"\n");
        let files = json!({"headwater.toml": settings, "functions/made.py": code});
        let path = format!("/v1/functions/{function}/invoke");
        users.post(&ana, &path, json!({"arguments": {}, "files": files})).await
    };
    assert_eq!(call("shop", "made").await.0, 403);
    users.grant("ana", &["run on project:shop"]).await;
    assert_eq!(call("shop", "made").await, (200, json!(7)));
    assert_eq!(call("other", "made").await.0, 403);
    // The deployed function of this name needs `invoke`.
    let code = "def handler(event, context):\n    return 8\n";
    let new = json!({"runtime": "python3.11", "handler": "app.handler", "files": {"app.py": code}});
    let root = users.user("root", &["administer on lake"]).await;
    let deployed = users.send(&root, Method::PUT, "/v1/functions/made", Some(new)).await;
    assert!(deployed.0.is_success(), "{}", deployed.1);
    let path = "/v1/functions/made/invoke";
    assert_eq!(users.post(&ana, path, json!({"arguments": {}})).await.0, 403);
    assert_eq!(call("shop", "made").await, (200, json!(7)));
}

async fn deployments() {
    let users = Users::start().await;
    let ana = users.user("ana", &["deploy on project:shop"]).await;
    let bob = users.user("bob", &["deploy on project:other"]).await;
    let other = json!({"files": {"headwater.toml": "[project]\nname = \"other\"\n"}});
    let shop = project("SELECT id FROM items");
    assert_eq!(users.post(&bob, "/v1/deployments", shop.clone()).await.0, 403);
    let (status, report) = users.post(&ana, "/v1/deployments", shop).await;
    assert_eq!(status, 201, "{report}");
    // The replacement of another project's version requires the right to deploy both projects.
    assert_eq!(users.post(&bob, "/v1/deployments", other.clone()).await.0, 403);
    assert_eq!(users.post(&ana, "/v1/deployments", other).await.0, 403);
    let (_, versions) = users.get(&bob, "/v1/deployments").await;
    assert_eq!(versions, json!([]));
    let version = report["deployment"]["version"].as_str().expect("a version");
    let path = format!("/v1/deployments/{version}");
    let hidden = users.get(&bob, &path).await;
    assert_eq!(hidden.0, 403, "{}", hidden.1);
    assert_eq!(hidden, users.get(&bob, "/v1/deployments/none").await, "the project has no name");
    assert_eq!(users.get(&ana, &path).await.0, 200);
}

async fn addresses() {
    let kafka = tokio::task::spawn_blocking(|| {
        let mut kafka = KafkaProcess::start();
        kafka.run(&json!({"do": "topic", "topic": "orders"}));
        kafka
    });
    let kafka = kafka.await.expect("Kafka");
    let users = Users::start().await;
    let ana = users.user("ana", &["deploy on project:shop"]).await;
    let source = format!("{{ servers = \"{}\", topic = \"orders\" }}", kafka.servers());
    let trigger = format!("[[trigger]]\nname = \"order\"\nrun = true\nkafka = {source}\n");
    let manifest = format!("[project]\nname = \"shop\"\n\n{trigger}");
    let body = json!({"files": {"headwater.toml": manifest}});
    let (status, report) = users.post(&ana, "/v1/deployments", body.clone()).await;
    assert_eq!(status, 201, "{report}");
    let is_forbidden = |triggers: &Value| triggers[0]["error"]["code"] == "forbidden";
    let triggers = users.server.until("/v1/triggers", is_forbidden).await;
    let message = triggers[0]["error"]["message"].as_str().expect("a message");
    assert!(message.ends_with("`127.0.0.1` is an address of the server's host"), "{message}");
    // The trigger connects again by itself after the grant.
    let location = format!("read on location:kafka://{}", kafka.servers());
    users.grant("ana", &[&location]).await;
    let is_read = |triggers: &Value| triggers[0]["error"] == Value::Null;
    users.server.until("/v1/triggers", is_read).await;
    // Another user cannot continue with the connection.
    let bob = users.user("bob", &["deploy on project:shop"]).await;
    let (status, report) = users.post(&bob, "/v1/deployments", body).await;
    assert_eq!(status, 201, "{report}");
    users.server.until("/v1/triggers", is_forbidden).await;
}

async fn secrets() {
    let users = Users::start().await;
    let ana = users.user("ana", &["set on secret:SHOP_*", "deploy on project:shop"]).await;
    let put_by = async |token: &str, name: &str| {
        let body = Some(json!({"value": "not to be seen"}));
        users.send(token, Method::PUT, &format!("/v1/secrets/{name}"), body).await.0.as_u16()
    };
    let put = async |name: &str| put_by(&ana, name).await;
    assert_eq!((put("SHOP_KEY").await, put("OTHER_KEY").await), (200, 403));
    // The value of another user does not belong to the user that set the first value.
    let bob = users.user("bob", &["set on secret:SHOP_KEY"]).await;
    assert_eq!(put_by(&bob, "SHOP_KEY").await, 200);
    let code =
        "import headwater\n@headwater.function(secrets=[\"SHOP_KEY\"])\ndef f():\n    pass\n";
    let files = json!({"headwater.toml": "[project]\nname = \"shop\"\n", "f.py": code});
    let body = json!({"files": files});
    let (status, answer) = users.post(&ana, "/v1/deployments", body.clone()).await;
    assert_eq!(status, 403, "{answer}");
    assert_eq!(answer["message"], "user `ana` may not use secret `SHOP_KEY`");
    let source = r#"{ url = "postgres://u@127.0.0.1:1/d", secret = "SHOP_KEY", channel = "c" }"#;
    let trigger = format!("[[trigger]]\nname = \"order\"\nrun = true\npostgres = {source}\n");
    let manifest = format!("[project]\nname = \"shop\"\n\n{trigger}");
    let of_trigger = json!({"files": {"headwater.toml": manifest}});
    let (status, answer) = users.post(&ana, "/v1/deployments", of_trigger.clone()).await;
    assert_eq!((status, &answer["code"]), (403, &json!("forbidden")), "{answer}");
    users.grant("ana", &["use on secret:SHOP_KEY"]).await;
    for body in [body, of_trigger] {
        let (status, answer) = users.post(&ana, "/v1/deployments", body).await;
        assert_eq!(status, 201, "{answer}");
    }
    let (_, listed) = users.get(&ana, "/v1/secrets").await;
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    // A user owns a secret as long as it has set all values.
    let code = code.replace("SHOP_KEY", "SHOP_OWN");
    let files = json!({"headwater.toml": "[project]\nname = \"shop\"\n", "f.py": code});
    let deploy = async || users.post(&ana, "/v1/deployments", json!({"files": files})).await.0;
    assert_eq!((put("SHOP_OWN").await, put("SHOP_OWN").await, deploy().await), (200, 200, 201));
    let call = async |token: &str| {
        users.post(token, "/v1/functions/f/invoke", json!({"arguments": {}})).await.0
    };
    assert_eq!(call(&ana).await, 200);
    let path = "/v1/secrets/SHOP_OWN";
    assert!(users.send(&ana, Method::DELETE, path, None).await.0.is_success());
    let root = users.user("root", &["administer on lake"]).await;
    assert_eq!((put_by(&root, "SHOP_OWN").await, deploy().await), (200, 403));
    // The deployed code of the earlier owner does not receive the value of the other user.
    assert_eq!((call(&ana).await, call(&root).await), (403, 403));
    users.grant("ana", &["use on secret:SHOP_OWN"]).await;
    assert_eq!((call(&ana).await, call(&root).await), (200, 200));
}

async fn audit() {
    let users = Users::start().await;
    let reads = "read on branch:main";
    let ana = users.user("ana", &["select on table:shop.items", reads]).await;
    let auditor = users.user("auditor", &["audit on lake", reads]).await;
    let query =
        async |token: &str, sql: &str| users.post(token, "/v1/query", json!({"sql": sql})).await;
    assert_eq!(query(&ana, "SELECT id FROM shop.items").await.0, 200);
    assert_eq!(query(&ana, "SELECT * FROM sales.orders").await.0, 403);
    let sql = "SELECT action, object, outcome, method, address, job IS NOT NULL AS has_job \
               FROM system.audit WHERE principal = 'ana' AND action = 'select' ORDER BY time";
    assert_eq!(query(&ana, sql).await.0, 403);
    let (status, events) = query(&auditor, sql).await;
    assert_eq!(status, 200, "{events}");
    for (object, outcome) in [("table:shop.items", "allowed"), ("table:sales.orders", "denied")] {
        let expected = json!({
            "action": "select", "object": object, "outcome": outcome, "method": "token",
            "address": "127.0.0.1", "has_job": true,
        });
        let events = events.as_array().expect("rows");
        assert!(events.contains(&expected), "{expected} in {events:?}");
    }
    let grants = "SELECT count(*) > 0 AS found FROM system.audit WHERE action = 'grant'";
    assert_eq!(query(&auditor, grants).await.1, json!([{"found": true}]));
    let export = async |token: &str, filter: &str| {
        let (status, events) = users.get(token, &format!("/v1/audit?{filter}")).await;
        (status.as_u16(), events)
    };
    assert_eq!(export(&ana, "").await.0, 403);
    let (status, events) = export(&auditor, "user=ana&action=select&outcome=denied").await;
    assert_eq!((status, &events[0]["object"]), (200, &json!("table:sales.orders")), "{events}");
    let (_, all) = export(&auditor, "").await;
    let times = all.as_array().expect("events").iter().map(|event| event["time"].to_string());
    assert!(times.is_sorted() && all.as_array().map(Vec::len) > Some(5), "{all}");
    assert_eq!(export(&auditor, "since=2900-01-01").await.1, json!([]));
    assert_eq!(export(&auditor, "until=2000-01-01").await.1, json!([]));
    assert_eq!(export(&auditor, "outcome=maybe").await.0, 400);
    // The right to read the audit log includes no other system table.
    assert_eq!(query(&auditor, "SELECT * FROM system.jobs").await.0, 403);
    assert_eq!(query(&auditor, "SELECT id FROM shop.items").await.0, 403);
}
