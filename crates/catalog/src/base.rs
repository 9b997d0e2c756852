//! Where two sides of a merge come from: their best common ancestors, and what was there.
//!
//! Branches that were merged into each other crosswise have several best common ancestors, and none of
//! them alone knows what both sides had. Where they disagree, what was there is worked out as git does: by
//! merging the ancestors with each other first, back from where those come from. What even that cannot
//! settle stays open, and is left to whoever knows what is in a table.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use headwater_model::{CommitId, Timestamp};

use crate::codec::CommitObject;
use crate::{Catalog, Result, TableEntry};

/// Orders commits so that a child always comes before its parents: a commit's time is never before its
/// parents', and its generation is always above theirs.
pub(crate) type Rank = (Timestamp, u64, CommitId);

/// Which side a commit leads to.
#[derive(Debug, Clone, Copy, Default)]
struct Marks {
    one: bool,
    other: bool,
    /// It leads to a common ancestor that was found already.
    stale: bool,
}

/// Commits that have yet to be looked at, and how many of them may still lead to a best common ancestor.
#[derive(Default)]
struct Frontier {
    waiting: BTreeMap<Rank, Marks>,
    open: usize,
}

impl Frontier {
    fn mark(&mut self, rank: Rank, marks: Marks) {
        let known = self.waiting.get(&rank).copied();
        let before = known.unwrap_or_default();
        let after = Marks {
            one: before.one || marks.one,
            other: before.other || marks.other,
            stale: before.stale || marks.stale,
        };
        self.open -= usize::from(known.is_some_and(|marks| !marks.stale));
        self.open += usize::from(!after.stale);
        self.waiting.insert(rank, after);
    }

    fn next(&mut self) -> Option<(CommitId, Marks)> {
        let ((_, _, id), marks) = self.waiting.pop_last()?;
        self.open -= usize::from(!marks.stale);
        Some((id, marks))
    }
}

/// What both sides of a merge come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base<T = Option<TableEntry>> {
    /// It was this.
    Known(T),
    /// It is what merging these gives, which takes a look into the table to know.
    Merged(Box<MergedBase<T>>),
}

/// A base that two commits disagree about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedBase<T = Option<TableEntry>> {
    /// Where the two come from.
    pub base: Base<T>,
    /// What it was at one commit.
    pub one: Base<T>,
    /// What it was at the other.
    pub other: Base<T>,
}

impl<T: Clone + PartialEq> Base<T> {
    fn merge(base: Base<T>, one: Base<T>, other: Base<T>) -> Base<T> {
        if one == other || other == base {
            one
        } else if one == base {
            other
        } else {
            Base::Merged(Box::new(MergedBase { base, one, other }))
        }
    }

    /// What it was, or was at one of the commits.
    pub fn first(&self) -> &T {
        match self {
            Base::Known(value) => value,
            Base::Merged(merged) => merged.one.first(),
        }
    }
}

/// What a three-way merge of whole values comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    Theirs,
    /// Both changed it, and differently.
    Neither,
}

/// The side whose value is the merged one.
pub(crate) fn side<T: PartialEq>(base: &Base<T>, ours: &T, theirs: &T) -> Side {
    match base {
        _ if ours == theirs => Side::Ours,
        Base::Known(base) if base == theirs => Side::Ours,
        Base::Known(base) if base == ours => Side::Theirs,
        _ => Side::Neither,
    }
}

type Future<'a, T> = Pin<Box<dyn std::future::Future<Output = Result<T>> + Send + 'a>>;

/// Looks something up in a commit.
pub(crate) type Look<'a, T> = dyn Fn(Arc<CommitObject>) -> Future<'a, T> + Send + Sync + 'a;

impl Catalog {
    /// The best common ancestors of two commits, newest first: those that lead to both of them, and to no
    /// other such commit. One as a rule; several after crosswise merges; none for commits of two lakes.
    pub async fn merge_bases(&self, one: CommitId, other: CommitId) -> Result<Vec<CommitId>> {
        self.bases(&[one], other).await
    }

    /// Whether `ancestor` leads to `head`, or is it.
    pub(crate) async fn is_ancestor(&self, ancestor: CommitId, head: CommitId) -> Result<bool> {
        Ok(self.merge_bases(ancestor, head).await? == [ancestor])
    }

    /// Which of some commits, by its place, `ancestor` leads to, or is; the first that is found of several.
    /// One walk from all of them, back to where nothing can come from it any more.
    pub(crate) async fn led_to(
        &self,
        ancestor: CommitId,
        heads: &[CommitId],
    ) -> Result<Option<usize>> {
        let goal = self.rank(ancestor).await?;
        let mut waiting: BTreeMap<Rank, usize> = BTreeMap::new();
        for (place, head) in heads.iter().enumerate() {
            let rank = self.rank(*head).await?;
            if *head == ancestor {
                return Ok(Some(place));
            }
            // What is older than the ancestor does not come from it.
            if rank > goal {
                waiting.entry(rank).or_insert(place);
            }
        }
        while let Some(((_, _, id), place)) = waiting.pop_last() {
            for parent in &self.objects.commit(id).await?.parents {
                if *parent == ancestor {
                    return Ok(Some(place));
                }
                let rank = self.rank(*parent).await?;
                if rank > goal {
                    waiting.entry(rank).or_insert(place);
                }
            }
        }
        Ok(None)
    }

    async fn rank(&self, id: CommitId) -> Result<Rank> {
        let commit = self.objects.commit(id).await?;
        Ok((commit.time, commit.generation, id))
    }

    async fn bases(&self, one: &[CommitId], other: CommitId) -> Result<Vec<CommitId>> {
        let mut frontier = Frontier::default();
        for id in one {
            self.mark(&mut frontier, *id, Marks { one: true, ..Marks::default() }).await?;
        }
        self.mark(&mut frontier, other, Marks { other: true, ..Marks::default() }).await?;
        let mut found = Vec::new();
        // Children come before parents, so that all that leads to a commit is known when it comes.
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

    async fn mark(&self, frontier: &mut Frontier, id: CommitId, marks: Marks) -> Result<()> {
        frontier.mark(self.rank(id).await?, marks);
        Ok(())
    }

    /// What was at the commits that both sides come from.
    pub(crate) fn base_value<'a, T>(
        &'a self,
        bases: Vec<CommitId>,
        look: &'a Look<'a, T>,
    ) -> Future<'a, Base<T>>
    where
        T: Clone + PartialEq + Default + Send + Sync + 'a,
    {
        Box::pin(async move {
            let mut bases = bases.into_iter();
            let Some(first) = bases.next() else { return Ok(Base::Known(T::default())) };
            let mut merged = Base::Known(look(self.objects.commit(first).await?).await?);
            let mut heads = vec![first];
            for next in bases {
                let value = Base::Known(look(self.objects.commit(next).await?).await?);
                if merged != value {
                    let below = self.bases(&heads, next).await?;
                    let below = self.base_value(below, look).await?;
                    merged = Base::merge(below, merged, value);
                }
                heads.push(next);
            }
            Ok(merged)
        })
    }
}
