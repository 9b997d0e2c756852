//! The select list: its expressions and output names.

use headwater_sql::Result;
use headwater_sql::expression::{ExpressionNode, children};
use headwater_sql::table_name::{idents, position, span_start};
use headwater_sql::unsupported_clauses::spell;
use sqlparser::ast::{
    ExceptSelectItem, ExcludeSelectItem, Expr, GroupByExpr, Ident, ObjectName, ObjectNamePart,
    OrderBy, OrderByExpr, OrderByKind, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Value,
    ValueWithSpan, WildcardAdditionalOptions,
};

use crate::name_scope::{RelationColumns, column};
use crate::ordered_casts::{CastName, cast_column, cast_name};
use crate::repeated_names::SelectedNames;
use crate::series::is_series;
use crate::{Resolver, SelectAlias, function_name};

impl Resolver<'_> {
    pub(crate) fn projection(&mut self, items: &mut [SelectItem]) -> Result<RelationColumns> {
        let mut columns = RelationColumns::default();
        let mut names = self.wildcard_names(items);
        for item in items {
            let alias = SelectAlias::of(item);
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let text = text(expr);
                    let bare = match expr {
                        Expr::Identifier(ident) => Some(ident.value.clone()),
                        _ => None,
                    };
                    let cast = cast_column(expr).cloned();
                    self.expr(expr)?;
                    if let Some(mut name) = self.replaced_name(bare, expr, &text) {
                        if let Some(other) = names.add_alias(&name.value) {
                            name.value = other;
                        }
                        columns.names.push(name.value.clone());
                        let expr = std::mem::replace(expr, Expr::value(Value::Null));
                        *item = SelectItem::ExprWithAlias { expr, alias: name };
                        continue;
                    }
                    let name = self.cast_alias(expr, cast.as_ref(), &mut names);
                    if let Some(name) = name.or_else(|| names.add_expr(expr, &text)) {
                        let alias = Ident::with_quote('"', name);
                        let expr = std::mem::replace(expr, Expr::value(Value::Null));
                        columns.names.push(alias.value.clone());
                        *item = SelectItem::ExprWithAlias { expr, alias };
                    } else if let Some(name) = output_name(expr) {
                        columns.names.push(name);
                    } else {
                        columns.open = true;
                    }
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    self.expr(expr)?;
                    if let Some(other) = names.add_alias(&alias.value) {
                        *alias = Ident::with_quote('"', other);
                    }
                    columns.names.push(alias.value.clone());
                }
                SelectItem::Wildcard(options) => {
                    let mut all = RelationColumns::default();
                    for relation in self.scopes.innermost().iter().flat_map(|s| s.relations.iter())
                    {
                        all.extend(&relation.columns);
                    }
                    columns.extend(&self.wildcard(options, all)?);
                }
                SelectItem::QualifiedWildcard(kind, options) => {
                    let SelectItemQualifiedWildcardKind::ObjectName(name) = kind else { continue };
                    let all = self.wildcard_relation(name)?;
                    columns.extend(&self.wildcard(options, all)?);
                }
                SelectItem::ExprWithAliases { .. } => {}
            }
            if let Some(scope) = self.scopes.innermost() {
                scope.select_aliases.extend(alias);
            }
        }
        if let Some(scope) = self.scopes.innermost() {
            scope.select_aliases.clear();
        }
        Ok(columns)
    }

    /// Returns the alias of an item that is a cast of a column, or was written as a cast of the
    /// column `written`; `None` for other items.
    fn cast_alias(
        &mut self,
        expr: &Expr,
        written: Option<&Ident>,
        names: &mut SelectedNames,
    ) -> Option<String> {
        let scope = self.scopes.innermost()?;
        match cast_name(expr, written, &scope.ordered, scope.can_name_casts)? {
            CastName::Unused(name) => Some(names.add_unused(&name)),
            CastName::Own(name) => {
                let name = names.add_alias(&name).unwrap_or(name);
                scope.kept.push(name.clone());
                Some(name)
            }
        }
    }

    /// Returns the alias of an item that was only a name and that an expression has replaced: a
    /// join column or the alias of a series.
    fn replaced_name(&mut self, bare: Option<String>, expr: &Expr, text: &str) -> Option<Ident> {
        let written = bare?;
        if is_series(expr, &written) {
            return Some(Ident::with_quote('"', written));
        }
        matches!(expr, Expr::Function(_)).then(|| self.own_name(expr, text.to_owned()))
    }

    /// Returns the name of a join column that an expression has replaced in the select list, to use
    /// it as the item's alias.
    fn own_name(&mut self, expr: &Expr, written: String) -> Ident {
        let Some(scope) = self.scopes.innermost() else { return Ident::with_quote('"', written) };
        let merged = scope.merged.iter().rev().find(|merged| merged.expr == *expr);
        let name = merged.map_or(written, |merged| merged.name.clone());
        scope.kept.push(name.clone());
        Ident::with_quote('"', name)
    }

    /// Resolves the table of `t.*` and returns its columns.
    pub(crate) fn wildcard_relation(&mut self, name: &mut ObjectName) -> Result<RelationColumns> {
        let at = position(name);
        let parts: Vec<&str> =
            idents(name)?.into_iter().map(|ident| ident.value.as_str()).collect();
        let relation = self.scopes.relation(&parts, at)?;
        let (label, columns) = (relation.label.clone(), relation.columns.clone());
        *name = ObjectName::from(vec![Ident::with_quote('"', label)]);
        Ok(columns)
    }

    /// Resolves the columns in a wildcard's options. Returns the columns that the wildcard selects.
    fn wildcard(
        &mut self,
        options: &mut WildcardAdditionalOptions,
        mut columns: RelationColumns,
    ) -> Result<RelationColumns> {
        let hidden = std::mem::take(&mut columns.hidden);
        let mut left_out: Vec<&mut Ident> = Vec::new();
        if let Some(except) = &mut options.opt_except {
            left_out.push(&mut except.first_element);
            left_out.extend(&mut except.additional_elements);
        }
        let excluded: Vec<&mut ObjectName> = match &mut options.opt_exclude {
            Some(ExcludeSelectItem::Single(name)) => vec![name],
            Some(ExcludeSelectItem::Multiple(names)) => names.iter_mut().collect(),
            None => Vec::new(),
        };
        for name in excluded {
            if let Some(ObjectNamePart::Identifier(ident)) = name.0.last_mut() {
                left_out.push(ident);
            }
        }
        for ident in left_out {
            spell_column(ident, &columns)?;
            columns.names.retain(|name| *name != ident.value);
        }
        for element in options.opt_replace.iter_mut().flat_map(|replace| &mut replace.items) {
            self.expr(&mut element.expr)?;
            spell_column(&mut element.column_name, &columns)?;
        }
        exclude(options, &hidden);
        Ok(columns)
    }
}

