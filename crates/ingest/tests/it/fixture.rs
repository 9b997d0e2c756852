//! Operations on the test lake that only the import tests need.

use headwater_ingest::Error;
use headwater_model::{ImportPlan, ImportRequest, RefSpec};
use tokio_util::sync::CancellationToken;

use crate::support::{Fixture, silent};

impl Fixture {
    pub async fn plan(&self, request: &ImportRequest) -> Result<ImportPlan, Error> {
        self.importer().plan(request, silent(), CancellationToken::new()).await
    }

    /// Returns the columns of a table on `main`, as `name type`.
    pub async fn columns(&self, table: &str) -> Vec<String> {
        let table = self.lake.describe(&RefSpec::main(), &table.parse().unwrap()).await.unwrap();
        table.columns.iter().map(|column| format!("{} {}", column.name, column.data_type)).collect()
    }
}
