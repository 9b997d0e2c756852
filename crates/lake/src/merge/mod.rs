//! Merges a ref into a branch, table by table.
//!
//! The catalog finds the tables that one side or both sides changed. A table changed by both sides
//! is merged by content if the changes are compatible, such as two appends. Otherwise the report
//! contains a conflict with its files and rows. The first attempts take no lock: if the target
//! branch moves meanwhile, the merge is planned again and reuses the results of unchanged tables.

mod cherry_pick;
mod conflict_cause;
mod conflict_choices;
mod conflict_error;
mod conflict_report;
mod conflict_text;
mod import_lists;
mod maintenance_only_changes;
mod merge_options;
mod merge_rights;
mod merge_span;
mod merged_contents;
mod reverted_by;
mod serial_order;
mod table_merge;
mod uncommitted_files;
mod view_merge;

use std::collections::{BTreeMap, BTreeSet};

use headwater_catalog::{
    CommitSequence, MergeCommit, MergePlan, MergeSource, RequiredCheckStatus, TableChange,
};
use headwater_model::{
    CommitId, MergeChoice, MergeOutcome, MergeReport, MergeRequest, RefSpec, TableName, ToProblem,
};

pub use self::conflict_error::{conflict_problem, with_rerun_hint};
pub use self::conflict_text::{changed_text, conflict_causes, conflict_names};
pub use self::merge_options::{MergeOptions, ReadPosition, ReadSet};
pub use self::merge_rights::MergeRights;
use self::merge_span::MergeSpan;
use self::merged_contents::{ContentMergeResult, MergeCommitChanges, MergedContents};
use self::uncommitted_files::UncommittedMerge;
use crate::error::{Error, Result};
use crate::lake::Lake;

/// Maximum number of attempts, if the target branch moves during each attempt.
const ATTEMPTS_MAX: usize = 50;

/// Number of attempts without locks. Later attempts lock the branch and the tables, so that other
/// commits of this process wait.
const ATTEMPTS_UNLOCKED: usize = 2;

impl Lake {
    /// Merges a ref into a branch. A conflict is not an error: the report lists each table in
    /// conflict with the changes of both sides, and the branch is unchanged. Merges are allowed on
    /// protected branches.
    pub async fn merge(
        &self,
        target: &str,
        request: MergeRequest,
        author: &str,
    ) -> Result<MergeReport> {
        let options = MergeOptions { author: author.to_owned(), ..MergeOptions::default() };
        self.merge_with(target, request, options).await
    }

    /// Does the same as [`Lake::merge`], with options.
    pub async fn merge_with(
        &self,
        target: &str,
        request: MergeRequest,
        options: MergeOptions,
    ) -> Result<MergeReport> {
        self.merge_range(target, request, options, MergeRange::Branch).await
    }

    async fn merge_range(
        &self,
        target: &str,
        mut request: MergeRequest,
        options: MergeOptions,
        range: MergeRange,
    ) -> Result<MergeReport> {
        let _no_sweep = self.merging().read().await;
        request.choices = Box::pin(self.checked_choices(target, &request)).await?;
        let started = (!request.dry_run).then(|| MergeSpan::begin(self, target, &options));
        let mut merging = OngoingMerge::new(self, &request, options, range);
        let result = Box::pin(merging.run(target)).await;
        if let Some(started) = started {
            started.end(&result);
        }
        merging.scratch.discard().await;
        result
    }
}

/// The range of changes that a merge applies.
#[derive(Debug)]
enum MergeRange {
    /// All changes of the source since the merge base.
    Branch,
    /// The changes between `commit` and the source, for a cherry-pick or revert.
    From {
        /// The commit at which the changes start.
        commit: CommitId,
        /// The tables to merge; `None` for all tables.
        only: Option<BTreeSet<TableName>>,
        /// True for a revert.
        is_revert: bool,
    },
}

/// A merge in progress.
struct OngoingMerge<'a> {
    lake: &'a Lake,
    request: &'a MergeRequest,
    range: MergeRange,
    options: MergeOptions,
    verdicts: MergedContents,
    scratch: UncommittedMerge,
}

impl<'a> OngoingMerge<'a> {
    fn new(
        lake: &'a Lake,
        request: &'a MergeRequest,
        options: MergeOptions,
        range: MergeRange,
    ) -> Self {
        let (verdicts, scratch) = (BTreeMap::new(), UncommittedMerge::new(lake.tables().clone()));
        OngoingMerge { lake, request, range, options, verdicts, scratch }
    }

