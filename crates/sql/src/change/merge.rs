//! MERGE as it is honoured.
//!
//! The table and the source become one join, of the kind that the clauses need, with every
//! condition and every value of the clauses in the select list, in the order in which they are
//! written.

use sqlparser::ast::{
    Expr, Ident, Join, JoinConstraint, JoinOperator, Merge, MergeAction, MergeClause,
    MergeClauseKind, MergeInsertExpr, MergeInsertKind, MergeUpdateExpr, ObjectName, SelectItem,
    TableAlias, TableFactor, TableWithJoins, Value, WildcardAdditionalOptions, With,
};

use super::assignment::{Assigned, assigned, assignments, given};
use super::query::{Parts, column, places, query_of, source, target, value};
use crate::error::{Error, Result};
use crate::parse::EVERY_COLUMN;
use crate::statement::Source;
use crate::table_name::{WrittenTable, span_start};
use crate::unsupported_clauses::{empty, none};

/// The column that is true in every row of the source.
const FROM_SOURCE: &str = "\0s";

/// What MERGE asks for.
#[derive(Debug, Clone)]
pub struct RowMerge {
    /// The table.
    pub table: ObjectName,
    /// Its alias.
    pub alias: Option<Ident>,
    /// The name of the source's columns.
    pub source_label: Ident,
    /// The clauses, in order.
    pub clauses: Vec<Clause>,
    /// The query: where the rows lie, whether the source has the row where a clause asks for it,
    /// then each clause's condition and values.
    pub source: Source,
    /// Whether the third column says that the source has the row.
    pub marked: bool,
}

/// A clause of MERGE.
#[derive(Debug, Clone)]
pub struct Clause {
    /// Which rows it is about.
    pub when: When,
    /// Whether it has a condition.
    pub condition: bool,
    /// What becomes of them.
    pub action: Action,
}

/// Which rows a clause of MERGE is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Rows that both sides have.
    Matched,
    /// Rows that only the source has.
    NotMatched,
    /// Rows that only the table has.
    NotMatchedBySource,
}

/// What becomes of a row.
#[derive(Debug, Clone)]
pub enum Action {
    /// It goes.
    Delete,
    /// Columns get values; all of them those of the source's columns of the same names, where none
    /// are listed.
    Update(Option<Vec<Assigned>>),
    /// It comes, with values for the columns listed, or for all in order.
    Insert {
        /// The columns.
        columns: Vec<Assigned>,
        /// Of each value, whether it is the column's default.
        defaults: Vec<bool>,
    },
    /// It comes, with the source's columns of the same names.
    InsertAll,
}

/// Takes a MERGE in, or refuses what it asks for by name.
pub fn row_merge(merge: Merge, with: Option<With>) -> Result<RowMerge> {
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
    let (mut taken, mut exprs) = (Vec::new(), Vec::new());
    for one in clauses {
        taken.push(clause(one, &mut exprs)?);
    }
    check_reach(&taken)?;
    let source_label = label(&from)?;
    let of = |when: When| taken.iter().any(|clause: &Clause| clause.when == when);
    let marked = of(When::NotMatchedBySource);
    let kind: fn(JoinConstraint) -> JoinOperator = match (of(When::NotMatched), marked) {
        (false, false) => JoinOperator::Inner,
        (true, false) => JoinOperator::RightOuter,
        (false, true) => JoinOperator::LeftOuter,
        (true, true) => JoinOperator::FullOuter,
    };
    let relation = labelled(from, &source_label, marked);
    let join = Join { relation, global: false, join_operator: kind(JoinConstraint::On(*on)) };
    let mut projection = places();
    if marked {
        projection.push(SelectItem::UnnamedExpr(column(FROM_SOURCE)));
    }
    projection.extend(exprs.into_iter().enumerate().map(|(index, expr)| value(index, expr)));
    let from = vec![TableWithJoins { relation: target.relation, joins: vec![join] }];
    let source = source(Parts { with, projection, from, ..Parts::default() })?;
    let (table, alias) = (target.table, target.alias);
    Ok(RowMerge { table, alias, source_label, clauses: taken, source, marked })
}

