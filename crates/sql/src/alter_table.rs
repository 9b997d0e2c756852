//! Converts ALTER TABLE.

use sqlparser::ast::{
    AlterColumnOperation, AlterTable, AlterTableOperation, ColumnDef, ColumnOption, DataType, Expr,
    Ident, MySQLColumnPosition, ObjectName, RenameTableNameKind, SqlOption, Value, ValueWithSpan,
};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use headwater_model::PartitionField;

use crate::create_table::column_options;
use crate::error::{Error, Result};
use crate::partition::is_keyword;
use crate::statement::keywords;
use crate::unsupported_clauses::{none, unset};

/// Separator in the path of a nested column; user names cannot contain it.
const WITHIN: char = '\0';

/// An ALTER TABLE statement.
#[derive(Debug, Clone)]
pub struct TableChange {
    /// Table name.
    pub name: ObjectName,
    /// IF EXISTS.
    pub if_exists: bool,
    /// Changes in order.
    pub alterations: Vec<WrittenAlteration>,
}

/// A change of a table.
#[derive(Debug, Clone)]
pub enum WrittenAlteration {
    /// ADD COLUMN.
    Add {
        /// The new column.
        column: ColumnDef,
        /// Its position among the others.
        place: Option<WrittenPlace>,
        /// IF NOT EXISTS.
        if_not_exists: bool,
    },
    /// DROP COLUMN.
    Drop {
        /// The column.
        column: Ident,
        /// IF EXISTS.
        if_exists: bool,
    },
    /// RENAME COLUMN.
    Rename {
        /// The column.
        column: Ident,
        /// Its new name.
        name: Ident,
    },
    /// ALTER COLUMN … TYPE.
    Retype {
        /// The column.
        column: Ident,
        /// Its new type.
        data_type: DataType,
    },
    /// ALTER COLUMN … DROP NOT NULL.
    AllowNulls(Ident),
    /// ALTER COLUMN … SET NOT NULL.
    RequireValues(Ident),
    /// ALTER COLUMN … COMMENT.
    Comment {
        /// The column.
        column: Ident,
        /// The comment; none removes it.
        comment: Option<String>,
    },
    /// ALTER COLUMN … SET DEFAULT and DROP DEFAULT.
    Default {
        /// The column.
        column: Ident,
        /// The default; none removes it.
        value: Option<Expr>,
    },
    /// ALTER COLUMN … FIRST and AFTER.
    Move {
        /// The column.
        column: Ident,
        /// Its new position.
        place: WrittenPlace,
    },
    /// ADD PARTITION FIELD.
    AddPart {
        /// The new field.
        field: PartitionField,
        /// Its name, if one is given.
        name: Option<String>,
    },
    /// DROP PARTITION FIELD.
    DropPart(WrittenPart),
    /// REPLACE PARTITION FIELD.
    ReplacePart {
        /// The field that goes.
        old: WrittenPart,
        /// The new field.
        field: PartitionField,
        /// Its name, if one is given.
        name: Option<String>,
    },
    /// WRITE ORDERED BY; empty for WRITE UNORDERED.
    SortBy(Vec<WrittenKey>),
    /// SET TBLPROPERTIES and UNSET TBLPROPERTIES; a property without a value goes.
    Properties(Vec<(String, Option<String>)>),
    /// RENAME TO.
    RenameTable(ObjectName),
}

/// An existing partition field.
#[derive(Debug, Clone)]
pub enum WrittenPart {
    /// By its name.
    Name(String),
    /// By its transform and column.
    Field(PartitionField),
}

/// A sort column of a table.
#[derive(Debug, Clone)]
pub struct WrittenKey {
    /// The column.
    pub column: String,
    /// DESC.
    pub descending: bool,
    /// NULLS FIRST.
    pub nulls_first: bool,
}

/// The new position of a column.
#[derive(Debug, Clone)]
pub enum WrittenPlace {
    /// FIRST.
    First,
    /// AFTER a column.
    After(Ident),
}

/// Returns the path of a nested column.
pub fn path(column: &Ident) -> Vec<String> {
    column.value.split(WITHIN).map(str::to_owned).collect()
}

/// Converts an ALTER TABLE statement, or rejects its unsupported parts by name.
pub fn table_change(alter: AlterTable) -> Result<TableChange> {
    let AlterTable {
        name,
        if_exists,
        only,
        operations,
        location,
        on_cluster,
        table_type,
        end_token: _,
    } = alter;
    unset(only, "ONLY in ALTER TABLE")?;
    none(location.as_ref(), "SET LOCATION")?;
    none(on_cluster.as_ref(), "ON CLUSTER")?;
    none(table_type.as_ref(), "a kind of table in ALTER TABLE")?;
    let mut alterations = Vec::new();
    for operation in operations {
        alteration(operation, &mut alterations)?;
    }
    TableChange::new(name, if_exists, alterations)
}

