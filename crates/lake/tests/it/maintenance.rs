//! Compaction, expiry and sweeps change no rows, remove no file that is referenced, and block no
//! writer.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use headwater_model::{
    Clock, ConflictKind, CreateRef, ErrorCode, FixedClock, MaintainReport, MaintainRequest,
    MaintainedTable, MergeOutcome, MergeRequest, RefSpec, SystemClock, TableName, ToProblem,
};
use headwater_tables::{Positions, RowRewrite, TablesOptions};
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::changes::{Step, make};
use crate::support::{Fixture, name, numbers, rows_of};

const DAY: Duration = Duration::from_hours(24);

/// Creates a lake with a table of a number and a text column. Returns the lake and its clock.
pub async fn lake(files: &[Value]) -> (Fixture, Arc<FixedClock>) {
    let clock = Arc::new(FixedClock::at(SystemClock.now()));
    let lake = Fixture::at(clock.clone()).await;
    step(
        &lake,
        "main",
        json!({"create": {"columns": [{"id": "long"}, {"text": "string"}], "files": files}}),
    )
    .await;
    (lake, clock)
}

async fn step(lake: &Fixture, branch: &str, step: Value) {
    let step: Step = serde_json::from_value(step).unwrap();
    make(lake, branch, "main", &name("t"), &step).await;
}

pub async fn append(lake: &Fixture, branch: &str, id: i64) {
    step(lake, branch, json!({"append": [[id, "new"]]})).await;
}

pub async fn maintain(lake: &Fixture, request: MaintainRequest) -> MaintainReport {
    try_maintain(lake, Some(&name("t")), request).await.unwrap()
}

async fn try_maintain(
    lake: &Fixture,
    table: Option<&TableName>,
    request: MaintainRequest,
) -> Result<MaintainReport, headwater_lake::Error> {
    let (progress, cancelled) = (Arc::new(|_, _| {}), CancellationToken::new());
    Box::pin(lake.lake.maintenance().run("main", table, &request, progress, cancelled)).await
}

fn compact() -> MaintainRequest {
    MaintainRequest { compact: true, ..MaintainRequest::default() }
}

fn orphans() -> MaintainRequest {
    MaintainRequest { orphans: true, ..MaintainRequest::default() }
}

fn expire() -> MaintainRequest {
    MaintainRequest { expire_before_seconds: Some(86_400), ..MaintainRequest::default() }
}

pub fn only(report: &MaintainReport) -> &MaintainedTable {
    assert_eq!(report.tables.len(), 1);
    &report.tables[0]
}

async fn branch(lake: &Fixture, name: &str, from: &str) {
    let from = Some(from.parse().unwrap());
    let request = CreateRef { name: name.into(), from, if_not_exists: false };
    lake.lake.catalog().create_branch(request).await.unwrap();
}

async fn head(lake: &Fixture, branch: &str) -> String {
    lake.lake.catalog().branch(branch).await.unwrap().commit.to_string()
}

