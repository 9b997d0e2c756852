//! Branches: names for commits that move.

use bytes::Bytes;
use headwater_model::{Branch, CommitId, CreateRef, MAIN_BRANCH, RefSpec, nearest, reference};
use headwater_store::{Batch, Expected, RefChange};

use crate::catalog::{ATTEMPTS_MAX, branch_ref, tag_ref};
use crate::codec::{self, BranchRecord};
use crate::{Catalog, Error, Result};

/// How many refs are read at once when they are listed.
const PAGE: usize = 1_000;

/// Where a branch begins, and the ref that must not have moved for it.
struct Start {
    commit: CommitId,
    quarantine: Option<String>,
    unmoved: Option<RefChange>,
}

/// What a new branch carries.
#[derive(Debug, Clone, Default)]
pub struct NewBranch {
    /// Takes no direct writes.
    pub protected: bool,
    /// The failed run whose branch it is.
    pub quarantine: Option<String>,
    /// Succeed where the name exists already, leaving it as it is.
    pub if_not_exists: bool,
}

impl BranchRecord {
    pub(crate) fn listed(self, name: &str) -> Branch {
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
    /// A branch; `RefNotFound` where there is none.
    pub async fn branch(&self, name: &str) -> Result<Branch> {
        Ok(self.branch_record(name).await?.0.listed(name))
    }

    /// The commit at which a branch came to be, where that is known; `RefNotFound` where there is no such
    /// branch.
    pub async fn start_of(&self, name: &str) -> Result<Option<CommitId>> {
        Ok(self.branch_record(name).await?.0.start)
    }

    /// Branches by name, those that begin with `prefix` where one is given.
    pub async fn branches(&self, prefix: Option<&str>) -> Result<Vec<Branch>> {
        let found = self.refs(&branch_ref(prefix.unwrap_or_default())).await?;
        let listed = found.into_iter().map(|(name, bytes)| {
            let name = name.strip_prefix("branch/").unwrap_or(&name);
            Ok(codec::decode::<BranchRecord>("a branch", &bytes)?.listed(name))
        });
        listed.collect()
    }

    /// Makes a branch, in quarantine where the one it is made from is. Costs one durable write,
    /// whatever the number of tables.
    pub async fn create_branch(&self, request: CreateRef) -> Result<Branch> {
        let from = request.from.unwrap_or_else(RefSpec::main);
        let options = NewBranch { if_not_exists: request.if_not_exists, ..NewBranch::default() };
        self.create_branch_with(&request.name, &from, options).await
    }

    /// Makes a branch with more said about it.
    pub async fn create_branch_with(
        &self,
        name: &str,
        from: &RefSpec,
        options: NewBranch,
    ) -> Result<Branch> {
        reference::check_ref_name(name, "branch")?;
        if let Some(start) = self.start_seen(name, from)?
            && let Some(branch) = self.make_branch(name, start, &options).await?
        {
            return Ok(branch);
        }
        let commit = self.resolve(from).await?.commit;
        let quarantine = self.quarantine_of(from, commit).await?;
        let start = Start { commit, quarantine, unmoved: None };
        let made = self.make_branch(name, start, &options).await?;
        made.ok_or_else(|| Error::Contended { name: name.to_owned(), attempts: 1 })
    }

    /// Where the branch begins if `from` is a branch that has not moved since it was last seen here, which
    /// saves reading it.
    fn start_seen(&self, name: &str, from: &RefSpec) -> Result<Option<Start>> {
        let RefSpec::Name(source) = from else { return Ok(None) };
        let Some(bytes) = self.heads.seen(source).filter(|_| source != name) else {
            return Ok(None);
        };
        let BranchRecord { commit, quarantine, .. } = BranchRecord::decode(source, &bytes)?;
        let unmoved = RefChange {
            name: branch_ref(source),
            expected: Expected::Value(bytes.clone()),
            value: Some(bytes),
        };
        Ok(Some(Start { commit, quarantine, unmoved: Some(unmoved) }))
    }

    /// Makes a branch; none where the branch it begins at has moved.
    async fn make_branch(
        &self,
        name: &str,
        start: Start,
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
        let names = (branch_ref(name), tag_ref(name));
        match self.make_ref(names, value.clone(), start.unmoved).await? {
            Made::Yes => {
                self.heads.set(name, Some(value));
                Ok(Some(record.listed(name)))
            }
            Made::Moved => Ok(None),
            Made::Exists if options.if_not_exists => self.branch(name).await.map(Some),
            Made::Exists => Err(Error::RefExists { what: "branch", name: name.to_owned() }),
            Made::OtherExists => Err(Error::RefExists { what: "tag", name: name.to_owned() }),
        }
    }

    /// Deletes a branch that is neither `main` nor protected. Its commits can still be named by their hash.
    pub async fn delete_branch(&self, name: &str) -> Result<()> {
        self.change_branch(name, "deleted", |_| None).await.map(drop)
    }

    /// What deletes a branch together with something else, as part of a batch that fails where the
    /// branch has moved by then; none where it is not at this commit even now.
    pub async fn closing(&self, name: &str, head: CommitId) -> Result<Option<RefChange>> {
        let (record, bytes) = self.branch_record(name).await?;
        let expected = Expected::Value(bytes);
        Ok((record.commit == head).then(|| RefChange {
            name: branch_ref(name),
            expected,
            value: None,
        }))
    }

    /// Renames a branch that is neither `main` nor protected.
    pub async fn rename_branch(&self, from: &str, to: &str) -> Result<Branch> {
        refuse_main(from, "renamed")?;
        reference::check_ref_name(to, "branch")?;
        let (record, bytes) = self.branch_record(from).await?;
        if record.protected {
            // Else another branch could take the name, and with it the place of what was protected.
            return Err(Error::Protected { branch: from.to_owned() });
        }
        if from == to {
            return Err(Error::RefExists { what: "branch", name: to.to_owned() });
        }
        let renamed = BranchRecord { start: Some(record.commit), ..record.clone() }.encode()?;
        let refs = vec![
            RefChange { name: branch_ref(from), expected: Expected::Value(bytes), value: None },
            RefChange { name: branch_ref(to), expected: Expected::Absent, value: Some(renamed) },
            RefChange { name: tag_ref(to), expected: Expected::Absent, value: None },
        ];
        match self.store.apply(Batch { refs, ..Batch::default() }).await {
            Ok(_) => {
                self.heads.set(from, None);
                Ok(record.listed(to))
            }
            Err(error) => Err(rename_error(error, "branch", from, to)),
        }
    }

    /// Refuses direct writes, or takes them again and requires nothing of merges.
    pub async fn protect_branch(&self, name: &str, protected: bool) -> Result<Branch> {
        let change = |record: BranchRecord| {
            let requires = record.requires.clone().filter(|_| protected);
            Some(BranchRecord { protected, requires, ..record })
        };
        self.change_branch(name, "", change).await
    }

    /// Refuses direct writes, and merges of what the expectations of a project have not passed on.
    pub async fn require_checks(&self, name: &str, project: &str) -> Result<Branch> {
        let requires = Some(project.to_owned());
        let change =
            |record| Some(BranchRecord { protected: true, requires: requires.clone(), ..record });
        self.change_branch(name, "", change).await
    }

    /// Marks a branch as a failed run's, or lifts the mark.
    pub async fn quarantine_branch(&self, name: &str, run: Option<&str>) -> Result<Branch> {
        let quarantine = run.map(str::to_owned);
        let change = |record| Some(BranchRecord { quarantine: quarantine.clone(), ..record });
        self.change_branch(name, "", change).await
    }

    /// Changes a branch's record by compare-and-swap; none deletes it.
    async fn change_branch(
        &self,
        name: &str,
        what: &'static str,
        change: impl Fn(BranchRecord) -> Option<BranchRecord>,
    ) -> Result<Branch> {
        let _turn = self.heads.turn(name).await;
        for _ in 0..ATTEMPTS_MAX {
            let (record, bytes) = self.branch_record(name).await?;
            let changed = change(record.clone());
            if changed.is_none() {
                refuse_main(name, what)?;
                if record.protected {
                    return Err(Error::Protected { branch: name.to_owned() });
                }
            }
            let value = changed.as_ref().map(BranchRecord::encode).transpose()?;
            let expected = Expected::Value(bytes);
            let refs = vec![RefChange { name: branch_ref(name), expected, value: value.clone() }];
            let entries =
                if changed.is_none() { self.removals(name, &record)? } else { Vec::new() };
            let batch = Batch { refs, entries, ..Batch::default() };
            if self.try_apply(batch, name, value).await?.is_some() {
                return Ok(changed.unwrap_or(record).listed(name));
            }
        }
        Err(Error::Contended { name: name.to_owned(), attempts: ATTEMPTS_MAX })
    }

    /// A branch's record, and its bytes for a compare-and-swap.
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

    /// The failed run whose work `from` holds, where it does: a branch says so itself, and any other
    /// commit is a failed run's where only branches that say so lead to it, or said so until they were
    /// removed.
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
        let (failed, sound): (Vec<Branch>, Vec<Branch>) =
            branches.into_iter().partition(|branch| branch.quarantine.is_some());
        let there =
            failed.into_iter().filter_map(|branch| Some((branch.commit, branch.quarantine?)));
        let gone = self.removed_quarantine().await?;
        let (heads, runs): (Vec<CommitId>, Vec<String>) = there.chain(gone).unzip();
        let Some(place) = self.led_to(commit, &heads).await? else { return Ok(None) };
        let sound: Vec<CommitId> = sound.iter().map(|branch| branch.commit).collect();
        let is_sound = self.led_to(commit, &sound).await?.is_some();
        Ok(runs.into_iter().nth(place).filter(|_| !is_sound))
    }

