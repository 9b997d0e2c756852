//! Statements that are parsed once, with parameters that are bound later.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use sqlparser::ast::{SetExpr, Statement};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::access_statement::AccessStatement;
use super::alter_table::AlterTableStatement;
use super::copy_to::{CopyToStatement, copy_to, is_copy_to};
use super::create_view::offset;
use super::file_functions::{self, FileCall};
use super::function_statement::FunctionStatement;
use super::parameters::{self, Parameter, Parameters};
use super::parse::{parse_one, parse_tokens, split};
use super::statement::{SupportedStatement, command};
use super::syntax_hint;
use super::upsert::is_upsert;
use crate::error::{Error, Result};

/// One parsed statement.
#[derive(Debug, Clone)]
pub struct PreparedStatement {
    text: Arc<str>,
    /// The byte range of this statement in the text.
    range: Range<usize>,
    parsed: ParsedStatement,
    parameters: Vec<Parameter>,
    is_bound: bool,
}

/// A statement as parsed.
#[derive(Debug, Clone)]
pub enum ParsedStatement {
    /// A statement on roles, grants or restrictions.
    Access(AccessStatement),
    /// ALTER TABLE.
    Alter(AlterTableStatement),
    /// A statement on functions.
    Function(FunctionStatement),
    /// Any other statement.
    Other {
        statement: Box<Statement>,
        /// The text of the view's query, if the statement is CREATE VIEW.
        view: Option<String>,
    },
}

impl PreparedStatement {
    /// Parses a text that contains exactly one statement.
    pub fn parse(sql: &str) -> Result<Self> {
        Self::parse_text(sql).map_err(|error| syntax_hint::explain(error, sql))
    }

    fn parse_text(sql: &str) -> Result<Self> {
        Self::new(parse_one(sql)?, Arc::from(sql), 0..sql.len())
    }

    /// Parses a script: one or more statements, separated by semicolons. A syntax error in any
    /// statement rejects the script. Positions in errors refer to the script.
    pub fn parse_script(sql: &str) -> Result<Vec<Self>> {
        let script = Self::parse_statements(sql);
        script.map_err(|error| syntax_hint::explain(error, sql))
    }

    fn parse_statements(sql: &str) -> Result<Vec<Self>> {
        let statements = split(sql)?;
        if statements.len() < 2 {
            return Ok(vec![Self::parse_text(sql)?]);
        }
        let text: Arc<str> = Arc::from(sql);
        let prepare = |tokens: Vec<TokenWithSpan>| {
            let range = range_of(&tokens, sql);
            let prepared = Self::new(parse_tokens(tokens, sql)?, text.clone(), range)?;
            match prepared.parameters.iter().find(|parameter| parameter.is_unnamed) {
                Some(unnamed) => Err(Error::Invalid {
                    message: "`?` cannot be used with several statements".to_owned(),
                    hint: Some("Name the parameters: `$1` or `$name`.".to_owned()),
                    position: unnamed.position,
                }),
                None => Ok(prepared),
            }
        };
        statements.into_iter().map(prepare).collect()
    }

    fn new(mut parsed: ParsedStatement, text: Arc<str>, range: Range<usize>) -> Result<Self> {
        let parameters = match &mut parsed {
            ParsedStatement::Access(_) | ParsedStatement::Function(_) => Vec::new(),
            ParsedStatement::Alter(change) => parameters::collect(change)?,
            ParsedStatement::Other { statement, .. } => parameters::collect(&mut **statement)?,
        };
        Ok(PreparedStatement { text, range, parsed, parameters, is_bound: false })
    }

    /// Returns the whole text that was parsed, including the other statements of a script.
    /// Positions in errors refer to this text.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Returns the part of the text that is this statement.
    pub fn source(&self) -> &str {
        &self.text[self.range.clone()]
    }

    /// Returns the parameters that have no value yet, in the order of the text.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Returns the statement if it is a statement on roles, grants or restrictions, which the
    /// engine does not execute.
    pub fn access_statement(&self) -> Option<&AccessStatement> {
        match &self.parsed {
            ParsedStatement::Access(statement) => Some(statement),
            ParsedStatement::Alter(_)
            | ParsedStatement::Function(_)
            | ParsedStatement::Other { .. } => None,
        }
    }

