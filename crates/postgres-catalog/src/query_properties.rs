//! Properties of a query, which are collected before the query is rewritten.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{ObjectName, Query, Value, ValueWithSpan, Visit, Visitor};

use crate::catalog_tables::CatalogTable;
use crate::pg_catalog::NAMESPACE;
use crate::translate::{is_catalog, parts};

/// The properties of a query.
#[derive(Debug, Default)]
pub(crate) struct QueryProperties {
    /// The names of the parameters, without the dollar sign.
    pub(crate) parameters: BTreeSet<String>,
    /// True if a relation of the query is a table of PostgreSQL's catalogs.
    pub(crate) reads_catalog: bool,
    /// True if a relation of the query is not a table of PostgreSQL's catalogs.
    pub(crate) reads_tables: bool,
}

impl QueryProperties {
    /// Collects the properties of a query.
    pub(crate) fn of(query: &Query) -> Self {
        let mut properties = QueryProperties::default();
        let _ = Visit::visit(query, &mut properties);
        properties
    }
}

impl Visitor for QueryProperties {
    type Break = ();

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        if let Value::Placeholder(name) = &value.value {
            self.parameters.insert(name.trim_start_matches('$').to_owned());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let is_of_catalog = match parts(relation).as_slice() {
            [name] => CatalogTable::find(NAMESPACE, name).is_some(),
            [namespace, _] => is_catalog(namespace),
            _ => false,
        };
        self.reads_catalog |= is_of_catalog;
        self.reads_tables |= !is_of_catalog;
        ControlFlow::Continue(())
    }
}
