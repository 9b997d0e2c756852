//! The decision about a group of files that both sides changed, from the number of times that each
//! row occurs in each state.
//!
//! By default, equal changes of both sides are one change. With [`EqualChanges::Conflict`], a row
//! of the base that both sides changed or deleted is always a conflict, and a row that both sides
//! added is kept twice. If one side has fewer copies of a row than the base and the other side has
//! more, both may have changed the same row, so this is a conflict, too.

use std::collections::{HashMap, HashSet};

use crate::files::FileMergeGroup;
use crate::merge_inputs::EqualChanges;
use crate::multiset_merge::{RowCounts, RowHash};

/// The result for a group, from the numbers of equal rows.
pub(crate) enum GroupDecision {
    Ours,
    Theirs,
    Rows {
        wanted: HashMap<RowHash, u32>,
        rows_added: u64,
        rows_removed: u64,
    },
    /// The rows whose changes conflict.
    Conflict(HashSet<RowHash>),
}

/// Returns true if each side has the row more often than the base.
pub(crate) fn is_new([base, ours, theirs]: &[u32; 3]) -> bool {
    ours > base && theirs > base
}

/// Decides which rows a group has after the merge. `counts` has, for each row, the number of copies
/// in the base and on both sides.
pub(crate) fn decide(counts: &RowCounts, group: &FileMergeGroup) -> GroupDecision {
    let FileMergeGroup { rows_may_move, unclear, .. } = *group;
    let all = || counts.values();
    let merges_equal = group.equal_changes == EqualChanges::Merge;
    // If both sides only added rows, equal results are not sufficient: a row that each side added
    // must be kept twice.
    if merges_equal
        && !rows_may_move
        && group.only_appends_or_compacts != [true; 2]
        && all().all(|[_, ours, theirs]| ours == theirs)
    {
        return GroupDecision::Ours;
    }
    let only_deletes = |side: usize| all().all(|count| count[side] <= count[0]);
    let only_taken = merges_equal && !rows_may_move && only_deletes(1) && only_deletes(2);
    // If both sides deleted copies of a row and copies remain, they may have deleted different
    // copies.
    let conflicts = |count: &[u32; 3]| {
        let [base, ours, theirs] = count;
        ours < base && theirs < base && !(only_taken && *ours == 0 && *theirs == 0)
            || unclear && is_new(count)
            || !merges_equal && may_hide_change(count, group)
    };
    let conflicting: HashSet<RowHash> =
        counts.iter().filter(|(_, count)| conflicts(count)).map(|(key, _)| *key).collect();
    if !conflicting.is_empty() {
        return GroupDecision::Conflict(conflicting);
    }
    let merged = |[base, ours, theirs]: [u32; 3]| (ours + theirs).saturating_sub(base);
    if all().all(|count| merged(*count) == count[1]) {
        return GroupDecision::Ours;
    }
    if all().all(|count| merged(*count) == count[2]) {
        return GroupDecision::Theirs;
    }
    let differences = |less: fn(u32, u32) -> u32| {
        all().map(|count| u64::from(less(merged(*count), count[1]))).sum::<u64>()
    };
    GroupDecision::Rows {
        rows_added: differences(u32::saturating_sub),
        rows_removed: differences(|merged, ours| ours.saturating_sub(merged)),
        wanted: counts.iter().map(|(key, count)| (*key, merged(*count))).collect(),
    }
}

