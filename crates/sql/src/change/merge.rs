//! Converts MERGE to a query.
//!
//! Target and source become one join, whose type depends on the WHEN clauses. The select list
//! contains the conditions and values of all WHEN clauses, in textual order.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Ident, Join, JoinConstraint, JoinOperator, Merge, MergeAction, MergeClause,
    MergeClauseKind, MergeInsertExpr, MergeInsertKind, MergeUpdateExpr, ObjectName, Query,
    SelectItem, TableAlias, TableFactor, TableWithJoins, Value, VisitMut, VisitorMut,
    WildcardAdditionalOptions, With,
};

use super::affected_rows_query::{
    QueryClauses, column, location_columns, query_of, source, target, value,
};
use super::assignment::{AssignedColumn, assigned, assignments, given};
use crate::error::{Error, Result};
use crate::statement::SourceQuery;
use crate::table_name::{ParsedTableName, span_start};
use crate::unsupported_clauses::{empty, none};
use headwater_sql_tokens::EVERY_COLUMN;

/// Column that is added to the source, with the value true in all rows. In the join, the column is
/// null for rows without a match in the source.
const FROM_SOURCE: &str = "\0s";

/// A MERGE statement.
#[derive(Debug, Clone)]
pub struct MergeStatement {
    /// Target table.
    pub table: ObjectName,
    /// Alias of the target, if one was written.
    pub alias: Option<Ident>,
    /// Name that qualifies the source's columns in expressions.
    pub source_label: Ident,
    /// WHEN clauses, in textual order.
    pub clauses: Vec<WhenClause>,
    /// Query that returns the row position, the source marker if needed, and the conditions and
    /// values of each clause.
    pub source: SourceQuery,
    /// True if the third column of the query is a marker: true for rows that exist in the source.
    pub marked: bool,
    /// True for INSERT with ON CONFLICT and without a list of columns: the source's columns have
    /// no names until `name_new_rows` names them like the columns of the table.
    pub is_positional: bool,
}

/// A WHEN clause of MERGE.
#[derive(Debug, Clone)]
pub struct WhenClause {
    /// Rows that the clause applies to.
    pub when: MergeMatch,
    /// True if the clause has a condition.
    pub condition: bool,
    /// Action on the rows to which the clause applies.
    pub action: WhenAction,
}

/// Rows that a WHEN clause applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeMatch {
    /// Rows that match in both target and source.
    Matched,
    /// Rows that exist only in the source.
    NotMatched,
    /// Rows that exist only in the target.
    NotMatchedBySource,
}

/// Action of a WHEN clause.
#[derive(Debug, Clone)]
pub enum WhenAction {
    /// Deletes the row.
    Delete,
    /// Updates the listed columns. Without a list, sets all columns to the source's columns of the
    /// same name.
    Update(Option<Vec<AssignedColumn>>),
    /// Inserts a row with values for the listed columns, or for all columns in order.
    Insert {
        /// Columns in the order of the values; empty for all columns.
        columns: Vec<AssignedColumn>,
        /// For each value, true if the value is DEFAULT.
        defaults: Vec<bool>,
    },
    /// Inserts a row from the source's columns of the same name.
    InsertAll,
}

