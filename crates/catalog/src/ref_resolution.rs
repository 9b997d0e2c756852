//! Resolution of refs to commits.

use headwater_model::reference::HASH_DIGITS_MIN;
use headwater_model::{AncestorDistance, CommitId, RefSpec};

use crate::catalog::tag_ref;
use crate::codec::{self, TagRecord};
use crate::object_cache::no_commit;
use crate::{Catalog, Error, Result};

/// The maximum number of objects checked for one hash prefix.
const CANDIDATES_MAX: usize = 64;

/// The result of resolving a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefResolution {
    /// The commit that the ref resolved to.
    pub commit: CommitId,
    /// The branch, if the ref names one.
    pub branch: Option<String>,
}

impl Catalog {
    /// Resolves a ref. Fails with `RefNotFound` and the most similar name, or with `AmbiguousHash`
    /// if the hash prefix matches several commits.
    pub async fn resolve(&self, spec: &RefSpec) -> Result<RefResolution> {
        match spec {
            RefSpec::Name(name) => self.resolve_name(name).await,
            RefSpec::At { name, hash } => {
                let head = self.resolve_name(name).await?.commit;
                let commit = self.find_in_history(head, hash).await?;
                Ok(RefResolution { commit, branch: None })
            }
            RefSpec::Before { of, back } => {
                Ok(RefResolution { commit: self.find_before(of, back).await?, branch: None })
            }
            RefSpec::Commit(hash) => {
                Ok(RefResolution { commit: self.find_anywhere(hash).await?, branch: None })
            }
        }
    }

    /// Returns an ancestor along first parents, by distance or time.
    async fn find_before(&self, of: &RefSpec, back: &AncestorDistance) -> Result<CommitId> {
        let mut id = Box::pin(self.resolve(of)).await?.commit;
        let mut steps = 0;
        loop {
            let commit = self.objects.commit(id).await?;
            let reached = match back {
                AncestorDistance::Commits(count) => steps == *count,
                // Compare microseconds, because timestamps are displayed with this precision.
                AncestorDistance::Time(time) => {
                    commit.time.timestamp_micros() <= time.timestamp_micros()
                }
            };
            if reached {
                return Ok(id);
            }
            let none = || Error::NoCommitBefore { reference: of.to_string(), back: back.clone() };
            id = *commit.parents.first().ok_or_else(none)?;
            steps += 1;
        }
    }

    async fn resolve_name(&self, name: &str) -> Result<RefResolution> {
        if let Some((record, _)) = self.find_branch(name).await? {
            return Ok(RefResolution { commit: record.commit, branch: Some(name.to_owned()) });
        }
        if let Some(bytes) = self.store.reference(&tag_ref(name)).await? {
            let record: TagRecord = codec::decode(&format!("tag `{name}`"), &bytes)?;
            return Ok(RefResolution { commit: record.commit, branch: None });
        }
        Err(self.no_ref("branch or tag", name).await?)
    }

    async fn find_in_history(&self, head: CommitId, hash: &str) -> Result<CommitId> {
        let mut found = Vec::new();
        for id in self.commits_with_prefix(hash).await? {
            if self.is_ancestor(id, head).await? {
                found.push(id);
            }
        }
        exactly_one(hash, found)
    }

    async fn find_anywhere(&self, hash: &str) -> Result<CommitId> {
        exactly_one(hash, self.commits_with_prefix(hash).await?)
    }

    /// Returns true if the text is a commit hash or a prefix of one.
    pub(crate) async fn is_hash(&self, text: &str) -> Result<bool> {
        let digits = text.len() >= HASH_DIGITS_MIN && text.bytes().all(|b| b.is_ascii_hexdigit());
        Ok(digits && !self.commits_with_prefix(&text.to_ascii_lowercase()).await?.is_empty())
    }

    /// Lists the commits with this hash prefix.
    async fn commits_with_prefix(&self, digits: &str) -> Result<Vec<CommitId>> {
        let mut found = Vec::new();
        for id in self.store.objects_with_prefix(digits, CANDIDATES_MAX).await? {
            if self.objects.find_commit(id).await?.is_some() {
                found.push(id);
            }
        }
        Ok(found)
    }
}

/// Returns true if a ref consists of a commit id without a name, or is an ancestor of such a ref,
/// and its commit is in the history of a branch or tag for which `includes` returns true. An
/// unknown commit is in no history.
pub async fn is_commit_in(
    catalog: &Catalog,
    mut spec: &RefSpec,
    includes: &(dyn Fn(&str) -> bool + Send + Sync),
) -> Result<bool> {
    let hash = loop {
        match spec {
            RefSpec::Commit(hash) => break hash,
            RefSpec::Before { of, .. } => spec = of,
            RefSpec::Name(_) | RefSpec::At { .. } => return Ok(false),
        }
    };
    let mut heads = Vec::new();
    for branch in catalog.branches(None).await? {
        heads.extend(includes(&branch.name).then_some(branch.commit));
    }
    for tag in catalog.tags().list(None).await? {
        heads.extend(includes(&tag.name).then_some(tag.commit));
    }
    let found = catalog.commits_with_prefix(hash).await?;
    let [commit] = found[..] else { return Ok(false) };
    Ok(catalog.find_descendant(commit, &heads).await?.is_some())
}

fn exactly_one(hash: &str, mut found: Vec<CommitId>) -> Result<CommitId> {
    if found.len() > 1 {
        return Err(Error::AmbiguousHash { digits: hash.to_owned(), commits: found });
    }
    found.pop().ok_or_else(|| no_commit(hash))
}