    /// Returns the query and the file of COPY … TO, which the engine does not execute; `None` for
    /// any other statement.
    pub fn copy_to(&self) -> Result<Option<(PreparedStatement, CopyToStatement)>> {
        let ParsedStatement::Other { statement, .. } = &self.parsed else { return Ok(None) };
        let Some((parsed, file)) = copy_to(statement)? else { return Ok(None) };
        Ok(Some((PreparedStatement { parsed, ..self.clone() }, file)))
    }

    /// Returns the name of the statement, such as `SELECT`. Fails for an unsupported statement.
    pub fn name(&self) -> Result<&'static str> {
        match &self.parsed {
            ParsedStatement::Access(statement) => Ok(statement.name()),
            ParsedStatement::Other { statement, .. } if is_copy_to(statement) => Ok("COPY"),
            ParsedStatement::Alter(_)
            | ParsedStatement::Function(_)
            | ParsedStatement::Other { .. } => Ok(self.clone().command()?.name()),
        }
    }

    /// Returns true for an INSERT, UPDATE or DELETE with RETURNING. Such a statement returns rows
    /// of the table, not the number of changed rows.
    pub fn has_returning(&self) -> bool {
        match &self.parsed {
            ParsedStatement::Other { statement, .. } => has_returning(statement),
            ParsedStatement::Access(_)
            | ParsedStatement::Alter(_)
            | ParsedStatement::Function(_) => false,
        }
    }

    /// Returns true for INSERT with ON CONFLICT, which is executed as MERGE.
    pub fn is_upsert(&self) -> bool {
        let ParsedStatement::Other { statement, .. } = &self.parsed else { return false };
        let insert = match &**statement {
            Statement::Insert(insert) => Some(insert),
            Statement::Query(query) => match &*query.body {
                SetExpr::Insert(Statement::Insert(insert)) => Some(insert),
                _ => None,
            },
            _ => None,
        };
        insert.is_some_and(is_upsert)
    }

    /// Replaces the calls of table functions that read files by relations, and returns the calls.
    /// The caller registers the rows of each call under the name of its relation.
    pub fn take_file_calls(&mut self) -> Result<Vec<FileCall>> {
        let ParsedStatement::Other { statement, .. } = &mut self.parsed else {
            return Ok(Vec::new());
        };
        let taken = file_functions::take(statement);
        taken.map_err(|error| syntax_hint::explain(error, &self.text))
    }

    /// Casts parameters to SQL types, so that their values can be bound as strings.
    pub fn with_casts(mut self, types: &BTreeMap<String, String>) -> Result<Self> {
        if let ParsedStatement::Other { statement, .. } = &mut self.parsed
            && !types.is_empty()
        {
            parameters::cast(&mut **statement, types)?;
        }
        Ok(self)
    }

    /// Casts the parameters of a query to the SQL types that a client declares, for the description
    /// of the query. The casts do not change the names of the query's columns.
    pub fn with_declared_types(mut self, types: &BTreeMap<String, String>) -> Result<Self> {
        if let ParsedStatement::Other { statement, .. } = &mut self.parsed {
            parameters::keep_column_names(statement);
            if let Statement::Query(query) = &mut **statement {
                // Leave LIMIT and OFFSET unchanged, because they do not accept casts.
                let limit = query.limit_clause.take();
                parameters::cast(&mut **query, types)?;
                query.limit_clause = limit;
            }
        }
        Ok(self)
    }

    /// Binds all parameters. Values for parameters that the statement does not have are ignored.
    pub fn bind(mut self, values: &Parameters) -> Result<Self> {
        if !self.parameters.is_empty() {
            let missing = self.parameters.iter().find(|one| !values.contains_key(&one.name));
            if let Some(missing) = missing {
                return Err(parameters::no_value(missing));
            }
            match &mut self.parsed {
                ParsedStatement::Access(_) | ParsedStatement::Function(_) => {}
                ParsedStatement::Alter(change) => parameters::bind(change, values)?,
                ParsedStatement::Other { statement, .. } => {
                    parameters::name_columns(statement);
                    parameters::bind(&mut **statement, values)?;
                }
            }
            self.is_bound = true;
            self.parameters.clear();
        }
        Ok(self)
    }

    /// Checks the statement and converts it to a command.
    pub fn command(self) -> Result<SupportedStatement> {
        let PreparedStatement { text, parsed, is_bound, .. } = self;
        let checked = match parsed {
            ParsedStatement::Access(statement) => Err(Error::Unsupported {
                what: format!("{} here", statement.name()),
                hint: Some("Send the statement to the server on its own.".to_owned()),
                position: None,
            }),
            ParsedStatement::Alter(change) => Ok(SupportedStatement::Alter(change)),
            ParsedStatement::Function(statement) => Ok(SupportedStatement::Function(statement)),
            ParsedStatement::Other { statement, view } => {
                // A view stores its query as text. If the query had parameters, this is the text of
                // the query with the bound values.
                let view = match &*statement {
                    Statement::CreateView(create) if is_bound => Some(create.query.to_string()),
                    _ => view,
                };
                command(*statement, view)
            }
        };
        checked.map_err(|error| syntax_hint::explain(error, &text))
    }
}

