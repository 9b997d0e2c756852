//! Prepared statements in SQL: `PREPARE name AS query` and `EXECUTE name (value, …)`. SQL and the
//! extended protocol use the same set of statements: each can execute statements of the other.

use bytes::Bytes;
use headwater_model::{ErrorCode, Problem};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use crate::backend_message::{ReplyWriter, ResultColumn};
use crate::frontend_message::{Bind, Parse};
use crate::parameter_inference::pg_type;
use crate::session::{MessageResult, Portal, PortalProgress, Session, StatementAction};
use crate::session_command::{SessionCommand, StatementWords, unquoted};
use crate::simple_query::missing;

/// The name of the portal of EXECUTE. It contains a zero byte, so clients cannot use this name.
const PORTAL: &str = "\0execute";

/// `PREPARE name (type, …) AS query`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrepareStatement {
    name: String,
    types: Vec<String>,
    sql: String,
}

impl PrepareStatement {
    /// Parses the words after PREPARE; `None` if the statement is not complete.
    pub fn parse(words: &mut StatementWords<'_>) -> Option<Self> {
        let name = words.name()?;
        let mut types = Vec::new();
        let mut word = words.next()?;
        if word == "(" {
            types = list(words)?.into_iter().map(|words| words.join(" ")).collect();
            word = words.next()?;
        }
        let sql = words.rest().trim().to_owned();
        (word.eq_ignore_ascii_case("as") && !sql.is_empty()).then_some(PrepareStatement {
            name,
            types,
            sql,
        })
    }
}

/// `EXECUTE name (value, …)`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecuteStatement {
    /// The name of the statement.
    pub name: String,
    /// The values; `None` for null.
    values: Vec<Option<String>>,
}

impl ExecuteStatement {
    /// Parses the words after EXECUTE; `None` if the statement is not complete.
    ///
    /// Errors: `unsupported_statement` for a value that is not a literal.
    pub fn parse(words: &mut StatementWords<'_>) -> Option<Result<Self, Problem>> {
        let name = words.name()?;
        let values = match words.next() {
            None | Some(";") => Vec::new(),
            Some("(") => list(words)?,
            Some(_) => return None,
        };
        let values = values.iter().map(|words| literal(words)).collect::<Result<Vec<_>, Problem>>();
        Some(values.map(|values| ExecuteStatement { name, values }))
    }
}

/// Returns the words of each item of a list in parentheses, whose first parenthesis is read
/// already; `None` if the list has no end.
fn list<'a>(words: &mut StatementWords<'a>) -> Option<Vec<Vec<&'a str>>> {
    let (mut items, mut item, mut depth) = (Vec::new(), Vec::new(), 0_usize);
    loop {
        let word = words.next()?;
        match word {
            ")" if depth == 0 => break,
            "," if depth == 0 => {
                items.push(std::mem::take(&mut item));
                continue;
            }
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        item.push(word);
    }
    if !item.is_empty() {
        items.push(item);
    }
    Some(items)
}

/// Returns the text of a literal such as `5`, `'a'`, `DATE '2026-01-01'` or `'1'::int`; `None` for
/// null.
fn literal(words: &[&str]) -> Result<Option<String>, Problem> {
    let is_text = |word: &str| word.starts_with('\'');
    let is_number = |word: &str| word.parse::<f64>().is_ok();
    let is_constant = |word: &str| {
        is_text(word) || is_number(word) || word.parse::<bool>().is_ok() || is_null(word)
    };
    let word = match words {
        [_, word] if is_text(word) => *word,
        [word] | [word, ":", ":", ..] if is_constant(&word.to_ascii_lowercase()) => *word,
        other => {
            let message = format!("`{}` as a value of EXECUTE is not supported", other.join(" "));
            return Err(Problem::new(ErrorCode::UnsupportedStatement, message)
                .with_hint("Write a number, a string in quotes, `true`, `false` or `NULL`."));
        }
    };
    Ok((!is_null(word)).then(|| unquoted(word)))
}

fn is_null(word: &str) -> bool {
    word.eq_ignore_ascii_case("null")
}

/// Returns the OID of a type; 0 for a type that the server infers.
fn oid(name: &str) -> u32 {
    let parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(name).ok();
    let data_type = parser.and_then(|mut parser| parser.parse_data_type().ok());
    data_type
        .and_then(|data_type| pg_type(&data_type))
        .map_or(0, headwater_postgres_catalog::PgType::oid)
}

