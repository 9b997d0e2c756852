//! Branches: names that refer to a commit and can be moved.

use bytes::Bytes;
use headwater_model::{Branch, CommitId, CreateRef, MAIN_BRANCH, RefSpec, nearest, reference};
use headwater_store::{RefChange, RefPrecondition, WriteBatch};

use crate::catalog::{ATTEMPTS_MAX, branch_ref, tag_ref};
use crate::codec::{self, BranchRecord};
use crate::{Catalog, Error, Result};

/// The number of refs read from the store per page.
const PAGE: usize = 1_000;

/// The commit at which a new branch starts, and the precondition that the source branch still has
/// this head.
struct StartPoint {
    commit: CommitId,
    quarantine: Option<String>,
    unmoved: Option<RefChange>,
}

/// Options for a new branch.
#[derive(Debug, Clone, Default)]
pub struct NewBranch {
    /// True if the branch rejects direct writes.
    pub protected: bool,
    /// The failed run to which the branch belongs. The branch is then in quarantine; `None` for
    /// other branches.
    pub quarantine: Option<String>,
    /// True to return the existing branch if the name is already in use, instead of failing.
    pub if_not_exists: bool,
}

impl BranchRecord {
    pub(crate) fn into_branch(self, name: &str) -> Branch {
        Branch {
            name: name.to_owned(),
            commit: self.commit,
            protected: self.protected,
            requires: self.requires,
            quarantine: self.quarantine,
            created: self.created,
        }
    }

    pub(crate) fn encode(&self) -> Result<Bytes> {
        codec::encode("a branch", self)
    }

    pub(crate) fn decode(branch: &str, bytes: &[u8]) -> Result<Self> {
        codec::decode(&format!("branch `{branch}`"), bytes)
    }
}

impl Catalog {
    /// Returns a branch, or `RefNotFound`.
    pub async fn branch(&self, name: &str) -> Result<Branch> {
        Ok(self.branch_record(name).await?.0.into_branch(name))
    }

    /// Returns the commit at which a branch was created, if known. Fails with `RefNotFound` if the
    /// branch does not exist.
    pub async fn start_of(&self, name: &str) -> Result<Option<CommitId>> {
        Ok(self.branch_record(name).await?.0.start)
    }

    /// Lists branches by name. With `prefix`, lists only branches whose names begin with it.
    pub async fn branches(&self, prefix: Option<&str>) -> Result<Vec<Branch>> {
        let found = self.refs(&branch_ref(prefix.unwrap_or_default())).await?;
        let branches = found.into_iter().map(|(name, bytes)| {
            let name = name.strip_prefix("branch/").unwrap_or(&name);
            Ok(codec::decode::<BranchRecord>("a branch", &bytes)?.into_branch(name))
        });
        branches.collect()
    }

    /// Creates a branch. The branch inherits the quarantine of its source. Needs one durable write,
    /// regardless of the number of tables.
    pub async fn create_branch(&self, request: CreateRef) -> Result<Branch> {
        let from = request.from.unwrap_or_else(RefSpec::main);
        let options = NewBranch { if_not_exists: request.if_not_exists, ..NewBranch::default() };
        self.create_branch_with(&request.name, &from, options).await
    }

    /// Creates a branch with options.
    pub async fn create_branch_with(
        &self,
        name: &str,
        from: &RefSpec,
        options: NewBranch,
    ) -> Result<Branch> {
        reference::check_ref_name(name, "branch")?;
        if let Some(start) = self.cached_start(name, from)?
            && let Some(branch) = self.insert_branch(name, start, &options).await?
        {
            return Ok(branch);
        }
        let commit = self.resolve(from).await?.commit;
        let quarantine = self.quarantine_of(from, commit).await?;
        let start = StartPoint { commit, quarantine, unmoved: None };
        let branch = self.insert_branch(name, start, &options).await?;
        branch.ok_or_else(|| Error::Contended { name: name.to_owned(), attempts: 1 })
    }

