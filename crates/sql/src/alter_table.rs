//! ALTER TABLE. In this statement, sqlparser cannot parse nested columns, partition fields, sort
//! orders, comments and moves of columns, so this module has its own parser. All changes that this
//! parser does not support are rejected. They are parsed by sqlparser, so that the error can name
//! them.

use std::ops::ControlFlow;

use headwater_model::PartitionField;
use sqlparser::ast::{
    AlterTableOperation, ColumnDef, ColumnOption, DataType, Expr, Ident, ObjectName, OrderByExpr,
    OrderByOptions, SqlOption, Value, ValueWithSpan, VisitMut, VisitorMut,
};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use crate::create_table::{column_options, key_columns};
use crate::error::{Error, Result};
use crate::parse::{parser, tokens};
use crate::partition_field::{self, field};
use crate::statement::keywords;
use crate::unsupported_clauses::{none, unset};
use headwater_sql_tokens::is_keyword;

/// An ALTER TABLE statement.
#[derive(Debug, Clone)]
pub struct AlterTableStatement {
    /// Table name.
    pub name: ObjectName,
    /// True with IF EXISTS.
    pub if_exists: bool,
    /// The changes, in the order in which they are applied.
    pub alterations: Vec<ParsedAlteration>,
}

/// One change of an ALTER TABLE.
#[derive(Debug, Clone)]
pub enum ParsedAlteration {
    /// ADD COLUMN.
    Add {
        /// Path of the struct column that gets the new field; empty for a new column of the table.
        within: Vec<Ident>,
        /// Definition of the new column.
        column: ColumnDef,
        /// Position of the new column; `None` to add it last.
        place: Option<ParsedPosition>,
        /// True with IF NOT EXISTS.
        if_not_exists: bool,
    },
    /// DROP COLUMN.
    Drop {
        /// The column to drop.
        column: ObjectName,
        /// True with IF EXISTS.
        if_exists: bool,
    },
    /// RENAME COLUMN.
    Rename {
        /// The column to rename.
        column: ObjectName,
        /// New name of the column.
        name: Ident,
    },
    /// ALTER COLUMN … TYPE.
    Retype {
        /// The column to change.
        column: ObjectName,
        /// The new type of the column.
        data_type: DataType,
    },
    /// ALTER COLUMN … DROP NOT NULL.
    AllowNulls(ObjectName),
    /// ALTER COLUMN … SET NOT NULL.
    RequireValues(ObjectName),
    /// ALTER COLUMN … COMMENT.
    Comment {
        /// The column to comment on.
        column: ObjectName,
        /// The comment; `None` removes the comment.
        comment: Option<String>,
    },
    /// ALTER COLUMN … SET DEFAULT and DROP DEFAULT.
    Default {
        /// The column whose default changes.
        column: ObjectName,
        /// The default; `None` removes the default.
        value: Option<Expr>,
    },
    /// ALTER COLUMN … FIRST and AFTER.
    Move {
        /// The column to move.
        column: ObjectName,
        /// The new position of the column.
        place: ParsedPosition,
    },
    /// ADD PARTITION FIELD.
    AddPart {
        /// The partition field to add.
        field: PartitionField,
        /// Name of the field; `None` derives a name.
        name: Option<String>,
    },
    /// DROP PARTITION FIELD.
    DropPart(ParsedPartitionField),
    /// REPLACE PARTITION FIELD.
    ReplacePart {
        /// The field to remove.
        old: ParsedPartitionField,
        /// The partition field to add instead.
        field: PartitionField,
        /// Name of the new field; `None` derives a name.
        name: Option<String>,
    },
    /// WRITE ORDERED BY, with its columns. An empty list means WRITE UNORDERED.
    SortBy(Vec<ParsedSortKey>),
    /// SET TBLPROPERTIES and UNSET TBLPROPERTIES. A property without a value is removed.
    Properties(Vec<(String, Option<String>)>),
    /// ADD PRIMARY KEY, with its columns. An empty list stands for DROP PRIMARY KEY.
    PrimaryKey(Vec<String>),
    /// RENAME TO.
    RenameTable(ObjectName),
}