pub async fn ids(lake: &Fixture, reference: &str) -> Vec<i64> {
    let rows = lake.rows_at(reference, "t").await;
    let mut ids: Vec<i64> = rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn small_files_are_compacted_without_changing_rows() {
    let (lake, _) = lake(&[json!([[0, "a"]])]).await;
    for id in 1..20 {
        append(&lake, "main", id).await;
    }
    let (before, commit) = (lake.rows("t").await, head(&lake, "main").await);
    let foreseen = maintain(&lake, MaintainRequest { dry_run: true, ..compact() }).await;
    assert_eq!(only(&foreseen).files_rewritten, 20);
    assert_eq!(head(&lake, "main").await, commit, "a dry run changes nothing");
    let report = maintain(&lake, compact()).await;
    let kept = only(&report);
    assert_eq!((kept.files_rewritten, kept.files_written, kept.files_after), (20, 1, 1));
    assert_eq!(lake.rows("t").await, before);
    let table = lake.lake.describe(&RefSpec::main(), &name("t")).await.unwrap();
    let view = lake.lake.view(&RefSpec::main()).await.unwrap();
    let summary = view.table(&name("t")).await.unwrap().summary();
    assert_eq!(summary["operation"], "replace");
    assert_eq!(table.rows, 20);
    let again = maintain(&lake, compact()).await;
    assert_eq!((only(&again).files_rewritten, only(&again).commit), (0, None), "nothing to do");
    let record = lake.lake.maintenance().record("main", &name("t")).await.unwrap().unwrap();
    assert_eq!(record.author, "maintenance");
}

#[tokio::test]
async fn compaction_applies_and_removes_delete_files() {
    let rows: Vec<Value> = (0..20).map(|id| json!([id, "a"])).collect();
    let (mut lake, _) = lake(&[json!(rows)]).await;
    lake.on_read = true;
    step(&lake, "main", json!({"delete": {"id": [1, 2, 3]}})).await;
    let view = lake.lake.view(&RefSpec::main()).await.unwrap();
    assert!(view.table(&name("t")).await.unwrap().has_deletes());
    let report = maintain(&lake, compact()).await;
    assert_eq!((only(&report).files_rewritten, only(&report).delete_files_removed), (1, 1));
    let view = lake.lake.view(&RefSpec::main()).await.unwrap();
    let table = view.table(&name("t")).await.unwrap();
    assert!(!table.has_deletes());
    assert_eq!(ids(&lake, "main").await.len(), 17);
    assert_eq!(table.rows(), 17);
}

/// Starts a transaction that deletes a row as SQL does. The test commits it later.
async fn begin_delete(lake: &Fixture, id: i64, strict: bool) -> headwater_lake::Transaction {
    let mut change = lake.lake.transaction("main", "eva").await.unwrap();
    let table = change.table(&name("t")).await.unwrap();
    let seen = lake.lake.tables().plan(&table, None).await.unwrap();
    let (mut removed, mut left, mut deletes) = (Vec::new(), Vec::new(), Vec::new());
    for file in seen.files().iter() {
        let files = std::slice::from_ref(file);
        let rows = lake.lake.tables().read(&table, files, None, None).unwrap();
        let batches: Vec<_> = futures::TryStreamExt::try_collect(rows).await.unwrap();
        let rows = headwater_lake::json_rows(&batches).unwrap();
        if let Some(at) = rows.iter().position(|row| row["id"] == id) {
            if lake.on_read {
                let mut gone = Positions::new();
                gone.insert(at as u64);
                deletes.push((file.clone(), gone));
            } else {
                removed.push(file.clone());
                let kept = batches[0].slice(0, at);
                let rest = batches[0].slice(at + 1, batches[0].num_rows() - at - 1);
                left.extend([Ok(kept), Ok(rest)]);
            }
        }
    }
    let rows = Box::pin(futures::stream::iter(left));
    let mut staged = change.write_rows(&name("t"), rows).await.unwrap();
    if !deletes.is_empty() {
        staged = staged.and(change.write_deletes(&name("t"), deletes).await.unwrap());
    }
    let unseen: Option<headwater_tables::FileFilter> = strict.then(|| Arc::new(|_: &_| true) as _);
    change.rewrite(&name("t"), RowRewrite { seen, removed, staged, unseen }).await.unwrap();
    change
}

#[tokio::test]
async fn a_change_concurrent_with_compaction_is_committed() {
    for (on_read, strict) in [(false, false), (false, true), (true, false), (true, true)] {
        let files = [json!([[1, "a"], [2, "b"], [3, "c"]]), json!([[4, "d"]]), json!([[5, "e"]])];
        let (mut lake, _) = lake(&files).await;
        lake.on_read = on_read;
        let delete = begin_delete(&lake, 2, strict).await;
        assert_eq!(only(&maintain(&lake, compact()).await).files_after, 1);
        delete.commit("delete").await.unwrap().unwrap();
        assert_eq!(ids(&lake, "main").await, [1, 3, 4, 5], "on read {on_read}, strict {strict}");
        let table = lake.lake.describe(&RefSpec::main(), &name("t")).await.unwrap();
        assert_eq!(table.rows, 4);
    }
}

#[tokio::test]
async fn a_change_concurrent_with_maintenance_keeps_the_import_list() {
    for on_read in [false, true] {
        let (mut lake, _) = lake(&[json!([[1, "a"], [2, "b"]]), json!([[3, "c"]])]).await;
        lake.on_read = on_read;
        lake.import_text("t", "first.csv", "id,text\n7,x\n").await.unwrap();
        let delete = begin_delete(&lake, 2, false).await;
        lake.import_text("t", "second.csv", "id,text\n8,x\n").await.unwrap();
        maintain(&lake, compact()).await;
        delete.commit("delete").await.unwrap().unwrap();
        let request = lake.request("t", &["first.csv", "second.csv"]);
        assert_eq!(lake.import(&request).await.unwrap().files_skipped, 2);
        assert_eq!(ids(&lake, "main").await, [1, 3, 7, 8]);
    }
}

#[tokio::test]
async fn many_delete_files_trigger_compaction() {
    let files: Vec<Value> = (0..4)
        .map(|file| json!((0..40).map(|id| json!([file * 100 + id, "a"])).collect::<Vec<_>>()))
        .collect();
    let (mut lake, _) = lake(&files).await;
    lake.on_read = true;
    let four = [("headwater.maintenance.delete-files".to_owned(), "4".to_owned())];
    let mut change = lake.lake.transaction("main", "eva").await.unwrap();
    change.set_properties(&name("t"), four.into()).await.unwrap();
    change.commit("properties").await.unwrap();
    for (file, needs) in [(0, false), (1, false), (2, false), (3, true)] {
        step(&lake, "main", json!({"delete": {"id": [file * 100]}})).await;
        let needed = lake.lake.maintenance().needed("main", &name("t")).await.unwrap();
        assert_eq!(needed.is_some(), needs);
    }
    let needed = lake.lake.maintenance().needed("main", &name("t")).await.unwrap().unwrap();
    assert_eq!(only(&maintain(&lake, needed).await).delete_files_removed, 4);
    assert!(lake.lake.maintenance().needed("main", &name("t")).await.unwrap().is_none(), "done");
    assert_eq!(ids(&lake, "main").await.len(), 156);
}

#[tokio::test]
async fn an_unreadable_table_does_not_prevent_maintenance_of_others() {
    let (lake, _) = lake(&[json!([[1, "a"]]), json!([[2, "b"]])]).await;
    let mut change = lake.lake.transaction("main", "eva").await.unwrap();
    change.create(&name("a"), crate::support::schema("id"), Vec::new(), [].into()).await.unwrap();
    change.append(&name("a"), rows_of(numbers("id", [1]))).await.unwrap();
    change.commit("another").await.unwrap();
    append_number(&lake, "a").await;
    let view = lake.lake.view(&RefSpec::main()).await.unwrap();
    let broken = view.table(&name("a")).await.unwrap();
    let folder = format!("{}/data", broken.location());
    drop((view, broken));
    let data = lake.lake.tables().files().list(Some(&folder)).await.unwrap();
    let data: Vec<String> = data.into_iter().map(|file| file.location).collect();
    lake.lake.tables().files().delete(&data).await.unwrap();
    let report = try_maintain(&lake, None, compact()).await.unwrap();
    let of = |table: &str| report.tables.iter().find(|kept| kept.table == name(table)).unwrap();
    assert!(
        of("a").skipped_reason.as_ref().is_some_and(|why| why.contains(".parquet")),
        "{report:?}"
    );
    assert_eq!(of("t").files_after, 1);
}

async fn append_number(lake: &Fixture, table: &str) {
    let mut change = lake.lake.transaction("main", "eva").await.unwrap();
    change.append(&name(table), rows_of(numbers("id", [2]))).await.unwrap();
    change.commit("append").await.unwrap();
}

#[tokio::test]
async fn other_changes_concurrent_with_compaction_are_committed() {
    let files = [json!([[1, "a"]]), json!([[2, "b"]])];
    let (lake, _) = lake(&files).await;
    let mut overwrite = lake.lake.transaction("main", "eva").await.unwrap();
    overwrite.overwrite(&name("t"), rows_of(numbers("id", [7]))).await.unwrap();
    maintain(&lake, compact()).await;
    overwrite.commit("overwrite").await.unwrap().unwrap();
    assert_eq!(ids(&lake, "main").await, [7]);
    append(&lake, "main", 8).await;
    let mut drop = lake.lake.transaction("main", "eva").await.unwrap();
    drop.drop(&name("t"), false).await.unwrap();
    assert_eq!(only(&maintain(&lake, compact()).await).files_written, 1);
    drop.commit("drop").await.unwrap().unwrap();
    assert!(!lake.has_table("t").await);
}

#[tokio::test]
async fn a_compaction_skips_files_changed_by_an_earlier_commit() {
    let (lake, _) = lake(&[json!([[1, "a"], [2, "b"]]), json!([[3, "c"]])]).await;
    let mut compaction = lake.lake.transaction("main", "maintenance").await.unwrap();
    let table = compaction.table(&name("t")).await.unwrap();
    let files = lake.lake.tables().plan(&table, None).await.unwrap().files().to_vec();
    let rows = lake.lake.tables().read(&table, &files, None, None).unwrap();
    compaction.compact(&name("t"), files, rows).await.unwrap();
    begin_delete(&lake, 2, true).await.commit("delete").await.unwrap().unwrap();
    let error = compaction.commit("arrange").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::CommitConflict);
    assert_eq!(ids(&lake, "main").await, [1, 3]);
    // Rows that are appended concurrently do not cause a conflict.
    let mut compaction = lake.lake.transaction("main", "maintenance").await.unwrap();
    let table = compaction.table(&name("t")).await.unwrap();
    let files = lake.lake.tables().plan(&table, None).await.unwrap().files().to_vec();
    let rows = lake.lake.tables().read(&table, &files, None, None).unwrap();
    compaction.compact(&name("t"), files, rows).await.unwrap();
    append(&lake, "main", 9).await;
    compaction.commit("arrange").await.unwrap().unwrap();
    assert_eq!(ids(&lake, "main").await, [1, 3, 9]);
}

