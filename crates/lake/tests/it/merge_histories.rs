//! A property test of histories of three branches with merges from any commit, cherry-picks and
//! reverts: no change is lost, and no removed row returns.

use std::collections::{BTreeMap, BTreeSet};

use headwater_model::{
    CommitId, ConflictKind, CreateRef, MergeConflict, MergeOutcome, RevertRequest,
};
use proptest::prelude::*;
use proptest::test_runner::Config;
use serde_json::json;

use crate::merge_property::{Change, Effect, Model, Row, Two, run};

/// A step of a history with few conflicts: ids are never used again, and a removed row is never
/// added again.
#[derive(Debug, Clone)]
enum Move {
    Make(usize, Change),
    Remember(usize, usize),
    Merge(usize, usize),
    /// Applies the last change of one branch to another branch.
    Pick(usize, usize),
    /// Reverts the last change of a branch, if it added rows and no cherry-pick has repeated it.
    Revert(usize),
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 1..=2)
}

fn rewrite() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => bytes().prop_map(Change::Delete),
        2 => any::<u8>().prop_map(Change::Renew),
        2 => Just(Change::Compact),
    ]
}

/// A branch that starts at a remembered commit of another branch. Both rewrite the rows of this
/// commit, and are merged into the third branch.
fn stacked() -> impl Strategy<Value = Vec<Move>> {
    let picks = proptest::collection::vec(any::<u8>(), 3..=4);
    let parts = (0..3_usize, picks, rewrite(), rewrite(), any::<[bool; 2]>());
    parts.prop_map(|(target, rows, one, other, [compacts, picks])| {
        let (first, second) = ((target + 1) % 3, (target + 2) % 3);
        let mut moves = vec![
            Move::Make(target, Change::Append(vec![0])),
            Move::Make(first, Change::Append(rows)),
            Move::Remember(first, 0),
            Move::Merge(0, second),
            Move::Make(first, one),
            Move::Remember(first, 1),
            Move::Merge(1, target),
        ];
        moves.extend(compacts.then_some(Move::Make(target, Change::Compact)));
        moves.push(Move::Make(second, other));
        if picks {
            moves.push(Move::Pick(second, target));
        } else {
            moves.extend([Move::Remember(second, 2), Move::Merge(2, target)]);
        }
        moves
    })
}

/// Rows of one branch are cherry-picked into a second branch. Both branches rewrite these rows, and
/// are merged into the third branch.
fn picked() -> impl Strategy<Value = Vec<Move>> {
    let picks = proptest::collection::vec(any::<u8>(), 3..=4);
    let parts = (0..3_usize, picks, rewrite(), rewrite());
    parts.prop_map(|(target, rows, one, other)| {
        let (first, second) = ((target + 1) % 3, (target + 2) % 3);
        vec![
            Move::Make(second, Change::Append(vec![0])),
            Move::Make(target, Change::Append(vec![0])),
            Move::Make(first, Change::Append(rows)),
            Move::Pick(first, second),
            Move::Make(first, one),
            Move::Remember(first, 1),
            Move::Merge(1, target),
            Move::Make(second, other),
            Move::Remember(second, 2),
            Move::Merge(2, target),
        ]
    })
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let change = prop_oneof![
        5 => bytes().prop_map(Change::Append),
        7 => rewrite(),
        1 => any::<u8>().prop_map(Change::AddColumn),
    ];
    let one = prop_oneof![
        6 => (0..3_usize, change).prop_map(|(branch, change)| Move::Make(branch, change)),
        4 => (0..3_usize, 0..4_usize).prop_map(|(branch, place)| Move::Remember(branch, place)),
        5 => (0..4_usize, 0..3_usize).prop_map(|(place, branch)| Move::Merge(place, branch)),
        3 => (0..3_usize, 0..3_usize).prop_map(|(from, branch)| Move::Pick(from, branch)),
        1 => (0..3_usize).prop_map(Move::Revert),
    ];
    let some = prop_oneof![12 => one.prop_map(|one| vec![one]), 1 => stacked(), 1 => picked()];
    proptest::collection::vec(some, 4..28).prop_map(|some| some.concat())
}

const BRANCHES: [&str; 3] = ["main", "dev", "third"];

/// All rows and columns that were added or removed up to a commit.
#[derive(Debug, Clone, Default)]
struct Past {
    came: BTreeMap<i64, Row>,
    went: BTreeSet<i64>,
    columns: BTreeSet<String>,
}

impl Past {
    fn model(&self) -> Model {
        let mut rows = self.came.clone();
        rows.retain(|id, _| !self.went.contains(id));
        Model { rows, columns: self.columns.clone(), properties: BTreeMap::new() }
    }

