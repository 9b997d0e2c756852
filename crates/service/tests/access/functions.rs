//! The rights of a function that is deployed without a project to secrets.

use headwater_model::{DeployFunction, NewToken, Principal};
use headwater_service::FunctionUpdate;
use libtest_mimic::Trial;
use serde_json::json;

use crate::lake::{Lake, permission, request};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("functions::concurrent_changes_give_no_right_to_a_secret", secrets),
        trial("functions::a_function_receives_no_secret_that_its_deployer_lost", lost_secret),
    ]
}

/// A request that deploys a function with these secrets.
fn with_secrets(secrets: &[&str]) -> DeployFunction {
    let files = json!({"app.py": "def handler(event, context):\n    return event\n"});
    request(json!({
        "runtime": "python3.11", "handler": "app.handler", "files": files, "secrets": secrets,
    }))
}

async fn secrets() {
    let lake = Lake::start().await;
    lake.user("deployer", &["deploy on function:g"]).await;
    let token = lake.token("deployer", NewToken::default()).await;
    let deployer = lake.log_in(&token).await.expect("a principal");
    let owner = Principal::owner();
    let functions = lake.service().invocations().standalone();
    let code = json!({"app.py": "def handler(event, context):\n    return 1\n"});
    let files = functions.read_files(request(code), None).await.expect("files");
    for _ in 0..20 {
        functions.deploy(&owner, "g", with_secrets(&[])).await.expect("deployed");
        let update = FunctionUpdate { files: Some(files.clone()), ..FunctionUpdate::default() };
        let (deployed, changed) = futures::future::join(
            functions.deploy(&owner, "g", with_secrets(&["KEY"])),
            functions.change(&deployer, "g", update),
        )
        .await;
        deployed.expect("deployed");
        if let Err(problem) = changed {
            assert_eq!(problem.code.to_string(), "forbidden", "{problem}");
        }
        // The code of the user never gets a secret that the user may not use.
        let latest = functions.get(&owner, "g").await.expect("the function").latest;
        assert!(latest.author != "deployer" || latest.settings.secrets.is_empty(), "{latest:?}");
    }
    lake.stop().await;
}

async fn lost_secret() {
    let lake = Lake::start().await;
    let (owner, invocations) = (Principal::owner(), lake.service().invocations());
    let functions = invocations.standalone();
    let used = "use on secret:KEY";
    lake.user("deployer", &["deploy,invoke on function:h", used]).await;
    let token = lake.token("deployer", NewToken::default()).await;
    let deployer = lake.log_in(&token).await.expect("a principal");
    let refused = async |by: &Principal| {
        let found = invocations.find(by, "h").await;
        found.err().map(|problem| problem.code.to_string())
    };
    let forbidden = Some("forbidden".to_owned());
    functions.deploy(&deployer, "h", with_secrets(&["KEY"])).await.expect("deployed");
    assert_eq!((refused(&deployer).await, refused(&owner).await), (None, None));
    lake.access().revoke(&owner, "deployer", permission(used)).await.expect("revoked");
    assert_eq!((refused(&deployer).await, refused(&owner).await), (forbidden.clone(), forbidden));
    // The code of the owner of the lake may receive the secret.
    functions.deploy(&owner, "h", with_secrets(&["KEY"])).await.expect("deployed");
    assert_eq!((refused(&deployer).await, refused(&owner).await), (None, None));
    lake.stop().await;
}
