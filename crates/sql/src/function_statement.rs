//! CREATE FUNCTION, DROP FUNCTION and SHOW FUNCTIONS.
//!
//! sqlparser parses the CREATE FUNCTION clauses of other systems. It cannot parse the packages and
//! limits of a function in Python, so this module has its own parser. The clauses are those of
//! Snowflake: `HANDLER`, `PACKAGES` and `RUNTIME_VERSION`.

use std::time::Duration;

use headwater_model::{FUNCTION_MEMORY_BYTES_MIN, parse_duration, parse_size};
use sqlparser::ast::{ColumnDef, ObjectName};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::access_statement::{is_word, listed, takes, takes_all};
use crate::alter_table::expected;
use crate::create_view::offset;
use crate::error::{Error, Result};
use crate::table_name::{namespace_of, position, span_start};
use crate::unsupported_clauses::unset;

/// Maximum number of parameters of a function.
const PARAMETERS_MAX: usize = 64;

/// A statement on functions.
#[derive(Debug, Clone)]
pub enum FunctionStatement {
    /// CREATE FUNCTION.
    Create(Box<CreateFunctionStatement>),
    /// DROP FUNCTION.
    Drop {
        /// Names of the functions.
        names: Vec<ObjectName>,
        /// True with IF EXISTS.
        if_exists: bool,
    },
    /// SHOW FUNCTIONS, optionally in a namespace.
    Show(Option<String>),
}

impl FunctionStatement {
    /// Returns the name of the statement.
    pub fn name(&self) -> &'static str {
        match self {
            FunctionStatement::Create(_) => "CREATE FUNCTION",
            FunctionStatement::Drop { .. } => "DROP FUNCTION",
            FunctionStatement::Show(_) => "SHOW FUNCTIONS",
        }
    }
}

/// A CREATE FUNCTION statement.
#[derive(Debug, Clone)]
pub struct CreateFunctionStatement {
    /// Name of the function.
    pub name: ObjectName,
    /// True with OR REPLACE.
    pub or_replace: bool,
    /// True with IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Names and types of the parameters.
    pub parameters: Vec<ColumnDef>,
    /// The result as a column named `result`; only its type is used.
    pub returns: ColumnDef,
    /// The Python code.
    pub body: String,
    /// The Python function in `body` to call; `None` if it has the name of the SQL function.
    pub handler: Option<String>,
    /// Requirements of packages, such as `numpy` and `pandas>=2,<3`.
    pub packages: Vec<String>,
    /// Python version, such as `3.12`.
    pub python: Option<String>,
    /// Memory limit of an instance, in bytes.
    pub memory_bytes: Option<u64>,
    /// Time limit for the rows of one batch.
    pub timeout: Option<Duration>,
    /// The text of the statement.
    pub sql: String,
}

/// Returns true if the parser is at a statement on functions.
pub(crate) fn is_next(parser: &Parser) -> bool {
    let word = |at: usize, text: &str| is_word(&parser.peek_nth_token_ref(at).token, text);
    let replaces = word(0, "CREATE") && word(1, "OR") && word(2, "REPLACE") && word(3, "FUNCTION");
    replaces
        || ((word(0, "CREATE") || word(0, "DROP")) && word(1, "FUNCTION"))
        || (word(0, "SHOW") && word(1, "FUNCTIONS"))
        || (word(0, "SHOW") && word(1, "USER") && word(2, "FUNCTIONS"))
}

/// Parses a whole statement on functions. `sql` is the text of the script.
pub(crate) fn parse(parser: &mut Parser, sql: &str) -> Result<FunctionStatement> {
    let start = parser.peek_token_ref().clone();
    let statement = if takes(parser, "SHOW") {
        let _ = takes(parser, "USER");
        parser.advance_token();
        let within = takes(parser, "IN") || takes(parser, "FROM");
        FunctionStatement::Show(if within { Some(namespace(parser)?) } else { None })
    } else if takes(parser, "DROP") {
        parser.advance_token();
        let if_exists = takes_all(parser, &["IF", "EXISTS"]);
        let names = listed(parser, dropped)?;
        let _ = takes(parser, "CASCADE") || takes(parser, "RESTRICT");
        FunctionStatement::Drop { names, if_exists }
    } else {
        let new = create(parser)?;
        let text = text_between(sql, &start, parser.get_current_token());
        FunctionStatement::Create(Box::new(CreateFunctionStatement { sql: text, ..new }))
    };
    let _ = parser.consume_token(&Token::SemiColon);
    if parser.peek_token_ref().token != Token::EOF {
        return Err(expected(parser, "the end of the statement").into());
    }
    Ok(statement)
}

