//! Work of other users.

use hyper::Method;
use hyper::header::{AUTHORIZATION, HeaderValue};
use serde_json::{Value, json};

use crate::access::Users;
use crate::support::{self, request};

const GRANTS: [&str; 3] =
    ["select,insert on table:shop.items", "read,write on branch:*", "invoke on function:*"];

/// A server, and the tokens of `ana` and `eve`, which have the same rights.
async fn start() -> (Users, String, String) {
    let users = Users::start().await;
    let ana = users.user("ana", &GRANTS).await;
    let eve = users.user("eve", &GRANTS).await;
    (users, ana, eve)
}

pub async fn jobs() {
    let (users, ana, eve) = start().await;
    assert_eq!(users.sql(&ana, "SELECT id AS chosen FROM shop.items").await.0, 200);
    let (_, jobs) = users.get(&ana, "/v1/jobs").await;
    let id = jobs[0]["id"].as_str().expect("an id").to_owned();
    let missing = "01900000-0000-7000-8000-000000000000";
    for (method, suffix) in [
        (Method::GET, ""),
        (Method::GET, "/events"),
        (Method::POST, "/stop"),
        (Method::POST, "/rerun"),
    ] {
        let answer = async |id: &str| {
            let path = format!("/v1/jobs/{id}{suffix}");
            let (status, answer) = users.send(&eve, method.clone(), &path, None).await;
            assert_eq!(status, 404, "{path}: {answer}");
            answer.to_string().replace(id, "ID")
        };
        assert_eq!(answer(&id).await, answer(missing).await, "{suffix}");
        assert_eq!(answer(&id[..8]).await, answer(missing).await, "{suffix}");
    }
    for path in ["/v1/jobs", "/v1/usage", "/v1/usage?by=author"] {
        let (_, answer) = users.get(&eve, path).await;
        assert!(!answer.to_string().contains("ana"), "{path}: {answer}");
    }
}

pub async fn uploads() {
    let (users, ana, eve) = start().await;
    let (_, upload) =
        users.send(&ana, Method::POST, "/v1/uploads?name=a.csv", Some(json!("id"))).await;
    let path = upload["path"].as_str().expect("a path");
    let folder = path.rsplit_once('/').expect("a folder").0;
    let other = folder.replace(".ana", ".eve");
    for source in [path.to_owned(), format!("{other}/a.csv"), format!("{folder}/../x.eve/a.csv")] {
        let body = json!({"table": "shop.items", "sources": [source]});
        let outcome = users.job(&eve, "/v1/imports", body).await;
        assert_ne!(outcome, "succeeded", "{source}");
    }
    let bob = users.user("bob", &["deploy on function:*"]).await;
    for source in [path, &format!("{folder}/../x.bob/a.csv"), "/etc/passwd"] {
        let body = json!({"runtime": "python3.11", "handler": "app.handler", "upload": source});
        let (status, answer) = users.send(&bob, Method::PUT, "/v1/functions/f", Some(body)).await;
        assert_eq!(status, 403, "{source}: {answer}");
        assert!(answer.to_string().contains("not one of your uploads"), "{answer}");
    }
    for source in [path.to_owned(), format!("{folder}/../x.eve/a.csv"), "/etc/passwd".to_owned()] {
        let path = format!("/v1/uploads?path={source}");
        assert_eq!(users.send(&eve, Method::DELETE, &path, None).await.0, 404, "{source}");
    }
    assert!(std::path::Path::new(path).exists(), "the upload is not deleted");
    for name in ["..%2Fx.csv", "%2Fetc%2Fx", "..", ".hidden", "a%00b", "a%5Cb"] {
        let path = format!("/v1/uploads?name={name}");
        assert_eq!(users.send(&ana, Method::POST, &path, Some(json!(1))).await.0, 400, "{name}");
    }
}

pub async fn tokens() {
    let (users, ana, eve) = start().await;
    let (_, listed) = users.get(&ana, "/v1/tokens").await;
    let id = listed[0]["id"].as_str().expect("an id").to_owned();
    let revoke = async |id: &str| {
        let path = format!("/v1/tokens/{id}");
        let (status, answer) = users.send(&eve, Method::DELETE, &path, None).await;
        (status.as_u16(), answer.to_string().replace(id, "ID"))
    };
    assert_eq!(revoke(&id).await, revoke("none").await);
    assert_eq!(users.get(&ana, "/v1/branches").await.0, 200, "the token is still valid");
    assert_eq!(users.get(&eve, "/v1/tokens?user=ana").await.0, 403);
    assert_eq!(users.get(&eve, "/v1/users/ana").await.0, 403);
    let body = json!({"user": "ana", "label": "", "scopes": null, "expires": null});
    assert_eq!(users.post(&eve, "/v1/tokens", body).await.0, 403);
    let (_, listed) = users.get(&eve, "/v1/tokens").await;
    assert!(!listed.to_string().contains("ana"), "{listed}");
}

