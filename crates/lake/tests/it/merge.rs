//! Merges: choices, limits, cherry-pick, revert, and cancellation.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use headwater_model::{
    CherryPickRequest, ConflictKind, CreateRef, ErrorCode, MergeChoice, MergeOutcome, MergeReport,
    MergeRequest, MergeResolution, PROPERTY_JOB, PROPERTY_PICKED, PROPERTY_REVERTED, RefSpec,
    RevertRequest, ToProblem,
};
use serde_json::json;

use crate::changes::{NewTable, Step, make};
use crate::support::{Fixture, name, numbers, rows_of, schema};

fn step(text: serde_json::Value) -> Step {
    serde_json::from_value(text).unwrap()
}

/// Creates two branches that both changed `t` without a conflict, and `u` by the given steps.
async fn parted(lake: &Fixture, ours: &Step, theirs: &Step) {
    let columns = vec![[("id".to_owned(), "long".to_owned())].into()];
    let files = vec![vec![json!([1]), json!([2]), json!([3])]];
    let new = NewTable { columns, files, partition: Vec::new(), properties: [].into() };
    for table in ["t", "u"] {
        make(lake, "main", "dev", &name(table), &Step::Create(new.clone())).await;
    }
    let request = CreateRef { name: "dev".into(), from: None, if_not_exists: false };
    lake.lake.catalog().create_branch(request).await.unwrap();
    make(lake, "main", "dev", &name("t"), &step(json!({"delete": {"id": 1}}))).await;
    make(lake, "dev", "main", &name("t"), &step(json!({"delete": {"id": 3}}))).await;
    make(lake, "main", "dev", &name("u"), ours).await;
    make(lake, "dev", "main", &name("u"), theirs).await;
}

fn dev() -> MergeRequest {
    MergeRequest::new("dev".parse().unwrap())
}

#[tokio::test]
async fn the_row_comparison_limit_applies_to_all_tables_together() {
    // For each of the two tables, the merge compares three files of 3, 2 and 2 rows.
    for (rows_max, merges) in [(14, true), (13, false), (7, false)] {
        let lake = Fixture::with(|tables| tables.merge_rows_max = rows_max).await;
        let (ours, theirs) = (json!({"delete": {"id": 2}}), json!({"delete": {"id": 3}}));
        parted(&lake, &step(ours), &step(theirs)).await;
        let report = lake.lake.merge("main", dev(), "eva").await.unwrap();
        if merges {
            assert_eq!(report.outcome, MergeOutcome::Merged);
            continue;
        }
        assert_eq!(report.conflicts.len(), 1, "one was within the limit");
        assert_eq!(report.conflicts[0].table, name("u"));
        let cause = &report.conflicts[0].causes[0];
        assert_eq!(cause.kind, ConflictKind::TooManyRows);
        assert!(cause.message.contains(&format!("more than {rows_max} rows")), "{}", cause.message);
    }
}

#[tokio::test]
async fn choices_for_missing_tables_are_rejected() {
    let lake = Fixture::with(|_| ()).await;
    let (ours, theirs) = (json!({"append": [[4]]}), json!({"overwrite": [[5]]}));
    parted(&lake, &step(ours), &step(theirs)).await;
    let choose = |tables: &[(&str, MergeChoice)]| {
        let choices = tables.iter().map(|(table, choice)| (name(table), *choice)).collect();
        MergeRequest { choices, ..dev() }
    };
    let (ours, theirs) = (MergeChoice::Ours, MergeChoice::Theirs);
    let error = lake.lake.merge("main", choose(&[("uu", ours)]), "eva").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TableNotFound);
    assert_eq!(error.hint().unwrap(), "Did you mean `u`?");
    let both = choose(&[("u", ours), ("U", theirs)]);
    let error = lake.lake.merge("main", both, "eva").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(error.to_string().contains("`u`"), "{error}");
    let report = lake.lake.merge("main", choose(&[("U", theirs)]), "eva").await.unwrap();
    assert_eq!(report.outcome, MergeOutcome::Merged);
    let hows: Vec<MergeResolution> = report.merged.iter().map(|merged| merged.how).collect();
    assert_eq!(hows, [MergeResolution::ByContent, MergeResolution::Theirs]);
    assert_eq!(lake.rows("u").await, [json!({"id": 5})]);
}

