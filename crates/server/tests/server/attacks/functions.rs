//! Ownership of layers and of the functions of a deployed project.

use headwater_model::{CredentialSettings, Principal};
use hyper::Method;
use serde_json::{Value, json};

use crate::access::{Users, permission};

const LAYER: &str = "deploy on function:layer/made";

const VERSIONS: &str = "/v1/layers/made/versions";

impl Users {
    /// Publishes a version of the layer `made`. Returns the status.
    async fn publish(&self, token: &str) -> u16 {
        let body = json!({"files": {"python/shared.py": "x = 1\n"}});
        self.post(token, VERSIONS, body).await.0
    }

    /// Sends a request that deletes an object. Returns the status.
    async fn delete(&self, token: &str, path: &str) -> u16 {
        self.send(token, Method::DELETE, path, None).await.0.as_u16()
    }

    /// Deploys a project with the function `made`, which returns a number.
    async fn deploy_made(&self, token: &str, result: u8) -> (u16, Value) {
        let code = format!(
            "import headwater\n\n\n@headwater.function()\ndef made():\n    return {result}\n"
        );
        let settings = "[project]\nname = \"shop\"\n";
        let body = json!({"files": {"headwater.toml": settings, "functions/made.py": code}});
        self.post(token, "/v1/deployments", body).await
    }

    /// Requests a grant of a right to `eve`. Returns the status.
    async fn grant_to_eve(&self, token: &str, action: &str, object: &str) -> u16 {
        let body = json!({"grantee": "eve", "actions": [action], "object": object});
        self.post(token, "/v1/grants", body).await.0
    }

    async fn is_owner(&self, action: &str, object: &str) -> bool {
        self.explained(action, object).await == (true, "owner of the object".to_owned())
    }
}

pub async fn layers() {
    let users = Users::start().await;
    let ana = users.user("ana", &[LAYER]).await;
    let eve = users.user("eve", &["deploy on function:made"]).await;
    let root = users.user("root", &["administer on lake"]).await;
    assert_eq!(users.publish(&ana).await, 201);
    users.access.revoke(&Principal::owner(), "ana", permission(LAYER)).await.expect("revoked");
    let object = "function:layer/made";
    assert!(users.is_owner("deploy", object).await && users.is_owner("invoke", object).await);
    // Another user cannot replace, delete, list or use the layer, or grant rights on it.
    let first = format!("{VERSIONS}/1");
    assert_eq!((users.publish(&eve).await, users.delete(&eve, &first).await), (403, 403));
    assert_eq!(users.get(&eve, "/v1/layers").await.1, json!([]));
    let code = "def handler(event, context):\n    return event\n";
    let uses = json!({"runtime": "python3.11", "handler": "app.handler",
        "files": {"app.py": code}, "layers": ["made:1"]});
    let (status, answer) = users.send(&eve, Method::PUT, "/v1/functions/made", Some(uses)).await;
    assert_eq!(status, 403, "{answer}");
    assert_eq!(users.grant_to_eve(&eve, "deploy", object).await, 403);
    // A token whose scopes do not include the layer has no right to it, also for the owner.
    let scopes = Some(vec![permission("deploy on function:made")]);
    let narrow =
        users.token("ana", CredentialSettings { scopes, ..CredentialSettings::default() }).await;
    assert_eq!(users.publish(&narrow).await, 403);
    // The owner needs no grant.
    assert_eq!((users.publish(&ana).await, users.delete(&ana, &first).await), (201, 204));
    assert_eq!(users.get(&ana, "/v1/layers").await.1[0]["version"], 2);
    // The version of another user does not belong to the owner.
    assert_eq!(users.publish(&root).await, 201);
    assert_eq!(users.publish(&ana).await, 403);
    assert_eq!(users.get(&ana, "/v1/layers").await.1, json!([]));
    assert!(!users.explained("deploy", object).await.0);
    // The ownership ends with the last version.
    for version in ["2", "3"] {
        assert_eq!(users.delete(&root, &format!("{VERSIONS}/{version}")).await, 204);
    }
    users.grant("ana", &[LAYER]).await;
    assert_eq!(users.publish(&ana).await, 201);
    assert_eq!(users.delete(&ana, &format!("{VERSIONS}/4")).await, 204);
    users.access.revoke(&Principal::owner(), "ana", permission(LAYER)).await.expect("revoked");
    assert_eq!(users.publish(&ana).await, 403);
}

