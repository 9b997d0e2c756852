//! Checks that the runs on a branch have a serial order.
//!
//! A run reads the tables of the commit at which it started. Another run may change these tables
//! and be merged first. The run is then ordered before the other run, unless another dependency
//! requires the opposite order. ADR 12 describes the rule and why it is sufficient.
//!
//! The merge commit of a run records the tables that the run read, and the commit at which it
//! started. Commits without this record, such as imports and SQL statements, are not checked. An
//! incremental model does not read its own table, but only its read positions there.

use std::collections::{BTreeMap, BTreeSet};

use headwater_catalog::{MergePlan, TableChange};
use headwater_model::{
    CHANGE_READ, Commit, CommitId, ConflictKind, MergeConflict, ObjectId, TableName,
};

use super::{OngoingMerge, ReadPosition, ReadSet, conflict_cause};
use crate::error::Result;
use crate::lake::Lake;

/// Commit property: hashes of the tables and read positions that the run read, as a JSON list, or
/// [`ALL_TABLES`]. Hashes hide the names, because a user that may list commits may lack the right
/// to see these tables.
const PROPERTY_READS: &str = "headwater.reads";

/// Commit property: the target's head when the run started.
const PROPERTY_START: &str = "headwater.start";

/// Value of [`PROPERTY_READS`] if the run read too many tables to list.
const ALL_TABLES: &str = "*";

/// Entry in [`PROPERTY_READS`] that marks a run which may change any read position.
const ANY_POSITION: &str = "any-position";

/// Maximum number of tables and read positions that a commit lists.
const LISTED_MAX: usize = 500;

/// Returns the commit properties that record what a run read.
pub(super) fn to_properties(run: &ReadSet) -> [(String, String); 2] {
    let reads = match ReadSetHashes::of(run).0 {
        Some(listed) if listed.len() <= LISTED_MAX => serde_json::json!(listed).to_string(),
        _ => ALL_TABLES.to_owned(),
    };
    [(PROPERTY_READS.to_owned(), reads), (PROPERTY_START.to_owned(), run.start.to_string())]
}

/// Returns a hash of a table's name. Equal hashes of two names could only cause a false conflict,
/// not a missed conflict.
fn hash(table: &TableName) -> String {
    ObjectId::of(table.to_string().as_bytes()).short()
}

/// Returns the hash of a table's name and the hash of a source's key, separated by a colon.
fn position_hash(table: &TableName, source: &str) -> String {
    format!("{}:{}", hash(table), ObjectId::of(source.as_bytes()).short())
}

/// Hashes of the tables and read positions that a run read; `None` for all tables.
struct ReadSetHashes(Option<BTreeSet<String>>);

impl ReadSetHashes {
    fn of(run: &ReadSet) -> ReadSetHashes {
        let tables = run.tables.iter().map(hash);
        let positions = run.positions.iter().map(|one| position_hash(&one.table, &one.source));
        let any = run.changes_any_position.then(|| ANY_POSITION.to_owned());
        ReadSetHashes(Some(tables.chain(positions).chain(any).collect()))
    }

    fn contain(&self, hash: &str) -> bool {
        self.0.as_ref().is_none_or(|reads| reads.contains(hash))
    }

    /// Returns true if the run `other`, which changed `table`, changed something that this run
    /// read: the rows of the table, or a read position stored in it. A run changes the read
    /// positions that it lists. A run that merges a branch or continues a failed run may change any
    /// position.
    fn are_changed(&self, table: &TableName, other: &ReadSetHashes) -> bool {
        let Some(reads) = &self.0 else { return true };
        let all = position_hash(table, ReadPosition::ALL_SOURCES);
        let table = hash(table);
        if reads.contains(&table) {
            return true;
        }
        let prefix = format!("{table}:");
        let mut positions = reads.iter().filter(|read| read.starts_with(&prefix));
        let changes_all = other.contain(&all) || other.contain(ANY_POSITION);
        positions.any(|position| changes_all || other.contain(position))
    }
}

/// A run that was merged.
struct MergedRun {
    /// The merge commit.
    commit: Commit,
    /// The target's head when the run started.
    start: CommitId,
    reads: ReadSetHashes,
}

impl MergedRun {
    /// Returns the run that made a commit; `None` for other commits.
    fn of(commit: Commit) -> Option<MergedRun> {
        let reads =
            ReadSetHashes(serde_json::from_str(commit.properties.get(PROPERTY_READS)?).ok());
        let start = commit.properties.get(PROPERTY_START)?.parse().ok()?;
        Some(MergedRun { commit, start, reads })
    }

    fn description(&self) -> String {
        format!("commit `{}`", self.commit.id.short())
    }
}

