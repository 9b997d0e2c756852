//! The traversal of a query that resolves its names.

use std::collections::HashMap;

use headwater_sql::expression::{AT_TIME_ZONE, ExpressionNode, argument_parts, call, children};
use headwater_sql::expression_rewrite::rewrite_for_planner;
use headwater_sql::table_name::{ParsedTableName, position, span_start};
use headwater_sql::unsupported_clauses::spell;
use headwater_sql::values_subqueries::rewrite_values;
use headwater_sql::{Error, Result};
use sqlparser::ast::{
    AccessExpr, Distinct, Expr, Function, FunctionArg, FunctionArguments, GroupByExpr, Ident,
    LambdaFunction, LimitClause, ObjectNamePart, OneOrManyWithParens, OrderBy, OrderByExpr,
    OrderByKind, Query, Select, SetExpr, SetQuantifier, With,
};

use crate::SelectAlias;
use crate::name_scope::{Relation, RelationColumns, ResolvedName, Scope, Scopes};
use crate::ordered_casts::{CastKey, can_name_casts, cast_keys, ordered_columns, sort_by_casts};
use crate::output_names::OutputNames;
use crate::select_list::{
    aliases, expand_order_by_all, first_columns, is_grouped, keys_as_positions, positions_as_keys,
};

/// Converts `t.list[1]` to a qualified name, because the parser treats every name after the first
/// as a struct field.
pub(crate) fn join_names(expr: &mut Expr) {
    let Expr::CompoundFieldAccess { root, access_chain } = expr else { return };
    let Expr::Identifier(first) = &**root else { return };
    let mut names = vec![first.clone()];
    names.extend(access_chain.iter().map_while(|access| match access {
        AccessExpr::Dot(Expr::Identifier(name)) => Some(name.clone()),
        _ => None,
    }));
    if names.len() > 1 {
        access_chain.drain(..names.len() - 1);
        **root = Expr::CompoundIdentifier(names);
    }
}

/// A table that a statement refers to.
#[derive(Debug, Clone)]
pub struct ResolvedTable {
    /// The namespace under which the planner finds the table. It differs from `namespace` if the
    /// statement refers to two tables of the same name.
    pub source: String,
    /// The namespace in its stored spelling.
    pub namespace: String,
    /// The table's label in its stored spelling, with its ref if one was written.
    pub label: String,
    /// The table in its stored spelling.
    pub name: String,
    /// The columns that `*` includes.
    pub columns: Vec<String>,
    /// Additional columns that `*` does not include, such as the columns of row lineage.
    pub hidden: Vec<String>,
}

/// The properties of SQL functions that name resolution needs.
pub struct FunctionProperties<'a> {
    /// Returns true if a function is scalar, and not an aggregate or window function.
    pub is_scalar: Box<dyn Fn(&str) -> bool + 'a>,
    /// Returns true if a scalar function may return different values for the same arguments.
    pub is_volatile: Box<dyn Fn(&str) -> bool + 'a>,
    /// Returns the equivalent expression for a call of another dialect's function.
    pub respelled: fn(&Function) -> Option<Expr>,
}

/// Resolves every name of a query, and returns the output names.
#[expect(clippy::implicit_hasher, reason = "the only caller uses the standard hasher")]
pub fn resolve(
    query: &mut Query,
    tables: &HashMap<ParsedTableName, ResolvedTable>,
    functions: &FunctionProperties<'_>,
) -> Result<OutputNames> {
    let names = OutputNames::as_written(&query.body);
    let (ctes, scopes) = (Vec::new(), Scopes::default());
    Resolver { tables, functions, ctes, scopes, replacements: 0 }.query(query)?;
    Ok(names.spelled(&query.body))
}

/// The state of the name resolution in one statement.
pub(crate) struct Resolver<'t> {
    pub(crate) tables: &'t HashMap<ParsedTableName, ResolvedTable>,
    pub(crate) functions: &'t FunctionProperties<'t>,
    pub(crate) ctes: Vec<(String, RelationColumns)>,
    pub(crate) scopes: Scopes,
    /// Number of times that an alias was replaced by its expression in this statement.
    pub(crate) replacements: usize,
}

