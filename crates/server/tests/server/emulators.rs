//! Tests of tables, branches, maintenance and the S3 endpoint on emulated object stores: moto for
//! S3, Azurite for Azure.

use headwater_server::CloudSettings;
use libtest_mimic::Trial;
use serde_json::json;

use crate::emulator::{Emulator, azurite_variables};
use crate::support::{self, TestServer};
use crate::{s3_clients, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("emulators::tables_in_moto_s3", moto),
        trial("emulators::tables_in_azurite", azurite),
        trial("emulators::objects_of_the_s3_endpoint_in_moto_s3", objects_in_moto),
        trial("emulators::objects_of_the_s3_endpoint_in_azurite", objects_in_azurite),
    ]
}

/// Starts moto with the bucket `lakes`. Returns its settings, too.
async fn start_moto() -> (Emulator, CloudSettings) {
    let emulator = tokio::task::spawn_blocking(|| Emulator::moto("lakes")).await.expect("moto");
    let endpoint = format!("http://{}", emulator.address());
    let variables = [
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", &endpoint),
        ("AWS_ALLOW_HTTP", "true"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    (emulator, CloudSettings::new(variables))
}

async fn moto() {
    let (_emulator, cloud) = start_moto().await;
    live_in("s3://lakes/a", &cloud).await;
}

async fn objects_in_moto() {
    let (_emulator, cloud) = start_moto().await;
    objects_in("s3://lakes/a", cloud).await;
}

async fn objects_in_azurite() {
    let (_emulator, cloud) = start_azurite().await;
    objects_in("az://lakes/a", cloud).await;
}

/// The S3 endpoint in front of another object store: every operation, with boto3.
async fn objects_in(url: &str, cloud: CloudSettings) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = support::config(folder.path());
    config.s3 = Some("127.0.0.1:0".parse().expect("an address"));
    config.service.warehouse.url = Some(url.to_owned());
    config.service.warehouse.cloud = cloud;
    let server = TestServer { running: support::start(config).await, folder };
    assert_eq!(s3_clients::run(s3_clients::script(&server)).await, "ok\n");
    let local = server.folder.path().join(".headwater/objects");
    assert!(!local.exists(), "contents of objects are on the local disk");
    server.running.shutdown().await;
}

/// Starts Azurite with the container `lakes`. Returns its settings, too.
async fn start_azurite() -> (Emulator, CloudSettings) {
    let started = tokio::task::spawn_blocking(|| Emulator::azurite("lakes"));
    let emulator = started.await.expect("Azurite");
    let cloud = CloudSettings::new(azurite_variables(&emulator.address()));
    (emulator, cloud)
}

async fn azurite() {
    let (_emulator, cloud) = start_azurite().await;
    live_in("az://lakes/a", &cloud).await;
}

/// Checks a lake on an object store: large and small files, branches, deletes, maintenance, a
/// second server.
async fn live_in(url: &str, cloud: &CloudSettings) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let project = folder.path().to_owned();
    let config = || {
        let mut config = support::config(&project);
        config.service.warehouse.url = Some(url.to_owned());
        config.service.warehouse.cloud = cloud.clone();
        config
    };
    let running = support::start(config()).await;
    let server = TestServer { running, folder };
    server.rows("CREATE TABLE small AS SELECT 1 AS id").await;
    server.rows("INSERT INTO small VALUES (2), (3)").await;
    let made = server.post("/v1/branches", json!({"name": "dev"})).await;
    assert_eq!(made["name"], "dev", "{made}");
    let delete = json!({"sql": "DELETE FROM small WHERE id = 1", "ref": "dev"});
    server.post("/v1/query", delete).await;
    server.rows("INSERT INTO small VALUES (4)").await;
    let merged = server.post("/v1/branches/main/merge", json!({"source": "dev"})).await;
    assert_eq!(merged["outcome"], "merged", "{merged}");
    // The table is large enough for a multipart upload.
    let large = "CREATE TABLE large AS SELECT (a.value * 1000003 + b.value * 7919) * 1000000007 \
                 % 1000000000039 AS v FROM generate_series(1, 2000) a, generate_series(1, 1000) b";
    server.rows(large).await;
    let maintenance = json!({"compact": true, "keep": 1, "orphans": true});
    let job = server.post("/v1/branches/main/tables/small/maintain", maintenance).await;
    let id = job["id"].as_str().expect("an id").to_owned();
    server.until(&format!("/v1/jobs/{id}"), |job| job["status"] == "succeeded").await;
    copy_to_bucket(&server, url).await;
    server.running.shutdown().await;
    let again = TestServer { running: support::start(config()).await, ..server };
    let ids = again.rows("SELECT id FROM small ORDER BY id").await;
    assert_eq!(ids, json!([{"id": 2}, {"id": 3}, {"id": 4}]));
    let counted = again.rows("SELECT count(*) AS n, sum(v % 1000) AS s FROM large").await;
    assert_eq!(counted[0]["n"], 2_000_000, "{counted}");
}

/// Checks that a query's rows are written to an object outside the warehouse, and imported again.
async fn copy_to_bucket(server: &TestServer, warehouse: &str) {
    let (bucket, _) = warehouse.rsplit_once('/').expect("a bucket");
    let object = format!("{bucket}/out/large.parquet");
    let copied = server.rows(&format!("COPY large TO '{object}'")).await;
    assert_eq!(copied[0]["rows"], 2_000_000, "{copied}");
    let body = json!({"table": "copied", "sources": [object]});
    let job = server.post("/v1/imports", body).await;
    let job = format!("/v1/jobs/{}", job["id"].as_str().expect("an id"));
    server.until(&job, |job| job["status"] == "succeeded").await;
    let counted = server.rows("SELECT count(*) AS n FROM copied").await;
    assert_eq!(counted, json!([{"n": 2_000_000}]));
    let refused = server.rows(&format!("COPY large TO '{warehouse}/large.parquet'")).await;
    assert_eq!(refused["code"], "invalid_argument", "{refused}");
}
