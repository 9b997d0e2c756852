//! Ownership of tables and views: what the user that created them may do, and what it may not.

use headwater_model::{CredentialSettings, Principal};
use hyper::Method;
use serde_json::{Value, json};

use crate::access::{Users, permission};

/// A user that may create tables and views in `shop`, and may write on `main`.
const CREATOR: [&str; 3] =
    ["create on table:shop.*", "create on view:shop.*", "read,write on branch:main"];

async fn start() -> (Users, String) {
    let users = Users::start().await;
    let ana = users.user("ana", &CREATOR).await;
    (users, ana)
}

impl Users {
    /// Executes statements on `main`, which must have this status.
    pub async fn all(&self, token: &str, expected: u16, statements: &[&str]) {
        for sql in statements {
            self.check(token, sql, expected).await;
        }
    }

    /// Returns the explanation of a right of `ana`.
    pub async fn explained(&self, action: &str, object: &str) -> (bool, String) {
        let path = format!("/v1/access/explain?user=ana&action={action}&object={object}");
        let answer = self.server.get(&path).await;
        let reason = answer["reason"].as_str().unwrap_or_default().to_owned();
        (answer["allowed"] == true, reason)
    }
}

pub async fn own_objects() {
    let (users, ana) = start().await;
    let eve = users.user("eve", &CREATOR).await;
    let create = [
        "CREATE TABLE shop.made AS SELECT 1 AS id",
        "CREATE VIEW shop.seen AS SELECT id FROM shop.made",
    ];
    users.all(&ana, 200, &create).await;
    let read = ["SELECT id FROM shop.made", "SELECT id FROM shop.seen", "DESCRIBE shop.made"];
    users.all(&ana, 200, &read).await;
    users.all(&eve, 403, &read).await;
    let owned = (true, "owner of the object".to_owned());
    assert_eq!(users.explained("drop", "table:shop.made").await, owned);
    assert_eq!(users.explained("select", "view:shop.seen").await, owned);
    assert!(!users.explained("select", "table:shop.items").await.0);
    let change = [
        "INSERT INTO shop.made VALUES (2) RETURNING id",
        "UPDATE shop.made SET id = 3 WHERE id = 2",
        "DELETE FROM shop.made WHERE id = 3",
        "INSERT OVERWRITE shop.made VALUES (4)",
        "ALTER TABLE shop.made ADD COLUMN note VARCHAR",
        "TRUNCATE TABLE shop.made",
        "CREATE OR REPLACE VIEW shop.seen AS SELECT note FROM shop.made",
        "ALTER TABLE shop.made RENAME TO kept",
        "DROP VIEW shop.seen",
        "DROP TABLE shop.kept",
    ];
    users.all(&eve, 403, &["DROP TABLE shop.made", "DROP VIEW shop.seen"]).await;
    for (path, expected) in [("tables", "made"), ("views", "seen")] {
        let path = format!("/v1/refs/main/{path}");
        let (_, listed) = users.get(&ana, &path).await;
        assert!(listed.to_string().contains(expected), "{listed}");
        let (_, listed) = users.get(&eve, &path).await;
        assert!(!listed.to_string().contains(expected), "{listed}");
    }
    users.all(&ana, 200, &change).await;
}

