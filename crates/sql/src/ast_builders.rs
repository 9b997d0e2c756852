//! Constructors of syntax tree nodes for rewritten clauses.

use sqlparser::ast::{
    BinaryOperator, Expr, Ident, ObjectName, Query, SelectItem, TableAlias, TableAliasColumnDef,
    TableFactor, TableWithJoins, Value, WildcardAdditionalOptions,
};

/// Returns a quoted identifier with this text.
pub fn name(text: &str) -> Ident {
    Ident::with_quote('"', text)
}

/// Returns a number literal.
pub fn number(value: impl ToString) -> Expr {
    Expr::value(Value::Number(value.to_string(), false))
}

/// Returns a string literal.
pub fn text(value: impl Into<String>) -> Expr {
    Expr::value(Value::SingleQuotedString(value.into()))
}

/// Returns a binary operation. The operands are not put in parentheses.
pub fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// Combines conditions with AND; `None` if there are no conditions.
pub fn all(conditions: impl IntoIterator<Item = Expr>) -> Option<Expr> {
    conditions.into_iter().reduce(|left, right| binary(left, BinaryOperator::And, right))
}

/// Combines conditions with AND or OR; `None` if there are no conditions. The tree has few levels,
/// because the planner needs stack for each level, and a list can have thousands of conditions.
pub fn joined(mut conditions: Vec<Expr>, op: &BinaryOperator) -> Option<Expr> {
    while conditions.len() > 1 {
        let mut left = conditions.into_iter();
        let mut combined = Vec::with_capacity(left.len().div_ceil(2));
        while let Some(condition) = left.next() {
            combined.push(match left.next() {
                Some(other) => binary(condition, op.clone(), other),
                None => condition,
            });
        }
        conditions = combined;
    }
    conditions.pop()
}

/// Returns the select list item `*` with options.
pub fn star(options: WildcardAdditionalOptions) -> SelectItem {
    SelectItem::Wildcard(options)
}

/// Returns a select list item with an alias.
pub fn item(expr: Expr, alias: &str) -> SelectItem {
    SelectItem::ExprWithAlias { expr, alias: name(alias) }
}

/// Returns an item of FROM without joins.
pub fn only(relation: TableFactor) -> TableWithJoins {
    TableWithJoins { relation, joins: Vec::new() }
}

/// Returns a table alias with column names.
pub fn alias(name: Ident, columns: Vec<Ident>) -> TableAlias {
    let column = |name| TableAliasColumnDef { name, data_type: None };
    TableAlias {
        explicit: true,
        name,
        columns: columns.into_iter().map(column).collect(),
        at: None,
    }
}

/// Returns a table in FROM.
pub fn table(name: ObjectName, alias: Option<TableAlias>) -> TableFactor {
    TableFactor::Table {
        name,
        alias,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

/// Returns a subquery in FROM.
pub fn derived(query: Query, alias: Option<TableAlias>) -> TableFactor {
    TableFactor::Derived { lateral: false, subquery: Box::new(query), alias, sample: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(expr: &Expr) -> usize {
        match expr {
            Expr::BinaryOp { left, right, .. } => 1 + levels(left).max(levels(right)),
            _ => 0,
        }
    }

    #[test]
    fn many_conditions_have_few_levels() {
        let chain = |count: usize| {
            let column = |number: usize| Expr::Identifier(name(&format!("c{number}")));
            joined((0..count).map(column).collect(), &BinaryOperator::Or)
        };
        assert_eq!(chain(0), None);
        assert_eq!(chain(1).map(|it| it.to_string()).as_deref(), Some("\"c0\""));
        let three = chain(3).map(|it| it.to_string());
        assert_eq!(three.as_deref(), Some("\"c0\" OR \"c1\" OR \"c2\""));
        assert!(levels(&chain(10_000).expect("a condition")) <= 14);
    }
}
