//! Merges one ref into a branch: table by table, and within a table by content.
//!
//! The catalog says which tables only one side changed, and which both did. Those are looked into: where
//! the two changes can stand together, as two appends can, the table is merged, and where they cannot the
//! conflict says which files and rows stand against each other. Nothing is locked: a target that moves on
//! meanwhile is looked at again, and what was worked out for tables that stayed as they were is kept.

mod cause;
mod conflicts;
mod content;
mod imports;
mod problem;
mod scratch;
mod transplant;
mod undone;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use headwater_catalog::{Base, Checks, Contested, MergeCommit, MergePlan, Stack, TableChange};
use headwater_model::{
    CommitId, ConflictCause, Fault, MergeChoice, MergeOutcome, MergeReport, MergeRequest,
    MergedHow, MergedTable, PROPERTY_PICKED, RefSpec, TableName,
};
use headwater_store::Batch;
use headwater_tables::RowBudget;

use self::content::Content;
pub use self::problem::{conflict_problem, with_rerun_hint};
use self::scratch::Scratch;
use self::view::{ViewContent, concerns_view};
use crate::error::{Error, Result};
use crate::lake::Lake;

/// How often a merge that others overtook is made again.
const ATTEMPTS_MAX: usize = 50;

/// Attempts after which other commits of this process wait until the merge is made.
const ATTEMPTS_POLITE: usize = 2;

/// What goes with a merge.
#[derive(Debug, Clone, Default)]
pub struct MergeOptions {
    /// Who merges.
    pub author: String,
    /// Properties of the commit. Where there are any, one is made even if the target could simply move
    /// forward.
    pub properties: BTreeMap<String, String>,
    /// What stands or falls with the commit.
    pub with: Batch,
    /// Tables that are only merged whole: where both sides changed one, it is a conflict.
    pub whole: BTreeSet<TableName>,
    /// Where a run merges, the project all of whose expectations have passed; empty where none did.
    pub passed: Option<String>,
}

/// What is to become of a contested table.
#[derive(Debug)]
enum Verdict {
    Content(Box<Content>),
    View(Box<ViewContent>),
    Conflict(Vec<ConflictCause>),
}

impl Verdict {
    /// Whether the target's table, or view, changes by content.
    fn changes(&self) -> bool {
        match self {
            Verdict::Content(content) => content.changes(),
            Verdict::View(content) => content.changes(),
            Verdict::Conflict(_) => false,
        }
    }
}

/// What was worked out for contested tables, which holds as long as they stay as they are.
type Verdicts = BTreeMap<TableName, Looked>;

/// What was worked out for a contested table.
#[derive(Debug)]
struct Looked {
    contested: Contested,
    verdict: Verdict,
    /// How many rows were compared.
    rows: u64,
}

impl Lake {
    /// Merges a ref into a branch. A conflict is an answer and no error: the report names every table
    /// with both changes and what they cannot have together, and nothing was changed. A protected
    /// branch takes merges.
    pub async fn merge(
        &self,
        target: &str,
        request: MergeRequest,
        author: &str,
    ) -> Result<MergeReport> {
        let options = MergeOptions { author: author.to_owned(), ..MergeOptions::default() };
        self.merge_with(target, request, options).await
    }

    /// As `merge`, with more that goes with it.
    pub async fn merge_with(
        &self,
        target: &str,
        request: MergeRequest,
        options: MergeOptions,
    ) -> Result<MergeReport> {
        self.merge_change(target, request, options, Change::Branch).await
    }

    async fn merge_change(
        &self,
        target: &str,
        mut request: MergeRequest,
        options: MergeOptions,
        change: Change,
    ) -> Result<MergeReport> {
        let _unswept = self.merging().read().await;
        request.choices = Box::pin(self.checked_choices(target, &request)).await?;
        let mut merging = Merging::new(self, &request, options, change);
        let result = Box::pin(merging.run(target)).await;
        merging.scratch.discard().await;
        result
    }

