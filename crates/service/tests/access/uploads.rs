//! Uploads with the files of functions: an upload exists until its files are stored. Deployments
//! that run at the same time.

use std::path::Path;

use bytes::Bytes;
use futures::stream;
use headwater_model::{CredentialSettings, DeployFunction, Principal, Problem, PublishLayer};
use headwater_service::write_function_archive;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::lake::{Lake, content, permission, request};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("uploads::an_upload_is_kept_until_its_function_is_deployed", functions),
        trial("uploads::an_upload_is_kept_until_its_layer_is_published", layers),
        trial("uploads::a_user_deletes_only_its_own_uploads", deletions),
        trial("uploads::a_user_uploads_files_that_it_can_use", users),
        trial("deployments::concurrent_deployments_keep_each_others_settings", concurrent),
        trial("deployments::callers_are_shown_to_users_that_may_see_them", callers),
    ]
}

/// Uploads an archive with a file. Returns the path of the upload.
async fn upload(lake: &Lake, name: &str, text: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(name), text).expect("a file");
    let mut archive = Vec::new();
    write_function_archive(folder.path(), &mut archive).expect("an archive");
    let content = stream::iter([Ok::<_, Problem>(Bytes::from(archive))]);
    let uploads = lake.service().uploads();
    let created = uploads.create(&Principal::owner(), "function.zip", content).await;
    created.expect("an upload").path
}

async fn functions() {
    let lake = Lake::start().await;
    let owner = Principal::owner();
    let functions = lake.service().invocations().standalone();
    let code = "def handler(event, context):\n    return event\n";
    let path = upload(&lake, "app.py", code).await;
    let new = |setting: &str, value: Value| -> DeployFunction {
        let mut new = json!({"runtime": "python3.11", "handler": "app.handler", "upload": path});
        new[setting] = value;
        request(new)
    };
    for (setting, value) in [
        ("handler", json!("other.handler")),
        ("secrets", json!(["NONE"])),
        ("layers", json!(["none:1"])),
        ("env", json!({"A-B": "x"})),
    ] {
        let rejected = functions.deploy(&owner, "g", new(setting, value)).await;
        rejected.expect_err(setting);
        assert!(Path::new(&path).exists(), "{setting}");
    }
    let deployed = functions.deploy(&owner, "g", new("description", json!("x"))).await;
    assert_eq!(deployed.expect("deployed").files, ["app.py"]);
    assert!(!Path::new(&path).exists());
    let again = functions.deploy(&owner, "g", new("description", json!("y"))).await;
    assert_eq!(again.expect_err("deleted").code.to_string(), "file_not_found");
    lake.stop().await;
}

async fn layers() {
    let lake = Lake::start().await;
    let owner = Principal::owner();
    let layers = lake.service().invocations().layers();
    let path = upload(&lake, "shared.txt", "shared").await;
    let new = || -> PublishLayer { request(json!({"description": "texts", "upload": path})) };
    let rejected = layers.publish(&owner, "not.valid", new()).await;
    assert_eq!(rejected.expect_err("a name").code.to_string(), "invalid_argument");
    assert!(Path::new(&path).exists());
    let published = layers.publish(&owner, "texts", new()).await.expect("published");
    assert_eq!((published.version, published.description.as_str()), (1, "texts"));
    assert!(!Path::new(&path).exists());
    lake.stop().await;
}

async fn deletions() {
    let lake = Lake::start().await;
    let uploads = lake.service().uploads();
    let principal = async |name: &str| {
        lake.user(name, &["insert on table:shop.items"]).await;
        let token = lake.token(name, CredentialSettings::default()).await;
        lake.log_in(&token).await.expect("a principal")
    };
    let (ana, bob) = (principal("ana").await, principal("bob").await);
    let create = async || uploads.create(&ana, "a.csv", content("a\n1\n")).await.expect("stored");
    let path = create().await.path;
    for by in [&bob, &Principal::anonymous()] {
        uploads.delete(by, &path).await.expect_err("not an upload of this principal");
        assert!(Path::new(&path).exists(), "{by:?}");
    }
    uploads.delete(&ana, &path).await.expect("deleted");
    assert!(!Path::new(&path).exists());
    let missing = uploads.delete(&ana, &path).await.expect_err("deleted before");
    assert_eq!(missing.code.to_string(), "file_not_found");
    uploads.delete(&Principal::owner(), &create().await.path).await.expect("deleted by the owner");
    lake.stop().await;
}

