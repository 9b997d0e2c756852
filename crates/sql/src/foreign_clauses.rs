//! Rewrites clauses of other systems to clauses that the planner supports: TOP, FETCH PERCENT and
//! WITH TIES, MINUS, WITH ROLLUP, TABLESAMPLE, LATERAL VIEW, CROSS APPLY, UNNEST WITH ORDINALITY.
//!
//! The rewrites do not depend on the columns of the tables.
//! [`unsupported_clauses`](crate::unsupported_clauses) rejects the clauses that remain.

use sqlparser::ast::{
    BinaryOperator, ExcludeSelectItem, Expr, Fetch, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, GroupByExpr, GroupByWithModifier, Ident, Join, JoinConstraint, JoinOperator,
    LateralView, ObjectName, ObjectNamePart, OrderBy, OrderByExpr, OrderByKind, OrderByOptions,
    Query, Select, SetExpr, SetOperator, TableAlias, TableFactor, TableSample, TableSampleKind,
    TableSampleModifier, TableSampleUnit, TopQuantity, Value, ValueWithSpan,
    WildcardAdditionalOptions, WindowSpec, WindowType,
};

use crate::ast_builders::{alias, binary, derived, item, name, number, only, star};
use crate::change::{QueryClauses, query_of};
use crate::error::{Error, Result};
use crate::expression::call;
use crate::table_name::idents;

/// Names of two columns that a rewrite adds: the rank of a row, and the number of all rows.
const RANK: &str = "\0rank";
const COUNT: &str = "\0count";

/// Rewrites the clauses around a query's body.
pub(crate) fn query(query: &mut Query) -> Result<()> {
    if let SetExpr::Select(select) = &mut *query.body
        && query.fetch.is_none()
        && query.limit_clause.is_none()
        && let Some(top) = select.top.take()
    {
        let quantity = top.quantity.map(|quantity| match quantity {
            TopQuantity::Expr(expr) => expr,
            TopQuantity::Constant(count) => number(count),
        });
        query.fetch = Some(Fetch { with_ties: top.with_ties, percent: top.percent, quantity });
    }
    match &query.fetch {
        Some(Fetch { with_ties, percent, .. }) if *with_ties || *percent => {
            rewrite_fetch_by_rank(query)
        }
        _ => Ok(()),
    }
}

/// Rewrites FETCH FIRST … PERCENT and WITH TIES as a condition on the rank that each row has in the
/// order of the query.
fn rewrite_fetch_by_rank(query: &mut Query) -> Result<()> {
    let Some(Fetch { with_ties, percent, quantity }) = query.fetch.take() else { return Ok(()) };
    if query.limit_clause.is_some() {
        return Err(Error::unsupported("LIMIT or OFFSET with FETCH … PERCENT or WITH TIES"));
    }
    let keys = match query.order_by.take() {
        Some(OrderBy { kind: OrderByKind::Expressions(keys), .. }) => keys,
        Some(_) => return Err(Error::unsupported("ORDER BY ALL with PERCENT or WITH TIES")),
        None if with_ties => return Err(Error::unsupported("WITH TIES without ORDER BY")),
        None => Vec::new(),
    };
    let quantity = quantity.unwrap_or_else(|| number(1));
    let with = query.with.take();
    let body = std::mem::replace(query, query_of(QueryClauses::default()));
    let rank = over(if with_ties { "rank" } else { "row_number" }, Vec::new(), keys);
    let count = over("count", vec![number(1)], Vec::new());
    let inner = query_of(QueryClauses {
        projection: vec![star(<_>::default()), item(rank, RANK), item(count, COUNT)],
        from: vec![only(derived(body, None))],
        ..QueryClauses::default()
    });
    let column = |text: &str| Expr::Identifier(name(text));
    let limit = if percent {
        // The percentage may not give a whole number of rows. DuckDB's LIMIT rounds this number
        // down, SQL Server's TOP and the standard's FETCH round it up. A string literal stands for
        // DuckDB's LIMIT.
        let (round, quantity) = match quantity {
            Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(digits), .. }) => {
                ("floor", number(digits))
            }
            other => ("ceil", other),
        };
        let share = binary(column(COUNT), BinaryOperator::Multiply, quantity);
        call(round, vec![binary(share, BinaryOperator::Divide, number("100.0"))])
    } else {
        quantity
    };
    let excluded = [RANK, COUNT].map(|column| ObjectName::from(vec![name(column)]));
    let options = WildcardAdditionalOptions {
        opt_exclude: Some(ExcludeSelectItem::Multiple(excluded.into())),
        ..<_>::default()
    };
    let by_rank = OrderByExpr {
        expr: column(RANK),
        options: OrderByOptions { asc: None, nulls_first: None },
        with_fill: None,
    };
    *query = query_of(QueryClauses {
        with,
        projection: vec![star(options)],
        from: vec![only(derived(inner, None))],
        selection: Some(binary(column(RANK), BinaryOperator::LtEq, limit)),
        order_by: vec![by_rank],
        ..QueryClauses::default()
    });
    Ok(())
}