    /// The refs whose names begin with a prefix, by name.
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

    /// Makes a ref whose name no other kind of ref may have, where `unmoved` holds.
    pub(crate) async fn make_ref(
        &self,
        (name, other): (String, String),
        value: Bytes,
        unmoved: Option<RefChange>,
    ) -> Result<Made> {
        let mut refs = vec![
            RefChange { name: name.clone(), expected: Expected::Absent, value: Some(value) },
            RefChange { name: other.clone(), expected: Expected::Absent, value: None },
        ];
        refs.extend(unmoved);
        match self.store.apply(Batch { refs, ..Batch::default() }).await {
            Ok(_) => Ok(Made::Yes),
            Err(headwater_store::Error::Conflict { name: found }) => match found {
                found if found == name => Ok(Made::Exists),
                found if found == other => Ok(Made::OtherExists),
                _ => Ok(Made::Moved),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// The error for a name that nothing answers to, with the name that was probably meant.
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

/// What became of a ref that was to be made.
pub(crate) enum Made {
    Yes,
    Exists,
    OtherExists,
    Moved,
}

fn refuse_main(name: &str, what: &'static str) -> Result<()> {
    if name == MAIN_BRANCH { Err(Error::MainBranch { what }) } else { Ok(()) }
}

/// Tells which ref stood in the way of a rename.
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