    /// What was chosen for tables, by the names that they have. A choice about a table that neither side
    /// has is a mistake, and so are two about one.
    async fn checked_choices(
        &self,
        target: &str,
        request: &MergeRequest,
    ) -> Result<BTreeMap<TableName, MergeChoice>> {
        let mut choices = BTreeMap::new();
        if request.choices.is_empty() {
            return Ok(choices);
        }
        let ours = self.view(&RefSpec::Name(target.to_owned())).await?;
        let theirs = self.view(&request.source).await?;
        for (name, choice) in &request.choices {
            let found = match ours.state().find(&name.namespace, &name.name).await? {
                None => theirs.state().find(&name.namespace, &name.name).await?,
                found => found,
            };
            let Some((table, _)) = found else { return Err(ours.not_found(name).await?) };
            if choices.insert(table.clone(), *choice).is_some_and(|other| other != *choice) {
                return Err(Error::InvalidRequest {
                    message: format!("two choices are made about table `{table}`"),
                    hint: "Choose one side.",
                });
            }
        }
        Ok(choices)
    }
}

/// What is merged.
#[derive(Debug)]
enum Change {
    /// All that leads to the source.
    Branch,
    /// What leads from a commit to the source.
    From {
        /// The commit.
        commit: CommitId,
        /// The tables it is about; all where none are named.
        only: Option<BTreeSet<TableName>>,
        /// Whether what the target had before comes back.
        undoes: bool,
    },
}

/// A merge under way.
struct Merging<'a> {
    lake: &'a Lake,
    request: &'a MergeRequest,
    change: Change,
    options: MergeOptions,
    verdicts: Verdicts,
    scratch: Scratch,
}

/// What is to become of all contested tables.
#[derive(Default)]
struct Settled {
    changes: Vec<TableChange>,
    merged: Vec<MergedTable>,
    objects: Vec<bytes::Bytes>,
}

impl<'a> Merging<'a> {
    fn new(
        lake: &'a Lake,
        request: &'a MergeRequest,
        options: MergeOptions,
        change: Change,
    ) -> Self {
        let (verdicts, scratch) = (Verdicts::new(), Scratch::new(lake.tables().clone()));
        Merging { lake, request, change, options, verdicts, scratch }
    }

    async fn run(&mut self, target: &str) -> Result<MergeReport> {
        let lake = self.lake;
        for attempt in 0..ATTEMPTS_MAX {
            let locks: Vec<_> = match attempt {
                ..ATTEMPTS_POLITE => Vec::new(),
                _ => self.verdicts.keys().map(|table| lake.commit_lock(target, table)).collect(),
            };
            let mut turns = Vec::new();
            for lock in &locks {
                turns.push(lock.lock().await);
            }
            let impatient = attempt >= ATTEMPTS_POLITE;
            let _turn = if impatient { Some(lake.catalog().turn(target).await) } else { None };
            if let Some(report) = self.attempt(target).await? {
                return Ok(report);
            }
        }
        let attempts = ATTEMPTS_MAX;
        Err(headwater_catalog::Error::Contended { name: target.to_owned(), attempts }.into())
    }

    /// Merges; none where the target moved meanwhile.
    async fn attempt(&mut self, target: &str) -> Result<Option<MergeReport>> {
        let (plan, stack) = self.plan(target).await?;
        if stack.is_none() && plan.is_up_to_date() {
            let report = plan.report(MergeOutcome::UpToDate, plan.head);
            let asked = self.options.passed.is_none();
            let undone_by = if asked { self.lake.undone_by(&plan).await? } else { None };
            return Ok(Some(MergeReport { undone_by, ..report }));
        }
        self.check_required(&plan).await?;
        self.look_into(&plan).await?;
        let conflicts = self.conflicts(&plan).await?;
        if !conflicts.is_empty() {
            let report = plan.report(MergeOutcome::Conflict, plan.head);
            return Ok(Some(MergeReport { conflicts, ..report }));
        }
        self.check_doubles(&plan).await?;
        if stack.is_some() && !self.changes(&plan) {
            let report = self.report(&plan, MergeOutcome::UpToDate, plan.head, &self.foreseen());
            return Ok(Some(report));
        }
        let forward = plan.is_forward() && self.options.properties.is_empty();
        let outcome = if forward { MergeOutcome::FastForward } else { MergeOutcome::Merged };
        if self.request.dry_run {
            // Where the target would be; a merge commit that is not made has no id.
            let head = if forward { plan.source } else { plan.head };
            return Ok(Some(self.report(&plan, outcome, head, &self.foreseen())));
        }
        let mut made = Scratch::new(self.lake.tables().clone());
        let settled = self.settle(&plan, &mut made).await?;
        let message = self
            .request
            .message
            .clone()
            .unwrap_or_else(|| format!("Merge {} into {}", self.request.source, plan.target));
        let commit = self.commit(message, &settled);
        self.check_adopted(&plan).await?;
        // From here on the files may be part of a commit, even if this future is dropped or the answer is
        // lost; they are taken back only where the catalog says that they are not.
        let written = made.release();
        let applied = self.apply(&plan, stack, settled.changes.clone(), &commit).await;
        match applied {
            Ok(Some(head)) => {
                let report = self.report(&plan, outcome, head, &settled.merged);
                self.lake.changed().add(&plan.target, report.tables.iter());
                Ok(Some(report))
            }
            Ok(None) => {
                self.scratch.take_back(written);
                Ok(None)
            }
            Err(error) => {
                if !error.code().is_doubtful() {
                    self.scratch.take_back(written);
                }
                Err(error.into())
            }
        }
    }