#[tokio::test]
async fn a_protected_branch_can_be_maintained() {
    let (lake, _) = lake(&[json!([[1, "a"]]), json!([[2, "b"]])]).await;
    lake.lake.catalog().protect_branch("main", true).await.unwrap();
    assert_eq!(only(&maintain(&lake, compact()).await).files_after, 1);
}

#[tokio::test]
async fn expiry_removes_only_files_of_expired_states() {
    let (lake, clock) = lake(&[json!([[1, "a"], [2, "b"]])]).await;
    branch(&lake, "dev", "main").await;
    let tag = CreateRef { name: "v1".into(), from: None, if_not_exists: false };
    append(&lake, "main", 3).await;
    lake.lake.catalog().tags().create(tag).await.unwrap();
    step(&lake, "main", json!({"delete": {"id": 3}})).await;
    let old = head(&lake, "main").await;
    step(&lake, "main", json!({"overwrite": [[10, "x"], [11, "y"]]})).await;
    append(&lake, "dev", 5).await;
    clock.advance(2 * DAY);
    append(&lake, "main", 12).await;
    let recent = head(&lake, "main").await;
    append(&lake, "main", 13).await;
    let files = lake.data_files();
    let foreseen = maintain(&lake, MaintainRequest { dry_run: true, ..expire() }).await;
    assert_eq!(lake.data_files(), files, "a dry run removes nothing");
    let report = maintain(&lake, expire()).await;
    let removed = report.removed_files.clone().unwrap();
    assert_eq!(foreseen.removed_files.unwrap().states_expired, removed.states_expired);
    assert!(removed.files_expired > 0 && removed.orphans == 0, "{removed:?}");
    assert_eq!(ids(&lake, "main").await, [10, 11, 12, 13]);
    assert_eq!(ids(&lake, &format!("@{recent}")).await, [10, 11, 12], "recent enough");
    assert_eq!(ids(&lake, "v1").await, [1, 2, 3], "a tag keeps all");
    assert_eq!(ids(&lake, "dev").await, [1, 2, 5]);
    let view = lake.lake.view(&format!("@{old}").parse().unwrap()).await.unwrap();
    let table = match view.table(&name("t")).await {
        Ok(table) => lake.lake.tables().plan(&table, None).await.map(drop).map_err(Into::into),
        Err(error) => Err(error),
    };
    let error: headwater_lake::Error = table.unwrap_err();
    assert!(error.to_string().contains("is missing"), "{error}");
    assert!(error.hint().unwrap().contains("maintenance"));
    // A branch that diverged before files were removed can still be merged.
    let merge = MergeRequest::new("dev".parse().unwrap());
    let merged = lake.lake.merge("main", merge, "eva").await.unwrap();
    assert_eq!(merged.outcome, MergeOutcome::Conflict, "all rows were replaced: {merged:?}");
    step(&lake, "dev", json!({"delete": {"id": 5}})).await;
}

