//! Columns selected by pattern: `* RENAME (a AS b)`, `* ILIKE '%x%'` and `COLUMNS('regex')`.
//!
//! Patterns are expanded to one select list item per column, so the names of all columns must be
//! known.

use std::ops::ControlFlow;

use headwater_sql::ast_builders::{all, item};
use headwater_sql::expression::is_columns;
use headwater_sql::name_match::equals_ignoring_case;
use headwater_sql::table_name::{idents, position};
use headwater_sql::{Error, Result};
use headwater_sql_tokens::EXACT;
use regex::{Regex, RegexBuilder};
use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, LambdaFunction,
    ObjectName, OneOrManyWithParens, RenameSelectItem, SelectItem, SelectItemQualifiedWildcardKind,
    Value, ValueWithSpan, VisitMut, VisitorMut, WildcardAdditionalOptions, visit_expressions,
};

use crate::Resolver;
use crate::name_scope::Scope;
use crate::select_list::{column_under, text};

/// A column that a pattern selects: its output name and its expression.
#[derive(Clone)]
struct SelectedColumn {
    name: String,
    expr: Expr,
}

impl Resolver<'_> {
    /// Expands the items of a select list that select columns by pattern.
    pub(crate) fn select_by_pattern(&mut self, items: &mut Vec<SelectItem>) -> Result<()> {
        if !items.iter().any(is_pattern) {
            return Ok(());
        }
        let mut expanded = Vec::with_capacity(items.len());
        for one in items.drain(..) {
            if is_pattern(&one) { self.pattern(one, &mut expanded)? } else { expanded.push(one) }
        }
        *items = expanded;
        Ok(())
    }

    /// Expands the wildcards of a select list that select a column more than once, as in `SELECT *,
    /// *`. Each column is then an item, so a repeated column can have another name in the plan.
    pub(crate) fn expand_repeated_wildcards(&mut self, items: &mut Vec<SelectItem>) -> Result<()> {
        if !self.repeats_wildcards(items) {
            return Ok(());
        }
        let mut expanded = Vec::with_capacity(items.len());
        for one in items.drain(..) {
            let (label, options) = match one {
                SelectItem::Wildcard(options) => (None, options),
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    options,
                ) => (Some(self.wildcard_label(&name)?), options),
                other => {
                    expanded.push(other);
                    continue;
                }
            };
            let columns = chosen(self.star(label.as_deref())?, options)?;
            expanded.extend(columns.into_iter().map(|column| {
                let is_same = column_under(&column.expr).is_some_and(|it| it.value == column.name);
                if is_same {
                    SelectItem::UnnamedExpr(column.expr)
                } else {
                    item(column.expr, &column.name)
                }
            }));
        }
        *items = expanded;
        Ok(())
    }

    /// Returns true if two wildcards select columns of the same relation, and the names of all
    /// columns are known.
    fn repeats_wildcards(&mut self, items: &[SelectItem]) -> bool {
        let mut labels: Vec<Option<String>> = Vec::new();
        for one in items {
            match one {
                one if is_pattern(one) => return false,
                SelectItem::Wildcard(_) => labels.push(None),
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    _,
                ) => match self.wildcard_label(name) {
                    Ok(label) => labels.push(Some(label)),
                    // The caller reports an unknown relation.
                    Err(_) => return false,
                },
                _ => {}
            }
        }
        let overlaps = |(place, label): (usize, &Option<String>)| {
            labels[..place].iter().any(|other| label.is_none() || other.is_none() || label == other)
        };
        let Some(scope) = self.scopes.innermost() else { return false };
        !scope.relations.is_empty()
            && scope.relations.iter().all(|relation| !relation.columns.open)
            && labels.iter().enumerate().any(overlaps)
    }

    /// Returns the label of the relation `t` in the wildcard `t.*`.
    fn wildcard_label(&mut self, name: &ObjectName) -> Result<String> {
        let parts: Vec<&str> = idents(name)?.into_iter().map(|part| part.value.as_str()).collect();
        Ok(self.scopes.relation(&parts, position(name))?.label.clone())
    }

    fn pattern(&mut self, one: SelectItem, expanded: &mut Vec<SelectItem>) -> Result<()> {
        let selected = match one {
            SelectItem::Wildcard(options) => chosen(self.star(None)?, options)?,
            SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name),
                options,
            ) => {
                let label = self.wildcard_label(&name)?;
                chosen(self.star(Some(&label))?, options)?
            }
            SelectItem::UnnamedExpr(expr) => self.by_columns(&expr, None)?,
            SelectItem::ExprWithAlias { expr, alias } => self.by_columns(&expr, Some(&alias))?,
            other => {
                expanded.push(other);
                return Ok(());
            }
        };
        expanded.extend(selected.into_iter().map(|one| item(one.expr, &one.name)));
        Ok(())
    }

    /// Rewrites a condition that contains COLUMNS as a conjunction, with one condition for each
    /// column.
    pub(crate) fn condition_by_pattern(&mut self, condition: &mut Expr) -> Result<()> {
        if columns_call(condition).is_none() {
            return Ok(());
        }
        let selected = self.by_columns(condition, None)?;
        let each = selected.into_iter().map(|one| Expr::Nested(Box::new(one.expr)));
        *condition = all(each).unwrap_or_else(|| Expr::value(Value::Boolean(true)));
        Ok(())
    }

    /// Returns the columns of `*`, or of `label.*`.
    fn star(&mut self, label: Option<&str>) -> Result<Vec<SelectedColumn>> {
        let Some(scope) = self.scopes.innermost() else { return Ok(Vec::new()) };
        if scope.relations.iter().any(|relation| relation.columns.open) {
            return Err(Error::Unsupported {
                what: "RENAME, ILIKE or COLUMNS where a column has no name".to_owned(),
                hint: Some("Name each column of the subquery with AS.".to_owned()),
                position: None,
            });
        }
        Ok(columns_of(scope, label))
    }

    /// Returns copies of an expression that contains COLUMNS, one for each selected column.
    fn by_columns(&mut self, expr: &Expr, alias: Option<&Ident>) -> Result<Vec<SelectedColumn>> {
        let Some(call) = columns_call(expr) else { return Ok(Vec::new()) };
        let label = match idents(&call.name)?.as_slice() {
            [label, _] => Some(label.value.clone()),
            _ => None,
        };
        let label = label.as_deref().map(|label| self.scopes.relation(&[label], None));
        let label = label.transpose()?.map(|relation| relation.label.clone());
        let columns = selection(&call, self.star(label.as_deref())?)?;
        if columns.is_empty() {
            return Err(Error::Invalid {
                message: format!("`{call}` selects no column"),
                hint: None,
                position: position(&call.name),
            });
        }
        if alias.is_some() && columns.len() > 1 {
            return Err(Error::Invalid {
                message: format!(
                    "`{call}` selects {} columns, which cannot share an alias",
                    columns.len()
                ),
                hint: Some("Leave the alias out.".to_owned()),
                position: position(&call.name),
            });
        }
        let mut selected = Vec::with_capacity(columns.len());
        for column in columns {
            let (mut value, mut shown) = (expr.clone(), expr.clone());
            let _ = value.visit(&mut ColumnsReplacement { call: &call, by: &column.expr });
            let name = Expr::Identifier(Ident::new(&column.name));
            let _ = shown.visit(&mut ColumnsReplacement { call: &call, by: &name });
            if let Some(other) = columns_call(&value) {
                let what = format!("`{call}` and `{other}` in one expression");
                return Err(Error::unsupported(what));
            }
            let name = alias.map_or_else(|| text(&shown), |alias| alias.value.clone());
            selected.push(SelectedColumn { name, expr: value });
        }
        Ok(selected)
    }
}

