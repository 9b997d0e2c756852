//! PIVOT and UNPIVOT, as subqueries.
//!
//! `t PIVOT (sum(x) FOR c IN ('a', 'b'))` becomes `SELECT other columns, sum(x) FILTER (WHERE c =
//! 'a') AS a, … FROM t GROUP BY ALL`. `t UNPIVOT (v FOR n IN (a, b))` becomes `SELECT other
//! columns, unnest(['a', 'b']) AS n, unnest([a, b]) AS v FROM t`, without the rows in which `v` is
//! null.

use std::ops::ControlFlow;

use headwater_sql::ast_builders::{binary, derived, item, name, only, text as string};
use headwater_sql::change::{QueryClauses, query_of};
use headwater_sql::expression::call;
use headwater_sql::name_match::equals_ignoring_case;
use headwater_sql::{Error, Result};
use headwater_sql_tokens::GROUPED;
use sqlparser::ast::{
    Array, BinaryOperator, Expr, ExprWithAlias, FunctionArg, FunctionArgExpr, FunctionArguments,
    GroupByExpr, Ident, NullInclusion, PivotValueSource, SelectItem, SetExpr, TableAlias,
    TableFactor, Value, ValueWithSpan, visit_expressions,
};

use crate::Resolver;
use crate::name_scope::Scope;
use crate::select_list::text;

impl Resolver<'_> {
    /// Rewrites a PIVOT or UNPIVOT as a subquery.
    pub(crate) fn rotate(&mut self, factor: &mut TableFactor) -> Result<()> {
        let empty = derived(query_of(QueryClauses::default()), None);
        match factor {
            TableFactor::Pivot {
                table,
                aggregate_functions,
                value_column,
                value_source,
                default_on_null,
                alias,
            } => {
                let columns = self.columns_of(table)?;
                let pivot = Pivot {
                    aggregates: std::mem::take(aggregate_functions),
                    column: value_column[0].clone(),
                    values: listed(value_source)?,
                    grouped: grouped(default_on_null.as_ref())?,
                };
                let table = std::mem::replace(&mut **table, empty);
                *factor = pivot.into_factor(table, &columns, alias.take())?;
            }
            TableFactor::Unpivot { table, value, name, columns, null_inclusion, alias } => {
                let known = self.columns_of(table)?;
                let Expr::Identifier(value) = value else {
                    return Err(Error::unsupported("UNPIVOT to several columns"));
                };
                let unpivot = Unpivot {
                    name: name.clone(),
                    value: value.clone(),
                    columns: self.unpivoted(table, std::mem::take(columns))?,
                    keeps_nulls: *null_inclusion == Some(NullInclusion::IncludeNulls),
                };
                let table = std::mem::replace(&mut **table, empty);
                *factor = unpivot.into_factor(table, &known, alias.take());
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the columns of an item of FROM. Resolves a copy of the item, so that the item itself
    /// is unchanged.
    fn columns_of(&mut self, table: &TableFactor) -> Result<Vec<String>> {
        self.within_factor(table, |this| {
            let relations =
                this.scopes.innermost().map(|scope| std::mem::take(&mut scope.relations));
            let relations = relations.unwrap_or_default();
            if relations.iter().any(|relation| relation.columns.open) {
                return Err(Error::Unsupported {
                    what: "PIVOT or UNPIVOT of columns without a name".to_owned(),
                    hint: Some("Name each column of the subquery with AS.".to_owned()),
                    position: None,
                });
            }
            Ok(relations.into_iter().flat_map(|relation| relation.columns.names).collect())
        })
    }

    /// Runs a function in a scope that contains only one item of FROM. Resolves a copy of the item,
    /// so that the item itself is unchanged.
    fn within_factor<T>(
        &mut self,
        table: &TableFactor,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let here = self.scopes.0.pop();
        let done = self.within(Scope::default(), |this| {
            this.factor(&mut table.clone())?;
            work(this)
        });
        self.scopes.0.extend(here);
        done
    }

    /// Returns the columns listed in UNPIVOT, including those selected by COLUMNS.
    fn unpivoted(
        &mut self,
        table: &TableFactor,
        columns: Vec<ExprWithAlias>,
    ) -> Result<Vec<ExprWithAlias>> {
        let mut items: Vec<SelectItem> = Vec::with_capacity(columns.len());
        for ExprWithAlias { expr, alias } in columns {
            items.push(match alias {
                Some(alias) => SelectItem::ExprWithAlias { expr, alias },
                None => SelectItem::UnnamedExpr(expr),
            });
        }
        self.within_factor(table, |this| this.select_by_pattern(&mut items))?;
        let column = |item: SelectItem| match item {
            SelectItem::UnnamedExpr(expr) => Some(ExprWithAlias { expr, alias: None }),
            SelectItem::ExprWithAlias { expr, alias } => {
                Some(ExprWithAlias { expr, alias: Some(alias) })
            }
            _ => None,
        };
        Ok(items.into_iter().filter_map(column).collect())
    }
}

fn listed(source: &mut PivotValueSource) -> Result<Vec<ExprWithAlias>> {
    match source {
        PivotValueSource::List(values) => Ok(std::mem::take(values)),
        PivotValueSource::Any(_) | PivotValueSource::Subquery(_) => Err(Error::Unsupported {
            what: "PIVOT without a list of values in IN".to_owned(),
            hint: Some("List the values: `PIVOT t ON c IN ('a', 'b') USING sum(x)`.".to_owned()),
            position: None,
        }),
    }
}

/// Returns the columns of a pivot's GROUP BY, if it has one.
fn grouped(default: Option<&Expr>) -> Result<Option<Vec<Expr>>> {
    let Some(default) = default else { return Ok(None) };
    if let Expr::Function(function) = default
        && function.name.to_string().trim_matches('"') == GROUPED
        && let FunctionArguments::List(list) = &function.args
    {
        let plain = |argument: &FunctionArg| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
            _ => None,
        };
        return Ok(list.args.iter().map(plain).collect());
    }
    Err(Error::unsupported("DEFAULT ON NULL in PIVOT"))
}

/// Returns the last part of a column's name.
fn last_name(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(names) => names.last(),
        _ => None,
    }
}

