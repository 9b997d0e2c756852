//! Rejects the unsupported clauses of a query. Each struct of the syntax tree is destructured
//! completely, so that this module does not compile if a new version of sqlparser adds a clause.
//!
//! DataFusion parses some unsupported clauses but ignores them (row locks, samples, time travel),
//! and rejects others with unclear messages. This module rejects all of them before planning. The
//! error contains the name of the clause.

use sqlparser::ast::{
    Cte, CteAsMaterialized, Distinct, Expr, Fetch, GroupByExpr, Ident, Join, JoinConstraint,
    JoinOperator, LimitClause, OrderBy, OrderByExpr, OrderByKind, PivotValueSource, Query, Select,
    SelectFlavor, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier,
    TableAlias, TableFactor, Value, WildcardAdditionalOptions,
};

use crate::error::{Error, Result};
use crate::table_name::span_start;

/// Rejects a clause if it is present.
pub fn none<T>(clause: Option<T>, what: &str) -> Result<()> {
    if clause.is_some() { Err(Error::unsupported(what)) } else { Ok(()) }
}

/// Rejects a list that is not empty.
pub fn empty<T>(list: &[T], what: &str) -> Result<()> {
    if list.is_empty() { Ok(()) } else { Err(Error::unsupported(what)) }
}

/// Rejects a flag that is set.
pub fn unset(flag: bool, what: &str) -> Result<()> {
    if flag { Err(Error::unsupported(what)) } else { Ok(()) }
}

/// Checks the clauses around a query's body, and rewrites FETCH FIRST as LIMIT.
pub fn query(query: &mut Query) -> Result<()> {
    let Query {
        with: _,
        body,
        order_by,
        limit_clause,
        fetch,
        locks,
        for_clause,
        settings,
        format_clause,
        pipe_operators,
    } = query;
    if let Some(lock) = locks.first() {
        return Err(Error::unsupported(format!("{lock}")));
    }
    none(for_clause.as_ref(), "FOR XML, FOR JSON or FOR BROWSE")?;
    none(settings.as_ref(), "SETTINGS")?;
    none(format_clause.as_ref(), "FORMAT")?;
    empty(pipe_operators, "the pipe operator `|>`")?;
    if let Some(order_by) = order_by {
        order(order_by, matches!(**body, SetExpr::Select(_)))?;
    }
    if let Some(LimitClause::LimitOffset { limit_by, .. }) = limit_clause {
        empty(limit_by, "LIMIT BY")?;
    }
    if let Some(fetch) = fetch.take() {
        *limit_clause = Some(fetch_as_limit(fetch, limit_clause.take())?);
    }
    Ok(())
}

fn order(order_by: &OrderBy, of_select: bool) -> Result<()> {
    let OrderBy { kind, interpolate } = order_by;
    none(interpolate.as_ref(), "INTERPOLATE")?;
    match kind {
        // DataFusion ignores ORDER BY ALL outside a SELECT:
        // <https://github.com/apache/datafusion/pull/25243>.
        OrderByKind::All(_) if !of_select => {
            Err(Error::unsupported("ORDER BY ALL after UNION, INTERSECT or EXCEPT"))
        }
        OrderByKind::All(_) | OrderByKind::Expressions(_) => Ok(()),
    }
}

/// Checks an ORDER BY expression.
pub fn ordering(key: &OrderByExpr) -> Result<()> {
    let OrderByExpr { expr: _, options: _, with_fill } = key;
    none(with_fill.as_ref(), "WITH FILL")
}

fn fetch_as_limit(fetch: Fetch, limit: Option<LimitClause>) -> Result<LimitClause> {
    let Fetch { with_ties, percent, quantity } = fetch;
    unset(with_ties, "FETCH … WITH TIES")?;
    unset(percent, "FETCH … PERCENT")?;
    let one = || Expr::value(Value::Number("1".to_owned(), false));
    let quantity = quantity.unwrap_or_else(one);
    match limit {
        None => Ok(LimitClause::LimitOffset {
            limit: Some(quantity),
            offset: None,
            limit_by: Vec::new(),
        }),
        Some(LimitClause::LimitOffset { limit: None, offset, limit_by }) => {
            Ok(LimitClause::LimitOffset { limit: Some(quantity), offset, limit_by })
        }
        Some(_) => Err(Error::unsupported("LIMIT and FETCH together")),
    }
}