async fn users() {
    let lake = Lake::start().await;
    let uploads = lake.service().uploads();
    let upload = async |user: &str, scope: Option<&str>| {
        let scopes = scope.map(|scope| vec![permission(scope)]);
        let token =
            lake.token(user, CredentialSettings { scopes, ..CredentialSettings::default() }).await;
        let by = lake.log_in(&token).await.expect("a principal");
        uploads.create(&by, "a.csv", content("a\n1\n")).await.is_ok()
    };
    for (user, grant, expected) in [
        ("inserts", "insert on table:shop.items", true),
        ("deploys", "deploy on function:f", true),
        ("creates", "create on table:shop.*", true),
        ("creates_all", "create on namespace:shop", true),
        ("creates_views", "create on view:shop.*", false),
        ("creates_branches", "create on branch:dev/*", false),
        ("reads", "select on table:shop.items", false),
    ] {
        lake.user(user, &[grant]).await;
        assert_eq!(upload(user, None).await, expected, "{user}");
        assert!(!upload(user, Some("select on table:shop.items")).await, "{user}");
    }
    assert!(upload("creates", Some("create on table:shop.made")).await);
    lake.stop().await;
}

async fn concurrent() {
    let lake = Lake::start().await;
    let owner = Principal::owner();
    let functions = lake.service().invocations().standalone();
    let deploy = |setting: &str, value: Value| {
        let files = json!({"app.py": "def handler(event, context):\n    return event\n"});
        let mut new = json!({"runtime": "python3.11", "handler": "app.handler", "files": files});
        new[setting] = value;
        let new: DeployFunction = request(new);
        let (functions, owner) = (functions.clone(), owner.clone());
        async move { functions.deploy(&owner, "f", new).await }
    };
    let settings = || {
        [
            ("memory_bytes", json!(1 << 29)),
            ("timeout_ms", json!(7_000)),
            ("description", json!("both")),
            ("env", json!({"LEVEL": "1"})),
            ("reserved_concurrency", json!(3)),
        ]
    };
    let deployments = settings().map(|(setting, value)| deploy(setting, value));
    // The first of these deployments creates the function, and the others change it.
    for deployed in futures::future::join_all(deployments).await {
        deployed.expect("deployed");
    }
    let found = functions.show(&owner, "f").await.expect("a function");
    let found = serde_json::to_value(&found).expect("JSON");
    for (setting, value) in settings() {
        let shown = if setting == "reserved_concurrency" { "concurrency" } else { setting };
        assert_eq!(found[shown], value, "{setting}");
    }
    lake.stop().await;
}

async fn callers() {
    let lake = Lake::start().await;
    let (owner, functions) = (Principal::owner(), lake.service().invocations().standalone());
    let files = json!({"app.py": "def handler(event, context):\n    return event\n"});
    let new = json!({"runtime": "python3.11", "handler": "app.handler", "files": files});
    functions.deploy(&owner, "f", request(new)).await.expect("deployed");
    let trigger = json!({"name": "hourly", "schedule": "rate(1 hours)", "function": "f:1"});
    lake.service().triggers().create(&owner, request(trigger), false).await.expect("a trigger");
    for (name, grants, expected) in [
        ("deployer", &["deploy on function:f"][..], &[][..]),
        ("reader", &["deploy on function:f", "read on trigger:hourly"], &["trigger `hourly`"]),
    ] {
        lake.user(name, grants).await;
        let token = lake.token(name, CredentialSettings::default()).await;
        let user = lake.log_in(&token).await.expect("a principal");
        let shown = functions.show(&user, "f").await.expect("a function");
        assert_eq!(shown.callers, expected, "{name}");
    }
    lake.stop().await;
}