pub async fn iceberg() {
    let (users, ana) = start().await;
    let tables = "/iceberg/v1/main/namespaces/shop/tables";
    let new = json!({"name": "made", "schema": {"type": "struct",
        "fields": [{"id": 1, "name": "id", "required": false, "type": "long"}]}});
    let (status, answer) = users.post(&ana, tables, new).await;
    assert_eq!(status, 200, "{answer}");
    let eve = users.user("eve", &CREATOR).await;
    let made = format!("{tables}/made");
    let update = json!({"requirements": [], "updates": [
        {"action": "set-properties", "updates": {"a": "b"}}]});
    assert_eq!(users.post(&eve, &made, update.clone()).await.0, 403);
    assert_eq!(users.get(&eve, &made).await.0, 403);
    let (status, answer) = users.post(&ana, &made, update).await;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = users.get(&ana, &made).await;
    assert_eq!(status, 200, "{answer}");
    let body = json!({"source": {"namespace": ["shop"], "name": "made"},
        "destination": {"namespace": ["shop"], "name": "kept"}});
    assert_eq!(users.post(&eve, "/iceberg/v1/main/tables/rename", body.clone()).await.0, 403);
    let (status, answer) = users.post(&ana, "/iceberg/v1/main/tables/rename", body).await;
    assert!(status < 300, "{answer}");
    let kept = format!("{tables}/kept");
    assert_eq!(users.send(&eve, Method::DELETE, &kept, None).await.0, 403);
    let (status, answer) = users.send(&ana, Method::DELETE, &kept, None).await;
    assert!(status.is_success(), "{answer}");
}

pub async fn same_name() {
    let (users, ana) = start().await;
    let own = ["CREATE TABLE shop.made AS SELECT 1 AS id", "DROP TABLE shop.made"];
    users.all(&ana, 200, &own).await;
    users.owner_sql("CREATE TABLE shop.made AS SELECT 'secret' AS customer").await;
    let refused = [
        "SELECT * FROM shop.made",
        "INSERT INTO shop.made VALUES ('x')",
        "DELETE FROM shop.made",
        "ALTER TABLE shop.made RENAME TO mine",
        "CREATE OR REPLACE TABLE shop.made AS SELECT 1 AS id",
        "DROP TABLE shop.made",
    ];
    users.all(&ana, 403, &refused).await;
    let path = "/iceberg/v1/main/namespaces/shop/tables/made";
    assert_eq!(users.get(&ana, path).await.0, 403);
    assert_eq!(users.send(&ana, Method::DELETE, path, None).await.0, 403);
    assert_eq!(users.get(&ana, "/v1/refs/main/tables/shop.made").await.0, 403);
    assert!(!users.explained("select", "table:shop.made").await.0);
    // The earlier state has the user's own table.
    let (_, rows) = users.sql(&ana, "SELECT id FROM shop.\"made@main~2\"").await;
    assert_eq!(rows, json!([{"id": 1}]));
}

pub async fn renamed() {
    let (users, ana) = start().await;
    let own = [
        "CREATE TABLE shop.made AS SELECT 1 AS id",
        "ALTER TABLE shop.made RENAME TO kept",
        "SELECT id FROM shop.kept",
    ];
    users.all(&ana, 200, &own).await;
    users.owner_sql("CREATE TABLE shop.made AS SELECT 'secret' AS customer").await;
    let refused = [
        "SELECT * FROM shop.made",
        // The new name needs the right to create there.
        "ALTER TABLE shop.kept RENAME TO sales.kept",
        "CREATE TABLE sales.made AS SELECT 1 AS id",
        // A view of another table needs the right to read the table, as before.
        "CREATE VIEW shop.mine AS SELECT * FROM sales.orders",
        "CREATE VIEW shop.mine AS SELECT * FROM shop.made",
    ];
    users.all(&ana, 403, &refused).await;
    // A reader of an own view needs the right to read its table, too.
    users.all(&ana, 200, &["CREATE VIEW shop.seen AS SELECT id FROM shop.kept"]).await;
    let bob = users.user("bob", &["read on branch:main", "select on view:shop.*"]).await;
    users.all(&bob, 403, &["SELECT id FROM shop.seen"]).await;
}

