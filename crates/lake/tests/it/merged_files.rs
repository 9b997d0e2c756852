//! Merges of branches that share files which an earlier merge, cherry-pick or revert brought to one
//! of them. Such files can contain rows of the merge base in a rewritten form.

use std::collections::BTreeMap;

use headwater_model::{
    CherryPickRequest, ConflictKind, CreateRef, MergeOutcome, MergeReport, MergeRequest,
    RevertRequest,
};
use headwater_tables::Alteration;
use serde_json::{Value, json};

use crate::changes::{Step, make};
use crate::merge_scenarios::check_ids;
use crate::support::{Fixture, name};

/// True if rows are deleted by delete files, and the format version of the table.
type Format = (bool, &'static str);

const FORMATS: [Format; 4] = [(false, "2"), (true, "2"), (false, "3"), (true, "3")];

fn step(text: Value) -> Step {
    serde_json::from_value(text).unwrap()
}

async fn lake(format: Format) -> Fixture {
    let mut lake = Fixture::with(|_| ()).await;
    (lake.on_read, lake.version) = format;
    lake
}

/// Plays a history on the table `t`. An event is a change of a branch, or `create`, `merge`, `pick`
/// or `revert` with the new or source ref and the branch.
async fn play(lake: &Fixture, events: &Value) {
    for event in events.as_array().unwrap() {
        let texts: Vec<&str> = event.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        match texts.as_slice() {
            ["create", new, from] => create(lake, new, from).await,
            ["merge", source, target] => merge(lake, target, source).await,
            ["pick", source, target] => {
                assert_eq!(pick(lake, source, target).await.conflicts, [], "{event}");
            }
            ["revert", commit, branch] => {
                let commit = Some(commit.parse().unwrap());
                let request = RevertRequest { commit, ..RevertRequest::default() };
                let report = lake.lake.revert(branch, request, "eva").await.unwrap();
                assert_eq!(report.outcome, MergeOutcome::Merged, "{event}: {report:?}");
            }
            _ => {
                let branch = texts[0];
                make(lake, branch, "", &name("t"), &step(event[1].clone())).await;
            }
        }
    }
}

async fn create(lake: &Fixture, new: &str, from: &str) {
    let from = Some(from.parse().unwrap());
    let request = CreateRef { name: new.to_owned(), from, if_not_exists: false };
    lake.lake.catalog().create_branch(request).await.unwrap();
}

async fn try_merge(lake: &Fixture, target: &str, source: &str) -> MergeReport {
    let request = MergeRequest::new(source.parse().unwrap());
    lake.lake.merge(target, request, "eva").await.unwrap()
}

async fn merge(lake: &Fixture, target: &str, source: &str) {
    let report = try_merge(lake, target, source).await;
    assert_eq!(report.outcome, MergeOutcome::Merged, "{source} into {target}: {report:?}");
}

async fn pick(lake: &Fixture, source: &str, target: &str) -> MergeReport {
    let request: CherryPickRequest = serde_json::from_value(json!({"commit": source})).unwrap();
    lake.lake.cherry_pick(target, request, "eva").await.unwrap()
}

async fn ids(lake: &Fixture, branch: &str) -> Vec<i64> {
    check_ids(lake, branch, &name("t")).await;
    let rows = lake.rows_at(branch, "t").await;
    let mut ids: Vec<i64> = rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    ids
}

/// Returns the column `n` by the column `id`.
async fn values(lake: &Fixture, branch: &str) -> BTreeMap<i64, i64> {
    let rows = lake.rows_at(branch, "t").await;
    rows.iter().map(|row| (row["id"].as_i64().unwrap(), row["n"].as_i64().unwrap())).collect()
}

/// The start of most histories: `feat` starts at `dev`, which has the rows 3, 4 and 5 in one file.
/// `main` added row 6, so that merges do not fast-forward.
fn stacked() -> Value {
    json!([
        ["main", {"create": {
            "columns": [{"id": "long"}, {"n": "long"}], "files": [[[1, 0], [2, 0]]],
        }}],
        ["create", "dev", "main"],
        ["main", {"append": [[6, 0]]}],
        ["dev", {"append": [[3, 0], [4, 0], [5, 0]]}],
        ["create", "feat", "dev"],
    ])
}

/// Plays `events` after the start in each format and merges `feat` and `main` in both directions.
/// Then checks the rows.
async fn check_stacked(events: &Value, expected: &[[i64; 2]]) {
    for format in FORMATS {
        for (target, source) in [("main", "feat"), ("feat", "main")] {
            let lake = lake(format).await;
            play(&lake, &stacked()).await;
            play(&lake, events).await;
            merge(&lake, target, source).await;
            let wanted_values: BTreeMap<i64, i64> =
                expected.iter().map(|row| (row[0], row[1])).collect();
            let what = format!("{source} into {target}, {format:?}: {events}");
            let wanted: Vec<i64> = expected.iter().map(|row| row[0]).collect();
            assert_eq!(ids(&lake, target).await, wanted, "{what}");
            assert_eq!(values(&lake, target).await, wanted_values, "{what}");
        }
    }
}

#[tokio::test]
async fn deletes_of_rows_in_a_merged_file_are_kept() {
    let formats = [(false, "2"), (true, "2"), (true, "3")];
    let directions = [("dev", "main"), ("main", "dev")];
    for ((on_read, version), (target, source)) in
        formats.into_iter().flat_map(|format| directions.map(|direction| (format, direction)))
    {
        let mut lake = Fixture::with(|_| ()).await;
        (lake.on_read, lake.version) = (on_read, version);
        let new = json!({"create": {"columns": [{"id": "long"}], "files": [[[1], [2]]]}});
        make(&lake, "main", "dev", &name("t"), &step(new)).await;
        create(&lake, "dev", "main").await;
        make(&lake, "main", "dev", &name("t"), &step(json!({"append": [[3], [4], [5]]}))).await;
        make(&lake, "dev", "main", &name("t"), &step(json!({"append": [[6]]}))).await;
        merge(&lake, "dev", "main").await;
        make(&lake, "main", "dev", &name("t"), &step(json!({"delete": {"id": 3}}))).await;
        make(&lake, "dev", "main", &name("t"), &step(json!({"delete": {"id": 4}}))).await;
        merge(&lake, target, source).await;
        let found = ids(&lake, target).await;
        assert_eq!(found, [1, 2, 5, 6], "into {target}, on read {on_read}, version {version}");
    }
}

#[tokio::test]
async fn a_branch_of_a_merged_branch_keeps_its_deletes() {
    let delete = json!(["feat", {"delete": {"id": 4}}]);
    let merged = json!(["merge", "dev", "main"]);
    for (change, expected) in [
        (json!({"delete": {"id": 3}}), vec![[1, 0], [2, 0], [5, 0], [6, 0]]),
        (json!("compact"), vec![[1, 0], [2, 0], [3, 0], [5, 0], [6, 0]]),
        (
            json!({"update": {"rows": {"id": 3}, "set": {"n": 9}}}),
            vec![[1, 0], [2, 0], [3, 9], [5, 0], [6, 0]],
        ),
        (json!({"append": [[7, 0]]}), vec![[1, 0], [2, 0], [3, 0], [5, 0], [6, 0], [7, 0]]),
    ] {
        let change = json!(["dev", change]);
        check_stacked(&json!([change, merged, delete]), &expected).await;
    }
}

#[tokio::test]
async fn a_branch_of_a_merged_branch_keeps_its_updates() {
    let events = json!([
        ["dev", {"delete": {"id": 3}}],
        ["merge", "dev", "main"],
        ["feat", {"update": {"rows": {"id": 4}, "set": {"n": 1}}}],
    ]);
    check_stacked(&events, &[[1, 0], [2, 0], [4, 1], [5, 0], [6, 0]]).await;
}

#[tokio::test]
async fn compaction_of_a_merged_delete_loses_and_restores_no_rows() {
    let update = json!(["feat", {"update": {"rows": {"id": 4}, "set": {"n": 1}}}]);
    let events = json!([
        ["dev", {"delete": {"id": 3}}],
        ["merge", "dev", "main"],
        ["main", "compact"],
        update,
    ]);
    check_stacked(&events, &[[1, 0], [2, 0], [4, 1], [5, 0], [6, 0]]).await;
    let events = json!([
        ["dev", {"delete": {"id": 3}}],
        ["merge", "dev", "main"],
        ["main", "compact"],
        ["feat", {"append": [[9, 0]]}],
        ["feat", "compact"],
    ]);
    check_stacked(&events, &[[1, 0], [2, 0], [4, 0], [5, 0], [6, 0], [9, 0]]).await;
    let events = json!([
        ["dev", {"update": {"rows": {"id": 3}, "set": {"n": 9}}}],
        ["merge", "dev", "main"],
        ["feat", "compact"],
    ]);
    check_stacked(&events, &[[1, 0], [2, 0], [3, 9], [4, 0], [5, 0], [6, 0]]).await;
}

#[tokio::test]
async fn a_merged_change_conflicts_with_changes_of_the_same_rows_and_of_dropped_columns() {
    for (change, kind) in [
        (json!({"delete": {"id": 3}}), ConflictKind::Rows),
        (json!({"drop_column": "n"}), ConflictKind::Column),
    ] {
        for (format, (target, source)) in FORMATS
            .into_iter()
            .flat_map(|format| [("main", "feat"), ("feat", "main")].map(|to| (format, to)))
        {
            let lake = lake(format).await;
            play(&lake, &stacked()).await;
            let events = json!([
                ["dev", {"update": {"rows": {"id": 3}, "set": {"n": 9}}}],
                ["merge", "dev", "main"],
                ["feat", change],
            ]);
            play(&lake, &events).await;
            let report = try_merge(&lake, target, source).await;
            let kinds: Vec<_> = report.conflicts.iter().flat_map(|one| &one.causes).collect();
            assert!(kinds.iter().any(|cause| cause.kind == kind), "{format:?}: {report:?}");
        }
    }
}

#[tokio::test]
async fn a_merge_that_removes_rows_is_not_recorded_as_a_compaction() {
    for format in FORMATS {
        let lake = lake(format).await;
        play(&lake, &stacked()).await;
        let events = json!([
            ["dev", {"delete": {"id": 3}}],
            ["merge", "dev", "main"],
            ["feat", {"append": [[8, 0]]}],
            ["merge", "main", "feat"],
        ]);
        play(&lake, &events).await;
        assert_eq!(ids(&lake, "feat").await, [1, 2, 4, 5, 6, 8]);
        let view = lake.lake.view(&"feat".parse().unwrap()).await.unwrap();
        let table = view.table(&name("t")).await.unwrap();
        let snapshot = table.metadata().current_snapshot().unwrap();
        assert_eq!(snapshot.summary().operation.as_str(), "overwrite", "{format:?}");
    }
}

#[tokio::test]
async fn a_cherry_picked_delete_applies_to_files_that_a_merge_brought() {
    for format in FORMATS {
        let lake = lake(format).await;
        play(&lake, &stacked()).await;
        let events = json!([
            ["merge", "dev", "main"],
            ["dev", {"delete": {"id": 3}}],
            ["dev", {"delete": {"id": 4}}],
            ["pick", "dev", "main"],
        ]);
        play(&lake, &events).await;
        assert_eq!(ids(&lake, "main").await, [1, 2, 3, 5, 6], "{format:?}");
    }
}

#[tokio::test]
async fn deletes_apply_to_merged_files_with_rows_of_a_cherry_picked_commit() {
    let events = json!([
        ["main", {"create": {"columns": [{"id": "long"}, {"n": "long"}], "files": [[[1, 0]]]}}],
        ["create", "dev", "main"],
        ["create", "feat", "main"],
        ["dev", {"append": [[7, 0]]}],
        ["feat", {"append": [[3, 0], [4, 0], [5, 0]]}],
        ["pick", "feat", "dev"],
        ["feat", {"delete": {"id": 3}}],
        ["main", {"append": [[6, 0]]}],
        ["merge", "feat", "main"],
        ["dev", {"delete": {"id": 4}}],
    ]);
    for format in FORMATS {
        for (target, source) in [("main", "dev"), ("dev", "main")] {
            let lake = lake(format).await;
            play(&lake, &events).await;
            merge(&lake, target, source).await;
            assert_eq!(ids(&lake, target).await, [1, 5, 6, 7], "{target} {format:?}");
        }
    }
}

#[tokio::test]
async fn deletes_are_kept_in_files_that_a_revert_added_again() {
    let events = json!([
        ["merge", "dev", "main"],
        ["create", "merged", "main"],
        ["create", "late", "main"],
        ["main", {"delete": {"id": 3}}],
        ["main", {"append": [[7, 0]]}],
        ["revert", "merged", "main"],
        ["create", "reverted", "main"],
        ["main", {"append": [[8, 0]]}],
        ["revert", "reverted", "main"],
        ["late", {"delete": {"id": 4}}],
    ]);
    for format in FORMATS {
        for (target, source) in [("main", "late"), ("late", "main")] {
            let lake = lake(format).await;
            play(&lake, &stacked()).await;
            play(&lake, &events).await;
            merge(&lake, target, source).await;
            assert_eq!(ids(&lake, target).await, [1, 2, 5, 6, 7, 8], "{target} {format:?}");
        }
    }
}

#[tokio::test]
async fn row_ids_stay_unique_if_the_source_merged_the_base_or_the_base_was_merged() {
    for on_read in [false, true] {
        let one = lake((on_read, "3")).await;
        play(&one, &stacked()).await;
        let events = json!([
            ["merge", "dev", "main"],
            ["dev", {"update": {"rows": {"id": 3}, "set": {"n": 1}}}],
            ["merge", "dev", "main"],
        ]);
        play(&one, &events).await;
        assert_eq!(ids(&one, "main").await, [1, 2, 3, 4, 5, 6]);
        let other = lake((on_read, "3")).await;
        play(&other, &stacked()).await;
        let events = json!([
            ["main", {"append": [[10, 0], [11, 0], [12, 0], [13, 0]]}],
            ["merge", "main", "dev"],
            ["main", {"append": [[20, 0]]}],
            ["merge", "dev", "main"],
        ]);
        play(&other, &events).await;
        assert_eq!(ids(&other, "main").await, [1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 20]);
    }
}

#[tokio::test]
async fn a_cherry_picked_revert_does_not_double_rows_that_the_target_still_has() {
    for format in FORMATS {
        for (deleted, outcome) in
            [(vec![3, 4], MergeOutcome::Conflict), (vec![4], MergeOutcome::UpToDate)]
        {
            let lake = lake(format).await;
            let rows = json!([[[3, 0], [4, 0], [5, 0]]]);
            let columns = json!([{"id": "long"}, {"n": "long"}]);
            let new = json!({"create": {"columns": columns, "files": rows}});
            play(&lake, &json!([["main", new], ["create", "dev", "main"]])).await;
            for id in deleted {
                play(&lake, &json!([["main", {"delete": {"id": id}}]])).await;
            }
            play(&lake, &json!([["create", "bad", "main"], ["revert", "bad", "main"]])).await;
            let report = pick(&lake, "main", "dev").await;
            assert_eq!(report.outcome, outcome, "{format:?}: {report:?}");
            assert_eq!(ids(&lake, "dev").await, [3, 4, 5], "{format:?}");
        }
    }
}

#[tokio::test]
async fn branches_of_an_empty_table_are_merged_again_after_a_compaction() {
    for format in FORMATS {
        for (target, source) in [("main", "dev"), ("dev", "main")] {
            let lake = lake(format).await;
            let events = json!([
                ["main", {"create": {"columns": [{"id": "long"}, {"n": "long"}], "files": []}}],
                ["create", "dev", "main"],
                ["main", {"append": [[6, 0]]}],
                ["dev", {"append": [[3, 0], [4, 0], [5, 0]]}],
                ["merge", "dev", "main"],
                ["main", "compact"],
                ["dev", {"delete": {"id": 4}}],
            ]);
            play(&lake, &events).await;
            merge(&lake, target, source).await;
            assert_eq!(ids(&lake, target).await, [3, 5, 6], "{target} {format:?}");
        }
    }
}

/// With this limit, a merge that compares rows is a conflict.
async fn lake_without_comparisons(format: Format) -> Fixture {
    let mut lake = Fixture::with(|tables| tables.merge_rows_max = 0).await;
    (lake.on_read, lake.version) = format;
    lake
}

#[tokio::test]
async fn merges_of_appended_and_compacted_files_compare_no_rows() {
    // In version 3, a merge rewrites compacted files of another branch with new row ids.
    for format in [FORMATS[0], FORMATS[1]] {
        for (target, source) in [("main", "feat"), ("feat", "main")] {
            let lake = lake_without_comparisons(format).await;
            let columns = json!([{"id": "long"}, {"n": "long"}, {"p": "long"}]);
            let new = json!({"columns": columns, "partition": ["p"], "files": [[[1, 0, 0]]]});
            let events = json!([
                ["main", {"create": new}],
                ["create", "dev", "main"],
                ["main", {"append": [[6, 0, 0]]}],
                ["dev", {"append": [[3, 0, 1], [4, 0, 1]]}],
                ["dev", {"append": [[5, 0, 1]]}],
                ["create", "feat", "dev"],
                ["dev", "compact"],
                ["merge", "dev", "main"],
                ["feat", {"delete": {"id": 4}}],
            ]);
            play(&lake, &events).await;
            merge(&lake, target, source).await;
            assert_eq!(ids(&lake, target).await, [1, 3, 5, 6], "{target} {format:?}");
        }
    }
}

#[tokio::test]
async fn a_branch_that_merged_appends_is_merged_without_comparisons() {
    for format in FORMATS {
        for (target, source) in [("main", "dev"), ("dev", "main")] {
            let lake = lake_without_comparisons(format).await;
            play(&lake, &stacked()).await;
            let events = json!([
                ["merge", "main", "dev"],
                ["main", {"append": [[7, 0]]}],
                ["dev", {"append": [[8, 0]]}],
                ["merge", "main", "dev"],
                ["main", {"delete": {"id": 1}}],
                ["dev", {"delete": {"id": 4}}],
                ["main", {"append": [[9, 0]]}],
            ]);
            play(&lake, &events).await;
            merge(&lake, target, source).await;
            assert_eq!(ids(&lake, target).await, [2, 3, 5, 6, 7, 8, 9], "{target} {format:?}");
        }
    }
}

#[tokio::test]
async fn equal_keys_conflict_if_a_merge_brought_compacted_and_appended_rows() {
    for format in FORMATS {
        for (target, source) in [("main", "feat"), ("feat", "main")] {
            let lake = lake(format).await;
            let columns = json!([{"id": "long"}, {"n": "long"}, {"p": "long"}]);
            let new = json!({"columns": columns, "partition": ["p"], "files": [[[1, 0, 0]]]});
            play(&lake, &json!([["main", {"create": new}]])).await;
            let mut change = lake.lake.transaction("main", "eva").await.unwrap();
            let keys = Alteration::Identify(vec!["id".to_owned()]);
            change.alter(&name("t"), vec![keys]).await.unwrap();
            change.commit("keys").await.unwrap();
            let events = json!([
                ["create", "dev", "main"],
                ["main", {"set": {"a": "b"}}],
                ["dev", {"append": [[3, 0, 1], [4, 0, 1]]}],
                ["create", "feat", "dev"],
                ["dev", {"append": [[9, 1, 1]]}],
                ["dev", "compact"],
                ["merge", "dev", "main"],
                ["feat", {"append": [[9, 2, 1]]}],
            ]);
            play(&lake, &events).await;
            let report = try_merge(&lake, target, source).await;
            let causes: Vec<_> = report.conflicts.iter().flat_map(|one| &one.causes).collect();
            let is_found = causes.iter().any(|cause| cause.kind == ConflictKind::Keys);
            assert!(is_found, "{target} {format:?}: {report:?}");
        }
    }
}