    /// Whether the target takes it: a run of the project that it requires has checked what it merges, and
    /// whoever says so takes what was not checked.
    async fn check_required(&self, plan: &MergePlan) -> Result<()> {
        let passed = self.options.passed.as_deref();
        if passed.is_none() && self.request.unchecked {
            return Ok(());
        }
        // Whether the target becomes just what the source is.
        let exact = match &self.change {
            Change::Branch => plan.is_forward() || self.lake.target_only_kept(plan).await?,
            Change::From { commit, only, .. } => *commit == plan.head && only.is_none(),
        };
        self.lake.check_required(plan, &self.request.source.to_string(), passed, exact).await
    }

    /// Fails where a table would come that the target has under another name, as where both sides renamed it:
    /// two tables of one folder, of which neither could be kept without harm to the other.
    async fn check_doubles(&self, plan: &MergePlan) -> Result<()> {
        if plan.is_forward() {
            return Ok(());
        }
        let chosen = plan.contested.iter().filter(|contested| {
            let looked = self.verdicts.get(&contested.table).map(|looked| &looked.verdict);
            matches!(looked, Some(Verdict::Conflict(_)))
                && self.request.choice(contested.names()) == MergeChoice::Theirs
        });
        let chosen = chosen.map(|one| (&one.table, (one.ours.as_ref(), one.theirs.as_ref())));
        let taken = plan.taken.iter();
        let taken = taken.map(|one| (&one.table, (one.from.as_ref(), one.to.as_ref())));
        let changes: BTreeMap<&TableName, _> = taken.chain(chosen).collect();
        let mut brought: BTreeMap<&str, &TableName> = BTreeMap::new();
        for (name, (from, to)) in &changes {
            let new = to.filter(|to| from.is_none_or(|from| from.id != to.id));
            brought.extend(new.map(|to| (to.id.as_str(), *name)));
        }
        if brought.is_empty() {
            return Ok(());
        }
        for (other, entry) in self.lake.catalog().state(plan.head).await?.entries(None).await? {
            if let Some(name) = brought.get(entry.id.as_str())
                && !changes.contains_key(&other)
            {
                return Err(Error::TableTwice { table: (*name).clone(), other });
            }
        }
        Ok(())
    }

    fn checks(&self) -> Checks {
        if self.options.passed.is_some() {
            Checks::Passed
        } else {
            Checks::unless(self.request.unchecked)
        }
    }

    async fn plan(&self, target: &str) -> Result<(MergePlan, Option<Stack>)> {
        let (catalog, request) = (self.lake.catalog(), self.request);
        let Change::From { commit: from, only, undoes } = &self.change else {
            let plan = catalog.plan_merge(target, &request.source, self.checks()).await?;
            return Ok((plan, None));
        };
        let mut stack = catalog.begin_stack(target).await?;
        let to = catalog.resolve(&request.source).await?.commit;
        if !undoes {
            catalog.check_stack(&mut stack, (&request.source, to), self.checks()).await?;
        }
        let mut plan = catalog.plan_onto(&stack, *from, to).await?;
        if let Some(only) = only {
            plan.taken.retain(|change| only.contains(&change.table));
            plan.contested
                .retain(|contested| contested.names().into_iter().any(|name| only.contains(name)));
        }
        Ok((plan, Some(stack)))
    }