pub async fn branches() {
    let users = Users::start().await;
    let grants = ["create on table:shop.*", "create on branch:ana/*", "read on branch:main"];
    let ana = users.user("ana", &grants).await;
    assert_eq!(users.post(&ana, "/v1/branches", json!({"name": "ana/x"})).await.0, 201);
    let create = "CREATE TABLE shop.made AS SELECT 1 AS id";
    assert_eq!(users.sql_at(&ana, "ana/x", create).await.0, 200);
    let merged = users.server.post("/v1/branches/main/merge", json!({"source": "ana/x"})).await;
    assert!(merged.get("code").is_none(), "{merged}");
    // The table has the same owner on both branches, but the user may write only on its branch.
    users.all(&ana, 200, &["SELECT id FROM shop.made"]).await;
    let writes = ["INSERT INTO shop.made VALUES (2)", "DROP TABLE shop.made"];
    users.all(&ana, 403, &writes).await;
    let path = "/v1/branches/main/tables/shop.made";
    assert_eq!(users.send(&ana, Method::DELETE, path, None).await.0, 403);
    let path = "/iceberg/v1/main/namespaces/shop/tables/made";
    assert_eq!(users.send(&ana, Method::DELETE, path, None).await.0, 403);
    assert_eq!(users.sql_at(&ana, "ana/x", writes[0]).await.0, 200);
    // Protection of a branch applies to owners of tables, too.
    users.grant("ana", &["write on branch:main"]).await;
    let protect = Some(json!({"protected": true}));
    let token = users.user("root", &["administer on lake"]).await;
    assert_eq!(users.send(&token, Method::PATCH, "/v1/branches/main", protect).await.0, 200);
    for sql in writes {
        let (status, answer) = users.sql(&ana, sql).await;
        assert_ne!(status, 200, "{sql}: {answer}");
    }
    // A merge report and a comparison show the own table.
    let (_, diff) = users.get(&ana, "/v1/refs/main/diff/ana%2Fx").await;
    assert_eq!(diff["tables"][0]["table"], "shop.made", "{diff}");
}

pub async fn dry_runs() {
    let users = Users::start().await;
    let grants = ["create on table:shop.*", "create on branch:ana/*", "read,merge on branch:main"];
    let ana = users.user("ana", &grants).await;
    assert_eq!(users.post(&ana, "/v1/branches", json!({"name": "ana/x"})).await.0, 201);
    let create = "CREATE TABLE shop.made AS SELECT 1 AS id";
    assert_eq!(users.sql_at(&ana, "ana/x", create).await.0, 200);
    // The owner of the lake creates a table on each branch, so the merge is no fast-forward.
    for (branch, table) in [("main", "shop.first"), ("ana/x", "shop.second")] {
        let sql = format!("CREATE TABLE {table} AS SELECT 1 AS id");
        let answer = users.server.post("/v1/query", json!({"sql": sql, "ref": branch})).await;
        assert!(answer.get("code").is_none(), "{answer}");
    }
    // The report of a dry run names the new table of the user, and no table of the owner.
    for dry_run in [true, false] {
        let body = json!({"source": "ana/x", "dry_run": dry_run});
        let (status, report) = users.post(&ana, "/v1/branches/main/merge", body).await;
        assert_eq!((status, &report["outcome"]), (200, &json!("merged")), "{report}");
        assert_eq!(report["tables"], json!(["shop.made"]), "{report}");
    }
}

pub async fn restricted() {
    let (users, ana) = start().await;
    users.all(&ana, 200, &["CREATE TABLE shop.made AS SELECT 1 AS id"]).await;
    users.owner_sql("INSERT INTO shop.made VALUES (2)").await;
    users.owner_sql("CREATE ROW FILTER few ON shop.made USING (id < 2)").await;
    let (_, rows) = users.sql(&ana, "SELECT id FROM shop.made").await;
    assert_eq!(rows, json!([{"id": 1}]));
    let refused = [
        "DROP ROW FILTER few",
        "CREATE OR REPLACE ROW FILTER few ON shop.made USING (true)",
        "DELETE FROM shop.made",
        "UPDATE shop.made SET id = 0",
        "DROP TABLE shop.made",
        "CREATE OR REPLACE TABLE shop.made AS SELECT 1 AS id",
    ];
    users.all(&ana, 403, &refused).await;
    let path = "/iceberg/v1/main/namespaces/shop/tables/made";
    assert_eq!(users.get(&ana, path).await.0, 403);
}

