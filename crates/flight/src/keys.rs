//! The columns of results on keys, which are empty: tables have no primary and no foreign keys.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

/// Columns that name a key of a table, with the prefix of the table.
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

/// Returns the columns of primary keys.
pub fn primary() -> SchemaRef {
    let mut fields = named("");
    fields.push(Field::new("key_name", DataType::Utf8, true));
    fields.push(Field::new("key_sequence", DataType::Int32, false));
    Arc::new(Schema::new(fields))
}

/// Returns the columns of foreign keys.
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