/// Checks a common table expression.
pub fn cte(cte: &Cte, recursive: bool) -> Result<()> {
    let Cte { alias, query, from, materialized, closing_paren_token: _ } = cte;
    table_alias(Some(alias))?;
    none(from.as_ref(), "FROM after a common table expression")?;
    if matches!(materialized, Some(CteAsMaterialized::Materialized)) {
        return Err(Error::unsupported("AS MATERIALIZED"));
    }
    if recursive && matches!(*query.body, SetExpr::SetOperation { op: SetOperator::Union, .. }) {
        // A nested WITH is rejected, because DataFusion plans both sides of the union and ignores
        // the clauses around it.
        none(query.with.as_ref(), "WITH inside a recursive query")?;
        none(query.order_by.as_ref(), "ORDER BY in a recursive query")?;
        none(query.limit_clause.as_ref(), "LIMIT in a recursive query")?;
        none(query.fetch.as_ref(), "FETCH in a recursive query")?;
    }
    Ok(())
}

/// Checks the clauses of a SELECT, and rewrites a bare `FROM t` as `SELECT * FROM t`.
pub fn select(select: &mut Select) -> Result<()> {
    let Select {
        select_token: _,
        optimizer_hints,
        distinct,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection,
        exclude,
        into,
        from: _,
        lateral_views,
        prewhere,
        selection: _,
        connect_by,
        group_by,
        cluster_by,
        distribute_by,
        sort_by,
        having: _,
        named_window: _,
        qualify: _,
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = select;
    empty(optimizer_hints, "an optimizer hint")?;
    if let Some(modifiers) = select_modifiers.as_ref().filter(|one| one.is_any_set()) {
        return Err(Error::unsupported(modifiers.to_string().trim()));
    }
    none(top.as_ref(), "TOP")?;
    none(exclude.as_ref(), "EXCLUDE after the select list")?;
    none(into.as_ref(), "SELECT INTO")?;
    empty(lateral_views, "LATERAL VIEW")?;
    none(prewhere.as_ref(), "PREWHERE")?;
    empty(connect_by, "CONNECT BY")?;
    empty(cluster_by, "CLUSTER BY")?;
    empty(distribute_by, "DISTRIBUTE BY")?;
    empty(sort_by, "SORT BY")?;
    none(value_table_mode.as_ref(), "SELECT AS VALUE or SELECT AS STRUCT")?;
    match group_by {
        GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers) => {
            empty(modifiers, "GROUP BY … WITH")?;
        }
    }
    match distinct {
        None | Some(Distinct::All | Distinct::Distinct | Distinct::On(_)) => {}
    }
    if matches!(flavor, SelectFlavor::FromFirstNoSelect) {
        projection.push(SelectItem::Wildcard(WildcardAdditionalOptions::default()));
        *flavor = SelectFlavor::Standard;
    }
    if projection.is_empty() {
        return Err(Error::unsupported("SELECT without columns"));
    }
    projection.iter().try_for_each(select_item)
}

fn select_item(item: &SelectItem) -> Result<()> {
    match item {
        SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. } => Ok(()),
        SelectItem::ExprWithAliases { .. } => {
            Err(Error::unsupported("several aliases for one column"))
        }
        SelectItem::Wildcard(options) => wildcard(options),
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(_), options) => {
            wildcard(options)
        }
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(_), _) => {
            Err(Error::unsupported("`.*` after an expression"))
        }
    }
}

fn wildcard(options: &WildcardAdditionalOptions) -> Result<()> {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike: _,
        opt_exclude: _,
        opt_except: _,
        opt_replace: _,
        opt_rename: _,
        opt_alias,
    } = options;
    none(opt_alias.as_ref(), "AS after `*`")
}

