//! Concurrent changes of a function that is deployed without a project, its rights to secrets, and
//! the rights of the owner of a project's functions.

use std::collections::BTreeMap;

use headwater_model::{CredentialSettings, DeployFunction, ErrorCode, Principal};
use headwater_service::{EventSourceMappings, FunctionUpdate, MappingSettings, Queues};
use libtest_mimic::Trial;
use serde_json::json;

use crate::lake::{Lake, permission, request};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("functions::concurrent_changes_give_no_right_to_a_secret", secrets),
        trial("functions::a_function_receives_no_secret_that_its_deployer_lost", lost_secret),
        trial("functions::triggers_and_queues_call_the_own_functions_of_a_project", owned),
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
    let token = lake.token("deployer", CredentialSettings::default()).await;
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
    let token = lake.token("deployer", CredentialSettings::default()).await;
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
    let problem = invocations.find(&owner, "h").await.err().expect("denied");
    assert!(problem.hint.is_some_and(|hint| hint.contains("aliases")), "the next step");
    // The code of the owner of the lake may receive the secret.
    functions.deploy(&owner, "h", with_secrets(&["KEY"])).await.expect("deployed");
    assert_eq!((refused(&deployer).await, refused(&owner).await), (None, None));
    lake.stop().await;
}

async fn owned() {
    let lake = Lake::start().await;
    let (owner, service) = (Principal::owner(), lake.service());
    lake.user("ana", &["deploy on project:p", "read on queue:late"]).await;
    let token = lake.token("ana", CredentialSettings::default()).await;
    let ana = lake.log_in(&token).await.expect("a principal");
    let (queues, settings) = (Queues::of(service), BTreeMap::new());
    queues.create(&owner, "late", &settings, BTreeMap::new()).await.expect("a queue");
    let deploy = async |by: &Principal, result: &str| {
        let code = format!(
            "import headwater\n\n\n@headwater.function()\ndef seen(event):\n    return {result}\n"
        );
        let settings = "[project]\nname = \"p\"\n";
        let files = json!({"headwater.toml": settings, "functions/seen.py": code});
        service.deployments().deploy(by, request(json!({"files": files}))).await.expect("deployed");
    };
    let trigger = async |name: &str| {
        let new = json!({"name": name, "schedule": "@daily", "function": "seen"});
        service.triggers().create(&ana, request(new), false).await
    };
    let mappings = EventSourceMappings::of(service);
    let mapping = async || {
        let settings = MappingSettings {
            function: "seen".to_owned(),
            is_enabled: false,
            batch: 1,
            window: 0,
            filters: Vec::new(),
            reports_failures: false,
            bisects: false,
            concurrency: None,
        };
        mappings.create(&ana, "late", settings).await
    };
    deploy(&ana, "1").await;
    trigger("nightly").await.expect("the owner needs no grant");
    let own = mapping().await.expect("the owner needs no grant").mapping;
    assert_eq!(mappings.list(&ana).await.expect("mappings").len(), 1);
    // The code of the other user's version does not belong to the earlier owner.
    deploy(&owner, "2").await;
    assert_eq!(trigger("later").await.expect_err("denied").code, ErrorCode::Forbidden);
    assert_eq!(mapping().await.expect_err("denied").code, ErrorCode::Forbidden);
    assert!(mappings.list(&ana).await.expect("mappings").is_empty());
    mappings.delete(&owner, &own.id).await.expect("deleted");
    lake.stop().await;
}
