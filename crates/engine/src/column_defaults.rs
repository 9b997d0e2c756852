//! Column defaults for the planner.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result as PlanResult, ScalarValue, not_impl_err};
use datafusion::logical_expr::{Expr, TableType, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::sqlparser::ast;
use headwater_tables::write_default;

use crate::error::{Error, Result};

/// Returns the defaults of columns that a new row may omit, by column name. Columns whose default
/// is null are left out.
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

/// Converts a column default to a literal in SQL syntax. The planner later casts this literal to
/// the column's type.
pub(crate) fn written(default: &Expr) -> Result<ast::Expr> {
    let failed = |error: DataFusionError| Error::Internal { message: error.to_string() };
    let value = match default {
        Expr::Literal(
            ScalarValue::Binary(Some(bytes))
            | ScalarValue::LargeBinary(Some(bytes))
            | ScalarValue::BinaryView(Some(bytes))
            | ScalarValue::FixedSizeBinary(_, Some(bytes)),
            _,
        ) => {
            let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
            let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
            ast::Value::HexStringLiteral(digits.collect())
        }
        Expr::Literal(value, _) => match value.cast_to(&DataType::Utf8).map_err(failed)? {
            ScalarValue::Utf8(Some(text)) => ast::Value::SingleQuotedString(text),
            _ => ast::Value::Null,
        },
        _ => ast::Value::Null,
    };
    Ok(ast::Expr::value(value))
}

/// The target table of an INSERT, for the planner: its columns and defaults. It cannot be scanned.
#[derive(Debug)]
pub(crate) struct InsertTargetTable {
    schema: SchemaRef,
    defaults: HashMap<String, Expr>,
}

impl InsertTargetTable {
    pub fn new(schema: SchemaRef, defaults: HashMap<String, Expr>) -> Self {
        InsertTargetTable { schema, defaults }
    }
}

#[async_trait]
impl TableProvider for InsertTargetTable {
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
        not_impl_err!("the target of new rows cannot be scanned")
    }
}