/// Returns true if an item has a pattern that this module expands.
pub(crate) fn is_pattern(item: &SelectItem) -> bool {
    match item {
        SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => {
            options.opt_rename.is_some() || options.opt_ilike.is_some()
        }
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
            columns_call(expr).is_some()
        }
        SelectItem::ExprWithAliases { .. } => false,
    }
}

/// Returns the first call of COLUMNS in an expression.
fn columns_call(expr: &Expr) -> Option<Function> {
    let found = visit_expressions(expr, |expr| match expr {
        Expr::Function(function) if is_columns(&function.name) => {
            ControlFlow::Break(function.clone())
        }
        _ => ControlFlow::Continue(()),
    });
    found.break_value()
}

/// Visitor that replaces each call of COLUMNS in an expression by one column.
struct ColumnsReplacement<'a> {
    call: &'a Function,
    by: &'a Expr,
}

impl VisitorMut for ColumnsReplacement<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if matches!(expr, Expr::Function(function) if function == self.call) {
            *expr = self.by.clone();
        }
        ControlFlow::Continue(())
    }
}

/// Returns the columns of a scope, each shared column once.
fn columns_of(scope: &Scope, label: Option<&str>) -> Vec<SelectedColumn> {
    let mut columns = Vec::new();
    for (index, relation) in scope.relations.iter().enumerate() {
        if label.is_some_and(|label| relation.label != label) {
            continue;
        }
        for name in &relation.columns.names {
            let is_later = |merged: &crate::name_scope::JoinedColumn| {
                merged.name == *name
                    && merged.holders.contains(&index)
                    && merged.holders.iter().min() != Some(&index)
            };
            if label.is_none() && scope.merged.iter().any(is_later) {
                continue;
            }
            let is_shared = scope.merged.iter().any(|merged| merged.name == *name);
            let expr = if relation.can_be_named() && !(label.is_none() && is_shared) {
                relation.column(name)
            } else {
                Expr::Identifier(Ident::with_quote('"', name))
            };
            columns.push(SelectedColumn { name: name.clone(), expr });
        }
    }
    columns
}