impl Resolver<'_> {
    pub(crate) fn query(&mut self, query: &mut Query) -> Result<RelationColumns> {
        let visible = self.ctes.len();
        if let Some(with) = &mut query.with {
            self.with(with)?;
        }
        let columns = match &mut *query.body {
            SetExpr::Select(select) => self.select(select, query.order_by.as_mut())?,
            body => {
                let columns = self.set_expr(body)?;
                if let Some(order_by) = &mut query.order_by {
                    let relation = Relation {
                        label: "the result".to_owned(),
                        paths: Vec::new(),
                        columns: columns.clone(),
                    };
                    self.within(Scope { relations: vec![relation], ..Scope::default() }, |this| {
                        this.order_by(order_by)
                    })?;
                }
                columns
            }
        };
        if let Some(limit) = &mut query.limit_clause {
            self.within(Scope::default(), |this| this.limit(limit))?;
        }
        self.ctes.truncate(visible);
        Ok(columns)
    }

    /// Runs a function while `scope` is the innermost scope.
    pub(crate) fn within<T>(
        &mut self,
        scope: Scope,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.scopes.0.push(scope);
        let done = work(self);
        self.scopes.0.pop();
        done
    }

    pub(crate) fn with(&mut self, with: &mut With) -> Result<()> {
        for cte in &mut with.cte_tables {
            let name = cte.alias.name.value.clone();
            let aliases: Vec<String> =
                cte.alias.columns.iter().map(|column| column.name.value.clone()).collect();
            let columns = if with.recursive {
                let declared = match first_columns(&cte.query.body) {
                    _ if !aliases.is_empty() => RelationColumns::known(aliases.clone()),
                    Some(names) => RelationColumns::known(names),
                    None => RelationColumns::unknown(),
                };
                self.ctes.push((name.clone(), declared));
                let columns = self.query(&mut cte.query)?;
                self.ctes.pop();
                columns
            } else {
                self.query(&mut cte.query)?
            };
            self.ctes.push((name, columns.renamed(aliases.into_iter())));
        }
        Ok(())
    }

    pub(crate) fn set_expr(&mut self, body: &mut SetExpr) -> Result<RelationColumns> {
        rewrite_values(body)?;
        match body {
            SetExpr::Select(select) => self.select(select, None),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { left, right, set_quantifier, .. } => {
                let mut columns = self.set_expr(left)?;
                let right = self.set_expr(right)?;
                if matches!(
                    set_quantifier,
                    SetQuantifier::ByName
                        | SetQuantifier::AllByName
                        | SetQuantifier::DistinctByName
                ) {
                    columns.extend(&right);
                }
                Ok(columns)
            }
            SetExpr::Values(values) => {
                let width = values.rows.first().map_or(0, |row| row.content.len());
                for row in &mut values.rows {
                    row.content.iter_mut().try_for_each(|expr| self.expr(expr))?;
                }
                Ok(RelationColumns::known((1..=width).map(|n| format!("column{n}")).collect()))
            }
            _ => Ok(RelationColumns::unknown()),
        }
    }

    pub(crate) fn select(
        &mut self,
        select: &mut Select,
        mut order_by: Option<&mut OrderBy>,
    ) -> Result<RelationColumns> {
        self.within(Scope::default(), |this| {
            select.from.iter_mut().try_for_each(|from| this.from(from))?;
            this.condition(select)?;
            this.windows(std::mem::take(&mut select.named_window))?;
            this.expand_repeated_wildcards(&mut select.projection)?;
            this.select_by_pattern(&mut select.projection)?;
            this.expand(&mut select.projection)?;
            let keys = this.cast_keys(select, order_by.as_deref());
            let columns = this.projection(&mut select.projection)?;
            let sorted = match &mut order_by {
                Some(order_by) => sort_by_casts(order_by, &select.projection, &keys),
                None => Vec::new(),
            };
            let mut aliases = aliases(&select.projection);
            if let Some(scope) = this.scopes.innermost() {
                aliases.retain(|alias| !scope.kept.contains(alias) || sorted.contains(alias));
                scope.aliases = aliases;
            }
            if let Some(Distinct::On(exprs)) = &mut select.distinct {
                this.all(exprs)?;
            }
            if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
                this.all(exprs)?;
            }
            this.option(select.having.as_mut())?;
            this.option(select.qualify.as_mut())?;
            if let Some(order_by) = order_by {
                expand_order_by_all(order_by, &select.projection);
                this.order_by(order_by)?;
                if matches!(select.distinct, Some(Distinct::Distinct)) {
                    keys_as_positions(order_by, &select.projection);
                } else if is_grouped(&select.group_by) {
                    positions_as_keys(order_by, &select.projection);
                }
            }
            Ok(columns)
        })
    }

    /// Records the columns in ORDER BY, before the select list is resolved. Returns the ORDER BY
    /// expressions that refer to a cast in the select list.
    fn cast_keys(&mut self, select: &Select, order_by: Option<&OrderBy>) -> Vec<CastKey> {
        let names = self.wildcard_names(&select.projection);
        let Some(scope) = self.scopes.innermost() else { return Vec::new() };
        scope.can_name_casts = can_name_casts(select, order_by);
        let Some(order_by) = order_by else { return Vec::new() };
        let keys = cast_keys(order_by, &select.projection, &names);
        // In a grouped query, DataFusion would confuse the key with the column in GROUP BY.
        let has_own_names = scope.can_name_casts && !is_grouped(&select.group_by);
        let named = keys.iter().filter(|_| has_own_names).map(|key| key.key);
        scope.ordered = ordered_columns(order_by, &named.collect::<Vec<_>>());
        keys
    }

    /// Resolves the WHERE clause of a SELECT, in which all aliases of the select list are visible.
    fn condition(&mut self, select: &mut Select) -> Result<()> {
        let Some(condition) = &mut select.selection else { return Ok(()) };
        self.condition_by_pattern(condition)?;
        if let Some(scope) = self.scopes.innermost() {
            scope.select_aliases = select.projection.iter().filter_map(SelectAlias::of).collect();
        }
        self.expr(condition)?;
        crate::tuple_in::rewrite(condition);
        if let Some(scope) = self.scopes.innermost() {
            scope.select_aliases.clear();
        }
        Ok(())
    }

    pub(crate) fn order_by(&mut self, order_by: &mut OrderBy) -> Result<()> {
        match &mut order_by.kind {
            OrderByKind::Expressions(keys) => {
                keys.iter_mut().try_for_each(|OrderByExpr { expr, .. }| self.expr(expr))
            }
            OrderByKind::All(_) => Ok(()),
        }
    }

    pub(crate) fn limit(&mut self, limit: &mut LimitClause) -> Result<()> {
        match limit {
            LimitClause::LimitOffset { limit, offset, limit_by: _ } => {
                self.option(limit.as_mut())?;
                self.option(offset.as_mut().map(|offset| &mut offset.value))
            }
            LimitClause::OffsetCommaLimit { offset, limit } => {
                self.expr(offset)?;
                self.expr(limit)
            }
        }
    }

    pub(crate) fn all(&mut self, exprs: &mut [Expr]) -> Result<()> {
        exprs.iter_mut().try_for_each(|expr| self.expr(expr))
    }

    pub(crate) fn option(&mut self, expr: Option<&mut Expr>) -> Result<()> {
        expr.map_or(Ok(()), |expr| self.expr(expr))
    }

    pub(crate) fn arguments(&mut self, arguments: &mut [FunctionArg]) -> Result<()> {
        arguments.iter_mut().try_for_each(|arg| argument_parts(arg, &mut |node| self.node(node)))
    }

    pub(crate) fn node(&mut self, node: ExpressionNode<'_>) -> Result<()> {
        match node {
            ExpressionNode::Expr(expr) => self.expr(expr),
            ExpressionNode::Query(query) => self.query(query).map(|_| ()),
            ExpressionNode::Over(over) => self.over(over),
            ExpressionNode::Wildcard(name) => self.wildcard_relation(name).map(|_| ()),
        }
    }

    pub(crate) fn expr(&mut self, expr: &mut Expr) -> Result<()> {
        join_names(expr);
        rewrite_for_planner(expr);
        if let Expr::Function(function) = expr {
            self.rows_as_structs(function);
            if let Some(respelled) = (self.functions.respelled)(function) {
                *expr = respelled;
            }
        }
        match expr {
            Expr::Identifier(ident) => {
                if let Some(value) = self.select_alias(ident)? {
                    *expr = value;
                    return Ok(());
                }
                if let Some(column) = self.scopes.series(&ident.value) {
                    *expr = column;
                    return Ok(());
                }
                let found = self.scopes.column(&ident.value, span_start(ident.span));
                if let Some(spelling) = found.map_err(|error| text_in_quotes(ident, error))? {
                    match self.scopes.merged(&spelling) {
                        Some(merged) => *expr = merged,
                        None => spell(ident, &spelling),
                    }
                }
                Ok(())
            }
            Expr::CompoundIdentifier(idents) => self.compound(idents),
            Expr::Lambda(lambda) => self.lambda(lambda),
            Expr::Function(function) if (self.functions.is_scalar)(&function_name(function)) => {
                only_arguments(function)?;
                children(expr, &mut |node| self.node(node))
            }
            Expr::AtTimeZone { timestamp, time_zone } => {
                self.expr(timestamp)?;
                self.expr(time_zone)?;
                *expr = call(AT_TIME_ZONE, vec![(**timestamp).clone(), (**time_zone).clone()]);
                Ok(())
            }
            other => children(other, &mut |node| self.node(node)),
        }
    }

    pub(crate) fn compound(&mut self, idents: &mut Vec<Ident>) -> Result<()> {
        let Some(first) = idents.first() else { return Ok(()) };
        let span = first.span;
        let parts: Vec<&str> = idents.iter().map(|ident| ident.value.as_str()).collect();
        match self.scopes.path(&parts, span_start(span))? {
            ResolvedName::Column { label, column, parts } => {
                spell(&mut idents[parts], &column);
                let label = Ident::with_quote_and_span('"', span, label);
                idents.splice(..parts, [label]);
            }
            ResolvedName::Field(spelling) => spell(&mut idents[0], &spelling),
            ResolvedName::Unknown => {}
        }
        Ok(())
    }

    pub(crate) fn lambda(&mut self, lambda: &mut LambdaFunction) -> Result<()> {
        let parameters = match &lambda.params {
            OneOrManyWithParens::One(parameter) => vec![parameter.name.value.clone()],
            OneOrManyWithParens::Many(parameters) => {
                parameters.iter().map(|parameter| parameter.name.value.clone()).collect()
            }
        };
        let body = &mut lambda.body;
        self.within(Scope { parameters, ..Scope::default() }, |this| this.expr(body))
    }
}

