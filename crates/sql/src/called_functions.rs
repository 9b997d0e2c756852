//! Finds the functions that a query calls.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Function, Ident, ObjectNamePart, Visit, visit_expressions};

/// The name of a function in a query.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CalledFunction {
    /// The name by which the planner looks up the function: the name as written, including the
    /// namespace if the call has one.
    pub key: String,
    /// The namespace; `None` if the call has no namespace.
    pub namespace: Option<String>,
    /// The name without the namespace. Unquoted names are in lower case.
    pub name: String,
}

/// Returns the functions that a query calls, without duplicates.
pub fn called_functions(query: &impl Visit) -> Vec<CalledFunction> {
    let mut found = BTreeSet::new();
    let _ = visit_expressions(query, |expr| {
        if let Expr::Function(function) = expr {
            found.extend(named(function));
        }
        ControlFlow::<()>::Continue(())
    });
    found.into_iter().collect()
}

fn named(function: &Function) -> Option<CalledFunction> {
    let idents: Option<Vec<&Ident>> =
        function.name.0.iter().map(ObjectNamePart::as_ident).collect();
    let idents = idents?;
    let (last, before) = idents.split_last()?;
    let name = spelled(last);
    let levels: Vec<&str> = before.iter().map(|ident| ident.value.as_str()).collect();
    let namespace = (!levels.is_empty()).then(|| levels.join("."));
    let key = if namespace.is_some() { function.name.to_string() } else { name.clone() };
    Some(CalledFunction { key, namespace, name })
}

fn spelled(ident: &Ident) -> String {
    if ident.quote_style.is_none() { ident.value.to_lowercase() } else { ident.value.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;

    #[test]
    fn calls_are_found_in_every_clause() {
        let sql = "SELECT a(x), sales.\"B\"(1) FROM t JOIN u ON A(t.x) = u.x
                   WHERE EXISTS (SELECT 1 FROM v WHERE c(x)) ORDER BY \"D\"(x)";
        let source = parse(sql).expect("a statement").into_query().expect("a query");
        let found = called_functions(source.query());
        let keys: Vec<&str> = found.iter().map(|function| function.key.as_str()).collect();
        assert_eq!(keys, ["D", "a", "c", "sales.\"B\""]);
        assert_eq!(found[3].namespace.as_deref(), Some("sales"));
        assert_eq!(found[3].name, "B");
    }
}
