//! Merge bases: the best common ancestors of two commits, and the values at these ancestors.
//!
//! After criss-cross merges, two commits have several best common ancestors. If a value differs
//! between these ancestors, the ancestors are merged first, as in git's recursive merge. If the
//! values of the ancestors cannot be merged without the contents of the tables, the result is
//! [`BaseValue::Merged`].

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use headwater_model::{CommitId, Timestamp};

use crate::codec::CommitObject;
use crate::{Catalog, Result, TableEntry};

/// A sort key that orders every commit after its parents. The key is the commit's time, then its
/// generation. The time is never before the parents' times, and the generation is always higher
/// than the parents' generations.
pub(crate) type CommitOrder = (Timestamp, u64, CommitId);

/// The sides of a merge that have a commit in their history.
#[derive(Debug, Clone, Copy, Default)]
struct ReachableSides {
    one: bool,
    other: bool,
    /// True if the commit is an ancestor of a common ancestor that was already found.
    stale: bool,
}

/// The unvisited commits, and the number of those whose history may still contain a best common
/// ancestor.
#[derive(Default)]
struct Frontier {
    waiting: BTreeMap<CommitOrder, ReachableSides>,
    open: usize,
}

impl Frontier {
    fn mark(&mut self, rank: CommitOrder, marks: ReachableSides) {
        let known = self.waiting.get(&rank).copied();
        let before = known.unwrap_or_default();
        let after = ReachableSides {
            one: before.one || marks.one,
            other: before.other || marks.other,
            stale: before.stale || marks.stale,
        };
        self.open -= usize::from(known.is_some_and(|marks| !marks.stale));
        self.open += usize::from(!after.stale);
        self.waiting.insert(rank, after);
    }

    fn next(&mut self) -> Option<(CommitId, ReachableSides)> {
        let ((_, _, id), marks) = self.waiting.pop_last()?;
        self.open -= usize::from(!marks.stale);
        Some((id, marks))
    }
}

/// A value, such as the entry of a table, at the merge base of two commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseValue<T = Option<TableEntry>> {
    /// A known value.
    Known(T),
    /// Two differing values. Their merge requires the contents of the tables.
    Merged(Box<AmbiguousBase<T>>),
}

/// A value that differs between two best common ancestors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmbiguousBase<T = Option<TableEntry>> {
    /// The value at the merge base of the two ancestors.
    pub base: BaseValue<T>,
    /// The value at one ancestor.
    pub one: BaseValue<T>,
    /// The value at the other ancestor.
    pub other: BaseValue<T>,
}

impl<T: Clone + PartialEq> BaseValue<T> {
    fn merge(base: BaseValue<T>, one: BaseValue<T>, other: BaseValue<T>) -> BaseValue<T> {
        if one == other || other == base {
            one
        } else if one == base {
            other
        } else {
            BaseValue::Merged(Box::new(AmbiguousBase { base, one, other }))
        }
    }

    /// Returns the value, or, if the ancestors have different values, the value at one of them.
    pub fn first(&self) -> &T {
        match self {
            BaseValue::Known(value) => value,
            BaseValue::Merged(merged) => merged.one.first(),
        }
    }
}

/// The result of a three-way merge of values that cannot be merged in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MergedSide {
    Ours,
    Theirs,
    /// Both sides changed the value differently.
    Neither,
}

/// Returns the side whose value is the merged value.
pub(crate) fn side<T: PartialEq>(base: &BaseValue<T>, ours: &T, theirs: &T) -> MergedSide {
    match base {
        _ if ours == theirs => MergedSide::Ours,
        BaseValue::Known(base) if base == theirs => MergedSide::Ours,
        BaseValue::Known(base) if base == ours => MergedSide::Theirs,
        _ => MergedSide::Neither,
    }
}

type Future<'a, T> = Pin<Box<dyn std::future::Future<Output = Result<T>> + Send + 'a>>;

/// A function that reads a value from a commit.
pub(crate) type ValueReader<'a, T> = dyn Fn(Arc<CommitObject>) -> Future<'a, T> + Send + Sync + 'a;

