//! Tests of users and grants over HTTP: the access of a user with few grants.

use headwater_model::{Action, CredentialSettings, Permission, Principal};
use headwater_server::{Access, NewUser};
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Method, StatusCode};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::access_matrix;
use crate::support::{self, TestServer, request};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("access::credentials_must_be_exact_and_in_the_header", credentials),
        trial("access::a_table_is_read_by_its_grant_on_every_path", reads),
        trial(
            "access::the_code_of_a_function_is_read_with_the_right_to_call_it",
            code_of_functions,
        ),
        trial("access::a_table_is_changed_by_its_grants_on_a_granted_branch", writes),
        trial("access::names_do_not_leak_by_lists_errors_and_suggestions", names),
        trial("access::a_user_is_the_author_of_its_commits_and_sees_its_own_jobs", authors),
        trial("access::a_branch_belongs_to_the_user_that_created_it", own_branches),
        trial("access::rights_are_granted_by_sql", grants_by_sql),
        trial("access::an_iceberg_client_has_the_rights_of_its_user", iceberg),
    ]
}

/// A server with the tables `sales.orders` and `shop.items`, and the view `shop.best` of
/// `sales.orders`.
pub struct Users {
    pub server: TestServer,
    pub access: Access,
}

impl Users {
    pub async fn start() -> Self {
        Self::on(TestServer::start().await).await
    }

    /// Creates the tables on the empty lake of a server.
    pub async fn on(server: TestServer) -> Self {
        for sql in [
            "CREATE SCHEMA sales",
            "CREATE SCHEMA shop",
            "CREATE TABLE sales.orders AS SELECT 7 AS id, 'secret' AS customer",
            "CREATE TABLE shop.items AS SELECT 1 AS id",
            "CREATE VIEW shop.best AS SELECT id FROM sales.orders",
            "INSERT INTO sales.orders VALUES (8, 'secret')",
        ] {
            let answer = server.rows(sql).await;
            assert!(answer.get("code").is_none(), "{sql}: {answer}");
        }
        let access = server.running.access().expect("the owner's");
        Users { server, access }
    }

    /// Creates a user with grants in the form `select,insert on table:t`. Returns a token.
    pub async fn user(&self, name: &str, grants: &[&str]) -> String {
        let owner = Principal::owner();
        let new = NewUser { name: name.to_owned(), ..NewUser::default() };
        self.access.create_user(&owner, new).await.expect(name);
        for grant in grants {
            self.access.grant(&owner, name, permission(grant)).await.expect(grant);
        }
        self.token(name, CredentialSettings::default()).await
    }

    /// Returns a new token of a user.
    pub async fn token(&self, name: &str, new: CredentialSettings) -> String {
        let owner = Principal::owner();
        self.access.create_token(&owner, name, new).await.expect("a token").secret
    }

