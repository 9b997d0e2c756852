//! Attempts to get rights that the user does not have.

use headwater_model::{CredentialSettings, Principal};
use headwater_server::{Credential, NewUser};
use hyper::Method;
use serde_json::{Value, json};

use crate::access::{Users, permission};
use crate::support::{self, PATIENCE};

pub async fn grants() {
    let users = Users::start().await;
    let ana = users.user("ana", &["select on table:shop.items", "read on branch:*"]).await;
    let grant = |object: &str| json!({"grantee": "ana", "actions": ["select"], "object": object});
    for object in ["table:sales.orders", "table:shop.items", "table:*", "namespace:sales"] {
        assert_eq!(users.post(&ana, "/v1/grants", grant(object)).await.0, 403, "{object}");
    }
    let administer = json!({"grantee": "ana", "actions": ["administer"], "object": "lake"});
    assert_eq!(users.post(&ana, "/v1/grants", administer).await.0, 403);
    for sql in [
        "GRANT SELECT ON sales.orders TO ana",
        "GRANT SELECT ON shop.items TO ana",
        "CREATE ROLE mine",
        "GRANT ana TO ana",
        "REVOKE SELECT ON shop.items FROM ana",
        "SHOW ROLES",
    ] {
        let (status, answer) = users.sql(&ana, sql).await;
        assert_eq!(status, 403, "{sql}: {answer}");
    }
    let disable = json!({"password": null, "disabled": false});
    let (status, _) = users.send(&ana, Method::PATCH, "/v1/users/ana", Some(disable)).await;
    assert_eq!(status, 403);
    assert_eq!(users.sql(&ana, "SELECT * FROM sales.orders").await.0, 403);
}

pub async fn cycles() {
    let users = Users::start().await;
    let owner = Principal::owner();
    for role in ["one", "two", "three"] {
        users.access.create_role(&owner, role).await.expect(role);
    }
    for (role, grantee) in [("one", "two"), ("two", "three")] {
        users.access.grant_role(&owner, role, grantee).await.expect(role);
    }
    for (role, grantee) in [("three", "one"), ("two", "one"), ("one", "one")] {
        let refused = users.access.grant_role(&owner, role, grantee).await;
        assert!(refused.is_err(), "{role} to {grantee}");
    }
}

pub async fn same_name() {
    let users = Users::start().await;
    let owner = Principal::owner();
    let grants = [
        "administer on lake",
        "select,insert on namespace:sales",
        "create on branch:dev/*",
        "write,read on branch:main",
    ];
    let old = users.user("ana", &grants).await;
    users.access.create_role(&owner, "analyst").await.expect("a role");
    users.access.grant_role(&owner, "analyst", "ana").await.expect("a member");
    users.access.grant(&owner, "analyst", permission("select on view:*")).await.expect("a grant");
    assert_eq!(users.post(&old, "/v1/branches", json!({"name": "dev/ana"})).await.0, 201);
    assert_eq!(users.sql(&old, "SELECT customer FROM sales.orders").await.0, 200);
    let (_, jobs) = users.get(&old, "/v1/jobs?limit=1").await;
    let job = jobs[0]["id"].as_str().expect("an id").to_owned();
    let (_, upload) =
        users.send(&old, Method::POST, "/v1/uploads?name=a.csv", Some(json!("id"))).await;
    let credential = Credential::Token(&old);
    let principal = users.access.authenticate(credential, None).await.expect("valid");
    users.access.drop_user(&owner, "ana").await.expect("dropped");
    let new = users.user("ana", &["insert on table:shop.items", "write on branch:main"]).await;
    assert_eq!(users.get(&old, "/v1/whoami").await.0, 401, "the old token");
    assert!(
        !users.access.may_see(&principal, &headwater_model::AccessObject::lake()),
        "old requests"
    );
    assert_eq!(users.sql(&new, "SELECT * FROM sales.orders").await.0, 403, "old grants");
    let (_, whoami) = users.get(&new, "/v1/whoami").await;
    assert_eq!(whoami["roles"], json!([]), "old roles");
    let path = "/v1/branches/dev%2Fana";
    assert_eq!(users.send(&new, Method::DELETE, path, None).await.0, 403, "old branches");
    assert_eq!(users.get(&new, &format!("/v1/jobs/{job}")).await.0, 404, "old jobs");
    let (_, jobs) = users.get(&new, "/v1/jobs").await;
    assert!(!jobs.to_string().contains("SELECT customer"), "{jobs}");
    let import = json!({"table": "shop.items", "sources": [upload["path"]]});
    // The upload time, in seconds, distinguishes the uploads of users with the same name.
    let outcome = users.job(&new, "/v1/imports", import).await;
    assert!(matches!(outcome.as_str(), "forbidden" | "succeeded"), "{outcome}");
}

pub async fn scopes() {
    let users = Users::start().await;
    users.user("ana", &["administer on lake"]).await;
    let scopes = Some(vec![permission("select on table:shop.items")]);
    let narrow =
        users.token("ana", CredentialSettings { scopes, ..CredentialSettings::default() }).await;
    for scopes in [Value::Null, json!([{"actions": ["administer"], "object": "lake"}]), json!([])] {
        let body = json!({"user": "ana", "label": "", "scopes": scopes, "expires": null});
        assert_eq!(users.post(&narrow, "/v1/tokens", body).await.0, 403, "{scopes}");
    }
    for (method, path) in [
        (Method::GET, "/v1/users"),
        (Method::POST, "/v1/shutdown"),
        (Method::GET, "/v1/grants"),
        (Method::GET, "/v1/refs/main/tables/sales.orders"),
    ] {
        assert_eq!(users.send(&narrow, method, path, None).await.0, 403, "{path}");
    }
    // A session has the limits of its token.
    let (_, code) = users.post(&narrow, "/v1/session/codes", Value::Null).await;
    assert!(code["code"].is_string(), "{code}");
}

