//! The project whose model writes a table, as recorded in the properties of the table and its
//! snapshots.
//!
//! A run writes the project's name into the properties of each created table, and into the summary
//! of each snapshot of a model. The catalog itself does not record projects.

use headwater_tables::Table;

use crate::lake::Lake;

/// The snapshot and table property with the name of the project whose model produces the table.
pub const PROPERTY_PROJECT: &str = "headwater.project";

impl Lake {
    /// Returns the project whose model writes a table; `None` if no model writes the table. The
    /// project is read from the summary of the last snapshot that a model wrote or, if there is
    /// none, from the table properties.
    pub async fn project_of(&self, table: &Table) -> Option<String> {
        match self.tables().history().find(table, PROPERTY_PROJECT, |_| true).await {
            Some(project) => Some(project),
            None => table.properties().get(PROPERTY_PROJECT).cloned(),
        }
    }
}
