//! `INSERT … ON CONFLICT (keys) DO UPDATE SET …` and `DO NOTHING`, as MERGE.
//!
//! Tables do not enforce unique keys, so the statement must name the key columns. Two new rows with
//! the same key are an error, because the result would depend on their order.

use std::ops::ControlFlow;

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    BinaryOperator, CaseWhen, ConflictTarget, DoUpdate, Expr, Function, Ident, Insert, Merge,
    MergeAction, MergeClause, MergeClauseKind, MergeInsertExpr, MergeInsertKind, MergeUpdateExpr,
    ObjectName, OnConflict, OnConflictAction, OnInsert, Parens, Query, SelectItem, SetExpr,
    TableAlias, TableFactor, TableObject, Values, VisitMut, VisitorMut, WindowSpec, WindowType,
    With,
};

use crate::ast_builders::{self, alias, all, binary, derived, name, number, only, star};
use crate::change::{MergeStatement, QueryClauses, is_default, query_of, row_merge};
use crate::error::{Error, Result};
use crate::expression::{UNIQUE_KEY, call};
use crate::name_match::equals_ignoring_case;
use crate::table_name::idents;
use crate::unsupported_clauses::{none, unset};

/// The name by which expressions in DO UPDATE refer to the new rows.
const NEW_ROWS: &str = "excluded";

fn invalid(message: &str, hint: &str) -> Error {
    Error::Invalid { message: message.to_owned(), hint: Some(hint.to_owned()), position: None }
}

/// Returns true for an INSERT with ON CONFLICT.
pub(crate) fn is_upsert(insert: &Insert) -> bool {
    matches!(insert.on, Some(OnInsert::OnConflict(_)))
}

/// Returns the MERGE of an INSERT with ON CONFLICT, which can follow a WITH clause.
pub(crate) fn upsert(insert: Insert, with: Option<With>) -> Result<MergeStatement> {
    let is_positional = insert.columns.is_empty();
    let merge = row_merge(merge_of(insert)?, with)?;
    Ok(MergeStatement { is_positional, ..merge })
}

/// Names the new rows of an INSERT with ON CONFLICT and without a list of columns, by the columns
/// of the table. `query` is the source of the MERGE.
pub fn name_new_rows(query: &mut Query, columns: &[String]) -> Result<()> {
    let Some((rows, alias)) = rows_of(query) else {
        return Err(Error::unsupported("ON CONFLICT without rows"));
    };
    match width(rows) {
        Some(width) if width != columns.len() => Err(invalid(
            &format!("the rows have {width} values for the {} columns of the table", columns.len()),
            "List the columns: `INSERT INTO t (id, name) … ON CONFLICT (id) DO …`.",
        )),
        _ => {
            let columns = columns.iter().map(|column| name(column)).collect();
            *alias = crate::ast_builders::alias(name(NEW_ROWS), columns);
            Ok(())
        }
    }
}

/// Returns the query of the new rows and its alias, in the query that [`new_rows`] has built.
fn rows_of(query: &mut Query) -> Option<(&Query, &mut TableAlias)> {
    let SetExpr::Select(select) = &mut *query.body else { return None };
    let join = select.from.first_mut()?.joins.first_mut()?;
    let TableFactor::Derived { subquery: checked, .. } = &mut join.relation else { return None };
    let SetExpr::Select(select) = &mut *checked.body else { return None };
    match &mut select.from.first_mut()?.relation {
        TableFactor::Derived { subquery, alias: Some(alias), .. } => Some((&**subquery, alias)),
        _ => None,
    }
}

/// Returns the number of a query's columns; `None` if it is not known before planning.
fn width(query: &Query) -> Option<usize> {
    match &*query.body {
        SetExpr::Values(values) => values.rows.first().map(|row| row.content.len()),
        SetExpr::Select(select) => {
            let is_column = |item: &SelectItem| {
                matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. })
            };
            select.projection.iter().all(is_column).then_some(select.projection.len())
        }
        _ => None,
    }
}

fn merge_of(insert: Insert) -> Result<Merge> {
    let Insert { table, table_alias, columns, source, on, overwrite, returning, output, .. } =
        insert;
    unset(overwrite, "OVERWRITE with ON CONFLICT")?;
    none(returning.as_ref(), "RETURNING")?;
    none(output.as_ref(), "OUTPUT")?;
    let (Some(OnInsert::OnConflict(OnConflict { conflict_target, action })), Some(rows)) =
        (on, source)
    else {
        return Err(Error::unsupported("INSERT without rows"));
    };
    let TableObject::TableName(table) = table else {
        return Err(Error::unsupported("INSERT into anything but a table"));
    };
    let keys = keys(conflict_target, &columns)?;
    let label = match (&table_alias, idents(&table)?.last()) {
        (Some(alias), _) => alias.alias.clone(),
        (None, Some(name)) => (*name).clone(),
        (None, None) => return Err(Error::unsupported("INSERT without a table")),
    };
    let columns: Vec<Ident> =
        columns.iter().flat_map(|column| idents(column).unwrap_or_default()).cloned().collect();
    let equal = keys
        .iter()
        .map(|key| binary(of(&label, key), BinaryOperator::Eq, of(&name(NEW_ROWS), key)));
    let on =
        all(equal).ok_or_else(|| invalid("ON CONFLICT has no columns", "List the key columns."))?;
    let mut clauses = Vec::new();
    if let OnConflictAction::DoUpdate(update) = action {
        clauses.push(updated(update, &label)?);
    }
    clauses.push(inserted(&columns));
    let alias = table_alias.map(|own| alias(own.alias, Vec::new()));
    Ok(Merge {
        merge_token: AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        into: true,
        table: ast_builders::table(table, alias),
        source: new_rows(*rows, &columns, &keys),
        on: Box::new(on),
        clauses,
        output: None,
    })
}