impl Session {
    /// Executes PREPARE.
    pub(crate) async fn prepare_text(
        &mut self,
        text: PrepareStatement,
    ) -> MessageResult<&'static str> {
        let PrepareStatement { name, types, sql } = text;
        if SessionCommand::parse(&sql).is_some() {
            let message = "PREPARE takes a query, INSERT, UPDATE, DELETE or MERGE";
            return Err(Problem::new(ErrorCode::InvalidSql, message).into());
        }
        let types = types.iter().map(|name| oid(name)).collect();
        Box::pin(self.prepare(Parse { name, sql, types })).await?;
        Ok("PREPARE")
    }

    /// Executes EXECUTE, and sends the rows and the tag of the prepared statement.
    pub(crate) async fn execute_text(&mut self, text: ExecuteStatement) -> MessageResult {
        let values = text.values.into_iter().map(|value| value.map(Bytes::from)).collect();
        self.portals.remove(PORTAL);
        self.bind_portal(Bind {
            portal: PORTAL.to_owned(),
            statement: text.name,
            formats: Vec::new(),
            values,
            results: Vec::new(),
        })?;
        let is_sql = matches!(self.portal(PORTAL)?.action, StatementAction::Sql(_));
        let sent = if is_sql {
            Box::pin(self.run_portal(PORTAL, u64::MAX)).await.map(drop)
        } else {
            Ok(())
        };
        let portal = self.portals.remove(PORTAL);
        sent?;
        let Some(Portal { progress: PortalProgress::Complete(tag), .. }) = portal else {
            let message = "EXECUTE takes a statement that was prepared from a query or write";
            return Err(Problem::new(ErrorCode::UnsupportedStatement, message).into());
        };
        self.wire.output.complete(&tag);
        Ok(())
    }

    /// Returns the columns of a prepared statement; `None` if it returns no rows.
    pub(crate) fn prepared_columns(
        &self,
        name: &str,
    ) -> Result<Option<Vec<ResultColumn>>, Problem> {
        let statement = self.statements.get(name);
        let statement = statement.ok_or_else(|| missing("prepared statement", name))?;
        Ok(statement.columns.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(sql: &str) -> Option<Result<SessionCommand, Problem>> {
        SessionCommand::parse(sql)
    }

    #[test]
    fn statements_are_prepared_with_types() {
        let expected = |types: &[&str]| {
            Some(Ok(SessionCommand::Prepare(PrepareStatement {
                name: "p".to_owned(),
                types: types.iter().map(|name| (*name).to_owned()).collect(),
                sql: "SELECT $1".to_owned(),
            })))
        };
        assert_eq!(parsed("PREPARE p AS SELECT $1"), expected(&[]));
        let sql = "prepare P (int, numeric(10, 2)) as SELECT $1";
        assert_eq!(parsed(sql), expected(&["int", "numeric ( 10 , 2 )"]));
        assert!(matches!(parsed("PREPARE p"), Some(Err(_))));
        assert_eq!(oid("int"), 23);
        assert_eq!(oid("numeric ( 10 , 2 )"), 1700);
        assert_eq!(oid("unknown"), 0);
    }

    #[test]
    fn values_are_literals() {
        let sql = "EXECUTE p (1, -2.5, 'it''s', NULL, true, DATE '2026-01-01', '7'::int);";
        let values = ["1", "-2.5", "it's", "", "true", "2026-01-01", "7"];
        let values = values.map(|text| Some(text.to_owned()).filter(|text| !text.is_empty()));
        let expected = ExecuteStatement { name: "p".to_owned(), values: values.to_vec() };
        assert_eq!(parsed(sql), Some(Ok(SessionCommand::Execute(expected))));
        let expected = ExecuteStatement { name: "p".to_owned(), values: Vec::new() };
        assert_eq!(parsed("EXECUTE p"), Some(Ok(SessionCommand::Execute(expected))));
        for sql in ["EXECUTE p (1 + 1)", "EXECUTE p (now())", "EXECUTE p (id)"] {
            assert!(matches!(parsed(sql), Some(Err(_))), "{sql}");
        }
    }
}