    /// Returns a start point for a new branch from the cached head of the branch `from`; `None` if
    /// the head is not cached. The cached head may be stale; in that case, `insert_branch` returns
    /// `None`.
    fn cached_start(&self, name: &str, from: &RefSpec) -> Result<Option<StartPoint>> {
        let RefSpec::Name(source) = from else { return Ok(None) };
        let Some(bytes) = self.heads.get(source).filter(|_| source != name) else {
            return Ok(None);
        };
        let BranchRecord { commit, quarantine, .. } = BranchRecord::decode(source, &bytes)?;
        let unmoved = RefChange {
            name: branch_ref(source),
            expected: RefPrecondition::Value(bytes.clone()),
            value: Some(bytes),
        };
        Ok(Some(StartPoint { commit, quarantine, unmoved: Some(unmoved) }))
    }

    /// Creates a branch. Returns `None` if the source branch has moved.
    async fn insert_branch(
        &self,
        name: &str,
        start: StartPoint,
        options: &NewBranch,
    ) -> Result<Option<Branch>> {
        let record = BranchRecord {
            commit: start.commit,
            protected: options.protected,
            requires: None,
            quarantine: options.quarantine.clone().or(start.quarantine),
            created: self.now(),
            start: Some(start.commit),
        };
        let value = record.encode()?;
        let created =
            self.create_ref(branch_ref(name), tag_ref(name), value.clone(), start.unmoved).await?;
        match created {
            CreateRefOutcome::Created => {
                self.heads.set(name, Some(value));
                Ok(Some(record.into_branch(name)))
            }
            CreateRefOutcome::SourceMoved => Ok(None),
            CreateRefOutcome::Exists if options.if_not_exists => self.branch(name).await.map(Some),
            CreateRefOutcome::Exists => {
                Err(Error::RefExists { what: "branch", name: name.to_owned() })
            }
            CreateRefOutcome::OtherKindExists => {
                Err(Error::RefExists { what: "tag", name: name.to_owned() })
            }
        }
    }

    /// Deletes a branch. Fails for `main` and protected branches. The commits of the branch stay
    /// available by hash.
    pub async fn delete_branch(&self, name: &str) -> Result<()> {
        self.change_branch(name, "deleted", |_| None).await.map(drop)
    }

    /// Deletes a branch if its head is `head`. Returns false if the branch has another head.
    pub async fn delete_branch_at(&self, name: &str, head: CommitId) -> Result<bool> {
        let moved = |record: BranchRecord| (record.commit != head).then_some(record);
        Ok(self.change_branch(name, "deleted", moved).await?.commit == head)
    }

    /// Returns the ref change that deletes a branch as part of a larger batch. Returns `None` if
    /// the branch's head is not `head`. If the branch moves later, the batch fails.
    pub async fn branch_deletion(&self, name: &str, head: CommitId) -> Result<Option<RefChange>> {
        let (record, bytes) = self.branch_record(name).await?;
        let expected = RefPrecondition::Value(bytes);
        Ok((record.commit == head).then(|| RefChange {
            name: branch_ref(name),
            expected,
            value: None,
        }))
    }

    /// Renames a branch. Fails for `main` and protected branches.
    pub async fn rename_branch(&self, from: &str, to: &str) -> Result<Branch> {
        reject_main(from, "renamed")?;
        reference::check_ref_name(to, "branch")?;
        let (record, bytes) = self.branch_record(from).await?;
        if record.protected {
            // A protected branch cannot be renamed, because an unprotected branch could then get
            // the protected name.
            return Err(Error::Protected { branch: from.to_owned() });
        }
        if from == to {
            return Err(Error::RefExists { what: "branch", name: to.to_owned() });
        }
        let renamed = BranchRecord { start: Some(record.commit), ..record.clone() }.encode()?;
        let refs = vec![
            RefChange {
                name: branch_ref(from),
                expected: RefPrecondition::Value(bytes),
                value: None,
            },
            RefChange {
                name: branch_ref(to),
                expected: RefPrecondition::Absent,
                value: Some(renamed),
            },
            RefChange { name: tag_ref(to), expected: RefPrecondition::Absent, value: None },
        ];
        match self.store.apply(WriteBatch { refs, ..WriteBatch::default() }).await {
            Ok(_) => {
                self.heads.set(from, None);
                Ok(record.into_branch(to))
            }
            Err(error) => Err(rename_error(error, "branch", from, to)),
        }
    }

