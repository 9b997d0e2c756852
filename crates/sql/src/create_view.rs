//! Converts sqlparser's CREATE VIEW to a [`CreateViewStatement`].

use sqlparser::ast::{CreateTableOptions, CreateView, Ident, ObjectName};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use crate::error::{Error, Result};
use crate::table_references::inspect;
use crate::unsupported_clauses::{empty, none, unset};
use headwater_sql_tokens::is_keyword;

/// A CREATE VIEW statement.
#[derive(Debug)]
pub struct CreateViewStatement {
    /// The view's name.
    pub name: ObjectName,
    /// True with OR REPLACE.
    pub or_replace: bool,
    /// True with IF NOT EXISTS.
    pub if_not_exists: bool,
    /// The listed column names; empty without a list.
    pub columns: Vec<Ident>,
    /// The query as text.
    pub sql: String,
}

/// Converts a CREATE VIEW. An unsupported part is an error that names the part.
pub fn new_view(create: CreateView, sql: Option<String>) -> Result<CreateViewStatement> {
    let CreateView {
        or_alter,
        or_replace,
        materialized,
        secure,
        name,
        name_before_not_exists: _,
        columns,
        mut query,
        options,
        cluster_by,
        comment,
        with_no_schema_binding,
        if_not_exists,
        temporary,
        copy_grants,
        to,
        params,
    } = create;
    unset(or_alter, "CREATE OR ALTER VIEW")?;
    unset(materialized, "CREATE MATERIALIZED VIEW")?;
    unset(secure, "CREATE SECURE VIEW")?;
    unset(temporary, "CREATE TEMPORARY VIEW")?;
    if options != CreateTableOptions::None {
        return Err(Error::unsupported("WITH (…) or OPTIONS (…) in CREATE VIEW"));
    }
    empty(&cluster_by, "CLUSTER BY in CREATE VIEW")?;
    none(comment.as_ref(), "COMMENT in CREATE VIEW")?;
    unset(with_no_schema_binding, "WITH NO SCHEMA BINDING")?;
    unset(copy_grants, "COPY GRANTS")?;
    none(to.as_ref(), "TO in CREATE VIEW")?;
    none(params.as_ref(), "ALGORITHM, DEFINER or SQL SECURITY in CREATE VIEW")?;
    if let Some(column) =
        columns.iter().find(|column| column.data_type.is_some() || column.options.is_some())
    {
        let what = format!("a type or an option of the column `{column}` in CREATE VIEW");
        return Err(Error::unsupported(what));
    }
    inspect(&mut query)?;
    let lost = || Error::Internal { message: "the text of the view was lost".to_owned() };
    let columns = columns.into_iter().map(|column| column.name).collect();
    Ok(CreateViewStatement { name, or_replace, if_not_exists, columns, sql: sql.ok_or_else(lost)? })
}

/// Returns the query text of a valid CREATE VIEW: the text after AS.
pub fn text_of_query(sql: &str, tokens: &[TokenWithSpan]) -> Option<String> {
    let is_end = |token: &Token| matches!(token, Token::SemiColon | Token::EOF);
    let mut words = tokens.iter().skip_while(|word| !is_keyword(&word.token, Keyword::VIEW));
    let mut depth = 0_usize;
    words.find(|word| {
        match word.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && is_keyword(&word.token, Keyword::AS)
    })?;
    let mut query = words.filter(|word| !is_end(&word.token));
    let first = query.next()?;
    let last = query.last().unwrap_or(first);
    let text = sql.get(offset(sql, first.span.start)?..offset(sql, last.span.end)?)?;
    Some(text.to_owned())
}

/// Returns the byte offset of a location in a text.
pub fn offset(sql: &str, place: Location) -> Option<usize> {
    let mut line_start = 0;
    for _ in 1..place.line {
        line_start += sql[line_start..].find('\n')? + 1;
    }
    let column = usize::try_from(place.column).ok()?.checked_sub(1)?;
    let rest = &sql[line_start..];
    Some(line_start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at))
}

/// Returns the text of a query that renames the columns of the query `sql`.
pub fn renamed(sql: &str, names: &[Ident]) -> String {
    let quoted = names.iter().map(|name| format!("\"{}\"", name.value.replace('"', "\"\"")));
    let columns = quoted.collect::<Vec<_>>().join(", ");
    format!("SELECT {columns} FROM (\n{sql}\n) AS \"q\" ({columns})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{parser, tokens};

    fn check(sql: &str, expected: &str) {
        let tokens = parser(tokens(sql).unwrap()).into_tokens();
        assert_eq!(text_of_query(sql, &tokens).as_deref(), Some(expected), "`{sql}`");
    }

    #[test]
    fn a_view_keeps_its_query_as_it_was_written() {
        check("CREATE VIEW v AS SELECT 1", "SELECT 1");
        check(
            "create or replace view ns.v (\"as\", b)\nas\n  SELECT 'it''s; ä', \"x\" -- why\n  FROM t ; ",
            "SELECT 'it''s; ä', \"x\" -- why\n  FROM t",
        );
        check(
            "CREATE VIEW v AS WITH a AS (SELECT 1) SELECT * FROM a;",
            "WITH a AS (SELECT 1) SELECT * FROM a",
        );
        check("CREATE VIEW v AS FROM t AT BRANCH dev;", "FROM t AT BRANCH dev");
    }
}
