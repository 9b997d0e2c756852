//! Scenarios for every object store: a complete lake, and writes that must not overwrite an object.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use headwater_lake::{Lake, WarehouseOptions};
use headwater_model::{CreateRef, ErrorCode, MaintainRequest, MergeRequest, ToProblem as _};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode};
use tokio_util::sync::CancellationToken;

use crate::fault_proxy::Fault;
use crate::faults;
use crate::lake::{CloudLake, LONG, table};
use crate::provider::Provider;

type Scenario = fn(Provider) -> BoxFuture<'static, ()>;

/// All scenarios, by name.
pub const ALL: [(&str, Scenario); 7] = [
    ("a_lake_works_completely", |cloud| Box::pin(a_lake_works_completely(cloud))),
    ("one_of_several_creations_of_an_object_succeeds", |cloud| {
        Box::pin(one_creation_succeeds(cloud))
    }),
    ("one_of_several_lakes_gets_a_location", |cloud| Box::pin(one_lake_gets_the_location(cloud))),
    ("transient_faults_are_retried", |cloud| Box::pin(faults::transient_faults_are_retried(cloud))),
    ("permanent_write_faults_fail_in_time_and_leave_no_files", |cloud| {
        Box::pin(faults::permanent_write_faults_fail_in_time_and_leave_no_files(cloud))
    }),
    ("permanent_read_faults_fail_in_time", |cloud| {
        Box::pin(faults::permanent_read_faults_fail_in_time(cloud))
    }),
    ("multipart_uploads_leave_no_parts", |cloud| {
        Box::pin(faults::multipart_uploads_leave_no_parts(cloud))
    }),
];

async fn maintain(lake: &Lake, request: MaintainRequest) -> headwater_model::MaintainReport {
    let (progress, cancelled) = (Arc::new(|_, _| {}), CancellationToken::new());
    Box::pin(lake.maintenance().run("main", Some(&table()), &request, progress, cancelled))
        .await
        .unwrap()
}

/// Tests concurrent writers, a branch and its merge, the compaction of many small files, and a list
/// of several pages. Then the files of a change that crashed are removed, although the first
/// removals fail.
async fn a_lake_works_completely(cloud: Provider) {
    let lake = CloudLake::new(cloud, LONG).await;
    for id in (2..32).step_by(3) {
        let writers = (id..id + 3).map(|id| lake.append([id]));
        join_all(writers).await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    }
    let dev = CreateRef { name: "dev".into(), from: None, if_not_exists: false };
    lake.lake.catalog().create_branch(dev).await.unwrap();
    lake.append_to("dev", [32]).await.unwrap();
    lake.append([33]).await.unwrap();
    Box::pin(lake.lake.merge("main", MergeRequest::new("dev".parse().unwrap()), "eva"))
        .await
        .unwrap();
    let expected: Vec<i64> = (1..34).collect();
    assert_eq!(lake.ids().await, expected);
    let compact = MaintainRequest { compact: true, ..MaintainRequest::default() };
    let report = maintain(&lake.lake, compact).await;
    assert_eq!((report.tables[0].files_rewritten, report.tables[0].files_after), (33, 1));
    // Files that only the branch needed are removed, although the first requests fail.
    lake.lake.catalog().delete_branch("dev").await.unwrap();
    lake.clock.advance(Duration::from_hours(24 * 7));
    for method in ["DELETE", "POST"] {
        lake.front().fail(method, "", Fault::CutBefore, 2);
    }
    let before = lake.cloud.contents().await.len();
    let keep = MaintainRequest { keep: Some(1), orphans: true, force: true, ..Default::default() };
    maintain(&lake.lake, keep).await;
    lake.front().heal();
    let after = lake.cloud.contents().await;
    assert!(after.len() < before / 2, "{before}: {after:?}");
    assert_eq!(lake.ids().await, expected);
}

/// Several writers create the same object at the same time, each on the condition that it does not
/// exist. One writer succeeds, and the object has the content of this writer.
async fn one_creation_succeeds(cloud: Provider) {
    let bucket = cloud.bucket();
    for round in 0..10 {
        let path = Path::from(format!("race/{round}"));
        let make = |writer: u8| {
            let (bucket, path) = (bucket.clone(), path.clone());
            let content = vec![writer; 100_000];
            tokio::spawn(async move {
                bucket.put_opts(&path, content.into(), PutMode::Create.into()).await
            })
        };
        let mut first = Vec::new();
        for (writer, made) in (0..8).zip(join_all((0..8).map(make)).await) {
            match made.unwrap() {
                Ok(_) => first.push(writer),
                Err(object_store::Error::AlreadyExists { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(first.len(), 1, "{first:?}");
        let found = bucket.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(found, vec![first[0]; 100_000]);
    }
}

/// Several lakes are created at the same time with the same prefix. One lake gets the location; the
/// creation of the other lakes fails.
async fn one_lake_gets_the_location(cloud: Provider) {
    let (folder, url) = (tempfile::tempdir().unwrap(), cloud.url("shop"));
    let open = |number: usize| {
        let warehouse = WarehouseOptions { url: Some(url.clone()), cloud: cloud.settings() };
        let folder = folder.path().join(number.to_string());
        async move { Lake::open_folder(&folder, warehouse).await }
    };
    let mut owners = BTreeSet::new();
    for (number, opened) in join_all((0..6).map(open)).await.into_iter().enumerate() {
        match opened {
            Ok(_) => drop(owners.insert(number)),
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::AlreadyExists, "{error}");
                let expected = format!("`{url}` is the warehouse of another lake");
                assert_eq!(error.to_string(), expected);
            }
        }
    }
    assert_eq!(owners.len(), 1, "{owners:?}");
    // The lake that got the location can be opened again.
    let again = owners.into_iter().map(open);
    assert!(join_all(again).await.iter().all(Result::is_ok));
}