/// Converts a MERGE statement. An unsupported part is an error that names the part.
pub fn row_merge(merge: Merge, with: Option<With>) -> Result<MergeStatement> {
    let Merge { merge_token, optimizer_hints, into: _, table, source: from, on, clauses, output } =
        merge;
    empty(&optimizer_hints, "an optimizer hint")?;
    none(output.as_ref(), "RETURNING or OUTPUT")?;
    if clauses.is_empty() {
        return Err(Error::Invalid {
            message: "MERGE has no WHEN clause".to_owned(),
            hint: Some("Add WHEN MATCHED THEN … or WHEN NOT MATCHED THEN …".to_owned()),
            position: span_start(merge_token.0.span),
        });
    }
    let target = target(table, "MERGE")?;
    let source_label = label(&from)?;
    let (mut taken, mut exprs) = (Vec::new(), Vec::new());
    for one in clauses {
        let first = exprs.len();
        let clause = clause(one, &mut exprs)?;
        if clause.when == MergeMatch::NotMatched {
            let mut qualifier = ColumnQualifier { label: &source_label, depth: 0 };
            let _ = exprs[first..].iter_mut().try_for_each(|expr| expr.visit(&mut qualifier));
        }
        taken.push(clause);
    }
    check_reach(&taken)?;
    let of = |when: MergeMatch| taken.iter().any(|clause: &WhenClause| clause.when == when);
    let marked = of(MergeMatch::NotMatchedBySource);
    let kind: fn(JoinConstraint) -> JoinOperator = match (of(MergeMatch::NotMatched), marked) {
        (false, false) => JoinOperator::Inner,
        (true, false) => JoinOperator::RightOuter,
        (false, true) => JoinOperator::LeftOuter,
        (true, true) => JoinOperator::FullOuter,
    };
    let relation = source_with_marker(from, &source_label, marked);
    let join = Join { relation, global: false, join_operator: kind(JoinConstraint::On(*on)) };
    let mut projection = location_columns();
    if marked {
        projection.push(SelectItem::UnnamedExpr(column(FROM_SOURCE)));
    }
    projection.extend(exprs.into_iter().enumerate().map(|(index, expr)| value(index, expr)));
    let from = vec![TableWithJoins { relation: target.relation, joins: vec![join] }];
    let source = source(QueryClauses { with, projection, from, ..QueryClauses::default() })?;
    let (table, alias) = (target.table, target.alias);
    Ok(MergeStatement {
        table,
        alias,
        source_label,
        clauses: taken,
        source,
        marked,
        is_positional: false,
    })
}

/// Adds the source's name to unqualified columns. Used for a NOT MATCHED clause, because a row to
/// which this clause applies has only the source's columns.
struct ColumnQualifier<'l> {
    label: &'l Ident,
    /// Number of subqueries and lambdas around the visited expression. A name in a subquery or
    /// lambda is not qualified, because the subquery or lambda may define it.
    depth: usize,
}

