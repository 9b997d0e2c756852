//! The first pass over a query: checks every clause and collects the referenced tables.
//!
//! A reference to a common table expression that is visible at that position is not a table
//! reference.

use sqlparser::ast::{
    Distinct, Expr, FunctionArg, GroupByExpr, JoinConstraint, JoinOperator, LimitClause,
    NamedWindowExpr, ObjectName, OrderByKind, Query, Select, SelectItem, SetExpr, TableFactor,
    TableWithJoins, WindowType, With,
};

use crate::error::{Position, Result};
use crate::expression::{ExpressionNode, argument_parts, children, order, window};
use crate::name_match::equals_ignoring_case;
use crate::table_name::{ParsedTableName, RefKind, position};
use crate::{foreign_clauses, unsupported_clauses};

/// A table reference in a query.
#[derive(Debug, Clone)]
pub struct ReferencedTable {
    /// The name as written.
    pub table: ParsedTableName,
    /// Position in the text, if known.
    pub position: Option<Position>,
    /// Required kind of the ref; `None` if any kind is accepted.
    pub expected: Option<RefKind>,
}

/// Checks a query and collects its table references, mostly in the order of the text.
pub fn inspect(query: &mut Query) -> Result<Vec<ReferencedTable>> {
    let mut inspector = ReferenceCollector::default();
    inspector.query(query)?;
    Ok(inspector.mentions)
}

/// State of the pass over a query: the names of the visible common table expressions, and the table
/// references found so far.
#[derive(Default)]
struct ReferenceCollector {
    ctes: Vec<String>,
    mentions: Vec<ReferencedTable>,
}

impl ReferenceCollector {
    fn query(&mut self, query: &mut Query) -> Result<()> {
        foreign_clauses::query(query)?;
        unsupported_clauses::query(query)?;
        let visible = self.ctes.len();
        if let Some(with) = &mut query.with {
            self.with(with)?;
        }
        self.set_expr(&mut query.body)?;
        if let Some(order_by) = &mut query.order_by
            && let OrderByKind::Expressions(keys) = &mut order_by.kind
        {
            order(keys, &mut |node| self.node(node))?;
        }
        if let Some(limit) = &mut query.limit_clause {
            self.limit(limit)?;
        }
        self.ctes.truncate(visible);
        Ok(())
    }

    fn with(&mut self, with: &mut With) -> Result<()> {
        for cte in &mut with.cte_tables {
            unsupported_clauses::cte(cte, with.recursive)?;
            let name = cte.alias.name.value.clone();
            if with.recursive {
                self.ctes.push(name);
                self.query(&mut cte.query)?;
            } else {
                self.query(&mut cte.query)?;
                self.ctes.push(name);
            }
        }
        Ok(())
    }

    fn limit(&mut self, limit: &mut LimitClause) -> Result<()> {
        let exprs: Vec<&mut Expr> = match limit {
            LimitClause::LimitOffset { limit, offset, limit_by: _ } => {
                limit.iter_mut().chain(offset.as_mut().map(|offset| &mut offset.value)).collect()
            }
            LimitClause::OffsetCommaLimit { offset, limit } => vec![offset, limit],
        };
        exprs.into_iter().try_for_each(|expr| self.expr(expr))
    }