/// Checks a table alias.
pub fn table_alias(alias: Option<&TableAlias>) -> Result<()> {
    let Some(TableAlias { explicit: _, name: _, columns, at }) = alias else { return Ok(()) };
    none(at.as_ref(), "AT after an alias")?;
    let typed = columns.iter().any(|column| column.data_type.is_some());
    unset(typed, "types in an alias's list of columns")
}

/// Checks an item of FROM.
pub fn table_factor(factor: &TableFactor) -> Result<()> {
    match factor {
        TableFactor::Table { .. } => plain_table(factor),
        TableFactor::Derived { lateral: _, subquery: _, alias, sample } => {
            none(sample.as_ref(), "TABLESAMPLE")?;
            table_alias(alias.as_ref())
        }
        TableFactor::Function { lateral: _, name: _, args: _, with_ordinality, alias } => {
            unset(*with_ordinality, "WITH ORDINALITY")?;
            table_alias(alias.as_ref())
        }
        TableFactor::UNNEST {
            alias,
            array_exprs: _,
            with_offset,
            with_offset_alias,
            with_ordinality,
        } => {
            unset(*with_offset || with_offset_alias.is_some(), "UNNEST … WITH OFFSET")?;
            unset(*with_ordinality, "UNNEST … WITH ORDINALITY")?;
            table_alias(alias.as_ref())
        }
        TableFactor::Pivot {
            table: _,
            aggregate_functions: _,
            value_column,
            value_source,
            default_on_null: _,
            alias,
        } => {
            if value_column.len() != 1 {
                return Err(Error::unsupported("PIVOT by several columns"));
            }
            if matches!(value_source, PivotValueSource::Subquery(_)) {
                return Err(Error::unsupported("PIVOT with IN (SELECT …)"));
            }
            table_alias(alias.as_ref())
        }
        TableFactor::NestedJoin { table_with_joins: _, alias }
        | TableFactor::Unpivot {
            table: _,
            value: _,
            name: _,
            columns: _,
            null_inclusion: _,
            alias,
        } => table_alias(alias.as_ref()),
        refused => Err(Error::unsupported(factor_name(refused))),
    }
}

fn factor_name(factor: &TableFactor) -> &'static str {
    match factor {
        TableFactor::TableFunction { .. } => "TABLE(…)",
        TableFactor::JsonTable { .. } => "JSON_TABLE",
        TableFactor::OpenJsonTable { .. } => "OPENJSON",
        TableFactor::MatchRecognize { .. } => "MATCH_RECOGNIZE",
        TableFactor::XmlTable { .. } => "XMLTABLE",
        TableFactor::SemanticView { .. } => "SEMANTIC_VIEW",
        _ => "this kind of relation in FROM",
    }
}

/// Checks the clauses after a table name.
pub fn plain_table(factor: &TableFactor) -> Result<()> {
    let TableFactor::Table {
        name: _,
        alias,
        args,
        with_hints,
        // `time_travel` has already moved the version into the name.
        version: _,
        with_ordinality,
        partitions,
        json_path,
        sample,
        index_hints,
    } = factor
    else {
        return Ok(());
    };
    table_alias(alias.as_ref())?;
    empty(with_hints, "WITH (…) after a table")?;
    unset(*with_ordinality, "WITH ORDINALITY")?;
    empty(partitions, "PARTITION (…) after a table")?;
    none(json_path.as_ref(), "a path after a table")?;
    none(sample.as_ref(), "TABLESAMPLE")?;
    empty(index_hints, "an index hint")?;
    none(args.as_ref().and_then(|args| args.settings.as_ref()), "SETTINGS")
}