impl VisitorMut for ColumnQualifier<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.depth += usize::from(matches!(expr, Expr::Lambda(_)));
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Lambda(_) => self.depth -= 1,
            Expr::Identifier(name) if self.depth == 0 => {
                let label = Ident { span: name.span, ..self.label.clone() };
                *expr = Expr::CompoundIdentifier(vec![label, name.clone()]);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Converts a WHEN clause, and appends its condition and values to `exprs`.
fn clause(clause: MergeClause, exprs: &mut Vec<Expr>) -> Result<WhenClause> {
    let MergeClause { when_token: _, clause_kind, predicate, action } = clause;
    let when = match clause_kind {
        MergeClauseKind::Matched => MergeMatch::Matched,
        MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget => MergeMatch::NotMatched,
        MergeClauseKind::NotMatchedBySource => MergeMatch::NotMatchedBySource,
    };
    let condition = predicate.is_some();
    exprs.extend(predicate);
    let action = match action {
        MergeAction::Delete { delete_token: _ } => WhenAction::Delete,
        MergeAction::Update(update) => updated(update, when, exprs)?,
        MergeAction::Insert(insert) => inserted(insert, exprs)?,
    };
    Ok(WhenClause { when, condition, action })
}

fn updated(update: MergeUpdateExpr, when: MergeMatch, exprs: &mut Vec<Expr>) -> Result<WhenAction> {
    let MergeUpdateExpr { update_token, assignments: list, update_predicate, delete_predicate } =
        update;
    none(update_predicate.as_ref(), "WHERE after UPDATE SET in MERGE")?;
    none(delete_predicate.as_ref(), "DELETE WHERE in MERGE")?;
    let (columns, values): (Vec<AssignedColumn>, Vec<_>) = assignments(list)?.into_iter().unzip();
    let is_star = |column: &Ident| column.quote_style.is_none() && column.value == EVERY_COLUMN;
    if columns.iter().any(|assigned| is_star(&assigned.column)) {
        if when == MergeMatch::NotMatchedBySource {
            return Err(Error::Invalid {
                message: "UPDATE SET * has no source row in WHEN NOT MATCHED BY SOURCE".to_owned(),
                hint: Some("List the columns.".to_owned()),
                position: span_start(update_token.0.span),
            });
        }
        return Ok(WhenAction::Update(None));
    }
    exprs.extend(values);
    Ok(WhenAction::Update(Some(columns)))
}

fn inserted(insert: MergeInsertExpr, exprs: &mut Vec<Expr>) -> Result<WhenAction> {
    let MergeInsertExpr { insert_token, columns, kind_token: _, kind, insert_predicate } = insert;
    none(insert_predicate.as_ref(), "WHERE after INSERT in MERGE")?;
    let mut rows = match kind {
        MergeInsertKind::Row if columns.is_empty() => return Ok(WhenAction::InsertAll),
        MergeInsertKind::Row => return Err(Error::unsupported("columns before ROW in MERGE")),
        MergeInsertKind::Values(values) => values.rows,
    };
    let (Some(row), true) = (rows.pop(), rows.is_empty()) else {
        return Err(Error::unsupported("INSERT of several rows in MERGE"));
    };
    let values = row.content;
    if !columns.is_empty() && columns.len() != values.len() {
        return Err(Error::Invalid {
            message: format!("{} values are given for {} columns", values.len(), columns.len()),
            hint: None,
            position: span_start(insert_token.0.span),
        });
    }
    let columns = columns.iter().map(assigned).collect::<Result<Vec<_>>>()?;
    let (values, defaults): (Vec<_>, Vec<_>) = values.into_iter().map(given).unzip();
    exprs.extend(values);
    Ok(WhenAction::Insert { columns, defaults })
}

/// Rejects a clause that can never apply, because an earlier clause of the same kind has no
/// condition.
fn check_reach(clauses: &[WhenClause]) -> Result<()> {
    for (index, clause) in clauses.iter().enumerate() {
        let takes_all = |other: &WhenClause| other.when == clause.when && !other.condition;
        if clauses[..index].iter().any(takes_all) {
            return Err(Error::Invalid {
                message: "a WHEN clause is never reached, because an earlier one of the same kind \
                          has no condition"
                    .to_owned(),
                hint: Some(
                    "Give the earlier clause a condition, or leave this clause out.".to_owned(),
                ),
                position: None,
            });
        }
    }
    Ok(())
}

/// Returns the name that qualifies the source's columns: the source's alias, or its table name.
fn label(factor: &TableFactor) -> Result<Ident> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::Function { alias: Some(alias), .. }
        | TableFactor::NestedJoin { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. } => Ok(alias.name.clone()),
        TableFactor::Table { name, alias: None, args: None, .. } => {
            Ok(Ident::with_quote('"', ParsedTableName::of(name)?.label()))
        }
        _ => Err(Error::Invalid {
            message: "the source of MERGE has no name".to_owned(),
            hint: Some("Give the source an alias: USING (…) AS source".to_owned()),
            position: None,
        }),
    }
}

/// Returns the source; if `marked`, as a subquery with the marker column.
fn source_with_marker(factor: TableFactor, label: &Ident, marked: bool) -> TableFactor {
    if !marked {
        return factor;
    }
    let alias = Ident::with_quote('"', FROM_SOURCE);
    let mark = SelectItem::ExprWithAlias { expr: Expr::value(Value::Boolean(true)), alias };
    let subquery = query_of(QueryClauses {
        projection: vec![SelectItem::Wildcard(WildcardAdditionalOptions::default()), mark],
        from: vec![TableWithJoins { relation: factor, joins: Vec::new() }],
        ..QueryClauses::default()
    });
    TableFactor::Derived {
        lateral: false,
        subquery: Box::new(subquery),
        alias: Some(TableAlias {
            explicit: true,
            name: label.clone(),
            columns: Vec::new(),
            at: None,
        }),
        sample: None,
    }
}
