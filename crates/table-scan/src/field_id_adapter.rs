//! Adapts file columns to table columns by field id. So columns that were renamed, added, dropped
//! or promoted are read correctly, even from files that were written before the change.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
};
use headwater_tables::{FIELD_ID, initial_default, names_of};
use parquet::arrow::RowNumber;

use crate::nested_cast::NestedCastExpr;

/// Factory of adapters that find a table's columns in a file by field id. If the file has no ids,
/// columns are found by the table's name mapping or, if there is none, by their names.
#[derive(Debug)]
pub(crate) struct FieldIdAdapterFactory;

impl PhysicalExprAdapterFactory for FieldIdAdapterFactory {
    fn create(
        &self,
        logical_file_schema: SchemaRef,
        physical_file_schema: SchemaRef,
    ) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let current = current(&logical_file_schema, &physical_file_schema);
        let renamed = renamed(&current, &physical_file_schema);
        let defaults = defaults(&logical_file_schema, &current)?;
        let inner = DefaultPhysicalExprAdapterFactory.create(logical_file_schema, renamed)?;
        Ok(Arc::new(FieldIdAdapter { inner, physical_file_schema, current, defaults }))
    }
}

/// An adapter that rewrites an expression from the table's columns to the columns of a file.
#[derive(Debug)]
struct FieldIdAdapter {
    inner: Arc<dyn PhysicalExprAdapter>,
    physical_file_schema: SchemaRef,
    /// For each field of the file, the field of the table with the same id; `None` if the table
    /// dropped the column.
    current: Vec<Option<FieldRef>>,
    /// The initial defaults of the table's columns that the file does not contain, by name. Columns
    /// without a default are read as null.
    defaults: HashMap<String, ScalarValue>,
}

impl PhysicalExprAdapter for FieldIdAdapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let expr = if self.defaults.is_empty() { expr } else { self.with_defaults(expr)? };
        let adapted = self.inner.rewrite(expr)?;
        let fields = self.physical_file_schema.fields();
        let restored = adapted.transform_up(|node| {
            let Some(column) = node.downcast_ref::<Column>() else {
                return Ok(Transformed::no(node));
            };
            let Some(field) = fields.get(column.index()) else { return Ok(Transformed::no(node)) };
            let found = Arc::new(Column::new(field.name(), column.index()));
            match &self.current[column.index()] {
                Some(current) if NestedCastExpr::needs(field.data_type(), current.data_type()) => {
                    let aligned = NestedCastExpr::new(found, Arc::clone(current));
                    Ok(Transformed::yes(Arc::new(aligned) as Arc<dyn PhysicalExpr>))
                }
                _ if field.name() != column.name() => Ok(Transformed::yes(found as _)),
                _ => Ok(Transformed::no(node)),
            }
        })?;
        Ok(restored.data)
    }
}

impl FieldIdAdapter {
    /// Replaces the columns of an expression that the file does not contain by their initial
    /// defaults.
    fn with_defaults(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let replaced = expr.transform_up(|node| {
            let column = node.downcast_ref::<Column>().map(Column::name);
            let Some(value) = column.and_then(|name| self.defaults.get(name)) else {
                return Ok(Transformed::no(node));
            };
            let literal = Arc::new(Literal::new(value.clone()));
            Ok(Transformed::yes(literal as Arc<dyn PhysicalExpr>))
        })?;
        Ok(replaced.data)
    }
}

/// Returns the initial defaults, if they are not null, of the table's columns that a file does not
/// contain.
fn defaults(table: &Schema, found: &[Option<FieldRef>]) -> Result<HashMap<String, ScalarValue>> {
    let mut defaults = HashMap::new();
    for field in table.fields() {
        if found.iter().flatten().any(|known| known.name() == field.name()) {
            continue;
        }
        if let Some(value) = initial_default(field) {
            let value = ScalarValue::try_from_array(&value, 0)?;
            defaults.insert(field.name().clone(), value.cast_to(field.data_type())?);
        }
    }
    Ok(defaults)
}

/// Returns the field of the table with the same id for each field of a file; `None` if the table
/// dropped the column.
fn current(table: &Schema, file: &Schema) -> Vec<Option<FieldRef>> {
    let by_id = file.fields().iter().any(|field| id(field).is_some());
    let mut now: HashMap<String, &FieldRef> = HashMap::new();
    for field in table.fields() {
        if by_id {
            now.extend(id(field).map(|id| (id.to_owned(), field)));
        } else {
            let names = names_of(field).unwrap_or_else(|| vec![field.name().clone()]);
            now.extend(names.into_iter().map(|name| (name, field)));
        }
    }
    let current = |field: &FieldRef| {
        let key = if by_id { id(field)? } else { field.name() };
        now.get(key).copied().cloned()
    };
    file.fields().iter().map(current).collect()
}