/// Checks a join, and rewrites SEMI and ANTI as LEFT SEMI and LEFT ANTI.
pub fn join(join: &mut Join) -> Result<()> {
    let Join { relation: _, global, join_operator } = join;
    unset(*global, "GLOBAL JOIN")?;
    let operator = std::mem::replace(join_operator, JoinOperator::CrossApply);
    *join_operator = match operator {
        JoinOperator::Semi(constraint) => JoinOperator::LeftSemi(constraint),
        JoinOperator::Anti(constraint) => JoinOperator::LeftAnti(constraint),
        honoured @ (JoinOperator::Join(_)
        | JoinOperator::Inner(_)
        | JoinOperator::Left(_)
        | JoinOperator::LeftOuter(_)
        | JoinOperator::Right(_)
        | JoinOperator::RightOuter(_)
        | JoinOperator::FullOuter(_)
        | JoinOperator::LeftSemi(_)
        | JoinOperator::RightSemi(_)
        | JoinOperator::LeftAnti(_)
        | JoinOperator::RightAnti(_)
        | JoinOperator::AsOf { .. }
        | JoinOperator::CrossJoin(JoinConstraint::None)) => honoured,
        JoinOperator::CrossJoin(_) => {
            return Err(Error::unsupported("CROSS JOIN with a condition"));
        }
        JoinOperator::CrossApply => return Err(Error::unsupported("CROSS APPLY")),
        JoinOperator::OuterApply => return Err(Error::unsupported("OUTER APPLY")),
        JoinOperator::StraightJoin(_) => return Err(Error::unsupported("STRAIGHT_JOIN")),
        _ => return Err(Error::unsupported("ARRAY JOIN")),
    };
    Ok(())
}

/// Returns the condition of a join, which must have passed [`join`]; `None` if its type has no
/// condition.
pub fn constraint(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint)
        | JoinOperator::AsOf { constraint, .. }
        | JoinOperator::CrossJoin(constraint) => Some(constraint),
        _ => None,
    }
}

/// Checks the body of a query.
pub fn set_expr(body: &SetExpr) -> Result<()> {
    match body {
        SetExpr::SetOperation {
            op: SetOperator::Except | SetOperator::Intersect,
            set_quantifier: quantifier @ (SetQuantifier::All | SetQuantifier::AllByName),
            ..
        } => Err(Error::Unsupported {
            what: format!("{quantifier} after EXCEPT or INTERSECT"),
            hint: Some(
                "Number equal rows with row_number() OVER (PARTITION BY …) on both sides, and \
                 apply EXCEPT or INTERSECT to the results."
                    .to_owned(),
            ),
            position: None,
        }),
        SetExpr::SetOperation { op: SetOperator::Minus, .. } => Err(Error::Unsupported {
            what: "MINUS".to_owned(),
            hint: Some("Write EXCEPT.".to_owned()),
            position: None,
        }),
        SetExpr::Select(_)
        | SetExpr::Query(_)
        | SetExpr::Values(_)
        | SetExpr::SetOperation { .. } => Ok(()),
        SetExpr::Insert(_) => Err(Error::unsupported("INSERT inside a query")),
        SetExpr::Update(_) => Err(Error::unsupported("UPDATE")),
        SetExpr::Delete(_) => Err(Error::unsupported("DELETE")),
        SetExpr::Merge(_) => Err(Error::unsupported("MERGE")),
        SetExpr::Table(_) => Err(Error::unsupported("TABLE in place of a query")),
    }
}

/// Rejects a keyword that was parsed as a column. For example, sqlparser reads `SELECT a + FROM t`
/// as the sum of `a` and a column `FROM`, with the alias `t`.
pub fn no_clause_word(ident: &Ident) -> Result<()> {
    const WORDS: [&str; 8] =
        ["FROM", "WHERE", "SELECT", "HAVING", "UNION", "INTERSECT", "WHEN", "THEN"];
    let bare = ident.quote_style.is_none();
    if bare && WORDS.iter().any(|word| ident.value.eq_ignore_ascii_case(word)) {
        let message = format!("expected an expression, found `{}`", ident.value);
        return Err(Error::Syntax { message, hint: None, position: span_start(ident.span) });
    }
    Ok(())
}

/// Replaces an identifier by the spelling that the schema has.
pub fn spell(ident: &mut Ident, spelling: &str) {
    if ident.value != spelling {
        spelling.clone_into(&mut ident.value);
    }
}