/// Returns true if one side has fewer copies of a row than the base, and the other side has more.
/// The other side may then have changed the removed row, too, and have turned a different row into
/// a copy. This is impossible if the other side only appended and compacted rows.
fn may_hide_change(count: &[u32; 3], group: &FileMergeGroup) -> bool {
    let may_hide = |side: usize, other: usize| {
        let changed_rows = !group.only_appends_or_compacts[side - 1];
        changed_rows && count[side] > count[0] && count[other] < count[0]
    };
    may_hide(1, 2) || may_hide(2, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Merges lists of rows, and compares the result with `expected`: the merged rows, or the rows
    /// in conflict.
    fn check(base: &[u8], ours: &[u8], theirs: &[u8], expected: Result<&[u8], &[u8]>) {
        check_group(&FileMergeGroup::default(), base, ours, theirs, expected);
    }

    fn check_group(
        group: &FileMergeGroup,
        base: &[u8],
        ours: &[u8],
        theirs: &[u8],
        expected: Result<&[u8], &[u8]>,
    ) {
        let mut counts = RowCounts::new();
        for (state, rows) in [base, ours, theirs].into_iter().enumerate() {
            for row in rows {
                counts.entry([*row; 16]).or_default()[state] += 1;
            }
        }
        let sorted = |rows: &[u8]| {
            let mut rows = rows.to_vec();
            rows.sort_unstable();
            rows
        };
        let found = match decide(&counts, group) {
            GroupDecision::Ours => Ok(sorted(ours)),
            GroupDecision::Theirs => Ok(sorted(theirs)),
            GroupDecision::Rows { wanted, .. } => {
                let rows = wanted.iter().flat_map(|(key, count)| vec![key[0]; *count as usize]);
                Ok(sorted(&rows.collect::<Vec<_>>()))
            }
            GroupDecision::Conflict(rows) => {
                Err(sorted(&rows.iter().map(|key| key[0]).collect::<Vec<_>>()))
            }
        };
        assert_eq!(found, expected.map(sorted).map_err(sorted), "{base:?} {ours:?} {theirs:?}");
    }

    #[test]
    fn rows_are_merged_by_their_counts() {
        check(&[1, 2, 3], &[1, 2], &[2, 3], Ok(&[2]));
        check(&[1, 2, 3], &[1, 2, 9], &[1, 3], Ok(&[1, 9]));
        check(&[1, 2], &[1, 2, 2], &[1, 2, 3], Ok(&[1, 2, 2, 3]));
        check(&[1, 2], &[1, 7], &[1, 7], Ok(&[1, 7]));
        check(&[1, 2, 3], &[1], &[2], Ok(&[]));
        check(&[1, 2, 3], &[3], &[1, 2, 3], Ok(&[3]));
        check(&[1, 2, 3], &[1, 2, 3], &[3, 4], Ok(&[3, 4]));
        check(&[1, 1, 2], &[2], &[1, 1], Ok(&[]));
    }

    #[test]
    fn a_row_that_may_have_moved_is_deleted_once() {
        let leaking = FileMergeGroup { rows_may_move: true, ..FileMergeGroup::default() };
        check_group(&leaking, &[1, 2], &[2], &[2], Err(&[1]));
        check_group(&leaking, &[1, 2], &[2], &[1], Ok(&[]));
        check_group(&leaking, &[1, 2], &[2, 3], &[1, 2], Ok(&[2, 3]));
    }

    #[test]
    fn rows_added_on_both_sides_are_kept_twice() {
        let only_appends_or_compacts =
            FileMergeGroup { only_appends_or_compacts: [true; 2], ..FileMergeGroup::default() };
        check_group(&only_appends_or_compacts, &[1], &[1, 2], &[1, 2], Ok(&[1, 2, 2]));
        check_group(&only_appends_or_compacts, &[1], &[1], &[1], Ok(&[1]));
    }

    #[test]
    fn rows_that_may_be_the_same_conflict() {
        let unclear = FileMergeGroup { unclear: true, ..FileMergeGroup::default() };
        check_group(&unclear, &[1, 2], &[1, 2, 5, 8], &[1, 2, 5, 9], Err(&[5]));
        check_group(&unclear, &[1, 2], &[1, 2, 8], &[1, 9], Ok(&[1, 8, 9]));
        check_group(&unclear, &[1, 2], &[1, 5], &[1, 5], Ok(&[1, 5]));
    }

    #[test]
    fn equal_changes_conflict_if_each_change_counts() {
        let group =
            FileMergeGroup { equal_changes: EqualChanges::Conflict, ..FileMergeGroup::default() };
        // Both sides updated row 2 to 7, or deleted it.
        check_group(&group, &[1, 2], &[1, 7], &[1, 7], Err(&[2]));
        check_group(&group, &[1, 2], &[1], &[1], Err(&[2]));
        check_group(&group, &[1, 2], &[], &[], Err(&[1, 2]));
        check_group(&group, &[1, 2, 2], &[1, 7, 7], &[1, 7, 7], Err(&[2]));
        let moving = FileMergeGroup { rows_may_move: true, ..group.clone() };
        check_group(&moving, &[1, 2], &[1], &[1], Err(&[2]));
        // The first case is a conflict about row 2. In the others, the sides changed different
        // rows.
        check_group(&group, &[1, 2, 3], &[1, 7], &[7, 3], Err(&[2]));
        check_group(&group, &[1, 2, 3], &[1, 7, 3], &[1, 2, 7], Ok(&[1, 7, 7]));
        check_group(&group, &[1, 2, 3], &[2, 3], &[1, 2], Ok(&[2]));
        // Both sides added row 7.
        check_group(&group, &[1, 2], &[1, 2, 7], &[1, 2, 7], Ok(&[1, 2, 7, 7]));
        check_group(&group, &[1, 2], &[1, 7], &[1, 2, 7], Ok(&[1, 7, 7]));
        check_group(&group, &[1], &[1], &[1], Ok(&[1]));
    }

    #[test]
    fn equal_rows_conflict_if_one_side_removed_and_the_other_added_some() {
        let group =
            FileMergeGroup { equal_changes: EqualChanges::Conflict, ..FileMergeGroup::default() };
        // One side added 1 to each value. So its row 2 is not the row 2 that the other side
        // changed.
        check_group(&group, &[1, 1, 2], &[2, 2, 3], &[1, 1, 9], Err(&[2]));
        check_group(&group, &[1, 1, 2], &[1, 1, 9], &[2, 2, 3], Err(&[2]));
        // The result is the same as if the transactions ran one after the other.
        check_group(&group, &[1, 2], &[2, 3], &[1, 9], Ok(&[3, 9]));
        let appends = FileMergeGroup { only_appends_or_compacts: [true, false], ..group };
        check_group(&appends, &[1, 2], &[1, 2, 2], &[1, 9], Ok(&[1, 2, 9]));
        check(&[1, 1, 2], &[2, 2, 3], &[1, 1, 9], Ok(&[2, 3, 9]));
    }

    #[test]
    fn rows_changed_on_both_sides_conflict() {
        check(&[1, 2], &[1, 8], &[1, 9], Err(&[2]));
        check(&[1, 2], &[1], &[1, 9], Err(&[2]));
        check(&[1, 2, 3], &[1, 8, 3], &[7, 9, 3], Err(&[2]));
        check(&[1, 1, 1], &[1, 1], &[1], Err(&[1]));
    }
}
