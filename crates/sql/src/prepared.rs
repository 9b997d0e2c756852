//! Statements that are parsed once, with parameters that are bound later.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use headwater_model::PartitionField;
use sqlparser::ast::Statement;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::alter_table::TableChange;
use super::parameters::{self, Parameter, Parameters};
use super::parse::{parse_one, tokens};
use super::statement::{Command, command};
use super::syntax_hint;
use crate::error::Result;

/// One parsed statement.
#[derive(Debug, Clone)]
pub struct Prepared {
    text: Arc<str>,
    parsed: Parsed,
    parameters: Vec<Parameter>,
    is_bound: bool,
}

/// What the parser read.
#[derive(Debug, Clone)]
pub enum Parsed {
    /// An ALTER TABLE with changes that sqlparser does not read.
    Alter(TableChange),
    /// Any other statement.
    Other {
        statement: Box<Statement>,
        /// The fields of PARTITIONED BY.
        partition: Vec<PartitionField>,
        /// The text of a view's query.
        view: Option<String>,
    },
}

impl Prepared {
    /// Parses a text with exactly one statement.
    pub fn parse(sql: &str) -> Result<Self> {
        Self::parse_text(sql).map_err(|error| syntax_hint::explain(error, sql))
    }

    fn parse_text(sql: &str) -> Result<Self> {
        let mut parsed = parse_one(sql)?;
        let parameters = match &mut parsed {
            Parsed::Alter(_) => Vec::new(),
            Parsed::Other { statement, .. } => parameters::collect(statement)?,
        };
        Ok(Prepared { text: Arc::from(sql), parsed, parameters, is_bound: false })
    }

    /// The text that was parsed. Positions in errors refer to it.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// The parameters that have no value yet, in the order of the text.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Binds all parameters. Values without a parameter are ignored.
    pub fn bind(mut self, values: &Parameters) -> Result<Self> {
        if let Parsed::Other { statement, .. } = &mut self.parsed
            && !self.parameters.is_empty()
        {
            let missing = self.parameters.iter().find(|one| !values.contains_key(&one.name));
            if let Some(missing) = missing {
                return Err(parameters::no_value(missing));
            }
            parameters::bind(statement, values)?;
            self.is_bound = true;
            self.parameters.clear();
        }
        Ok(self)
    }

    /// Checks the statement and returns what it asks for.
    pub fn command(self) -> Result<Command> {
        let Prepared { text, parsed, is_bound, .. } = self;
        let checked = match parsed {
            Parsed::Alter(change) => Ok(Command::Alter(change)),
            Parsed::Other { statement, partition, view } => {
                // A view stores its query as text: with parameters, the text of the bound query.
                let view = match &*statement {
                    Statement::CreateView(create) if is_bound => Some(create.query.to_string()),
                    _ => view,
                };
                command(*statement, partition, view)
            }
        };
        checked.map_err(|error| syntax_hint::explain(error, &text))
    }
}

impl fmt::Display for Prepared {
    /// Writes the statement as SQL, with the values that are bound.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.parsed {
            Parsed::Alter(_) => f.write_str(&self.text),
            Parsed::Other { statement, .. } => statement.fmt(f),
        }
    }
}

/// What a session runs: text without parameters, or a statement whose parameters are bound.
pub trait IntoStatement {
    /// Returns the statement. A parameter without a value is an error.
    fn into_statement(self) -> Result<Prepared>;
}

impl IntoStatement for Prepared {
    fn into_statement(self) -> Result<Prepared> {
        match self.parameters.first() {
            Some(missing) => Err(parameters::no_value(missing)),
            None => Ok(self),
        }
    }
}

impl IntoStatement for &str {
    fn into_statement(self) -> Result<Prepared> {
        Prepared::parse(self)?.into_statement()
    }
}

impl IntoStatement for &String {
    fn into_statement(self) -> Result<Prepared> {
        self.as_str().into_statement()
    }
}

/// One of several statements in a text.
#[derive(Debug, Clone)]
pub struct StatementText {
    /// Its bytes in the whole text, without the semicolon.
    pub bytes: Range<usize>,
    /// The parsed statement. Positions in its errors refer to the whole text.
    pub statement: Prepared,
}

/// Parses statements that are separated by semicolons. Empty ones are left out.
pub fn parse_statements(sql: &str) -> Result<Vec<StatementText>> {
    let mut statements = Vec::new();
    for bytes in split(sql)? {
        // Blanks in place of what comes before keep lines and columns.
        let mut text: String =
            sql[..bytes.start].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        text.push_str(&sql[bytes.clone()]);
        statements.push(StatementText { bytes, statement: Prepared::parse(&text)? });
    }
    Ok(statements)
}

/// Returns the bytes of each statement.
fn split(sql: &str) -> Result<Vec<Range<usize>>> {
    let (mut pieces, mut begin, mut last): (Vec<Range<usize>>, Option<usize>, usize) =
        (Vec::new(), None, 0);
    let mut offsets = Offsets { text: sql, line: 1, column: 1, byte: 0 };
    for TokenWithSpan { token, span } in tokens(sql)? {
        match token {
            Token::Whitespace(_) => {}
            Token::SemiColon | Token::EOF => {
                pieces.extend(begin.take().map(|begin| begin..last));
            }
            _ => {
                let start = offsets.at(span.start.line, span.start.column);
                begin.get_or_insert(start);
                last = offsets.at(span.end.line, span.end.column);
            }
        }
    }
    pieces.extend(begin.map(|begin| begin..last));
    Ok(pieces)
}

/// A walk over a text that turns positions, in their order, into bytes.
struct Offsets<'a> {
    text: &'a str,
    line: u64,
    column: u64,
    byte: usize,
}

impl Offsets<'_> {
    fn at(&mut self, line: u64, column: u64) -> usize {
        for letter in self.text[self.byte..].chars() {
            if (self.line, self.column) >= (line, column) {
                break;
            }
            (self.line, self.column) = match letter {
                '\n' => (self.line + 1, 1),
                _ => (self.line, self.column + 1),
            };
            self.byte += letter.len_utf8();
        }
        self.byte
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_separated_by_semicolons() {
        let sql = "SELECT 'ä;' ;; -- ; no\nINSERT INTO t VALUES ($1);\n";
        let statements = parse_statements(sql).unwrap();
        let texts: Vec<&str> = statements.iter().map(|one| &sql[one.bytes.clone()]).collect();
        assert_eq!(texts, ["SELECT 'ä;'", "INSERT INTO t VALUES ($1)"]);
        let position = statements[1].statement.parameters()[0].position.unwrap();
        assert_eq!((position.line, position.column), (2, 23));
    }

    #[test]
    fn an_error_in_a_later_statement_has_its_position_in_the_whole_text() {
        let error = parse_statements("SELECT 1;\n  SELEC 2").unwrap_err().to_string();
        assert_eq!(error, "expected an SQL statement, found `SELEC` (line 2, column 3)");
    }
}
