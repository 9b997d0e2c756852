//! Maintenance of a table's layout: fewer manifests, z-order for filters on two columns, and
//! compaction within partitions, including partitions by nested columns.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use headwater_lake::Lake;
use headwater_model::{MaintainRequest, RefSpec};
use headwater_tables::{ScanPlan, TablesOptions};
use serde_json::{Value, json};

use crate::changes::{Step, make, sorted};
use crate::maintenance::{append, ids, lake, maintain, only};
use crate::support::{Fixture, name, rows_of};

async fn plan(lake: &Lake) -> ScanPlan {
    let table = lake.view(&RefSpec::main()).await.unwrap().table(&name("t")).await.unwrap();
    lake.tables().plan(&table, None).await.unwrap()
}

#[tokio::test]
async fn manifests_are_merged_without_changing_rows() {
    let (lake, _) = lake(&[json!([[0, "a"]])]).await;
    for id in 1..14 {
        append(&lake, "main", id).await;
    }
    let (rows, files) = (lake.rows("t").await, plan(&lake.lake).await.files().len());
    let manifests = || MaintainRequest { manifests: true, ..MaintainRequest::default() };
    let foreseen = maintain(&lake, MaintainRequest { dry_run: true, ..manifests() }).await;
    assert_eq!((only(&foreseen).manifests_before, only(&foreseen).commit), (14, None));
    let report = maintain(&lake, manifests()).await;
    let kept = only(&report);
    assert_eq!((kept.manifests_before, kept.manifests_after), (14, 1));
    assert_eq!((kept.files_rewritten, kept.files_after), (0, 14), "data stays where it lies");
    assert!(kept.commit.is_some());
    assert_eq!(sorted(lake.rows("t").await), sorted(rows));
    assert_eq!(plan(&lake.lake).await.files().len(), files);
    // An append after the merge of manifests keeps all rows, too.
    append(&lake, "main", 14).await;
    assert_eq!(ids(&lake, "main").await, (0..15).collect::<Vec<i64>>());
    assert_eq!(only(&maintain(&lake, manifests()).await).commit, None, "few are left alone");
}

/// Limits of the two numbers in a row. The rows contain each pair once, in an order uncorrelated
/// with both numbers.
const WIDTH: i64 = 512;
const HEIGHT: i64 = 256;

fn grid() -> RecordBatch {
    // The factor is coprime to the number of pairs, so that each pair occurs once.
    let places = (0..WIDTH * HEIGHT).map(|place| place * 52_711 % (WIDTH * HEIGHT));
    let places: Vec<i64> = places.collect();
    let column = |value: fn(i64) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(places.iter().copied().map(value)))
    };
    let columns = [("x", column(|place| place / HEIGHT)), ("y", column(|place| place % HEIGHT))];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, values)| (name, values, true)))
        .unwrap()
}

/// Counts the files whose bounds overlap a range, for each column.
async fn files_for(lake: &Fixture, x: Range<i64>, y: Range<i64>) -> usize {
    let plan = plan(&lake.lake).await;
    let within = |column: &str, range: &Range<i64>, file: usize| {
        let of = |bounds: Option<ArrayRef>| bounds.unwrap().as_primitive::<Int64Type>().value(file);
        of(plan.min(column)) < range.end && of(plan.max(column)) >= range.start
    };
    let meets = |file: &usize| within("x", &x, *file) && within("y", &y, *file);
    (0..plan.files().len()).filter(meets).count()
}

#[tokio::test]
async fn a_z_order_prunes_files_for_filters_on_either_column() {
    let small = |tables: &mut TablesOptions| tables.target_file_bytes = 1;
    let lake = Fixture::with(small).await;
    let mut change = lake.lake.transaction("main", "eva").await.unwrap();
    let rows = grid();
    change.create(&name("t"), rows.schema(), Vec::new(), [].into()).await.unwrap();
    change.append(&name("t"), rows_of(rows)).await.unwrap();
    change.commit("make").await.unwrap();
    let by = |columns: [&str; 2]| columns.map(str::to_owned).to_vec();
    let (some_x, some_y) = (0..WIDTH / 2, 32..64);
    let needed = async || {
        let both = files_for(&lake, some_x.clone(), some_y.clone()).await;
        let y_alone = files_for(&lake, 0..WIDTH, some_y.clone()).await;
        (plan(&lake.lake).await.files().len(), both, y_alone)
    };
    let sort = MaintainRequest { sort: by(["x", "y"]), ..MaintainRequest::default() };
    maintain(&lake, sort).await;
    let (files, both_sorted, y_sorted) = needed().await;
    assert!(files >= 16, "{files}");
    assert_eq!(y_sorted, files, "a sort by `x` says nothing of `y`");
    let zorder = MaintainRequest { zorder: by(["x", "y"]), ..MaintainRequest::default() };
    maintain(&lake, zorder).await;
    let (files, both, y_alone) = needed().await;
    assert!(files >= 16, "{files}");
    assert!(both < both_sorted, "{both} files instead of {both_sorted}");
    assert!(y_alone <= files / 2, "{y_alone} of {files} files");
    let count: i64 = plan(&lake.lake).await.files().iter().map(|file| file.rows as i64).sum();
    assert_eq!(count, WIDTH * HEIGHT);
}

#[tokio::test]
async fn compaction_keeps_partitions_by_nested_columns_separate() {
    let (lake, _) = lake(&[]).await;
    let create: Step = serde_json::from_value(json!({"create": {
        "columns": [{"id": "long"}, {"place": "struct<city: string, at: struct<floor: int>>"}],
        "partition": ["place.city", "bucket(2, place.at.floor)"],
    }}))
    .unwrap();
    let table = name("u");
    make(&lake, "main", "main", &table, &create).await;
    let row = |id: i64| {
        let city = ["oslo", "rome", "bern"][usize::try_from(id).unwrap() % 3];
        json!({"id": id, "place": {"city": city, "at": {"floor": id % 2}}})
    };
    for first in (0..60).step_by(6) {
        let rows: Vec<Value> = (first..first + 6).map(row).collect();
        make(&lake, "main", "main", &table, &Step::Append(rows)).await;
    }
    let before = sorted(lake.rows("u").await);
    let compact = MaintainRequest { compact: true, ..MaintainRequest::default() };
    let (progress, cancelled) = (Arc::new(|_, _| {}), tokio_util::sync::CancellationToken::new());
    let report = lake.lake.maintenance().run("main", Some(&table), &compact, progress, cancelled);
    let report = Box::pin(report).await.unwrap();
    let view = lake.lake.view(&RefSpec::main()).await.unwrap();
    let kept = view.table(&table).await.unwrap();
    let plan = lake.lake.tables().plan(&kept, None).await.unwrap();
    let mut partitions: Vec<&str> = plan.files().iter().map(|file| &*file.partition).collect();
    partitions.sort_unstable();
    let one_each = partitions.windows(2).all(|pair| pair[0] != pair[1]);
    assert!(one_each && partitions.len() >= 3, "{partitions:?}");
    assert_eq!(report.tables[0].files_after, partitions.len() as u64);
    assert_eq!(sorted(lake.rows("u").await), before);
    // The files' partitions are correct: a delete affects only the row's own partition.
    let delete = serde_json::from_value(json!({"delete": {"id": 7}})).unwrap();
    make(&lake, "main", "main", &table, &delete).await;
    assert_eq!(lake.rows("u").await.len(), 59);
}
