//! The second pass over a query: every name becomes what it stands for.
//!
//! Tables become the two-part names under which the planner finds them, each with an alias that
//! labels its columns; columns, aliases, windows and common table expressions become the spelling
//! of their definition. What cannot be found is refused here, with its place in the text, unless
//! only the planner can know the name. After this pass names match exactly.

use std::collections::HashMap;

use datafusion::sql::sqlparser::ast::{
    Distinct, ExcludeSelectItem, Expr, FunctionArg, GroupByExpr, Ident, Join, JoinConstraint,
    LambdaFunction, LimitClause, NamedWindowExpr, ObjectName, ObjectNamePart, OneOrManyWithParens,
    OrderBy, OrderByExpr, OrderByKind, Query, Select, SelectItem, SelectItemQualifiedWildcardKind,
    SetExpr, SetQuantifier, TableAlias, TableFactor, TableWithJoins, Value, ValueWithSpan,
    WildcardAdditionalOptions, With,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::error::{Error, Result};
use crate::sql::clauses::{constraint, spell};
use crate::sql::expression::{Node, argument_parts, children, window};
use crate::sql::names::{Match, find, near};
use crate::sql::scope::{Columns, Path, Relation, Scope, Scopes};
use crate::sql::table_name::{WrittenTable, idents, position, span_start};

/// A table as it was found for a statement.
#[derive(Debug, Clone)]
pub(crate) struct FoundTable {
    /// The namespace as it is spelled.
    pub namespace: String,
    /// The table as it is spelled, with its ref if one was written.
    pub label: String,
    /// The table as it is spelled.
    pub name: String,
    /// Its columns.
    pub columns: Vec<String>,
}

/// Resolves every name of a query.
pub(crate) fn resolve(
    query: &mut Query,
    tables: &HashMap<WrittenTable, FoundTable>,
) -> Result<Columns> {
    Resolver { tables, ctes: Vec::new(), scopes: Scopes::default() }.query(query)
}

struct Resolver<'t> {
    tables: &'t HashMap<WrittenTable, FoundTable>,
    ctes: Vec<(String, Columns)>,
    scopes: Scopes,
}