impl fmt::Display for PreparedStatement {
    /// Formats the statement as SQL, with the bound values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.parsed {
            ParsedStatement::Access(_)
            | ParsedStatement::Alter(_)
            | ParsedStatement::Function(_) => f.write_str(self.source()),
            ParsedStatement::Other { statement, .. } => statement.fmt(f),
        }
    }
}

fn has_returning(statement: &Statement) -> bool {
    match statement {
        Statement::Insert(insert) => insert.returning.is_some(),
        Statement::Update(update) => update.returning.is_some(),
        Statement::Delete(delete) => delete.returning.is_some(),
        Statement::Query(query) => match &*query.body {
            SetExpr::Insert(changed) | SetExpr::Update(changed) | SetExpr::Delete(changed) => {
                has_returning(changed)
            }
            _ => false,
        },
        _ => false,
    }
}

/// Splits a script into the texts of its statements, without parsing them.
pub fn split_script(sql: &str) -> Result<Vec<&str>> {
    let statements = split(sql)?.into_iter().map(|tokens| &sql[range_of(&tokens, sql)]);
    Ok(statements.collect())
}

/// Returns the byte range that tokens cover, without surrounding whitespace.
fn range_of(tokens: &[TokenWithSpan], sql: &str) -> Range<usize> {
    let is_word =
        |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_) | Token::EOF);
    let start = tokens.iter().find(is_word).and_then(|token| offset(sql, token.span.start));
    let end = tokens.iter().rev().find(is_word).and_then(|token| offset(sql, token.span.end));
    start.unwrap_or(0)..end.unwrap_or(sql.len())
}

/// Input of a session: SQL text without parameters, or a prepared statement whose parameters are
/// bound.
pub trait IntoStatement {
    /// Returns the statement. A parameter without a value is an error.
    fn into_statement(self) -> Result<PreparedStatement>;
}

impl IntoStatement for PreparedStatement {
    fn into_statement(self) -> Result<PreparedStatement> {
        match self.parameters.first() {
            Some(missing) => Err(parameters::no_value(missing)),
            None => Ok(self),
        }
    }
}

impl IntoStatement for &str {
    fn into_statement(self) -> Result<PreparedStatement> {
        PreparedStatement::parse(self)?.into_statement()
    }
}

impl IntoStatement for &String {
    fn into_statement(self) -> Result<PreparedStatement> {
        self.as_str().into_statement()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insert_with_on_conflict_is_an_upsert() {
        for (sql, expected) in [
            ("INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO NOTHING", true),
            ("INSERT INTO t (a) VALUES (1)", false),
            ("MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE", false),
            ("SELECT 1", false),
        ] {
            let prepared = PreparedStatement::parse(sql).expect(sql);
            assert_eq!(prepared.is_upsert(), expected, "{sql}");
        }
    }
}
