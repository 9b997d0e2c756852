//! Permissions of runs: the tables that models read and write, the branches, and the secrets of
//! functions.
//!
//! A run checks its permissions before its first step, so that a missing permission is reported
//! early. Sessions and writes check the permissions again, because the columns of a model are known
//! only when it runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use headwater_engine::{SessionRights, change_forbidden, check_ref, restricted_tables};
use headwater_lake::CommitView;
use headwater_model::{
    AccessObject, Action, Actor, MergeReport, ObjectOwner, RefSpec, RunRequest, SYSTEM_NAMESPACE,
    TableName,
};
use headwater_project::{Materialization, Step, StepGraph};

use crate::hidden_branch_access::HiddenBranchAccess;
use crate::merge_rights::readable;
use crate::plan::Plan;
use crate::{Error, Project, Result, Runner};

impl Runner {
    /// Returns a runner whose runs are limited to the permissions in `access`; `None` allows
    /// everything.
    #[must_use]
    pub fn with_access(&self, access: Option<Arc<dyn SessionRights>>) -> Runner {
        let mut runner = self.clone();
        runner.access = access;
        runner
    }

    /// Returns a runner whose runs record the declared outputs of their models. The outputs are
    /// written with the rights of `actor`, without the expiry of its token, because a later run may
    /// write the outputs.
    #[must_use]
    pub fn with_outputs_of(&self, actor: &Actor) -> Runner {
        let mut runner = self.clone();
        runner.actor = Some(actor.clone().without_token());
        runner
    }

    /// Returns the permissions for sessions on a run branch: the permissions of the runner, and all
    /// permissions on the branch.
    pub(crate) fn access_on(&self, branch: &str) -> Option<Arc<dyn SessionRights>> {
        let access = self.access.clone()?;
        Some(Arc::new(HiddenBranchAccess::unlimited(access, branch)))
    }

    /// Checks that the runner may perform an action on an object.
    pub(crate) fn authorize(&self, action: Action, object: &AccessObject) -> Result<()> {
        let Some(access) = &self.access else { return Ok(()) };
        access.check(action, object).map_err(Error::from)
    }

    /// Returns the owner of the tables and views that the runner creates; `None` for no owner.
    pub(crate) fn creator(&self) -> Option<ObjectOwner> {
        self.access.as_ref().and_then(|access| access.creator())
    }

    /// Returns the object of the table with exactly this name, with its owner if the table exists.
    pub(crate) async fn table_object(
        &self,
        name: &TableName,
        view: &CommitView,
    ) -> Result<AccessObject> {
        let entry = view.state().table(name).await.map_err(|error| Error::other(&error))?;
        match entry {
            Some(entry) => Ok(entry.object(name)),
            None => self.new_object(AccessObject::table(name), view).await,
        }
    }

    /// Returns the object of the view with exactly this name, with its owner if the view exists.
    pub(crate) async fn view_object(
        &self,
        name: &TableName,
        view: &CommitView,
    ) -> Result<AccessObject> {
        let entry = view.state().view(name).await.map_err(|error| Error::other(&error))?;
        match entry {
            Some(entry) => Ok(entry.object(name)),
            None => self.new_object(AccessObject::view(name), view).await,
        }
    }

    async fn new_object(&self, object: AccessObject, view: &CommitView) -> Result<AccessObject> {
        view.new_object(object).await.map_err(|error| Error::other(&error))
    }

    /// Checks that a run may change its target and, if the request names a ref to merge, that it
    /// may merge this ref.
    pub(crate) async fn check_target(
        &self,
        reference: &RefSpec,
        request: &RunRequest,
    ) -> Result<()> {
        if self.access.is_none() {
            return Ok(());
        }
        let branch = AccessObject::branch(&self.target(reference).await?);
        self.authorize(Action::Write, &branch)?;
        let Some(merge) = &request.merge else { return Ok(()) };
        self.authorize(Action::Merge, &branch)?;
        self.check_ref(&merge.source).await
    }

    /// Checks that the runner may read at a ref.
    pub(crate) async fn check_ref(&self, reference: &RefSpec) -> Result<()> {
        let Some(access) = &self.access else { return Ok(()) };
        check_ref(self.lake(), access.as_ref(), reference).await.map_err(Error::from)
    }

    /// Checks that a run may read and write the tables of its models, and use the secrets of their
    /// functions.
    pub(crate) async fn check_rights(&self, plan: &Plan) -> Result<()> {
        if self.access.is_none() {
            return Ok(());
        }
        let (project, graph, view) = (&plan.project, &plan.graph, &plan.view);
        for step in plan.planned_steps() {
            self.check_function(project, step)?;
            self.check_reads(project, graph, step, view).await?;
            if step.is_view() {
                self.check_view(step, view).await?;
            }
            if step.is_materialized() {
                self.check_write(step, &step.table, view).await?;
                if let Some(quarantine) = step.quarantine_table() {
                    self.check_write(step, &quarantine, view).await?;
                }
            }
        }
        Ok(())
    }

    /// Checks that the function of a step needs no more memory than the runner may use, and that
    /// the runner may use its secrets.
    pub(crate) fn check_function(&self, project: &Project, step: &Step) -> Result<()> {
        let (Some(access), Some(function)) = (&self.access, step.function()) else {
            return Ok(());
        };
        let needed = function.limits(&project.defaults, step.memory_bytes, step.timeout);
        access.limits().check_memory(&step.name, needed.memory_bytes)?;
        for secret in &function.secrets {
            self.authorize(Action::Use, &AccessObject::secret(secret))?;
        }
        Ok(())
    }

