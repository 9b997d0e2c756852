//! Output names of a query.
//!
//! DataFusion generates a name for an expression without an alias, such as `sum(flights.delay)` or
//! `Int64(1)`. In the result, such a column has the text of the query as its name. Only the result
//! is renamed; the plan keeps the generated names.

use sqlparser::ast::{Expr, SelectItem, SetExpr};

use crate::function_name;
use crate::ordered_casts::cast_column;
use crate::select_list::{column_under, text};
use crate::wildcards::is_pattern;

/// Output name of one item of the select list.
#[derive(Debug, Clone, PartialEq, Eq)]
enum OutputName {
    /// An expression without an alias, which is one column with this text as its name.
    Named(String),
    /// One column with this name, which another column also has. In the plan, it has a different,
    /// unique name.
    Repeated(String),
    /// An item that is one column with this alias.
    Aliased(String),
    /// One column that keeps the name that the planner gives it.
    Kept,
    /// An expression that may expand to several columns. If the expression is one column, this text
    /// is the column's name.
    Expands(String),
    /// An item, such as a wildcard, that expands to any number of columns. Each column keeps the
    /// name that the planner gives it.
    Many,
}

impl OutputName {
    /// Returns the output name of this item if the resolver has given its expression the name
    /// `alias` in the plan.
    fn renamed(&self, expr: &Expr, alias: &str) -> OutputName {
        match self {
            // The resolver renames an alias only if another column has the same name.
            OutputName::Aliased(written) if written != alias => OutputName::Named(written.clone()),
            OutputName::Named(text) | OutputName::Expands(text) => {
                let is_numbered = |name: &&String| {
                    let number = alias.strip_prefix(name.as_str());
                    let number = number.and_then(|rest| rest.strip_prefix('_'));
                    number.is_some_and(|number| number.parse::<u64>().is_ok())
                };
                let column = column_under(expr).map(|column| &column.value);
                let mut names = column.into_iter().chain([text]);
                let name = names.find(is_numbered);
                name.map_or(OutputName::Kept, |name| OutputName::Repeated(name.clone()))
            }
            _ => OutputName::Kept,
        }
    }
}

/// Output names of a query, one for each item of its first select list.
#[derive(Debug, Clone, Default)]
pub struct OutputNames(Vec<OutputName>);

impl OutputNames {
    /// Records the texts of a select list, before its names are resolved.
    pub(crate) fn as_written(body: &SetExpr) -> Self {
        let item = |item: &SelectItem| match item {
            item if is_pattern(item) => OutputName::Many,
            SelectItem::UnnamedExpr(expr) if expands(expr) => OutputName::Expands(text(expr)),
            SelectItem::UnnamedExpr(expr) => OutputName::Named(
                cast_column(expr).map_or_else(|| text(expr), |column| column.value.clone()),
            ),
            SelectItem::ExprWithAlias { alias, .. } => OutputName::Aliased(alias.value.clone()),
            _ => OutputName::Many,
        };
        OutputNames(projection(body).iter().map(item).collect())
    }

    /// Changes the names of columns, and of casts of columns, to the spelling of the schema.
    pub(crate) fn spelled(mut self, body: &SetExpr) -> Self {
        let resolved = projection(body);
        self.expand_wildcards(resolved);
        // If a `*` was expanded, the resolved list has more items, and the items after the `*` have
        // moved by the number of added items.
        let many = self.0.iter().position(|item| *item == OutputName::Many).unwrap_or(self.0.len());
        let more = resolved.len().saturating_sub(self.0.len());
        for (place, item) in self.0.iter_mut().enumerate() {
            let place = if place > many { place + more } else { place };
            if more > 0 && *item == OutputName::Many {
                continue;
            }
            let Some(resolved) = resolved.get(place) else { continue };
            match resolved {
                SelectItem::UnnamedExpr(expr) => {
                    if let (OutputName::Named(name), Some(column)) = (item, column_under(expr)) {
                        name.clone_from(&column.value);
                    }
                }
                // The resolver has given the item an alias, for example because the expression is
                // repeated.
                SelectItem::ExprWithAlias { expr, alias } => {
                    *item = item.renamed(expr, &alias.value);
                }
                _ => {}
            }
        }
        self
    }

