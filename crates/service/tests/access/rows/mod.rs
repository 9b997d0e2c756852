//! The table: every method of the service that takes a principal.

mod accounts;
mod connections;
mod functions;
mod iceberg;
mod iceberg_changes;
mod jobs;
mod objects;
mod queues;
mod refs;
mod statements;
mod tables;

use std::collections::BTreeSet;

use headwater_model::TableName;

use crate::matrix::Row;

/// Returns all rows, in the order of their execution.
pub fn all() -> impl Iterator<Item = &'static Row> {
    let tables = [
        refs::ROWS,
        tables::ROWS,
        statements::ROWS,
        connections::ROWS,
        iceberg::ROWS,
        iceberg_changes::ROWS,
        functions::ROWS,
        objects::ROWS,
        queues::ROWS,
        jobs::ROWS,
        accounts::ROWS,
    ];
    tables.into_iter().flatten()
}

/// Returns the names of the methods. A method can have several rows, such as `Users::get (own)`.
pub fn methods() -> Vec<&'static str> {
    let names = all().map(|row| row.0.split(' ').next().unwrap_or_default());
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Parses the name of a table or view.
fn name(text: &str) -> TableName {
    text.parse().expect("a name")
}