/// Deploys a function as the owner.
async fn deploy_function(users: &Users) {
    let code = "import headwater\n\n\n@headwater.function()\ndef note(text):\n    return text\n";
    let files = json!({"headwater.toml": "[project]\nname = \"shop\"\n", "f.py": code});
    let answer = users.server.post("/v1/deployments", json!({ "files": files })).await;
    assert!(answer.get("code").is_none(), "{answer}");
}

async fn accept(users: &Users, token: &str, text: &str) -> Value {
    let body = json!({"arguments": {"text": text}, "key": "order-7"});
    let (status, answer) = users.post(token, "/v1/functions/note/invoke-async", body).await;
    assert_eq!(status, 202, "{answer}");
    answer
}

pub async fn call_keys() {
    let (users, ana, eve) = start().await;
    deploy_function(&users).await;
    let first = accept(&users, &eve, "first").await;
    let second = accept(&users, &ana, "second").await;
    assert_eq!((&first["duplicate"], &second["duplicate"]), (&json!(false), &json!(false)));
    assert_ne!(first["event"], second["event"]);
    let again = accept(&users, &ana, "second").await;
    assert_eq!((&again["duplicate"], &again["event"]), (&json!(true), &second["event"]));
}

pub async fn events() {
    let (users, ana, eve) = start().await;
    deploy_function(&users).await;
    let event = accept(&users, &ana, "private").await["event"].as_str().expect("an id").to_owned();
    let path = format!("/v1/trigger-events/{event}");
    assert_eq!(users.get(&ana, &path).await.0, 200);
    let (status, answer) = users.get(&eve, &path).await;
    assert_eq!(status, 404, "{answer}");
    assert_eq!(users.get(&eve, "/v1/trigger-events").await.1, json!([]));
    let missing = "01900000-0000-7000-8000-000000000000";
    for (method, suffix) in [(Method::POST, "/replay"), (Method::DELETE, "")] {
        let answer = async |id: &str| {
            let path = format!("/v1/trigger-events/{id}{suffix}");
            let (status, answer) = users.send(&eve, method.clone(), &path, None).await;
            assert_eq!(status, 403, "{path}: {answer}");
            answer.to_string().replace(id, "ID")
        };
        assert_eq!(answer(&event).await, answer(missing).await, "{suffix}");
        assert_eq!(answer(&event[..8]).await, answer(missing).await, "{suffix}");
    }
}

pub async fn iceberg_keys() {
    let (users, _, eve) = start().await;
    let drop_all = "select,insert,update,delete,create,alter,drop on namespace:sales";
    let bob = users.user("bob", &[drop_all, "read,write on branch:*"]).await;
    let path = "/iceberg/v1/main/namespaces/sales/tables/orders";
    let body = json!({"requirements": [], "updates": [
        {"action": "set-properties", "updates": {"a": "b"}}]});
    let send = async |token: &str| {
        let mut sent = request(Method::POST, path, Some(&body));
        let bearer: HeaderValue = format!("Bearer {token}").parse().expect("a header");
        sent.headers_mut().insert(AUTHORIZATION, bearer);
        sent.headers_mut().insert("idempotency-key", HeaderValue::from_static("k"));
        let response = users.server.send(sent).await;
        let status = response.status().as_u16();
        (status, support::json(response).await)
    };
    assert_eq!(send(&bob).await.0, 200);
    let (status, answer) = send(&eve).await;
    assert_eq!(status, 403);
    assert!(!answer.to_string().contains("metadata"), "{answer}");
}

pub async fn author() {
    let (users, ana, _) = start().await;
    let body = json!({"sql": "INSERT INTO shop.items VALUES (2)", "author": "eve"});
    let mut sent = request(Method::POST, "/v1/query", Some(&body));
    sent.headers_mut().insert(AUTHORIZATION, format!("Bearer {ana}").parse().expect("a header"));
    sent.headers_mut().insert("x-headwater-author", HeaderValue::from_static("eve"));
    assert_eq!(users.server.send(sent).await.status(), 200);
    let (_, log) = users.get(&ana, "/v1/refs/main/commits?limit=1").await;
    assert_eq!(log[0]["author"], "ana", "{log}");
    let (_, jobs) = users.get(&ana, "/v1/jobs?limit=1").await;
    assert_eq!(jobs[0]["author"], "ana", "{jobs}");
    let events = users.access.audit().list(100).await.expect("events");
    let of_eve = events.iter().filter(|event| event.principal == "eve" && event.action == "insert");
    assert_eq!(of_eve.count(), 0);
}