fn text_between(sql: &str, first: &TokenWithSpan, last: &TokenWithSpan) -> String {
    let range = offset(sql, first.span.start).zip(offset(sql, last.span.end));
    range.and_then(|(start, end)| sql.get(start..end)).unwrap_or_default().to_owned()
}

fn namespace(parser: &mut Parser) -> Result<String> {
    let _ = takes(parser, "SCHEMA") || takes(parser, "NAMESPACE");
    namespace_of(&parser.parse_object_name(false)?)
}

/// Parses the name of a function to drop. Parameter types after the name are accepted and ignored,
/// because functions cannot be overloaded.
fn dropped(parser: &mut Parser) -> Result<ObjectName> {
    let name = parser.parse_object_name(false)?;
    // Types can have parentheses, as in `DECIMAL(10, 2)`.
    let mut depth = usize::from(parser.consume_token(&Token::LParen));
    while depth > 0 {
        match &parser.peek_token_ref().token {
            Token::EOF => return Err(expected(parser, "`)`").into()),
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        parser.advance_token();
    }
    Ok(name)
}

/// Parses CREATE FUNCTION. Leaves the field `sql` of the result empty; the caller sets it.
fn create(parser: &mut Parser) -> Result<CreateFunctionStatement> {
    parser.advance_token();
    let or_replace = takes_all(parser, &["OR", "REPLACE"]);
    parser.advance_token();
    let if_not_exists = takes_all(parser, &["IF", "NOT", "EXISTS"]);
    unset(or_replace && if_not_exists, "OR REPLACE and IF NOT EXISTS together")?;
    let name = parser.parse_object_name(false)?;
    let parameters = parameters(parser, &name)?;
    expect_word(parser, "RETURNS")?;
    unset(takes(parser, "TABLE") || takes(parser, "SETOF"), "a function that returns a table")?;
    let span = parser.peek_token_ref().span;
    let result = sqlparser::ast::Ident::with_span(span, "result");
    let returns = column(result, parser.parse_data_type()?);
    let mut clauses = FunctionClauses::default();
    while !matches!(parser.peek_token_ref().token, Token::EOF | Token::SemiColon) {
        clauses.take(parser)?;
    }
    let missing = |what: &str, hint: &str| Error::Invalid {
        message: format!("the function `{name}` has no {what}"),
        hint: Some(hint.to_owned()),
        position: position(&name),
    };
    if !clauses.is_python {
        return Err(missing("LANGUAGE", "Add `LANGUAGE python` before AS."));
    }
    let Some(body) = clauses.body else {
        return Err(missing("body", "Add the code: `AS $$ def f(x): … $$`."));
    };
    if parameters.is_empty() {
        let hint = "Add a parameter: the number of its values is the number of rows.";
        return Err(missing("parameter", hint));
    }
    let FunctionClauses { handler, packages, python, memory_bytes, timeout, .. } = clauses;
    Ok(CreateFunctionStatement {
        name,
        or_replace,
        if_not_exists,
        parameters,
        returns,
        body,
        handler,
        packages,
        python,
        memory_bytes,
        timeout,
        sql: String::new(),
    })
}

fn column(name: sqlparser::ast::Ident, data_type: sqlparser::ast::DataType) -> ColumnDef {
    ColumnDef { name, data_type, options: Vec::new() }
}

fn parameters(parser: &mut Parser, function: &ObjectName) -> Result<Vec<ColumnDef>> {
    expect_token(parser, &Token::LParen)?;
    let wrong = |message: String, hint: &str| Error::Invalid {
        message,
        hint: Some(hint.to_owned()),
        position: position(function),
    };
    let mut found: Vec<ColumnDef> = Vec::new();
    if parser.consume_token(&Token::RParen) {
        return Ok(found);
    }
    loop {
        let name = parser.parse_identifier()?;
        let data_type = parser.parse_data_type()?;
        unset(is_word(&parser.peek_token_ref().token, "DEFAULT"), "DEFAULT of a parameter")?;
        if found.iter().any(|other| other.name.value == name.value) {
            let message = format!("there are two parameters named `{}`", name.value);
            return Err(wrong(message, "Give one of them another name."));
        }
        found.push(column(name, data_type));
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    expect_token(parser, &Token::RParen)?;
    if found.len() > PARAMETERS_MAX {
        let message =
            format!("the function has {} parameters (limit {PARAMETERS_MAX})", found.len());
        return Err(wrong(message, "Pass several values as one STRUCT."));
    }
    Ok(found)
}

/// The clauses after the result type, in any order.
#[derive(Default)]
struct FunctionClauses {
    is_python: bool,
    body: Option<String>,
    handler: Option<String>,
    packages: Vec<String>,
    python: Option<String>,
    memory_bytes: Option<u64>,
    timeout: Option<Duration>,
}

impl FunctionClauses {
    fn take(&mut self, parser: &mut Parser) -> Result<()> {
        if takes(parser, "LANGUAGE") {
            self.is_python = language(parser)?;
        } else if takes(parser, "AS") {
            self.body = Some(text(parser, "the code in `$$`")?);
        } else if takes(parser, "HANDLER") {
            self.handler = Some(value(parser)?);
        } else if takes(parser, "RUNTIME_VERSION") {
            self.python = Some(value(parser)?);
        } else if takes(parser, "PACKAGES") {
            self.packages = packages(parser)?;
        } else if takes(parser, "MEMORY") {
            let size = value(parser)?;
            let bytes = parse_size(&size).map_err(|reason| invalid(&size, reason))?;
            if bytes < FUNCTION_MEMORY_BYTES_MIN {
                let reason = "MEMORY must be at least 16 MiB; write a unit, as in `256MiB`";
                return Err(invalid(&size, reason));
            }
            self.memory_bytes = Some(bytes);
        } else if takes(parser, "TIMEOUT") {
            let time = value(parser)?;
            let timeout = parse_duration(&time).map_err(|reason| invalid(&time, reason))?;
            if timeout.is_zero() {
                return Err(invalid(&time, "TIMEOUT must be longer than 0"));
            }
            self.timeout = Some(timeout);
        } else if !Self::parse_ignored_clause(parser)? {
            return Err(expected(parser, "a clause of CREATE FUNCTION").into());
        }
        Ok(())
    }

    /// Consumes a clause that has no effect, and rejects the known clauses of other systems by
    /// name. Returns false for an unknown clause.
    fn parse_ignored_clause(parser: &mut Parser) -> Result<bool> {
        let called: &[&str] = &["CALLED", "ON", "NULL", "INPUT"];
        let ignored = [&["IMMUTABLE"], &["STABLE"], &["VOLATILE"], called];
        if ignored.iter().any(|words| takes_all(parser, words)) {
            return Ok(true);
        }
        for (words, name) in [
            (&["STRICT"][..], "STRICT"),
            (&["RETURNS", "NULL"], "RETURNS NULL ON NULL INPUT"),
            (&["RETURN"], "an SQL expression in CREATE FUNCTION"),
            (&["BEGIN"], "an SQL procedure in CREATE FUNCTION"),
            (&["SECURITY"], "SECURITY in CREATE FUNCTION"),
            (&["IMPORTS"], "IMPORTS in CREATE FUNCTION"),
            (&["EXTERNAL_ACCESS_INTEGRATIONS"], "EXTERNAL_ACCESS_INTEGRATIONS"),
            (&["SECRETS"], "SECRETS in CREATE FUNCTION"),
            (&["OPTIONS"], "OPTIONS in CREATE FUNCTION"),
            (&["ENVIRONMENT"], "ENVIRONMENT in CREATE FUNCTION"),
            (&["COMMENT"], "COMMENT in CREATE FUNCTION"),
            (&["NOT", "NULL"], "NOT NULL in CREATE FUNCTION"),
        ] {
            unset(takes_all(parser, words), name)?;
        }
        Ok(false)
    }
}

fn language(parser: &mut Parser) -> Result<bool> {
    let at = span_start(parser.peek_token_ref().span);
    let language = crate::access_statement::name(parser, "a language")?;
    let known = ["python", "python3", "plpython3u"];
    if known.iter().any(|name| language.eq_ignore_ascii_case(name)) {
        return Ok(true);
    }
    Err(Error::Unsupported {
        what: format!("LANGUAGE {language}"),
        hint: Some("Write the function in Python: `LANGUAGE python`.".to_owned()),
        position: at,
    })
}

fn packages(parser: &mut Parser) -> Result<Vec<String>> {
    let _ = parser.consume_token(&Token::Eq);
    expect_token(parser, &Token::LParen)?;
    if parser.consume_token(&Token::RParen) {
        return Ok(Vec::new());
    }
    let found = listed(parser, |parser| text(parser, "a package in quotes"))?;
    expect_token(parser, &Token::RParen)?;
    Ok(found)
}

/// Parses the value of an option: text in quotes, with or without `=` before it.
fn value(parser: &mut Parser) -> Result<String> {
    let _ = parser.consume_token(&Token::Eq);
    text(parser, "text in quotes")
}

fn text(parser: &mut Parser, what: &str) -> Result<String> {
    let text = match &parser.peek_token_ref().token {
        Token::SingleQuotedString(text) => text.clone(),
        Token::DollarQuotedString(text) => text.value.clone(),
        _ => return Err(expected(parser, what).into()),
    };
    parser.advance_token();
    Ok(text)
}

fn invalid(written: &str, reason: &str) -> Error {
    Error::invalid(format!("`{written}`: {reason}"))
}

fn expect_word(parser: &mut Parser, word: &str) -> Result<()> {
    if takes(parser, word) { Ok(()) } else { Err(expected(parser, word).into()) }
}

fn expect_token(parser: &mut Parser, token: &Token) -> Result<()> {
    let is_next = parser.consume_token(token);
    if is_next { Ok(()) } else { Err(expected(parser, &format!("`{token}`")).into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;
    use crate::statement::SupportedStatement;

    fn check(sql: &str, expected: &str) {
        let shown = match parse(sql) {
            Ok(SupportedStatement::Function(FunctionStatement::Create(new))) => {
                let names = new.parameters.iter().map(ToString::to_string).collect::<Vec<_>>();
                format!(
                    "{}({}) {} {:?} {:?} {:?} {:?} {:?} {:?}",
                    new.name,
                    names.join(", "),
                    new.returns.data_type,
                    new.body,
                    new.handler,
                    new.packages,
                    new.python,
                    new.memory_bytes,
                    new.timeout,
                )
            }
            Ok(other) => format!("{other:?}"),
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(expected), "`{sql}`: {shown}");
    }

    #[test]
    fn a_function_keeps_its_code_and_its_text() {
        check(
            "create function s.f(a bigint, b varchar) returns double language python as $$x;'$$",
            r#"s.f(a BIGINT, b VARCHAR) DOUBLE "x;'" None [] None None None"#,
        );
        check(
            "CREATE OR REPLACE FUNCTION f(a INT) RETURNS INT IMMUTABLE PACKAGES = ('numpy', 'x>=2')
             HANDLER = 'g' RUNTIME_VERSION '3.12' MEMORY = '1GiB' TIMEOUT = '2s' AS 'y' LANGUAGE Python;",
            r#"INT "y" Some("g") ["numpy", "x>=2"] Some("3.12") Some(1073741824) Some(2s)"#,
        );
        let sql =
            "SELECT 1; CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE python AS $$é$$ ; SELECT 2";
        let script = crate::PreparedStatement::parse_script(sql).expect("a script");
        let Ok(SupportedStatement::Function(FunctionStatement::Create(new))) =
            script[1].clone().command()
        else {
            panic!("no function: {script:?}");
        };
        assert_eq!(new.sql, "CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE python AS $$é$$");
        // The result type is represented by a column with a name, because the parser rejects a
        // column without one.
        assert_eq!(new.returns.name.value, "result");
    }

    #[test]
    fn functions_are_dropped_and_listed() {
        check("DROP FUNCTION IF EXISTS a.f(INT, VARCHAR), g", "if_exists: true");
        for types in ["DECIMAL(10, 2)", "VARCHAR(10), INT", "STRUCT<a DECIMAL(10, 2)>", ""] {
            check(&format!("DROP FUNCTION f({types}), g"), r#"value: "g""#);
        }
        check("DROP FUNCTION f(DECIMAL(10, 2)", "expected `)`");
        check("SHOW USER FUNCTIONS", "Function(Show(None))");
        check("SHOW FUNCTIONS IN sales", r#"Function(Show(Some("sales")))"#);
    }

    #[test]
    fn wrong_functions_are_rejected_with_the_reason() {
        let with = |clauses: &str| format!("CREATE FUNCTION f(a INT) RETURNS INT {clauses}");
        check(&with("AS 'x'"), "the function `f` has no LANGUAGE");
        check(&with("LANGUAGE python"), "the function `f` has no body");
        check(&with("LANGUAGE sql AS 'SELECT 1'"), "LANGUAGE sql is not supported");
        check(&with("LANGUAGE python STRICT AS 'x'"), "STRICT is not supported");
        check(&with("LANGUAGE python MEMORY = 'much' AS 'x'"), "`much`: ");
        check(&with("LANGUAGE python TIMEOUT = '0s' AS 'x'"), "`0s`: TIMEOUT must be longer");
        check(
            &with("LANGUAGE python MEMORY = '0MiB' AS 'x'"),
            "`0MiB`: the size is less than a byte",
        );
        check(
            &with("LANGUAGE python MEMORY = '256' AS 'x'"),
            "`256`: MEMORY must be at least 16 MiB",
        );
        check(&with("LANGUAGE python AS 'x' nonsense"), "expected a clause of CREATE FUNCTION");
        check(
            "CREATE FUNCTION f() RETURNS INT LANGUAGE python AS 'x'",
            "the function `f` has no parameter",
        );
        check("CREATE FUNCTION f(a INT, a INT) RETURNS INT", "two parameters named `a`");
        check("CREATE FUNCTION f(a INT)", "expected RETURNS");
        check("CREATE FUNCTION f(a INT) RETURNS TABLE (b INT)", "returns a table is not supported");
    }
}