/// A future that is dropped after it was polled a number of times.
struct Abandoned<F>(Option<Pin<Box<F>>>, usize);

impl<F: Future> Future for Abandoned<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(left) = self.1.checked_sub(1) else {
            self.0 = None;
            return Poll::Ready(None);
        };
        self.1 = left;
        match self.0.as_mut() {
            Some(future) => future.as_mut().poll(context).map(Some),
            None => Poll::Ready(None),
        }
    }
}

/// Lists all files of the lake's tables.
async fn files(lake: &Fixture) -> BTreeSet<String> {
    let listed = lake.lake.tables().object_store().list(None);
    listed.map_ok(|file| file.location.to_string()).try_collect().await.unwrap()
}

#[tokio::test]
async fn a_cancelled_merge_leaves_no_files() {
    let lake = Fixture::slow().await;
    let (ours, theirs) = (json!({"delete": {"id": 2}}), json!({"delete": {"id": 3}}));
    parted(&lake, &step(ours), &step(theirs)).await;
    let before = files(&lake).await;
    let mut most = before.len();
    for polls in 0.. {
        let merging = lake.lake.merge("main", dev(), "eva");
        let report: Option<Result<MergeReport, _>> =
            Abandoned(Some(Box::pin(merging)), polls).await;
        if let Some(report) = report {
            assert_eq!(report.unwrap().outcome, MergeOutcome::Merged);
            break;
        }
        most = most.max(files(&lake).await.len());
        let deadline = Instant::now() + Duration::from_secs(10);
        while files(&lake).await != before {
            assert!(Instant::now() < deadline, "{polls}: something is left");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    // Four files of the first table: a data file, a manifest, the manifest list and the metadata.
    assert!(most >= before.len() + 4, "it was given up late as well: {most}");
    assert_eq!(lake.rows("t").await, [json!({"id": 2})]);
    assert_eq!(lake.rows("u").await, [json!({"id": 1})]);
}

/// Creates a lake with a table, and a branch `dev`.
async fn with_table(files: serde_json::Value) -> Fixture {
    let lake = Fixture::with(|_| ()).await;
    let columns = json!([{"id": "long"}, {"n": "long"}]);
    let new = step(json!({"create": {"columns": columns, "files": files}}));
    make(&lake, "main", "dev", &name("t"), &new).await;
    let request = CreateRef { name: "dev".into(), from: None, if_not_exists: false };
    lake.lake.catalog().create_branch(request).await.unwrap();
    lake
}

/// Makes a change in one commit, and returns the commit.
async fn commit(lake: &Fixture, branch: &str, text: serde_json::Value) -> RefSpec {
    make(lake, branch, "", &name("t"), &step(text)).await;
    head(lake, branch).await
}

async fn head(lake: &Fixture, branch: &str) -> RefSpec {
    let head = lake.lake.catalog().branch(branch).await.unwrap().commit;
    RefSpec::Commit(head.to_string())
}

async fn ids(lake: &Fixture, branch: &str) -> Vec<[i64; 2]> {
    let rows = lake.rows_at(branch, "t").await;
    let pair = |row: &serde_json::Value| [&row["id"], &row["n"]].map(|n| n.as_i64().unwrap());
    let mut rows: Vec<_> = rows.iter().map(pair).collect();
    rows.sort_unstable();
    rows
}

fn pick(commit: &RefSpec) -> CherryPickRequest {
    let request = json!({"commit": commit.to_string()});
    serde_json::from_value(request).unwrap()
}

fn undo(commit: &RefSpec) -> RevertRequest {
    RevertRequest { commit: Some(commit.clone()), ..RevertRequest::default() }
}

#[tokio::test]
async fn a_cherry_pick_applies_only_one_commit() {
    let lake = with_table(json!([[[1, 1], [2, 2]]])).await;
    commit(&lake, "dev", json!({"append": [[3, 3]]})).await;
    commit(&lake, "dev", json!({"delete": {"id": 1}})).await;
    let picked = commit(
        &lake,
        "dev",
        json!({"update": {"rows": {"id": 2}, "set": {"n": 20}, "add": [[4, 4]]}}),
    );
    let picked = picked.await;
    commit(&lake, "main", json!({"append": [[9, 9]]})).await;
    let before = lake.lake.catalog().branch("main").await.unwrap().commit;
    let dry = CherryPickRequest { dry_run: true, ..pick(&picked) };
    assert_eq!(
        lake.lake.cherry_pick("main", dry, "eva").await.unwrap().outcome,
        MergeOutcome::Merged
    );
    assert_eq!(lake.lake.catalog().branch("main").await.unwrap().commit, before);
    let report = lake.lake.cherry_pick("main", pick(&picked), "eva").await.unwrap();
    assert_eq!((report.outcome, report.tables), (MergeOutcome::Merged, vec![name("t")]));
    assert_eq!(ids(&lake, "main").await, [[1, 1], [2, 20], [4, 4], [9, 9]]);
    let made = lake.lake.catalog().read_commit(report.commit).await.unwrap();
    assert_eq!((made.parents, made.author.as_str()), (vec![before], "eva"));
    assert_eq!(made.properties[PROPERTY_PICKED], picked.to_string().trim_start_matches('@'));
    assert!(made.message.starts_with("a step\n"), "{}", made.message);
}

#[tokio::test]
async fn cherry_picked_rows_are_not_merged_twice() {
    let lake = with_table(json!([[[1, 1], [2, 2]]])).await;
    commit(&lake, "dev", json!({"delete": {"id": 1}})).await;
    let picked = commit(&lake, "dev", json!({"append": [[3, 3]]})).await;
    commit(&lake, "dev", json!({"append": [[4, 4]]})).await;
    lake.lake.cherry_pick("main", pick(&picked), "eva").await.unwrap();
    assert_eq!(ids(&lake, "main").await, [[1, 1], [2, 2], [3, 3]]);
    let again = lake.lake.cherry_pick("main", pick(&picked), "eva").await.unwrap();
    assert_eq!(again.outcome, MergeOutcome::UpToDate);
    let merged = lake.lake.merge("main", dev(), "eva").await.unwrap();
    assert_eq!(merged.conflicts, []);
    assert_eq!(ids(&lake, "main").await, [[2, 2], [3, 3], [4, 4]]);
}

#[tokio::test]
async fn a_cherry_pick_of_a_merged_commit_is_up_to_date() {
    let lake = with_table(json!([[[1, 1], [2, 2]]])).await;
    let own = commit(&lake, "main", json!({"append": [[3, 3]]})).await;
    let taken = commit(&lake, "dev", json!({"append": [[4, 4]]})).await;
    lake.lake.cherry_pick("main", pick(&taken), "eva").await.unwrap();
    commit(&lake, "main", json!({"append": [[5, 5]]})).await;
    commit(&lake, "main", json!("compact")).await;
    for commit in [&own, &taken] {
        let again = lake.lake.cherry_pick("main", pick(commit), "eva").await.unwrap();
        assert_eq!(again.outcome, MergeOutcome::UpToDate);
    }
    assert_eq!(ids(&lake, "main").await, [[1, 1], [2, 2], [3, 3], [4, 4], [5, 5]]);
}

#[tokio::test]
async fn rows_cherry_picked_through_another_branch_are_merged_once() {
    for (on_read, version) in [(false, "2"), (true, "3")] {
        for (compacts, source) in [(true, "dev"), (true, "main"), (false, "dev"), (false, "main")] {
            let mut lake = with_table(json!([[[1, 1]]])).await;
            (lake.on_read, lake.version) = (on_read, version);
            let drop = commit(&lake, "main", json!("drop")).await;
            assert!(matches!(drop, RefSpec::Commit(_)));
            let columns = json!([{"id": "long"}, {"n": "long"}]);
            let create = json!({"create": {"columns": columns, "files": [[[1, 1], [2, 2]]]}});
            commit(&lake, "main", create).await;
            for name in ["work", "third"] {
                let from = Some("main".parse().unwrap());
                let request = CreateRef { name: name.into(), from, if_not_exists: false };
                lake.lake.catalog().create_branch(request).await.unwrap();
            }
            let source = if source == "dev" { "work" } else { source };
            for branch in ["main", "third"] {
                let own = if branch == "main" { 8 } else { 9 };
                commit(&lake, branch, json!({"append": [[own, own]]})).await;
            }
            // The cherry-picked commit also rewrites rows that the target does not have.
            commit(&lake, "work", json!({"append": [[3, 3], [4, 4]]})).await;
            let changed = json!({"update": {"rows": {"id": 1}, "set": {"n": 10}, "add": [[5, 5]]}});
            let changed = commit(&lake, "work", changed).await;
            lake.lake.cherry_pick("main", pick(&changed), "eva").await.unwrap();
            let picked = head(&lake, "main").await;
            lake.lake.cherry_pick("third", pick(&picked), "eva").await.unwrap();
            if compacts {
                commit(&lake, "main", json!("compact")).await;
                commit(&lake, "third", json!("compact")).await;
            }
            let request = MergeRequest::new(source.parse().unwrap());
            let report = lake.lake.merge("third", request, "eva").await.unwrap();
            assert_eq!(report.conflicts, [], "{source} {compacts} {version}");
            let mut expected = vec![[1, 10], [2, 2], [5, 5], [9, 9]];
            match source {
                "main" => expected.push([8, 8]),
                _ => expected.extend([[3, 3], [4, 4]]),
            }
            expected.sort_unstable();
            assert_eq!(ids(&lake, "third").await, expected, "{source} {compacts} {version}");
            assert!(version == "2" || row_ids(&lake, "third").await.len() == expected.len());
        }
    }
}

#[tokio::test]
async fn a_table_renamed_on_both_sides_is_not_duplicated() {
    let lake = with_table(json!([[[1, 1]]])).await;
    for (branch, to) in [("main", "t1"), ("dev", "t2")] {
        let mut change = lake.lake.transaction(branch, "eva").await.unwrap();
        change.rename(&name("t"), &name(to)).await.unwrap();
        change.commit("rename").await.unwrap();
    }
    for dry_run in [true, false] {
        let request = MergeRequest { dry_run, ..dev() };
        let error = lake.lake.merge("main", request, "eva").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert!(
            error.to_string().contains("`t1`") && error.to_string().contains("`t2`"),
            "{error}"
        );
    }
    assert!(!lake.has_table("t2").await);
    let mut change = lake.lake.transaction("dev", "eva").await.unwrap();
    change.rename(&name("t2"), &name("t1")).await.unwrap();
    change.commit("rename").await.unwrap();
    let report = lake.lake.merge("main", dev(), "eva").await.unwrap();
    assert_eq!(report.conflicts, []);
    assert_eq!(lake.rows("t1").await.len(), 1);
}

#[tokio::test]
async fn a_cherry_pick_of_a_change_to_missing_rows_conflicts() {
    let lake = with_table(json!([[[1, 1], [2, 2]]])).await;
    commit(&lake, "dev", json!({"append": [[3, 3]]})).await;
    let picked =
        commit(&lake, "dev", json!({"update": {"rows": {"id": 3}, "set": {"n": 30}}})).await;
    let report = lake.lake.cherry_pick("main", pick(&picked), "eva").await.unwrap();
    assert_eq!(report.outcome, MergeOutcome::Conflict);
    assert_eq!(report.conflicts[0].causes[0].kind, ConflictKind::Rows);
    let replaced = commit(&lake, "dev", json!({"overwrite": [[7, 7]]})).await;
    let report = lake.lake.cherry_pick("main", pick(&replaced), "eva").await.unwrap();
    assert_eq!(report.conflicts[0].causes[0].kind, ConflictKind::Replaced);
    let choices = [(name("t"), MergeChoice::Theirs)].into();
    let request = CherryPickRequest { choices, ..pick(&replaced) };
    lake.lake.cherry_pick("main", request, "eva").await.unwrap();
    assert_eq!(ids(&lake, "main").await, [[7, 7]]);
}

#[tokio::test]
async fn a_cherry_pick_from_quarantine_requires_unchecked() {
    let lake = with_table(json!([[[1, 1]]])).await;
    let picked = commit(&lake, "dev", json!({"append": [[3, 3]]})).await;
    lake.lake.catalog().quarantine_branch("dev", Some("j-1")).await.unwrap();
    let error = lake.lake.cherry_pick("main", pick(&picked), "eva").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::BranchProtected);
    let request = CherryPickRequest { unchecked: true, ..pick(&picked) };
    lake.lake.cherry_pick("main", request, "eva").await.unwrap();
    assert_eq!(ids(&lake, "main").await, [[1, 1], [3, 3]]);
}

#[tokio::test]
async fn a_revert_keeps_later_changes() {
    let lake = with_table(json!([[[1, 1], [2, 2]]])).await;
    let append = commit(&lake, "main", json!({"append": [[3, 3]]})).await;
    let update =
        commit(&lake, "main", json!({"update": {"rows": {"id": 1}, "set": {"n": 10}}})).await;
    let delete = commit(&lake, "main", json!({"delete": {"id": 2}})).await;
    commit(&lake, "main", json!({"append": [[4, 4]]})).await;
    commit(&lake, "main", json!("compact")).await;
    for (commit, expected) in [
        (&append, vec![[1, 10], [4, 4]]),
        (&delete, vec![[1, 10], [2, 2], [4, 4]]),
        (&update, vec![[1, 1], [2, 2], [4, 4]]),
    ] {
        let report = lake.lake.revert("main", undo(commit), "eva").await.unwrap();
        assert_eq!((report.outcome, report.conflicts), (MergeOutcome::Merged, vec![]));
        assert_eq!(ids(&lake, "main").await, expected);
        let made = lake.lake.catalog().read_commit(report.commit).await.unwrap();
        assert_eq!(made.properties[PROPERTY_REVERTED], commit.to_string().trim_start_matches('@'));
        assert!(made.message.starts_with("Revert \"a step\"\n"), "{}", made.message);
    }
    // A revert can itself be reverted, and then applied again.
    let undone = head(&lake, "main").await;
    lake.lake.revert("main", undo(&undone), "eva").await.unwrap();
    assert_eq!(ids(&lake, "main").await, [[1, 10], [2, 2], [4, 4]]);
    commit(&lake, "main", json!({"update": {"rows": {"id": 1}, "set": {"n": 11}}})).await;
    let report = lake.lake.revert("main", undo(&update), "eva").await.unwrap();
    assert_eq!(report.conflicts[0].causes[0].kind, ConflictKind::Rows);
    let error = lake.lake.revert("dev", undo(&update), "eva").await.unwrap_err();
    assert!(error.to_string().contains("is not in the history of `dev`"), "{error}");
}

#[tokio::test]
async fn the_first_append_and_a_replacement_can_be_reverted() {
    let lake = with_table(json!([])).await;
    let first = commit(&lake, "main", json!({"append": [[1, 1]]})).await;
    commit(&lake, "main", json!({"append": [[2, 2]]})).await;
    lake.lake.revert("main", undo(&first), "eva").await.unwrap();
    assert_eq!(ids(&lake, "main").await, [[2, 2]]);
    let replaced = commit(&lake, "main", json!({"overwrite": [[7, 7]]})).await;
    lake.lake.revert("main", undo(&replaced), "eva").await.unwrap();
    assert_eq!(ids(&lake, "main").await, [[2, 2]]);
    let replaced = commit(&lake, "main", json!({"overwrite": [[8, 8]]})).await;
    commit(&lake, "main", json!({"append": [[9, 9]]})).await;
    let report = lake.lake.revert("main", undo(&replaced), "eva").await.unwrap();
    assert_eq!(report.conflicts[0].causes[0].kind, ConflictKind::Replaced);
}

#[tokio::test]
async fn a_reverted_import_can_be_repeated() {
    let lake = with_table(json!([[[1, 1]]])).await;
    let import = json!({"import": {"file": "a.csv", "text": "id,n\n2,2\n"}});
    let imported = commit(&lake, "main", import.clone()).await;
    commit(&lake, "main", json!({"append": [[3, 3]]})).await;
    lake.lake.revert("main", undo(&imported), "eva").await.unwrap();
    assert_eq!(ids(&lake, "main").await, [[1, 1], [3, 3]]);
    commit(&lake, "main", import).await;
    assert_eq!(ids(&lake, "main").await, [[1, 1], [2, 2], [3, 3]]);
}

#[tokio::test]
async fn a_revert_includes_all_tables_of_the_commit() {
    let lake = with_table(json!([[[1, 1]]])).await;
    let mut both = lake.lake.transaction("main", "eva").await.unwrap();
    both.append(&name("t"), rows_of(numbers("id", [2]))).await.unwrap();
    both.replace(&name("u"), schema("id"), Vec::new(), rows_of(numbers("id", [1]))).await.unwrap();
    both.property(PROPERTY_JOB, "j-1");
    both.commit("both").await.unwrap();
    commit(&lake, "main", json!({"append": [[9, 9]]})).await;
    let of_run = RevertRequest { run: Some("j-1".into()), ..RevertRequest::default() };
    let part = RevertRequest { tables: vec![name("U")], ..of_run.clone() };
    let error = lake.lake.revert("main", part.clone(), "eva").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(error.to_string().contains("also changed `t`"), "{error}");
    assert!(error.hint().unwrap().contains("`--partial`"));
    let other = RevertRequest { tables: vec![name("x")], ..of_run.clone() };
    let error = lake.lake.revert("main", other, "eva").await.unwrap_err();
    assert!(error.to_string().contains("did not change table `x`"), "{error}");
    let copy = CreateRef { name: "copy".into(), from: None, if_not_exists: false };
    lake.lake.catalog().create_branch(copy).await.unwrap();
    let partial = RevertRequest { partial: true, ..part };
    let report = lake.lake.revert("copy", partial, "eva").await.unwrap();
    assert_eq!(report.tables, [name("u")]);
    assert_eq!(lake.rows_at("copy", "t").await.len(), 3);
    let report = lake.lake.revert("main", of_run.clone(), "eva").await.unwrap();
    assert_eq!(report.tables, [name("t"), name("u")]);
    assert!(!lake.has_table("u").await);
    assert_eq!(ids(&lake, "main").await, [[1, 1], [9, 9]]);
    let unknown = RevertRequest { run: Some("j-2".into()), ..RevertRequest::default() };
    let error = lake.lake.revert("main", unknown, "eva").await.unwrap_err();
    assert!(error.to_string().contains("`j-2`"), "{error}");
}

/// Returns the row id of each row, by the value of column `id`.
async fn row_ids(lake: &Fixture, branch: &str) -> BTreeMap<i64, i64> {
    let view = lake.lake.view(&branch.parse().unwrap()).await.unwrap();
    let table = view.table(&name("t")).await.unwrap();
    let tables = lake.lake.tables();
    let plan = tables.plan(&table, None).await.unwrap();
    let rows = tables.rewrites().read(&table, plan.files()).unwrap();
    let mut found = BTreeMap::new();
    for batch in rows.try_collect::<Vec<_>>().await.unwrap() {
        let column = |name: &str| {
            let column = batch.column_by_name(name).unwrap();
            column.as_primitive::<Int64Type>().values().to_vec()
        };
        found.extend(column("id").into_iter().zip(column("_row_id")));
    }
    let distinct: BTreeSet<i64> = found.values().copied().collect();
    assert_eq!(distinct.len(), found.len(), "{found:?}");
    found
}

#[tokio::test]
async fn a_revert_keeps_the_ids_of_other_rows() {
    let mut lake = Fixture::with(|_| ()).await;
    (lake.on_read, lake.version) = (true, "3");
    let files = json!([[[1, 0], [2, 0], [3, 0], [4, 0]]]);
    let new = step(json!({"create": {"columns": [{"id": "long"}, {"n": "long"}], "files": files}}));
    make(&lake, "main", "dev", &name("t"), &new).await;
    let first = row_ids(&lake, "main").await;
    make(&lake, "main", "dev", &name("t"), &step(json!({"delete": {"id": 2}}))).await;
    let delete = head(&lake, "main").await;
    make(&lake, "main", "dev", &name("t"), &step(json!({"append": [[9, 0]]}))).await;
    let report = lake.lake.revert("main", undo(&delete), "eva").await.unwrap();
    assert_eq!(report.outcome, MergeOutcome::Merged);
    let all = row_ids(&lake, "main").await;
    assert_eq!(all.len(), 5);
    assert!(first.iter().all(|(row, id)| all[row] == *id), "{first:?} {all:?}");
}

#[tokio::test]
async fn row_ids_of_another_branch_are_not_reused() {
    let mut lake = Fixture::with(|_| ()).await;
    lake.version = "3";
    let columns = json!([{"id": "long"}, {"p": "string"}]);
    let create = json!({"columns": columns, "partition": ["p"], "files": [[[1, "a"]]]});
    make(&lake, "main", "dev", &name("t"), &step(json!({"create": create}))).await;
    let request = CreateRef { name: "dev".into(), from: None, if_not_exists: false };
    lake.lake.catalog().create_branch(request).await.unwrap();
    make(&lake, "main", "dev", &name("t"), &step(json!({"append": [[5, "m"]]}))).await;
    for rows in [json!([[6, "d"]]), json!([[7, "d"]])] {
        make(&lake, "dev", "main", &name("t"), &step(json!({"append": rows}))).await;
    }
    make(&lake, "dev", "main", &name("t"), &step(json!("compact"))).await;
    make(&lake, "dev", "main", &name("t"), &step(json!({"delete": {"p": "d"}}))).await;
    let delete = head(&lake, "dev").await;
    lake.lake.revert("dev", undo(&delete), "eva").await.unwrap();
    let picked = head(&lake, "dev").await;
    let report = lake.lake.cherry_pick("main", pick(&picked), "eva").await.unwrap();
    assert_eq!(report.outcome, MergeOutcome::Merged, "{report:?}");
    assert_eq!(row_ids(&lake, "main").await.len(), 4);
}

/// Merges two conflicting branches into `main` concurrently.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_concurrent_conflicting_merges_one_reports_a_conflict() {
    let lake = Fixture::new().await;
    // The second lake shares no locks with the first, as if it were another process.
    let other = crate::storage::open_lake(&lake.lake_folder()).await;
    for round in 0..6 {
        let table = name(&format!("t{round}"));
        let create = json!({"create": {
            "columns": [{"id": "long"}, {"x": "string"}],
            "files": [[[1, "a"], [2, "b"]]],
        }});
        make(&lake, "main", "main", &table, &step(create)).await;
        let branches = [format!("one{round}"), format!("two{round}")];
        for branch in &branches {
            let request = CreateRef { name: branch.clone(), from: None, if_not_exists: false };
            lake.lake.catalog().create_branch(request).await.unwrap();
            let update = json!({"update": {"rows": {"id": 1}, "set": {"x": branch}}});
            make(&lake, branch, "main", &table, &step(update)).await;
        }
        let request = |branch: &String| MergeRequest::new(branch.parse().unwrap());
        let merges = (
            Box::pin(lake.lake.merge("main", request(&branches[0]), "eva")),
            Box::pin(other.merge("main", request(&branches[1]), "adam")),
        );
        let reports: [MergeReport; 2] = tokio::try_join!(merges.0, merges.1).unwrap().into();
        let lost = reports.iter().position(|report| report.outcome == MergeOutcome::Conflict);
        let lost = lost.expect("one of them conflicts");
        assert_ne!(reports[1 - lost].outcome, MergeOutcome::Conflict, "{reports:?}");
        let conflict = &reports[lost].conflicts[0];
        assert_eq!((&conflict.table, conflict.causes[0].kind), (&table, ConflictKind::Rows));
        let expected = |value: &String| [json!({"id": 1, "x": value}), json!({"id": 2, "x": "b"})];
        let rows = async |branch: &str| {
            let mut rows = lake.rows_at(branch, &table.to_string()).await;
            rows.sort_by_key(|row| row["id"].as_i64());
            rows
        };
        assert_eq!(rows("main").await, expected(&branches[1 - lost]));
        assert_eq!(rows(&branches[lost]).await, expected(&branches[lost]), "nothing is lost");
        let choices = [(table.clone(), MergeChoice::Theirs)].into();
        let settled = MergeRequest { choices, ..request(&branches[lost]) };
        lake.lake.merge("main", settled, "eva").await.unwrap();
        assert_eq!(rows("main").await, expected(&branches[lost]));
    }
}

#[tokio::test]
async fn an_incomplete_search_for_a_commit_reports_a_range() {
    // The merge reads three rows of each state, and each step of the search reads three rows, too.
    for (rows_max, exact) in [(1_000, true), (20, false)] {
        let lake = Fixture::with(|tables| tables.merge_rows_max = rows_max).await;
        let update = |id: i64, to: i64| json!({"update": {"rows": {"id": id}, "set": {"id": to}}});
        parted(&lake, &step(update(2, 20)), &step(update(2, 30))).await;
        let blamed = lake.lake.catalog().branch("main").await.unwrap().commit;
        for id in 0..8 {
            let more = step(json!({"append": [[100 + id]]}));
            make(&lake, "main", "dev", &name("u"), &more).await;
        }
        let report = lake.lake.merge("main", dev(), "eva").await.unwrap();
        let conflict = &report.conflicts[0];
        assert_eq!(conflict.causes[0].kind, ConflictKind::Rows);
        let target = conflict.target.as_ref().unwrap();
        assert_eq!(conflict.target_after.is_none(), exact);
        assert_eq!(target.id == blamed, exact);
    }
}
