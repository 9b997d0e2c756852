//! Defaults of columns as the planner takes them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as PlanResult, ScalarValue, not_impl_err};
use datafusion::logical_expr::{Expr, TableType, lit};
use datafusion::physical_plan::ExecutionPlan;
use headwater_tables::write_default;

use crate::error::{Error, Result};

/// What the columns of a table are in rows that say nothing of them, where that is not null.
pub(crate) fn defaults_of(schema: &Schema) -> Result<HashMap<String, Expr>> {
    let mut defaults = HashMap::new();
    for field in schema.fields() {
        if let Some(value) = write_default(field) {
            let value = ScalarValue::try_from_array(&value, 0);
            let value = value.map_err(|error| Error::Internal { message: error.to_string() })?;
            defaults.insert(field.name().clone(), lit(value));
        }
    }
    Ok(defaults)
}

/// The table that new rows go to, as the planner finds it: its columns, and nothing to read.
#[derive(Debug)]
pub(crate) struct NewRowsTable {
    schema: SchemaRef,
    defaults: HashMap<String, Expr>,
}

impl NewRowsTable {
    pub fn new(schema: SchemaRef, defaults: HashMap<String, Expr>) -> Self {
        NewRowsTable { schema, defaults }
    }
}

#[async_trait]
impl TableProvider for NewRowsTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.defaults.get(column)
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        not_impl_err!("what new rows go to is not read")
    }
}
