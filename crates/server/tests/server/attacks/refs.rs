//! Attempts to read a branch without `read` on it.

use serde_json::json;

use crate::access::Users;

const ITEMS: &str = "SELECT id FROM shop.items ORDER BY id";

/// A server with the branch `private`, on which `shop.items` has the row 77.
async fn start() -> Users {
    let users = Users::start().await;
    users.server.post("/v1/branches", json!({"name": "private"})).await;
    let insert = json!({"sql": "INSERT INTO shop.items VALUES (77)", "ref": "private"});
    users.server.post("/v1/query", insert).await;
    users
}

/// Returns the ref of the commit at the head of a branch.
async fn head(users: &Users, branch: &str) -> String {
    let found = users.server.get(&format!("/v1/refs/{branch}")).await;
    format!("@{}", found["commit"].as_str().expect("a commit"))
}

/// Reads a ref in every way. Every request must be forbidden. Returns the answers.
async fn refused(users: &Users, token: &str, reference: &str) -> Vec<String> {
    let mut answers = Vec::new();
    let mut check = |what: &str, status: u16, answer: String| {
        assert_eq!(status, 403, "{what}: {answer}");
        assert!(!answer.contains("77"), "{what}: {answer}");
        answers.push(answer.replace(reference, "NAME"));
    };
    for (at, sql) in [
        (reference, ITEMS.to_owned()),
        (reference, "SELECT 1".to_owned()),
        (reference, "SELECT * FROM information_schema.tables".to_owned()),
        ("main", format!("SELECT * FROM shop.\"items@{reference}\"")),
        ("main", format!("SELECT count(*) FROM shop.\"items@{reference}\" AS a, shop.items")),
        ("main", format!("SELECT * FROM shop.\"items@{reference}~1\"")),
    ] {
        let (status, answer) = users.sql_at(token, at, &sql).await;
        check(&sql, status.as_u16(), answer.to_string());
    }
    for path in [
        "/v1/refs/REF",
        "/v1/refs/REF/tables",
        "/v1/refs/REF/views",
        "/v1/refs/REF/namespaces",
        "/v1/refs/REF/tables/shop.items",
        "/v1/refs/REF/commits",
        "/v1/refs/REF/diff/main",
        "/v1/refs/main/diff/REF/tables/shop.items",
        "/iceberg/v1/config?warehouse=REF",
        "/iceberg/v1/REF/namespaces",
        "/iceberg/v1/REF/namespaces/shop/tables",
        "/iceberg/v1/REF/namespaces/shop/tables/items",
    ] {
        let (status, answer) = users.get(token, &path.replace("REF", reference)).await;
        check(path, status.as_u16(), answer.to_string());
    }
    for (path, body) in [
        ("/v1/branches", json!({"name": "eve/x", "from": reference})),
        ("/v1/tags", json!({"name": "eve/t", "from": reference})),
        ("/v1/branches/main/merge", json!({"source": reference})),
        ("/v1/branches/main/cherry-pick", json!({"commit": reference})),
        ("/v1/branches/main/revert", json!({"commit": reference})),
    ] {
        let (status, answer) = users.post(token, path, body).await;
        check(path, status, answer.to_string());
    }
    answers
}

pub async fn unreadable() {
    let users = start().await;
    let grants =
        ["select on table:shop.items", "read,write,merge on branch:main", "create on branch:eve/*"];
    let eve = users.user("eve", &grants).await;
    // The answers do not depend on the existence of the branch.
    let hidden = refused(&users, &eve, "private").await;
    assert_eq!(hidden, refused(&users, &eve, "missing").await);
    // Without a grant on `main`, `main` is not readable either.
    let ann = users.user("ann", &["select on table:shop.items"]).await;
    for path in ["/v1/refs/main/tables", "/iceberg/v1/main/namespaces"] {
        assert_eq!(users.get(&ann, path).await.0, 403, "{path}");
    }
    assert_eq!(users.sql(&ann, ITEMS).await.0, 403);
    users.grant("eve", &["read on branch:private"]).await;
    let (status, rows) = users.sql_at(&eve, "private", ITEMS).await;
    assert_eq!((status.as_u16(), rows), (200, json!([{"id": 1}, {"id": 77}])));
}

pub async fn commits() {
    let users = start().await;
    let eve = users.user("eve", &["select on table:shop.items", "merge on branch:main"]).await;
    let (main, private) = (head(&users, "main").await, head(&users, "private").await);
    // A commit is readable if it is in the history of a readable branch.
    for reference in ["main", "main~1", main.as_str()] {
        let (status, answer) = users.sql_at(&eve, reference, ITEMS).await;
        assert_eq!((status.as_u16(), &answer), (200, &json!([{"id": 1}])), "{reference}");
    }
    for reference in [private.as_str(), "@00000000"] {
        let (status, answer) = users.sql_at(&eve, reference, ITEMS).await;
        assert_eq!(status, 403, "{reference}: {answer}");
        let merge = json!({"source": reference});
        assert_eq!(users.post(&eve, "/v1/branches/main/merge", merge).await.0, 403);
    }
}

pub async fn writers() {
    let users = start().await;
    let grants = ["select,insert on table:shop.items", "write on branch:private"];
    let ben = users.user("ben", &grants).await;
    let insert = "INSERT INTO shop.items SELECT id FROM shop.items WHERE id > 70";
    for sql in [insert, ITEMS] {
        let (status, answer) = users.sql_at(&ben, "private", sql).await;
        assert_eq!(status, 200, "{sql}: {answer}");
    }
    assert_eq!(users.get(&ben, "/v1/refs/private/commits").await.0, 200);
    assert_eq!(users.sql(&ben, ITEMS).await.0, 403);
}
