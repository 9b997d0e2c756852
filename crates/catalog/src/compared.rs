//! What two sides did to the tables of the commit that both come from.
//!
//! A table that one side renamed while the other changed it is one table under two names, told by its id,
//! which a new name does not change.

use std::collections::{BTreeMap, HashMap};

use headwater_model::TableName;

use crate::{Base, Contested, TableChange, TableEntry};

/// The name that a contested table had before one side gave it another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// The name that both sides come from.
    pub from: TableName,
    /// Whether the source renamed it, and not the target.
    pub by_source: bool,
}

/// The tables that were changed, from what the target has to what the source has.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// Those that only the target changed.
    kept: Vec<TableChange>,
    /// Those that only the source changed.
    pub taken: Vec<TableChange>,
    /// Those that both did, and differently.
    pub contested: Vec<Contested>,
}

/// What one side renamed.
struct Rename {
    from: TableName,
    to: TableName,
    base: TableEntry,
}

impl Compared {
    /// Compares what the target and the source changed since the base.
    pub fn of(ours: Vec<TableChange>, theirs: Vec<TableChange>) -> Compared {
        let renames = [renames(&ours), renames(&theirs)];
        let mut compared = Compared::default();
        let mut ours: BTreeMap<TableName, TableChange> =
            ours.into_iter().map(|change| (change.table.clone(), change)).collect();
        for change in theirs {
            match ours.remove(&change.table) {
                None => compared.taken.push(change),
                Some(mine) if mine.to == change.to => {}
                Some(mine) => compared.contested.push(Contested {
                    table: change.table,
                    base: Base::Known(mine.from),
                    ours: mine.to,
                    theirs: change.to,
                    renamed: None,
                }),
            }
        }
        compared.kept = ours.into_values().map(back).collect();
        compared.follow(&renames);
        compared
    }

    /// Puts what one side renamed together with what the other did to it.
    fn follow(&mut self, [ours, theirs]: &[Vec<Rename>; 2]) {
        for (renames, others, by_source) in [(ours, theirs, false), (theirs, ours, true)] {
            for rename in renames {
                let of_both = others.iter().any(|other| other.base.id == rename.base.id);
                self.follow_one(rename, by_source, of_both);
            }
        }
        self.contested.sort_by(|one, other| one.table.cmp(&other.table));
    }

    /// Puts one together, which the other side may have renamed as well.
    fn follow_one(&mut self, rename: &Rename, by_source: bool, of_both: bool) {
        if let Some(alike) = self.contested.iter_mut().find(|one| one.table == rename.to) {
            let mut sides = [&alike.ours, &alike.theirs].into_iter().flatten();
            if sides.all(|entry| entry.id == rename.base.id) {
                alike.base = Base::Known(Some(rename.base.clone()));
            }
            return;
        }
        let changes = if by_source { &mut self.taken } else { &mut self.kept };
        let at = |name: &TableName| changes.iter().position(|one| one.table == *name);
        let Some(new) = at(&rename.to) else { return };
        // What the other side did not touch goes by its old name with the rest of this side's changes.
        let untouched = at(&rename.from).is_some();
        let renamed = Some(Renamed { from: rename.from.clone(), by_source });
        if let Some(contested) = self.contested.iter_mut().find(|one| one.table == rename.from) {
            let TableChange { table, from, to } = changes.remove(new);
            if by_source {
                contested.theirs = to;
            } else {
                contested.ours = from;
            }
            (contested.table, contested.renamed) = (table, renamed);
        } else if !of_both && !untouched {
            // The other side dropped it.
            let TableChange { table, from: ours, to: theirs } = changes.remove(new);
            let base = Base::Known(Some(rename.base.clone()));
            self.contested.push(Contested { table, base, ours, theirs, renamed });
        }
    }
}

fn back(change: TableChange) -> TableChange {
    TableChange { table: change.table, from: change.to, to: change.from }
}

/// The tables among a side's changes that went and came under another name.
fn renames(changes: &[TableChange]) -> Vec<Rename> {
    let gone = changes.iter().filter(|one| one.to.is_none()).filter_map(|one| {
        let entry = one.from.as_ref()?;
        Some((entry.id.as_str(), (&one.table, entry)))
    });
    let gone: HashMap<&str, (&TableName, &TableEntry)> = gone.collect();
    if gone.is_empty() {
        return Vec::new();
    }
    let new = changes.iter().filter(|one| one.from.is_none());
    let renamed = new.filter_map(|one| {
        let (from, base) = gone.get(one.to.as_ref()?.id.as_str())?;
        Some(Rename { from: (*from).clone(), to: one.table.clone(), base: (*base).clone() })
    });
    renamed.collect()
}