    /// Whether anything of the target changes.
    fn changes(&self, plan: &MergePlan) -> bool {
        let contested = self.verdicts.values().any(|looked| match &looked.verdict {
            Verdict::Conflict(_) => {
                self.request.choice(looked.contested.names()) == MergeChoice::Theirs
            }
            verdict => looked.contested.renames() || verdict.changes(),
        });
        contested || !plan.taken.is_empty()
    }

    /// Makes the commit; none where the target moved meanwhile.
    async fn apply(
        &self,
        plan: &MergePlan,
        stack: Option<Stack>,
        changes: Vec<TableChange>,
        commit: &MergeCommit,
    ) -> std::result::Result<Option<CommitId>, headwater_catalog::Error> {
        let catalog = self.lake.catalog();
        let Some(mut stack) = stack else {
            return catalog.apply_merge(plan, changes, commit).await;
        };
        let made = catalog.push_stack(&mut stack, plan, changes, commit).await?;
        Ok(catalog.end_stack(stack, &commit.with).await?.then_some(made))
    }

    /// What is taken from a ref that somebody named is there as long as that is; what is taken from a
    /// commit may be gone.
    async fn check_adopted(&self, plan: &MergePlan) -> Result<()> {
        if matches!((&self.change, &self.request.source), (Change::Branch, RefSpec::Name(_))) {
            return Ok(());
        }
        let taken = plan.taken.iter().filter_map(|change| change.to.as_ref());
        let contested = plan.contested.iter().filter_map(|contested| contested.theirs.as_ref());
        self.lake.check_readable(taken.chain(contested)).await
    }

    fn commit(&self, message: String, settled: &Settled) -> MergeCommit {
        let mut with = self.options.with.clone();
        with.objects.extend(settled.objects.iter().cloned());
        MergeCommit {
            author: self.options.author.clone(),
            message,
            properties: self.options.properties.clone(),
            with,
        }
    }

    /// Looks into the contested tables that are not as they were when they were looked into last.
    async fn look_into(&mut self, plan: &MergePlan) -> Result<()> {
        for contested in &plan.contested {
            let known = self.verdicts.get(&contested.table);
            if known.is_some_and(|known| known.contested == *contested) {
                continue;
            }
            self.verdicts.remove(&contested.table);
            let spent = self.verdicts.values().map(|looked| looked.rows).sum();
            let mut budget = self.lake.tables().row_budget(spent);
            let mut verdict = self.verdict(contested, &mut budget).await?;
            let doubtful = matches!(&verdict, Verdict::Content(content) if content.may_repeat());
            if doubtful && self.has_picked(plan).await? {
                verdict = Verdict::Conflict(vec![cause::picked()]);
            }
            let rows = budget.spent() - spent;
            let looked = Looked { contested: contested.clone(), verdict, rows };
            self.verdicts.insert(contested.table.clone(), looked);
        }
        let contested: BTreeSet<&TableName> =
            plan.contested.iter().map(|contested| &contested.table).collect();
        self.verdicts.retain(|table, _| contested.contains(table));
        Ok(())
    }

    /// Whether both sides have a commit since the base, or the change of one, that no merge brought them.
    async fn has_picked(&self, plan: &MergePlan) -> Result<bool> {
        if matches!(&self.change, Change::From { undoes: true, .. }) {
            return Ok(false);
        }
        let catalog = self.lake.catalog();
        let mut oldest = self.lake.clock().now();
        for base in &plan.bases {
            oldest = oldest.min(catalog.read_commit(*base).await?.time);
        }
        let mut had = Vec::new();
        for heads in [plan.bases.as_slice(), &[plan.head], &[plan.source]] {
            let commits = catalog.history_since(heads, oldest).await?;
            let picked = commits.iter().filter_map(|commit| commit.properties.get(PROPERTY_PICKED));
            let picked: Vec<CommitId> = picked.filter_map(|id| id.parse().ok()).collect();
            had.push(commits.iter().map(|commit| commit.id).chain(picked).collect());
        }
        let [base, ours, theirs]: [BTreeSet<CommitId>; 3] = had.try_into().unwrap_or_default();
        Ok(ours.intersection(&theirs).any(|id| !base.contains(id)))
    }

