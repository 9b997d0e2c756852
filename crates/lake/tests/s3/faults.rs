//! S3 that fails in the midst of a change: a clear error in time or none at all, nothing lost, nothing half
//! visible, and the same change made again succeeds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use headwater_lake::{Error, Lake, LakeOptions, json_rows};
use headwater_model::{Fault as _, RefSpec, SystemClock};
use headwater_store::MemoryStore;
use headwater_tables::{CloudUrl, TablesOptions};
use tempfile::TempDir;

use crate::place::hurried;
use crate::server::{Fault, S3};
use crate::support::{name, numbers, rows_of, schema};

/// A lake on an S3 that fails, with a table of one row.
struct Failing {
    folder: TempDir,
    s3: S3,
    store: Arc<MemoryStore>,
    lake: Lake,
    patience: Duration,
}

/// Patience that is soon at its end, and one that outlasts two faults.
const SHORT: Duration = Duration::from_millis(600);
const LONG: Duration = Duration::from_secs(10);

impl Failing {
    async fn new(patience: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("lakes")).unwrap();
        let s3 = S3::start(folder.path());
        let store = Arc::new(MemoryStore::new());
        let lake = open(&s3, &store, patience).await;
        let failing = Failing { folder, s3, store, lake, patience };
        let mut change = failing.lake.transaction("main", "eva").await.unwrap();
        change.create(&name("t"), schema("id"), Vec::new(), BTreeMap::new()).await.unwrap();
        change.append(&name("t"), rows_of(numbers("id", [1]))).await.unwrap();
        change.commit("make").await.unwrap();
        failing
    }

    async fn append(&self, ids: std::ops::Range<i64>) -> Result<(), Error> {
        let mut change = self.lake.transaction("main", "eva").await.unwrap();
        change.append(&name("t"), rows_of(numbers("id", ids))).await?;
        change.commit("append").await.map(drop)
    }

    /// The ids as a new process sees them, with nothing in its memory.
    async fn ids(&self) -> Vec<i64> {
        ids(&self.reopened().await).await.unwrap()
    }

    async fn reopened(&self) -> Lake {
        open(&self.s3, &self.store, self.patience).await
    }

    /// Waits until these files are there and no others: what was called off may take a moment to go.
    async fn settle(&self, expected: &[PathBuf], case: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let left = |expected: &[PathBuf]| {
            let files = self.files().into_iter();
            files.filter(|file| !expected.contains(file)).collect::<Vec<_>>()
        };
        while !left(expected).is_empty() {
            assert!(Instant::now() < deadline, "{case} left {:?}", left(expected));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All files of the warehouse, and parts of files that the server keeps.
    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(self.folder.path(), &mut found);
        // What the server itself notes of files and buckets, and of requests that were given up.
        let own = |name: &str| name.starts_with(".bucket-") || name.starts_with(".tmp.");
        found.retain(|path| !own(&path.file_name().unwrap().to_string_lossy()));
        found
    }
}

fn collect(folder: &std::path::Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, found) } else { found.push(path) }
    }
}

async fn open(s3: &S3, store: &Arc<MemoryStore>, patience: Duration) -> Lake {
    let cloud = hurried(s3, patience);
    let object_store = CloudUrl::warehouse("s3://lakes/a").unwrap().open(&cloud).unwrap();
    let mut tables = TablesOptions::new("s3://lakes/a");
    tables.cloud = cloud;
    let (store, clock) = (store.clone(), Arc::new(SystemClock));
    Lake::open(LakeOptions { store, object_store, tables, clock }).await.unwrap()
}