/// Returns the key columns of ON CONFLICT, which must be among the columns of the INSERT.
fn keys(target: Option<ConflictTarget>, columns: &[ObjectName]) -> Result<Vec<Ident>> {
    let Some(ConflictTarget::Columns(keys)) = target else {
        return Err(invalid(
            "ON CONFLICT needs a list of key columns, because tables have no unique keys",
            "List the key columns: `ON CONFLICT (id) DO …`.",
        ));
    };
    if columns.is_empty() {
        return Ok(keys);
    }
    let is_listed = |key: &&Ident| {
        columns.iter().any(|column| {
            idents(column).is_ok_and(|parts| {
                parts.last().is_some_and(|part| equals_ignoring_case(&part.value, &key.value))
            })
        })
    };
    match keys.iter().find(|key| !is_listed(key)) {
        Some(key) => Err(invalid(
            &format!("the key `{key}` is not among the columns of the INSERT"),
            "Add the key to the list of columns.",
        )),
        None => Ok(keys),
    }
}

fn of(relation: &Ident, column: &Ident) -> Expr {
    Expr::CompoundIdentifier(vec![relation.clone(), column.clone()])
}

/// Returns the new rows as a subquery, which fails when it runs if a key occurs twice.
fn new_rows(rows: Query, columns: &[Ident], keys: &[Ident]) -> TableFactor {
    let key = |key: &Ident| Expr::Identifier(key.clone());
    let spec = WindowSpec {
        window_name: None,
        partition_by: keys.iter().map(key).collect(),
        order_by: Vec::new(),
        window_frame: None,
    };
    let count = match call("count", vec![number(1)]) {
        Expr::Function(function) => {
            Expr::Function(Function { over: Some(WindowType::WindowSpec(spec)), ..function })
        }
        other => other,
    };
    let has_key = all(keys.iter().map(|one| Expr::IsNotNull(Box::new(key(one)))));
    // Do not count keys that contain a null, because such a key does not equal any other key.
    let count = Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen {
            condition: has_key.unwrap_or_else(|| number(1)),
            result: count,
        }],
        else_result: Some(Box::new(number(1))),
    };
    let source = derived(rows, Some(alias(name(NEW_ROWS), columns.to_vec())));
    let mut query = query_of(QueryClauses {
        projection: vec![star(<_>::default())],
        from: vec![only(source)],
        ..QueryClauses::default()
    });
    if let SetExpr::Select(select) = &mut *query.body {
        select.qualify = Some(call(UNIQUE_KEY, vec![count]));
    }
    derived(query, Some(alias(name(NEW_ROWS), columns.to_vec())))
}

fn clause(kind: MergeClauseKind, predicate: Option<Expr>, action: MergeAction) -> MergeClause {
    MergeClause { when_token: AttachedToken::empty(), clause_kind: kind, predicate, action }
}

/// Returns the WHEN MATCHED clause for DO UPDATE. An unqualified name is a column of the target.
fn updated(update: DoUpdate, label: &Ident) -> Result<MergeClause> {
    let DoUpdate { mut assignments, mut selection } = update;
    let values = assignments.iter_mut().map(|assignment| &mut assignment.value);
    for value in values.chain(&mut selection) {
        if value.visit(&mut ColumnQualifier { label }).is_break() {
            return Err(Error::unsupported("a subquery in ON CONFLICT … DO UPDATE"));
        }
    }
    let action = MergeAction::Update(MergeUpdateExpr {
        update_token: AttachedToken::empty(),
        assignments,
        update_predicate: None,
        delete_predicate: None,
    });
    Ok(clause(MergeClauseKind::Matched, selection, action))
}

/// Returns the WHEN NOT MATCHED clause, which inserts the rows whose key does not exist yet.
/// Without a list of columns, it inserts the columns of the table.
fn inserted(columns: &[Ident]) -> MergeClause {
    if columns.is_empty() {
        let action = MergeAction::Insert(MergeInsertExpr {
            insert_token: AttachedToken::empty(),
            columns: Vec::new(),
            kind_token: AttachedToken::empty(),
            kind: MergeInsertKind::Row,
            insert_predicate: None,
        });
        return clause(MergeClauseKind::NotMatched, None, action);
    }
    let values = columns.iter().map(|column| of(&name(NEW_ROWS), column)).collect();
    let values = Values {
        explicit_row: false,
        value_keyword: false,
        rows: vec![Parens::with_empty_span(values)],
    };
    let action = MergeAction::Insert(MergeInsertExpr {
        insert_token: AttachedToken::empty(),
        columns: columns.iter().map(|column| ObjectName::from(vec![column.clone()])).collect(),
        kind_token: AttachedToken::empty(),
        kind: MergeInsertKind::Values(values),
        insert_predicate: None,
    });
    clause(MergeClauseKind::NotMatched, None, action)
}

/// Qualifies unqualified column names with a table.
struct ColumnQualifier<'a> {
    label: &'a Ident,
}

impl VisitorMut for ColumnQualifier<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        ControlFlow::Break(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if is_default(expr) {
            return ControlFlow::Continue(());
        }
        if let Expr::Identifier(column) = expr {
            *expr = of(self.label, column);
        }
        ControlFlow::Continue(())
    }
}
