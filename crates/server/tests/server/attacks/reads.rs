//! Attempts to read `sales.orders` without `select` on it.

use hyper::Method;
use hyper::header::AUTHORIZATION;
use serde_json::{Value, json};

use crate::access::{Users, permission};
use crate::access_projects::project;
use crate::support::{self, request};

/// All grants except those on `sales`.
const GRANTS: [&str; 8] = [
    "select,insert,update,delete,create,alter,drop on namespace:shop",
    "select,create,alter,drop on view:shop.*",
    "read,write,merge,create,alter,drop on branch:*",
    "run,deploy on project:*",
    "invoke on function:*",
    "read,run on trigger:*",
    "read on usage:*",
    "maintain on lake",
];

/// A server, and the token of `ana`, which has all grants in `shop`.
async fn start() -> (Users, String) {
    let users = Users::start().await;
    let ana = users.user("ana", &GRANTS).await;
    (users, ana)
}

impl Users {
    /// Checks that a statement is forbidden and that its error contains no value of the hidden
    /// table.
    async fn refuses(&self, token: &str, reference: &str, sql: &str) {
        let (status, answer) = self.sql_at(token, reference, sql).await;
        assert_eq!(status, 403, "{sql}: {answer}");
        assert!(!answer.to_string().contains("secret"), "{sql}: {answer}");
    }
}

pub async fn view() {
    let (users, ana) = start().await;
    for sql in [
        "SELECT * FROM shop.best",
        "SELECT count(*) FROM shop.best",
        "SELECT 1 FROM shop.items WHERE EXISTS (SELECT 1 FROM shop.best)",
        "CREATE TABLE shop.copy AS SELECT * FROM shop.best",
        "EXPLAIN ANALYZE SELECT * FROM shop.best",
    ] {
        users.refuses(&ana, "main", sql).await;
    }
}

pub async fn own_view() {
    let (users, ana) = start().await;
    for sql in [
        "CREATE VIEW shop.mine AS SELECT * FROM sales.orders",
        "CREATE OR REPLACE VIEW shop.best AS SELECT * FROM sales.orders",
        "CREATE VIEW shop.mine AS SELECT id FROM shop.best",
    ] {
        users.refuses(&ana, "main", sql).await;
    }
    // If a client stores a view of a hidden table, reading the view is forbidden.
    let view = json!({
        "name": "mine", "schema": {"type": "struct", "schema-id": 0, "fields": [
            {"id": 1, "name": "customer", "required": false, "type": "string"}]},
        "view-version": {"version-id": 1, "timestamp-ms": 0, "schema-id": 0, "summary": {},
            "default-namespace": ["shop"], "representations": [{"type": "sql",
            "sql": "SELECT customer FROM sales.orders", "dialect": "headwater"}]},
        "properties": {}
    });
    let (status, answer) = users.post(&ana, "/iceberg/v1/main/namespaces/shop/views", view).await;
    assert!(matches!(status, 200 | 403), "{answer}");
    let (status, answer) = users.sql(&ana, "SELECT * FROM shop.mine").await;
    assert!(matches!(status, 403 | 404), "{answer}");
    assert!(!answer.to_string().contains("secret"), "{answer}");
}

pub async fn model() {
    let (users, ana) = start().await;
    for sql in [
        "SELECT customer FROM sales.orders",
        "SELECT id FROM best",
        "SELECT customer FROM sales.orders@main",
        "SELECT path FROM system.files",
    ] {
        assert_eq!(users.job(&ana, "/v1/runs", project(sql)).await, "forbidden", "{sql}");
    }
    let mut files = project("SELECT 1 AS id");
    files["files"]["models/by_python.py"] = json!(
        "import headwater\n\n\n@headwater.model(materialization=\"replace\")\n\
         def by_python(rows=headwater.Model(\"sales.orders\")):\n    return rows\n"
    );
    assert_eq!(users.job(&ana, "/v1/runs", files).await, "forbidden");
}

pub async fn function() {
    let (users, ana) = start().await;
    let folder = users.server.folder.path();
    let token = users.server.running.token_file().expect("a file").to_owned();
    let data = walk(&folder.join(".headwater"), "parquet");
    let code = "import os\nimport headwater\n\n\n@headwater.function()\ndef look(path):\n    \
                return [os.path.exists(path), os.environ.get(\"HOME\", \"\")]\n";
    let files = json!({"headwater.toml": "[project]\nname = \"shop\"\n", "f.py": code});
    let (status, answer) = users.post(&ana, "/v1/deployments", json!({ "files": files })).await;
    assert_eq!(status, 201, "{answer}");
    let store = folder.join(".headwater/lake.db");
    for path in [token, data, store, "/proc/1/environ".into(), folder.to_owned()] {
        let body = json!({"arguments": {"path": path}});
        let (status, answer) = users.post(&ana, "/v1/functions/look/invoke", body).await;
        assert_eq!(status, 200, "{answer}");
        let is_init = path.starts_with("/proc");
        assert!(answer[0] == json!(false) || is_init, "{}: {answer}", path.display());
    }
}