impl TableChange {
    pub(super) fn new(
        name: ObjectName,
        if_exists: bool,
        alterations: Vec<WrittenAlteration>,
    ) -> Result<Self> {
        let renames = |one: &WrittenAlteration| matches!(one, WrittenAlteration::RenameTable(_));
        if alterations.len() > 1 && alterations.iter().any(renames) {
            return Err(Error::unsupported("RENAME TO together with another change"));
        }
        Ok(TableChange { name, if_exists, alterations })
    }
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

/// Takes in what sqlparser read.
pub(super) fn alteration(
    operation: AlterTableOperation,
    found: &mut Vec<WrittenAlteration>,
) -> Result<()> {
    match operation {
        AlterTableOperation::AddColumn {
            column_keyword: _,
            if_not_exists,
            column_def: column,
            column_position,
        } => {
            column_options(&column)?;
            let place = column_position.map(place_of);
            found.push(WrittenAlteration::Add { column, place, if_not_exists });
        }
        AlterTableOperation::DropColumn {
            has_column_keyword: _,
            column_names,
            if_exists,
            drop_behavior,
        } => {
            none(drop_behavior.as_ref(), "CASCADE or RESTRICT in ALTER TABLE")?;
            let drops = column_names.into_iter();
            found.extend(drops.map(|column| WrittenAlteration::Drop { column, if_exists }));
        }
        AlterTableOperation::RenameColumn { old_column_name: column, new_column_name: name } => {
            found.push(WrittenAlteration::Rename { column, name });
        }
        AlterTableOperation::AlterColumn { column_name, op } => {
            found.push(column_change(column_name, op)?);
        }
        AlterTableOperation::ModifyColumn { col_name, data_type, options, column_position } => {
            if let Some(option) = options.first() {
                return Err(Error::unsupported(format!("`{}` on a column", keywords(option, 2))));
            }
            let column = col_name.clone();
            found.push(WrittenAlteration::Retype { column, data_type });
            if let Some(place) = column_position.map(place_of) {
                found.push(WrittenAlteration::Move { column: col_name, place });
            }
        }
        AlterTableOperation::SetTblProperties { table_properties: options }
        | AlterTableOperation::SetOptionsParens { options } => {
            let properties = options.into_iter().map(property).collect::<Result<_>>()?;
            found.push(WrittenAlteration::Properties(properties));
        }
        AlterTableOperation::RenameTable { table_name: RenameTableNameKind::To(name) } => {
            found.push(WrittenAlteration::RenameTable(name));
        }
        AlterTableOperation::RenameTable { table_name: RenameTableNameKind::As(_) } => {
            return Err(Error::unsupported("ALTER TABLE … RENAME AS"));
        }
        refused => {
            return Err(Error::unsupported(format!("ALTER TABLE … {}", keywords(&refused, 2))));
        }
    }
    Ok(())
}

fn column_change(column: Ident, change: AlterColumnOperation) -> Result<WrittenAlteration> {
    match change {
        AlterColumnOperation::DropNotNull => Ok(WrittenAlteration::AllowNulls(column)),
        AlterColumnOperation::SetDataType { data_type, using, had_set: _ } => {
            none(using.as_ref(), "USING in ALTER COLUMN")?;
            Ok(WrittenAlteration::Retype { column, data_type })
        }
        AlterColumnOperation::SetDefault { value } => {
            Ok(WrittenAlteration::Default { column, value: Some(value) })
        }
        AlterColumnOperation::DropDefault => Ok(WrittenAlteration::Default { column, value: None }),
        AlterColumnOperation::SetNotNull => Ok(WrittenAlteration::RequireValues(column)),
        refused @ AlterColumnOperation::AddGenerated { .. } => {
            Err(Error::unsupported(format!("ALTER COLUMN … {}", keywords(&refused, 2))))
        }
    }
}

fn place_of(position: MySQLColumnPosition) -> WrittenPlace {
    match position {
        MySQLColumnPosition::First => WrittenPlace::First,
        MySQLColumnPosition::After(column) => WrittenPlace::After(column),
    }
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

/// Writes `place.lat` after the words that a column of ALTER TABLE follows, which sqlparser does
/// not read there, as one name.
pub fn join_paths(tokens: &mut Vec<TokenWithSpan>) {
    let words: Vec<usize> =
        (0..tokens.len()).filter(|&i| !matches!(tokens[i].token, Token::Whitespace(_))).collect();
    let is = |place: usize, keyword: Keyword| {
        words.get(place).is_some_and(|&index| is_keyword(&tokens[index].token, keyword))
    };
    if !(is(0, Keyword::ALTER) && is(1, Keyword::TABLE)) {
        return;
    }
    let begins = [Keyword::ADD, Keyword::DROP, Keyword::RENAME, Keyword::ALTER, Keyword::MODIFY];
    let skipped = [Keyword::COLUMN, Keyword::IF, Keyword::NOT, Keyword::EXISTS];
    let mut joined: Vec<(usize, usize, String)> = Vec::new();
    for place in 2..words.len() {
        let mut column = place + 1;
        if !begins.iter().any(|keyword| is(place, *keyword)) {
            continue;
        }
        while skipped.iter().any(|keyword| is(column, *keyword)) {
            column += 1;
        }
        if let Some((last, name)) = dotted(tokens, &words, column) {
            joined.push((words[column], words[last], name));
        }
    }
    for (first, last, name) in joined.into_iter().rev() {
        let span = tokens[first].span;
        let token = Token::make_word(&name, Some('"'));
        tokens.splice(first..=last, [TokenWithSpan { token, span }]);
    }
}

/// The last word of names with dots between them, and the names as one; none for a single name.
fn dotted(tokens: &[TokenWithSpan], words: &[usize], first: usize) -> Option<(usize, String)> {
    let word = |place: usize| match &tokens[*words.get(place)?].token {
        Token::Word(word) => Some(word.value.as_str()),
        _ => None,
    };
    let is_dot =
        |place: usize| words.get(place).is_some_and(|index| tokens[*index].token == Token::Period);
    let mut name = word(first)?.to_owned();
    let mut last = first;
    while is_dot(last + 1)
        && let Some(part) = word(last + 2)
    {
        name.push(WITHIN);
        name.push_str(part);
        last += 2;
    }
    (last > first).then_some((last, name))
}