/// A reference to an existing partition field.
#[derive(Debug, Clone)]
pub enum ParsedPartitionField {
    /// Reference by the field's name.
    Name(String),
    /// Reference by the field's transform and column.
    Field(PartitionField),
}

/// A sort column of a table.
#[derive(Debug, Clone)]
pub struct ParsedSortKey {
    /// Name of the column.
    pub column: String,
    /// True for descending order.
    pub descending: bool,
    /// True if nulls come first.
    pub nulls_first: bool,
}

/// The new position of a column.
#[derive(Debug, Clone)]
pub enum ParsedPosition {
    /// Before all other columns.
    First,
    /// After this column.
    After(Ident),
}

/// Returns the default in a column definition.
pub fn default_of(column: &ColumnDef) -> Option<&Expr> {
    column.options.iter().find_map(|option| match &option.option {
        ColumnOption::Default(value) => Some(value),
        _ => None,
    })
}

/// Returns the comment in a column definition.
pub fn comment_of(column: &ColumnDef) -> Option<&str> {
    column.options.iter().find_map(|option| match &option.option {
        ColumnOption::Comment(text) => Some(text.as_str()),
        _ => None,
    })
}

impl VisitMut for AlterTableStatement {
    /// Visits the parts of the statement that may contain parameters: column definitions and
    /// defaults.
    fn visit<V: VisitorMut>(&mut self, visitor: &mut V) -> ControlFlow<V::Break> {
        for alteration in &mut self.alterations {
            match alteration {
                ParsedAlteration::Add { column, .. } => column.visit(visitor)?,
                ParsedAlteration::Default { value, .. } => value.visit(visitor)?,
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }
}

/// Returns true if the parser is at an ALTER TABLE.
pub(crate) fn is_next(parser: &Parser) -> bool {
    let [first, second] = parser.peek_tokens_ref();
    is_keyword(&first.token, Keyword::ALTER) && is_keyword(&second.token, Keyword::TABLE)
}

/// Parses a whole ALTER TABLE. An unsupported part is an error that names the part.
pub(crate) fn parse(parser: &mut Parser) -> Result<AlterTableStatement> {
    parser.expect_keywords(&[Keyword::ALTER, Keyword::TABLE])?;
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    unset(parser.parse_keyword(Keyword::ONLY), "ONLY in ALTER TABLE")?;
    let name = parser.parse_object_name(false)?;
    let mut alterations = Vec::new();
    loop {
        operation(parser, &mut alterations)?;
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    let _ = parser.consume_token(&Token::SemiColon);
    if parser.peek_token_ref().token != Token::EOF {
        return Err(expected(parser, "the end of the statement").into());
    }
    let renames = |one: &ParsedAlteration| matches!(one, ParsedAlteration::RenameTable(_));
    unset(
        alterations.len() > 1 && alterations.iter().any(renames),
        "RENAME TO together with another change",
    )?;
    Ok(AlterTableStatement { name, if_exists, alterations })
}

/// Returns the error for an unexpected next token.
pub fn expected(parser: &Parser, what: &str) -> ParserError {
    match parser.expected_ref::<()>(what, parser.peek_token_ref()) {
        Err(error) => error,
        Ok(()) => ParserError::ParserError(format!("Expected: {what}")),
    }
}

/// Parses one change. MODIFY COLUMN with a position yields two changes.
fn operation(parser: &mut Parser, found: &mut Vec<ParsedAlteration>) -> Result<()> {
    /// Keywords after ADD or DROP that are not the name of a column.
    const NO_COLUMN: [Keyword; 9] = [
        Keyword::CONSTRAINT,
        Keyword::PRIMARY,
        Keyword::FOREIGN,
        Keyword::UNIQUE,
        Keyword::CHECK,
        Keyword::INDEX,
        Keyword::PARTITION,
        Keyword::PROJECTION,
        Keyword::CLUSTERING,
    ];
    let verbs = [Keyword::ADD, Keyword::DROP, Keyword::REPLACE];
    let is_field = parser.peek_nth_token_ref(1).token.to_string().eq_ignore_ascii_case("PARTITION")
        && parser.peek_nth_token_ref(2).token.to_string().eq_ignore_ascii_case("FIELD");
    if is_field && let Some(verb) = parser.parse_one_of_keywords(&verbs) {
        parser.advance_token();
        parser.advance_token();
        found.push(partition_field(parser, verb)?);
        return Ok(());
    }
    let of_column = match &parser.peek_nth_token_ref(1).token {
        Token::Word(word) => word.quote_style.is_some() || !NO_COLUMN.contains(&word.keyword),
        _ => true,
    };
    if of_column && parser.parse_keyword(Keyword::ADD) {
        found.push(add_column(parser)?);
    } else if of_column && parser.parse_keyword(Keyword::DROP) {
        let _ = parser.parse_keyword(Keyword::COLUMN);
        let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
        let column = parser.parse_object_name(false)?;
        let behavior = parser.parse_one_of_keywords(&[Keyword::CASCADE, Keyword::RESTRICT]);
        none(behavior, "CASCADE or RESTRICT in ALTER TABLE")?;
        found.push(ParsedAlteration::Drop { column, if_exists });
    } else if parser.parse_keyword(Keyword::RENAME) {
        found.push(rename(parser)?);
    } else if parser.parse_keyword(Keyword::ALTER) {
        found.push(alter_column(parser)?);
    } else if parser.parse_keyword(Keyword::MODIFY) {
        let _ = parser.parse_keyword(Keyword::COLUMN);
        let column = parser.parse_object_name(false)?;
        let data_type = parser.parse_data_type()?;
        if let Some(option) = parser.parse_optional_column_option()? {
            return Err(Error::unsupported(format!("`{}` on a column", keywords(&option, 2))));
        }
        found.push(ParsedAlteration::Retype { column: column.clone(), data_type });
        let place = parse_column_position(parser)?;
        found.extend(place.map(|place| ParsedAlteration::Move { column, place }));
    } else {
        found.push(of_table(parser)?);
    }
    Ok(())
}

/// Parses the rest of ADD, DROP or REPLACE PARTITION FIELD.
fn partition_field(parser: &mut Parser, verb: Keyword) -> Result<ParsedAlteration> {
    let first = field(parser)?;
    let added = match verb {
        Keyword::DROP => return Ok(ParsedAlteration::DropPart(part(first)?)),
        Keyword::ADD => first.clone(),
        _ => {
            parser.expect_keyword(Keyword::WITH)?;
            field(parser)?
        }
    };
    let field = partition_field::parse(&added)?;
    let name = if parser.parse_keyword(Keyword::AS) {
        Some(parser.parse_identifier()?.value)
    } else {
        None
    };
    Ok(match verb {
        Keyword::ADD => ParsedAlteration::AddPart { field, name },
        _ => ParsedAlteration::ReplacePart { old: part(first)?, field, name },
    })
}

/// Parses a reference to an existing partition field: its name, or its transform and column.
fn part(text: String) -> Result<ParsedPartitionField> {
    if text.contains('(') {
        partition_field::parse(&text).map(ParsedPartitionField::Field)
    } else {
        Ok(ParsedPartitionField::Name(text))
    }
}

fn add_column(parser: &mut Parser) -> Result<ParsedAlteration> {
    const IF_NOT_EXISTS: [Keyword; 3] = [Keyword::IF, Keyword::NOT, Keyword::EXISTS];
    let first = parser.parse_keywords(&IF_NOT_EXISTS);
    let _ = parser.parse_keyword(Keyword::COLUMN);
    let if_not_exists = parser.parse_keywords(&IF_NOT_EXISTS) || first;
    let mut within = Vec::new();
    while parser.peek_nth_token_ref(1).token == Token::Period {
        within.push(parser.parse_identifier()?);
        parser.advance_token();
    }
    let column = parser.parse_column_def()?;
    column_options(&column)?;
    let place = parse_column_position(parser)?;
    Ok(ParsedAlteration::Add { within, column, place, if_not_exists })
}

/// Parses FIRST or AFTER.
fn parse_column_position(parser: &mut Parser) -> Result<Option<ParsedPosition>> {
    if parser.parse_keyword(Keyword::FIRST) {
        return Ok(Some(ParsedPosition::First));
    }
    if parser.parse_keyword(Keyword::AFTER) {
        return Ok(Some(ParsedPosition::After(parser.parse_identifier()?)));
    }
    Ok(None)
}

fn rename(parser: &mut Parser) -> Result<ParsedAlteration> {
    if parser.parse_keyword(Keyword::TO) {
        return Ok(ParsedAlteration::RenameTable(parser.parse_object_name(false)?));
    }
    unset(parser.parse_keyword(Keyword::AS), "ALTER TABLE … RENAME AS")?;
    let _ = parser.parse_keyword(Keyword::COLUMN);
    let column = parser.parse_object_name(false)?;
    parser.expect_keyword(Keyword::TO)?;
    Ok(ParsedAlteration::Rename { column, name: parser.parse_identifier()? })
}

fn alter_column(parser: &mut Parser) -> Result<ParsedAlteration> {
    let _ = parser.parse_keyword(Keyword::COLUMN);
    let column = parser.parse_object_name(false)?;
    if parser.parse_keywords(&[Keyword::SET, Keyword::NOT, Keyword::NULL]) {
        return Ok(ParsedAlteration::RequireValues(column));
    }
    if parser.parse_keywords(&[Keyword::DROP, Keyword::NOT, Keyword::NULL]) {
        return Ok(ParsedAlteration::AllowNulls(column));
    }
    if parser.parse_keywords(&[Keyword::SET, Keyword::DEFAULT]) {
        return Ok(ParsedAlteration::Default { column, value: Some(parser.parse_expr()?) });
    }
    if parser.parse_keywords(&[Keyword::DROP, Keyword::DEFAULT]) {
        return Ok(ParsedAlteration::Default { column, value: None });
    }
    if parser.parse_keywords(&[Keyword::SET, Keyword::DATA, Keyword::TYPE])
        || parser.parse_keyword(Keyword::TYPE)
    {
        let data_type = parser.parse_data_type()?;
        unset(parser.parse_keyword(Keyword::USING), "USING in ALTER COLUMN")?;
        return Ok(ParsedAlteration::Retype { column, data_type });
    }
    if parser.parse_keyword(Keyword::COMMENT) {
        let is_null = parser.parse_keyword(Keyword::NULL);
        let comment = if is_null { None } else { Some(parser.parse_literal_string()?) };
        return Ok(ParsedAlteration::Comment { column, comment });
    }
    if let Some(place) = parse_column_position(parser)? {
        return Ok(ParsedAlteration::Move { column, place });
    }
    let changes = "TYPE, SET, DROP, COMMENT, FIRST or AFTER after ALTER COLUMN";
    Err(expected(parser, changes).into())
}

/// Parses a change of the table's sort order or properties. For any other change that sqlparser
/// parses, returns an error that contains the change's name.
fn of_table(parser: &mut Parser) -> Result<ParsedAlteration> {
    if word(parser, "WRITE") {
        return order(parser);
    }
    if word(parser, "UNSET") {
        if !word(parser, "TBLPROPERTIES") {
            return Err(expected(parser, "TBLPROPERTIES").into());
        }
        let _ = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
        parser.expect_token(&Token::LParen)?;
        let keys = parser.parse_comma_separated(Parser::parse_literal_string)?;
        parser.expect_token(&Token::RParen)?;
        let removed = keys.into_iter().map(|key| (key, None)).collect();
        return Ok(ParsedAlteration::Properties(removed));
    }
    match parser.parse_alter_table_operation()? {
        AlterTableOperation::SetTblProperties { table_properties: options }
        | AlterTableOperation::SetOptionsParens { options } => {
            let properties = options.into_iter().map(property).collect::<Result<_>>()?;
            Ok(ParsedAlteration::Properties(properties))
        }
        AlterTableOperation::AddConstraint { constraint, not_valid: false } => {
            Ok(ParsedAlteration::PrimaryKey(key_columns(constraint)?))
        }
        AlterTableOperation::DropPrimaryKey { .. } => Ok(ParsedAlteration::PrimaryKey(Vec::new())),
        refused => Err(Error::unsupported(format!("ALTER TABLE … {}", keywords(&refused, 2)))),
    }
}

/// Consumes a word, which need not be a keyword. Returns false if the next word is different.
fn word(parser: &mut Parser, wanted: &str) -> bool {
    let found = matches!(&parser.peek_token_ref().token, Token::Word(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted));
    if found {
        parser.advance_token();
    }
    found
}

/// Parses `[LOCALLY] ORDERED BY a DESC, b NULLS LAST`, or `UNORDERED`.
fn order(parser: &mut Parser) -> Result<ParsedAlteration> {
    if word(parser, "UNORDERED") {
        return Ok(ParsedAlteration::SortBy(Vec::new()));
    }
    let _ = word(parser, "LOCALLY");
    if !word(parser, "ORDERED") {
        return Err(expected(parser, "ORDERED BY").into());
    }
    parser.expect_keyword(Keyword::BY)?;
    let keys = parser.parse_comma_separated(Parser::parse_order_by_expr)?;
    Ok(ParsedAlteration::SortBy(keys.into_iter().map(key).collect::<Result<_>>()?))
}

fn key(key: OrderByExpr) -> Result<ParsedSortKey> {
    let OrderByExpr { expr, options: OrderByOptions { asc, nulls_first }, with_fill } = key;
    let (Expr::Identifier(column), None) = (&expr, with_fill) else {
        return Err(Error::Unsupported {
            what: format!("WRITE ORDERED BY `{expr}`"),
            hint: Some("Order by columns of the table.".to_owned()),
            position: None,
        });
    };
    let descending = asc == Some(false);
    let column = column.value.clone();
    Ok(ParsedSortKey { column, descending, nulls_first: nulls_first.unwrap_or(!descending) })
}

/// Parses the columns of a sort order: `a DESC, b NULLS LAST`.
pub(crate) fn keys(text: &str) -> Result<Vec<ParsedSortKey>> {
    let mut parser = parser(tokens(text)?);
    let keys = parser.parse_comma_separated(Parser::parse_order_by_expr)?;
    if parser.peek_token_ref().token != Token::EOF {
        return Err(expected(&parser, "a column").into());
    }
    keys.into_iter().map(key).collect()
}

/// Parses `'key' = 'value'`; NULL removes the property.
pub(super) fn property(option: SqlOption) -> Result<(String, Option<String>)> {
    let refused = |option: &SqlOption| Error::Unsupported {
        what: format!("the property `{option}`"),
        hint: Some("Write 'key' = 'value', or 'key' = NULL to remove it.".to_owned()),
        position: None,
    };
    let SqlOption::KeyValue { key, value } = &option else { return Err(refused(&option)) };
    let value = match value {
        Expr::Value(ValueWithSpan { value, span: _ }) => match value {
            Value::SingleQuotedString(text) | Value::Number(text, _) => Some(text.clone()),
            Value::Boolean(value) => Some(value.to_string()),
            Value::Null => None,
            _ => return Err(refused(&option)),
        },
        _ => return Err(refused(&option)),
    };
    Ok((key.value.clone(), value))
}