/// Returns the first file with this extension below a folder.
fn walk(folder: &std::path::Path, extension: &str) -> std::path::PathBuf {
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                return path;
            }
        }
    }
    panic!("no .{extension} in {}", folder.display())
}

pub async fn comparison() {
    let (users, ana) = start().await;
    for path in [
        "/v1/refs/main/diff/main/tables/sales.orders",
        "/v1/refs/main~1/diff/main/tables/sales.orders",
        "/v1/refs/main/diff/main/tables/shop.items?to_table=sales.orders",
        "/v1/refs/main/diff/main/tables/sales.orders?to_table=shop.items",
    ] {
        assert_eq!(users.get(&ana, path).await.0, 403, "{path}");
    }
    let (status, answer) = users.get(&ana, "/v1/refs/main~5/diff/main?rows=10").await;
    assert_eq!(status, 200, "{answer}");
    let tables = answer["tables"].as_array().expect("tables");
    assert!(tables.iter().all(|table| table["table"] != "sales.orders"), "{answer}");
    assert!(!answer.to_string().contains("secret"), "{answer}");
}

pub async fn system() {
    let (users, ana) = start().await;
    let sql =
        "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'system'";
    let tables = users.owner_sql(sql).await;
    let mut names: Vec<String> = tables.as_array().expect("rows").iter().map(name_of).collect();
    for known in ["files", "tables", "jobs", "commits", "audit", "statistics", "usage"] {
        names.push(known.to_owned());
    }
    for name in names {
        let (status, answer) = users.sql(&ana, &format!("SELECT * FROM system.{name}")).await;
        assert!(matches!(status, 403 | 404), "{name}: {answer}");
        assert!(!answer.to_string().contains("secret"), "{name}: {answer}");
    }
    users.refuses(&ana, "main", "SELECT count(*) FROM system.files").await;
}

fn name_of(row: &Value) -> String {
    row["name"].as_str().expect("a name").to_owned()
}

pub async fn time_travel() {
    let (users, ana) = start().await;
    users.server.post("/v1/tags", json!({"name": "old", "from": "main"})).await;
    users.owner_sql("DROP TABLE sales.orders").await;
    for sql in [
        "SELECT * FROM sales.\"orders@main~1\"",
        "SELECT * FROM sales.\"orders@old\"",
        "SELECT * FROM sales.orders@old",
        "SELECT * FROM sales.orders FOR VERSION AS OF 1",
    ] {
        let (status, answer) = users.sql(&ana, sql).await;
        assert!(matches!(status, 400 | 403), "{sql}: {answer}");
        assert!(!answer.to_string().contains("secret"), "{sql}: {answer}");
    }
    for reference in ["main~1", "old", "main~2"] {
        users.refuses(&ana, reference, "SELECT * FROM sales.orders").await;
        users.refuses(&ana, reference, "SELECT * FROM shop.best").await;
    }
}

pub async fn own_branch() {
    let (users, ana) = start().await;
    let (status, answer) = users.post(&ana, "/v1/branches", json!({"name": "mine"})).await;
    assert_eq!(status, 201, "{answer}");
    for sql in [
        "SELECT * FROM sales.orders",
        "INSERT INTO sales.orders VALUES (1, 'x')",
        "ALTER TABLE sales.orders RENAME TO other",
        "DROP TABLE sales.orders",
        "INSERT INTO shop.items SELECT id FROM sales.orders",
    ] {
        users.refuses(&ana, "mine", sql).await;
    }
    assert_eq!(users.get(&ana, "/v1/refs/mine/tables/sales.orders").await.0, 403);
}

