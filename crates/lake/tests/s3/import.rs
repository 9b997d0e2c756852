//! Imports of files from a bucket, by name, glob and folder. Each file is imported once, and never
//! as a mix of two versions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use headwater_ingest::{Error, Importer};
use headwater_lake::{Lake, LakeOptions, json_rows};
use headwater_model::{
    ErrorCode, ImportReport, ImportRequest, RefSpec, SystemClock, ToProblem as _,
};
use headwater_store::MemoryStore;
use headwater_tables::TablesOptions;
use object_store::memory::InMemory;
use parquet::arrow::ArrowWriter;
use tokio_util::sync::CancellationToken;

use crate::fault_proxy::Fault;
use crate::s3::S3;
use crate::storage::{hurried, settings};
use crate::support::{name, numbers, silent};

/// A lake in memory, and a bucket with files to import.
struct Bucket {
    folder: tempfile::TempDir,
    s3: S3,
    lake: Lake,
}

impl Bucket {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("landing")).unwrap();
        let s3 = S3::start(folder.path());
        let lake = open(settings(&s3)).await;
        Bucket { folder, s3, lake }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join("landing").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    async fn import(&self, table: &str, sources: &[&str]) -> Result<ImportReport, Error> {
        let sources = sources.iter().map(|source| format!("s3://landing/{source}")).collect();
        let request =
            ImportRequest { table: table.to_owned(), sources, ..ImportRequest::default() };
        Importer::new(self.lake.clone()).import(&request, silent(), CancellationToken::new()).await
    }

    async fn ids(&self, table: &str) -> Vec<i64> {
        let table =
            self.lake.view(&RefSpec::main()).await.unwrap().table(&name(table)).await.unwrap();
        let plan = self.lake.tables().plan(&table, None).await.unwrap();
        let rows = self.lake.tables().read(&table, plan.files(), None, None).unwrap();
        let rows = json_rows(&rows.try_collect::<Vec<_>>().await.unwrap()).unwrap();
        let mut ids: Vec<i64> = rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
        ids.sort_unstable();
        ids
    }
}

async fn open(cloud: headwater_lake::CloudSettings) -> Lake {
    let mut tables = TablesOptions::new("memory://lake");
    tables.cloud = cloud;
    let (store, object_store) = (Arc::new(MemoryStore::new()), Arc::new(InMemory::new()));
    Lake::open(LakeOptions { store, object_store, tables, clock: Arc::new(SystemClock) })
        .await
        .unwrap()
}

