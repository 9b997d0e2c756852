//! The three-way diff of tables: the changes of two sides since their merge base.
//!
//! A rename does not change the table id. So the id matches a rename on one side with the other
//! side's change of the same table.

use std::collections::{BTreeMap, HashMap};

use headwater_model::TableName;

use crate::{BaseValue, DivergedTable, TableChange, TableEntry};

/// A rename of a table by one side of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenamedTable {
    /// The name at the merge base.
    pub from: TableName,
    /// True if the source renamed the table, false if the target did.
    pub by_source: bool,
}

/// The changed tables. In each change, `from` is the target's entry and `to` is the source's entry.
#[derive(Debug, Default)]
pub(crate) struct ThreeWayDiff {
    /// The tables that only the target changed.
    kept: Vec<TableChange>,
    /// The tables that only the source changed.
    pub taken: Vec<TableChange>,
    /// The tables that both sides changed differently.
    pub contested: Vec<DivergedTable>,
}

/// A rename found in the changes of one side.
struct SideRename {
    from: TableName,
    to: TableName,
    base: TableEntry,
}

impl ThreeWayDiff {
    /// Compares the changes made by the target and by the source since the merge base.
    pub fn of(ours: Vec<TableChange>, theirs: Vec<TableChange>) -> ThreeWayDiff {
        let renames = [renames(&ours), renames(&theirs)];
        let mut diff = ThreeWayDiff::default();
        let mut ours: BTreeMap<TableName, TableChange> =
            ours.into_iter().map(|change| (change.table.clone(), change)).collect();
        for change in theirs {
            match ours.remove(&change.table) {
                None => diff.taken.push(change),
                Some(mine) if is_same(mine.to.as_ref(), change.to.as_ref()) => {}
                Some(mine) => diff.contested.push(DivergedTable {
                    table: change.table,
                    base: BaseValue::Known(mine.from),
                    ours: mine.to,
                    theirs: change.to,
                    renamed: None,
                }),
            }
        }
        diff.kept = ours.into_values().map(reverse).collect();
        diff.match_renames(&renames);
        diff
    }

    /// Matches the renames of each side with the other side's changes of the same table.
    fn match_renames(&mut self, [ours, theirs]: &[Vec<SideRename>; 2]) {
        for (renames, others, by_source) in [(ours, theirs, false), (theirs, ours, true)] {
            for rename in renames {
                let of_both = others.iter().any(|other| other.base.id == rename.base.id);
                self.match_rename(rename, by_source, of_both);
            }
        }
        self.contested.sort_by(|one, other| one.table.cmp(&other.table));
    }

    /// Matches one rename with the other side's changes. `of_both` is true if both sides renamed
    /// the table.
    fn match_rename(&mut self, rename: &SideRename, by_source: bool, of_both: bool) {
        if let Some(alike) = self.contested.iter_mut().find(|one| one.table == rename.to) {
            let mut sides = [&alike.ours, &alike.theirs].into_iter().flatten();
            if sides.all(|entry| entry.id == rename.base.id) {
                alike.base = BaseValue::Known(Some(rename.base.clone()));
            }
            return;
        }
        let changes = if by_source { &mut self.taken } else { &mut self.kept };
        let at = |name: &TableName| changes.iter().position(|one| one.table == *name);
        let Some(new) = at(&rename.to) else { return };
        // If the drop of the old name is a change of this side only, the other side left the table
        // unchanged.
        let untouched = at(&rename.from).is_some();
        let renamed = Some(RenamedTable { from: rename.from.clone(), by_source });
        if let Some(contested) = self.contested.iter_mut().find(|one| one.table == rename.from) {
            let TableChange { table, from, to } = changes.remove(new);
            if by_source {
                contested.theirs = to;
            } else {
                contested.ours = from;
            }
            (contested.table, contested.renamed) = (table, renamed);
        } else if !of_both && !untouched {
            // The other side dropped the table.
            let TableChange { table, from: ours, to: theirs } = changes.remove(new);
            let base = BaseValue::Known(Some(rename.base.clone()));
            self.contested.push(DivergedTable { table, base, ours, theirs, renamed });
        }
    }
}

/// Returns true if both sides changed a table to the same state, or both dropped it.
fn is_same(ours: Option<&TableEntry>, theirs: Option<&TableEntry>) -> bool {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => ours.has_same_state(theirs),
        _ => ours.is_none() && theirs.is_none(),
    }
}

fn reverse(change: TableChange) -> TableChange {
    TableChange { table: change.table, from: change.to, to: change.from }
}

/// Finds the renames among a side's changes. A rename is a dropped table and a created table with
/// the same id and different names.
fn renames(changes: &[TableChange]) -> Vec<SideRename> {
    let dropped = changes.iter().filter(|one| one.to.is_none()).filter_map(|one| {
        let entry = one.from.as_ref()?;
        Some((entry.id.as_str(), (&one.table, entry)))
    });
    let dropped: HashMap<&str, (&TableName, &TableEntry)> = dropped.collect();
    if dropped.is_empty() {
        return Vec::new();
    }
    let new = changes.iter().filter(|one| one.from.is_none());
    let renamed = new.filter_map(|one| {
        let (from, base) = dropped.get(one.to.as_ref()?.id.as_str())?;
        Some(SideRename { from: (*from).clone(), to: one.table.clone(), base: (*base).clone() })
    });
    renamed.collect()
}
