//! Repeated names in a select list: `SELECT *, id FROM t`, or `SELECT a AS x, b AS x FROM t`.
//!
//! DataFusion rejects a query whose columns have equal names. In the plan, a repeated column
//! therefore has another name, such as `id_2`. In the result, it has the name as written (see
//! [`OutputNames`](crate::OutputNames)).

use headwater_sql::name_match::equals_ignoring_case;
use headwater_sql::table_name::idents;
use sqlparser::ast::{
    Expr, Ident, SelectItem, SelectItemQualifiedWildcardKind, WildcardAdditionalOptions,
};

use crate::Resolver;
use crate::generated_names::GeneratedName;
use crate::name_scope::Relation;
use crate::select_list::{column_under, excluded, output_name};

/// A column that a wildcard selects.
struct WildcardColumn {
    /// The label of the relation that has the column.
    label: String,
    name: String,
}

/// The names in a select list: the names of the columns that all its wildcards select, and the
/// names of the items that have been added so far.
#[derive(Default)]
pub(crate) struct SelectedNames {
    wildcards: Vec<WildcardColumn>,
    /// Labels of the relations in FROM.
    labels: Vec<String>,
    /// Aliases, which are names without a qualifier in the plan.
    aliases: Vec<String>,
    /// Names of the columns that have no alias.
    columns: Vec<String>,
    /// Generated names of the expressions that have no alias.
    generated: Vec<GeneratedName>,
}

impl SelectedNames {
    /// Adds an alias. If another column has this name, returns the alias to use instead.
    pub(crate) fn add_alias(&mut self, name: &str) -> Option<String> {
        if !self.contains(name) {
            self.aliases.push(name.to_owned());
            return None;
        }
        Some(self.add_unused(name))
    }

    /// Adds an expression without an alias, whose text is `text`. If another column has the same
    /// name in the plan, returns the alias that the expression needs.
    pub(crate) fn add_expr(&mut self, expr: &Expr, text: &str) -> Option<String> {
        let name = GeneratedName::of(expr);
        let repeats = self.generated.iter().any(|other| other.is_same(&name));
        let repeats = repeats || self.is_repeated_column(expr);
        self.generated.push(name);
        if repeats {
            let shown = column_under(expr).map_or(text, |column| column.value.as_str());
            return Some(self.add_unused(shown));
        }
        self.columns.extend(self.column_name(expr));
        None
    }

    /// Returns true if `expr` is a column that a wildcard also selects, or whose name is an alias.
    fn is_repeated_column(&self, expr: &Expr) -> bool {
        let path = path_under(expr);
        let is_selected = |selected: &WildcardColumn| match path {
            [column] => selected.name == column.value,
            [label, column] => selected.label == label.value && selected.name == column.value,
            _ => false,
        };
        self.wildcards.iter().any(is_selected)
            || self.column_name(expr).is_some_and(|name| self.aliases.contains(&name))
    }

    /// Returns the name of a column; `None` for other expressions, such as fields of structs.
    fn column_name(&self, expr: &Expr) -> Option<String> {
        let is_field = match expr {
            Expr::CompoundIdentifier(idents) => {
                idents.first().is_some_and(|first| !self.labels.contains(&first.value))
            }
            _ => false,
        };
        output_name(expr).filter(|_| !is_field)
    }

    /// Returns true if a wildcard selects a column with this name.
    pub(crate) fn is_in_wildcard(&self, name: &str) -> bool {
        self.wildcards.iter().any(|selected| equals_ignoring_case(&selected.name, name))
    }

    fn contains(&self, name: &str) -> bool {
        self.wildcards.iter().any(|selected| selected.name == name)
            || self.aliases.iter().chain(&self.columns).any(|other| other == name)
    }

    /// Adds and returns the first of `name_2`, `name_3` and so on that no other column has.
    pub(crate) fn add_unused(&mut self, name: &str) -> String {
        let mut number = 2_u64;
        let mut alias = format!("{name}_{number}");
        while self.contains(&alias) {
            number += 1;
            alias = format!("{name}_{number}");
        }
        self.aliases.push(alias.clone());
        alias
    }

    fn add_wildcard(&mut self, relation: &Relation, options: &WildcardAdditionalOptions) {
        let excluded = excluded(options.opt_exclude.clone(), options.opt_except.clone());
        for name in &relation.columns.names {
            if !excluded.iter().any(|one| equals_ignoring_case(&one.value, name)) {
                let (label, name) = (relation.label.clone(), name.clone());
                self.wildcards.push(WildcardColumn { label, name });
            }
        }
    }
}

impl Resolver<'_> {
    /// Returns the names of the columns that the wildcards of a select list select.
    pub(crate) fn wildcard_names(&mut self, items: &[SelectItem]) -> SelectedNames {
        let mut names = SelectedNames::default();
        let relations = self.scopes.innermost().map(|scope| scope.relations.as_slice());
        let relations = relations.unwrap_or_default().to_vec();
        names.labels.extend(relations.iter().map(|relation| relation.label.clone()));
        for item in items {
            match item {
                SelectItem::Wildcard(options) => {
                    for relation in &relations {
                        names.add_wildcard(relation, options);
                    }
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    options,
                ) => {
                    // Ignore an error here: the caller reports an unknown relation.
                    let path = idents(name).unwrap_or_default();
                    let path: Vec<&str> = path.iter().map(|ident| ident.value.as_str()).collect();
                    if let Ok(relation) = self.scopes.relation(&path, None) {
                        names.add_wildcard(relation, options);
                    }
                }
                _ => {}
            }
        }
        names
    }
}

/// Returns the parts of a column's name, even if casts surround the column; empty for other
/// expressions.
fn path_under(expr: &Expr) -> &[Ident] {
    match expr {
        Expr::Identifier(ident) => std::slice::from_ref(ident),
        Expr::CompoundIdentifier(idents) => idents,
        Expr::Cast { expr: inner, .. }
        | Expr::AtTimeZone { timestamp: inner, .. }
        | Expr::Nested(inner) => path_under(inner),
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use sqlparser::dialect::GenericDialect;
    use sqlparser::parser::Parser;

    use super::*;

    fn add(names: &mut SelectedNames, sql: &str) -> Option<String> {
        let parser = Parser::new(&GenericDialect).try_with_sql(sql);
        names.add_expr(&parser.expect("tokens").parse_expr().expect(sql), sql)
    }

    #[test]
    fn repeated_columns_and_aliases_get_numbers() {
        let mut names = SelectedNames::default();
        let wildcard = |name: &str| WildcardColumn { label: "t".to_owned(), name: name.to_owned() };
        names.wildcards.extend(["id", "id_2", "name"].map(wildcard));
        assert_eq!(add(&mut names, "t.id").as_deref(), Some("id_3"));
        assert_eq!(add(&mut names, "u.id"), None);
        assert_eq!(add(&mut names, "id::text").as_deref(), Some("id_4"));
        assert_eq!(add(&mut names, "count(*)"), None);
        assert_eq!(add(&mut names, "COUNT(*)").as_deref(), Some("COUNT(*)_2"));
        assert_eq!(names.add_alias("total"), None);
        assert_eq!(names.add_alias("total").as_deref(), Some("total_2"));
        assert_eq!(names.add_alias("name").as_deref(), Some("name_2"));
        assert_eq!(add(&mut names, "total").as_deref(), Some("total_3"));
    }
}