pub async fn expiry() {
    let users = Users::start().await;
    users.user("ana", &["select on table:shop.items"]).await;
    let expires = Some(chrono::Utc::now() + chrono::TimeDelta::hours(1));
    let brief =
        users.token("ana", CredentialSettings { expires, ..CredentialSettings::default() }).await;
    for expires in [Value::Null, json!(chrono::Utc::now() + chrono::TimeDelta::hours(2))] {
        let body = json!({"user": "ana", "label": "", "scopes": null, "expires": expires});
        assert_eq!(users.post(&brief, "/v1/tokens", body).await.0, 403, "{expires}");
    }
}

pub async fn passwords() {
    let users = Users::start().await;
    let ana = users.user("ana", &["select on table:shop.items"]).await;
    users.user("eve", &[]).await;
    let change = json!({"password": "a long new password", "disabled": null});
    for user in ["ana", "eve", "none"] {
        let path = format!("/v1/users/{user}");
        let (status, answer) = users.send(&ana, Method::PATCH, &path, Some(change.clone())).await;
        assert_eq!(status, 403, "{user}: {answer}");
    }
}

/// A project whose trigger runs every second, with a model that reads a table.
fn triggered(sql: &str) -> Value {
    json!({"files": {
        "headwater.toml": "[project]\nname = \"shop\"\n[defaults]\nnamespace = \"shop\"\n\n\
            [[trigger]]\nname = \"often\"\nschedule = { cron = \"* * * * * *\" }\nretries = 0\n\
            run = true\n",
        "models/copy.sql": format!("-- headwater: materialization = replace\n{sql}\n"),
    }})
}

const DEPLOYER: [&str; 4] = [
    "deploy,run on project:shop",
    "select,insert,create,delete,alter on namespace:shop",
    "read,write on branch:main",
    "read on trigger:*",
];

pub async fn trigger() {
    let users = Users::start().await;
    let ana = users.user("ana", &DEPLOYER).await;
    let body = triggered("SELECT customer FROM sales.orders");
    let (status, answer) = users.post(&ana, "/v1/deployments", body).await;
    assert_eq!(status, 201, "{answer}");
    let failed = |events: &Value| events[0]["error"]["code"].is_string();
    let events = users.server.until("/v1/trigger-events?status=failed", failed).await;
    assert_eq!(events[0]["error"]["code"], "forbidden", "{events}");
    assert!(!events.to_string().contains("secret"), "{events}");
    // The trigger loses its rights when its user is dropped.
    let body = triggered("SELECT id FROM items");
    assert_eq!(users.post(&ana, "/v1/deployments", body).await.0, 201);
    let done = |events: &Value| events[0]["id"].is_string();
    users.server.until("/v1/trigger-events?status=done", done).await;
    users.access.disable_user(&Principal::owner(), "ana", true).await.expect("disabled");
    let refused = |events: &Value| events[0]["error"]["code"] == "unauthenticated";
    let deadline = std::time::Instant::now() + PATIENCE;
    while !refused(&users.server.get("/v1/trigger-events?status=failed").await) {
        assert!(std::time::Instant::now() < deadline, "the trigger does not fail");
    }
}

pub async fn activation() {
    let users = Users::start().await;
    let ana = users.user("ana", &DEPLOYER).await;
    let by_owner = json!({"files": {
        "headwater.toml": "[project]\nname = \"shop\"\n",
        "models/copy.sql": "-- headwater: materialization = replace\nSELECT * FROM sales.orders\n",
    }});
    let report = users.server.post("/v1/deployments", by_owner).await;
    let version = report["deployment"]["version"].as_str().expect("a version").to_owned();
    let own = json!({"files": {"headwater.toml": "[project]\nname = \"shop\"\n"}});
    let (status, report) = users.post(&ana, "/v1/deployments", own).await;
    assert_eq!(status, 201, "{report}");
    let activate = async |version: &str| {
        let path = format!("/v1/deployments/{version}/activate");
        users.post(&ana, &path, Value::Null).await
    };
    let (status, answer) = activate(&version).await;
    assert_eq!(status, 403, "{answer}");
    let message = answer["message"].as_str().expect("a message");
    assert!(message.contains("was deployed by another user"), "{message}");
    let mine = report["deployment"]["version"].as_str().expect("a version");
    assert_eq!(activate(mine).await.0, 200);
    let answer = users.server.post(&format!("/v1/deployments/{version}/activate"), json!({})).await;
    assert!(answer.get("code").is_none(), "{answer}");
}

pub async fn reserved() {
    let users = Users::start().await;
    let owner = Principal::owner();
    for name in
        ["owner", "Owner", "OWNER", "anonymous", "system", "public", "owner\u{200b}", "оwner"]
    {
        let new = NewUser { name: name.to_owned(), ..NewUser::default() };
        users.access.create_user(&owner, new).await.expect_err(name);
        users.access.create_role(&owner, name).await.expect_err(name);
    }
    let form = "grant_type=client_credentials&client_id=owner&client_secret=x";
    let mut sent = support::request(Method::POST, "/iceberg/v1/oauth/tokens", None);
    *sent.body_mut() = form.into();
    assert_eq!(users.server.send(sent).await.status(), 401);
}
