//! The row ids and sequence numbers that rows keep in a merge.
//!
//! Each branch assigns row ids on its own. So two branches may have assigned the same ids to
//! different rows since their last common snapshot. A snapshot that one side got by a merge does
//! not count as common: the other branch assigned the row ids in it, and the merge assigned new
//! ids.

use std::collections::HashSet;

use headwater_tables::{SnapshotAncestry, Tables, has_row_ids, merged_by};
use iceberg::spec::{Snapshot, TableMetadata};

use crate::side_history::MergeAncestry;

/// The next row id and the sequence number of the last common snapshot: the last snapshot that both
/// sides have in their own history. Rows of their side keep only ids and sequence numbers that were
/// assigned up to this snapshot.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BaseCounters {
    pub(crate) next_row_id: u64,
    pub(crate) sequence_number: i64,
}

impl BaseCounters {
    /// Returns the counters for a merge into our side, whose metadata is `ours`. Reads older
    /// metadata files of both sides if needed, but not those of merged states. If the last common
    /// snapshot is not known, no ids are kept.
    pub async fn read(
        tables: &Tables,
        past: &mut MergeAncestry,
        ours: &TableMetadata,
    ) -> BaseCounters {
        // If our side does not descend from the base, it may have the rows of the base in other
        // files, with other row ids.
        if !has_row_ids(ours) || !past.sides[0].descends_from(&past.base) {
            return BaseCounters::default();
        }
        loop {
            if let Some(found) = Self::from_known_history(past) {
                return found;
            }
            let mut more = false;
            for side in &mut past.sides {
                let snapshots = own_ids(side).filter_map(|id| side.get(id));
                let merged: HashSet<i64> = snapshots.filter_map(merged_by).collect();
                more |= side.read_since(tables, &merged).await;
            }
            if !more {
                return BaseCounters::default();
            }
        }
    }

    /// Returns the counters, or `None` if older snapshots must be read first.
    fn from_known_history(past: &MergeAncestry) -> Option<BaseCounters> {
        let [ours, theirs] = &past.sides;
        let own: HashSet<i64> = own_ids(ours).collect();
        if let Some(common) = own_ids(theirs).find(|id| own.contains(id)) {
            // The side in which the id was found may no longer list this snapshot, because it has
            // expired there.
            let mut states = [&past.base, ours, theirs].into_iter();
            return states.find_map(|state| state.get(common)).map(BaseCounters::after);
        }
        let is_known = |side: &SnapshotAncestry| own_ids(side).all(|id| side.get(id).is_some());
        (is_known(ours) && is_known(theirs)).then(BaseCounters::default)
    }

    fn after(snapshot: &Snapshot) -> BaseCounters {
        BaseCounters {
            next_row_id: snapshot.row_range().map_or(0, |(first, rows)| first + rows),
            sequence_number: snapshot.sequence_number(),
        }
    }
}

/// Returns the ids of the current snapshot and its parents, newest first, without merged snapshots.
/// Ends with the first snapshot that is not known.
fn own_ids(side: &SnapshotAncestry) -> impl Iterator<Item = i64> {
    std::iter::successors(side.current(), move |id| side.get(*id)?.parent_snapshot_id())
}