#[tokio::test]
async fn cherry_picked_rows_are_not_duplicated_after_expiry() {
    for (picks, forgets) in [(true, false), (true, true), (false, true)] {
        let clock = Arc::new(FixedClock::at(SystemClock.now()));
        // The cache is disabled, because it could contain removed metadata.
        let forget = |tables: &mut TablesOptions| tables.manifest_cache_bytes = 0;
        let lake = Fixture::at_with(clock.clone(), forget).await;
        let columns = json!([{"id": "long"}, {"text": "string"}]);
        let files = json!([[[0, "a"]]]);
        step(&lake, "main", json!({"create": {"columns": columns, "files": files}})).await;
        branch(&lake, "dev", "main").await;
        branch(&lake, "base", "main").await;
        append(&lake, "main", 1).await;
        step(&lake, "dev", json!({"append": [[2, "new"], [5, "new"]]})).await;
        if picks {
            let request = serde_json::from_value(json!({"commit": "dev"})).unwrap();
            let report = lake.lake.cherry_pick("main", request, "eva").await.unwrap();
            assert_eq!(report.outcome, MergeOutcome::Merged);
            step(&lake, "main", json!({"delete": {"id": 5}})).await;
        }
        append(&lake, "main", 3).await;
        append(&lake, "dev", 4).await;
        clock.advance(3 * DAY);
        let removed = maintain(&lake, expire()).await.removed_files.unwrap();
        assert!(removed.states_expired > 0, "{removed:?}");
        if forgets {
            forget_past(&lake, &["main", "dev", "base"]).await;
        }
        let report = lake.lake.merge("main", MergeRequest::new("dev".parse().unwrap()), "eva");
        let report = report.await.unwrap();
        if picks && forgets {
            assert_eq!(
                report.conflicts[0].causes[0].kind,
                ConflictKind::DuplicateCherryPick,
                "{report:?}"
            );
            assert_eq!(ids(&lake, "main").await, [0, 1, 2, 3]);
        } else {
            assert_eq!(report.conflicts, []);
            let more: &[i64] = if picks { &[] } else { &[5] };
            assert_eq!(ids(&lake, "main").await, [&[0, 1, 2, 3, 4], more].concat());
        }
    }
}

/// Removes all metadata files of a table, except the files of the heads of these refs.
async fn forget_past(lake: &Fixture, refs: &[&str]) {
    let mut kept = Vec::new();
    for one in refs {
        let view = lake.lake.view(&one.parse().unwrap()).await.unwrap();
        let location = view.table(&name("t")).await.unwrap().metadata_location().to_owned();
        kept.push(location.rsplit('/').next().unwrap().to_owned());
    }
    let store = lake.lake.tables().object_store().clone();
    let files: Vec<_> = store.list(None).try_collect().await.unwrap();
    for file in files {
        let name = file.location.filename().unwrap_or_default();
        if name.ends_with(".metadata.json") && !kept.iter().any(|kept| kept == name) {
            store.delete(&file.location).await.unwrap();
        }
    }
}