    fn set_expr(&mut self, body: &mut SetExpr) -> Result<()> {
        foreign_clauses::set_expr(body);
        unsupported_clauses::set_expr(body)?;
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { left, right, .. } => {
                self.set_expr(left)?;
                self.set_expr(right)
            }
            SetExpr::Values(values) => {
                let rows = values.rows.iter_mut().flat_map(|row| row.content.iter_mut());
                rows.into_iter().try_for_each(|expr| self.expr(expr))
            }
            // `unsupported_clauses::set_expr` has rejected all other kinds of set expressions.
            _ => Ok(()),
        }
    }

    fn select(&mut self, select: &mut Select) -> Result<()> {
        foreign_clauses::select(select)?;
        unsupported_clauses::select(select)?;
        for item in &mut select.projection {
            match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                    self.expr(expr)?;
                }
                SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => {
                    for element in options.opt_replace.iter_mut().flat_map(|r| &mut r.items) {
                        self.expr(&mut element.expr)?;
                    }
                }
                SelectItem::ExprWithAliases { .. } => {}
            }
        }
        select.from.iter_mut().try_for_each(|from| self.from(from))?;
        if let Some(Distinct::On(exprs)) = &mut select.distinct {
            exprs.iter_mut().try_for_each(|expr| self.expr(expr))?;
        }
        if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
            exprs.iter_mut().try_for_each(|expr| self.expr(expr))?;
        }
        for clause in [&mut select.selection, &mut select.having, &mut select.qualify] {
            clause.iter_mut().try_for_each(|expr| self.expr(expr))?;
        }
        for definition in &mut select.named_window {
            if let NamedWindowExpr::WindowSpec(spec) = &mut definition.1 {
                window(spec, &mut |node| self.node(node))?;
            }
        }
        Ok(())
    }

    fn from(&mut self, from: &mut TableWithJoins) -> Result<()> {
        self.factor(&mut from.relation)?;
        for join in &mut from.joins {
            foreign_clauses::join(join);
            unsupported_clauses::join(join)?;
            self.factor(&mut join.relation)?;
            if let JoinOperator::AsOf { match_condition, .. } = &mut join.join_operator {
                self.expr(match_condition)?;
            }
            if let Some(JoinConstraint::On(expr)) =
                unsupported_clauses::constraint(&mut join.join_operator)
            {
                self.expr(expr)?;
            }
        }
        Ok(())
    }

    fn factor(&mut self, factor: &mut TableFactor) -> Result<()> {
        foreign_clauses::factor(factor)?;
        unsupported_clauses::table_factor(factor)?;
        match factor {
            TableFactor::Table { args: Some(args), .. } => self.arguments(&mut args.args),
            // `SourceQuery::into_parts` handles tables with a version.
            TableFactor::Table { name, version, .. } => match version {
                Some(_) => Ok(()),
                None => self.table(name),
            },
            TableFactor::Derived { subquery, .. } => self.query(subquery),
            TableFactor::Function { args, .. } => self.arguments(args),
            TableFactor::UNNEST { array_exprs, .. } => {
                array_exprs.iter_mut().try_for_each(|expr| self.expr(expr))
            }
            TableFactor::NestedJoin { table_with_joins, .. } => self.from(table_with_joins),
            TableFactor::Pivot { table, aggregate_functions, value_column, .. } => {
                self.factor(table)?;
                let exprs = aggregate_functions.iter_mut().map(|function| &mut function.expr);
                exprs.chain(value_column).try_for_each(|expr| self.expr(expr))
            }
            TableFactor::Unpivot { table, columns, .. } => {
                self.factor(table)?;
                columns.iter_mut().try_for_each(|column| self.expr(&mut column.expr))
            }
            // `unsupported_clauses::table_factor` has rejected all other kinds of table factors.
            _ => Ok(()),
        }
    }

    fn arguments(&mut self, arguments: &mut [FunctionArg]) -> Result<()> {
        arguments.iter_mut().try_for_each(|arg| argument_parts(arg, &mut |node| self.node(node)))
    }

    fn table(&mut self, name: &ObjectName) -> Result<()> {
        let at = position(name);
        let table = ParsedTableName::of(name).map_err(|error| error.placed(at))?;
        let is_cte = table.namespace.is_none()
            && table.is_here()
            && self.ctes.iter().any(|cte| equals_ignoring_case(cte, &table.name));
        if !is_cte {
            self.mentions.push(ReferencedTable { table, position: at, expected: None });
        }
        Ok(())
    }

    fn expr(&mut self, expr: &mut Expr) -> Result<()> {
        if let Expr::Identifier(ident) = expr {
            unsupported_clauses::no_clause_word(ident)?;
        }
        children(expr, &mut |node| self.node(node))
    }

    fn node(&mut self, node: ExpressionNode<'_>) -> Result<()> {
        match node {
            ExpressionNode::Expr(expr) => self.expr(expr),
            ExpressionNode::Query(query) => self.query(query),
            ExpressionNode::Over(WindowType::WindowSpec(spec)) => {
                window(spec, &mut |node| self.node(node))
            }
            ExpressionNode::Over(WindowType::NamedWindow(_)) | ExpressionNode::Wildcard(_) => {
                Ok(())
            }
        }
    }
}
