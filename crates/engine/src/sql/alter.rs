//! ALTER TABLE as it is honoured.

use datafusion::sql::sqlparser::ast::{
    AlterColumnOperation, AlterTable, AlterTableOperation, ColumnDef, ColumnOption, DataType, Expr,
    Ident, MySQLColumnPosition, ObjectName, RenameTableNameKind, SqlOption, Value, ValueWithSpan,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use headwater_model::PartitionField;

use crate::error::{Error, Result};
use crate::sql::clauses::{none, unset};
use crate::sql::new_table::column_options;
use crate::sql::partition::is_keyword;
use crate::sql::statement::keywords;

/// What stands between the names of a column within a column; no name has it.
const WITHIN: char = '\0';

/// What ALTER TABLE asks for.
#[derive(Debug, Clone)]
pub(crate) struct TableChange {
    /// The table.
    pub name: ObjectName,
    /// IF EXISTS.
    pub if_exists: bool,
    /// The changes, in order.
    pub alterations: Vec<WrittenAlteration>,
}

/// One change as it is written.
#[derive(Debug, Clone)]
pub(crate) enum WrittenAlteration {
    Add { column: ColumnDef, place: Option<WrittenPlace>, if_not_exists: bool },
    Drop { column: Ident, if_exists: bool },
    Rename { column: Ident, name: Ident },
    Retype { column: Ident, data_type: DataType },
    AllowNulls(Ident),
    RequireValues(Ident),
    Comment { column: Ident, comment: Option<String> },
    Default { column: Ident, value: Option<Expr> },
    Move { column: Ident, place: WrittenPlace },
    AddPart { field: PartitionField, name: Option<String> },
    DropPart(WrittenPart),
    ReplacePart { old: WrittenPart, field: PartitionField, name: Option<String> },
    SortBy(Vec<WrittenKey>),
    Properties(Vec<(String, Option<String>)>),
    RenameTable(ObjectName),
}

/// A partition field that is there: by its name, or by what it says.
#[derive(Debug, Clone)]
pub(crate) enum WrittenPart {
    Name(String),
    Field(PartitionField),
}

/// A column that a table is to be sorted by.
#[derive(Debug, Clone)]
pub(crate) struct WrittenKey {
    pub column: String,
    pub descending: bool,
    pub nulls_first: bool,
}

/// FIRST, or AFTER a column.
#[derive(Debug, Clone)]
pub(crate) enum WrittenPlace {
    First,
    After(Ident),
}

/// The names that lead to a column.
pub(crate) fn path(column: &Ident) -> Vec<String> {
    column.value.split(WITHIN).map(str::to_owned).collect()
}

/// Takes an ALTER TABLE in, or refuses what it asks for by name.
pub(crate) fn table_change(alter: AlterTable) -> Result<TableChange> {
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

/// The default of a column where it is made.
pub(crate) fn default_of(column: &ColumnDef) -> Option<&Expr> {
    column.options.iter().find_map(|option| match &option.option {
        ColumnOption::Default(value) => Some(value),
        _ => None,
    })
}

/// The text of a comment on a column where it is made.
pub(crate) fn comment_of(column: &ColumnDef) -> Option<&str> {
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

/// `'key' = 'value'`; NULL removes the property.
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

/// Writes `place.lat` after the words that a column of ALTER TABLE follows, which sqlparser does not
/// read there, as one name.
pub(crate) fn join_paths(tokens: &mut Vec<TokenWithSpan>) {
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