#[tokio::test]
async fn branches_can_be_merged_after_expiry() {
    let (lake, clock) = lake(&[json!([[1, "a"], [2, "b"]]), json!([[3, "c"]])]).await;
    branch(&lake, "dev", "main").await;
    append(&lake, "dev", 5).await;
    for id in 20..40 {
        append(&lake, "main", id).await;
    }
    step(&lake, "main", json!({"delete": {"id": 1}})).await;
    clock.advance(3 * DAY);
    maintain(&lake, compact()).await;
    let request = MaintainRequest { keep: Some(1), orphans: true, ..MaintainRequest::default() };
    let removed = maintain(&lake, request).await.removed_files.unwrap();
    assert!(removed.states_expired > 10, "{removed:?}");
    let merge = MergeRequest::new("dev".parse().unwrap());
    let merged = lake.lake.merge("main", merge, "eva").await.unwrap();
    assert_eq!(merged.outcome, MergeOutcome::Merged, "{merged:?}");
    let mut expected: Vec<i64> = vec![2, 3, 5];
    expected.extend(20..40);
    assert_eq!(ids(&lake, "main").await, expected);
}

#[tokio::test]
async fn files_of_a_deleted_branch_are_removed_after_the_grace_period() {
    let (lake, clock) = lake(&[json!([[1, "a"]])]).await;
    branch(&lake, "dev", "main").await;
    append(&lake, "dev", 2).await;
    let other: Step =
        serde_json::from_value(json!({"create": {"columns": [{"id": "long"}], "files": [[[1]]]}}))
            .unwrap();
    make(&lake, "dev", "main", &name("u"), &other).await;
    let commit = head(&lake, "dev").await;
    assert_eq!(lake.data_files(), 3);
    lake.lake.catalog().delete_branch("dev").await.unwrap();
    clock.advance(DAY);
    let removed = try_maintain(&lake, None, orphans()).await.unwrap().removed_files.unwrap();
    assert_eq!(removed.orphans, 0, "the branch may be restored: {removed:?}");
    assert_eq!(ids(&lake, &format!("@{commit}")).await, [1, 2]);
    clock.advance(3 * DAY);
    let view = lake.lake.view(&format!("@{commit}").parse().unwrap()).await.unwrap();
    let removed = try_maintain(&lake, None, orphans()).await.unwrap().removed_files.unwrap();
    assert_eq!(removed.orphans, 0, "a reader uses the files: {removed:?}");
    drop(view);
    let removed = try_maintain(&lake, None, orphans()).await.unwrap().removed_files.unwrap();
    assert!(removed.orphans > 4, "{removed:?}");
    assert_eq!(lake.data_files(), 1);
    assert_eq!(ids(&lake, "main").await, [1]);
}

#[tokio::test]
async fn files_of_running_writes_and_recent_files_are_kept() {
    let (lake, clock) = lake(&[json!([[1, "a"]])]).await;
    let mut writing = lake.lake.transaction("main", "eva").await.unwrap();
    writing.append(&name("t"), rows_of(numbers("id", [2]))).await.unwrap();
    let view = lake.lake.view(&RefSpec::main()).await.unwrap();
    let table = view.table(&name("t")).await.unwrap();
    let rows = rows_of(numbers("id", [3]));
    let _left_behind = lake.lake.tables().write(&table, rows).await.unwrap();
    drop((view, table));
    assert_eq!(lake.data_files(), 3);
    assert_eq!(maintain(&lake, orphans()).await.removed_files.unwrap().too_recent, 2);
    clock.advance(30 * DAY);
    let removed = maintain(&lake, orphans()).await.removed_files.unwrap();
    assert_eq!((removed.orphans, removed.too_recent), (0, 2), "a write is under way");
    writing.commit("append").await.unwrap().unwrap();
    let removed = maintain(&lake, orphans()).await.removed_files.unwrap();
    assert_eq!((removed.orphans, removed.too_recent), (1, 0));
    assert_eq!(ids(&lake, "main").await, [1, 2]);
    assert_eq!(lake.data_files(), 2);
}

#[tokio::test]
async fn a_table_with_a_missing_file_is_skipped() {
    for lost in ["list", "manifest"] {
        let (lake, clock) = lake(&[json!([[1, "a"]])]).await;
        append(&lake, "main", 2).await;
        let view = lake.lake.view(&RefSpec::main()).await.unwrap();
        let table = view.table(&name("t")).await.unwrap();
        let folder = table.location().strip_prefix(lake.lake.tables().root_url()).unwrap();
        let folder = format!("{}/warehouse{folder}", lake.lake_folder().display());
        drop((view, table));
        let all = lake.lake.tables().files().list(None).await.unwrap();
        let all: Vec<String> = all.into_iter().map(|file| file.location).collect();
        for entry in std::fs::read_dir(format!("{folder}/metadata")).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_string_lossy();
            let is_list = file.starts_with("snap-");
            let is_avro = path.extension().is_some_and(|ending| ending == "avro");
            if is_avro && is_list == (lost == "list") {
                std::fs::remove_file(path).unwrap();
            }
        }
        lake.lake.tables().files().forget(&all);
        clock.advance(30 * DAY);
        let removed = try_maintain(&lake, None, orphans()).await.unwrap().removed_files.unwrap();
        assert_eq!(removed.orphans, 0, "{lost}");
        assert_eq!(lake.data_files(), 2, "{lost}");
    }
}