/// Returns the columns that the clauses EXCLUDE and EXCEPT list.
pub(crate) fn excluded(
    exclude: Option<ExcludeSelectItem>,
    except: Option<ExceptSelectItem>,
) -> Vec<Ident> {
    let names = match exclude {
        Some(ExcludeSelectItem::Single(name)) => vec![name],
        Some(ExcludeSelectItem::Multiple(names)) => names,
        None => Vec::new(),
    };
    let last = |mut name: ObjectName| match name.0.pop() {
        Some(ObjectNamePart::Identifier(ident)) => Some(ident),
        _ => None,
    };
    let except = except.into_iter();
    let except = except.flat_map(|one| [vec![one.first_element], one.additional_elements].concat());
    names.into_iter().filter_map(last).chain(except).collect()
}

/// Adds hidden columns to the EXCLUDE clause of a wildcard.
fn exclude(options: &mut WildcardAdditionalOptions, hidden: &[String]) {
    if hidden.is_empty() {
        return;
    }
    let mut names = match options.opt_exclude.take() {
        Some(ExcludeSelectItem::Single(name)) => vec![name],
        Some(ExcludeSelectItem::Multiple(names)) => names,
        None => Vec::new(),
    };
    for name in hidden {
        let name = ObjectName::from(vec![Ident::with_quote('"', name)]);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    options.opt_exclude = Some(ExcludeSelectItem::Multiple(names));
}

/// Replaces ORDER BY keys of a SELECT DISTINCT that repeat an item of the select list by the
/// position of this item. DataFusion does not recognize that such a key repeats an item.
///
/// Upstream: <https://github.com/apache/datafusion/issues/5293>
pub(crate) fn keys_as_positions(order_by: &mut OrderBy, items: &[SelectItem]) {
    let OrderByKind::Expressions(keys) = &mut order_by.kind else { return };
    for key in keys {
        if matches!(key.expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_)) {
            continue;
        }
        for (index, item) in items.iter().enumerate() {
            match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                    if *expr == key.expr {
                        key.expr = Expr::value(Value::Number((index + 1).to_string(), false));
                        break;
                    }
                }
                // The item may expand to several columns, so the positions of the items after it
                // are unknown.
                _ => break,
            }
        }
    }
}