/// Returns the columns that a wildcard selects, after its options ILIKE, EXCLUDE, REPLACE and
/// RENAME.
fn chosen(
    mut columns: Vec<SelectedColumn>,
    options: WildcardAdditionalOptions,
) -> Result<Vec<SelectedColumn>> {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias: _,
    } = options;
    if let Some(ilike) = opt_ilike {
        let pattern = match ilike.pattern.strip_prefix(EXACT) {
            Some(pattern) => like(pattern, false)?,
            None => like(&ilike.pattern, true)?,
        };
        columns.retain(|column| pattern.is_match(&column.name));
    }
    let excluded = crate::select_list::excluded(opt_exclude, opt_except);
    for name in &excluded {
        find(&columns, name)?;
    }
    columns.retain(|column| {
        !excluded.iter().any(|name| equals_ignoring_case(&name.value, &column.name))
    });
    for element in opt_replace.into_iter().flat_map(|replace| replace.items) {
        let place = find(&columns, &element.column_name)?;
        columns[place].expr = element.expr;
    }
    let renamed = match opt_rename {
        Some(RenameSelectItem::Single(one)) => vec![one],
        Some(RenameSelectItem::Multiple(several)) => several,
        None => Vec::new(),
    };
    let places =
        renamed.iter().map(|one| find(&columns, &one.ident)).collect::<Result<Vec<_>>>()?;
    for (place, one) in places.into_iter().zip(renamed) {
        columns[place].name = one.alias.value;
    }
    Ok(columns)
}

/// Returns the index of the column with this name; fails if there is none.
fn find(columns: &[SelectedColumn], name: &Ident) -> Result<usize> {
    let names = columns.iter().map(|column| column.name.as_str());
    let spelling = crate::name_scope::column(
        &name.value,
        names.clone(),
        &[],
        headwater_sql::table_name::span_start(name.span),
    )?;
    Ok(names.clone().position(|one| one == spelling).unwrap_or_default())
}

/// Returns the columns that a call of COLUMNS selects.
fn selection(call: &Function, columns: Vec<SelectedColumn>) -> Result<Vec<SelectedColumn>> {
    let refused = || Error::Unsupported {
        what: format!("`{call}`"),
        hint: Some("Write COLUMNS('regex'), COLUMNS(['a', 'b']) or COLUMNS(*).".to_owned()),
        position: position(&call.name),
    };
    let FunctionArguments::List(list) = &call.args else { return Err(refused()) };
    let [FunctionArg::Unnamed(argument)] = list.args.as_slice() else { return Err(refused()) };
    match argument {
        FunctionArgExpr::Wildcard => Ok(columns),
        FunctionArgExpr::WildcardWithOptions(options) => chosen(columns, options.clone()),
        FunctionArgExpr::Expr(Expr::Array(list)) => {
            let mut selected = Vec::new();
            for name in &list.elem {
                let name = Ident::new(string(name).ok_or_else(refused)?);
                selected.push(columns[find(&columns, &name)?].clone());
            }
            Ok(selected)
        }
        FunctionArgExpr::Expr(Expr::Lambda(lambda)) => {
            let (pattern, negated) = by_lambda(lambda)?.ok_or_else(refused)?;
            let fits = |column: &SelectedColumn| pattern.is_match(&column.name) != negated;
            Ok(columns.into_iter().filter(fits).collect())
        }
        FunctionArgExpr::Expr(expr) => {
            let pattern = regex(string(expr).ok_or_else(refused)?, false)?;
            Ok(columns.into_iter().filter(|column| pattern.is_match(&column.name)).collect())
        }
        FunctionArgExpr::QualifiedWildcard(_) => Err(refused()),
    }
}

/// Returns the pattern of a lambda such as `c -> c LIKE 'a%'`, and true for NOT LIKE; `None` for
/// other lambdas.
fn by_lambda(lambda: &LambdaFunction) -> Result<Option<(Regex, bool)>> {
    let OneOrManyWithParens::One(parameter) = &lambda.params else { return Ok(None) };
    let (negated, value, pattern, ignores_case) = match &*lambda.body {
        Expr::Like { negated, expr, pattern, .. } => (*negated, expr, pattern, false),
        Expr::ILike { negated, expr, pattern, .. } => (*negated, expr, pattern, true),
        _ => return Ok(None),
    };
    match (&**value, string(pattern)) {
        (Expr::Identifier(name), Some(pattern)) if *name == parameter.name => {
            Ok(Some((like(pattern, ignores_case)?, negated)))
        }
        _ => Ok(None),
    }
}

fn string(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Some(text),
        _ => None,
    }
}

/// Returns the regular expression of a LIKE pattern.
fn like(pattern: &str, ignores_case: bool) -> Result<Regex> {
    let part = |letter: char| match letter {
        '%' => ".*".to_owned(),
        '_' => ".".to_owned(),
        other => regex::escape(&other.to_string()),
    };
    let pattern: String = pattern.chars().map(part).collect();
    regex(&format!("^{pattern}$"), ignores_case)
}

fn regex(pattern: &str, ignores_case: bool) -> Result<Regex> {
    let built = RegexBuilder::new(pattern).case_insensitive(ignores_case).build();
    built.map_err(|_| Error::Invalid {
        message: format!("the regular expression `{pattern}` does not compile"),
        hint: None,
        position: None,
    })
}
