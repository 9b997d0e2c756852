//! A warehouse in a bucket: it is chosen once and belongs to one lake. An unusable bucket causes a
//! clear error.

use std::path::Path;
use std::time::Duration;

use headwater_lake::{CloudSettings, Error, Lake, StoreTimeouts, WarehouseOptions};
use headwater_model::{ErrorCode, RefSpec, ToProblem as _};
use tempfile::TempDir;

use crate::fault_proxy::Fault;
use crate::s3::S3;
use crate::storage::{hurried, settings};
use crate::support::{name, numbers, rows_of, schema};

/// Creates a folder with a bucket, and an S3 server for it.
fn bucket() -> (TempDir, S3) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("s3/lakes")).unwrap();
    let s3 = S3::start(&folder.path().join("s3"));
    (folder, s3)
}

async fn open(folder: &Path, url: Option<&str>, cloud: CloudSettings) -> Result<Lake, Error> {
    Lake::open_folder(folder, WarehouseOptions { url: url.map(str::to_owned), cloud }).await
}

async fn make_table(lake: &Lake) -> String {
    let mut change = lake.transaction("main", "eva").await.unwrap();
    change.create(&name("t"), schema("id"), Vec::new(), [].into()).await.unwrap();
    change.append(&name("t"), rows_of(numbers("id", [1, 2]))).await.unwrap();
    change.commit("make").await.unwrap();
    let table = lake.view(&RefSpec::main()).await.unwrap().table(&name("t")).await.unwrap();
    table.metadata_location().to_owned()
}

#[tokio::test]
async fn the_warehouse_is_chosen_once_and_kept() {
    let (folder, s3) = bucket();
    let lake = folder.path().join("one");
    let url = "s3://lakes/team/one/";
    let opened = open(&lake, Some(url), settings(&s3)).await.unwrap();
    assert_eq!(opened.tables().root_url(), "s3://lakes/team/one");
    // The lake has no tables, so the warehouse can still be changed.
    open(&lake, Some("local"), settings(&s3)).await.unwrap();
    let opened = open(&lake, Some(url), settings(&s3)).await.unwrap();
    let location = make_table(&opened).await;
    assert!(location.starts_with("s3://lakes/team/one/public/t-"), "{location}");
    let again = open(&lake, None, settings(&s3)).await.unwrap();
    assert_eq!(again.tables().load(&location).await.unwrap().rows(), 2);
    for other in ["local", "s3://lakes/team/two"] {
        let error = open(&lake, Some(other), settings(&s3)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert!(error.to_string().contains("s3://lakes/team/one"), "{error}");
    }
    assert!(!folder.path().join("s3/lakes/team/two").exists(), "nothing was left there");
    assert!(!lake.join("warehouse").join("public").exists());
}

#[tokio::test]
async fn a_bucket_prefix_belongs_to_one_lake() {
    let (folder, s3) = bucket();
    open(&folder.path().join("one"), Some("s3://lakes"), settings(&s3)).await.unwrap();
    let error =
        open(&folder.path().join("two"), Some("s3://lakes"), settings(&s3)).await.unwrap_err();
    assert_eq!(error.to_string(), "`s3://lakes` is the warehouse of another lake");
    // Lakes with different prefixes can share a bucket.
    open(&folder.path().join("two"), Some("s3://lakes/two"), settings(&s3)).await.unwrap();
}

/// Returns the message and the hint of the error for a warehouse that cannot be opened.
async fn refusal(url: &str, cloud: CloudSettings) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let error = open(folder.path(), Some(url), cloud).await.unwrap_err();
    let problem = error.to_problem();
    assert!(!format!("{problem:?}").contains(crate::s3::SECRET), "{problem:?}");
    (problem.message, problem.hint.unwrap_or_default())
}

#[tokio::test]
async fn an_unusable_bucket_is_a_clear_error() {
    let (_folder, s3) = bucket();
    s3.fail("GET", "/lokes/", Fault::Answer(404, "NoSuchBucket"), 1);
    let (message, hint) = refusal("s3://lokes/a", settings(&s3)).await;
    assert_eq!(message, "the bucket of `s3://lokes/a/headwater-lake.json` does not exist");
    assert!(hint.contains("Create the bucket"), "{hint}");
    let with = |name: &str, value: &str| {
        let changed = [(name.to_owned(), value.to_owned())];
        CloudSettings::new(s3.variables().into_iter().chain(changed))
    };
    let (message, hint) = refusal("s3://lakes", with("AWS_SECRET_ACCESS_KEY", "wrong")).await;
    assert!(message.contains("rejects the credentials"), "{message}");
    assert!(hint.contains("AWS_ACCESS_KEY_ID"), "{hint}");
    let (message, _) = refusal("s3://lakes", with("AWS_ALLOW_HTTP", "false")).await;
    assert_eq!(message, "the object store of `s3://lakes` cannot be configured");
    s3.fail("GET", "", Fault::Answer(403, "RequestTimeTooSkewed"), 1);
    let (message, hint) = refusal("s3://lakes", settings(&s3)).await;
    assert!(message.contains("clock"), "{message}");
    assert_eq!(hint, "Correct this machine's clock.");
    s3.fail("GET", "", Fault::Answer(403, "AccessDenied"), 1);
    let (message, _) = refusal("s3://lakes", settings(&s3)).await;
    assert!(message.contains("denies access"), "{message}");
    let (message, hint) = refusal("ftp://lakes", settings(&s3)).await;
    assert_eq!(
        message,
        "`ftp://lakes` cannot be a warehouse: the scheme of the URL is not supported"
    );
    assert!(hint.contains("s3://bucket/prefix"), "{hint}");
}

#[tokio::test]
async fn an_unreachable_store_fails_within_the_timeout() {
    // No server listens on this port.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_folder, s3) = bucket();
    let endpoint = [("AWS_ENDPOINT_URL".to_owned(), format!("http://{free}"))];
    let unreachable = CloudSettings::new(s3.variables().into_iter().chain(endpoint));
    let patience =
        StoreTimeouts { request: Duration::from_millis(300), total: Duration::from_secs(1) };
    let begun = std::time::Instant::now();
    let (message, hint) = refusal("s3://lakes", unreachable.with_timeouts(patience)).await;
    assert!(message.contains("cannot be reached"), "{message}");
    assert!(hint.contains("network"), "{hint}");
    s3.fail("GET", "", Fault::Hang, 99);
    let (message, _) = refusal("s3://lakes", hurried(&s3, patience.total)).await;
    assert!(message.contains("timed out"), "{message}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
