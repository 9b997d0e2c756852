//! Merge scenarios from `tests/merge/*.yaml`: a table, the changes of two branches, and the
//! expected result.
//!
//! Each scenario is merged in both directions, after a dry run. The tests also check that a
//! conflict changes nothing, and that a repeated merge is up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use headwater_lake::{EqualChanges, MergeOptions};
use headwater_model::{
    CreateRef, MergeChoice, MergeOutcome, MergeReport, MergeRequest, MergeResolution, RefSpec,
    TableName,
};
use serde::Deserialize;
use serde_json::Value;

use crate::changes::{NewTable, Rows, Step, make, maps, sorted};
use crate::support::{Fixture, name};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    name: String,
    /// The format version that the scenario requires.
    #[serde(default)]
    version: Option<u8>,
    #[serde(default)]
    table: Option<NewTable>,
    /// True if the merge is that of a transaction, in which equal changes conflict.
    #[serde(default)]
    transaction: bool,
    /// Steps before the second branch is created.
    #[serde(default)]
    base: Vec<Step>,
    ours: Vec<Step>,
    theirs: Vec<Step>,
    #[serde(default)]
    merged: Option<Expected>,
    #[serde(default)]
    conflict: Vec<Conflict>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    #[serde(default)]
    rows: Option<Rows>,
    /// The columns as `name type`, in the order that they have after a merge into `ours`.
    #[serde(default)]
    columns: Option<Vec<String>>,
    #[serde(default)]
    properties: Option<BTreeMap<String, String>>,
    #[serde(default)]
    partition: Option<Vec<String>>,
    /// The number of data files of the merged table.
    #[serde(default)]
    files: Option<u64>,
    /// True if the table does not exist after the merge.
    #[serde(default)]
    dropped: bool,
    /// The table's name after the merge; `t` by default.
    #[serde(default)]
    name: Option<String>,
    /// The reported numbers of added and removed rows for a merge into `ours`.
    #[serde(default)]
    counted: Option<[u64; 2]>,
    /// Steps that follow the merge, and the rows after them.
    #[serde(default)]
    then: Option<(Vec<Step>, Rows)>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Conflict {
    kind: String,
    /// Text that the message contains.
    #[serde(default)]
    says: Option<String>,
    #[serde(default)]
    rows: Option<Rows>,
    #[serde(default)]
    files: Option<u64>,
}

/// The direction of the merge.
#[derive(Clone, Copy)]
struct Direction {
    target: &'static str,
    source: &'static str,
    equal_changes: EqualChanges,
}

impl Direction {
    fn options(self) -> MergeOptions {
        let equal_changes = self.equal_changes;
        MergeOptions { author: "eva".to_owned(), equal_changes, ..MergeOptions::default() }
    }
}

const DIRECTIONS: [[&str; 2]; 2] = [["main", "dev"], ["dev", "main"]];

fn scenarios(file: &str) -> Vec<Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/merge");
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    let values: Vec<Value> = serde_yaml_ng::from_str(&text).unwrap();
    let read = |value: Value| {
        let name = value["name"].clone();
        serde_json::from_value(value).unwrap_or_else(|error| panic!("{file}: {name}: {error}"))
    };
    values.into_iter().map(read).collect()
}

async fn play(file: &str) {
    let scenarios = scenarios(file);
    assert!(!scenarios.is_empty());
    for scenario in scenarios.into_iter().map(Arc::new) {
        let equal_changes =
            if scenario.transaction { EqualChanges::Conflict } else { EqualChanges::Merge };
        for [target, source] in DIRECTIONS {
            let direction = Direction { target, source, equal_changes };
            for (on_read, version) in [(false, "2"), (true, "2"), (true, "3")] {
                if scenario.version.is_some_and(|only| only.to_string() != version) {
                    continue;
                }
                let played = scenario.clone();
                let playing = tokio::spawn(async move {
                    Box::pin(play_one(&played, direction, (on_read, version))).await;
                });
                if playing.await.is_err() {
                    let how = if on_read { ", on read" } else { "" };
                    panic!("{file}: {}: {source} into {target}{how}, v{version}", scenario.name);
                }
            }
        }
    }
}