    async fn run(&mut self, target: &str) -> Result<MergeReport> {
        let lake = self.lake;
        for attempt in 0..ATTEMPTS_MAX {
            let locks: Vec<_> = match attempt {
                ..ATTEMPTS_UNLOCKED => Vec::new(),
                _ => self.verdicts.keys().map(|table| lake.commit_lock(target, table)).collect(),
            };
            let mut guards = Vec::new();
            for lock in &locks {
                guards.push(lock.lock().await);
            }
            let locked = attempt >= ATTEMPTS_UNLOCKED;
            let _branch_lock =
                if locked { Some(lake.catalog().merges().lock_branch(target).await) } else { None };
            if let Some(report) = self.attempt(target).await? {
                return Ok(report);
            }
        }
        let attempts = ATTEMPTS_MAX;
        Err(headwater_catalog::Error::Contended { name: target.to_owned(), attempts }.into())
    }

    /// Attempts the merge. Returns `None` if the target has moved meanwhile.
    async fn attempt(&mut self, target: &str) -> Result<Option<MergeReport>> {
        let (plan, stack) = self.plan(target).await?;
        if stack.is_none() && plan.is_up_to_date() {
            let report = plan.report(MergeOutcome::UpToDate, plan.head);
            let by_user = self.options.passed.is_none();
            let undone_by = if by_user { self.lake.undone_by(&plan).await? } else { None };
            return Ok(Some(MergeReport { undone_by, ..report }));
        }
        self.check_required(&plan).await?;
        self.merge_contents(&plan).await?;
        let conflicts = self.conflicts(&plan).await?;
        if !conflicts.is_empty() {
            let report = plan.report(MergeOutcome::Conflict, plan.head);
            return Ok(Some(MergeReport { conflicts, ..report }));
        }
        self.check_duplicate_tables(&plan).await?;
        if stack.is_some() && !self.changes(&plan) {
            let report =
                self.report(&plan, MergeOutcome::UpToDate, plan.head, &self.merged_tables());
            return Ok(Some(report));
        }
        let forward = plan.is_forward() && self.options.properties.is_empty();
        let outcome = if forward { MergeOutcome::FastForward } else { MergeOutcome::Merged };
        if self.request.dry_run {
            // A dry run creates no merge commit, so the report contains the source of a
            // fast-forward, or the current head.
            let head = if forward { plan.source } else { plan.head };
            let report = self.report(&plan, outcome, head, &self.merged_tables());
            return Ok(Some(MergeReport { source: Some(plan.source), ..report }));
        }
        let mut made = UncommittedMerge::new(self.lake.tables().clone());
        let final_changes = self.final_changes(&plan, &mut made).await?;
        let message = self
            .request
            .message
            .clone()
            .unwrap_or_else(|| format!("Merge {} into {}", self.request.source, plan.target));
        let commit = self.commit(message, &final_changes);
        self.check_files_exist(&plan).await?;
        // From here on, a commit may refer to the files, even if the response is lost or this
        // future is dropped. So the files are removed only if the catalog reports that the commit
        // failed.
        let written = made.release();
        let applied = self.apply(&plan, stack, final_changes.changes.clone(), &commit).await;
        match applied {
            Ok(Some(head)) => {
                let report = self.report(&plan, outcome, head, &final_changes.merged);
                self.lake.changed().add(&plan.target, report.tables.iter());
                Ok(Some(report))
            }
            Ok(None) => {
                self.scratch.reclaim(written);
                Ok(None)
            }
            Err(error) => {
                if !error.code().has_unknown_outcome() {
                    self.scratch.reclaim(written);
                }
                Err(error.into())
            }
        }
    }

    /// Checks that all required expectations have passed, unless `--unchecked` was given.
    async fn check_required(&self, plan: &MergePlan) -> Result<()> {
        let passed = self.options.passed.as_deref();
        if passed.is_none() && self.request.unchecked {
            return Ok(());
        }
        // True if the merge makes the target identical to the source, apart from the target's
        // maintenance.
        let exact = match &self.range {
            MergeRange::Branch => {
                plan.is_forward() || self.lake.target_changed_only_by_maintenance(plan).await?
            }
            MergeRange::From { commit, only, .. } => *commit == plan.head && only.is_none(),
        };
        self.lake.check_required(plan, &self.request.source.to_string(), passed, exact).await
    }