/// Replaces positions in the ORDER BY of a grouped query by the expressions of the computed columns
/// at these positions.
///
/// DataFusion rejects the position of a computed column without an alias in such a query. The
/// regression came with apache/datafusion#18831; #19412 fixes it only for columns with an alias.
pub(crate) fn positions_as_keys(order_by: &mut OrderBy, items: &[SelectItem]) {
    let is_wildcard = |item: &SelectItem| {
        matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
    };
    let OrderByKind::Expressions(keys) = &mut order_by.kind else { return };
    for key in keys {
        let Expr::Value(ValueWithSpan { value: Value::Number(place, _), .. }) = &key.expr else {
            continue;
        };
        let place = place.parse::<usize>().ok().and_then(|place| place.checked_sub(1));
        let Some(place) = place.filter(|place| *place < items.len()) else { continue };
        // After a wildcard, the positions of items are unknown.
        if items[..place].iter().any(is_wildcard) {
            continue;
        }
        match &items[place] {
            SelectItem::UnnamedExpr(
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_),
            ) => {}
            SelectItem::UnnamedExpr(expr) => key.expr = expr.clone(),
            _ => {}
        }
    }
}

/// Returns true if a query has a GROUP BY.
pub(crate) fn is_grouped(group_by: &GroupByExpr) -> bool {
    match group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(exprs, _) => !exprs.is_empty(),
    }
}

/// Replaces ORDER BY ALL by the positions of all items of the select list; DataFusion expands it
/// for plain columns only.
///
/// Upstream: <https://github.com/apache/datafusion/pull/25243>
pub(crate) fn expand_order_by_all(order_by: &mut OrderBy, items: &[SelectItem]) {
    let OrderByKind::All(options) = order_by.kind else { return };
    let wildcard = |item: &SelectItem| {
        matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
    };
    if items.iter().any(wildcard) {
        return;
    }
    let key = |place: usize| OrderByExpr {
        expr: Expr::value(Value::Number(place.to_string(), false)),
        options,
        with_fill: None,
    };
    order_by.kind = OrderByKind::Expressions((1..=items.len()).map(key).collect());
}

/// Resolves a column in a wildcard's options.
fn spell_column(ident: &mut Ident, columns: &RelationColumns) -> Result<()> {
    let names = columns.names.iter().map(String::as_str);
    if columns.open && !columns.names.contains(&ident.value) {
        return Ok(());
    }
    let spelling = column(&ident.value, names, &[], span_start(ident.span))?;
    spell(ident, spelling);
    Ok(())
}

/// Returns the column if an expression is a column, with or without casts around it.
pub(crate) fn column_under(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(ident) => Some(ident),
        Expr::CompoundIdentifier(idents) => idents.last(),
        Expr::Cast { expr: inner, .. }
        | Expr::AtTimeZone { timestamp: inner, .. }
        | Expr::Nested(inner) => column_under(inner),
        _ => None,
    }
}

/// Returns the text of an expression, with function names in lower case.
pub(crate) fn text(expr: &Expr) -> String {
    let mut small = expr.clone();
    small_functions(&mut small);
    small.to_string()
}

fn small_functions(expr: &mut Expr) {
    if let Expr::Function(function) = expr {
        let name = function_name(function);
        if let [ObjectNamePart::Identifier(ident)] = function.name.0.as_mut_slice() {
            ident.value = name;
        }
    }
    let _ = children(expr, &mut |node| {
        if let ExpressionNode::Expr(inner) = node {
            small_functions(inner);
        }
        Ok(())
    });
}

/// Returns the output name of an expression without an alias; `None` if the planner generates it.
pub(crate) fn output_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(ident.value.clone()),
        Expr::CompoundIdentifier(idents) if idents.len() == 2 => {
            idents.last().map(|ident| ident.value.clone())
        }
        Expr::Nested(inner) => output_name(inner),
        _ => None,
    }
}

/// Returns the aliases of a select list.
pub(crate) fn aliases(items: &[SelectItem]) -> Vec<String> {
    let alias = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        _ => None,
    };
    items.iter().filter_map(alias).collect()
}

/// Returns the column names of the first part of a recursive query, if all are known.
pub(crate) fn first_columns(body: &SetExpr) -> Option<Vec<String>> {
    match body {
        SetExpr::SetOperation { left, .. } => first_columns(left),
        SetExpr::Select(select) => select
            .projection
            .iter()
            .map(|item| match item {
                SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
                SelectItem::UnnamedExpr(expr) => output_name(expr),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}
