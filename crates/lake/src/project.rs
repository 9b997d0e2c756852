//! The project that produces a table, stored in table and snapshot properties.
//!
//! A run writes the project's name into the properties of each table it creates, and into the
//! summary of each snapshot that a model writes. The catalog stores no projects.

use headwater_tables::Table;

use crate::lake::Lake;

/// The snapshot and table property with the name of the project whose model produces the table.
pub const PROPERTY_PROJECT: &str = "headwater.project";

impl Lake {
    /// Returns the project that produces a table: from the last snapshot written by a model, or
    /// else from the table properties. `None` if no model writes the table.
    pub async fn project_of(&self, table: &Table) -> Option<String> {
        match self.tables().history().find(table, PROPERTY_PROJECT, |_| true).await {
            Some(project) => Some(project),
            None => table.properties().get(PROPERTY_PROJECT).cloned(),
        }
    }
}
