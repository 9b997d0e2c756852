//! Owners of tables. The owner is the project whose models write the table. A run changes only
//! tables of its own project, unless a model has `allow_takeover`.

use headwater_project::Step;
use headwater_tables::Table;

use crate::plan::{FINGERPRINT, Plan};
use crate::{Error, Result};

impl Plan {
    /// Fails if the table was not written by a model of this project, unless the model has
    /// `allow_takeover`.
    pub(crate) async fn check_owner(&self, step: &Step, table: Option<&Table>) -> Result<()> {
        let Some(table) = table.filter(|_| !step.allow_takeover) else { return Ok(()) };
        let owner = self.owner(table).await;
        if owner.as_ref().is_some_and(|owner| owner.is(&self.project.name)) {
            return Ok(());
        }
        Err(Error::NotOwned {
            step: step.name.clone(),
            at: step.at.clone(),
            reference: self.view.spec().to_string(),
            project: owner.and_then(|owner| owner.0),
        })
    }

    /// Checks the owner of a model's quarantine table, by the same rule as for the model's table.
    pub(crate) async fn check_quarantine_owner(&self, step: &Step) -> Result<()> {
        let Some(table) = step.quarantine_table() else { return Ok(()) };
        let found = self.view.find(&table.namespace, &table.name).await;
        let found = found.map_err(|error| Error::other(&error))?.map(|(_, table)| table);
        self.check_owner(&Step { name: table.to_string(), ..step.clone() }, found.as_ref()).await
    }

    /// Returns the owner of a table: the project whose model last wrote the table, or else the
    /// project that created the table; `None` if no model wrote the table. Tables written by old
    /// versions have a fingerprint but no project name.
    async fn owner(&self, table: &Table) -> Option<OwningProject> {
        let tables = self.view.lake().tables();
        if let Some(project) = self.view.lake().project_of(table).await {
            return Some(OwningProject(Some(project)));
        }
        let written = tables.history().find(table, FINGERPRINT, |_| true).await;
        written.map(|_| OwningProject(None))
    }
}

/// The project that owns a table; `None` if the project's name was not recorded.
struct OwningProject(Option<String>);

impl OwningProject {
    fn is(&self, project: &str) -> bool {
        self.0.as_ref().is_none_or(|owner| owner == project)
    }
}