/// Returns a call of a window function.
fn over(function: &str, arguments: Vec<Expr>, order_by: Vec<OrderByExpr>) -> Expr {
    let spec =
        WindowSpec { window_name: None, partition_by: Vec::new(), order_by, window_frame: None };
    match call(function, arguments) {
        Expr::Function(function) => {
            Expr::Function(Function { over: Some(WindowType::WindowSpec(spec)), ..function })
        }
        other => other,
    }
}

/// Rewrites MINUS as EXCEPT.
pub(crate) fn set_expr(body: &mut SetExpr) {
    if let SetExpr::SetOperation { op: op @ SetOperator::Minus, .. } = body {
        *op = SetOperator::Except;
    }
}

/// Rewrites the clauses of a SELECT.
pub(crate) fn select(select: &mut Select) -> Result<()> {
    with_modifier(&mut select.group_by);
    let is_sampled = |relation: &TableFactor| match relation {
        TableFactor::Table { sample: Some(sample), .. } => {
            let (TableSampleKind::BeforeTableAlias(sample)
            | TableSampleKind::AfterTableAlias(sample)) = sample;
            sample.modifier == TableSampleModifier::Sample
        }
        _ => false,
    };
    let several = select.from.len() > 1 || select.from.iter().any(|from| !from.joins.is_empty());
    let mut relations = select.from.iter().flat_map(|from| {
        std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation))
    });
    if several && relations.any(is_sampled) {
        return Err(Error::Unsupported {
            what: "SAMPLE of several tables".to_owned(),
            hint: Some("Sample a subquery, or write TABLESAMPLE after one table.".to_owned()),
            position: None,
        });
    }
    for view in std::mem::take(&mut select.lateral_views) {
        let join = lateral_view(view)?;
        match select.from.last_mut() {
            Some(from) => from.joins.push(join),
            None => select.from.push(only(join.relation)),
        }
    }
    Ok(())
}

/// Rewrites `GROUP BY a, b WITH ROLLUP` as `GROUP BY ROLLUP (a, b)`.
fn with_modifier(group_by: &mut GroupByExpr) {
    let GroupByExpr::Expressions(exprs, modifiers) = group_by else { return };
    let build: fn(Vec<Vec<Expr>>) -> Expr = match modifiers.as_slice() {
        [GroupByWithModifier::Rollup] => Expr::Rollup,
        [GroupByWithModifier::Cube] => Expr::Cube,
        _ => return,
    };
    modifiers.clear();
    let sets = exprs.drain(..).map(|expr| vec![expr]).collect();
    exprs.push(build(sets));
}

/// Rewrites `LATERAL VIEW explode(list) t AS x` as a join with UNNEST.
fn lateral_view(view: LateralView) -> Result<Join> {
    let LateralView { lateral_view, lateral_view_name, lateral_col_alias, outer } = view;
    let refused = || Error::Unsupported {
        what: format!("LATERAL VIEW of `{lateral_view}`"),
        hint: Some("Write LATERAL VIEW explode(list) or posexplode(list).".to_owned()),
        position: None,
    };
    let Expr::Function(function) = &lateral_view else { return Err(refused()) };
    let FunctionArguments::List(list) = &function.args else { return Err(refused()) };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(list))] = list.args.as_slice() else {
        return Err(refused());
    };
    let function = function.name.to_string().to_lowercase();
    let mut array_exprs = vec![list.clone()];
    let default: &[&str] = match function.trim_end_matches("_outer") {
        "explode" => &["col"],
        "posexplode" => {
            array_exprs.insert(0, positions(list, 0));
            &["pos", "col"]
        }
        _ => return Err(refused()),
    };
    let columns = if lateral_col_alias.is_empty() {
        default.iter().map(|column| name(column)).collect()
    } else {
        lateral_col_alias
    };
    let label = idents(&lateral_view_name)?.last().map(|&label| label.clone());
    let relation = TableFactor::UNNEST {
        alias: label.map(|label| alias(label, columns)),
        array_exprs,
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: false,
    };
    let join_operator = if outer || function.ends_with("_outer") {
        JoinOperator::LeftOuter(JoinConstraint::On(Expr::value(Value::Boolean(true))))
    } else {
        JoinOperator::CrossJoin(JoinConstraint::None)
    };
    Ok(Join { relation, global: false, join_operator })
}

/// Returns an expression for the list of the positions of `list`'s elements. The first position is
/// `first`.
fn positions(list: &Expr, first: i64) -> Expr {
    let count = call("cardinality", vec![list.clone()]);
    let end = binary(count, BinaryOperator::Plus, number(first));
    call("range", vec![number(first), end])
}