/// Returns the schema of a file, in which each column has the name that it has in the table now.
fn renamed(current: &[Option<FieldRef>], file: &Schema) -> SchemaRef {
    let rename = |(index, (field, current)): (usize, (&FieldRef, &Option<FieldRef>))| match current
    {
        // The row number has no field id and is not in the file: the Parquet reader computes it.
        _ if field.has_valid_extension_type::<RowNumber>() => Arc::clone(field),
        // If the types are equal, the table's field is used. If only the metadata of both fields
        // differ, this prevents a cast.
        Some(current) if current.data_type() == field.data_type() => Arc::clone(current),
        // `NestedCastExpr` converts the nested fields after the column is read.
        Some(current) if NestedCastExpr::needs(field.data_type(), current.data_type()) => {
            Arc::clone(current)
        }
        Some(current) => Arc::new(field.as_ref().clone().with_name(current.name())),
        // The column was dropped. Give it a name that no column of the table can have.
        None => Arc::new(field.as_ref().clone().with_name(format!("\0{index}"))),
    };
    let fields: Fields = file.fields().iter().zip(current).enumerate().map(rename).collect();
    Arc::new(Schema::new(fields))
}

fn id(field: &Field) -> Option<&str> {
    field.metadata().get(FIELD_ID).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow::datatypes::DataType;

    use super::*;

    fn field(name: &str, data_type: DataType, id: i32) -> Field {
        let metadata = HashMap::from([(FIELD_ID.to_owned(), id.to_string())]);
        Field::new(name, data_type, true).with_metadata(metadata)
    }

    fn adapted(column: &str, table: &SchemaRef, file: &SchemaRef) -> String {
        let adapter = FieldIdAdapterFactory.create(table.clone(), file.clone()).unwrap();
        let index = table.index_of(column).unwrap();
        adapter.rewrite(Arc::new(Column::new(column, index))).unwrap().to_string()
    }

    #[test]
    fn files_without_ids_are_read_by_the_tables_name_mapping() {
        let file: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("old", DataType::Int32, true),
            Field::new("gone", DataType::Int32, true),
        ]));
        let named = |field: Field, names: &str| {
            let mut metadata = field.metadata().clone();
            metadata.insert(headwater_tables::NAMES.to_owned(), names.to_owned());
            field.with_metadata(metadata)
        };
        let table: SchemaRef = Arc::new(Schema::new(vec![
            named(field("gone", DataType::Int32, 5), "[]"),
            named(field("new", DataType::Int32, 1), "[\"old\"]"),
        ]));
        assert_eq!(adapted("new", &table, &file), "old@0");
        assert_eq!(adapted("gone", &table, &file), "NULL");
    }

    #[test]
    fn columns_are_found_by_id_regardless_of_their_names() {
        let file: SchemaRef = Arc::new(Schema::new(vec![
            field("dropped", DataType::Int32, 1),
            field("old", DataType::Int32, 2),
            field("kept", DataType::Int32, 3),
        ]));
        let table: SchemaRef = Arc::new(Schema::new(vec![
            field("kept", DataType::Int32, 3),
            field("new", DataType::Int32, 2),
            field("dropped", DataType::Int32, 7),
        ]));
        assert_eq!(adapted("kept", &table, &file), "kept@2");
        assert_eq!(adapted("new", &table, &file), "old@1");
        assert_eq!(adapted("dropped", &table, &file), "NULL");
    }

    #[test]
    fn a_promoted_column_is_cast_and_a_file_without_ids_is_read_by_name() {
        let file: SchemaRef = Arc::new(Schema::new(vec![field("old", DataType::Int32, 2)]));
        let table: SchemaRef = Arc::new(Schema::new(vec![field("new", DataType::Int64, 2)]));
        assert_eq!(adapted("new", &table, &file), "CAST(old@0 AS Int64)");
        let bare: SchemaRef = Arc::new(Schema::new(vec![Field::new("new", DataType::Int64, true)]));
        assert_eq!(adapted("new", &table, &bare), "new@0");
    }
}