    fn take(&mut self, other: &Past) {
        self.came.extend(other.came.clone());
        self.went.extend(&other.went);
        self.columns.extend(other.columns.iter().cloned());
    }
}

/// The branches of a test, and the expected rows of each branch.
struct Histories {
    two: Two,
    heads: [Past; 3],
    /// The newest commit of each branch that changed rows, with its effect.
    newest: [Option<(CommitId, Past)>; 3],
    /// The remembered commits.
    places: Vec<(CommitId, Past)>,
    /// The commits that were cherry-picked.
    picked: Vec<CommitId>,
}

impl Histories {
    async fn new(version: &'static str, on_read: bool) -> Histories {
        let (two, base) = Two::new([false, on_read], version, &[vec![1, 2, 3], vec![4, 5]]).await;
        let third = CreateRef { name: "third".into(), from: None, if_not_exists: false };
        two.lake.lake.catalog().create_branch(third).await.unwrap();
        let past = Past { came: base.rows, ..Past::default() };
        let start = two.lake.lake.catalog().branch("main").await.unwrap().commit;
        Histories {
            two,
            heads: [past.clone(), past.clone(), past.clone()],
            newest: [None, None, None],
            places: vec![(start, past); 4],
            picked: Vec::new(),
        }
    }

    async fn head(&self, branch: usize) -> CommitId {
        self.two.lake.lake.catalog().branch(BRANCHES[branch]).await.unwrap().commit
    }

    async fn make(&mut self, at: usize, branch: usize, change: &Change) {
        let mut model = self.heads[branch].model();
        let before = self.head(branch).await;
        let next = (at as i64 + 1) * 1000;
        let change = std::slice::from_ref(change);
        let effects = self.two.change(BRANCHES[branch], &mut model, change, next).await;
        let mut did = Past::default();
        match &effects[0] {
            Effect::Append(rows) => did.came.extend(rows.clone()),
            Effect::Change(before, after) => {
                did.went.extend(before.keys());
                did.came.extend(after.clone());
            }
            Effect::AddColumn(column) => {
                did.columns.insert(column.clone());
            }
            _ => {}
        }
        self.heads[branch].take(&did);
        // A cherry-pick of this commit also adds columns that the other branch never had.
        did.columns = self.heads[branch].columns.clone();
        let head = self.head(branch).await;
        if head != before {
            let is_update = !did.came.is_empty() && !did.went.is_empty();
            self.newest[branch] = (!is_update).then_some((head, did));
        }
    }

    async fn pick(&mut self, from: usize, branch: usize) -> Result<(), TestCaseError> {
        let Some((commit, mut did)) = self.newest[from].clone() else { return Ok(()) };
        let request = json!({"commit": format!("@{commit}")});
        let request = serde_json::from_value(request).unwrap();
        let picked = self.two.lake.lake.cherry_pick(BRANCHES[branch], request, "eva").await;
        let outcome = picked.unwrap().outcome;
        // A cherry-pick removes only rows that exist on the target.
        let here = self.heads[branch].model().rows;
        did.went.retain(|id| here.contains_key(id));
        match outcome {
            MergeOutcome::Merged => self.heads[branch].take(&did),
            MergeOutcome::UpToDate => prop_assert!(did.went.is_empty(), "{:?}", did),
            _ => {}
        }
        self.picked.push(commit);
        Ok(())
    }

    async fn revert(&mut self, branch: usize) {
        let Some((commit, did)) = self.newest[branch].clone() else { return };
        if did.came.is_empty() || self.picked.contains(&commit) {
            return;
        }
        let commit = Some(format!("@{commit}").parse().unwrap());
        let request = RevertRequest { commit, ..RevertRequest::default() };
        let report = self.two.lake.lake.revert(BRANCHES[branch], request, "eva").await.unwrap();
        if report.outcome == MergeOutcome::Merged {
            self.heads[branch].went.extend(did.came.keys());
            self.newest[branch] = None;
        }
    }

    async fn merge(&mut self, place: usize, branch: usize) -> Result<(), TestCaseError> {
        let (commit, past) = &self.places[place];
        let report = self.two.merge(BRANCHES[branch], &format!("@{commit}")).await;
        for conflict in &report.conflicts {
            check_harmless(conflict, past, &self.heads[branch])?;
        }
        if report.outcome != MergeOutcome::Conflict {
            self.heads[branch].take(past);
        }
        Ok(())
    }
}

async fn crosswise(moves: Vec<Move>) -> Result<(), TestCaseError> {
    let version = if moves.len().is_multiple_of(3) { "3" } else { "2" };
    let on_read = moves.len().is_multiple_of(2);
    replay(moves, version, on_read).await
}

