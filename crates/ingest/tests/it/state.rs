//! State of imports: files are imported once; branches, cancellation and concurrent imports.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use headwater_ingest::{Error, ImportStage, Importer, ProgressCallback};
use headwater_model::{CreateRef, ErrorCode, MergeRequest, ToProblem};
use tokio_util::sync::CancellationToken;

use crate::support::{Fixture, name, numbers, rows_of};

#[tokio::test]
async fn a_file_is_imported_once_unless_it_changed_or_a_repeat_is_requested() {
    let lake = Fixture::new().await;
    lake.file("a.csv", "id\n1\n");
    lake.file("b.csv", "id\n1\n");
    let request = lake.request("t", &["a.csv", "b.csv"]);
    assert_eq!(lake.import(&request).await.unwrap().rows, 2, "equal files are two files");
    let second = lake.import(&request).await.unwrap();
    assert_eq!((second.files, second.files_skipped, second.commit), (0, 2, None));
    assert_eq!(lake.plan(&request).await.unwrap().skipped.len(), 2);

    // A file with a new modification time and the same content is skipped. A file with other
    // content is imported.
    lake.file("a.csv", "id\n1\n");
    lake.file("b.csv", "id\n2\n");
    let third = lake.import(&request).await.unwrap();
    assert_eq!((third.files, third.files_skipped, third.rows), (1, 1, 1));

    let again = headwater_model::ImportRequest { again: true, ..request.clone() };
    assert_eq!(lake.import(&again).await.unwrap().rows, 2);
    assert_eq!(lake.rows("t").await.len(), 5);
    assert_eq!(lake.import(&request).await.unwrap().files_skipped, 2);
}

#[tokio::test]
async fn the_list_of_imported_files_survives_other_writes_and_ends_with_the_rows() {
    let lake = Fixture::new().await;
    lake.import_text("t", "a.csv", "id\n1\n").await.unwrap();
    let mut transaction = lake.lake.transaction("main", "me").await.unwrap();
    transaction.append(&name("t"), rows_of(numbers("id", [7]))).await.unwrap();
    transaction.commit("insert").await.unwrap();
    let request = lake.request("t", &["a.csv"]);
    assert_eq!(lake.import(&request).await.unwrap().files_skipped, 1);

    let mut transaction = lake.lake.transaction("main", "me").await.unwrap();
    transaction.overwrite(&name("t"), rows_of(numbers("id", [8]))).await.unwrap();
    transaction.commit("overwrite").await.unwrap();
    assert_eq!(lake.import(&request).await.unwrap().files, 1);
    assert_eq!(lake.rows("t").await.len(), 2);
}

#[tokio::test]
async fn the_list_of_imported_files_is_per_branch() {
    let lake = Fixture::new().await;
    lake.import_text("t", "a.csv", "id\n1\n").await.unwrap();
    let dev = CreateRef { name: "dev".into(), from: None, if_not_exists: false };
    lake.lake.catalog().create_branch(dev).await.unwrap();
    lake.file("b.csv", "id\n2\n");
    let mut request = lake.request("t", &["a.csv", "b.csv"]);
    request.reference = Some("dev".parse().unwrap());
    let report = lake.import(&request).await.unwrap();
    assert_eq!((report.files, report.files_skipped), (1, 1));
    assert_eq!(lake.rows("t").await.len(), 1, "main knows nothing of it");

    let merge = MergeRequest::new("dev".parse().unwrap());
    lake.lake.merge("main", merge, "me").await.unwrap();
    request.reference = None;
    assert_eq!(lake.import(&request).await.unwrap().files_skipped, 2);
}

#[tokio::test]
async fn an_event_commits_once() {
    let lake = Fixture::new().await;
    lake.file("a.csv", "id\n1\n");
    lake.file("b.csv", "id\n2\n");
    let mut request = lake.request("t", &["a.csv"]);
    request.event = Some("event-1".into());
    lake.import(&request).await.unwrap();
    let mut other = lake.request("t", &["b.csv"]);
    other.event = Some("event-1".into());
    let error = lake.import(&other).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::AlreadyExists);
    assert_eq!((lake.rows("t").await.len(), lake.data_files()), (1, 1));
}