    /// Protects a branch from direct writes, or removes the protection, and with it the required
    /// checks.
    pub async fn protect_branch(&self, name: &str, protected: bool) -> Result<Branch> {
        let change = |record: BranchRecord| {
            let requires = record.requires.clone().filter(|_| protected);
            Some(BranchRecord { protected, requires, ..record })
        };
        self.change_branch(name, "", change).await
    }

    /// Protects a branch, and requires that a project's expectations pass on every merge into it.
    pub async fn require_checks(&self, name: &str, project: &str) -> Result<Branch> {
        let requires = Some(project.to_owned());
        let change =
            |record| Some(BranchRecord { protected: true, requires: requires.clone(), ..record });
        self.change_branch(name, "", change).await
    }

    /// Puts a branch in quarantine for a failed run, or ends the quarantine if `run` is `None`.
    pub async fn quarantine_branch(&self, name: &str, run: Option<&str>) -> Result<Branch> {
        let quarantine = run.map(str::to_owned);
        let change = |record| Some(BranchRecord { quarantine: quarantine.clone(), ..record });
        self.change_branch(name, "", change).await
    }

    /// Updates a branch's record by compare-and-swap. If `change` returns `None`, deletes the
    /// branch.
    async fn change_branch(
        &self,
        name: &str,
        what: &'static str,
        change: impl Fn(BranchRecord) -> Option<BranchRecord>,
    ) -> Result<Branch> {
        let _lock = self.heads.lock(name).await;
        for _ in 0..ATTEMPTS_MAX {
            let (record, bytes) = self.branch_record(name).await?;
            let changed = change(record.clone());
            if changed.is_none() {
                reject_main(name, what)?;
                if record.protected {
                    return Err(Error::Protected { branch: name.to_owned() });
                }
            }
            let value = changed.as_ref().map(BranchRecord::encode).transpose()?;
            let expected = RefPrecondition::Value(bytes);
            let refs = vec![RefChange { name: branch_ref(name), expected, value: value.clone() }];
            let entries =
                if changed.is_none() { self.deletion_entries(name, &record)? } else { Vec::new() };
            let batch = WriteBatch { refs, entries, ..WriteBatch::default() };
            if self.try_apply(batch, name, value).await?.is_some() {
                return Ok(changed.unwrap_or(record).into_branch(name));
            }
        }
        Err(Error::Contended { name: name.to_owned(), attempts: ATTEMPTS_MAX })
    }

    /// Returns a branch's record, and its bytes for a compare-and-swap.
    pub(crate) async fn branch_record(&self, name: &str) -> Result<(BranchRecord, Bytes)> {
        match self.find_branch(name).await? {
            Some(found) => Ok(found),
            None => Err(self.no_ref("branch", name).await?),
        }
    }

    pub(crate) async fn find_branch(&self, name: &str) -> Result<Option<(BranchRecord, Bytes)>> {
        let found = self.store.reference(&branch_ref(name)).await?;
        self.heads.set(name, found.clone());
        found.map(|bytes| Ok((BranchRecord::decode(name, &bytes)?, bytes))).transpose()
    }

    /// Returns the failed run that quarantined `from`, if any. If `from` is a branch, its record
    /// contains the quarantine. Otherwise, the commit of `from` is in quarantine if it is reachable
    /// only from quarantined branches, including deleted ones.
    pub(crate) async fn quarantine_of(
        &self,
        from: &RefSpec,
        commit: CommitId,
    ) -> Result<Option<String>> {
        if let RefSpec::Name(name) | RefSpec::At { name, .. } = from
            && let Some((record, _)) = self.find_branch(name).await?
            && (record.quarantine.is_none() || matches!(from, RefSpec::Name(_)))
        {
            return Ok(record.quarantine);
        }
        let branches = self.branches(None).await?;
        let (failed, accepted): (Vec<Branch>, Vec<Branch>) =
            branches.into_iter().partition(|branch| branch.quarantine.is_some());
        let existing =
            failed.into_iter().filter_map(|branch| Some((branch.commit, branch.quarantine?)));
        let deleted = self.deleted_quarantine().await?;
        let (heads, runs): (Vec<CommitId>, Vec<String>) = existing.chain(deleted).unzip();
        let Some(index) = self.find_descendant(commit, &heads).await? else { return Ok(None) };
        let accepted: Vec<CommitId> = accepted.iter().map(|branch| branch.commit).collect();
        let is_accepted = self.find_descendant(commit, &accepted).await?.is_some();
        Ok(runs.into_iter().nth(index).filter(|_| !is_accepted))
    }

