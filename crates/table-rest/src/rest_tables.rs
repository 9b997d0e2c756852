//! The handle for this crate's operations on tables and views.

use std::collections::BTreeMap;

use headwater_tables::{CloudUrl, Tables};

/// Operations of Iceberg's REST catalog on the tables of a warehouse.
#[derive(Debug, Clone, Copy)]
pub struct RestTables<'a> {
    pub(crate) tables: &'a Tables,
}

impl<'a> RestTables<'a> {
    /// Returns the operations on the tables of a warehouse.
    pub fn new(tables: &'a Tables) -> Self {
        RestTables { tables }
    }

    /// Returns the properties that clients need to read the files directly, with the names that
    /// Iceberg's REST catalog defines. Credentials are included only if `credentials` is true.
    /// Returns no properties if the warehouse is not in a cloud.
    pub fn client_properties(self, credentials: bool) -> BTreeMap<String, String> {
        let url = CloudUrl::parse(self.tables.root_url());
        url.map(|url| self.tables.options().cloud.for_clients(&url, credentials))
            .unwrap_or_default()
    }
}