async fn replay(
    moves: Vec<Move>,
    version: &'static str,
    on_read: bool,
) -> Result<(), TestCaseError> {
    let mut all = Histories::new(version, on_read).await;
    for (at, one) in moves.iter().enumerate() {
        let branch = match one {
            Move::Remember(branch, place) => {
                all.places[*place] = (all.head(*branch).await, all.heads[*branch].clone());
                continue;
            }
            Move::Make(branch, change) => {
                all.make(at, *branch, change).await;
                continue;
            }
            Move::Pick(from, branch) => {
                all.pick(*from, *branch).await?;
                *branch
            }
            Move::Revert(branch) => {
                all.revert(*branch).await;
                *branch
            }
            Move::Merge(place, branch) => {
                all.merge(*place, *branch).await?;
                *branch
            }
        };
        prop_assert_eq!(all.two.found(BRANCHES[branch]).await, all.heads[branch].model());
    }
    Ok(())
}

/// Checks that a conflict is acceptable: both sides removed all of its rows. Such a conflict occurs
/// if one side first copied the row into a rewritten file, which the merge cannot detect.
fn check_harmless(conflict: &MergeConflict, one: &Past, other: &Past) -> Result<(), TestCaseError> {
    for cause in &conflict.causes {
        // After later changes, the merge cannot distinguish the cherry-picked rows from other rows.
        // Several merge bases are first merged into one, which can have the same conflict.
        let kinds = [ConflictKind::DuplicateCherryPick, ConflictKind::AmbiguousMergeBase];
        if kinds.contains(&cause.kind) {
            continue;
        }
        prop_assert_eq!(cause.kind, ConflictKind::Rows, "{:?}", cause);
        prop_assert!(!cause.rows.is_empty());
        for row in &cause.rows {
            let id = row["id"].as_i64().unwrap();
            prop_assert!(one.went.contains(&id) && other.went.contains(&id), "{:?}", cause);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(Config { cases: 50, failure_persistence: None, ..Config::default() })]

    #[test]
    fn merges_from_any_commit_lose_no_change_and_restore_no_removed_row(moves in moves()) {
        run(crosswise(moves))?;
    }
}

fn append(branch: usize, rows: &[u8]) -> Move {
    Move::Make(branch, Change::Append(rows.to_vec()))
}

fn delete(branch: usize, rows: &[u8]) -> Move {
    Move::Make(branch, Change::Delete(rows.to_vec()))
}

/// The second cherry-pick compares two table states whose metadata files list different ancestors
/// of the same merge.
#[test]
fn a_cherry_pick_of_rows_with_a_merged_parent_is_merged_once() {
    let moves = vec![
        append(1, &[0]),
        append(2, &[0]),
        append(0, &[0]),
        append(1, &[0, 0, 0]),
        Move::Remember(1, 0),
        Move::Merge(0, 2),
        delete(1, &[1]),
        Move::Remember(1, 1),
        Move::Merge(1, 0),
        delete(2, &[42, 37]),
        Move::Pick(2, 0),
        append(0, &[0]),
        Move::Pick(0, 2),
        Move::Make(0, Change::Compact),
        Move::Remember(2, 2),
        Move::Merge(2, 0),
    ];
    run(replay(moves, "2", true)).expect("each row is there once");
}

/// The first merge adds a file and assigns new row ids to its rows. The second merge rewrites this
/// file.
#[test]
fn rewritten_rows_of_an_earlier_merge_keep_the_row_ids_of_the_target() {
    let moves = vec![
        append(2, &[244, 96, 197]),
        Move::Remember(2, 0),
        Move::Merge(0, 0),
        Move::Make(2, Change::Renew(216)),
        delete(0, &[4]),
        append(2, &[0]),
        append(0, &[85, 23, 236]),
        delete(0, &[252, 25]),
        Move::Remember(0, 1),
        Move::Merge(1, 2),
        delete(0, &[78, 59]),
        Move::Remember(0, 1),
        Move::Merge(1, 2),
    ];
    run(replay(moves, "3", false)).expect("each row id is there once");
}

/// The cherry-pick of a delete removes one row from `dev`, which never had the other row. The
/// target of both merges has both rows.
#[test]
fn a_merge_removes_rows_that_the_target_of_a_cherry_pick_did_not_have() {
    let moves = vec![
        append(2, &[0]),
        append(1, &[0, 0, 0]),
        Move::Pick(1, 2),
        delete(1, &[178]),
        delete(2, &[236]),
        append(2, &[13, 74, 163]),
        Move::Remember(2, 0),
        Move::Merge(0, 0),
        delete(2, &[200, 32]),
        Move::Pick(2, 1),
        Move::Remember(1, 1),
        Move::Merge(1, 0),
        Move::Remember(2, 2),
        Move::Merge(2, 0),
    ];
    run(replay(moves, "2", false)).expect("both rows are removed");
}