/// Takes a clause in, and puts its condition and values behind the others.
fn clause(clause: MergeClause, exprs: &mut Vec<Expr>) -> Result<Clause> {
    let MergeClause { when_token: _, clause_kind, predicate, action } = clause;
    let when = match clause_kind {
        MergeClauseKind::Matched => When::Matched,
        MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget => When::NotMatched,
        MergeClauseKind::NotMatchedBySource => When::NotMatchedBySource,
    };
    let condition = predicate.is_some();
    exprs.extend(predicate);
    let action = match action {
        MergeAction::Delete { delete_token: _ } => Action::Delete,
        MergeAction::Update(update) => updated(update, when, exprs)?,
        MergeAction::Insert(insert) => inserted(insert, exprs)?,
    };
    Ok(Clause { when, condition, action })
}

fn updated(update: MergeUpdateExpr, when: When, exprs: &mut Vec<Expr>) -> Result<Action> {
    let MergeUpdateExpr { update_token, assignments: list, update_predicate, delete_predicate } =
        update;
    none(update_predicate.as_ref(), "WHERE after UPDATE SET in MERGE")?;
    none(delete_predicate.as_ref(), "DELETE WHERE in MERGE")?;
    let (columns, values): (Vec<Assigned>, Vec<_>) = assignments(list)?.into_iter().unzip();
    if columns.iter().any(|assigned| assigned.column.value == EVERY_COLUMN) {
        if when == When::NotMatchedBySource {
            return Err(Error::Invalid {
                message: "UPDATE SET * needs a row of the source, and there is none".to_owned(),
                hint: Some("List the columns.".to_owned()),
                position: span_start(update_token.0.span),
            });
        }
        return Ok(Action::Update(None));
    }
    exprs.extend(values);
    Ok(Action::Update(Some(columns)))
}

fn inserted(insert: MergeInsertExpr, exprs: &mut Vec<Expr>) -> Result<Action> {
    let MergeInsertExpr { insert_token, columns, kind_token: _, kind, insert_predicate } = insert;
    none(insert_predicate.as_ref(), "WHERE after INSERT in MERGE")?;
    let mut rows = match kind {
        MergeInsertKind::Row if columns.is_empty() => return Ok(Action::InsertAll),
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
    Ok(Action::Insert { columns, defaults })
}

/// Refuses a clause that no row can reach, since one before it takes all.
fn check_reach(clauses: &[Clause]) -> Result<()> {
    for (index, clause) in clauses.iter().enumerate() {
        let takes_all = |other: &Clause| other.when == clause.when && !other.condition;
        if clauses[..index].iter().any(takes_all) {
            return Err(Error::Invalid {
                message: "a WHEN clause stands after one of its kind without a condition, and is \
                          never reached"
                    .to_owned(),
                hint: Some(
                    "Give the earlier clause a condition, or leave this one out.".to_owned(),
                ),
                position: None,
            });
        }
    }
    Ok(())
}

/// The name of the source's columns: its alias, or the table's own name.
fn label(factor: &TableFactor) -> Result<Ident> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::Function { alias: Some(alias), .. }
        | TableFactor::NestedJoin { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. } => Ok(alias.name.clone()),
        TableFactor::Table { name, alias: None, args: None, .. } => {
            Ok(Ident::with_quote('"', WrittenTable::of(name)?.label()))
        }
        _ => Err(Error::Invalid {
            message: "the source of MERGE has no name".to_owned(),
            hint: Some("Give it an alias: USING (…) AS source".to_owned()),
            position: None,
        }),
    }
}

/// The source under its name; where a clause is about rows that it lacks, with a column that tells
/// the rows it has.
fn labelled(factor: TableFactor, label: &Ident, marked: bool) -> TableFactor {
    if !marked {
        return factor;
    }
    let alias = Ident::with_quote('"', FROM_SOURCE);
    let mark = SelectItem::ExprWithAlias { expr: Expr::value(Value::Boolean(true)), alias };
    let subquery = query_of(Parts {
        projection: vec![SelectItem::Wildcard(WildcardAdditionalOptions::default()), mark],
        from: vec![TableWithJoins { relation: factor, joins: Vec::new() }],
        ..Parts::default()
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
