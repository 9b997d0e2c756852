//! Refs: resolve, list commits, compare.

use std::sync::Arc;

use headwater_executors::{part_only, without_rows};
use headwater_jobs::NewJob;
use headwater_model::{
    AccessObject, Action, Commit, CommitId, Diff, JobKind, Principal, Problem, RefSpec,
    ResolvedRef, ResultExt, TableComparison,
};
use headwater_pipelines::{readable, reading};
use headwater_table_diff::{ComparedTable, DiffOptions, StateComparer};

use crate::restriction::TableAtRef as Side;
use crate::service::Components;

/// The text that replaces a commit's message if the principal may not read all tables, views and
/// functions that the commit changed.
const HIDDEN: &str = "(changes tables that you may not read)";

/// Operations on refs.
#[derive(Clone)]
pub struct Refs(pub(crate) Arc<Components>);

impl Refs {
    /// Returns the commit of a ref, and the branch if the ref is a branch.
    pub async fn resolve(
        &self,
        principal: &Principal,
        reference: &RefSpec,
    ) -> Result<ResolvedRef, Problem> {
        self.0.authorize_ref(principal, reference).await?;
        let resolved = self.0.lake.catalog().resolve(reference).await.or_problem();
        let resolved = resolved.map_err(|problem| self.0.conceal(principal, problem))?;
        Ok(ResolvedRef { commit: resolved.commit, branch: resolved.branch })
    }

    /// Lists at most `limit` ancestor commits of a ref, newest first. With `after`, continues the
    /// list after this commit.
    pub async fn log(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        limit: usize,
        after: Option<CommitId>,
    ) -> Result<Vec<Commit>, Problem> {
        self.0.authorize_ref(principal, reference).await?;
        if let Some(after) = after {
            let after = RefSpec::Commit(after.to_string());
            self.0.authorize_ref(principal, &after).await?;
        }
        let log = self.0.lake.catalog().log(reference, limit, after).await.or_problem();
        let mut log = log.map_err(|problem| self.0.conceal(principal, problem))?;
        if !self.0.is_unlimited(principal) {
            for commit in &mut log {
                if !self.reads_changes(principal, commit).await? {
                    HIDDEN.clone_into(&mut commit.message);
                }
            }
        }
        Ok(log)
    }

    /// Returns true if a principal may read every table, view and function that a commit changed,
    /// compared with its first parent. Otherwise, the commit's message must be hidden, because it
    /// can contain names that the principal may not see.
    async fn reads_changes(&self, principal: &Principal, commit: &Commit) -> Result<bool, Problem> {
        let Some(&parent) = commit.parents.first() else { return Ok(true) };
        let changes = self.0.lake.catalog().diff(parent, commit.id).await.or_problem()?;
        Ok(changes.iter().all(|change| {
            let action = reading(&change.table, change.is_view()).0;
            let mut sides = [&change.from, &change.to].into_iter().flatten();
            sides.all(|side| self.0.allows(principal, action, &side.object(&change.table)))
        }))
    }

    /// Compares two refs, as a job.
    pub async fn diff(
        &self,
        principal: &Principal,
        from: RefSpec,
        to: RefSpec,
        options: DiffOptions,
    ) -> Result<Diff, Problem> {
        for reference in [&from, &to] {
            self.0.authorize_ref(principal, reference).await?;
        }
        let restricted = self.0.restricted_at(principal, [from.clone(), to.clone()]).await?;
        let new = new_job(principal, format!("{from} with {to}"), &to);
        let comparer = StateComparer::new(self.0.engine.clone());
        let work = async move { Box::pin(comparer.diff(&from, &to, &options)).await.or_problem() };
        let diff = self.0.run_as_job(new, work).await;
        let mut diff = diff.map_err(|problem| self.0.conceal(principal, problem))?;
        let names = diff.tables.iter().map(|changed| changed.table.clone()).collect();
        let allows = |action, object: &AccessObject| self.0.allows(principal, action, object);
        let readable = readable(&self.0.lake, [diff.from, diff.to], names, allows).await;
        let readable = readable.or_problem()?;
        diff.tables.retain(|changed| {
            let (action, object) = reading(&changed.table, changed.view.is_some());
            readable.contains(&changed.table) || allows(action, &object)
        });
        let tables = diff.tables.into_iter().map(|changed| {
            let is_whole = self.0.reads_all(principal, &readable, &restricted, &changed.table);
            if changed.view.is_some() || is_whole { changed } else { without_rows(changed) }
        });
        diff.tables = tables.collect();
        Ok(diff)
    }

    /// Compares two states of a table, as a job.
    pub async fn diff_table(
        &self,
        principal: &Principal,
        from: ComparedTable,
        to: ComparedTable,
        options: DiffOptions,
    ) -> Result<TableComparison, Problem> {
        let summary = format!("{} at {} with {}", from.table, from.reference, to.reference);
        for side in [&from, &to] {
            self.check_side(principal, side).await?;
        }
        let new = new_job(principal, summary, &to.reference);
        let comparer = StateComparer::new(self.0.engine.clone());
        let work =
            async move { Box::pin(comparer.diff_table(&from, &to, &options)).await.or_problem() };
        let compared = self.0.run_as_job(new, work).await;
        compared.map_err(|problem| self.0.conceal(principal, problem))
    }

    /// Checks that a principal may read one table of a comparison, by its stored spelling.
    async fn check_side(&self, principal: &Principal, side: &ComparedTable) -> Result<(), Problem> {
        self.0.check_named(principal, &side.reference, Action::Select, &side.table).await?;
        let at = Side { reference: &side.reference, table: &side.table };
        let unrestricted = self.0.check_unrestricted_at(principal, Action::Select, at).await;
        unrestricted.map_err(|_| part_only(&side.table))
    }
}

fn new_job(principal: &Principal, summary: String, to: &RefSpec) -> NewJob {
    let new = NewJob::of(JobKind::Diff, summary, principal);
    NewJob { reference: Some(to.to_string()), ..new }
}