/// Rewrites CROSS APPLY and OUTER APPLY as joins with LATERAL, and adds ON TRUE to a join with
/// UNNEST that has no condition.
pub(crate) fn join(join: &mut Join) {
    let always = || JoinConstraint::On(Expr::value(Value::Boolean(true)));
    let is_unnest = matches!(join.relation, TableFactor::UNNEST { .. });
    match &mut join.join_operator {
        operator @ (JoinOperator::CrossApply | JoinOperator::OuterApply) => {
            if let TableFactor::Derived { lateral, .. } = &mut join.relation {
                *lateral = true;
            } else if !is_unnest {
                return;
            }
            *operator = match operator {
                JoinOperator::CrossApply => JoinOperator::CrossJoin(JoinConstraint::None),
                _ => JoinOperator::LeftOuter(always()),
            };
        }
        JoinOperator::Left(by @ JoinConstraint::None)
        | JoinOperator::LeftOuter(by @ JoinConstraint::None)
            if is_unnest =>
        {
            *by = always();
        }
        JoinOperator::Join(JoinConstraint::None) | JoinOperator::Inner(JoinConstraint::None)
            if is_unnest =>
        {
            join.join_operator = JoinOperator::CrossJoin(JoinConstraint::None);
        }
        _ => {}
    }
}

/// Rewrites an item of FROM.
pub(crate) fn factor(factor: &mut TableFactor) -> Result<()> {
    match factor {
        TableFactor::Function { name, args, alias, .. } if is_unnest(name) => {
            let exprs = args.iter().map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
                _ => None,
            });
            if let Some(array_exprs) = exprs.collect() {
                *factor = TableFactor::UNNEST {
                    alias: alias.take(),
                    array_exprs,
                    with_offset: false,
                    with_offset_alias: None,
                    with_ordinality: false,
                };
                unnest(factor);
            }
            Ok(())
        }
        TableFactor::UNNEST { .. } => {
            unnest(factor);
            Ok(())
        }
        TableFactor::Table { sample, .. } | TableFactor::Derived { sample, .. } => {
            match sample.take() {
                Some(
                    TableSampleKind::BeforeTableAlias(sample)
                    | TableSampleKind::AfterTableAlias(sample),
                ) => sampled(factor, *sample),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn is_unnest(name: &ObjectName) -> bool {
    matches!(name.0.as_slice(), [ObjectNamePart::Identifier(name)]
        if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("unnest"))
}

/// Adds the positions for WITH ORDINALITY and WITH OFFSET to an UNNEST. If the alias has no column
/// names, the column of an UNNEST of one list gets the alias as its name.
fn unnest(factor: &mut TableFactor) {
    let TableFactor::UNNEST {
        alias: named,
        array_exprs,
        with_offset,
        with_offset_alias,
        with_ordinality,
    } = factor
    else {
        return;
    };
    let [list] = array_exprs.as_slice() else { return };
    let list = list.clone();
    let TableAlias { name: label, columns, .. } =
        named.take().unwrap_or_else(|| alias(name("unnest"), Vec::new()));
    let mut columns: Vec<Ident> = columns.into_iter().map(|column| column.name).collect();
    if columns.is_empty() {
        columns.push(label.clone());
    }
    if std::mem::take(with_ordinality) {
        array_exprs.push(positions(&list, 1));
        if columns.len() == 1 {
            columns.push(name("ordinality"));
        }
    }
    if std::mem::take(with_offset) {
        array_exprs.push(positions(&list, 0));
        columns.push(with_offset_alias.take().unwrap_or_else(|| name("offset")));
    }
    *named = Some(alias(label, columns));
}

/// Replaces a table by a random sample of its rows.
fn sampled(factor: &mut TableFactor, sample: TableSample) -> Result<()> {
    let TableSample { modifier: _, name: method, quantity, seed, bucket, offset } = sample;
    if seed.is_some() || bucket.is_some() || offset.is_some() {
        return Err(Error::unsupported("REPEATABLE, SEED, BUCKET or OFFSET in TABLESAMPLE"));
    }
    let Some(quantity) = quantity else {
        return Err(Error::unsupported("TABLESAMPLE without a percentage"));
    };
    let own_alias = match factor {
        TableFactor::Table { alias: own, args: None, name, .. } => {
            let label = idents(name)?.last().map(|&label| label.clone());
            own.take().or_else(|| label.map(|label| alias(label, Vec::new())))
        }
        TableFactor::Derived { alias: own, .. } => own.take(),
        _ => return Err(Error::unsupported("TABLESAMPLE of a function")),
    };
    let random = call("random", Vec::new());
    let is_rows = match quantity.unit {
        Some(unit) => unit == TableSampleUnit::Rows,
        None => false,
    };
    if is_rows && method.is_some() {
        return Err(Error::unsupported("TABLESAMPLE by a method with a number of rows"));
    }
    let placeholder = derived(query_of(QueryClauses::default()), None);
    let from = vec![only(std::mem::replace(factor, placeholder))];
    let projection = vec![star(<_>::default())];
    let parts = if is_rows {
        let key = OrderByExpr {
            expr: random,
            options: OrderByOptions { asc: None, nulls_first: None },
            with_fill: None,
        };
        QueryClauses {
            projection,
            from,
            order_by: vec![key],
            limit: Some(quantity.value),
            ..<_>::default()
        }
    } else {
        let share = binary(random, BinaryOperator::Multiply, number("100.0"));
        let condition = binary(share, BinaryOperator::Lt, quantity.value);
        QueryClauses { projection, from, selection: Some(condition), ..<_>::default() }
    };
    *factor = derived(query_of(parts), own_alias);
    Ok(())
}
