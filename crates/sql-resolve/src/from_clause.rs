//! The relations of FROM: tables, common table expressions, subqueries and functions, each with the
//! label by which it is referred to.

use headwater_model::nearest;
use sqlparser::ast::{
    BinaryOperator, Expr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart,
    TableAlias, TableFactor, TableWithJoins,
};
use sqlparser::tokenizer::Span;

use crate::{Resolver, series, using_clause};

use crate::name_scope::{Relation, RelationColumns, UNNAMED};
use headwater_sql::name_match::{NameMatch, equals_ignoring_case, find};
use headwater_sql::table_name::{ParsedTableName, position};
use headwater_sql::unsupported_clauses::{constraint, spell};
use headwater_sql::{Error, Result};

impl Resolver<'_> {
    pub(crate) fn from(&mut self, from: &mut TableWithJoins) -> Result<()> {
        let careful = using_clause::needs_care(from);
        let start = self.scopes.innermost().map_or(0, |scope| {
            scope.careful |= careful;
            scope.relations.len()
        });
        self.factor(&mut from.relation)?;
        from.joins.iter_mut().try_for_each(|join| self.join(join, start))
    }

    fn join(&mut self, join: &mut Join, start: usize) -> Result<()> {
        let before = self.scopes.innermost().map_or(0, |scope| scope.relations.len());
        self.factor(&mut join.relation)?;
        if let JoinOperator::AsOf { .. } = join.join_operator {
            return self.rewrite_asof_join(join, start, before);
        }
        let side = using_clause::side(&join.join_operator);
        let Some(by) = constraint(&mut join.join_operator) else { return Ok(()) };
        let names = match by {
            JoinConstraint::On(expr) => return self.expr(expr),
            JoinConstraint::Using(columns) => {
                columns.iter_mut().try_for_each(|column| self.using(column, before))?;
                let names = columns.iter().filter_map(using_clause::name_of);
                Some(names.map(str::to_owned).collect())
            }
            JoinConstraint::Natural => self.scopes.innermost().and_then(|scope| {
                let (left, right) = scope.relations.split_at(before);
                using_clause::shared(&left[start..], right)
            }),
            JoinConstraint::None => return Ok(()),
        };
        let (Some(scope), Some(side)) = (self.scopes.innermost(), side) else { return Ok(()) };
        let merge = |name: &String| using_clause::merge(scope, name, (start, before), side);
        let conditions: Option<Vec<Expr>> =
            names.and_then(|names: Vec<String>| names.iter().map(merge).collect());
        match conditions {
            _ if !scope.careful => Ok(()),
            None => Err(using_clause::refused()),
            Some(conditions) => {
                let all = conditions.into_iter().reduce(|all, one| Expr::BinaryOp {
                    left: Box::new(all),
                    op: BinaryOperator::And,
                    right: Box::new(one),
                });
                if let Some(all) = all {
                    *by = JoinConstraint::On(all);
                }
                Ok(())
            }
        }
    }

    /// Resolves the name of a USING column. The column must have the same spelling on both sides of
    /// the join.
    fn using(&mut self, column: &mut ObjectName, before: usize) -> Result<()> {
        let at = position(column);
        let Some(ObjectNamePart::Identifier(ident)) = column.0.first_mut() else { return Ok(()) };
        let Some(scope) = self.scopes.innermost() else { return Ok(()) };
        let (left, right) = scope.relations.split_at(before.min(scope.relations.len()));
        let names = |side: &[Relation]| -> Vec<String> {
            side.iter().flat_map(|relation| relation.columns.names.iter().cloned()).collect()
        };
        let open = scope.relations.iter().any(|relation| relation.columns.open);
        let mut spellings: Vec<String> = Vec::new();
        for side in [left, right] {
            let names = names(side);
            match find(&ident.value, names.iter().map(String::as_str)) {
                NameMatch::One(spelling) => spellings.push(spelling.to_owned()),
                NameMatch::None if open => return Ok(()),
                NameMatch::None | NameMatch::Many(_) => {
                    return Err(Error::ColumnNotFound {
                        column: ident.value.clone(),
                        near: nearest(&ident.value, names.iter().map(String::as_str)),
                        relations: side.iter().map(|r| r.label.clone()).collect(),
                        position: at,
                    });
                }
            }
        }
        if spellings[0] != spellings[1] {
            return Err(Error::Invalid {
                message: format!(
                    "a column in USING must be spelled the same on both sides, not `{}` and `{}`",
                    spellings[0], spellings[1]
                ),
                hint: Some("Join with ON instead.".to_owned()),
                position: at,
            });
        }
        spell(ident, &spellings[0]);
        Ok(())
    }

    pub(crate) fn factor(&mut self, factor: &mut TableFactor) -> Result<()> {
        self.rotate(factor)?;
        let series = series::rewrite(factor);
        self.add_factor(factor)?;
        if let (Some(scope), Some(label)) = (self.scopes.innermost(), series) {
            scope.series.push(label);
        }
        Ok(())
    }

    /// Resolves the names in a relation, and adds the relation to the current scope.
    fn add_factor(&mut self, factor: &mut TableFactor) -> Result<()> {
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
                    // Hide the current scope, because only a lateral subquery can refer to earlier
                    // relations of the same FROM.
                    let here = self.scopes.0.pop();
                    let columns = self.query(subquery);
                    self.scopes.0.extend(here);
                    columns?
                };
                self.add(alias.as_ref(), UNNAMED, columns);
                Ok(())
            }
            TableFactor::UNNEST { alias, array_exprs, .. } => {
                self.all(array_exprs)?;
                self.add(alias.as_ref(), "unnest", RelationColumns::unknown());
                Ok(())
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                self.nested(table_with_joins, alias.as_ref())
            }
            _ => Ok(()),
        }
    }

    fn nested(&mut self, from: &mut TableWithJoins, alias: Option<&TableAlias>) -> Result<()> {
        let before = self.scopes.innermost().map_or(0, |scope| scope.relations.len());
        self.from(from)?;
        if let (Some(scope), Some(alias)) = (self.scopes.innermost(), alias) {
            if scope.careful && scope.merged.iter().any(|merged| merged.holders.contains(&before)) {
                return Err(using_clause::refused());
            }
            scope.merged.retain(|merged| merged.holders.iter().all(|holder| *holder < before));
            let mut columns = RelationColumns::default();
            for relation in scope.relations.split_off(before) {
                columns.extend(&relation.columns);
            }
            self.add(Some(alias), "", columns);
        }
        Ok(())
    }

    fn function_relation(&mut self, name: &ObjectName, alias: Option<&TableAlias>) {
        self.add(alias, &name.to_string(), RelationColumns::unknown());
    }

    /// Adds a relation to the current scope, under its alias or its own name.
    fn add(&mut self, alias: Option<&TableAlias>, own: &str, columns: RelationColumns) {
        let label = alias.map_or_else(|| own.to_owned(), |alias| alias.name.value.clone());
        let names = alias.into_iter().flat_map(|alias| &alias.columns);
        let columns = columns.renamed(names.map(|column| column.name.value.clone()));
        if let Some(scope) = self.scopes.innermost() {
            scope.relations.push(Relation { label, paths: Vec::new(), columns });
        }
    }

    fn table(&mut self, name: &mut ObjectName, alias: &mut Option<TableAlias>) -> Result<()> {
        let written = ParsedTableName::of(name)?;
        if written.namespace.is_none()
            && written.is_here()
            && let Some((spelling, columns)) = self.cte(&written.name)
        {
            if let Some(ObjectNamePart::Identifier(ident)) = name.0.first_mut() {
                spell(ident, &spelling);
            }
            self.add(alias.as_ref(), &spelling, columns);
            return Ok(());
        }
        let Some(found) = self.tables.get(&written).cloned() else {
            return Err(Error::Internal {
                message: format!("table `{written}` was not resolved before planning"),
            });
        };
        let span = name.0.first().and_then(|p| p.as_ident()).map_or_else(Span::empty, |i| i.span);
        let quoted = |value: &str| Ident::with_quote_and_span('"', span, value);
        *name = ObjectName::from(vec![quoted(&found.source), quoted(&found.label)]);
        let mut columns = RelationColumns::known(found.columns.clone());
        columns.hidden.clone_from(&found.hidden);
        if alias.is_some() {
            self.add(alias.as_ref(), &found.label, columns);
            return Ok(());
        }
        let Some(scope) = self.scopes.innermost() else { return Ok(()) };
        let taken = scope.relations.iter().any(|relation| relation.label == found.label);
        let full = format!("{}.{}", found.namespace, found.label);
        let label = if taken { full } else { found.label.clone() };
        *alias = Some(TableAlias {
            explicit: true,
            name: quoted(&label),
            columns: Vec::new(),
            at: None,
        });
        let path = |namespace: Option<&str>, name: &str| {
            let levels = namespace.into_iter().flat_map(headwater_model::name::levels);
            levels.chain([name]).map(str::to_owned).collect()
        };
        let namespace = Some(&*found.namespace);
        let paths = vec![
            path(namespace, &found.label),
            path(None, &found.label),
            path(None, &found.name),
            path(namespace, &found.name),
        ];
        scope.relations.push(Relation { label, paths, columns });
        Ok(())
    }

    /// Returns the innermost common table expression with this name.
    fn cte(&self, written: &str) -> Option<(String, RelationColumns)> {
        let exact = self.ctes.iter().rev().find(|(name, _)| name == written);
        let without_case =
            || self.ctes.iter().rev().find(|(name, _)| equals_ignoring_case(name, written));
        exact.or_else(without_case).cloned()
    }
}