impl Resolver<'_> {
    fn query(&mut self, query: &mut Query) -> Result<Columns> {
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

    /// Does something with one more level of names around.
    fn within<T>(&mut self, scope: Scope, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.scopes.0.push(scope);
        let done = work(self);
        self.scopes.0.pop();
        done
    }

    fn with(&mut self, with: &mut With) -> Result<()> {
        for cte in &mut with.cte_tables {
            let name = cte.alias.name.value.clone();
            let aliases: Vec<String> =
                cte.alias.columns.iter().map(|column| column.name.value.clone()).collect();
            let columns = if with.recursive {
                let declared = match first_columns(&cte.query.body) {
                    _ if !aliases.is_empty() => Columns::known(aliases.clone()),
                    Some(names) => Columns::known(names),
                    None => Columns::unknown(),
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

    fn set_expr(&mut self, body: &mut SetExpr) -> Result<Columns> {
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
                Ok(Columns::known((1..=width).map(|n| format!("column{n}")).collect()))
            }
            _ => Ok(Columns::unknown()),
        }
    }

    fn select(&mut self, select: &mut Select, order_by: Option<&mut OrderBy>) -> Result<Columns> {
        let windows = select.named_window.iter().map(|window| window.0.value.clone()).collect();
        self.within(Scope { windows, ..Scope::default() }, |this| {
            select.from.iter_mut().try_for_each(|from| this.from(from))?;
            this.option(select.selection.as_mut())?;
            for definition in &mut select.named_window {
                match &mut definition.1 {
                    NamedWindowExpr::WindowSpec(spec) => {
                        window(spec, &mut |node| this.node(node))?;
                    }
                    NamedWindowExpr::NamedWindow(name) => this.window_name(name),
                }
            }
            let columns = this.projection(&mut select.projection)?;
            let aliases = aliases(&select.projection);
            if let Some(scope) = this.scopes.here() {
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
                spell_out_all(order_by, &select.projection);
                this.order_by(order_by)?;
            }
            Ok(columns)
        })
    }

    fn order_by(&mut self, order_by: &mut OrderBy) -> Result<()> {
        match &mut order_by.kind {
            OrderByKind::Expressions(keys) => {
                keys.iter_mut().try_for_each(|OrderByExpr { expr, .. }| self.expr(expr))
            }
            OrderByKind::All(_) => Ok(()),
        }
    }

    fn limit(&mut self, limit: &mut LimitClause) -> Result<()> {
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

    // Tables.

    fn from(&mut self, from: &mut TableWithJoins) -> Result<()> {
        self.factor(&mut from.relation)?;
        from.joins.iter_mut().try_for_each(|join| self.join(join))
    }

    fn join(&mut self, join: &mut Join) -> Result<()> {
        let before = self.scopes.here().map_or(0, |scope| scope.relations.len());
        self.factor(&mut join.relation)?;
        match constraint(&mut join.join_operator) {
            Some(JoinConstraint::On(expr)) => self.expr(expr),
            Some(JoinConstraint::Using(columns)) => {
                columns.iter_mut().try_for_each(|column| self.using(column, before))
            }
            _ => Ok(()),
        }
    }

    /// Spells a column of USING, which must be spelled alike on both sides.
    fn using(&mut self, column: &mut ObjectName, before: usize) -> Result<()> {
        let at = position(column);
        let Some(ObjectNamePart::Identifier(ident)) = column.0.first_mut() else { return Ok(()) };
        let Some(scope) = self.scopes.here() else { return Ok(()) };
        let (left, right) = scope.relations.split_at(before.min(scope.relations.len()));
        let names = |side: &[Relation]| -> Vec<String> {
            side.iter().flat_map(|relation| relation.columns.names.iter().cloned()).collect()
        };
        let open = scope.relations.iter().any(|relation| relation.columns.open);
        let mut spellings: Vec<String> = Vec::new();
        for side in [left, right] {
            let names = names(side);
            match find(&ident.value, names.iter().map(String::as_str)) {
                Match::One(spelling) => spellings.push(spelling.to_owned()),
                Match::None if open => return Ok(()),
                Match::None | Match::Many(_) => {
                    return Err(Error::ColumnNotFound {
                        column: ident.value.clone(),
                        near: near(&ident.value, names.iter().map(String::as_str)),
                        relations: side.iter().map(|r| r.label.clone()).collect(),
                        position: at,
                    });
                }
            }
        }
        if spellings[0] != spellings[1] {
            return Err(Error::Invalid {
                message: format!(
                    "USING needs one spelling, and the two sides have `{}` and `{}`",
                    spellings[0], spellings[1]
                ),
                hint: Some("Join with ON instead.".to_owned()),
                position: at,
            });
        }
        spell(ident, &spellings[0]);
        Ok(())
    }

    fn factor(&mut self, factor: &mut TableFactor) -> Result<()> {
        match factor {
            TableFactor::Table { name, alias, args: Some(args), .. } => {
                self.arguments(&mut args.args)?;
                self.function_relation(name, alias.as_ref());
                Ok(())
            }
            TableFactor::Function { name, args, alias, .. } => {
                self.arguments(args)?;
                self.function_relation(name, alias.as_ref());
                Ok(())
            }
            TableFactor::Table { name, alias, .. } => self.table(name, alias),
            TableFactor::Derived { lateral, subquery, alias, .. } => {
                let columns = if *lateral {
                    self.query(subquery)?
                } else {
                    // Only a lateral subquery sees what stands before it in the same FROM.
                    let here = self.scopes.0.pop();
                    let columns = self.query(subquery);
                    self.scopes.0.extend(here);
                    columns?
                };
                self.add(alias.as_ref(), "the subquery", columns);
                Ok(())
            }
            TableFactor::UNNEST { alias, array_exprs, .. } => {
                self.all(array_exprs)?;
                self.add(alias.as_ref(), "unnest", Columns::unknown());
                Ok(())
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                self.nested(table_with_joins, alias.as_ref())
            }
            _ => Ok(()),
        }
    }

    fn nested(&mut self, from: &mut TableWithJoins, alias: Option<&TableAlias>) -> Result<()> {
        let before = self.scopes.here().map_or(0, |scope| scope.relations.len());
        self.from(from)?;
        if let (Some(scope), Some(alias)) = (self.scopes.here(), alias) {
            let mut columns = Columns::default();
            for relation in scope.relations.split_off(before) {
                columns.extend(&relation.columns);
            }
            self.add(Some(alias), "", columns);
        }
        Ok(())
    }

    fn function_relation(&mut self, name: &ObjectName, alias: Option<&TableAlias>) {
        self.add(alias, &name.to_string(), Columns::unknown());
    }

    /// Adds a relation under its alias, or under a name of its own.
    fn add(&mut self, alias: Option<&TableAlias>, own: &str, columns: Columns) {
        let label = alias.map_or_else(|| own.to_owned(), |alias| alias.name.value.clone());
        let names = alias.into_iter().flat_map(|alias| &alias.columns);
        let columns = columns.renamed(names.map(|column| column.name.value.clone()));
        if let Some(scope) = self.scopes.here() {
            scope.relations.push(Relation { label, paths: Vec::new(), columns });
        }
    }

    fn table(&mut self, name: &mut ObjectName, alias: &mut Option<TableAlias>) -> Result<()> {
        let written = WrittenTable::of(name)?;
        if written.namespace.is_none()
            && written.reference.is_none()
            && let Some((spelling, columns)) = self.cte(&written.name)
        {
            if let Some(ObjectNamePart::Identifier(ident)) = name.0.first_mut() {
                spell(ident, &spelling);
            }
            self.add(alias.as_ref(), &spelling, columns);
            return Ok(());
        }
        let Some(found) = self.tables.get(&written).cloned() else {
            return Err(Error::Internal { message: format!("`{written}` was not looked up") });
        };
        let span = name.0.first().and_then(|p| p.as_ident()).map_or_else(Span::empty, |i| i.span);
        let quoted = |value: &str| Ident::with_quote_and_span('"', span, value);
        *name = ObjectName::from(vec![quoted(&found.namespace), quoted(&found.label)]);
        let columns = Columns::known(found.columns.clone());
        if alias.is_some() {
            self.add(alias.as_ref(), &found.label, columns);
            return Ok(());
        }
        let Some(scope) = self.scopes.here() else { return Ok(()) };
        let taken = scope.relations.iter().any(|relation| relation.label == found.label);
        let full = format!("{}.{}", found.namespace, found.label);
        let label = if taken { full } else { found.label.clone() };
        *alias = Some(TableAlias {
            explicit: true,
            name: quoted(&label),
            columns: Vec::new(),
            at: None,
        });
        let path = |parts: &[&String]| parts.iter().map(|part| (*part).clone()).collect();
        let paths = vec![
            path(&[&found.namespace, &found.label]),
            path(&[&found.label]),
            path(&[&found.name]),
            path(&[&found.namespace, &found.name]),
        ];
        scope.relations.push(Relation { label, paths, columns });
        Ok(())
    }

    /// The common table expression of that name, the innermost first.
    fn cte(&self, written: &str) -> Option<(String, Columns)> {
        let exact = self.ctes.iter().rev().find(|(name, _)| name == written);
        let without_case =
            || self.ctes.iter().rev().find(|(name, _)| super::names::same_but_case(name, written));
        exact.or_else(without_case).cloned()
    }

    // The select list.

    fn projection(&mut self, items: &mut [SelectItem]) -> Result<Columns> {
        let mut columns = Columns::default();
        for item in items {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    self.expr(expr)?;
                    match output_name(expr) {
                        Some(name) => columns.names.push(name),
                        None => columns.open = true,
                    }
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    self.expr(expr)?;
                    columns.names.push(alias.value.clone());
                }
                SelectItem::Wildcard(options) => {
                    let mut all = Columns::default();
                    for relation in self.scopes.here().iter().flat_map(|s| s.relations.iter()) {
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
        }
        Ok(columns)
    }

    /// Spells the table of `t.*` and gives its columns.
    fn wildcard_relation(&mut self, name: &mut ObjectName) -> Result<Columns> {
        let at = position(name);
        let parts: Vec<&str> =
            idents(name)?.into_iter().map(|ident| ident.value.as_str()).collect();
        let relation = self.scopes.relation(&parts, at)?;
        let (label, columns) = (relation.label.clone(), relation.columns.clone());
        *name = ObjectName::from(vec![Ident::with_quote('"', label)]);
        Ok(columns)
    }

    /// Spells the columns in a wildcard's options and gives the columns that are left.
    fn wildcard(
        &mut self,
        options: &mut WildcardAdditionalOptions,
        mut columns: Columns,
    ) -> Result<Columns> {
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
        columns.open |= options.opt_ilike.is_some();
        Ok(columns)
    }

    // Expressions.

    fn all(&mut self, exprs: &mut [Expr]) -> Result<()> {
        exprs.iter_mut().try_for_each(|expr| self.expr(expr))
    }

    fn option(&mut self, expr: Option<&mut Expr>) -> Result<()> {
        expr.map_or(Ok(()), |expr| self.expr(expr))
    }

    fn arguments(&mut self, arguments: &mut [FunctionArg]) -> Result<()> {
        arguments.iter_mut().try_for_each(|arg| argument_parts(arg, &mut |node| self.node(node)))
    }

    fn node(&mut self, node: Node<'_>) -> Result<()> {
        match node {
            Node::Expr(expr) => self.expr(expr),
            Node::Query(query) => self.query(query).map(|_| ()),
            Node::Window(name) => {
                self.window_name(name);
                Ok(())
            }
            Node::Wildcard(name) => self.wildcard_relation(name).map(|_| ()),
        }
    }

    fn expr(&mut self, expr: &mut Expr) -> Result<()> {
        match expr {
            Expr::Identifier(ident) => {
                if let Some(spelling) = self.scopes.column(&ident.value, span_start(ident.span))? {
                    spell(ident, &spelling);
                }
                Ok(())
            }
            Expr::CompoundIdentifier(idents) => self.compound(idents),
            Expr::Lambda(lambda) => self.lambda(lambda),
            Expr::Value(ValueWithSpan { value: Value::Placeholder(name), span }) => {
                Err(Error::Parameter {
                    name: name.trim_start_matches('$').to_owned(),
                    reason: "has no value",
                    position: span_start(*span),
                })
            }
            other => children(other, &mut |node| self.node(node)),
        }
    }

    fn compound(&mut self, idents: &mut Vec<Ident>) -> Result<()> {
        let Some(first) = idents.first() else { return Ok(()) };
        let span = first.span;
        let parts: Vec<&str> = idents.iter().map(|ident| ident.value.as_str()).collect();
        match self.scopes.path(&parts, span_start(span))? {
            Path::Column { label, column, parts } => {
                spell(&mut idents[parts], &column);
                let label = Ident::with_quote_and_span('"', span, label);
                idents.splice(..parts, [label]);
            }
            Path::Field(spelling) => spell(&mut idents[0], &spelling),
            Path::Unknown => {}
        }
        Ok(())
    }

    fn lambda(&mut self, lambda: &mut LambdaFunction) -> Result<()> {
        let parameters = match &lambda.params {
            OneOrManyWithParens::One(parameter) => vec![parameter.name.value.clone()],
            OneOrManyWithParens::Many(parameters) => {
                parameters.iter().map(|parameter| parameter.name.value.clone()).collect()
            }
        };
        let body = &mut lambda.body;
        self.within(Scope { parameters, ..Scope::default() }, |this| this.expr(body))
    }

    fn window_name(&self, name: &mut Ident) {
        if let Some(spelling) = self.scopes.window(&name.value) {
            spell(name, &spelling);
        }
    }
}

/// Writes ORDER BY ALL as the places of the select list, which DataFusion does for columns only.
fn spell_out_all(order_by: &mut OrderBy, items: &[SelectItem]) {
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

fn spell_column(ident: &mut Ident, columns: &Columns) -> Result<()> {
    let names = columns.names.iter().map(String::as_str);
    match find(&ident.value, names.clone()) {
        Match::One(spelling) => {
            let spelling = spelling.to_owned();
            spell(ident, &spelling);
            Ok(())
        }
        Match::None if columns.open => Ok(()),
        Match::None => Err(Error::ColumnNotFound {
            column: ident.value.clone(),
            near: near(&ident.value, names),
            relations: Vec::new(),
            position: span_start(ident.span),
        }),
        Match::Many(candidates) => Err(Error::Ambiguous {
            name: ident.value.clone(),
            candidates: candidates.into_iter().map(str::to_owned).collect(),
            position: span_start(ident.span),
        }),
    }
}

/// The name that a select list gives an expression without an alias; none where the planner makes
/// one.
fn output_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(ident.value.clone()),
        Expr::CompoundIdentifier(idents) if idents.len() == 2 => {
            idents.last().map(|ident| ident.value.clone())
        }
        Expr::Nested(inner) => output_name(inner),
        _ => None,
    }
}

fn aliases(items: &[SelectItem]) -> Vec<String> {
    let alias = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        _ => None,
    };
    items.iter().filter_map(alias).collect()
}

/// The columns of a recursive query's first part, where they can be read off it.
fn first_columns(body: &SetExpr) -> Option<Vec<String>> {
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