#[tokio::test]
async fn a_cancelled_import_changes_nothing() {
    let lake = Fixture::new().await;
    let row = "1,some text to make the file long,2013-01-01\n";
    lake.file("big.csv", format!("a,b,c\n{}", row.repeat(200_000)));
    let cancelled = CancellationToken::new();
    let stop = cancelled.clone();
    let progress: ProgressCallback = Arc::new(move |progress| {
        if progress.stage == ImportStage::Import && progress.bytes_done > 0 {
            stop.cancel();
        }
    });
    let request = lake.request("t", &["big.csv"]);
    let error =
        Importer::new(lake.lake.clone()).import(&request, progress, cancelled).await.unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert!(!lake.has_table("t").await);
    assert_eq!(lake.data_files(), 0);
}

#[tokio::test]
async fn progress_counts_bytes_on_disk_up_to_all_of_them() {
    let lake = Fixture::new().await;
    let path = lake.file("a.csv", "id\n1\n");
    let bytes = std::fs::metadata(path).unwrap().len();
    let last = Arc::new(AtomicU64::new(0));
    let seen = last.clone();
    let progress: ProgressCallback = Arc::new(move |progress| {
        assert!(progress.bytes_done <= progress.bytes_total);
        if progress.stage == ImportStage::Import && progress.files_done == progress.files_total {
            seen.store(progress.bytes_done, Ordering::Relaxed);
        }
    });
    let request = lake.request("t", &["a.csv"]);
    Importer::new(lake.lake.clone())
        .import(&request, progress, CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(last.load(Ordering::Relaxed), bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_imports_import_every_file_exactly_once() {
    let lake = Arc::new(Fixture::new().await);
    for number in 0..24 {
        lake.file(&format!("{number}.csv"), format!("id\n{number}\n"));
    }
    // Two of the concurrent imports contain the same file, and the table does not exist yet.
    let imports: Vec<_> = (0..8_usize)
        .map(|worker| {
            let lake = lake.clone();
            tokio::spawn(async move {
                let names: Vec<String> =
                    (0..6).map(|n| format!("{}.csv", (worker * 3 + n) % 24)).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                lake.import(&lake.request("t", &names)).await.unwrap().rows
            })
        })
        .collect();
    let mut rows = 0;
    for import in imports {
        rows += import.await.unwrap();
    }
    let mut ids: Vec<i64> =
        lake.rows("t").await.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..24).collect::<Vec<i64>>());
    assert_eq!(rows, 24);
}

#[tokio::test]
async fn an_invalid_target_is_rejected_before_files_are_read() {
    let lake = Fixture::new().await;
    lake.file("a.csv", "id\n1\n");
    let mut request = lake.request("t", &["a.csv"]);
    request.reference = Some("nowhere".parse().unwrap());
    assert_eq!(lake.import(&request).await.unwrap_err().code(), ErrorCode::RefNotFound);
    let head = lake.lake.catalog().branch("main").await.unwrap().commit;
    request.reference = Some(format!("@{head}").parse().unwrap());
    let error = lake.import(&request).await.unwrap_err();
    let Error::Lake(error) = error else { panic!("{error}") };
    assert!(matches!(*error, headwater_lake::Error::NotABranch { .. }), "{error}");
    request.reference = None;
    request.table = "sales.t".into();
    assert_eq!(lake.import(&request).await.unwrap_err().code(), ErrorCode::NamespaceNotFound);
    request.table = "t".into();
    lake.lake.catalog().protect_branch("main", true).await.unwrap();
    assert_eq!(lake.import(&request).await.unwrap_err().code(), ErrorCode::BranchProtected);
}