pub async fn same_user() {
    let (users, ana) = start().await;
    users.all(&ana, 200, &["CREATE TABLE shop.made AS SELECT 'secret' AS customer"]).await;
    let scopes = Some(vec![permission("read on branch:main")]);
    let narrow =
        users.token("ana", CredentialSettings { scopes, ..CredentialSettings::default() }).await;
    users.all(&narrow, 403, &["SELECT * FROM shop.made"]).await;
    users.access.drop_user(&Principal::owner(), "ana").await.expect("dropped");
    let again = users.user("ana", &CREATOR).await;
    users.all(&again, 403, &["SELECT * FROM shop.made", "DROP TABLE shop.made"]).await;
    let (_, listed) = users.get(&again, "/v1/refs/main/tables").await;
    assert_eq!(listed, Value::Array(Vec::new()));
}

pub async fn namespaces() {
    let users = Users::start().await;
    let grants = ["create on namespace:ana", "read,write on branch:main"];
    let ana = users.user("ana", &grants).await;
    let bob = users.user("bob", &["create on table:ana.*", "read,write on branch:main"]).await;
    users.all(&ana, 200, &["CREATE SCHEMA ana"]).await;
    let create = permission("create on namespace:ana");
    users.access.revoke(&Principal::owner(), "ana", create).await.expect("revoked");
    assert_eq!(users.explained("drop", "namespace:ana").await.1, "owner of the object");
    assert!(!users.explained("drop", "namespace:shop").await.0);
    let own = [
        "CREATE TABLE ana.made AS SELECT 1 AS id",
        "CREATE VIEW ana.seen AS SELECT id FROM ana.made",
        "SELECT id FROM ana.seen",
        "CREATE SCHEMA ana.inner",
        "CREATE TABLE ana.inner.made (id INT)",
        "DROP TABLE ana.inner.made",
        "DROP SCHEMA ana.inner",
    ];
    users.all(&ana, 200, &own).await;
    let path = "/iceberg/v1/main/namespaces/ana/tables";
    let new = json!({"name": "second", "schema": {"type": "struct",
        "fields": [{"id": 1, "name": "id", "required": false, "type": "long"}]}});
    let (status, answer) = users.post(&ana, path, new).await;
    assert_eq!(status, 200, "{answer}");
    // The tables of other users in the namespace stay theirs.
    users.all(&bob, 200, &["CREATE TABLE ana.other AS SELECT 'secret' AS customer"]).await;
    let refused = [
        "SELECT * FROM ana.other",
        "INSERT INTO ana.other VALUES ('x')",
        "CREATE OR REPLACE TABLE ana.other AS SELECT 1 AS id",
        "ALTER TABLE ana.other RENAME TO mine",
        "DROP TABLE ana.other",
        "CREATE TABLE shop.made AS SELECT 1 AS id",
    ];
    users.all(&ana, 403, &refused).await;
    users.all(&bob, 403, &["DROP SCHEMA ana", "CREATE VIEW ana.mine AS SELECT 1 AS id"]).await;
    users.owner_sql("DROP TABLE ana.other").await;
    let all = ["DROP VIEW ana.seen", "DROP TABLE ana.made", "DROP TABLE ana.second"];
    users.all(&ana, 200, &all).await;
    // The owner of a namespace does not see the namespaces of other users in it.
    users.owner_sql("CREATE SCHEMA ana.hidden").await;
    let (status, answer) = users.sql(&ana, "DROP SCHEMA ana").await;
    assert_eq!(status, 409, "{answer}");
    assert!(!answer.to_string().contains("hidden"), "{answer}");
    users.owner_sql("DROP SCHEMA ana.hidden").await;
    // A new namespace of the same name does not belong to the earlier owner.
    users.all(&ana, 200, &["DROP SCHEMA ana"]).await;
    users.owner_sql("CREATE SCHEMA ana").await;
    users.all(&ana, 403, &["DROP SCHEMA ana", "CREATE TABLE ana.made (id INT)"]).await;
}