    /// Lists the refs with a prefix, by name.
    pub(crate) async fn refs(&self, prefix: &str) -> Result<Vec<(String, Bytes)>> {
        let mut found: Vec<(String, Bytes)> = Vec::new();
        loop {
            let after = found.last().map(|(name, _)| name.clone());
            let page = self.store.references(prefix, after.as_deref(), PAGE).await?;
            let ended = page.len() < PAGE;
            found.extend(page);
            if ended {
                return Ok(found);
            }
        }
    }

    /// Creates a ref if no branch or tag has its name, and if `unmoved`, the precondition on
    /// another ref, is met.
    pub(crate) async fn create_ref(
        &self,
        name: String,
        other: String,
        value: Bytes,
        unmoved: Option<RefChange>,
    ) -> Result<CreateRefOutcome> {
        let mut refs = vec![
            RefChange { name: name.clone(), expected: RefPrecondition::Absent, value: Some(value) },
            RefChange { name: other.clone(), expected: RefPrecondition::Absent, value: None },
        ];
        refs.extend(unmoved);
        match self.store.apply(WriteBatch { refs, ..WriteBatch::default() }).await {
            Ok(_) => Ok(CreateRefOutcome::Created),
            Err(headwater_store::Error::Conflict { name: found }) => match found {
                found if found == name => Ok(CreateRefOutcome::Exists),
                found if found == other => Ok(CreateRefOutcome::OtherKindExists),
                _ => Ok(CreateRefOutcome::SourceMoved),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the error for an unknown name, with the most similar existing name.
    pub(crate) async fn no_ref(&self, what: &'static str, name: &str) -> Result<Error> {
        if what == "branch or tag" && self.is_hash(name).await? {
            return Ok(Error::RefNotFound {
                what,
                name: name.to_owned(),
                near: Some(format!("@{name}")),
            });
        }
        let mut names = Vec::new();
        for prefix in ["branch/", "tag/"] {
            if what == "branch or tag" || prefix.starts_with(what) {
                let found = self.refs(prefix).await?;
                names.extend(found.into_iter().map(|(name, _)| name[prefix.len()..].to_owned()));
            }
        }
        let near = nearest(name, names.iter().map(String::as_str));
        Ok(Error::RefNotFound { what, name: name.to_owned(), near })
    }
}

/// The result of creating a ref.
pub(crate) enum CreateRefOutcome {
    Created,
    Exists,
    OtherKindExists,
    SourceMoved,
}

fn reject_main(name: &str, what: &'static str) -> Result<()> {
    if name == MAIN_BRANCH { Err(Error::MainBranch { what }) } else { Ok(()) }
}

/// Converts the store's error for a failed rename; names the ref that prevented it.
pub(crate) fn rename_error(
    error: headwater_store::Error,
    what: &'static str,
    from: &str,
    to: &str,
) -> Error {
    match error {
        headwater_store::Error::Conflict { name } if name == format!("branch/{to}") => {
            Error::RefExists { what: "branch", name: to.to_owned() }
        }
        headwater_store::Error::Conflict { name } if name == format!("tag/{to}") => {
            Error::RefExists { what: "tag", name: to.to_owned() }
        }
        headwater_store::Error::Conflict { .. } => {
            Error::Contended { name: format!("{what} {from}"), attempts: 1 }
        }
        error => error.into(),
    }
}
