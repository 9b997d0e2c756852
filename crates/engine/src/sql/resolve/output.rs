//! The names under which a statement answers.
//!
//! DataFusion makes up a name for an expression without an alias: `sum(flights.delay)`, `Int64(1)`.
//! The answer carries what the person wrote instead. The plan keeps its own names, so that nothing
//! in it depends on this.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::{Expr, SelectItem, SetExpr};

use super::function_name;
use super::projection::{column_under, text};

/// What is known of one item of the select list.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    /// One column of this name.
    Named(String),
    /// One column whose name stands.
    Kept,
    /// One column of this name, or several.
    Expands(String),
    /// Any number of columns.
    Many,
}

/// The names of an answer, item by item of the first select list.
#[derive(Debug, Clone, Default)]
pub(crate) struct OutputNames(Vec<Item>);

impl OutputNames {
    /// Takes the texts of a select list down, before its names are resolved.
    pub(super) fn as_written(body: &SetExpr) -> Self {
        let item = |item: &SelectItem| match item {
            SelectItem::UnnamedExpr(expr) if expands(expr) => Item::Expands(text(expr)),
            SelectItem::UnnamedExpr(expr) => Item::Named(text(expr)),
            SelectItem::ExprWithAlias { .. } => Item::Kept,
            _ => Item::Many,
        };
        OutputNames(projection(body).iter().map(item).collect())
    }

    /// Names columns, and casts of columns, as the schema spells them.
    pub(super) fn spelled(mut self, body: &SetExpr) -> Self {
        let resolved = projection(body);
        // Where `*` was written out, what stands after it is counted from the end.
        let many = self.0.iter().position(|item| *item == Item::Many).unwrap_or(self.0.len());
        let more = resolved.len().saturating_sub(self.0.len());
        for (place, item) in self.0.iter_mut().enumerate() {
            let place = if place > many { place + more } else { place };
            if more > 0 && *item == Item::Many {
                continue;
            }
            let Some(resolved) = resolved.get(place) else { continue };
            match resolved {
                SelectItem::UnnamedExpr(expr) => {
                    if let (Item::Named(name), Some(column)) = (item, column_under(expr)) {
                        name.clone_from(&column.value);
                    }
                }
                // A repeated expression was given an alias.
                SelectItem::ExprWithAlias { .. } => *item = Item::Kept,
                _ => {}
            }
        }
        self
    }

    /// The schema under these names.
    pub(crate) fn apply(&self, schema: &Schema) -> SchemaRef {
        let count = schema.fields().len();
        let many = |item: &Item| match item {
            Item::Many => true,
            Item::Expands(_) => self.0.len() != count,
            Item::Named(_) | Item::Kept => false,
        };
        let first = self.0.iter().position(many);
        let last = self.0.iter().rposition(many).map(|place| self.0.len() - place - 1);
        let (head, tail) = match (first, last) {
            (Some(head), Some(tail)) if head + tail <= count => (head, tail),
            (None, None) if self.0.len() == count => (count, 0),
            _ => return Arc::new(schema.clone()),
        };
        let mut fields: Vec<FieldRef> = schema.fields().to_vec();
        let places = (0..head).chain(count - tail..count);
        let items = self.0[..head].iter().chain(&self.0[self.0.len() - tail..]);
        for (place, item) in places.zip(items) {
            if let Item::Named(name) | Item::Expands(name) = item {
                let field = Field::clone(&fields[place]).with_name(name);
                fields[place] = Arc::new(field);
            }
        }
        Arc::new(Schema::new_with_metadata(Fields::from(fields), schema.metadata().clone()))
    }
}

/// The first select list of a query's body.
fn projection(body: &SetExpr) -> &[SelectItem] {
    match body {
        SetExpr::Select(select) => &select.projection,
        SetExpr::Query(query) => projection(&query.body),
        SetExpr::SetOperation { left, .. } => projection(left),
        _ => &[],
    }
}

/// Whether an expression can become several columns.
fn expands(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(function) if function_name(function).starts_with("unnest"))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;

    fn check(items: &[Item], fields: &[&str], expected: &[&str]) {
        let fields: Vec<_> =
            fields.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect();
        let renamed = OutputNames(items.to_vec()).apply(&Schema::new(fields));
        let names: Vec<&str> = renamed.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn names_are_put_where_their_place_is_known() {
        let named = |name: &str| Item::Named(name.to_owned());
        check(&[named("a"), Item::Kept, named("c")], &["x", "y", "z"], &["a", "y", "c"]);
        check(&[named("a"), Item::Many, named("c")], &["x", "y", "z", "w"], &["a", "y", "z", "c"]);
        check(&[Item::Many, named("b"), Item::Many], &["x", "y", "z"], &["x", "y", "z"]);
        check(&[named("a")], &["x", "y"], &["x", "y"]);
        let unnest = Item::Expands("u".to_owned());
        check(&[unnest.clone(), Item::Kept], &["x", "y"], &["u", "y"]);
        check(&[unnest, named("b")], &["x", "y", "z"], &["x", "y", "b"]);
    }
}