    /// Sends a request with a token. Returns the status and the JSON response.
    pub async fn send(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let mut request = request(method, path, body.as_ref());
        let header: HeaderValue = format!("Bearer {token}").parse().expect("a header");
        request.headers_mut().insert(AUTHORIZATION, header);
        let response = self.server.send(request).await;
        let status = response.status();
        let bytes = support::body(response).await.expect("a whole body");
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub async fn get(&self, token: &str, path: &str) -> (StatusCode, Value) {
        self.send(token, Method::GET, path, None).await
    }

    pub async fn sql_at(&self, token: &str, reference: &str, sql: &str) -> (StatusCode, Value) {
        let query = json!({ "sql": sql, "ref": reference });
        self.send(token, Method::POST, "/v1/query", Some(query)).await
    }

    pub async fn check(&self, token: &str, sql: &str, expected: u16) {
        let (status, answer) = self.sql_at(token, "main", sql).await;
        assert_eq!(status, expected, "{sql}: {answer}");
        assert!(!answer.to_string().contains("secret"), "{sql}: {answer}");
    }
}

/// Parses a permission in the form `select,insert on table:t`.
pub fn permission(text: &str) -> Permission {
    let (actions, object) = text.split_once(" on ").expect("` on `");
    let actions = actions.split(',').map(|action| action.parse::<Action>().expect(action));
    Permission { actions: actions.collect(), object: object.parse().expect(object) }
}

async fn credentials() {
    let users = Users::start().await;
    let token = users.user("ana", &["administer on lake"]).await;
    assert_eq!(users.get(&token, "/v1/branches").await.0, 200);
    let forged = access_matrix::forged(&token);
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJvd25lciJ9.";
    let (_, expected) = users.get("x", "/v1/branches").await;
    for wrong in [forged.as_str(), &token[4..], unsigned, "hwp_"] {
        let (status, answer) = users.get(wrong, "/v1/branches").await;
        assert_eq!(status, 401, "{wrong}");
        assert_eq!(answer, expected, "every failure has the same answer");
    }
    for path in ["/v1/branches?access_token=", "/v1/branches?token="] {
        let (status, _) = users.get("x", &format!("{path}{token}")).await;
        assert_eq!(status, 401, "{path}");
    }
    users.access.disable_user(&Principal::owner(), "ana", true).await.expect("disabled");
    assert_eq!(users.get(&token, "/v1/branches").await, (StatusCode::UNAUTHORIZED, expected));
}

async fn reads() {
    let users = Users::start().await;
    let grants = ["select on table:shop.items", "select on view:shop.best", "read on branch:*"];
    let ana = users.user("ana", &grants).await;
    users.check(&ana, "SELECT * FROM shop.items", 200).await;
    for sql in [
        "SELECT * FROM sales.orders",
        "SELECT * FROM SALES.Orders",
        "SELECT * FROM shop.best",
        "SELECT id FROM shop.items WHERE id IN (SELECT id FROM sales.orders)",
        "WITH x AS (SELECT * FROM sales.orders) SELECT count(*) FROM x",
        "SELECT * FROM \"orders@main\" JOIN sales.orders ON true",
        "SELECT * FROM sales.\"orders~1\"",
        "SELECT * FROM sales.\"orders@main\"",
        "EXPLAIN SELECT * FROM sales.orders",
        "DESCRIBE sales.orders",
        "SELECT * FROM system.files",
        "SELECT * FROM system.tables",
        "SELECT * FROM system.jobs",
        "SELECT * FROM system.commits",
    ] {
        users.check(&ana, sql, 403).await;
    }
    for path in [
        "/v1/refs/main/tables/sales.orders",
        "/v1/refs/main/tables/SALES.orders",
        "/v1/refs/main/diff/main/tables/sales.orders",
        "/v1/refs/main~1/diff/main/tables/sales.orders",
        "/v1/refs/main/diff/main/tables/shop.items?to_table=sales.orders",
    ] {
        let (status, answer) = users.get(&ana, path).await;
        assert_eq!(status, 403, "{path}: {answer}");
    }
    let (status, diff) = users.get(&ana, "/v1/refs/main~5/diff/main?rows=10").await;
    assert_eq!(status, 200, "{diff}");
    let tables = diff["tables"].as_array().expect("tables");
    // The definition of a view that ana may read contains the names of its tables.
    let listed = tables.iter().any(|table| table["table"] == "sales.orders");
    assert!(!listed && !diff.to_string().contains("secret"), "{diff}");
    users
        .access
        .grant(&Principal::owner(), "ana", permission("select on table:sales.orders"))
        .await
        .expect("a grant");
    let (status, rows) = users.sql_at(&ana, "main", "SELECT * FROM shop.best ORDER BY id").await;
    assert_eq!((status.as_u16(), rows), (200, json!([{"id": 7}, {"id": 8}])));
}

async fn code_of_functions() {
    let users = Users::start().await;
    let body = Some(json!({ "name": "dev" }));
    let owner = users.user("root", &["administer on lake"]).await;
    assert_eq!(users.send(&owner, Method::POST, "/v1/branches", body).await.0, 201);
    let create = |factor: u32| {
        format!(
            "CREATE OR REPLACE FUNCTION shop.tax(a BIGINT) RETURNS BIGINT LANGUAGE python \
             AS 'def tax(a): return a * {factor} # hidden'"
        )
    };
    let reads = ["read on branch:*", "select on view:*", "select on table:*"];
    let viewer = users.user("viewer", &reads).await;
    let caller =
        users.user("caller", &["read,merge on branch:*", "invoke on function:shop.tax"]).await;
    for (reference, factor) in [("main", 2), ("dev", 3)] {
        let (status, answer) = users.sql_at(&owner, reference, &create(factor)).await;
        assert_eq!(status, 200, "{answer}");
    }
    let path = "/v1/refs/main~1/diff/main";
    let (_, diff) = users.get(&viewer, path).await;
    assert!(!diff.to_string().contains("tax"), "rights on views are none on functions: {diff}");
    let (_, diff) = users.get(&caller, path).await;
    assert_eq!(diff["tables"][0]["table"], "shop.tax()", "{diff}");
    assert!(diff.to_string().contains("hidden"), "{diff}");
    let (_, log) = users.get(&viewer, "/v1/refs/main/commits").await;
    assert!(!log.to_string().contains("shop.tax"), "{log}");
    let (_, log) = users.get(&caller, "/v1/refs/main/commits").await;
    assert!(log.to_string().contains("create function shop.tax"), "{log}");
    let merge = Some(json!({ "source": "dev" }));
    let (_, report) = users.send(&caller, Method::POST, "/v1/branches/main/merge", merge).await;
    assert!(report.to_string().contains("both sides created a function"), "{report}");
}

async fn writes() {
    let users = Users::start().await;
    let grants = [
        "select,insert,alter on namespace:shop",
        "create on table:shop.new*",
        "create,read on branch:dev/*",
        "read on branch:main",
    ];
    let ana = users.user("ana", &grants).await;
    users.check(&ana, "INSERT INTO shop.items VALUES (2)", 403).await;
    let body = Some(json!({ "name": "dev/ana" }));
    let (status, answer) = users.send(&ana, Method::POST, "/v1/branches", body).await;
    assert_eq!(status, 201, "{answer}");
    let at_dev = async |sql: &str, expected: u16| {
        let (status, answer) = users.sql_at(&ana, "dev/ana", sql).await;
        assert_eq!(status, expected, "{sql}: {answer}");
    };
    at_dev("INSERT INTO shop.items VALUES (2)", 200).await;
    at_dev("CREATE TABLE shop.new_items AS SELECT * FROM shop.items", 200).await;
    for sql in [
        "SELECT * FROM sales.orders",
        "INSERT INTO sales.orders VALUES (9, 'x')",
        "INSERT INTO shop.items SELECT id FROM sales.orders",
        "INSERT OVERWRITE shop.items VALUES (2)",
        "DELETE FROM shop.items",
        "UPDATE shop.items SET id = 3",
        "TRUNCATE TABLE shop.items",
        "MERGE INTO shop.items t USING (SELECT 1 AS id) s ON t.id = s.id \
         WHEN MATCHED THEN DELETE",
        "DROP TABLE shop.items",
        "DROP TABLE IF EXISTS sales.orders",
        "CREATE TABLE shop.other (id INT)",
        "CREATE OR REPLACE TABLE shop.items (id INT)",
        "CREATE VIEW shop.newest AS SELECT * FROM sales.orders",
        "ALTER TABLE sales.orders RENAME TO new_orders",
        "ALTER TABLE shop.items RENAME TO other",
        "CREATE SCHEMA mine",
        "DROP SCHEMA shop",
        "DROP VIEW shop.best",
    ] {
        at_dev(sql, 403).await;
    }
    // The user owns the tables that it has created.
    at_dev("CREATE OR REPLACE TABLE shop.new_items (id INT)", 200).await;
    at_dev("DELETE FROM shop.new_items", 200).await;
    let merge = Some(json!({ "source": "dev/ana" }));
    let path = "/v1/branches/main/merge";
    let (status, _) = users.send(&ana, Method::POST, path, merge.clone()).await;
    assert_eq!(status, 403);
    users
        .access
        .grant(&Principal::owner(), "ana", permission("merge on branch:main"))
        .await
        .expect("a grant");
    let (status, answer) = users.send(&ana, Method::POST, path, merge).await;
    assert_eq!(status, 200, "{answer}");
}

async fn names() {
    let users = Users::start().await;
    let ana = users.user("ana", &["select on table:shop.it*", "read on branch:main"]).await;
    let message = async |sql: &str| {
        let (status, answer) = users.sql_at(&ana, "main", sql).await;
        assert_eq!(status, 403, "{sql}: {answer}");
        answer.to_string()
    };
    let existing = message("SELECT * FROM sales.orders").await;
    let missing = message("SELECT * FROM sales.orderz").await;
    assert_eq!(existing, missing.replace("orderz", "orders"));
    let shouted = message("SELECT * FROM sales.ORDERS").await;
    assert_eq!(existing, shouted.replace("ORDERS", "orders"));
    let (status, answer) = users.sql_at(&ana, "main", "SELECT * FROM shop.itemz").await;
    assert_eq!(status, 404, "{answer}");
    assert!(!answer.to_string().contains("items"), "{answer}");
    let (status, answer) = users.sql_at(&ana, "mian", "SELECT 1 FROM shop.items").await;
    assert_eq!(status, 403, "{answer}");
    assert!(!answer.to_string().contains("`main`"), "{answer}");
    for path in [
        "/v1/refs/main/tables",
        "/v1/refs/main/views",
        "/v1/refs/main/namespaces",
        "/v1/branches",
        "/iceberg/v1/main/namespaces",
        "/iceberg/v1/main/namespaces/shop/views",
    ] {
        let (_, answer) = users.get(&ana, path).await;
        let text = answer.to_string();
        let leaks = ["sales", "orders", "best"].iter().any(|name| text.contains(name));
        assert!(!leaks, "{path}: {text}");
    }
    let (_, branches) = users.get(&ana, "/v1/branches").await;
    assert_eq!(
        (branches[0]["name"].as_str(), branches.as_array().map(Vec::len)),
        (Some("main"), Some(1))
    );
    for path in ["/v1/refs/main/tables", "/v1/refs/main/views"] {
        let (hidden, answer) = users.get(&ana, &format!("{path}?namespace=sales")).await;
        let (missing, other) = users.get(&ana, &format!("{path}?namespace=salez")).await;
        assert_eq!((hidden.as_u16(), missing.as_u16()), (404, 404), "{path}");
        assert_eq!(answer.to_string(), other.to_string().replace("salez", "sales"), "{path}");
    }
    let (_, tables) = users.sql_at(&ana, "main", "SHOW TABLES").await;
    assert_eq!(tables, json!([{"namespace": "shop", "table": "items"}]));
    let (_, views) = users.sql_at(&ana, "main", "SHOW VIEWS").await;
    assert_eq!(views, json!([]));
}

async fn authors() {
    let users = Users::start().await;
    let grants = ["insert on table:shop.items", "write,read on branch:main"];
    let ana = users.user("ana", &grants).await;
    let eve = users.user("eve", &[]).await;
    let query = json!({ "sql": "INSERT INTO shop.items VALUES (2)", "author": "eve" });
    let mut sent = request(Method::POST, "/v1/query", Some(&query));
    sent.headers_mut().insert(AUTHORIZATION, format!("Bearer {ana}").parse().expect("a header"));
    sent.headers_mut().insert("x-headwater-author", HeaderValue::from_static("eve"));
    let response = users.server.send(sent).await;
    assert_eq!(response.status(), 200);
    let job = response.headers()["x-headwater-job"].to_str().expect("an id").to_owned();
    support::body(response).await.expect("a whole body");
    let (_, log) = users.get(&ana, "/v1/refs/main/commits?limit=1").await;
    assert!(log.to_string().contains("\"author\":\"ana\""), "{log}");
    assert_eq!(users.get(&ana, &format!("/v1/jobs/{job}")).await.0, 200);
    let (status, answer) = users.get(&eve, &format!("/v1/jobs/{job}")).await;
    assert_eq!(status, 404, "{answer}");
    assert!(!answer.to_string().contains("shop"), "{answer}");
    assert_eq!(users.get(&eve, "/v1/jobs").await.1, json!([]));
    let (status, _) = users.get(&eve, "/v1/refs/main/commits").await;
    assert_eq!(status, 403);
}

async fn own_branches() {
    let users = Users::start().await;
    let reads = "read on branch:main";
    let grants = ["create on branch:dev/*", "insert on table:shop.items", reads];
    let ana = users.user("ana", &grants).await;
    let eve = users.user("eve", &["create,read on branch:dev/*", reads]).await;
    let body = || Some(json!({ "name": "dev/a", "if_not_exists": true }));
    assert_eq!(users.send(&ana, Method::POST, "/v1/branches", body()).await.0, 201);
    // A request that repeats the creation of a branch grants no right to the branch.
    assert_eq!(users.send(&eve, Method::POST, "/v1/branches", body()).await.0, 201);
    let path = "/v1/branches/dev%2Fa";
    assert_eq!(users.send(&eve, Method::DELETE, path, None).await.0, 403);
    let insert = "INSERT INTO shop.items VALUES (2)";
    assert_eq!(users.sql_at(&ana, "dev/a", insert).await.0, 200);
    let renamed = Some(json!({ "name": "dev/b" }));
    assert_eq!(users.send(&ana, Method::PATCH, path, renamed).await.0, 200);
    assert_eq!(users.sql_at(&ana, "dev/b", insert).await.0, 200);
    let taken = Some(json!({ "name": "main2" }));
    let path = "/v1/branches/dev%2Fb";
    assert_eq!(users.send(&ana, Method::PATCH, path, taken).await.0, 403);
    let deleted = users.send(&ana, Method::DELETE, path, None).await.0;
    assert!(deleted.is_success(), "{deleted}");
    // The owner of the lake creates a branch of the same name, which belongs to no user.
    let created = users.server.post("/v1/branches", json!({ "name": "dev/b" })).await;
    assert_eq!(created["name"], "dev/b", "{created}");
    assert_eq!(users.send(&ana, Method::DELETE, path, None).await.0, 403);
}

async fn grants_by_sql() {
    let users = Users::start().await;
    let root = users.user("root", &["administer on lake"]).await;
    let ana = users.user("ana", &["read on branch:*"]).await;
    users.check(&ana, "SELECT id FROM shop.items", 403).await;
    for sql in [
        "CREATE ROLE analyst",
        "CREATE ROLE IF NOT EXISTS analyst",
        "GRANT SELECT ON shop.items TO analyst",
        "GRANT ALL ON NAMESPACE scratch TO analyst; GRANT WRITE ON BRANCH 'dev/*' TO analyst",
        "GRANT analyst TO ana",
    ] {
        users.check(&root, sql, 200).await;
    }
    users.check(&ana, "SELECT id FROM shop.items", 200).await;
    let (_, answer) = users.sql_at(&root, "main", "SHOW GRANTS FOR analyst").await;
    let objects = answer.as_array().expect("rows");
    let found: Vec<_> =
        objects.iter().map(|row| row["object"].as_str().unwrap_or_default()).collect();
    assert_eq!(found, ["table:shop.items", "namespace:scratch", "branch:dev/*"], "{answer}");
    let (_, answer) = users.sql_at(&root, "main", "SHOW ROLES").await;
    assert_eq!(answer[0]["name"], "analyst", "{answer}");
    // A user can list its own grants, but neither list nor change the grants of other users.
    let (_, answer) = users.sql_at(&ana, "main", "SHOW GRANTS").await;
    assert_eq!(answer.as_array().map(Vec::len), Some(1), "{answer}");
    for sql in [
        "SHOW GRANTS FOR root",
        "SHOW ROLES",
        "CREATE ROLE mine",
        "GRANT SELECT ON sales.orders TO ana",
        "GRANT analyst TO ana",
        "DROP ROLE analyst",
    ] {
        users.check(&ana, sql, 403).await;
    }
    // If one name is unknown, nothing is granted.
    users.check(&root, "GRANT SELECT ON sales.orders TO ana, unknown", 400).await;
    users.check(&ana, "SELECT id FROM sales.orders", 403).await;
    users.check(&root, "REVOKE SELECT ON shop.items FROM analyst", 200).await;
    users.check(&ana, "SELECT id FROM shop.items", 403).await;
    users.check(&root, "DROP ROLE IF EXISTS analyst, other", 200).await;
    let audit = "SELECT count(*) AS n FROM system.audit WHERE action = 'grant' \
                 AND outcome = 'allowed'";
    let (_, answer) = users.sql_at(&root, "main", audit).await;
    assert_eq!(answer[0]["n"], 3 + 2, "three by SQL, two when the users were created: {answer}");
}

async fn iceberg() {
    let users = Users::start().await;
    let ana = users.user("ana", &["select on table:shop.items", "read on branch:main"]).await;
    let path = |table: &str| format!("/iceberg/v1/main/namespaces/{table}");
    assert_eq!(users.get(&ana, &path("shop/tables/items")).await.0, 200);
    for table in ["sales/tables/orders", "sales/tables/orderz"] {
        assert_eq!(users.get(&ana, &path(table)).await.0, 403, "{table}");
    }
    let (_, tables) = users.get(&ana, &path("shop/tables")).await;
    assert!(tables.to_string().contains("items"), "{tables}");
    let deleted = users.send(&ana, Method::DELETE, &path("shop/tables/items"), None).await;
    assert_eq!(deleted.0, 403, "{}", deleted.1);
    for (id, secret, expected) in
        [("ana", ana.as_str(), 200), ("eve", &ana, 401), ("ana", "hwp_0", 401), ("ana", "", 401)]
    {
        let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
        let mut sent = request(Method::POST, "/iceberg/v1/oauth/tokens", None);
        let header = HeaderValue::from_static("application/x-www-form-urlencoded");
        sent.headers_mut().insert("content-type", header);
        sent.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        *sent.body_mut() = form.into();
        let response = users.server.send(sent).await;
        assert_eq!(response.status(), expected, "{id}");
    }
}