    /// Fails if the merge adds a table that the target has under another name, for example because
    /// both sides renamed it. Otherwise the files of this table would belong to two tables.
    async fn check_duplicate_tables(&self, plan: &MergePlan) -> Result<()> {
        if plan.is_forward() {
            return Ok(());
        }
        let chosen = plan.contested.iter().filter(|contested| {
            let entry = self.verdicts.get(&contested.table).map(|entry| &entry.verdict);
            matches!(entry, Some(ContentMergeResult::Conflict(_)))
                && self.request.choice(contested.names()) == MergeChoice::Theirs
        });
        let chosen = chosen.map(|one| (&one.table, (one.ours.as_ref(), one.theirs.as_ref())));
        let taken = plan.taken.iter();
        let taken = taken.map(|one| (&one.table, (one.from.as_ref(), one.to.as_ref())));
        let changes: BTreeMap<&TableName, _> = taken.chain(chosen).collect();
        let mut added_ids: BTreeMap<&str, &TableName> = BTreeMap::new();
        for (name, (from, to)) in &changes {
            let new = to.filter(|to| from.is_none_or(|from| from.id != to.id));
            added_ids.extend(new.map(|to| (to.id.as_str(), *name)));
        }
        if added_ids.is_empty() {
            return Ok(());
        }
        for (other, entry) in self.lake.catalog().state(plan.head).await?.all_entries().await? {
            if let Some(name) = added_ids.get(entry.id.as_str())
                && !changes.contains_key(&other)
            {
                return Err(Error::TableTwice { table: (*name).clone(), other });
            }
        }
        Ok(())
    }

    fn checks(&self) -> RequiredCheckStatus {
        if self.options.passed.is_some() {
            RequiredCheckStatus::Passed
        } else {
            RequiredCheckStatus::required_unless(self.request.unchecked)
        }
    }

    async fn plan(&self, target: &str) -> Result<(MergePlan, Option<CommitSequence>)> {
        let (catalog, request) = (self.lake.catalog(), self.request);
        let MergeRange::From { commit: from, only, is_revert } = &self.range else {
            let mut plan = catalog.merges().plan(target, &request.source, self.checks()).await?;
            plan.merged = self.options.merged_ref(&request.source);
            return Ok((plan, None));
        };
        let mut stack = catalog.merges().begin_sequence(target).await?;
        let to = catalog.resolve(&request.source).await?.commit;
        if !is_revert {
            let source = MergeSource { reference: &request.source, commit: to };
            catalog.merges().check_sequence(&mut stack, &source, self.checks()).await?;
        }
        let mut plan = catalog.merges().plan_onto(&stack, *from, to).await?;
        if let Some(only) = only {
            plan.taken.retain(|change| only.contains(&change.table));
            plan.contested
                .retain(|contested| contested.names().into_iter().any(|name| only.contains(name)));
        }
        if let Some(rights) = &self.options.rights {
            merge_rights::check_change(rights.as_ref(), &plan)?;
        }
        Ok((plan, Some(stack)))
    }

    /// Returns true if the merge changes the target.
    fn changes(&self, plan: &MergePlan) -> bool {
        let contested = self.verdicts.values().any(|entry| match &entry.verdict {
            ContentMergeResult::Conflict(_) => {
                self.request.choice(entry.contested.names()) == MergeChoice::Theirs
            }
            verdict => entry.contested.renames() || verdict.changes(),
        });
        contested || !plan.taken.is_empty()
    }

    /// Commits the merge. Returns `None` if the target has moved meanwhile.
    async fn apply(
        &self,
        plan: &MergePlan,
        stack: Option<CommitSequence>,
        changes: Vec<TableChange>,
        commit: &MergeCommit,
    ) -> std::result::Result<Option<CommitId>, headwater_catalog::Error> {
        let catalog = self.lake.catalog();
        let Some(mut stack) = stack else {
            return catalog.merges().apply(plan, changes, commit).await;
        };
        let id = catalog.merges().append_to_sequence(&mut stack, plan, changes, commit).await?;
        Ok(catalog.merges().end_sequence(stack, &commit.with).await?.then_some(id))
    }

    /// Checks that the source's files exist. Maintenance never removes files of a branch or tag,
    /// but may have removed files of other commits.
    async fn check_files_exist(&self, plan: &MergePlan) -> Result<()> {
        if matches!((&self.range, &self.request.source), (MergeRange::Branch, RefSpec::Name(_))) {
            return Ok(());
        }
        let taken = plan.taken.iter().filter_map(|change| change.to.as_ref());
        let contested = plan.contested.iter().filter_map(|contested| contested.theirs.as_ref());
        self.lake.check_readable(taken.chain(contested)).await
    }

    fn commit(&self, message: String, final_changes: &MergeCommitChanges) -> MergeCommit {
        let mut with = self.options.with.clone();
        with.objects.extend(final_changes.objects.iter().cloned());
        MergeCommit {
            author: self.options.author.clone(),
            message,
            properties: self.options.commit_properties(),
            with,
        }
    }
}
