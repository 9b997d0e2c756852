//! Tables that the models of a project make, told by the properties that runs leave on them.
//!
//! A run writes the project's name into the properties of a table that it creates, and into the
//! summary of each snapshot that a model writes. The catalog knows nothing of projects.

use headwater_tables::Table;

use crate::lake::Lake;

/// The snapshot and table property that holds the name of the project whose model made the table.
pub const PROPERTY_PROJECT: &str = "headwater.project";

impl Lake {
    /// Returns the project whose model makes a table: the one of the last snapshot that a model wrote,
    /// or else the one that created the table. None for a table that no model writes.
    pub async fn project_of(&self, table: &Table) -> Option<String> {
        match self.tables().find_in_history(table, PROPERTY_PROJECT, |_| true).await {
            Some(project) => Some(project),
            None => table.properties().get(PROPERTY_PROJECT).cloned(),
        }
    }
}