impl OngoingMerge<'_> {
    /// Returns a conflict for each table that another run changed after this run read it. Returns
    /// no conflicts if the runs have a serial order, or if the merge is not made by a run.
    pub(super) async fn order_conflicts(&self, plan: &MergePlan) -> Result<Vec<MergeConflict>> {
        let Some(own) = self.options.reads.as_ref().filter(|own| own.start != plan.head) else {
            return Ok(Vec::new());
        };
        let runs = self.lake.runs_between(own.start, plan.head).await?;
        let reads = ReadSetHashes::of(own);
        // For each changed table, the first run that changed it.
        let mut stale: BTreeMap<TableName, (&MergedRun, TableChange)> = BTreeMap::new();
        for run in runs.iter().rev() {
            for change in self.lake.written_by(run).await? {
                if reads.are_changed(&change.table, &run.reads) {
                    stale.entry(change.table.clone()).or_insert((run, change));
                }
            }
        }
        if stale.is_empty() {
            return Ok(Vec::new());
        }
        let Some(reason) = self.order_reason(plan, own, &runs).await? else {
            return Ok(Vec::new());
        };
        let reason = format!("{reason}; the runs have no serial order");
        let conflicts = stale.into_iter().map(|(table, (run, change))| {
            let commit = run.description();
            let message = if own.tables.contains(&table) {
                format!("this run read the table before {commit} changed it; {reason}")
            } else {
                format!(
                    "this run used the read positions in this table before {commit} changed them; \
                     {reason}"
                )
            };
            MergeConflict {
                table,
                target: Some(run.commit.clone()),
                target_after: None,
                target_change: change.word().to_owned(),
                source: None,
                source_after: None,
                source_change: CHANGE_READ.to_owned(),
                project: None,
                causes: vec![conflict_cause::plain(ConflictKind::SerialOrder, message)],
            }
        });
        Ok(conflicts.collect())
    }

    /// Returns the reason why this run must come both before and after another run; `None` if there
    /// is a serial order. The run must come before the other runs that changed tables after it read
    /// them.
    async fn order_reason(
        &self,
        plan: &MergePlan,
        own: &ReadSet,
        runs: &[MergedRun],
    ) -> Result<Option<String>> {
        let writes = self.lake.catalog().diff(own.start, plan.source).await?;
        let reads = ReadSetHashes::of(own);
        for run in runs {
            let mut changes = writes.iter();
            if let Some(change) = changes.find(|one| run.reads.are_changed(&one.table, &reads)) {
                let (shown, table) = (run.description(), &change.table);
                return Ok(Some(format!(
                    "the run of {shown} read `{table}` before this run changed it"
                )));
            }
        }
        for run in runs {
            for earlier in self.lake.runs_between(run.start, own.start).await? {
                let written = self.lake.written_by(&earlier).await?;
                let mut changes = written.iter();
                if changes.any(|change| run.reads.are_changed(&change.table, &earlier.reads)) {
                    let (shown, earlier) = (run.description(), earlier.description());
                    return Ok(Some(format!(
                        "the run of {shown} read a table before {earlier} changed it, but this run \
                         started after {earlier}"
                    )));
                }
            }
        }
        Ok(None)
    }
}

impl Lake {
    /// Returns the runs whose merge commits are in the history of `head`, but not in the history of
    /// `start`, newest first.
    async fn runs_between(&self, start: CommitId, head: CommitId) -> Result<Vec<MergedRun>> {
        if start == head {
            return Ok(Vec::new());
        }
        let oldest = self.catalog().read_commit(start).await?.time;
        // An ancestor of `start` may have the same time as `start`.
        let known = self.catalog().history_since(&[start], oldest).await?;
        let known: BTreeSet<CommitId> = known.into_iter().map(|commit| commit.id).collect();
        let commits = self.catalog().history_since(&[head], oldest).await?;
        let commits = commits.into_iter().filter(|commit| !known.contains(&commit.id));
        Ok(commits.filter_map(MergedRun::of).collect())
    }

    /// Returns the tables that a run changed.
    async fn written_by(&self, run: &MergedRun) -> Result<Vec<TableChange>> {
        let Some(before) = run.commit.parents.first() else { return Ok(Vec::new()) };
        Ok(self.catalog().diff(*before, run.commit.id).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_tables_are_recorded_as_all_tables() {
        let reads = |count: usize| {
            let tables = (0..count).map(|at| format!("t{at}").parse().expect("a name")).collect();
            let start = "0".repeat(64).parse().expect("a commit");
            let positions = BTreeSet::new();
            let run = ReadSet { start, tables, positions, changes_any_position: false };
            let [(_, reads), _] = to_properties(&run);
            reads
        };
        let first = hash(&"t0".parse().expect("a name"));
        assert_eq!(reads(1), format!(r#"["{first}"]"#));
        assert_eq!(reads(LISTED_MAX + 1), ALL_TABLES);
    }

    #[test]
    fn a_change_of_a_table_changes_only_the_read_positions_of_the_run() {
        let table: TableName = "t".parse().expect("a name");
        let reads = |tables: &[&str], sources: &[&str]| {
            let positions = sources.iter().map(|source| position_hash(&table, source));
            let tables = tables.iter().map(|name| hash(&name.parse().expect("a name")));
            ReadSetHashes(Some(tables.chain(positions).collect()))
        };
        let changed = |one: &ReadSetHashes, other: &ReadSetHashes| one.are_changed(&table, other);
        let (first, second) = (reads(&["a"], &["a"]), reads(&["b"], &["b"]));
        assert!(!changed(&first, &second), "positions in different sources");
        assert!(changed(&first, &first), "the same position");
        assert!(!changed(&first, &reads(&["a"], &[])), "a run without read positions");
        let rebuild = reads(&["t"], &["b", ReadPosition::ALL_SOURCES]);
        assert!(changed(&first, &rebuild), "a rebuild changes all positions");
        let whole = reads(&["t"], &["b"]);
        assert!(!changed(&first, &whole), "a run that also reads the rows of the table");
        let any = ReadSetHashes(Some([ANY_POSITION.to_owned()].into()));
        assert!(changed(&first, &any), "a merge of a branch");
        assert!(changed(&whole, &reads(&[], &[])), "the rows of the table were read");
        let all = ReadSetHashes(None);
        assert!(changed(&first, &all) && changed(&all, &second));
        assert!(!first.are_changed(&"u".parse().expect("a name"), &all), "another table");
    }
}
