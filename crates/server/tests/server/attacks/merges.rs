//! Attempts to delete rows by a merge, without the right to delete them, and to change hidden rows
//! by a revert or cherry-pick.

use serde_json::{Value, json};

use crate::access::Users;

const MERGE: &str = "/v1/branches/main/merge";
const PICK: &str = "/v1/branches/main/cherry-pick";
const REVERT: &str = "/v1/branches/main/revert";

/// Rows of `shop.p` on `main` after [`start`].
const ROWS: &str = "SELECT count(*) AS n, max(name) AS name FROM shop.p";

/// A server whose table `shop.p` has a conflict between `main` and the branch `rob/x` of `rob`. A
/// row filter hides the rows of `main` that a merge with the version of `rob/x` would delete.
async fn start() -> (Users, String) {
    let users = Users::start().await;
    let grants =
        ["select,insert on table:shop.p", "read,merge on branch:main", "create on branch:rob/*"];
    let rob = users.user("rob", &grants).await;
    users.owner_sql("CREATE TABLE shop.p (id BIGINT PRIMARY KEY, name VARCHAR)").await;
    users.owner_sql("INSERT INTO shop.p VALUES (1, 'a')").await;
    users.owner_sql("CREATE ROW FILTER low ON shop.p USING (id < 100) TO rob").await;
    assert_eq!(users.post(&rob, "/v1/branches", json!({"name": "rob/x"})).await.0, 201);
    let insert = "INSERT INTO shop.p VALUES (500, 'rob')";
    let (status, answer) = users.sql_at(&rob, "rob/x", insert).await;
    assert_eq!(status, 200, "{answer}");
    users.owner_sql("INSERT INTO shop.p VALUES (500, 'b'), (501, 'b'), (502, 'b')").await;
    (users, rob)
}

/// Checks that every way to take the version of `rob/x` is forbidden. Returns the last message.
async fn refused(users: &Users, rob: &str) -> String {
    let mut message = String::new();
    for (path, body) in [
        (PICK, json!({"commit": "rob/x", "on_conflict": "theirs"})),
        (MERGE, json!({"source": "rob/x", "choices": {"shop.p": "theirs"}})),
        (MERGE, json!({"source": "rob/x", "on_conflict": "theirs"})),
        (MERGE, json!({"source": "rob/x", "on_conflict": "theirs", "dry_run": true})),
        (MERGE, json!({"source": "rob/x", "on_conflict": "theirs", "unchecked": true})),
    ] {
        let (status, answer) = users.post(rob, path, body.clone()).await;
        assert_eq!(status, 403, "{path} {body}: {answer}");
        answer["message"].as_str().expect("a message").clone_into(&mut message);
    }
    assert_eq!(users.owner_sql(ROWS).await, json!([{"n": 4, "name": "b"}]));
    message
}

pub async fn sides() {
    let (users, rob) = start().await;
    let (status, conflict) = users.post(&rob, MERGE, json!({"source": "rob/x"})).await;
    assert_eq!((status, &conflict["code"]), (409, &json!("merge_conflict")), "{conflict}");
    let denied = "user `rob` may not delete table `shop.p`";
    assert_eq!(refused(&users, &rob).await, denied);
    users.grant("rob", &["delete on table:shop.p"]).await;
    assert_eq!(refused(&users, &rob).await, format!("{denied}: row filter `low`"));
    users.owner_sql("DROP ROW FILTER low").await;
    assert_eq!(refused(&users, &rob).await, "user `rob` may not update table `shop.p`");
    users.grant("rob", &["update on table:shop.p"]).await;
    let taken = json!({"source": "rob/x", "choices": {"shop.p": "theirs"}, "dry_run": true});
    let (status, report) = users.post(&rob, MERGE, taken).await;
    assert_eq!((status, &report["outcome"]), (200, &json!("merged")), "{report}");
}

pub async fn kept() {
    let (users, rob) = start().await;
    // The version of the target is kept, so no right to change rows is needed.
    let kept = json!({"source": "rob/x", "choices": {"shop.p": "ours"}});
    let (status, report) = users.post(&rob, MERGE, kept).await;
    assert_eq!(status, 200, "{report}");
    let rows: Value = users.owner_sql("SELECT count(*) AS n FROM shop.p").await;
    assert_eq!(rows, json!([{"n": 4}]));
}

