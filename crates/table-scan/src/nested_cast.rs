//! An expression that converts nested columns, and matches their fields by field id at every level.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use headwater_tables::align;

/// Converts a nested column of a file to the current type of the table's column. Fields that the
/// file does not contain are null; fields that the table dropped are omitted.
#[derive(Debug, Clone)]
pub(crate) struct NestedCastExpr {
    column: Arc<dyn PhysicalExpr>,
    field: FieldRef,
}

impl NestedCastExpr {
    pub(crate) fn new(column: Arc<dyn PhysicalExpr>, field: FieldRef) -> Self {
        NestedCastExpr { column, field }
    }

    /// Returns true if a column of a file must be converted, because its nested fields differ from
    /// those of the table's column.
    pub(crate) fn needs(file: &DataType, table: &DataType) -> bool {
        file.is_nested() && table.is_nested() && file != table
    }
}

impl PartialEq for NestedCastExpr {
    fn eq(&self, other: &Self) -> bool {
        self.column.eq(&other.column) && self.field == other.field
    }
}

impl Eq for NestedCastExpr {}

impl Hash for NestedCastExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.column.hash(state);
        self.field.hash(state);
    }
}

impl fmt::Display for NestedCastExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ALIGN({})", self.column)
    }
}

impl PhysicalExpr for NestedCastExpr {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(self.field.data_type().clone())
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(self.field.is_nullable())
    }

    fn return_field(&self, _: &Schema) -> Result<FieldRef> {
        Ok(Arc::clone(&self.field))
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let array = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(ColumnarValue::Array(align(&array, &self.field)?))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let (Some(column), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("a nested cast takes one column");
        };
        Ok(Arc::new(NestedCastExpr::new(column, Arc::clone(&self.field))))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