    async fn check_reads(
        &self,
        project: &Project,
        graph: &StepGraph,
        step: &Step,
        view: &CommitView,
    ) -> Result<()> {
        for input in &step.inputs {
            if let Some(parent) = graph.model(input) {
                let parent = &project.steps[parent];
                if parent.is_view() {
                    let object = self.view_object(&parent.table, view).await?;
                    self.authorize(Action::Select, &object)?;
                }
                if parent.is_materialized() {
                    self.check_table(Action::Select, &parent.table, view).await?;
                }
                continue;
            }
            if input.table.namespace == SYSTEM_NAMESPACE {
                // System tables are skipped here, because the session checks the permission that
                // they require.
                continue;
            }
            match &input.reference {
                Some(reference) => {
                    self.check_ref(reference).await?;
                    let view = view_at(view, reference).await?;
                    self.check_table(Action::Select, &input.table, &view).await?;
                }
                None => self.check_table(Action::Select, &input.table, view).await?,
            }
        }
        Ok(())
    }

    /// Checks the rights to write a model's table or quarantine table.
    async fn check_write(&self, step: &Step, table: &TableName, view: &CommitView) -> Result<()> {
        let is_quarantine = *table != step.table;
        let found = view.state().find(&table.namespace, &table.name).await;
        let exists = found.map_err(|error| Error::other(&error))?.is_some();
        let actions: &[Action] = match step.materialization {
            _ if !exists => &[Action::Create, Action::Insert],
            Materialization::Append => &[Action::Insert],
            materialization if is_quarantine && materialization.accumulates() => &[Action::Insert],
            Materialization::Merge => &[Action::Select, Action::Insert, Action::Update],
            Materialization::OverwritePartitions => {
                &[Action::Select, Action::Insert, Action::Delete]
            }
            _ => &[Action::Insert, Action::Delete],
        };
        for action in actions {
            self.check_table(*action, table, view).await?;
        }
        Ok(())
    }

    /// Checks an action on a table or view. The error contains the name as written, so that it does
    /// not reveal whether the table exists.
    async fn check_table(
        &self,
        action: Action,
        written: &TableName,
        view: &CommitView,
    ) -> Result<()> {
        let Some(access) = &self.access else { return Ok(()) };
        let found = view.state().find(&written.namespace, &written.name).await;
        let found = found.map_err(|error| Error::other(&error))?;
        let object = match &found {
            Some((name, entry)) if entry.is_view() && action != Action::Select => {
                AccessObject::table(name)
            }
            Some((name, entry)) => entry.object(name),
            None => self.new_object(AccessObject::table(written), view).await?,
        };
        if !access.allows(action, &object) {
            self.authorize(action, &AccessObject::table(written))?;
        }
        self.authorize(action, &object)?;
        let found = found.filter(|(_, entry)| !entry.is_view());
        let is_change = matches!(action, Action::Update | Action::Delete | Action::Alter);
        let Some((name, entry)) = found.filter(|_| is_change) else { return Ok(()) };
        let restrictions = access.change_restrictions(&name, &entry.id);
        restrictions.map_or(Ok(()), |found| Err(change_forbidden(action, &name, &found).into()))
    }

    /// Removes the names of tables that the runner may not read from an error of a plan.
    pub(crate) fn conceal(&self, mut error: Error) -> Error {
        let is_limited = self.access.as_ref().is_some_and(|access| access.is_limited());
        if is_limited && let Error::TableMissing { nearest, .. } = &mut error {
            *nearest = None;
        }
        error
    }

    /// Removes from a merge report the tables in which some rows or values are hidden from the
    /// runner.
    pub(crate) async fn visible(
        &self,
        target: &str,
        mut report: MergeReport,
    ) -> Result<MergeReport> {
        let Some(access) = &self.access else { return Ok(report) };
        let restricted = self.restricted(access.as_ref(), target, &report).await?;
        let allows = |action, object: &AccessObject| access.allows(action, object);
        let readable = readable(self.lake(), report.commits(), report.names(), allows).await;
        let readable = readable.map_err(|error| Error::other(&error))?;
        report.retain(|table| {
            let is_whole =
                !restricted.contains(table) && access.restrictions(table, None).is_none();
            let reads = || access.allows(Action::Select, &AccessObject::table(table));
            is_whole && (readable.contains(table) || reads())
        });
        Ok(report)
    }

    /// Returns the tables of a merge that have rows hidden from the runner, at the target or at the
    /// merge base.
    async fn restricted(
        &self,
        access: &dyn SessionRights,
        target: &str,
        report: &MergeReport,
    ) -> Result<BTreeSet<TableName>> {
        if access.restriction_digest().is_none() {
            return Ok(BTreeSet::new());
        }
        let base = report.base.map(|base| RefSpec::Commit(base.to_string()));
        let sides = [Some(RefSpec::Name(target.to_owned())), base];
        let mut views = Vec::new();
        for side in sides.iter().flatten() {
            views.push(self.lake().view(side).await.map_err(|error| Error::other(&error))?);
        }
        restricted_tables(access, &views).await.map_err(|error| Error::other(&error))
    }
}

async fn view_at(view: &CommitView, reference: &RefSpec) -> Result<CommitView> {
    view.lake().view(reference).await.map_err(|error| Error::other(&error))
}