fn parquet(path: &Path, ids: std::ops::Range<i64>) {
    let rows = numbers("id", ids);
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(path).unwrap(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
}

#[tokio::test]
async fn files_are_named_by_globs_folders_and_themselves_each_once() {
    let bucket = Bucket::new().await;
    bucket.file("in/a.csv", "id\n1\n2\n");
    bucket.file("in/b.ndjson", "{\"id\": 3}\n");
    bucket.file("in/deep/c.csv", "id\n4\n");
    parquet(&bucket.file("in/d.parquet", ""), 5..8);
    bucket.file("in/data[1].csv", "id\n8\n");
    for hidden in ["in/_tmp/x.csv", "in/.hidden.csv", "in/README.md"] {
        bucket.file(hidden, "id\n99\n");
    }
    assert_eq!(bucket.import("one", &["in/*.csv"]).await.unwrap().files, 2);
    assert_eq!(bucket.ids("one").await, [1, 2, 8]);
    let report = bucket.import("all", &["in/", "in/a.csv", "in/**/*.csv", "in/data[1].csv"]).await;
    assert_eq!(report.unwrap().files, 5);
    assert_eq!(bucket.ids("all").await, [1, 2, 3, 4, 5, 6, 7, 8]);
    // A file that was imported is imported again only if it has changed.
    let (requests, _) = bucket.s3.counts();
    let again = bucket.import("all", &["in/"]).await.unwrap();
    assert_eq!((again.files, again.files_skipped), (0, 5));
    assert!(bucket.s3.counts().0 <= requests + 2, "nothing was read for that");
    bucket.file("in/a.csv", "id\n9\n");
    assert_eq!(bucket.import("all", &["in/"]).await.unwrap().files, 1);
    assert_eq!(bucket.ids("all").await, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    for (missing, code) in [
        ("in/none.csv", ErrorCode::FileNotFound),
        ("none/", ErrorCode::FileNotFound),
        ("in/*.tsv", ErrorCode::FileNotFound),
        ("in/README.md", ErrorCode::InvalidArgument),
    ] {
        let error = bucket.import("all", &[missing]).await.unwrap_err();
        assert_eq!(error.code(), code, "{missing}: {error}");
        assert!(error.to_string().contains(&format!("s3://landing/{missing}")), "{error}");
    }
}

#[tokio::test]
async fn very_many_objects_are_listed_page_by_page() {
    let bucket = Bucket::new().await;
    for number in 0..1_100 {
        bucket.file(&format!("many/{number:04}.csv"), format!("id\n{number}\n"));
    }
    // On each page of the list, some objects match the pattern.
    assert_eq!(bucket.import("t", &["many/*50.csv"]).await.unwrap().rows, 11);
    assert_eq!(bucket.ids("t").await, (0..11).map(|at| at * 100 + 50).collect::<Vec<_>>());
}

/// Returns a file that ends with the given line. The file is so long that it is read in several
/// ranges.
fn long(last: &str) -> String {
    let line = format!("{:0>63}\n", 7);
    format!("id\n{}{last}\n", line.repeat(160_000))
}

#[tokio::test]
async fn an_object_that_changes_during_the_import_is_an_error() {
    for (ending, parts) in [("csv", ["in/a.csv"]), ("parquet", ["in/a.parquet"])] {
        let bucket = Bucket::new().await;
        let path = bucket.file(parts[0], long("1"));
        if ending == "parquet" {
            parquet(&path, 0..100_000);
        }
        // The first reads of ranges fail and are retried. Before the retries, the object is
        // replaced.
        bucket.s3.fail("GET", ending, Fault::Answer(503, "SlowDown"), 2);
        let changing = async {
            while bucket.s3.counts().1 == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            if ending == "parquet" {
                parquet(&path, 5..70_000);
            } else {
                bucket.file(parts[0], long("23"));
            }
        };
        let (imported, ()) = tokio::join!(bucket.import("t", &parts), changing);
        let error = imported.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("`s3://landing/{}` changed while it was imported", parts[0])
        );
        let view = bucket.lake.view(&RefSpec::main()).await.unwrap();
        assert!(view.find("public", "t").await.unwrap().is_none());
        bucket.import("t", &parts).await.unwrap();
    }
}

#[tokio::test]
async fn permanent_bucket_faults_are_reported_and_transient_ones_retried() {
    let bucket = Bucket::new().await;
    bucket.file("a.csv", long("1"));
    bucket.file("b.csv", "id\n1\n");
    parquet(&bucket.file("a.parquet", ""), 0..1000);
    for fault in [Fault::Answer(503, "SlowDown"), Fault::CutHalf, Fault::CutBefore] {
        bucket.s3.fail("GET", "a.csv", fault, 1);
        bucket.s3.fail("GET", "a.parquet", fault, 1);
    }
    assert_eq!(bucket.import("t", &["a.csv", "a.parquet"]).await.unwrap().rows, 161_001);
    bucket.s3.heal();
    let bucket = Bucket {
        lake: open(hurried(&bucket.s3, std::time::Duration::from_secs(2))).await,
        ..bucket
    };
    for (fault, expected) in [
        (Fault::Answer(403, "AccessDenied"), "denies access"),
        (Fault::Answer(503, "SlowDown"), "even after retries"),
        (Fault::Hang, "timed out"),
    ] {
        for file in ["b.csv", "a.parquet"] {
            bucket.s3.fail("GET", file, fault, 99);
            let problem = bucket.import("u", &[file]).await.unwrap_err().to_problem();
            bucket.s3.heal();
            assert!(problem.message.contains(expected), "{fault:?}: {problem:?}");
            assert!(problem.message.contains(&format!("s3://landing/{file}")), "{problem:?}");
            assert!(problem.hint.is_some(), "{problem:?}");
        }
    }
}