pub async fn renamed() {
    let (users, ana) = start().await;
    for sql in [
        "ALTER TABLE sales.orders RENAME TO shop.orders",
        "ALTER TABLE sales.orders RENAME TO sales.mine",
        "ALTER TABLE shop.items RENAME TO sales.items",
    ] {
        let (status, answer) = users.sql(&ana, sql).await;
        assert!(matches!(status, 400 | 403), "{sql}: {answer}");
    }
    let body = json!({"source": {"namespace": ["sales"], "name": "orders"},
        "destination": {"namespace": ["shop"], "name": "orders"}});
    assert_eq!(users.post(&ana, "/iceberg/v1/main/tables/rename", body).await.0, 403);
    // A grant on a name does not follow a renamed table: the new name of the table decides.
    let grant = permission("select on table:sales.orders");
    let owner = headwater_model::Principal::owner();
    users.access.grant(&owner, "ana", grant).await.expect("a grant");
    assert_eq!(users.sql(&ana, "SELECT id FROM sales.orders").await.0, 200);
    users.owner_sql("ALTER TABLE sales.orders RENAME TO closed").await;
    users.refuses(&ana, "main", "SELECT id FROM sales.closed").await;
}

pub async fn catalogs() {
    let (users, ana) = start().await;
    for table in [
        "information_schema.tables",
        "information_schema.columns",
        "information_schema.schemata",
        "pg_catalog.pg_class",
        "pg_catalog.pg_attribute",
        "pg_catalog.pg_namespace",
        "pg_catalog.pg_tables",
    ] {
        let (status, answer) = users.sql(&ana, &format!("SELECT * FROM {table}")).await;
        assert!(matches!(status, 200 | 400 | 404), "{table}: {answer}");
        let text = answer.to_string();
        assert!(!text.contains("orders") && !text.contains("\"sales\""), "{table}: {text}");
    }
    // The definition of a view contains the names of its tables. The right to read the view
    // includes the right to read its definition.
    let (_, views) = users.sql(&ana, "SELECT table_name FROM information_schema.views").await;
    assert_eq!(views, json!([{"table_name": "best"}]));
    for sql in ["SELECT 'sales.orders'::regclass", "SELECT pg_total_relation_size('sales.orders')"]
    {
        let (status, answer) = users.sql(&ana, sql).await;
        assert!((400..500).contains(&status), "{sql}: {answer}");
    }
}

pub async fn copied() {
    let (users, ana) = start().await;
    for sql in [
        "CREATE TABLE shop.copy AS SELECT * FROM sales.orders",
        "CREATE TABLE shop.copy AS TABLE sales.orders",
        "INSERT INTO shop.items SELECT id FROM sales.orders",
        "INSERT INTO shop.items (SELECT id FROM shop.items UNION ALL SELECT id FROM sales.orders)",
        "UPDATE shop.items SET id = (SELECT max(id) FROM sales.orders)",
        "DELETE FROM shop.items WHERE id IN (SELECT id FROM sales.orders)",
        "MERGE INTO shop.items t USING sales.orders s ON t.id = s.id WHEN NOT MATCHED THEN \
         INSERT (id) VALUES (s.id)",
    ] {
        let (status, answer) = users.sql(&ana, sql).await;
        assert!(matches!(status, 400 | 403), "{sql}: {answer}");
    }
    assert_eq!(users.owner_sql("SELECT count(*) AS n FROM shop.items").await, json!([{"n": 1}]));
}

pub async fn files() {
    let (users, ana) = start().await;
    let token = users.server.running.token_file().expect("a file").display().to_string();
    for sql in [
        format!("SELECT * FROM '{token}'"),
        format!("SELECT * FROM read_csv('{token}')"),
        "SELECT * FROM read_parquet('/etc/passwd')".to_owned(),
        format!("CREATE EXTERNAL TABLE shop.f STORED AS CSV LOCATION '{token}'"),
        "COPY shop.items TO '/tmp/headwater-attack.csv'".to_owned(),
        format!("COPY shop.items FROM '{token}'"),
        "SELECT pg_read_file('/etc/passwd')".to_owned(),
        "LOAD '/tmp/x.so'".to_owned(),
        "ATTACH '/etc/passwd' AS x".to_owned(),
        "INSERT INTO shop.items SELECT * FROM glob('/etc/*')".to_owned(),
    ] {
        let (status, answer) = users.sql(&ana, &sql).await;
        assert!((400..500).contains(&status), "{sql}: {answer}");
        assert!(!answer.to_string().contains("root:"), "{sql}: {answer}");
    }
    assert!(!std::path::Path::new("/tmp/headwater-attack.csv").exists());
    // A file of the lake cannot be the source of an import.
    let body = json!({"table": "shop.items", "sources": [token]});
    assert_eq!(users.job(&ana, "/v1/imports", body).await, "forbidden");
}

