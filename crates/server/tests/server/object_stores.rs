//! Tests of the storage access that Iceberg REST clients receive for a warehouse on S3.

use hyper::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::s3::{KEY, S3, SECRET};
use crate::support::{self, TestServer, request};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("object_stores::clients_receive_the_location_of_files", told),
        trial("object_stores::credentials_are_vended_if_enabled", || vended(true)),
        trial("object_stores::credentials_are_not_vended_by_default", || vended(false)),
    ]
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

/// A table as loaded by a client.
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
