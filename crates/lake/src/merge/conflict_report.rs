//! The reported conflicts of a merge, with the commits that made the conflicting changes.
//!
//! A branch may have changed a table in many commits, of which only one conflicts. This commit is
//! found by binary search. The search merges states of one side with the other side, until it finds
//! the first state with the conflict. The number of steps is limited. If the search reaches the
//! limit, the report contains the range of commits that is left to search.

use headwater_catalog::{BaseValue, DivergedTable, MergePlan, TableChange, TableState};
use headwater_model::{
    Commit, CommitId, ConflictCause, ConflictKind, MergeChoice, MergeConflict, TableName,
};
use headwater_table_merge::{
    Cause, Conflict, EqualChanges, MergeInputs, RowBudget, TableMergeResult, merge as merge_tables,
};
use headwater_tables::Table;

use super::merge_rights::check_choice;
use super::{ContentMergeResult, MergeRange, OngoingMerge, conflict_cause};
use crate::error::Result;
use crate::lake::Lake;

/// Maximum number of commits that are searched for each side and table.
const COMMITS_MAX: usize = 1_000;

/// Maximum number of trial merges in one search.
const TRIALS_MAX: usize = 24;

/// Maximum number of merges that the search for a conflicting change follows. A branch may have got
/// the change by a merge, so the search continues in the merged branch.
const DEPTH_MAX: usize = 4;

/// The commit that made a conflicting change.
struct ConflictingCommit {
    state: TableState,
    /// If the search reached a limit: the commit after which the conflicting change was made, at
    /// the latest by the commit in `state`.
    after: Option<Commit>,
}

/// The search for the conflicting commit on one side of a merge.
struct ConflictingCommitSearch<'a> {
    lake: &'a Lake,
    bases: &'a [CommitId],
    /// The name of the table on this side.
    table: &'a TableName,
    base: &'a Table,
    /// The table on the other side of the merge.
    other: &'a Table,
    /// True if the other side is the target.
    other_is_ours: bool,
    causes: &'a [ConflictCause],
    equal_changes: EqualChanges,
    budget: RowBudget,
    trials: usize,
}

impl OngoingMerge<'_> {
    /// Returns the conflicts that the choices of sides in the request do not resolve.
    ///
    /// Fails with `Denied` if the author may not take the source's version of a table.
    pub(super) async fn conflicts(&self, plan: &MergePlan) -> Result<Vec<MergeConflict>> {
        let mut conflicts = Vec::new();
        for contested in &plan.contested {
            let looked = self.verdicts.get(&contested.table).map(|looked| &looked.verdict);
            let Some(ContentMergeResult::Conflict(causes)) = looked else { continue };
            match (self.request.choice(contested.names()), &self.options.rights) {
                (MergeChoice::Fail, _) => {}
                (MergeChoice::Theirs, Some(rights)) => {
                    check_choice(rights.as_ref(), contested)?;
                    continue;
                }
                (MergeChoice::Ours | MergeChoice::Theirs, _) => continue,
            }
            let conflict = self.lake.catalog().merges().conflict(plan, contested).await?;
            let project = self.project(contested).await?;
            let mut conflict = MergeConflict { causes: causes.clone(), project, ..conflict };
            if let Err(error) =
                Box::pin(self.find_conflicting_commits(plan, contested, &mut conflict)).await
            {
                // The conflict is still reported, with the last commit of each side.
                tracing::debug!(%error, "cannot find the commits of a conflict");
            }
            conflicts.push(conflict);
        }
        if conflicts.is_empty() { self.order_conflicts(plan).await } else { Ok(conflicts) }
    }

    /// Returns the project whose model writes a table in conflict; `None` if no model writes the
    /// table.
    async fn project(&self, contested: &DivergedTable) -> Result<Option<String>> {
        let entry = contested.ours.as_ref().or(contested.theirs.as_ref());
        let Some(entry) = entry.filter(|entry| !entry.is_view()) else { return Ok(None) };
        let table = self.lake.tables().load(&entry.metadata_location).await?;
        Ok(self.lake.project_of(&table).await)
    }

    /// Replaces the last commit of each side in the report with the commit that made the
    /// conflicting change.
    async fn find_conflicting_commits(
        &self,
        plan: &MergePlan,
        contested: &DivergedTable,
        conflict: &mut MergeConflict,
    ) -> Result<()> {
        let (BaseValue::Known(Some(entry)), Some(ours), Some(theirs)) =
            (&contested.base, &contested.ours, &contested.theirs)
        else {
            return Ok(());
        };
        // In a cherry-pick or revert, the base need not be in the history of both sides, so there
        // is no range of commits to search.
        if !matches!(self.range, MergeRange::Branch) || entry.is_view() {
            return Ok(());
        }
        if !conflict.causes.iter().any(|cause| can_blame(cause.kind)) {
            return Ok(());
        }
        let causes = conflict.causes.clone();
        let tables = self.lake.tables();
        let base = tables.load(&entry.metadata_location).await?;
        let ours = tables.load(&ours.metadata_location).await?;
        let theirs = tables.load(&theirs.metadata_location).await?;
        let [our_name, their_name] = contested.names();
        let search = |table, other, other_is_ours| ConflictingCommitSearch {
            lake: self.lake,
            bases: &plan.bases,
            table,
            base: &base,
            other,
            other_is_ours,
            causes: &causes,
            equal_changes: self.options.equal_changes,
            budget: RowBudget::new(tables, 0),
            trials: TRIALS_MAX,
        };
        let change = |state: &TableState| {
            let (table, from) = (conflict.table.clone(), Some(entry.clone()));
            TableChange { table, from, to: state.entry.clone() }.word().to_owned()
        };
        let our_blame = search(our_name, &theirs, false).find(plan.head).await?;
        let their_blame = search(their_name, &ours, true).find(plan.source).await?;
        let our_change = our_blame.as_ref().map(|blame| change(&blame.state));
        let their_change = their_blame.as_ref().map(|blame| change(&blame.state));
        if let (Some(blame), Some(change)) = (our_blame, our_change) {
            conflict.target = Some(blame.state.commit);
            conflict.target_after = blame.after;
            conflict.target_change = change;
        }
        if let (Some(blame), Some(change)) = (their_blame, their_change) {
            conflict.source = Some(blame.state.commit);
            conflict.source_after = blame.after;
            conflict.source_change = change;
        }
        Ok(())
    }
}