/// Creates a second table, and an unreferenced file of the first table.
async fn another_and_an_orphan(lake: &Fixture) {
    let mut change = lake.lake.transaction("main", "eva").await.unwrap();
    change
        .create(&name("other"), crate::support::schema("id"), Vec::new(), [].into())
        .await
        .unwrap();
    change.append(&name("other"), rows_of(numbers("id", [1]))).await.unwrap();
    change.commit("another").await.unwrap();
    leave_orphan(lake, "other").await;
}

/// Writes an unreferenced data file.
async fn leave_orphan(lake: &Fixture, table: &str) {
    let view = lake.lake.view(&RefSpec::main()).await.unwrap();
    let table = view.table(&name(table)).await.unwrap();
    let rows = rows_of(numbers("id", [3]));
    drop(lake.lake.tables().write(&table, rows).await.unwrap());
}

/// Overwrites the metadata files of a table whose names satisfy a condition.
async fn spoil(lake: &Fixture, table: &str, is_such: impl Fn(&str) -> bool) -> usize {
    let view = lake.lake.view(&RefSpec::main()).await.unwrap();
    let table = view.table(&name(table)).await.unwrap();
    let folder = format!("{}/metadata", table.location());
    drop((view, table));
    let tables = lake.lake.tables();
    let mut spoiled = Vec::new();
    for file in tables.files().list(Some(&folder)).await.unwrap() {
        if is_such(file.path.filename().unwrap()) {
            let broken = bytes::Bytes::from_static(b"not what it was");
            tables.object_store().put(&file.path, broken.into()).await.unwrap();
            spoiled.push(file.location);
        }
    }
    tables.files().forget(&spoiled);
    spoiled.len()
}

#[tokio::test]
async fn an_unreadable_table_does_not_prevent_the_sweep_of_others() {
    let is_list = |file: &str| file.starts_with("snap-");
    let is_manifest = |file: &str| file.contains("-m");
    let is_metadata = |file: &str| file.ends_with(".metadata.json");
    let kinds: [&dyn Fn(&str) -> bool; 3] = [&is_list, &is_manifest, &is_metadata];
    for is_such in kinds {
        let (lake, clock) = lake(&[json!([[1, "a"]])]).await;
        append(&lake, "main", 2).await;
        another_and_an_orphan(&lake).await;
        leave_orphan(&lake, "t").await;
        let files = lake.data_files();
        assert!(spoil(&lake, "t", is_such).await >= 2);
        clock.advance(30 * DAY);
        let removed = try_maintain(&lake, None, orphans()).await.unwrap().removed_files.unwrap();
        assert_eq!(removed.orphans, 1, "only that of the other table: {removed:?}");
        assert_eq!(lake.data_files(), files - 1);
        assert_eq!(removed.skipped_tables.len(), 1, "{removed:?}");
        assert_eq!(removed.skipped_tables[0].table, name("t"));
        assert!(removed.skipped_tables[0].reason.contains("cannot be read"), "{removed:?}");
    }
}

#[tokio::test]
async fn a_table_with_an_unreadable_old_state_is_skipped() {
    let (lake, clock) = lake(&[json!([[1, "a"]])]).await;
    let view = lake.lake.view(&RefSpec::main()).await.unwrap();
    let old = view.table(&name("t")).await.unwrap().metadata_location().to_owned();
    drop(view);
    step(&lake, "main", json!({"overwrite": [[2, "b"]]})).await;
    another_and_an_orphan(&lake).await;
    let old = old.rsplit('/').next().unwrap().to_owned();
    assert_eq!(spoil(&lake, "t", |file| file == old).await, 1);
    let files = lake.data_files();
    clock.advance(30 * DAY);
    let removed = try_maintain(&lake, None, orphans()).await.unwrap().removed_files.unwrap();
    assert_eq!((removed.orphans, removed.skipped_tables.len()), (1, 1), "{removed:?}");
    assert_eq!(lake.data_files(), files - 1);
    // The files of the state may expire, so its unreadable metadata does not matter.
    clock.advance(30 * DAY);
    let request = MaintainRequest { keep: Some(1), ..orphans() };
    let removed = maintain(&lake, request).await.removed_files.unwrap();
    assert_eq!(removed.skipped_tables, [], "{removed:?}");
    assert_eq!(ids(&lake, "main").await, [2]);
    assert_eq!(lake.data_files(), files - 2);
}

