//! Constants of a session that are written without parentheses, such as `current_user`, and the
//! names of columns that PostgreSQL gives to expressions.

use sqlparser::ast::{Expr, Ident, SelectItem};

use crate::empty_tables::column_name;

/// Constants that the parser treats as names. It treats `current_user`, `session_user`, `user` and
/// `current_catalog` as calls.
const NAMES: [&str; 3] = ["current_schema", "current_catalog", "current_role"];

/// Returns the constant that a name refers to.
pub(crate) fn named(name: &Ident) -> Option<&'static str> {
    let is_same = |constant: &&str| constant.eq_ignore_ascii_case(&name.value);
    NAMES.into_iter().find(is_same).filter(|_| name.quote_style.is_none())
}

/// Returns true if a text in lower case contains the word `user`.
pub(crate) fn has_user(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "user")
}

/// Names columns as PostgreSQL does: a function, cast or constant by its name, any other expression
/// as `?column?`.
pub(crate) fn name_columns(items: &mut [SelectItem]) {
    for item in items {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        let name = match &*expr {
            Expr::Identifier(name) => named(name).map(str::to_owned),
            Expr::CompoundIdentifier(_) => None,
            other => Some(column_name(other)),
        };
        if let Some(name) = name {
            let alias = Ident::with_quote('"', name);
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::translate::{ConnectionProperties, translate};

    fn check(sql: &str, expected: &str) {
        let identity = ConnectionProperties {
            database: "main".into(),
            user: "ann".into(),
            namespace: "public".into(),
            ..ConnectionProperties::default()
        };
        let found = translate(sql, &identity).expect(sql);
        assert_eq!(found.as_ref().map_or(sql, |found| &found.sql), expected);
    }

    #[test]
    fn constants_have_their_names() {
        check(
            "SELECT user, current_user, session_user, current_catalog, current_role",
            "SELECT 'ann' AS \"user\", 'ann' AS \"current_user\", 'ann' AS \"session_user\", \
             'main' AS \"current_catalog\", 'ann' AS \"current_role\"",
        );
        check("select USER", "SELECT 'ann' AS \"user\"");
        check("SELECT Current_Schema", "SELECT 'public' AS \"current_schema\"");
        check(
            "SELECT id, current_user, current_role FROM t WHERE owner = session_user",
            "SELECT id, 'ann' AS \"current_user\", 'ann' AS \"current_role\" FROM t \
             WHERE owner = 'ann'",
        );
    }

    #[test]
    fn a_column_of_a_table_can_have_the_name_user() {
        for sql in ["SELECT user FROM logins", "SELECT \"user\"", "SELECT users FROM t"] {
            check(sql, sql);
        }
        check(
            "SELECT \"current_role\", current_user FROM t",
            "SELECT \"current_role\", 'ann' AS \"current_user\" FROM t",
        );
    }
}