async fn ids(lake: &Lake) -> Result<Vec<i64>, Error> {
    let table = lake.view(&RefSpec::main()).await?.table(&name("t")).await?;
    let plan = lake.tables().plan(&table, None).await?;
    let rows = lake.tables().read(&table, plan.files(), None, None)?;
    let rows = rows.try_collect::<Vec<_>>().await.map_err(|error| match error {
        arrow::error::ArrowError::ExternalError(inner) => {
            Error::from(*inner.downcast::<headwater_tables::Error>().unwrap())
        }
        other => panic!("{other}"),
    })?;
    let rows = json_rows(&rows).unwrap();
    let mut ids: Vec<i64> = rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// The files that an append writes, by a part of their addresses.
const WRITTEN: [&str; 4] = [".parquet", "snap-", "-m0.avro", ".metadata.json"];

#[tokio::test]
async fn what_passes_is_not_noticed() {
    let lake = Failing::new(LONG).await;
    let faults = [
        Fault::Answer(503, "SlowDown"),
        Fault::Answer(500, "InternalError"),
        // As from a server that was asked before, and did it.
        Fault::Answer(412, "PreconditionFailed"),
        Fault::CutBefore,
        Fault::CutAfter,
        Fault::Hang,
        Fault::HangAfter,
    ];
    let mut expected = vec![1];
    for fault in faults {
        for part in WRITTEN {
            lake.s3.fail("PUT", part, fault, 1);
        }
        let (id, (_, before)) = (expected.len() as i64 + 1, lake.s3.counts());
        lake.append(id..id + 1).await.unwrap();
        expected.push(id);
        assert!(lake.s3.counts().1 >= before + 3, "{fault:?} was met");
        lake.s3.heal();
        assert_eq!(lake.ids().await, expected, "{fault:?}");
    }
    for fault in [Fault::Answer(503, "SlowDown"), Fault::CutBefore, Fault::CutHalf, Fault::Hang] {
        lake.s3.fail("GET", ".avro", fault, 2);
        lake.s3.fail("GET", ".parquet", fault, 2);
        let (_, before) = lake.s3.counts();
        assert_eq!(lake.ids().await, expected, "{fault:?}");
        assert!(lake.s3.counts().1 > before, "{fault:?} was met");
        lake.s3.heal();
    }
}

#[tokio::test]
async fn what_does_not_pass_is_said_in_time_and_leaves_nothing() {
    let lake = Failing::new(SHORT).await;
    let cases = [
        (Fault::Answer(503, "SlowDown"), "went on failing"),
        (Fault::Answer(403, "AccessDenied"), "does not allow"),
        (Fault::Answer(403, "ExpiredToken"), "no credentials that the object store accepts"),
        (Fault::CutBefore, "broke off"),
        (Fault::Hang, "did not answer"),
    ];
    let before = lake.files();
    for (fault, expected) in cases {
        for part in WRITTEN {
            lake.s3.fail("PUT", part, fault, 999);
            let begun = Instant::now();
            let error = lake.append(2..3).await.unwrap_err();
            let problem = error.to_problem();
            assert!(problem.message.contains(expected), "{fault:?} at {part}: {problem:?}");
            assert!(problem.message.contains("s3://lakes/a/public/t-"), "{problem:?}");
            assert!(problem.hint.is_some(), "{problem:?}");
            assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
            lake.s3.heal();
            assert_eq!(lake.ids().await, [1], "{fault:?} at {part}");
            lake.settle(&before, &format!("{fault:?} at {part}")).await;
        }
    }
    lake.append(2..3).await.unwrap();
    assert_eq!(lake.ids().await, [1, 2]);
}

#[tokio::test]
async fn reading_that_fails_is_said_in_time_and_changes_nothing() {
    let lake = Failing::new(SHORT).await;
    let cases = [
        (Fault::Answer(503, "SlowDown"), "went on failing"),
        (Fault::Hang, "did not answer"),
        (Fault::HangHalf, "did not answer"),
        (Fault::CutHalf, "broke off"),
    ];
    for (fault, expected) in cases {
        for part in [".metadata.json", "snap-", ".parquet"] {
            lake.s3.fail("GET", part, fault, 999);
            let fresh = lake.reopened().await;
            let begun = Instant::now();
            let problem = ids(&fresh).await.unwrap_err().to_problem();
            assert!(problem.message.contains(expected), "{fault:?} at {part}: {problem:?}");
            assert!(problem.message.contains(part), "{problem:?}");
            assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
            lake.s3.heal();
            assert_eq!(ids(&fresh).await.unwrap(), [1], "{fault:?} at {part}");
        }
    }
}

/// Rows enough for a file of several parts: they do not compress.
fn many() -> arrow::array::RecordBatch {
    let mut state = 7_u64;
    numbers(
        "id",
        std::iter::repeat_with(move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 1).cast_signed()
        })
        .take(3_000_000),
    )
}

#[tokio::test]
async fn a_large_file_goes_in_parts_and_leaves_none_behind() {
    let lake = Failing::new(LONG).await;
    let before = lake.files();
    let append = async || {
        let mut change = lake.lake.transaction("main", "eva").await.unwrap();
        change.append(&name("t"), rows_of(many())).await?;
        change.commit("append").await.map(drop)
    };
    let cases = [
        ("PUT", "partNumber=2", Fault::Answer(403, "AccessDenied")),
        ("POST", "uploadId=", Fault::Answer(403, "AccessDenied")),
        ("POST", "uploads", Fault::Answer(403, "AccessDenied")),
    ];
    for (method, part, fault) in cases {
        lake.s3.fail(method, part, fault, 999);
        let problem = append().await.unwrap_err().to_problem();
        assert!(problem.message.contains(".parquet"), "{problem:?}");
        lake.s3.heal();
        lake.settle(&before, &format!("{fault:?} at {method} {part}")).await;
    }
    assert_eq!(lake.ids().await, [1]);
    // What passes is not noticed, even where the answer to the last request is lost.
    lake.s3.fail("PUT", "partNumber=1", Fault::CutBefore, 1);
    lake.s3.fail("PUT", "partNumber=2", Fault::Answer(503, "SlowDown"), 1);
    lake.s3.fail("POST", "uploadId=", Fault::CutAfter, 1);
    append().await.unwrap();
    assert_eq!(lake.ids().await.len(), 3_000_001);
    let parts =
        lake.files().iter().filter(|file| file.to_string_lossy().contains("upload")).count();
    assert_eq!(parts, 0);
}
