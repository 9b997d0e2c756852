//! Names of the fields of JSON objects. A result may have several columns with the same name, but
//! the names in an object must be distinct.

use std::collections::HashSet;

use arrow::datatypes::{Schema, SchemaRef};
use std::sync::Arc;

/// Returns the schema with `_1`, `_2`… appended to repeated names.
pub fn distinct(schema: &Schema) -> SchemaRef {
    let given: HashSet<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mut used: HashSet<String> = HashSet::new();
    let mut names = Vec::new();
    for field in schema.fields() {
        let mut name = field.name().clone();
        let mut count = 0;
        while !used.insert(name.clone()) {
            count += 1;
            name = format!("{}_{count}", field.name());
            // The schema has another column with this name, which keeps the name. So try the next
            // number.
            if given.contains(name.as_str()) {
                name.clone_from(field.name());
            }
        }
        names.push(name);
    }
    renamed(schema, names)
}

/// Returns a schema whose columns have these names.
fn renamed(schema: &Schema, names: Vec<String>) -> SchemaRef {
    let fields = schema.fields().iter().zip(names);
    let fields: Vec<_> = fields
        .map(|(field, name)| {
            if *field.name() == name {
                field.clone()
            } else {
                Arc::new(field.as_ref().clone().with_name(name))
            }
        })
        .collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;

    #[test]
    fn repeated_names_become_unique() {
        let names = ["id", "id", "id_1", "x", "id"];
        let fields: Vec<_> =
            names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect();
        let schema = distinct(&Schema::new(fields));
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["id", "id_2", "id_1", "x", "id_3"]);
    }
}
