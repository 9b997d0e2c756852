//! Names that must stay hidden from a user.

use serde_json::json;

use crate::access::Users;

pub async fn errors() {
    let users = Users::start().await;
    let ana = users.user("ana", &["select on table:shop.it*", "read on branch:main"]).await;
    for (sql, path) in [
        ("SELECT * FROM sales.NAME", "/v1/refs/main/tables/sales.NAME"),
        ("SELECT nothing FROM sales.NAME", "/v1/refs/main/diff/main/tables/sales.NAME"),
        ("INSERT INTO sales.NAME VALUES (1)", "/v1/refs/main/views/sales.NAME"),
        ("DROP TABLE sales.NAME", "/iceberg/v1/main/namespaces/sales/tables/NAME"),
        ("ALTER TABLE sales.NAME ADD COLUMN a INT", "/iceberg/v1/main/namespaces/sales/views/NAME"),
        ("DESCRIBE sales.NAME", "/v1/refs/main/tables/NAME"),
        ("SELECT * FROM sales.NAME, shop.items", "/v1/refs/main/views/shop.NAME"),
        ("EXPLAIN SELECT * FROM sales.NAME", "/v1/refs/main/tables/sales.NAME"),
        ("SELECT * FROM NAME.x", "/v1/refs/main/tables?namespace=NAME"),
    ] {
        let answers = async |name: &str| {
            let (status, rows) = users.sql(&ana, &sql.replace("NAME", name)).await;
            let (found, object) = users.get(&ana, &path.replace("NAME", name)).await;
            let text = format!("{status} {rows} {found} {object}");
            text.replace(name, "NAME")
        };
        assert_eq!(answers("orders").await, answers("orderz").await, "{sql} {path}");
        assert_eq!(answers("best").await, answers("bezt").await, "{sql} {path}");
    }
    for sql in ["SELECT 1", "SELECT * FROM x"] {
        let answers = async |namespace: &str| {
            let query = json!({"sql": sql, "namespace": namespace});
            let (status, answer) = users.post(&ana, "/v1/query", query).await;
            format!("{status} {answer}").replace(namespace, "NAME")
        };
        assert_eq!(answers("sales").await, answers("salez").await, "{sql}");
    }
}

pub async fn spellings() {
    let users = Users::start().await;
    let ana = users.user("ana", &["run on project:shop", "read,write on branch:main"]).await;
    let answers = async |name: &str| {
        let run = json!({"files": {"headwater.toml": "[project]\nname = \"shop\"\n"}});
        let table = format!("sales.{name}");
        let body = json!({"run": run, "parameter": "day", "partitions_of": table});
        let (status, answer) = users.post(&ana, "/v1/backfills", body).await;
        assert_eq!(status, 403, "{answer}");
        answer.to_string().replace(name, "NAME")
    };
    assert_eq!(answers("ORDERS").await, answers("ORDERZ").await);
    assert_eq!(answers("orders").await, answers("orderz").await);
}

pub async fn suggestions() {
    let users = Users::start().await;
    let ana = users.user("ana", &["select on namespace:shop", "read on branch:main"]).await;
    for sql in [
        "SELECT * FROM shop.order",
        "SELECT * FROM sale.orders",
        "SELECT * FROM orders",
        "SELECT customer FROM shop.items",
    ] {
        let (_, answer) = users.sql(&ana, sql).await;
        let text = answer.to_string().replace(sql, "");
        let text = text.replace("sale.orders", "").replace("`orders`", "").replace(".orders`", "");
        assert!(!text.contains("sales"), "{sql}: {text}");
    }
    let (_, answer) = users.get(&ana, "/v1/branches/mian").await;
    assert!(!answer.to_string().contains("main"), "{answer}");
    let (_, answer) = users.post(&ana, "/v1/functions/scor/invoke", json!({})).await;
    assert!(!answer.to_string().contains("score"), "{answer}");
}

pub async fn lists() {
    let users = Users::start().await;
    users.server.post("/v1/branches", json!({"name": "private"})).await;
    let ana = users.user("ana", &["select on table:shop.items", "read on branch:main"]).await;
    for path in [
        "/v1/refs/main/tables",
        "/v1/refs/main/views",
        "/v1/refs/main/namespaces",
        "/v1/branches",
        "/v1/tags",
        "/v1/jobs",
        "/v1/usage",
        "/v1/functions",
        "/v1/triggers",
        "/v1/trigger-events",
        "/v1/secrets",
        "/v1/environments",
        "/v1/deployments",
        "/v1/tokens",
        "/iceberg/v1/main/namespaces",
        "/iceberg/v1/main/namespaces/shop/views",
    ] {
        let (_, answer) = users.get(&ana, path).await;
        let text = answer.to_string();
        let leaks = ["sales", "orders", "best", "private", "owner"];
        assert!(!leaks.iter().any(|name| text.contains(name)), "{path}: {text}");
    }
    for sql in ["SHOW TABLES", "SHOW VIEWS", "SHOW SCHEMAS", "SHOW BRANCHES"] {
        let (_, answer) = users.sql(&ana, sql).await;
        let text = answer.to_string();
        assert!(!text.contains("sales") && !text.contains("orders"), "{sql}: {text}");
    }
    assert_eq!(users.sql(&ana, "SHOW TABLES").await.1.as_array().map(Vec::len), Some(1));
}

pub async fn messages() {
    let users = Users::start().await;
    let ana = users.user("ana", &["select on table:shop.items", "read on branch:*"]).await;
    let root = users.user("root", &["administer on lake"]).await;
    users.sql_at(&root, "main", "CREATE TABLE shop.layoffs AS SELECT 1 AS a").await;
    users.sql_at(&root, "main", "INSERT INTO shop.items VALUES (7)").await;
    let (_, log) = users.get(&ana, "/v1/refs/main/commits").await;
    assert!(!log.to_string().contains("layoffs"), "{log}");
    assert!(log.to_string().contains("shop.items"), "{log}");
    let (_, log) = users.get(&root, "/v1/refs/main/commits").await;
    assert!(log.to_string().contains("layoffs"), "{log}");
}
