//! The catalog as a whole: refs, and access to the warehouse.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_model::{Principal, Problem, RefSpec};
use headwater_table_rest::RestTables;

use crate::service::Components;

/// Operations of the Iceberg REST catalog.
#[derive(Clone)]
pub struct Iceberg(pub(crate) Arc<Components>);

/// Client settings for access to the files of the warehouse.
#[derive(Debug, Clone, Default)]
pub struct StorageAccess {
    /// The URL of the warehouse, which is the prefix of the locations of its files.
    pub prefix: String,
    /// Properties of Iceberg's `FileIO`, including credentials if they were granted.
    pub properties: BTreeMap<String, String>,
    /// True if the properties contain credentials.
    pub has_credentials: bool,
}

impl Iceberg {
    /// Checks that a ref exists and that the principal may read it.
    pub async fn check_ref(
        &self,
        principal: &Principal,
        reference: &RefSpec,
    ) -> Result<(), Problem> {
        self.0.view_for(principal, reference).await.map(drop)
    }

    /// Returns the client properties for reading the warehouse's files. Includes credentials if the
    /// client requests them and the configuration allows it.
    pub fn storage_access(
        &self,
        principal: &Principal,
        wants_credentials: bool,
    ) -> Result<StorageAccess, Problem> {
        self.0.authenticated(principal)?;
        let tables = self.0.lake.tables();
        // Credentials give access to the whole warehouse, so only unlimited principals get them.
        let grants =
            wants_credentials && self.0.config.vend_credentials && self.0.is_unlimited(principal);
        let properties = RestTables::new(tables).client_properties(grants);
        let has_credentials = grants && !properties.is_empty();
        Ok(StorageAccess { prefix: tables.root_url().to_owned(), properties, has_credentials })
    }
}
