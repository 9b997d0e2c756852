//! The rights to tables that a merge, a cherry-pick or a revert needs.
//!
//! The right to merge into a branch includes all changes of the source, because users that were
//! allowed to make these changes have made them. [`MergeRights`] decides about the changes that
//! only the merge itself makes. If a conflict is resolved by taking the source's version, the
//! target's changes are lost. A cherry-pick repeats a change on another branch, and a revert makes
//! the opposite change. Both are new changes, so the author needs the right to make them.

use std::collections::BTreeSet;
use std::fmt::Debug;

use headwater_catalog::{DivergedTable, MergePlan, TableChange, TableEntry};
use headwater_model::{Action, Problem, TableName};

use crate::error::{Error, Result};

/// The row changes that a cherry-pick, a revert or the choice of a side can consist of.
const ROW_ACTIONS: [Action; 3] = [Action::Delete, Action::Insert, Action::Update];

/// Decides which changes of tables the author of a merge may make.
pub trait MergeRights: Debug + Send + Sync {
    /// Checks that the author may perform an action on a table, given by its name and entry, and
    /// that no row filter or column mask of the table applies to the author.
    fn check(&self, action: Action, table: &TableName, entry: &TableEntry) -> Result<(), Problem>;

    /// Checks that no row filter or column mask of a table, given by its name and entry, applies to
    /// the author.
    fn check_unrestricted(&self, table: &TableName, entry: &TableEntry) -> Result<(), Problem>;

    /// Returns true if the author may know the name of a table, view or function.
    fn shows(&self, name: &TableName, entry: &TableEntry) -> bool;
}

/// Checks that the source's version of a table may replace the target's version. The rows of both
/// versions can differ in any way. Views and functions have no rows, so they need no right.
///
/// Errors: [`Error::Denied`].
pub(super) fn check_choice(rights: &dyn MergeRights, contested: &DivergedTable) -> Result<()> {
    let sides = [&contested.ours, &contested.theirs];
    for (name, side) in contested.names().into_iter().zip(sides) {
        let Some(entry) = side.as_ref().filter(|entry| !entry.is_view()) else { continue };
        // True if the source has dropped the table, or has another table or a view under its name.
        let is_lost = contested.theirs.as_ref().is_none_or(|theirs| is_other(entry, theirs));
        for action in ROW_ACTIONS.into_iter().chain(is_lost.then_some(Action::Drop)) {
            rights.check(action, name, entry).map_err(denied)?;
        }
    }
    Ok(())
}

/// Checks that the author of a cherry-pick or revert may change the affected tables, and sees all
/// rows and values of these tables. Otherwise the author could remove, repeat or restore hidden
/// rows.
///
/// Errors: [`Error::Denied`].
pub(super) fn check_change(rights: &dyn MergeRights, plan: &MergePlan) -> Result<()> {
    let mut sides = Vec::new();
    for change in &plan.taken {
        sides.extend([(&change.table, &change.from), (&change.table, &change.to)]);
    }
    for contested in &plan.contested {
        let [ours, theirs] = contested.names();
        sides.extend([(ours, &contested.ours), (theirs, &contested.theirs)]);
    }
    for (name, side) in sides {
        let Some(entry) = side.as_ref().filter(|entry| !entry.is_view()) else { continue };
        rights.check_unrestricted(name, entry).map_err(denied)?;
    }
    for contested in &plan.contested {
        check_choice(rights, contested)?;
    }
    check_taken(rights, &plan.taken)
}

/// Checks that the author may make the changes to tables without a conflict: changed rows, and
/// tables that are created, dropped or renamed. Views and functions have no rows, so they need no
/// right.
fn check_taken(rights: &dyn MergeRights, taken: &[TableChange]) -> Result<()> {
    let before = taken.iter().filter_map(|change| table(change.from.as_ref()));
    let before: BTreeSet<&str> = before.map(|entry| entry.id.as_str()).collect();
    let after = taken.iter().filter_map(|change| table(change.to.as_ref()));
    let after: BTreeSet<&str> = after.map(|entry| entry.id.as_str()).collect();
    for change in taken {
        let check = |action: Action, entry: &TableEntry| {
            rights.check(action, &change.table, entry).map_err(denied)
        };
        let (from, to) = (table(change.from.as_ref()), table(change.to.as_ref()));
        if let (Some(from), Some(to)) = (from, to)
            && from.id == to.id
        {
            // The target's entry, because its owner can differ from the owner at the source.
            let is_lost = is_other(from, to);
            for action in ROW_ACTIONS.into_iter().chain(is_lost.then_some(Action::Drop)) {
                check(action, from)?;
            }
            continue;
        }
        // A renamed table is dropped under one name and created under the other, with the same id.
        if let Some(from) = from {
            let is_renamed = after.contains(from.id.as_str());
            check(if is_renamed { Action::Alter } else { Action::Drop }, from)?;
        }
        if let Some(to) = to {
            check(Action::Create, to)?;
            if !before.contains(to.id.as_str()) {
                check(Action::Insert, to)?;
            }
        }
    }
    Ok(())
}

/// Returns true if the target loses its table to another table, or to another owner. A client can
/// create a table with the id of a table of another user.
fn is_other(target: &TableEntry, source: &TableEntry) -> bool {
    target.id != source.id || target.owner != source.owner
}

fn table(entry: Option<&TableEntry>) -> Option<&TableEntry> {
    entry.filter(|entry| !entry.is_view())
}

fn denied(problem: Problem) -> Error {
    Error::Denied(Box::new(problem))
}
