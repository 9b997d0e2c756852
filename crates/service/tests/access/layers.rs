//! Layers of functions that are deployed without a project: the right to use a layer.

use headwater_model::{CredentialSettings, DeployFunction, Principal};
use libtest_mimic::Trial;
use serde_json::json;

use crate::lake::{Lake, request};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![trial("layers::a_deployment_uses_layers_that_the_user_may_use", deployments)]
}

async fn deployments() {
    let lake = Lake::start().await;
    lake.user("deployer", &["deploy on function:g"]).await;
    let token = lake.token("deployer", CredentialSettings::default()).await;
    let deployer = lake.log_in(&token).await.expect("a principal");
    let owner = Principal::owner();
    let functions = lake.service().invocations().standalone();
    let new = |layers: Option<&[&str]>| -> DeployFunction {
        let files = json!({"app.py": "def handler(event, context):\n    return event\n"});
        request(json!({
            "runtime": "python3.11", "handler": "app.handler", "files": files, "layers": layers,
        }))
    };
    let six = ["base:1"; 6];
    let cases: [(&[&str], &str); 5] = [
        (&["base:9"][..], "function_not_found"),
        (&["none:1"][..], "function_not_found"),
        (&["base"][..], "invalid_argument"),
        (&six[..], "invalid_argument"),
        (&["base:1", "base:1"][..], "invalid_argument"),
    ];
    for (layers, expected) in cases {
        let refused = functions.deploy(&owner, "g", new(Some(layers))).await;
        assert_eq!(refused.expect_err("rejected").code.to_string(), expected, "{layers:?}");
    }
    let denied = functions.deploy(&deployer, "g", new(Some(&["base:1"]))).await;
    assert_eq!(denied.expect_err("denied").code.to_string(), "forbidden");
    let first = functions.deploy(&owner, "g", new(Some(&["base:1"]))).await.expect("deployed");
    assert_eq!(first.layers, ["base:1"]);
    // Without the list, the layers are unchanged, so that there is no new version.
    let second = functions.deploy(&owner, "g", new(None)).await.expect("deployed");
    assert_eq!((second.layers, second.versions), (first.layers, vec![1]));
    let third = functions.deploy(&owner, "g", new(Some(&[]))).await.expect("deployed");
    assert!(third.layers.is_empty() && third.versions == [1, 2], "{third:?}");
    lake.stop().await;
}
