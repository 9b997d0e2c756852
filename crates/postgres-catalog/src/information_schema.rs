//! The rows of the tables in `information_schema`.

use arrow::datatypes::{DataType, FieldRef};
use headwater_model::TableName;
use serde_json::{Value, json};

use crate::pg_catalog::OWNER;
use crate::types::{PgType, ScalarType};
use crate::visible_objects::{Relation, VisibleObjects};

/// The name of the namespace whose tables this module describes.
pub(crate) const NAMESPACE: &str = "information_schema";

/// Returns the rows of the catalog table `table`.
pub(crate) fn rows(contents: &VisibleObjects, table: &str) -> Vec<Value> {
    let relations = contents.relations.iter();
    match table {
        "schemata" => schemata(contents),
        "tables" => relations.map(|one| relation(contents, one)).collect(),
        "columns" => relations.flat_map(|one| columns(contents, one)).collect(),
        // Power BI reads the character set when it connects.
        "character_sets" => vec![json!({
            "character_set_name": "UTF8",
            "character_repertoire": "UCS",
            "form_of_use": "UTF8",
            "default_collate_catalog": contents.database,
        })],
        "information_schema_catalog_name" => vec![json!({"catalog_name": contents.database})],
        "views" => relations.filter_map(|one| view(contents, one)).collect(),
        _ => Vec::new(),
    }
}

fn schemata(contents: &VisibleObjects) -> Vec<Value> {
    let catalogs = [NAMESPACE, crate::pg_catalog::NAMESPACE];
    let own = contents.namespaces.iter().map(String::as_str);
    let row = |name| {
        json!({
            "catalog_name": contents.database,
            "schema_name": name,
            "schema_owner": OWNER,
        })
    };
    own.chain(catalogs).map(row).collect()
}

/// Returns the values of the three columns that name a table.
fn named(contents: &VisibleObjects, name: &TableName) -> Value {
    json!({
        "table_catalog": contents.database,
        "table_schema": name.namespace,
        "table_name": name.name,
    })
}

fn relation(contents: &VisibleObjects, relation: &Relation) -> Value {
    let is_table = relation.query.is_none();
    let mut row = named(contents, &relation.name);
    row["table_type"] = json!(if is_table { "BASE TABLE" } else { "VIEW" });
    row["is_insertable_into"] = yes_or_no(is_table);
    row["is_typed"] = yes_or_no(false);
    row
}

fn view(contents: &VisibleObjects, relation: &Relation) -> Option<Value> {
    let mut row = named(contents, &relation.name);
    row["view_definition"] = json!(relation.query.as_ref()?);
    row["check_option"] = json!("NONE");
    row["is_updatable"] = yes_or_no(false);
    row["is_insertable_into"] = yes_or_no(false);
    Some(row)
}

fn columns(contents: &VisibleObjects, relation: &Relation) -> Vec<Value> {
    let row = |(index, field): (usize, &FieldRef)| {
        let mut row = named(contents, &relation.name);
        row["column_name"] = json!(field.name());
        row["ordinal_position"] = json!(index + 1);
        row["is_nullable"] = yes_or_no(field.is_nullable());
        row["is_identity"] = yes_or_no(false);
        row["is_generated"] = json!("NEVER");
        row["is_updatable"] = yes_or_no(relation.query.is_none());
        row["dtd_identifier"] = json!((index + 1).to_string());
        add_type(&mut row, field);
        row
    };
    relation.columns.fields().iter().enumerate().map(row).collect()
}

fn add_type(row: &mut Value, field: &FieldRef) {
    let pg_type = PgType::of_field(field);
    row["data_type"] = json!(if pg_type.is_array { "ARRAY".to_owned() } else { pg_type.name() });
    row["udt_catalog"] = row["table_catalog"].clone();
    row["udt_schema"] = json!(crate::pg_catalog::NAMESPACE);
    row["udt_name"] = json!(pg_type.internal_name());
    if pg_type.is_array {
        return;
    }
    let (precision, radix, scale) = match (pg_type.scalar, field.data_type()) {
        (ScalarType::Int2, _) => (Some(16), Some(2), Some(0)),
        (ScalarType::Int4, _) => (Some(32), Some(2), Some(0)),
        (ScalarType::Int8, _) => (Some(64), Some(2), Some(0)),
        (ScalarType::Float4, _) => (Some(24), Some(2), None),
        (ScalarType::Float8, _) => (Some(53), Some(2), None),
        (_, DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale)) => {
            (Some(i32::from(*precision)), Some(10), Some(i32::from(*scale)))
        }
        _ => (None, None, None),
    };
    row["numeric_precision"] = json!(precision);
    row["numeric_precision_radix"] = json!(radix);
    row["numeric_scale"] = json!(scale);
    let has_time = matches!(
        pg_type.scalar,
        ScalarType::Time | ScalarType::Timestamp | ScalarType::Timestamptz | ScalarType::Interval
    );
    if has_time {
        row["datetime_precision"] = json!(6);
    } else if pg_type.scalar == ScalarType::Date {
        row["datetime_precision"] = json!(0);
    }
}

fn yes_or_no(is_true: bool) -> Value {
    json!(if is_true { "YES" } else { "NO" })
}