pub async fn of_project() {
    let users = Users::start().await;
    let ana = users.user("ana", &["deploy on project:shop"]).await;
    let eve = users.user("eve", &["read on branch:main"]).await;
    let root = users.user("root", &["administer on lake"]).await;
    let (status, report) = users.deploy_made(&ana, 1).await;
    assert_eq!(status, 201, "{report}");
    let object = "function:made";
    assert!(users.is_owner("invoke", object).await);
    let call = async |token: &str| {
        users.post(token, "/v1/functions/made/invoke", json!({"arguments": {}})).await
    };
    let later = async |token: &str| {
        users.post(token, "/v1/functions/made/invoke-async", json!({"arguments": {}})).await
    };
    // Another user cannot call, list, replace or delete the function, or grant rights on it.
    assert_eq!((call(&eve).await.0, later(&eve).await.0), (403, 403));
    assert_eq!(users.get(&eve, "/v1/functions").await.1, json!([]));
    assert_eq!(users.deploy_made(&eve, 2).await.0, 403);
    assert_eq!(users.delete(&eve, "/v1/functions/made").await, 403);
    assert_eq!(users.grant_to_eve(&eve, "invoke", object).await, 403);
    // The owner needs no grant on the function.
    let (status, answer) = call(&ana).await;
    assert_eq!((status, &answer), (200, &json!(1)));
    assert_eq!(users.get(&ana, "/v1/functions").await.1[0]["name"], "made");
    let (status, accepted) = later(&ana).await;
    assert_eq!(status, 202, "{accepted}");
    let event = format!("/v1/trigger-events/{}", accepted["event"].as_str().expect("an id"));
    users.server.until(&event, |event| event["status"] == "done").await;
    // The code of another user's version does not belong to the earlier owner.
    let (status, report) = users.deploy_made(&root, 3).await;
    assert_eq!(status, 201, "{report}");
    assert_eq!((call(&ana).await.0, later(&ana).await.0), (403, 403));
    assert!(!users.explained("invoke", object).await.0);
    // A new account of the same name owns nothing of the earlier one.
    assert_eq!(users.deploy_made(&ana, 4).await.0, 201);
    users.access.drop_user(&Principal::owner(), "ana").await.expect("dropped");
    let again = users.user("ana", &["read on branch:main"]).await;
    assert_eq!(call(&again).await.0, 403);
}

pub async fn granted() {
    let users = Users::start().await;
    let ana = users.user("ana", &["deploy on project:shop", LAYER]).await;
    let eve = users.user("eve", &["read on branch:main"]).await;
    let root = users.user("root", &["administer on lake"]).await;
    let call =
        async || users.post(&eve, "/v1/functions/made/invoke", json!({"arguments": {}})).await.0;
    let layers = async || users.get(&eve, "/v1/layers").await.1.as_array().map(Vec::len);
    for result in [1, 3] {
        assert_eq!(users.deploy_made(&ana, result).await.0, 201);
        if result == 1 {
            assert_eq!(users.publish(&ana).await, 201);
            assert_eq!((call().await, layers().await), (403, Some(0)));
            for object in ["function:made", "function:layer/made"] {
                assert_eq!(users.grant_to_eve(&ana, "invoke", object).await, 201, "{object}");
                assert_eq!(users.grant_to_eve(&eve, "invoke", object).await, 403, "{object}");
            }
            assert_eq!(layers().await, Some(1));
        }
        // The grant also applies to later versions of this owner.
        assert_eq!(call().await, 200);
        // It does not apply to the versions of another user.
        assert_eq!(users.deploy_made(&root, result + 1).await.0, 201);
        assert_eq!(call().await, 403);
    }
    assert_eq!(users.grant_to_eve(&ana, "deploy", "function:made").await, 403);
    assert_eq!(users.publish(&root).await, 201);
    assert_eq!(layers().await, Some(0));
}
