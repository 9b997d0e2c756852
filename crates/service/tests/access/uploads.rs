//! Uploads with the files of functions: an upload exists until its files are stored.

use std::path::Path;

use bytes::Bytes;
use futures::stream;
use headwater_model::{DeployFunction, Principal, Problem, PublishLayer};
use headwater_service::write_function_archive;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::lake::{Lake, request};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("uploads::an_upload_is_kept_until_its_function_is_deployed", functions),
        trial("uploads::an_upload_is_kept_until_its_layer_is_published", layers),
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
    let functions = lake.service().invocations().deployed();
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
