//! Names of JSON fields: an answer may have two columns of one name, an object only one such field.

use std::collections::HashSet;

use arrow::datatypes::{Schema, SchemaRef};

/// The schema with `_1`, `_2`… after every name that came before.
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
            // A column further on may really be called so, and keeps its name.
            if given.contains(name.as_str()) {
                name.clone_from(field.name());
            }
        }
        names.push(name);
    }
    super::renamed(schema, names)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;

    #[test]
    fn every_column_has_a_name_of_its_own() {
        let names = ["id", "id", "id_1", "x", "id"];
        let fields: Vec<_> =
            names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect();
        let schema = distinct(&Schema::new(fields));
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["id", "id_2", "id_1", "x", "id_3"]);
    }
}
