//! Tests of the storage access that Iceberg REST clients receive for a warehouse on S3.

use hyper::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::bucket_triggers::write;
use crate::s3::{KEY, S3, SECRET};
use crate::support::{self, TestServer, request};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("object_stores::objects_of_another_store_are_imported_once", imported),
        trial("object_stores::clients_receive_the_location_of_files", told),
        trial("object_stores::credentials_are_vended_if_enabled", || vended(true)),
        trial("object_stores::credentials_are_not_vended_by_default", || vended(false)),
    ]
}

const PARTNER: &str = r#"
[project]
name = "partner"

[[trigger]]
name = "partner"
bucket = { name = "s3://partner", prefix = "in/", suffix = ".csv", poll = "1s" }
import = { table = "readings" }
"#;

/// Objects that land in a bucket of another store are imported, each once.
async fn imported() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().to_owned();
    write(&path, "headwater.toml", PARTNER);
    write(&path, "s3/partner/in/a.csv", "id\n1\n");
    write(&path, "s3/partner/in/skipped.txt", "id\n100\n");
    write(&path, "s3/partner/other/b.csv", "id\n200\n");
    let mut config = support::config(&path);
    let s3 = S3::start(&path.join("s3"));
    config.service.warehouse.cloud = headwater_server::CloudSettings::new(s3.variables());
    let server = TestServer { running: support::start(config).await, folder };
    server.deploy().await;
    let delivered = |count| {
        move |events: &Value| {
            let events = events.as_array().expect("events");
            events.iter().filter(|event| event["status"] == "done").count() == count
        }
    };
    let events = "/v1/trigger-events?trigger=partner";
    server.until(events, delivered(1)).await;
    write(&path, "s3/partner/in/c.csv", "id\n2\n");
    let found = server.until(events, delivered(2)).await;
    assert_eq!(found.as_array().map(Vec::len), Some(2), "{found}");
    assert_eq!(found[0]["data"]["object"]["uri"], "s3://partner/in/c.csv");
    let rows = server.rows("SELECT id FROM readings ORDER BY id").await;
    assert_eq!(rows, json!([{"id": 1}, {"id": 2}]));
}

async fn start(vend_credentials: bool) -> TestServer {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir_all(folder.path().join("s3/lakes")).expect("a bucket");
    let mut config = support::config(folder.path());
    let s3 = S3::start(&folder.path().join("s3"));
    config.service.warehouse.url = Some("s3://lakes/a".to_owned());
    config.service.warehouse.cloud = headwater_server::CloudSettings::new(s3.variables());
    config.service.vend_credentials = vend_credentials;
    let server = TestServer { running: support::start(config).await, folder };
    server.rows("CREATE TABLE clicks AS SELECT 1 AS id").await;
    server
}

/// Loads a table as a client does, and returns the response.
async fn load(server: &TestServer, delegation: Option<&'static str>) -> Value {
    let path = "/iceberg/v1/main/namespaces/public/tables/clicks";
    let mut request = request(Method::GET, path, None);
    if let Some(delegation) = delegation {
        let value = hyper::header::HeaderValue::from_static(delegation);
        request.headers_mut().insert("x-iceberg-access-delegation", value);
    }
    support::json(server.send(request).await).await
}

async fn told() {
    let server = start(false).await;
    let defaults = server.get("/iceberg/v1/config").await["defaults"].clone();
    assert_eq!(defaults["s3.path-style-access"], "true");
    assert_eq!(defaults["s3.region"], "us-east-1");
    let endpoint = defaults["s3.endpoint"].as_str().expect("an endpoint");
    assert!(endpoint.starts_with("http://127.0.0.1:"), "{defaults}");
    let table = load(&server, None).await;
    assert_eq!(table["config"], defaults);
    assert_eq!(table["storage-credentials"], json!([]));
    let location = table["metadata"]["location"].as_str().expect("a location");
    assert!(location.starts_with("s3://lakes/a/public/clicks-"), "{location}");
}

async fn vended(allowed: bool) {
    let server = start(allowed).await;
    let unasked = load(&server, None).await;
    assert!(!unasked.to_string().contains(SECRET));
    let asked = load(&server, Some("remote-signing, vended-credentials")).await;
    let path = "/iceberg/v1/main/namespaces/public/tables/clicks/credentials";
    let credentials = server.get(path).await["storage-credentials"].clone();
    if !allowed {
        assert!(!asked.to_string().contains(SECRET));
        assert_eq!(credentials, json!([]));
        return;
    }
    assert_eq!(asked["config"]["s3.access-key-id"], KEY);
    assert_eq!(asked["config"]["s3.secret-access-key"], SECRET);
    assert_eq!(asked["storage-credentials"], credentials);
    assert_eq!(credentials[0]["prefix"], "s3://lakes/a");
    assert_eq!(credentials[0]["config"], asked["config"]);
}
