//! The row ids and sequence numbers that rows keep in a merge.
//!
//! Each branch assigns row ids on its own. So two branches may have assigned the same ids to
//! different rows since their last common snapshot. A snapshot that reached a branch by a merge is
//! not common in this sense: its branch assigned the ids, and the merge assigned other ids.

use std::collections::HashSet;

use headwater_tables::{Lineage, Tables, has_row_ids};
use iceberg::spec::{Snapshot, TableMetadata};

use crate::history::MergeAncestry;

/// The next row id and the last sequence number of the last snapshot that both sides have in their
/// own history. Rows of their side keep only ids and sequence numbers that were assigned before.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BaseCounters {
    pub(crate) next_row_id: u64,
    pub(crate) sequence_number: i64,
}

impl BaseCounters {
    /// Returns the counters for a merge into our side, whose metadata is `ours`. Reads older
    /// metadata files if needed. If the last common snapshot is not known, no ids are kept.
    pub async fn read(
        tables: &Tables,
        past: &mut MergeAncestry,
        ours: &TableMetadata,
    ) -> BaseCounters {
        // If our side does not descend from the base, it may have the same rows in other files.
        if !has_row_ids(ours) || !past.sides[0].descends_from(&past.base) {
            return BaseCounters::default();
        }
        loop {
            if let Some(found) = Self::from_known_history(past) {
                return found;
            }
            let mut more = false;
            for side in &mut past.sides {
                more |= side.read_more(tables).await;
            }
            if !more {
                return BaseCounters::default();
            }
        }
    }

    /// Returns the counters, or `None` if older snapshots must be read first.
    fn from_known_history(past: &MergeAncestry) -> Option<BaseCounters> {
        let [ours, theirs] = &past.sides;
        let own: HashSet<i64> = own_snapshots(ours).map(Snapshot::snapshot_id).collect();
        let common = own_snapshots(theirs).find(|one| own.contains(&one.snapshot_id()));
        if let Some(common) = common {
            return Some(BaseCounters::after(common));
        }
        let is_first = |one: &Snapshot| one.parent_snapshot_id().is_none();
        let mut oldest = [ours, theirs].into_iter().map(|side| own_snapshots(side).last());
        oldest.all(|one| one.is_none_or(is_first)).then(BaseCounters::default)
    }

    fn after(snapshot: &Snapshot) -> BaseCounters {
        BaseCounters {
            next_row_id: snapshot.row_range().map_or(0, |(first, rows)| first + rows),
            sequence_number: snapshot.sequence_number(),
        }
    }
}

/// Returns the current snapshot and its parents, newest first, without merged snapshots. Ends at
/// the first snapshot that is not known.
fn own_snapshots(side: &Lineage) -> impl Iterator<Item = &Snapshot> {
    let current = side.current().and_then(|id| side.get(id));
    std::iter::successors(current, move |one| one.parent_snapshot_id().and_then(|id| side.get(id)))
}