impl Catalog {
    /// Returns the best common ancestors of two commits, newest first: the common ancestors that
    /// are not ancestors of other common ancestors. Usually there is one such ancestor; after
    /// criss-cross merges there are several, and for commits of different lakes none.
    pub async fn merge_bases(&self, one: CommitId, other: CommitId) -> Result<Vec<CommitId>> {
        self.bases(&[one], other).await
    }

    /// Returns true if `ancestor` is `head` or an ancestor of `head`.
    pub(crate) async fn is_ancestor(&self, ancestor: CommitId, head: CommitId) -> Result<bool> {
        Ok(self.merge_bases(ancestor, head).await? == [ancestor])
    }

    /// Returns the index of a commit in `heads` that is `ancestor` or one of its descendants. Walks
    /// from all heads at once, and stops at commits older than `ancestor`.
    pub(crate) async fn find_descendant(
        &self,
        ancestor: CommitId,
        heads: &[CommitId],
    ) -> Result<Option<usize>> {
        let goal = self.rank(ancestor).await?;
        let mut waiting: BTreeMap<CommitOrder, usize> = BTreeMap::new();
        for (index, head) in heads.iter().enumerate() {
            let rank = self.rank(*head).await?;
            if *head == ancestor {
                return Ok(Some(index));
            }
            // A commit of a lower rank is older than `ancestor`, so it cannot be a descendant.
            if rank > goal {
                waiting.entry(rank).or_insert(index);
            }
        }
        while let Some(((_, _, id), index)) = waiting.pop_last() {
            for parent in &self.objects.commit(id).await?.parents {
                if *parent == ancestor {
                    return Ok(Some(index));
                }
                let rank = self.rank(*parent).await?;
                if rank > goal {
                    waiting.entry(rank).or_insert(index);
                }
            }
        }
        Ok(None)
    }

    async fn rank(&self, id: CommitId) -> Result<CommitOrder> {
        let commit = self.objects.commit(id).await?;
        Ok((commit.time, commit.generation, id))
    }

    async fn bases(&self, one: &[CommitId], other: CommitId) -> Result<Vec<CommitId>> {
        let mut frontier = Frontier::default();
        for id in one {
            self.mark(
                &mut frontier,
                *id,
                ReachableSides { one: true, ..ReachableSides::default() },
            )
            .await?;
        }
        self.mark(
            &mut frontier,
            other,
            ReachableSides { other: true, ..ReachableSides::default() },
        )
        .await?;
        let mut found = Vec::new();
        // Children are visited before their parents, so all marks of a commit are known when the
        // commit is visited.
        while frontier.open > 0
            && let Some((id, mut marks)) = frontier.next()
        {
            if marks.one && marks.other && !marks.stale {
                found.push(id);
                marks.stale = true;
            }
            for parent in &self.objects.commit(id).await?.parents {
                self.mark(&mut frontier, *parent, marks).await?;
            }
        }
        Ok(found)
    }

    async fn mark(
        &self,
        frontier: &mut Frontier,
        id: CommitId,
        marks: ReachableSides,
    ) -> Result<()> {
        frontier.mark(self.rank(id).await?, marks);
        Ok(())
    }

    /// Returns the value at the merge bases; `lookup` reads the value at one commit.
    pub(crate) fn base_value<'a, T>(
        &'a self,
        bases: Vec<CommitId>,
        lookup: &'a ValueReader<'a, T>,
    ) -> Future<'a, BaseValue<T>>
    where
        T: Clone + PartialEq + Default + Send + Sync + 'a,
    {
        Box::pin(async move {
            let mut bases = bases.into_iter();
            let Some(first) = bases.next() else { return Ok(BaseValue::Known(T::default())) };
            let mut merged = BaseValue::Known(lookup(self.objects.commit(first).await?).await?);
            let mut heads = vec![first];
            for next in bases {
                let value = BaseValue::Known(lookup(self.objects.commit(next).await?).await?);
                if merged != value {
                    let below = self.bases(&heads, next).await?;
                    let below = self.base_value(below, lookup).await?;
                    merged = BaseValue::merge(below, merged, value);
                }
                heads.push(next);
            }
            Ok(merged)
        })
    }
}