    /// Whether nothing but upkeep was done to the target's table since both sides were one.
    async fn only_kept(&self, contested: &Contested) -> Result<bool> {
        match (&contested.base, &contested.ours) {
            (Base::Known(Some(base)), Some(ours)) => self.lake.only_kept(base, ours).await,
            _ => Ok(false),
        }
    }

    async fn verdict(&mut self, contested: &Contested, budget: &mut RowBudget) -> Result<Verdict> {
        let whole = contested.names().into_iter().any(|name| self.options.whole.contains(name));
        if whole && !self.only_kept(contested).await? {
            return Ok(Verdict::Conflict(vec![cause::checked()]));
        }
        if concerns_view(contested) {
            return self.lake.view_content(contested).await;
        }
        let verdict = self.lake.content(contested, &mut self.scratch, budget).await?;
        Ok(match (verdict, &self.change) {
            (Verdict::Content(content), Change::From { .. }) => {
                Verdict::Content(Box::new(content.into_change()))
            }
            (verdict, _) => verdict,
        })
    }

    /// What is to become of the contested tables, without making it.
    fn foreseen(&self) -> Vec<MergedTable> {
        let tables = self.verdicts.iter().map(|(table, looked)| match &looked.verdict {
            Verdict::Content(content) => content.report(table),
            Verdict::View(content) => content.report(table),
            Verdict::Conflict(causes) => self.chosen(&looked.contested, causes),
        });
        tables.collect()
    }

    fn chosen(&self, contested: &Contested, causes: &[ConflictCause]) -> MergedTable {
        let table = &contested.table;
        let how = match self.request.choice(contested.names()) {
            MergeChoice::Theirs => MergedHow::Theirs,
            MergeChoice::Ours | MergeChoice::Fail => MergedHow::Ours,
        };
        MergedTable {
            table: table.clone(),
            how,
            rows_added: 0,
            rows_removed: 0,
            whole_files: false,
            files_added: 0,
            files_removed: 0,
            reshaped: false,
            causes: causes.to_vec(),
        }
    }

    /// Makes what the contested tables come to. What was made is in `made`.
    async fn settle(&self, plan: &MergePlan, made: &mut Scratch) -> Result<Settled> {
        let mut settled =
            Settled { changes: plan.taken.clone(), merged: self.foreseen(), ..Settled::default() };
        for Looked { contested, verdict, .. } in self.verdicts.values() {
            let made = match verdict {
                Verdict::Content(content) => {
                    self.lake.make(content, &mut settled.objects, made).await?
                }
                Verdict::View(content) => self.lake.make_view(content, made).await?,
                Verdict::Conflict(_)
                    if self.request.choice(contested.names()) == MergeChoice::Theirs =>
                {
                    settled.changes.extend(contested.settle(contested.theirs.clone()));
                    continue;
                }
                Verdict::Conflict(_) => continue,
            };
            let changes = made.is_some() || contested.renames();
            let to = made.or_else(|| contested.ours.clone()).filter(|_| changes);
            settled.changes.extend(to.into_iter().flat_map(|to| contested.settle(Some(to))));
        }
        settled.changes.sort_by(|a, b| a.table.cmp(&b.table));
        Ok(settled)
    }

    fn report(
        &self,
        plan: &MergePlan,
        outcome: MergeOutcome,
        commit: CommitId,
        merged: &[MergedTable],
    ) -> MergeReport {
        let mut tables: Vec<TableName> =
            plan.taken.iter().map(|change| change.table.clone()).collect();
        for merged in merged {
            let Some(looked) = self.verdicts.get(&merged.table) else { continue };
            let changes = match merged.how {
                MergedHow::Ours => false,
                MergedHow::Theirs => true,
                MergedHow::ByContent => looked.contested.renames() || looked.verdict.changes(),
            };
            if changes {
                let names = looked.contested.settle(None).into_iter().map(|change| change.table);
                tables.extend(names);
            }
        }
        tables.sort();
        MergeReport { tables, merged: merged.to_vec(), ..plan.report(outcome, commit) }
    }
}