/// The parts of a PIVOT.
struct Pivot {
    aggregates: Vec<ExprWithAlias>,
    column: Expr,
    values: Vec<ExprWithAlias>,
    grouped: Option<Vec<Expr>>,
}

impl Pivot {
    fn into_factor(
        self,
        table: TableFactor,
        columns: &[String],
        alias: Option<TableAlias>,
    ) -> Result<TableFactor> {
        let mut projection: Vec<SelectItem> = match &self.grouped {
            Some(exprs) => exprs.iter().cloned().map(SelectItem::UnnamedExpr).collect(),
            None => self.other_columns(columns),
        };
        for value in &self.values {
            for aggregate in &self.aggregates {
                projection.push(self.cell(value, aggregate)?);
            }
        }
        let mut query = query_of(QueryClauses {
            projection,
            from: vec![only(table)],
            ..QueryClauses::default()
        });
        if let SetExpr::Select(select) = &mut *query.body {
            select.group_by = GroupByExpr::All(Vec::new());
        }
        Ok(derived(query, alias))
    }

    /// Returns the columns that are used neither by the aggregates nor by the value columns.
    fn other_columns(&self, columns: &[String]) -> Vec<SelectItem> {
        let mut used: Vec<String> = Vec::new();
        let exprs = self.aggregates.iter().map(|aggregate| &aggregate.expr);
        for expr in exprs.chain([&self.column]) {
            let _ = visit_expressions(expr, |expr| {
                used.extend(last_name(expr).map(|name| name.value.clone()));
                ControlFlow::<()>::Continue(())
            });
        }
        let others =
            columns.iter().filter(|one| !used.iter().any(|name| equals_ignoring_case(name, one)));
        others.map(|one| SelectItem::UnnamedExpr(Expr::Identifier(name(one)))).collect()
    }

    /// Returns the select list item for one value and one aggregate: the aggregate over the rows
    /// that have this value.
    fn cell(&self, value: &ExprWithAlias, aggregate: &ExprWithAlias) -> Result<SelectItem> {
        let mut label = match &value.alias {
            Some(alias) => alias.value.clone(),
            None => constant_text(&value.expr),
        };
        match &aggregate.alias {
            Some(alias) => label = format!("{label}_{}", alias.value),
            None if self.aggregates.len() > 1 => {
                label = format!("{label}_{}", text(&aggregate.expr));
            }
            None => {}
        }
        let column = Box::new(self.column.clone());
        let is_value = match &value.expr {
            Expr::Value(ValueWithSpan { value: Value::Null, .. }) => Expr::IsNull(column),
            other => binary(*column, BinaryOperator::Eq, Expr::Nested(Box::new(other.clone()))),
        };
        let mut expr = aggregate.expr.clone();
        match &mut expr {
            Expr::Function(function) if function.filter.is_none() => {
                function.filter = Some(Box::new(is_value));
            }
            _ => {
                return Err(Error::Unsupported {
                    what: format!("`{}` in PIVOT", aggregate.expr),
                    hint: Some("Write one aggregate function.".to_owned()),
                    position: None,
                });
            }
        }
        Ok(item(expr, &label))
    }
}

fn constant_text(expr: &Expr) -> String {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => text.clone(),
        other => other.to_string(),
    }
}

/// The parts of an UNPIVOT.
struct Unpivot {
    name: Ident,
    value: Ident,
    columns: Vec<ExprWithAlias>,
    keeps_nulls: bool,
}

impl Unpivot {
    fn into_factor(
        self,
        table: TableFactor,
        known: &[String],
        alias: Option<TableAlias>,
    ) -> TableFactor {
        let used: Vec<&Ident> =
            self.columns.iter().filter_map(|column| last_name(&column.expr)).collect();
        let others = known.iter();
        let others =
            others.filter(|one| !used.iter().any(|it| equals_ignoring_case(&it.value, one)));
        let mut projection: Vec<SelectItem> =
            others.map(|one| SelectItem::UnnamedExpr(Expr::Identifier(name(one)))).collect();
        let label = |column: &ExprWithAlias| match (&column.alias, last_name(&column.expr)) {
            (Some(alias), _) => string(&alias.value),
            (None, Some(name)) => {
                let spelling = known.iter().find(|one| equals_ignoring_case(one, &name.value));
                string(spelling.unwrap_or(&name.value))
            }
            (None, None) => string(text(&column.expr)),
        };
        let labels = self.columns.iter().map(label).collect();
        let values = self.columns.iter().map(|column| column.expr.clone()).collect();
        for (elem, alias) in [(labels, &self.name), (values, &self.value)] {
            let list = Expr::Array(Array { elem, named: false });
            projection.push(item(call("unnest", vec![list]), &alias.value));
        }
        let rows = query_of(QueryClauses {
            projection,
            from: vec![only(table)],
            ..QueryClauses::default()
        });
        if self.keeps_nulls {
            return derived(rows, alias);
        }
        let value = Expr::Identifier(name(&self.value.value));
        let query = query_of(QueryClauses {
            projection: vec![headwater_sql::ast_builders::star(<_>::default())],
            from: vec![only(derived(rows, None))],
            selection: Some(Expr::IsNotNull(Box::new(value))),
            ..QueryClauses::default()
        });
        derived(query, alias)
    }
}