impl ConflictingCommitSearch<'_> {
    /// Finds the first conflicting commit between the merge base and a head. Returns `None` if no
    /// commit of this side changed the table.
    async fn find(mut self, head: CommitId) -> Result<Option<ConflictingCommit>> {
        let mut next = Some(head);
        let mut found = None;
        for depth in 0..DEPTH_MAX {
            let Some(head) = next else { break };
            let catalog = self.lake.catalog();
            let states = catalog.table_history(head, self.bases, self.table, COMMITS_MAX).await?;
            let Some(newest) = states.first() else { break };
            // The newest state at the head of the side is the state whose conflict the merge found.
            if depth > 0 && self.conflicts(newest).await? != Some(true) {
                break;
            }
            let blame = self.first(&states).await?;
            // If the commit is a merge and the table conflicts at its second parent, the change
            // came from the merged branch.
            let parents = &blame.state.commit.parents;
            next = parents.get(1).copied().filter(|_| blame.after.is_none());
            found = Some(blame);
        }
        Ok(found)
    }

    /// Finds the oldest state with the conflict by binary search. The newest state must have the
    /// conflict.
    async fn first(&mut self, states: &[TableState]) -> Result<ConflictingCommit> {
        let (mut conflicts, mut fits) = (0, states.len());
        while fits - conflicts > 1 {
            let middle = conflicts + (fits - conflicts) / 2;
            match self.conflicts(&states[middle]).await? {
                Some(true) => conflicts = middle,
                Some(false) => fits = middle,
                None => break,
            }
        }
        let is_exact = fits - conflicts == 1 && (fits < states.len() || fits < COMMITS_MAX);
        let after = match (is_exact, states.get(fits), self.bases.first()) {
            (true, _, _) | (false, None, None) => None,
            (false, Some(state), _) => Some(state.commit.clone()),
            (false, None, Some(base)) => Some(self.lake.catalog().read_commit(*base).await?),
        };
        Ok(ConflictingCommit { state: states[conflicts].clone(), after })
    }

    /// Returns true if this earlier state of the table conflicts with the other side for the same
    /// reason as the state at the head; `None` if the search has reached its limits.
    async fn conflicts(&mut self, state: &TableState) -> Result<Option<bool>> {
        let Some(entry) = &state.entry else { return Ok(Some(false)) };
        if self.trials == 0 {
            return Ok(None);
        }
        self.trials -= 1;
        let tables = self.lake.tables();
        let table = tables.load(&entry.metadata_location).await?;
        let (ours, theirs) =
            if self.other_is_ours { (self.other, &table) } else { (&table, self.other) };
        let equal_changes = self.equal_changes;
        let inputs = MergeInputs { equal_changes, ..MergeInputs::new(self.base, ours, theirs) };
        let merged = Box::pin(merge_tables(tables, inputs, &mut self.budget)).await?;
        let TableMergeResult::Conflicts(conflicts) = merged else { return Ok(Some(false)) };
        let spent = |conflict: &Conflict| matches!(conflict.cause, Cause::TooManyRows { .. });
        if conflicts.iter().any(spent) {
            return Ok(None);
        }
        for conflict in &conflicts {
            let cause = conflict_cause::of_conflict(conflict)?;
            if self.causes.iter().any(|known| is_same(known, &cause)) {
                return Ok(Some(true));
            }
        }
        Ok(Some(false))
    }
}

/// Returns true if the search can find the commit that caused a conflict of this kind.
fn can_blame(kind: ConflictKind) -> bool {
    matches!(
        kind,
        ConflictKind::Column
            | ConflictKind::FieldId
            | ConflictKind::Nulls
            | ConflictKind::Partitioning
            | ConflictKind::SortOrder
            | ConflictKind::Identifier
            | ConflictKind::Property
            | ConflictKind::Replaced
            | ConflictKind::Rows
            | ConflictKind::Keys
    )
}

/// Returns true if two causes describe the same conflict. Two row conflicts are the same if they
/// share a row, or if the list of rows of one conflict is incomplete.
fn is_same(one: &ConflictCause, other: &ConflictCause) -> bool {
    let is_listed = |cause: &ConflictCause| cause.rows_total == Some(cause.rows.len() as u64);
    one.kind == other.kind
        && (one.kind != ConflictKind::Rows
            || !(is_listed(one) && is_listed(other))
            || one.rows.iter().any(|row| other.rows.contains(row)))
}
