//! The names that DataFusion generates for the columns of a query. DataFusion rejects a query with
//! equal names, so the resolver finds equal names first and adds aliases.

use headwater_sql::expression::{ExpressionNode, children};
use sqlparser::ast::{Expr, ObjectNamePart, Value, ValueWithSpan};

use crate::function_name;

/// The name that DataFusion generates for the column of an expression: the text of the expression
/// without casts and parentheses.
pub(crate) struct GeneratedName {
    /// The name with the qualifiers of the columns.
    qualified: String,
    /// The name without qualifiers.
    bare: String,
}

impl GeneratedName {
    /// Returns the name of an expression.
    pub(crate) fn of(expr: &Expr) -> Self {
        let mut expr = expr.clone();
        simplify(&mut expr);
        let qualified = expr.to_string();
        remove_qualifiers(&mut expr);
        GeneratedName { qualified, bare: expr.to_string() }
    }

    /// Returns true if the generated names may be equal. A column that is written without a
    /// qualifier gets the qualifier of its table in the name.
    pub(crate) fn is_same(&self, other: &GeneratedName) -> bool {
        let is_bare = |name: &GeneratedName| name.qualified == name.bare;
        self.qualified == other.qualified
            || self.bare == other.bare && (is_bare(self) || is_bare(other))
    }
}

/// Removes the parts of an expression that are not part of the generated name.
fn simplify(expr: &mut Expr) {
    while let Expr::Cast { expr: inner, .. }
    | Expr::AtTimeZone { timestamp: inner, .. }
    | Expr::Nested(inner) = &mut *expr
    {
        let inner = std::mem::replace(&mut **inner, Expr::value(Value::Null));
        *expr = inner;
    }
    match &mut *expr {
        // DataFusion treats a literal such as `DATE '2026-01-01'` as a cast, and a cast is not part
        // of the name.
        Expr::TypedString(literal) => {
            let value = literal.value.clone();
            *expr = Expr::Value(value);
        }
        // Different notations of one number have the same name: `0.10` and `0.1`.
        Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => {
            if digits.contains(['.', 'e', 'E'])
                && let Ok(number) = digits.parse::<f64>()
            {
                *digits = number.to_string();
            }
        }
        Expr::Function(function) => {
            let name = function_name(function);
            if let [ObjectNamePart::Identifier(ident)] = function.name.0.as_mut_slice() {
                ident.value = name;
            }
        }
        _ => {}
    }
    for_each_child(expr, simplify);
}

fn remove_qualifiers(expr: &mut Expr) {
    if let Expr::CompoundIdentifier(idents) = &mut *expr
        && let Some(last) = idents.pop()
    {
        *expr = Expr::Identifier(last);
    }
    for_each_child(expr, remove_qualifiers);
}

fn for_each_child(expr: &mut Expr, change: fn(&mut Expr)) {
    // Ignore an unsupported part: the resolver visits the expression too, and reports the error.
    let _ = children(expr, &mut |node| {
        if let ExpressionNode::Expr(inner) = node {
            change(inner);
        }
        Ok(())
    });
}

#[cfg(test)]
mod tests {
    use sqlparser::dialect::GenericDialect;
    use sqlparser::parser::Parser;

    use super::*;

    fn name(sql: &str) -> GeneratedName {
        let parser = Parser::new(&GenericDialect).try_with_sql(sql);
        GeneratedName::of(&parser.expect("tokens").parse_expr().expect(sql))
    }

    #[test]
    fn casts_parentheses_and_letter_case_do_not_distinguish_names() {
        for (one, other) in [
            ("0.1 + 0.2", "0.1::float8 + 0.20"),
            ("(1 + 2) * 3", "1 + 2 * 3"),
            ("abs(CAST(a AS INT))", "ABS(a)"),
            ("sum(a)", "sum((a)::double)"),
            ("a::text IS NOT NULL", "a IS NOT NULL"),
            ("DATE '2026-01-01'", "'2026-01-01'"),
            ("a + 1", "t.a + 1"),
        ] {
            assert!(name(one).is_same(&name(other)), "{one}, {other}");
        }
        for (one, other) in [("t.a + 1", "u.a + 1"), ("a + 1", "b + 1"), ("abs(a)", "a")] {
            assert!(!name(one).is_same(&name(other)), "{one}, {other}");
        }
    }
}