pub async fn iceberg() {
    let (users, ana) = start().await;
    let table = "/iceberg/v1/main/namespaces/sales/tables/orders";
    let missing = "/iceberg/v1/main/namespaces/sales/tables/none";
    for suffix in ["", "/credentials", "/plan/none"] {
        let (status, answer) = users.get(&ana, &format!("{table}{suffix}")).await;
        let (_, other) = users.get(&ana, &format!("{missing}{suffix}")).await;
        assert_eq!(status, 403, "{suffix}: {answer}");
        assert_eq!(answer.to_string(), other.to_string().replace("none", "orders"));
    }
    let (status, _) = users.post(&ana, &format!("{table}/plan"), json!({})).await;
    assert_eq!(status, 403);
    let (status, _) =
        users.post(&ana, &format!("{table}/tasks"), json!({"plan-task": "none"})).await;
    assert_eq!(status, 403);
    let (_, readable) = users.get(&ana, "/iceberg/v1/main/namespaces/shop/tables/items").await;
    let config = readable["config"].to_string();
    assert!(!config.contains("secret") && !config.contains("token"), "{config}");
    let location = readable["metadata-location"].as_str().expect("a location");
    let body = json!({"name": "again", "metadata-location": location});
    let path = "/iceberg/v1/main/namespaces/shop/register";
    assert_eq!(users.post(&ana, path, body).await.0, 403);
}

pub async fn repeated_creation() {
    let (users, _) = start().await;
    let grants = ["create on table:shop.made", "write on branch:main"];
    let bob = users.user("bob", &grants).await;
    let tables = "/iceberg/v1/main/namespaces/shop/tables";
    let new = json!({"name": "made", "stage-create": true, "schema": {"type": "struct",
        "fields": [{"id": 1, "name": "id", "required": false, "type": "long"}]}});
    let (status, staged) = users.post(&bob, tables, new).await;
    assert_eq!(status, 200, "{staged}");
    let metadata = &staged["metadata"];
    let commit = json!({"requirements": [{"type": "assert-create"}], "updates": [
        {"action": "assign-uuid", "uuid": metadata["table-uuid"]},
        {"action": "upgrade-format-version", "format-version": 2},
        {"action": "add-schema", "schema": metadata["schemas"][0], "last-column-id": 1},
        {"action": "set-current-schema", "schema-id": -1},
        {"action": "add-spec", "spec": metadata["partition-specs"][0]},
        {"action": "set-default-spec", "spec-id": -1},
        {"action": "add-sort-order", "sort-order": {"order-id": 0, "fields": []}},
        {"action": "set-default-sort-order", "sort-order-id": -1},
        {"action": "set-location", "location": metadata["location"]}]});
    let send = async |key: Option<&str>| {
        let mut sent = request(Method::POST, &format!("{tables}/made"), Some(&commit));
        let headers = sent.headers_mut();
        headers.insert(AUTHORIZATION, format!("Bearer {bob}").parse().expect("a header"));
        if let Some(key) = key {
            headers.insert("idempotency-key", key.parse().expect("a header"));
        }
        let response = users.server.send(sent).await;
        let status = response.status().as_u16();
        (status, support::json(response).await)
    };
    // The user owns the table, so it gets the table again if it repeats the request.
    for key in [Some("k"), Some("k"), None] {
        assert_eq!(send(key).await.0, 200);
    }
    // Another table of the same name belongs to another user.
    users.owner_sql("DROP TABLE shop.made").await;
    users.owner_sql("CREATE TABLE shop.made AS SELECT 7 AS id").await;
    for (key, expected) in [(Some("k"), 403), (None, 409)] {
        let (status, answer) = send(key).await;
        assert_eq!(status, expected, "{answer}");
        assert!(!answer.to_string().contains("snapshot"), "{answer}");
    }
    let grant = permission("select on table:shop.made");
    let owner = headwater_model::Principal::owner();
    users.access.grant(&owner, "bob", grant).await.expect("a grant");
    for (key, expected) in [(Some("k"), 200), (None, 409)] {
        assert_eq!(send(key).await.0, expected);
    }
}

pub async fn merge() {
    let (users, ana) = start().await;
    users.server.post("/v1/branches", json!({"name": "dev"})).await;
    for (branch, value) in [("main", "secret 1"), ("dev", "secret 2")] {
        let sql = format!("UPDATE sales.orders SET customer = '{value}' WHERE id = 7");
        let body = json!({"sql": sql, "ref": branch});
        let answer = users.server.post("/v1/query", body).await;
        assert!(answer.get("code").is_none(), "{answer}");
    }
    for body in [json!({"source": "dev"}), json!({"source": "dev", "dry_run": true})] {
        let (status, answer) = users.post(&ana, "/v1/branches/main/merge", body).await;
        assert!(matches!(status, 200 | 409), "{answer}");
        let text = answer.to_string();
        for hidden in ["secret", "sales", "orders"] {
            assert!(!text.contains(hidden), "{hidden}: {text}");
        }
    }
}