    /// Replaces repeated wildcards by their columns, if the resolver has expanded them.
    fn expand_wildcards(&mut self, resolved: &[SelectItem]) {
        let is_many = |item: &OutputName| *item == OutputName::Many;
        let is_wildcard = |item: &SelectItem| {
            matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
        };
        let (first, last) = (self.0.iter().position(is_many), self.0.iter().rposition(is_many));
        let (Some(first), Some(last)) = (first, last) else { return };
        let tail = self.0.len() - last - 1;
        if first == last || resolved.iter().any(is_wildcard) || resolved.len() < first + tail {
            return;
        }
        let written = self.0.drain(first..=last).collect::<Vec<_>>();
        let item = |item: &SelectItem| match item {
            SelectItem::ExprWithAlias { alias, .. }
                if written.contains(&OutputName::Aliased(alias.value.clone())) =>
            {
                OutputName::Aliased(alias.value.clone())
            }
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                column_under(expr)
                    .map_or(OutputName::Kept, |column| OutputName::Named(column.value.clone()))
            }
            _ => OutputName::Kept,
        };
        let columns = resolved[first..resolved.len() - tail].iter().map(item).collect::<Vec<_>>();
        self.0.splice(first..first, columns);
    }

    /// Returns the names for a result that becomes a table or view. To make the names of columns
    /// without an alias unique, a repeated name keeps the number that it has in the plan, as in
    /// `id_2`.
    #[must_use]
    pub fn of_relation(mut self) -> Self {
        for item in &mut self.0 {
            if matches!(item, OutputName::Repeated(_)) {
                *item = OutputName::Kept;
            }
        }
        self
    }

    /// Returns the name of each output column; `None` for a column that keeps the planner's name.
    pub fn of_columns(&self, count: usize) -> Vec<Option<&str>> {
        let many = |item: &OutputName| match item {
            OutputName::Many => true,
            OutputName::Expands(_) => self.0.len() != count,
            _ => false,
        };
        let first = self.0.iter().position(many);
        let last = self.0.iter().rposition(many).map(|place| self.0.len() - place - 1);
        let mut names = vec![None; count];
        let (head, tail) = match (first, last) {
            (Some(head), Some(tail)) if head + tail <= count => (head, tail),
            (None, None) if self.0.len() == count => (count, 0),
            _ => return names,
        };
        let places = (0..head).chain(count - tail..count);
        let items = self.0[..head].iter().chain(&self.0[self.0.len() - tail..]);
        for (place, item) in places.zip(items) {
            if let OutputName::Named(name)
            | OutputName::Repeated(name)
            | OutputName::Expands(name) = item
            {
                names[place] = Some(name.as_str());
            }
        }
        names
    }
}

/// Returns the first select list of a query.
fn projection(body: &SetExpr) -> &[SelectItem] {
    match body {
        SetExpr::Select(select) => &select.projection,
        SetExpr::Query(query) => projection(&query.body),
        SetExpr::SetOperation { left, .. } => projection(left),
        _ => &[],
    }
}

/// Returns true if an expression can expand to several columns.
fn expands(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(function) if function_name(function).starts_with("unnest"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(items: &[OutputName], fields: &[&str], expected: &[&str]) {
        let names = OutputNames(items.to_vec());
        let names = names.of_columns(fields.len());
        let names: Vec<&str> =
            names.into_iter().zip(fields).map(|(name, field)| name.unwrap_or(field)).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn output_names_are_assigned_if_their_position_is_known() {
        let named = |name: &str| OutputName::Named(name.to_owned());
        check(&[named("a"), OutputName::Kept, named("c")], &["x", "y", "z"], &["a", "y", "c"]);
        check(
            &[named("a"), OutputName::Many, named("c")],
            &["x", "y", "z", "w"],
            &["a", "y", "z", "c"],
        );
        check(
            &[OutputName::Many, named("b"), OutputName::Many],
            &["x", "y", "z"],
            &["x", "y", "z"],
        );
        check(&[named("a")], &["x", "y"], &["x", "y"]);
        let repeated = OutputName::Repeated("a".to_owned());
        check(&[OutputName::Many, repeated.clone()], &["a", "b", "a_2"], &["a", "b", "a"]);
        // The resolver has expanded `SELECT *, * FROM t` and given the repeated column a number.
        let mut parser = sqlparser::parser::Parser::new(&sqlparser::dialect::GenericDialect)
            .try_with_sql("SELECT t.a, t.a AS a_2")
            .expect("tokens");
        let expanded = parser.parse_query().expect("a query");
        let names = OutputNames(vec![OutputName::Many; 2]).spelled(&expanded.body);
        assert_eq!(names.0, [named("a"), repeated.clone()]);
        let of_relation = OutputNames(vec![named("a"), repeated]).of_relation();
        assert_eq!(of_relation.of_columns(2), [Some("a"), None]);
        let unnest = OutputName::Expands("u".to_owned());
        check(&[unnest.clone(), OutputName::Kept], &["x", "y"], &["u", "y"]);
        check(&[unnest, named("b")], &["x", "y", "z"], &["x", "y", "b"]);
    }
}