pub async fn replaced() {
    let users = Users::start().await;
    let grants = [
        "select,insert,update,delete,create on table:shop.p",
        "read,merge on branch:main",
        "create on branch:rob/*",
    ];
    let rob = users.user("rob", &grants).await;
    assert_eq!(users.post(&rob, "/v1/branches", json!({"name": "rob/x"})).await.0, 201);
    users.owner_sql("CREATE TABLE shop.p AS SELECT 1 AS id").await;
    let create = "CREATE TABLE shop.p AS SELECT 2 AS id";
    let (status, answer) = users.sql_at(&rob, "rob/x", create).await;
    assert_eq!(status, 200, "{answer}");
    // The merge would drop the table of `main`.
    let taken = json!({"source": "rob/x", "on_conflict": "theirs"});
    let (status, answer) = users.post(&rob, MERGE, taken.clone()).await;
    assert_eq!(status, 403, "{answer}");
    assert_eq!(answer["message"], "user `rob` may not drop table `shop.p`");
    users.grant("rob", &["drop on table:shop.p"]).await;
    let (status, report) = users.post(&rob, MERGE, taken).await;
    assert_eq!(status, 200, "{report}");
    assert_eq!(users.owner_sql("SELECT id FROM shop.p").await, json!([{"id": 2}]));
}

/// Checks that a change of the restricted table `shop.p` by `rob` is forbidden.
async fn restricted(users: &Users, rob: &str, restriction: &str, path: &str, body: Value) {
    let (status, answer) = users.post(rob, path, body.clone()).await;
    assert_eq!(status, 403, "{path} {body}: {answer}");
    let expected = format!("user `rob` may not update table `shop.p`: {restriction}");
    assert_eq!(answer["message"], expected, "{path} {body}");
    assert_eq!(users.owner_sql(ROWS).await, json!([{"n": 4, "name": "b"}]));
}

pub async fn reverted() {
    let (users, rob) = start().await;
    users.grant("rob", &["update,delete on table:shop.p"]).await;
    // The branch of `rob` also has a row that the owner inserted.
    for (path, body) in [
        (REVERT, json!({"commit": "main"})),
        (REVERT, json!({"commit": "main", "dry_run": true})),
        (REVERT, json!({"commit": "main", "tables": ["shop.p"], "unchecked": true})),
        (REVERT, json!({"commit": "main~1", "on_conflict": "theirs"})),
        ("/v1/branches/rob%2Fx/revert", json!({"commit": "rob/x~1"})),
    ] {
        restricted(&users, &rob, "row filter `low`", path, body).await;
    }
    users.owner_sql("CREATE COLUMN MASK names ON shop.p (name) USING ('') TO rob").await;
    users.owner_sql("DROP ROW FILTER low").await;
    let mask = "column mask `names` of column `name`";
    restricted(&users, &rob, mask, REVERT, json!({"commit": "main"})).await;
    users.owner_sql("DROP COLUMN MASK names").await;
    let (status, report) = users.post(&rob, REVERT, json!({"commit": "main"})).await;
    assert_eq!((status, &report["outcome"]), (200, &json!("merged")), "{report}");
    assert_eq!(users.owner_sql(ROWS).await, json!([{"n": 1, "name": "a"}]));
}

pub async fn picked() {
    let (users, rob) = start().await;
    users.server.post("/v1/branches", json!({"name": "dev"})).await;
    users.grant("rob", &["update,delete on table:shop.p", "read on branch:dev"]).await;
    let at_dev = async |sql: &str| {
        let answer = users.server.post("/v1/query", json!({"sql": sql, "ref": "dev"})).await;
        assert!(answer.get("code").is_none(), "{sql}: {answer}");
    };
    at_dev("DELETE FROM shop.p WHERE id > 500").await;
    for (path, body) in [
        (PICK, json!({"commit": "dev"})),
        (PICK, json!({"commit": "dev", "dry_run": true})),
        (PICK, json!({"commit": "main~1"})),
        ("/v1/branches/rob%2Fx/cherry-pick", json!({"commit": "main"})),
    ] {
        restricted(&users, &rob, "row filter `low`", path, body).await;
    }
    // A commit that changes only other tables can be picked, with the rights to change them.
    at_dev("INSERT INTO shop.items VALUES (2)").await;
    let (status, answer) = users.post(&rob, PICK, json!({"commit": "dev"})).await;
    assert_eq!(status, 403, "{answer}");
    users.grant("rob", &["insert,update,delete on table:shop.items"]).await;
    let (status, report) = users.post(&rob, PICK, json!({"commit": "dev"})).await;
    assert_eq!(status, 200, "{report}");
    assert_eq!(users.owner_sql("SELECT count(*) AS n FROM shop.items").await, json!([{"n": 2}]));
}

