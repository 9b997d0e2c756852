//! Joins by columns with the same name: `USING (x)` and `NATURAL`.
//!
//! The unqualified name of such a column stands for one value. After RIGHT JOIN, this is the value
//! of the right side; after FULL JOIN, the left value or, if it is null, the right value; and
//! otherwise the value of the left side. DataFusion always uses the left side's column, which is
//! null in rows that exist only on the right side. So unqualified names are replaced by explicit
//! expressions. In a FROM with such an outer join, USING becomes ON, and `*` is expanded.
//!
//! Upstream: <https://github.com/apache/datafusion/issues/22881>

use headwater_sql::expression::call;
use headwater_sql::unsupported_clauses::constraint;
use headwater_sql::{Error, Result};
use sqlparser::ast::{
    BinaryOperator, Expr, Ident, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart,
    SelectItem, TableFactor, TableWithJoins, WildcardAdditionalOptions,
};

use crate::Resolver;
use crate::name_scope::{JoinedColumn, Relation, Scope};

/// The side of a join that provides the value of a shared column, which is a column of USING or
/// NATURAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnSide {
    Left,
    Right,
    /// Both sides: the value of the left side, or of the right side if the left value is null.
    Both,
}

/// Returns the side that provides the values of a join's shared columns; `None` for other joins,
/// such as SEMI, which returns only the rows of one side.
pub(crate) fn side(operator: &JoinOperator) -> Option<ColumnSide> {
    match operator {
        JoinOperator::Join(_)
        | JoinOperator::Inner(_)
        | JoinOperator::Left(_)
        | JoinOperator::LeftOuter(_) => Some(ColumnSide::Left),
        JoinOperator::Right(_) | JoinOperator::RightOuter(_) => Some(ColumnSide::Right),
        JoinOperator::FullOuter(_) => Some(ColumnSide::Both),
        _ => None,
    }
}

/// Returns true if a FROM has a RIGHT or FULL join with USING or NATURAL. For the unqualified name
/// of a shared column, DataFusion would use the column of the wrong side.
pub(crate) fn needs_care(from: &mut TableWithJoins) -> bool {
    let nested = |factor: &mut TableFactor| match factor {
        TableFactor::NestedJoin { table_with_joins, alias: None } => needs_care(table_with_joins),
        _ => false,
    };
    if nested(&mut from.relation) {
        return true;
    }
    from.joins.iter_mut().any(|join| {
        let outer = matches!(side(&join.join_operator), Some(ColumnSide::Right | ColumnSide::Both));
        let shares = matches!(
            constraint(&mut join.join_operator),
            Some(JoinConstraint::Using(_) | JoinConstraint::Natural)
        );
        (outer && shares) || nested(&mut join.relation)
    })
}

/// Returns the shared columns of a NATURAL join, if all columns are known.
pub(crate) fn shared(left: &[Relation], right: &[Relation]) -> Option<Vec<String>> {
    if left.iter().chain(right).any(|relation| relation.columns.open) {
        return None;
    }
    let right: Vec<&String> = right.iter().flat_map(|r| &r.columns.names).collect();
    let mut shared: Vec<String> = Vec::new();
    for name in left.iter().flat_map(|relation| &relation.columns.names) {
        if right.contains(&name) && !shared.contains(name) {
            shared.push(name.clone());
        }
    }
    Some(shared)
}

/// Records the expression that the shared column `name` stands for after a join. The join's left
/// side has the relations with the indexes `start..before`, its right side the relations from
/// `before` on. Returns the join condition; `None` if the condition cannot be expressed.
pub(crate) fn merge(
    scope: &mut Scope,
    name: &str,
    (start, before): (usize, usize),
    side: ColumnSide,
) -> Option<Expr> {
    let left = scope.value(name, start..before)?;
    let right = scope.value(name, before..scope.relations.len())?;
    let condition = Expr::BinaryOp {
        left: Box::new(left.expr.clone()),
        op: BinaryOperator::Eq,
        right: Box::new(right.expr.clone()),
    };
    let expr = match side {
        ColumnSide::Left => left.expr,
        ColumnSide::Right => right.expr,
        ColumnSide::Both => call("coalesce", vec![left.expr, right.expr]),
    };
    let holders = left.holders.into_iter().chain(right.holders).collect();
    scope.merged.push(JoinedColumn { name: name.to_owned(), holders, expr });
    Some(condition)
}

/// Returns the error for a join that DataFusion cannot express.
pub(crate) fn refused() -> Error {
    Error::Unsupported {
        what: "RIGHT or FULL JOIN with USING or NATURAL between relations without an alias"
            .to_owned(),
        hint: Some("Give each relation an alias, or join with ON.".to_owned()),
        position: None,
    }
}

/// Returns the name of a column in USING.
pub(crate) fn name_of(column: &ObjectName) -> Option<&str> {
    match column.0.first() {
        Some(ObjectNamePart::Identifier(ident)) => Some(&ident.value),
        _ => None,
    }
}

impl Resolver<'_> {
    /// Expands `*` if its FROM has a join for which DataFusion takes the shared columns from the
    /// wrong side.
    pub(crate) fn expand(&mut self, items: &mut Vec<SelectItem>) -> Result<()> {
        let Some(scope) = self.scopes.innermost().filter(|scope| scope.careful) else {
            return Ok(());
        };
        let mut expanded = Vec::with_capacity(items.len());
        for item in items.drain(..) {
            let SelectItem::Wildcard(options) = &item else {
                expanded.push(item);
                continue;
            };
            let plain = WildcardAdditionalOptions {
                wildcard_token: options.wildcard_token.clone(),
                ..WildcardAdditionalOptions::default()
            };
            if *options != plain {
                return Err(Error::Unsupported {
                    what: "EXCLUDE, REPLACE and similar clauses with RIGHT or FULL JOIN USING"
                        .to_owned(),
                    hint: Some("Name the columns, or join with ON.".to_owned()),
                    position: None,
                });
            }
            if scope.relations.iter().any(|relation| !relation.can_be_named()) {
                return Err(refused());
            }
            expanded.extend(all_columns(scope));
        }
        *items = expanded;
        Ok(())
    }
}

/// Returns the columns of `*`: each shared column once, at its first position.
fn all_columns(scope: &Scope) -> Vec<SelectItem> {
    let mut items = Vec::new();
    for (index, relation) in scope.relations.iter().enumerate() {
        for name in &relation.columns.names {
            let merged = scope.merged.iter().rev();
            let merged =
                merged.clone().find(|one| one.name == *name && one.holders.contains(&index));
            let Some(merged) = merged else {
                items.push(SelectItem::UnnamedExpr(relation.column(name)));
                continue;
            };
            if merged.holders.iter().min() == Some(&index) {
                let alias = Ident::with_quote('"', name);
                items.push(SelectItem::ExprWithAlias { expr: merged.expr.clone(), alias });
            }
        }
    }
    items
}
