//! Models with `materialization = view`: a run creates an SQL view of the lake on its branch
//! instead of a table.
//!
//! A view stores no rows, so planning treats its model like an intermediate model. Models and
//! expectations that read the view depend on everything that the view reads. The view's properties
//! record the code that created the view. If another client replaces the view, the next run creates
//! it again.

use std::collections::BTreeMap;

use headwater_build_records::BUILD;
use headwater_lake::{CommitView, PROPERTY_PROJECT};
use headwater_model::{Action, ErrorCode, Problem};
use headwater_project::Step;
use headwater_tables::SqlView;

use crate::plan::{FINGERPRINT_CODE, Plan};
use crate::{Error, Result, Runner, passed_checks};

/// View property with the version number that a model created. If the current version has another
/// number, another client has changed the view.
pub(crate) const VIEW_VERSION: &str = "headwater.view.version";

impl Plan {
    /// Returns the existing view of a model. Fails if a table has its name, or if the view was not
    /// created by a model of this project.
    pub(crate) async fn existing_view(&self, step: &Step) -> Result<Option<SqlView>> {
        let failed = |error: headwater_lake::Error| Error::other(&error);
        let found = self.view.state().find(&step.table.namespace, &step.table.name).await;
        let Some((name, entry)) = found.map_err(|error| Error::other(&error))? else {
            return Ok(None);
        };
        if !entry.is_view() {
            let message = format!(
                "model `{}` is a view, but `{name}` is a table at `{}` ({})",
                step.name,
                self.view.spec(),
                step.at
            );
            let problem = Problem::new(ErrorCode::AlreadyExists, message);
            return Err(problem.with_hint("Drop the table, or rename the model.").into());
        }
        let view = self.view.load_view(&entry).await.map_err(failed)?;
        let project = view.properties().remove(PROPERTY_PROJECT);
        if step.allow_takeover || project.as_deref() == Some(self.project.name.as_str()) {
            return Ok(Some(view));
        }
        Err(Error::NotOwned {
            step: step.name.clone(),
            at: step.at.clone(),
            reference: self.view.spec().to_string(),
            project,
        })
    }

    /// Fails if a view reads a model that the lake does not store.
    pub(crate) fn check_view_inputs(&self, index: usize) -> Result<()> {
        let step = &self.project.steps[index];
        for input in step.inputs.iter().filter(|_| step.is_view()) {
            let Some(parent) = self.graph.model(input).map(|at| &self.project.steps[at]) else {
                continue;
            };
            if !parent.is_materialized() && !parent.is_view() {
                let message = format!(
                    "`{}` is a view and reads model `{}`, which is not stored",
                    step.name, parent.name
                );
                let hint = format!(
                    "Set the materialization of `{}`, for example to `replace`.",
                    parent.name
                );
                return Err(Error::invalid(input.at.clone(), message, hint));
            }
        }
        Ok(())
    }

    /// Returns the reason to create the view of a model again, or to check it against changed
    /// inputs; `None` if the view is up to date.
    pub(crate) async fn view_reason(&self, index: usize) -> Result<Option<&'static str>> {
        let plan = &self.steps[index];
        let Some(view) = &plan.lake_view else { return Ok(Some("first run")) };
        let properties = view.properties();
        if properties.get(FINGERPRINT_CODE) != Some(&plan.code) {
            return Ok(Some("changed code"));
        }
        if properties.get(VIEW_VERSION) != Some(&view.version().to_string()) {
            return Ok(Some("its view was changed"));
        }
        let passed =
            passed_checks::passed(self.view.lake().store().as_ref(), &plan.fingerprint).await?;
        Ok((!passed).then_some("changed input"))
    }

    /// Returns the properties of a view that a model creates.
    pub(crate) fn view_properties(&self, index: usize) -> BTreeMap<String, String> {
        let plan = &self.steps[index];
        [
            (PROPERTY_PROJECT.to_owned(), self.project.name.clone()),
            (FINGERPRINT_CODE.to_owned(), plan.code.clone()),
            (BUILD.to_owned(), plan.record.to_property()),
        ]
        .into()
    }
}

impl Runner {
    /// Checks the rights to create or replace the view of a model.
    pub(crate) async fn check_view(&self, step: &Step, view: &CommitView) -> Result<()> {
        let found = view.state().find(&step.table.namespace, &step.table.name).await;
        let exists = found.map_err(|error| Error::other(&error))?.is_some();
        let object = self.view_object(&step.table, view).await?;
        self.authorize(Action::Create, &object)?;
        if exists { self.authorize(Action::Alter, &object) } else { Ok(()) }
    }
}
