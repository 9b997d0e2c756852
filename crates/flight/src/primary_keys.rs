//! Keys: the primary key of a table is its identifier fields. Tables have no foreign keys.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::sql::CommandGetPrimaryKeys;
use headwater_model::{DEFAULT_NAMESPACE, TableName};
use tonic::Status;

use crate::caller::Caller;
use crate::catalog_metadata::at_catalog;
use crate::grpc_status::internal;
use crate::statement::FlightState;

impl FlightState {
    /// Returns the primary key of a table. A table that does not exist, or that the client may not
    /// see, has no key.
    pub async fn primary_keys(
        &self,
        caller: &Caller,
        command: CommandGetPrimaryKeys,
    ) -> Result<RecordBatch, Status> {
        let named = at_catalog(caller, command.catalog.as_deref());
        let Some((catalog, caller)) = named else { return Ok(RecordBatch::new_empty(primary())) };
        let own = caller.namespace.clone();
        let namespace = command.db_schema.filter(|name| !name.is_empty()).or(own);
        let namespace = namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        let name = TableName { namespace, name: command.table };
        let tables = self.service().tables();
        let found = tables.get(&caller.principal, &caller.reference, &name).await;
        let columns = found.map(|table| table.identifier).unwrap_or_default();
        let same = |text: &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(columns.iter().map(|_| text)))
        };
        let numbers = Int32Array::from_iter_values((1..).take(columns.len()));
        let rows: Vec<ArrayRef> = vec![
            same(&catalog),
            same(&name.namespace),
            same(&name.name),
            Arc::new(StringArray::from_iter_values(&columns)),
            new_null_array(&DataType::Utf8, columns.len()),
            Arc::new(numbers),
        ];
        RecordBatch::try_new(primary(), rows).map_err(internal)
    }
}

/// Returns the columns of a response that name a column of a key: its catalog, schema, table and
/// column. `prefix` begins the name of each.
fn named(prefix: &str) -> Vec<Field> {
    let text = |name: &str, is_nullable| {
        Field::new(format!("{prefix}{name}"), DataType::Utf8, is_nullable)
    };
    vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("column_name", false),
    ]
}

/// Returns the columns of the response with primary keys.
pub fn primary() -> SchemaRef {
    let mut fields = named("");
    fields.push(Field::new("key_name", DataType::Utf8, true));
    fields.push(Field::new("key_sequence", DataType::Int32, false));
    Arc::new(Schema::new(fields))
}

/// Returns the columns of the response with foreign keys.
pub fn foreign() -> SchemaRef {
    let mut fields = named("pk_");
    fields.extend(named("fk_"));
    fields.push(Field::new("key_sequence", DataType::Int32, false));
    fields.push(Field::new("fk_key_name", DataType::Utf8, true));
    fields.push(Field::new("pk_key_name", DataType::Utf8, true));
    fields.push(Field::new("update_rule", DataType::UInt8, false));
    fields.push(Field::new("delete_rule", DataType::UInt8, false));
    Arc::new(Schema::new(fields))
}