#[tokio::test]
async fn a_table_with_foreign_files_does_not_prevent_the_sweep_of_others() {
    let (lake, clock) = lake(&[json!([[1, "a"]])]).await;
    let view = lake.lake.view(&RefSpec::main()).await.unwrap();
    let table = view.table(&name("t")).await.unwrap();
    let (location, root) = (table.metadata_location().to_owned(), table.location().to_owned());
    drop((view, table));
    let metadata = lake.lake.tables().files().read(&location).await.unwrap();
    let text = String::from_utf8(metadata.to_vec()).unwrap();
    let lists = format!("{root}/metadata/snap-");
    assert!(text.contains(&lists));
    let text = text.replace(&lists, "s3://another-bucket/snap-");
    let path = lake.lake.tables().path_of(&location).unwrap();
    lake.lake.tables().object_store().put(&path, text.into()).await.unwrap();
    lake.lake.tables().files().forget(&[location]);
    another_and_an_orphan(&lake).await;
    clock.advance(30 * DAY);
    let removed = try_maintain(&lake, None, orphans()).await.unwrap().removed_files.unwrap();
    assert_eq!((removed.orphans, removed.skipped_tables.len()), (1, 1), "{removed:?}");
    assert!(removed.skipped_tables[0].reason.contains("is outside the warehouse"), "{removed:?}");
    assert_eq!(lake.data_files(), 2, "what lies in its folder stays");
}

#[tokio::test]
async fn files_shared_with_an_unreadable_table_are_kept() {
    let (lake, clock) = lake(&[json!([[1, "a"]])]).await;
    let copy = register_copy(&lake).await;
    step(&lake, "main", json!({"overwrite": [[2, "b"]]})).await;
    let mut change = lake.lake.transaction("main", "eva").await.unwrap();
    change.append(&name("u"), rows_of(numbers("id", [5]))).await.unwrap();
    change.commit("append").await.unwrap();
    assert!(spoil(&lake, "u", |file| file.starts_with("snap-")).await > 0);
    let files = lake.data_files();
    clock.advance(30 * DAY);
    let request = MaintainRequest { keep: Some(1), ..orphans() };
    let removed = try_maintain(&lake, None, request).await.unwrap().removed_files.unwrap();
    assert_eq!(removed.skipped_tables.len(), 1, "{removed:?}");
    assert_eq!(lake.data_files(), files, "{copy}");
}

/// Registers a copy of `t` as the table `u`, with its files in the folder of `t`.
async fn register_copy(lake: &Fixture) -> String {
    let view = lake.lake.view(&RefSpec::main()).await.unwrap();
    let table = view.table(&name("t")).await.unwrap();
    let metadata = lake.lake.tables().files().read(table.metadata_location()).await.unwrap();
    let text = String::from_utf8(metadata.to_vec()).unwrap();
    let text = text.replace(&table.id(), "11111111-2222-3333-4444-555555555555");
    let place = format!("{}/copy", lake.lake.tables().root_url());
    let location = |place: &str| format!("\"location\":\"{place}\"");
    let text = text.replace(&location(table.location()), &location(&place));
    let copy = format!("{place}/metadata/00000-a.metadata.json");
    lake.lake.tables().files().write(&copy, text.into()).await.unwrap();
    drop((view, table));
    let mut register = lake.lake.transaction("main", "eva").await.unwrap();
    register.iceberg_rest().register(&name("u"), &copy, false).await.unwrap();
    register.commit("register").await.unwrap();
    copy
}

#[tokio::test]
async fn files_shared_with_another_table_are_kept() {
    let (lake, clock) = lake(&[json!([[1, "a"]])]).await;
    register_copy(&lake).await;
    step(&lake, "main", json!({"overwrite": [[2, "b"]]})).await;
    clock.advance(30 * DAY);
    let request = MaintainRequest { keep: Some(1), ..orphans() };
    assert_eq!(maintain(&lake, request).await.removed_files.unwrap().orphans, 0);
    assert_eq!(lake.rows("u").await.len(), 1);
    assert_eq!(ids(&lake, "main").await, [2]);
}

#[tokio::test]
async fn a_lost_database_does_not_empty_the_warehouse() {
    let clock = Arc::new(FixedClock::at(SystemClock.now()));
    let lake = Fixture::at(clock.clone()).await;
    let columns = json!({"create": {"columns": [{"id": "long"}, {"text": "string"}]}});
    step(&lake, "main", columns).await;
    for id in 0..40 {
        append(&lake, "main", id).await;
    }
    clock.advance(30 * DAY);
    let files = lake.data_files();
    let lost = lake.with_new_database(clock).await;
    let (progress, cancelled) = (Arc::new(|_, _| {}), CancellationToken::new());
    let error =
        lost.maintenance().run("main", None, &orphans(), progress.clone(), cancelled.clone()).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("more than half"), "{error}");
    assert!(error.hint().unwrap().contains("--force"));
    let automatic =
        MaintainRequest { author: Some("maintenance".into()), force: true, ..orphans() };
    let removed =
        lost.maintenance().run("main", None, &automatic, progress.clone(), cancelled.clone()).await;
    assert_eq!(removed.unwrap().removed_files.unwrap().orphans, 0, "no folder is known");
    assert_eq!(lake.data_files(), files);
    let forced = MaintainRequest { force: true, ..orphans() };
    let removed = lost.maintenance().run("main", None, &forced, progress, cancelled).await;
    assert!(removed.unwrap().removed_files.unwrap().orphans > 100);
}