pub async fn imports() {
    let (users, ana) = start().await;
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("a.csv"), "id\n5\n").expect("a file");
    let location = format!("read on location:{}", folder.path().display());
    users.grant("ana", &[location.as_str(), "insert on table:shop.made"]).await;
    let source = folder.path().join("a.csv").display().to_string();
    let body = json!({"table": "shop.made", "sources": [source]});
    assert_eq!(users.job(&ana, "/v1/imports", body).await, "succeeded");
    let (_, rows) = users.sql(&ana, "SELECT id FROM shop.made").await;
    assert_eq!(rows, json!([{"id": 5}]));
    users.all(&ana, 200, &["DROP TABLE shop.made"]).await;
}

pub async fn same_id() {
    let (users, ana) = start().await;
    users.server.post("/v1/branches", json!({"name": "dev"})).await;
    let grants = [
        "select,insert,update,delete,create on table:shop.made",
        "read,write,merge on branch:main",
        "read,write on branch:dev",
    ];
    let eve = users.user("eve", &grants).await;
    let schema = json!({"type": "struct", "schema-id": 0,
        "fields": [{"id": 1, "name": "id", "required": false, "type": "long"}]});
    let (status, answer) = users
        .post(
            &ana,
            "/iceberg/v1/main/namespaces/shop/tables",
            json!({"name": "made", "schema": schema.clone()}),
        )
        .await;
    assert_eq!(status, 200, "{answer}");
    // A client chooses the id of a table that it creates.
    let create = json!({"requirements": [{"type": "assert-create"}], "updates": [
        {"action": "assign-uuid", "uuid": answer["metadata"]["table-uuid"]},
        {"action": "add-schema", "schema": schema, "last-column-id": 1},
        {"action": "set-current-schema", "schema-id": -1}]});
    let path = "/iceberg/v1/dev/namespaces/shop/tables/made";
    let (status, answer) = users.post(&eve, path, create).await;
    assert_eq!(status, 200, "{answer}");
    let pick = json!({"commit": "dev", "on_conflict": "theirs"});
    let merge = json!({"source": "dev", "on_conflict": "theirs"});
    for (path, body) in
        [("/v1/branches/main/cherry-pick", pick), ("/v1/branches/main/merge", merge)]
    {
        let (status, answer) = users.post(&eve, path, body).await;
        assert_eq!(status, 403, "{path}: {answer}");
        assert_eq!(answer["message"], "user `eve` may not drop table `shop.made`");
    }
    assert!(users.explained("select", "table:shop.made").await.0);
    users.all(&eve, 403, &["DROP TABLE shop.made"]).await;
}

pub async fn functions() {
    let users = Users::start().await;
    let ana = users.user("ana", &["deploy on function:made"]).await;
    let root = users.user("root", &["administer on lake"]).await;
    let path = "/v1/functions/made";
    let put = async |token: &str, result: &str| {
        let code = format!("def handler(event, context):\n    return {result}\n");
        let body = json!({"runtime": "python3.11", "handler": "app.handler",
            "files": {"app.py": code}});
        users.send(token, Method::PUT, path, Some(body)).await
    };
    let (status, answer) = put(&ana, "1").await;
    assert!(status.is_success(), "{answer}");
    let deploy = permission("deploy on function:made");
    users.access.revoke(&Principal::owner(), "ana", deploy).await.expect("revoked");
    // The owner needs no grant.
    let (status, answer) = put(&ana, "2").await;
    assert!(status.is_success(), "{answer}");
    let (status, answer) = put(&root, "3").await;
    assert!(status.is_success(), "{answer}");
    // The code and the environment variables of the new version are those of another user.
    assert_eq!(users.get(&ana, path).await.0, 403);
    assert_eq!(put(&ana, "4").await.0, 403);
    assert!(!users.explained("invoke", "function:made").await.0);
}