async fn play_one(
    scenario: &Scenario,
    direction: Direction,
    (on_read, version): (bool, &'static str),
) {
    // The list is short, so that merges must read snapshots that the metadata file no longer lists.
    let mut lake = Fixture::with(|tables| tables.snapshots_listed_max = 10).await;
    (lake.on_read, lake.version) = (on_read, version);
    let table = name("t");
    if let Some(new) = &scenario.table {
        make(&lake, "main", "dev", &table, &Step::Create(new.clone())).await;
    }
    for step in &scenario.base {
        make(&lake, "main", "dev", &table, step).await;
    }
    let request = CreateRef { name: "dev".into(), from: None, if_not_exists: false };
    lake.lake.catalog().create_branch(request).await.unwrap();
    for (branch, other, steps) in
        [("main", "dev", &scenario.ours), ("dev", "main", &scenario.theirs)]
    {
        for step in steps {
            let table = named(&lake, branch).await;
            make(&lake, branch, other, &table, step).await;
        }
    }
    let before = state(&lake, direction.target).await;
    let files = (lake.metadata_files(), lake.data_files());
    let foreseen = merge(&lake, direction, true).await;
    assert_eq!(state(&lake, direction.target).await, before, "a dry run changes nothing");
    assert_eq!((lake.metadata_files(), lake.data_files()), files, "a dry run writes nothing");
    let report = merge(&lake, direction, false).await;
    assert_eq!(
        (foreseen.outcome, &foreseen.tables, &foreseen.merged, &foreseen.conflicts),
        (report.outcome, &report.tables, &report.merged, &report.conflicts),
        "a dry run foresees what comes"
    );
    if let Some(expected) = &scenario.merged {
        let table = name(expected.name.as_deref().unwrap_or("t"));
        return check_merged(&lake, &table, expected, direction, &report).await;
    }
    check_conflict(&lake, &scenario.conflict, &report).await;
    let table = report.conflicts[0].table.clone();
    assert_eq!(state(&lake, direction.target).await, before, "nothing changed");
    assert_eq!((lake.metadata_files(), lake.data_files()), files, "nothing is left");
    check_choices(&lake, &table, direction).await;
}

async fn merge(lake: &Fixture, direction: Direction, dry_run: bool) -> MergeReport {
    let source = direction.source.parse().unwrap();
    let request = MergeRequest { dry_run, ..MergeRequest::new(source) };
    lake.lake.merge_with(direction.target, request, direction.options()).await.unwrap()
}

async fn state(lake: &Fixture, branch: &str) -> Value {
    let head = lake.lake.catalog().branch(branch).await.unwrap().commit;
    serde_json::json!([head.to_string(), rows(lake, branch).await])
}

/// Returns the name of the table on a branch. A scenario may have renamed the table.
async fn named(lake: &Fixture, branch: &str) -> TableName {
    let view = lake.lake.view(&branch.parse().unwrap()).await.unwrap();
    let renamed = view.find("public", "u").await.unwrap().is_some();
    name(if renamed { "u" } else { "t" })
}

/// Returns the rows of the table on a branch; `None` if the table does not exist.
async fn rows(lake: &Fixture, branch: &str) -> Option<Vec<String>> {
    let view = lake.lake.view(&branch.parse().unwrap()).await.unwrap();
    let table = named(lake, branch).await;
    let (_, found) = view.find("public", &table.name).await.unwrap()?;
    let rows = lake.rows_at(branch, &table.name).await;
    Some(sorted(maps(&found.schema(), &rows)))
}

async fn check_merged(
    lake: &Fixture,
    table: &TableName,
    expected: &Expected,
    direction: Direction,
    report: &MergeReport,
) {
    assert_eq!(report.conflicts, [], "a merge");
    let Direction { target, source, .. } = direction;
    let into_ours = target == "main";
    if expected.dropped {
        assert_eq!(rows(lake, target).await, None);
        return;
    }
    let described = lake.lake.describe(&RefSpec::Name(target.to_owned()), table).await.unwrap();
    if let Some(wanted) = &expected.columns {
        let mut found: Vec<String> = described
            .columns
            .iter()
            .map(|column| format!("{} {}", column.name, column.data_type))
            .collect();
        let mut wanted = wanted.clone();
        if !into_ours {
            found.sort();
            wanted.sort();
        }
        assert_eq!(found, wanted);
    }
    if let Some(wanted) = &expected.properties {
        assert_eq!(&described.properties, wanted);
    }
    if let Some(wanted) = &expected.partition {
        let found: Vec<String> = described.partition.iter().map(ToString::to_string).collect();
        assert_eq!(&found, wanted);
    }
    // If rows are deleted by delete files, fewer files are rewritten, so the number of files
    // differs.
    if let (Some(wanted), false) = (expected.files, lake.on_read) {
        assert_eq!(described.files, wanted, "data files");
    }
    if let (Some([added, removed]), true) = (expected.counted, into_ours && !lake.on_read) {
        let merged = &report.merged[0];
        assert_eq!((merged.rows_added, merged.rows_removed), (added, removed), "{merged:?}");
    }
    let view = lake.lake.view(&target.parse().unwrap()).await.unwrap();
    let schema = view.table(table).await.unwrap().schema();
    if let Some(wanted) = &expected.rows {
        let wanted = sorted(maps(&schema, wanted));
        assert_eq!(rows(lake, target).await.unwrap(), wanted);
        assert_eq!(described.rows, wanted.len() as u64, "the count equals the number of rows");
    }
    let again = merge(lake, direction, false).await;
    assert_eq!(again.outcome, MergeOutcome::UpToDate);
    let back = Direction { target: source, source: target, ..direction };
    let back = merge(lake, back, false).await;
    assert_eq!(back.conflicts, [], "and back");
    assert_eq!(rows(lake, source).await, rows(lake, target).await);
    for branch in [target, source] {
        check_ids(lake, branch, table).await;
    }
    if let Some((steps, wanted)) = &expected.then {
        for step in steps {
            make(lake, target, source, table, step).await;
        }
        assert_eq!(rows(lake, target).await.unwrap(), sorted(maps(&schema, wanted)));
    }
}

/// Checks that every row of a version 3 table has a unique row id.
pub async fn check_ids(lake: &Fixture, branch: &str, name: &TableName) {
    let view = lake.lake.view(&branch.parse().unwrap()).await.unwrap();
    let table = view.table(name).await.unwrap();
    if table.format_version() < 3 {
        return;
    }
    let tables = lake.lake.tables();
    let plan = tables.plan(&table, None).await.unwrap();
    let rows = tables.rewrites().read(&table, plan.files()).unwrap();
    let mut known = BTreeSet::new();
    for batch in rows.try_collect::<Vec<_>>().await.unwrap() {
        let ids = batch.column_by_name("_row_id").unwrap().as_primitive::<Int64Type>().clone();
        for id in &ids {
            assert!(
                known.insert(id.expect("each row has an id")),
                "{branch}: {id:?} is there twice"
            );
        }
    }
}

async fn check_conflict(lake: &Fixture, expected: &[Conflict], report: &MergeReport) {
    assert_eq!(report.outcome, MergeOutcome::Conflict, "{report:?}");
    assert_eq!(report.conflicts.len(), 1);
    let conflict = &report.conflicts[0];
    assert!(conflict.target.is_some() && conflict.source.is_some(), "both commits are named");
    let kinds: Vec<String> = conflict
        .causes
        .iter()
        .map(|cause| serde_json::to_value(cause.kind).unwrap().as_str().unwrap().to_owned())
        .collect();
    let wanted: Vec<&str> = expected.iter().map(|one| one.kind.as_str()).collect();
    assert_eq!(kinds, wanted, "{:?}", conflict.causes);
    for (cause, expected) in conflict.causes.iter().zip(expected) {
        if let Some(text) = &expected.says {
            assert!(cause.message.contains(text), "{text} is not in {}", cause.message);
        }
        if let Some(files) = expected.files {
            assert_eq!(cause.files_total, files, "{:?}", cause.files);
        }
        if let Some(rows) = &expected.rows {
            let view = lake.lake.view(&RefSpec::main()).await.unwrap();
            let table = named(lake, "main").await;
            let schema = view.table(&table).await.unwrap().schema();
            let found = sorted(maps(&schema, &cause.rows));
            assert_eq!(found, sorted(maps(&schema, rows)));
        }
    }
}

/// Checks that choosing a side takes the whole table of that side.
async fn check_choices(lake: &Fixture, table: &TableName, direction: Direction) {
    let Direction { target, source, .. } = direction;
    for (choice, how, from) in [
        (MergeChoice::Ours, MergeResolution::Ours, target),
        (MergeChoice::Theirs, MergeResolution::Theirs, source),
    ] {
        let branch = format!("{target}-{from}");
        let request = CreateRef {
            name: branch.clone(),
            from: Some(target.parse().unwrap()),
            if_not_exists: false,
        };
        lake.lake.catalog().create_branch(request).await.unwrap();
        let expected = rows(lake, from).await;
        let choices = [(table.clone(), choice)].into();
        let request = MergeRequest { choices, ..MergeRequest::new(source.parse().unwrap()) };
        let report = lake.lake.merge_with(&branch, request, direction.options()).await.unwrap();
        assert_eq!(report.outcome, MergeOutcome::Merged);
        assert_eq!(report.merged.len(), 1);
        assert_eq!(report.merged[0].how, how);
        assert!(!report.merged[0].causes.is_empty());
        assert_eq!(rows(lake, &branch).await, expected, "{how:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn added_rows() {
    play("append.yaml").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_rows() {
    play("changes.yaml").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_changes_of_transactions() {
    play("transactions.yaml").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_rows() {
    play("replace.yaml").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_and_properties() {
    play("schema.yaml").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rewritten_files() {
    play("compact.yaml").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cherry_picks_and_reverts() {
    play("cherry_picks.yaml").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renamed_tables() {
    play("renames.yaml").await;
}

#[tokio::test]
async fn layouts_merge() {
    play("layout.yaml").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nested_columns() {
    play("nested.yaml").await;
}