#[tokio::test]
async fn expired_states_cannot_be_branched_or_merged() {
    let (lake, clock) = lake(&[json!([[1, "a"], [2, "b"]])]).await;
    append(&lake, "main", 3).await;
    let old = head(&lake, "main").await;
    step(&lake, "main", json!({"overwrite": [[10, "x"]]})).await;
    let overwrite = head(&lake, "main").await;
    clock.advance(2 * DAY);
    append(&lake, "main", 11).await;
    maintain(&lake, MaintainRequest { keep: Some(1), ..MaintainRequest::default() }).await;
    let request = headwater_model::RevertRequest {
        commit: Some(format!("@{overwrite}").parse().unwrap()),
        ..Default::default()
    };
    let reverted = lake.lake.revert("main", request, "eva").await;
    assert!(reverted.is_err() || ids(&lake, "main").await == [10, 11], "{reverted:?}");
    for name in ["again", "old"] {
        let from = Some(format!("@{old}").parse().unwrap());
        let request = CreateRef { name: name.into(), from, if_not_exists: false };
        let error = match name {
            "old" => lake.lake.create_tag(request).await.map(drop).unwrap_err(),
            _ => lake.lake.create_branch(request).await.map(drop).unwrap_err(),
        };
        assert!(error.to_string().contains("is missing"), "{error}");
    }
    assert_eq!(ids(&lake, "main").await, [10, 11]);
}

#[tokio::test]
async fn a_change_concurrent_with_expiry_is_committed() {
    let (lake, clock) = lake(&[json!([[1, "a"], [2, "b"]])]).await;
    append(&lake, "main", 3).await;
    clock.advance(2 * DAY);
    let delete = begin_delete(&lake, 2, true).await;
    assert_eq!(only(&maintain(&lake, expire()).await).snapshots_expired, 1);
    delete.commit("delete").await.unwrap().unwrap();
    assert_eq!(ids(&lake, "main").await, [1, 3]);
}

#[tokio::test]
async fn maintenance_skips_files_newer_than_a_running_write() {
    let (lake, clock) = lake(&[json!([[1, "a"]]), json!([[2, "b"]])]).await;
    clock.advance(DAY);
    let delete = begin_delete(&lake, 2, false).await;
    clock.advance(DAY);
    append(&lake, "main", 3).await;
    append(&lake, "main", 4).await;
    let report = maintain(&lake, compact()).await;
    assert_eq!((only(&report).files_rewritten, only(&report).files_after), (2, 3));
    delete.commit("delete").await.unwrap().unwrap();
    assert_eq!(ids(&lake, "main").await, [1, 3, 4]);
    assert_eq!(only(&maintain(&lake, compact()).await).files_after, 1);
}

#[tokio::test]
async fn files_are_sorted_or_z_ordered() {
    let rows = |from: i64| {
        json!((0..50).map(|i| json!([(i * 37 + from) % 100, format!("{i}")])).collect::<Vec<_>>())
    };
    let (lake, _) = lake(&[rows(0), rows(50)]).await;
    let before = ids(&lake, "main").await;
    let sort = MaintainRequest { sort: vec!["id desc".into()], ..MaintainRequest::default() };
    let report = maintain(&lake, sort).await;
    assert_eq!((only(&report).files_rewritten, only(&report).files_after), (2, 1));
    let sorted: Vec<i64> =
        lake.rows("t").await.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    assert!(sorted.is_sorted_by(|one, other| one >= other), "{sorted:?}");
    let zorder =
        MaintainRequest { zorder: vec!["id".into(), "text".into()], ..MaintainRequest::default() };
    assert_eq!(only(&maintain(&lake, zorder).await).files_written, 1);
    assert_eq!(ids(&lake, "main").await, before);
    let unknown = MaintainRequest { sort: vec!["idd".into()], ..MaintainRequest::default() };
    let error = try_maintain(&lake, Some(&name("t")), unknown).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ColumnNotFound);
    assert_eq!(error.hint().unwrap(), "Did you mean `id`?");
}

#[tokio::test]
async fn equivalent_file_locations_are_recognised() {
    let (lake, _) = lake(&[]).await;
    let (files, root) = (lake.lake.tables().files(), lake.lake.tables().root_url());
    assert_eq!(files.location_of(&format!("{root}//a/b")), format!("{root}/a/b"));
    assert_eq!(files.location_of(&format!("{root}/a/b")), format!("{root}/a/b"));
    assert_eq!(files.location_of("s3://elsewhere/a"), "s3://elsewhere/a");
}

#[tokio::test]
async fn invalid_requests_are_rejected() {
    let (lake, _) = lake(&[]).await;
    for request in [
        MaintainRequest { keep: Some(0), ..MaintainRequest::default() },
        MaintainRequest { zorder: vec!["id".into()], ..MaintainRequest::default() },
        MaintainRequest { orphans_older_than_seconds: Some(60), ..orphans() },
        MaintainRequest {
            sort: vec!["id".into()],
            zorder: vec!["a".into(), "b".into()],
            ..compact()
        },
    ] {
        let error = try_maintain(&lake, Some(&name("t")), request).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert!(error.hint().is_some());
    }
    let error = try_maintain(&lake, Some(&name("tt")), compact()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TableNotFound);
}