pub async fn unnamed() {
    let users = Users::start().await;
    let grants = ["select,insert,update,delete on table:shop.items", "read,merge on branch:main"];
    let rob = users.user("rob", &grants).await;
    users.server.post("/v1/branches", json!({"name": "dev"})).await;
    for sql in ["INSERT INTO shop.items VALUES (2)", "INSERT INTO sales.orders VALUES (9, 'x')"] {
        users.server.post("/v1/query", json!({"sql": sql, "ref": "dev"})).await;
    }
    // After a change of `main`, the merge is a commit that changes both tables.
    users.owner_sql("CREATE TABLE shop.other AS SELECT 1 AS id").await;
    users.server.post(MERGE, json!({"source": "dev"})).await;
    let revert = json!({"commit": "main", "tables": ["shop.items"]});
    let (status, answer) = users.post(&rob, REVERT, revert).await;
    assert_eq!(status, 400, "{answer}");
    let message = answer["message"].as_str().expect("a message");
    assert!(message.ends_with("also changed tables that are hidden from the user"), "{message}");
    assert!(!answer.to_string().contains("sales"), "{answer}");
    let revert = json!({"commit": "main", "tables": ["shop.items"], "partial": true});
    let (status, report) = users.post(&rob, REVERT, revert).await;
    assert_eq!((status, &report["tables"]), (200, &json!(["shop.items"])), "{report}");
    assert_eq!(users.owner_sql("SELECT count(*) AS n FROM shop.items").await, json!([{"n": 1}]));
}

pub async fn unchangeable() {
    let users = Users::start().await;
    let grants = ["select on table:shop.*", "read,merge on branch:main", "read on branch:dev"];
    let rob = users.user("rob", &grants).await;
    users.server.post("/v1/branches", json!({"name": "dev"})).await;
    let refused = async |path: &str, body: Value, action: &str, table: &str| {
        let (status, answer) = users.post(&rob, path, body).await;
        assert_eq!(status, 403, "{answer}");
        assert_eq!(answer["message"], format!("user `rob` may not {action} table `{table}`"));
    };
    let done = async |path: &str, body: Value| {
        let (status, report) = users.post(&rob, path, body).await;
        assert_eq!((status, &report["outcome"]), (200, &json!("merged")), "{report}");
    };
    users.owner_sql("INSERT INTO shop.items VALUES (2)").await;
    let last = json!({"commit": "main"});
    refused(REVERT, last.clone(), "delete", "shop.items").await;
    users.grant("rob", &["delete on table:shop.items"]).await;
    refused(REVERT, last.clone(), "insert", "shop.items").await;
    users.grant("rob", &["insert on table:shop.items"]).await;
    refused(REVERT, last.clone(), "update", "shop.items").await;
    users.grant("rob", &["update on table:shop.items"]).await;
    done(REVERT, last.clone()).await;
    assert_eq!(users.owner_sql("SELECT id FROM shop.items").await, json!([{"id": 1}]));
    // The revert of a new table drops the table.
    users.owner_sql("CREATE TABLE shop.made AS SELECT 1 AS id").await;
    refused(REVERT, last.clone(), "drop", "shop.made").await;
    users.grant("rob", &["drop on table:shop.made"]).await;
    done(REVERT, last.clone()).await;
    // The revert of a drop creates the table.
    refused(REVERT, last.clone(), "create", "shop.made").await;
    users.grant("rob", &["create,insert on table:shop.made"]).await;
    done(REVERT, last.clone()).await;
    assert_eq!(users.owner_sql("SELECT id FROM shop.made").await, json!([{"id": 1}]));
    // The name of a table that the user may not read is not shown.
    users.owner_sql("INSERT INTO sales.orders VALUES (9, 'x')").await;
    let (status, answer) = users.post(&rob, REVERT, last).await;
    assert_eq!(status, 403, "{answer}");
    assert!(!answer.to_string().contains("sales"), "{answer}");
}
