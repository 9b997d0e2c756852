//! From what a person writes to a commit.

use headwater_model::{CommitId, ObjectId, RefSpec};

use crate::catalog::{branch_ref, tag_ref};
use crate::codec::{self, BranchRecord, TagRecord};
use crate::objects::no_commit;
use crate::{Catalog, Error, Result};

/// How many objects that begin with the same digits are looked at.
const CANDIDATES_MAX: usize = 64;

/// What a ref stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The commit.
    pub commit: CommitId,
    /// The branch, where the ref is the head of one.
    pub branch: Option<String>,
}

impl Catalog {
    /// What a ref stands for; `RefNotFound` with the name that was probably meant, `AmbiguousHash` where
    /// the digits could be several commits.
    pub async fn resolve(&self, spec: &RefSpec) -> Result<Resolved> {
        match spec {
            RefSpec::Name(name) => self.resolve_name(name).await,
            RefSpec::At { name, hash } => {
                let head = self.resolve_name(name).await?.commit;
                let commit = self.find_in_history(head, hash).await?;
                Ok(Resolved { commit, branch: None })
            }
            RefSpec::Commit(hash) => {
                Ok(Resolved { commit: self.find_anywhere(hash).await?, branch: None })
            }
        }
    }

    async fn resolve_name(&self, name: &str) -> Result<Resolved> {
        if let Some(bytes) = self.store.reference(&branch_ref(name)).await? {
            let record: BranchRecord = codec::decode(&format!("branch `{name}`"), &bytes)?;
            return Ok(Resolved { commit: record.commit, branch: Some(name.to_owned()) });
        }
        if let Some(bytes) = self.store.reference(&tag_ref(name)).await? {
            let record: TagRecord = codec::decode(&format!("tag `{name}`"), &bytes)?;
            return Ok(Resolved { commit: record.commit, branch: None });
        }
        Err(self.no_ref("branch or tag", name).await?)
    }

    async fn find_in_history(&self, head: CommitId, hash: &str) -> Result<CommitId> {
        let mut walk = self.walk(head).await?;
        let mut found = Vec::new();
        while let Some((id, _)) = walk.next().await? {
            let digits = id.to_string();
            if digits == hash {
                return Ok(id);
            }
            if digits.starts_with(hash) {
                found.push(id);
            }
        }
        one(hash, found)
    }

    async fn find_anywhere(&self, hash: &str) -> Result<CommitId> {
        if let Ok(id) = hash.parse::<ObjectId>() {
            return match self.objects.find_commit(id).await? {
                Some(_) => Ok(id),
                None => Err(no_commit(hash)),
            };
        }
        let mut found = Vec::new();
        for id in self.store.objects_like(hash, CANDIDATES_MAX).await? {
            if self.objects.find_commit(id).await?.is_some() {
                found.push(id);
            }
        }
        one(hash, found)
    }
}

fn one(hash: &str, mut found: Vec<CommitId>) -> Result<CommitId> {
    if found.len() > 1 {
        return Err(Error::AmbiguousHash { digits: hash.to_owned(), commits: found });
    }
    found.pop().ok_or_else(|| no_commit(hash))
}