/// Returns the error for an unknown name in double quotes. The user may have intended a string.
pub(crate) fn text_in_quotes(ident: &Ident, error: Error) -> Error {
    match error {
        Error::ColumnNotFound { column: name, relations, near: None, position }
            if ident.quote_style == Some('"') =>
        {
            Error::TextInDoubleQuotes { name, relations, position }
        }
        other => other,
    }
}

/// Returns the name by which the planner looks up a function.
pub(crate) fn function_name(function: &Function) -> String {
    match function.name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] if ident.quote_style.is_none() => {
            ident.value.to_lowercase()
        }
        [ObjectNamePart::Identifier(ident)] => ident.value.clone(),
        _ => function.name.to_string(),
    }
}

/// Rejects a call of a scalar function with a clause that only aggregate and window functions
/// support. DataFusion would ignore the clause.
pub(crate) fn only_arguments(function: &Function) -> Result<()> {
    let FunctionArguments::List(list) = &function.args else { return Ok(()) };
    let clauses = [
        (function.over.is_some(), "OVER"),
        (function.filter.is_some(), "FILTER"),
        (!function.within_group.is_empty(), "WITHIN GROUP"),
        (function.null_treatment.is_some(), "IGNORE NULLS or RESPECT NULLS"),
        (list.duplicate_treatment.is_some(), "DISTINCT or ALL"),
        (!list.clauses.is_empty(), "a clause among the arguments"),
    ];
    match clauses.iter().find(|(found, _)| *found) {
        Some((_, clause)) => Err(Error::Unsupported {
            what: format!("{clause} with the function `{}`", function.name),
            hint: Some(
                "Scalar functions do not accept this clause; use an aggregate or window function."
                    .into(),
            ),
            position: position(&function.name),
        }),
        None => Ok(()),
    }
}
