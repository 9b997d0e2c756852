//! The supported statements. The error for any other statement or clause contains its name.

use sqlparser::ast::{
    CommentObject, Ident, ObjectName, ObjectType, Query, SchemaName, SetExpr, ShowStatementIn,
    ShowStatementOptions, Statement,
};

use crate::alter_table::AlterTableStatement;
use crate::change::{
    DeleteStatement, MergeStatement, TruncateStatement, UpdateStatement, row_delete, row_merge,
    row_update, split_with_clause, truncation,
};
use crate::create_table::{CreateTableStatement, new_table};
use crate::create_view::{CreateViewStatement, new_view};
use crate::error::{Error, Result};
use crate::explain::{ExplainOptions, explained};
use crate::function_statement::FunctionStatement;
use crate::insert::{InsertStatement, new_rows};
use crate::table_references::{ReferencedTable, inspect};
use crate::time_travel::{ConstantEvaluator, versions_into_names};
use crate::unsupported_clauses::{none, unset};
use crate::upsert::{is_upsert, upsert};

/// A supported statement, with the tables that its query refers to.
#[derive(Debug)]
pub enum SupportedStatement {
    /// SELECT, WITH or VALUES.
    Query(SourceQuery),
    /// EXPLAIN of a query.
    Explain {
        /// Query to explain.
        source: SourceQuery,
        /// Options of EXPLAIN.
        options: ExplainOptions,
    },
    /// EXPLAIN COST of a query.
    ExplainCost(SourceQuery),
    /// SHOW TABLES, optionally in a namespace.
    ShowTables(Option<String>),
    /// DESCRIBE of a table.
    Describe(ObjectName),
    /// DESCRIBE of a query.
    DescribeQuery(SourceQuery),
    /// SUMMARIZE of a table or query.
    Summarize(SourceQuery),
    /// CREATE TABLE.
    CreateTable(Box<CreateTableStatement>),
    /// ALTER TABLE.
    Alter(AlterTableStatement),
    /// COMMENT ON.
    Comment(CommentStatement),
    /// INSERT INTO.
    Insert(Box<InsertStatement>),
    /// DELETE.
    Delete(Box<DeleteStatement>),
    /// UPDATE.
    Update(Box<UpdateStatement>),
    /// MERGE.
    Merge(Box<MergeStatement>),
    /// TRUNCATE.
    Truncate(TruncateStatement),
    /// CREATE VIEW.
    CreateView(Box<CreateViewStatement>),
    /// DROP VIEW.
    DropViews {
        /// View names.
        names: Vec<ObjectName>,
        /// True with IF EXISTS.
        if_exists: bool,
    },
    /// SHOW VIEWS, optionally in a namespace.
    ShowViews(Option<String>),
    /// A statement on functions.
    Function(FunctionStatement),
    /// DROP TABLE.
    DropTables {
        /// Table names.
        names: Vec<ObjectName>,
        /// True with IF EXISTS.
        if_exists: bool,
    },
    /// CREATE SCHEMA.
    CreateNamespace {
        /// Name of the namespace.
        name: ObjectName,
        /// True with IF NOT EXISTS.
        if_not_exists: bool,
    },
    /// DROP SCHEMA.
    DropNamespaces {
        /// Names of the namespaces.
        names: Vec<ObjectName>,
        /// True with IF EXISTS.
        if_exists: bool,
    },
}

/// Content of COMMENT ON.
#[derive(Debug)]
pub struct CommentStatement {
    /// Table name.
    pub table: ObjectName,
    /// Column of the table; `None` if the comment is on the table.
    pub column: Option<Ident>,
    /// Text; `None` removes the comment.
    pub text: Option<String>,
    /// True with IF EXISTS.
    pub if_exists: bool,
}

/// A query with the tables that it refers to.
#[derive(Debug, Clone)]
pub struct SourceQuery {
    query: Box<Query>,
    mentions: Vec<ReferencedTable>,
}

impl SourceQuery {
    /// Checks a query and collects its table references.
    pub(crate) fn new(mut query: Box<Query>) -> Result<Self> {
        let mentions = inspect(&mut query)?;
        Ok(SourceQuery { query, mentions })
    }

    /// Removes a table from the list of tables to which the query refers.
    pub(crate) fn without(mut self, table: &str) -> Self {
        self.mentions.retain(|mention| mention.table.name != table);
        self
    }

    /// Returns the query.
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// Returns the query for modification.
    pub fn query_mut(&mut self) -> &mut Query {
        &mut self.query
    }

    /// Returns the query and its tables. A time-travel clause such as `AT BRANCH dev` becomes a
    /// part of the table's name.
    pub fn into_parts(
        self,
        constants: &ConstantEvaluator<'_>,
    ) -> Result<(Box<Query>, Vec<ReferencedTable>)> {
        let SourceQuery { mut query, mut mentions } = self;
        mentions.extend(versions_into_names(&mut query, constants)?);
        Ok((query, mentions))
    }
}

impl SupportedStatement {
    /// Returns the query; fails for other statements.
    pub fn into_query(self) -> Result<SourceQuery> {
        match self {
            SupportedStatement::Query(source) => Ok(source),
            other => Err(Error::Unsupported {
                what: format!("{} here", other.name()),
                hint: Some("Write a SELECT.".to_owned()),
                position: None,
            }),
        }
    }

    /// Returns the name of the statement for error messages.
    pub fn name(&self) -> &'static str {
        match self {
            SupportedStatement::Query(_) => "SELECT",
            SupportedStatement::Explain { .. } => "EXPLAIN",
            SupportedStatement::ExplainCost(_) => "EXPLAIN COST",
            SupportedStatement::ShowTables(_) => "SHOW TABLES",
            SupportedStatement::Describe(_) | SupportedStatement::DescribeQuery(_) => "DESCRIBE",
            SupportedStatement::Summarize(_) => "SUMMARIZE",
            SupportedStatement::CreateTable(_) => "CREATE TABLE",
            SupportedStatement::Alter(_) => "ALTER TABLE",
            SupportedStatement::Comment(_) => "COMMENT",
            SupportedStatement::Insert(_) => "INSERT",
            SupportedStatement::Delete(_) => "DELETE",
            SupportedStatement::Update(_) => "UPDATE",
            SupportedStatement::Merge(_) => "MERGE",
            SupportedStatement::Truncate(_) => "TRUNCATE",
            SupportedStatement::CreateView(_) => "CREATE VIEW",
            SupportedStatement::DropViews { .. } => "DROP VIEW",
            SupportedStatement::ShowViews(_) => "SHOW VIEWS",
            SupportedStatement::Function(statement) => statement.name(),
            SupportedStatement::DropTables { .. } => "DROP TABLE",
            SupportedStatement::CreateNamespace { .. } => "CREATE SCHEMA",
            SupportedStatement::DropNamespaces { .. } => "DROP SCHEMA",
        }
    }
}

/// Converts a parsed statement. For an unsupported statement, returns an error that contains its
/// name. `view` is the query text of CREATE VIEW.
pub fn command(statement: Statement, view: Option<String>) -> Result<SupportedStatement> {
    match statement {
        Statement::Query(query) if writes(&query) => written(*query),
        Statement::Query(query) => Ok(SupportedStatement::Query(SourceQuery::new(query)?)),
        Statement::Delete(delete) => {
            Ok(SupportedStatement::Delete(Box::new(row_delete(delete, None)?)))
        }
        Statement::Update(update) => {
            Ok(SupportedStatement::Update(Box::new(row_update(update, None)?)))
        }
        Statement::Merge(merge) => Ok(SupportedStatement::Merge(Box::new(row_merge(merge, None)?))),
        Statement::Truncate(truncate) => Ok(SupportedStatement::Truncate(truncation(truncate)?)),
        Statement::CreateTable(create) => {
            Ok(SupportedStatement::CreateTable(Box::new(new_table(create)?)))
        }
        Statement::CreateView(create) => {
            Ok(SupportedStatement::CreateView(Box::new(new_view(create, view)?)))
        }
        Statement::ShowViews { terse, materialized, show_options } => {
            unset(terse || materialized, "a modifier of SHOW VIEWS")?;
            Ok(SupportedStatement::ShowViews(show_namespace(show_options)?))
        }
        Statement::Insert(insert) if is_upsert(&insert) => {
            Ok(SupportedStatement::Merge(Box::new(upsert(insert, None)?)))
        }
        Statement::ShowColumns { extended, full, show_options } => {
            unset(extended || full, "a modifier of SHOW COLUMNS")?;
            shown_columns(show_options)
        }
        Statement::Insert(insert) => {
            Ok(SupportedStatement::Insert(Box::new(new_rows(insert, None)?)))
        }
        Statement::ShowTables { terse, history, extended, full, external, show_options } => {
            unset(terse || history || extended || full || external, "a modifier of SHOW TABLES")?;
            Ok(SupportedStatement::ShowTables(show_namespace(show_options)?))
        }
        Statement::ExplainTable {
            describe_alias: _,
            hive_format,
            has_table_keyword: _,
            table_name,
        } => {
            none(hive_format.as_ref(), "DESCRIBE EXTENDED or FORMATTED")?;
            Ok(SupportedStatement::Describe(table_name))
        }
        Statement::Comment { object_type, object_name, comment: text, if_exists } => {
            commented(object_type, object_name, text, if_exists)
        }
        explain @ Statement::Explain { .. } => explained(explain),
        drop @ Statement::Drop { .. } => dropped(drop),
        create @ Statement::CreateSchema { .. } => created_schema(create),
        refused => Err(refusal(&refused)),
    }
}

/// Converts CREATE SCHEMA.
fn created_schema(statement: Statement) -> Result<SupportedStatement> {
    let Statement::CreateSchema {
        schema_name,
        if_not_exists,
        with,
        options,
        default_collate_spec,
        clone,
    } = statement
    else {
        return Err(refusal(&statement));
    };
    none(with.as_ref(), "WITH (…) in CREATE SCHEMA")?;
    none(options.as_ref(), "OPTIONS (…) in CREATE SCHEMA")?;
    none(default_collate_spec.as_ref(), "DEFAULT COLLATE in CREATE SCHEMA")?;
    none(clone.as_ref(), "CLONE in CREATE SCHEMA")?;
    match schema_name {
        SchemaName::Simple(name) => Ok(SupportedStatement::CreateNamespace { name, if_not_exists }),
        SchemaName::UnnamedAuthorization(_) | SchemaName::NamedAuthorization(..) => {
            Err(Error::unsupported("AUTHORIZATION in CREATE SCHEMA"))
        }
    }
}

/// Returns true if a query is a WITH clause followed by INSERT, UPDATE, DELETE or MERGE.
fn writes(query: &Query) -> bool {
    matches!(
        *query.body,
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_)
    )
}

/// Converts an INSERT, UPDATE, DELETE or MERGE that follows a WITH clause.
fn written(query: Query) -> Result<SupportedStatement> {
    let (with, body) = split_with_clause(query)?;
    match body {
        SetExpr::Delete(Statement::Delete(delete)) => {
            Ok(SupportedStatement::Delete(Box::new(row_delete(delete, with)?)))
        }
        SetExpr::Update(Statement::Update(update)) => {
            Ok(SupportedStatement::Update(Box::new(row_update(update, with)?)))
        }
        SetExpr::Merge(Statement::Merge(merge)) => {
            Ok(SupportedStatement::Merge(Box::new(row_merge(merge, with)?)))
        }
        SetExpr::Insert(Statement::Insert(insert)) if is_upsert(&insert) => {
            Ok(SupportedStatement::Merge(Box::new(upsert(insert, with)?)))
        }
        SetExpr::Insert(Statement::Insert(insert)) => {
            Ok(SupportedStatement::Insert(Box::new(new_rows(insert, with)?)))
        }
        other => Err(Error::unsupported(keywords(&other, 1))),
    }
}

/// Converts SHOW COLUMNS to DESCRIBE.
fn shown_columns(options: ShowStatementOptions) -> Result<SupportedStatement> {
    let ShowStatementOptions { show_in, starts_with, limit, limit_from, filter_position } = options;
    none(starts_with.as_ref(), "STARTS WITH in SHOW")?;
    none(limit.as_ref().map(|_| ()).or(limit_from.map(|_| ())), "LIMIT in SHOW")?;
    none(filter_position.as_ref(), "LIKE or WHERE in SHOW")?;
    match show_in.and_then(|show_in| show_in.parent_name) {
        Some(table) => Ok(SupportedStatement::Describe(table)),
        None => Err(Error::unsupported("SHOW COLUMNS without a table")),
    }
}

fn show_namespace(options: ShowStatementOptions) -> Result<Option<String>> {
    let ShowStatementOptions { show_in, starts_with, limit, limit_from, filter_position } = options;
    none(starts_with.as_ref(), "STARTS WITH in SHOW")?;
    none(limit.as_ref(), "LIMIT in SHOW")?;
    none(limit_from.as_ref(), "FROM after LIMIT in SHOW")?;
    none(filter_position.as_ref(), "LIKE or WHERE in SHOW")?;
    let Some(ShowStatementIn { clause: _, parent_type, parent_name }) = show_in else {
        return Ok(None);
    };
    none(parent_type.as_ref(), "the kind of object after IN in SHOW")?;
    let Some(name) = parent_name else { return Ok(None) };
    super::table_name::namespace_of(&name).map(Some)
}

fn commented(
    on: CommentObject,
    name: ObjectName,
    text: Option<String>,
    if_exists: bool,
) -> Result<SupportedStatement> {
    let (table, column) = match on {
        CommentObject::Table => (name, None),
        CommentObject::Column => {
            let names = super::table_name::idents(&name)?;
            let mut names: Vec<Ident> = names.into_iter().cloned().collect();
            match names.pop() {
                Some(column) if !names.is_empty() => (ObjectName::from(names), Some(column)),
                _ => {
                    return Err(Error::Invalid {
                        message: format!("`{name}` is not the name of a column"),
                        hint: Some("Write `table.column` or `namespace.table.column`.".to_owned()),
                        position: super::table_name::position(&name),
                    });
                }
            }
        }
        other => return Err(Error::unsupported(format!("COMMENT ON {other}"))),
    };
    Ok(SupportedStatement::Comment(CommentStatement { table, column, text, if_exists }))
}

fn dropped(statement: Statement) -> Result<SupportedStatement> {
    let Statement::Drop {
        object_type,
        if_exists,
        names,
        cascade,
        restrict: _,
        purge,
        temporary,
        table,
    } = statement
    else {
        return Err(refusal(&statement));
    };
    // Accept CASCADE for tables and views, where it has no effect: no other object is deleted with
    // them, because a view refers to tables only by name.
    unset(cascade && object_type == ObjectType::Schema, "DROP SCHEMA … CASCADE")?;
    unset(purge, "PURGE")?;
    unset(temporary, "DROP TEMPORARY")?;
    none(table.as_ref(), "ON after DROP")?;
    match object_type {
        ObjectType::Table => Ok(SupportedStatement::DropTables { names, if_exists }),
        ObjectType::View => Ok(SupportedStatement::DropViews { names, if_exists }),
        ObjectType::Schema => Ok(SupportedStatement::DropNamespaces { names, if_exists }),
        other => Err(Error::unsupported(format!("DROP {other}"))),
    }
}

/// Returns the first `count` words of the SQL text of a syntax node.
pub fn keywords(thing: &impl std::fmt::Display, count: usize) -> String {
    let text = thing.to_string();
    let words: Vec<&str> = text.split_whitespace().take(count).collect();
    words.join(" ")
}

/// Returns the error for an unsupported statement.
pub(crate) fn refusal(statement: &Statement) -> Error {
    let (what, hint) = match statement {
        Statement::Copy { to: true, .. } => {
            let hint = "Write `COPY (query) TO 'file.parquet'` as a separate statement.";
            ("COPY here".to_owned(), Some(hint))
        }
        Statement::Copy { .. } | Statement::CopyIntoSnowflake { .. } => {
            ("COPY FROM".to_owned(), Some("Import files with `headwater table import`."))
        }
        Statement::StartTransaction { .. }
        | Statement::Commit { .. }
        | Statement::Rollback { .. } => (
            keywords(statement, 1),
            Some("Write on a branch and merge the branch: a merge is atomic over all tables."),
        ),
        Statement::Set(_) => ("SET".to_owned(), None),
        other => {
            let two = keywords(other, 2);
            let text = match two.split_once(' ') {
                Some(("CREATE" | "ALTER" | "DROP" | "SHOW" | "RENAME", _)) | None => two,
                Some((first, _)) => first.to_owned(),
            };
            (text.trim_end_matches(';').to_owned(), None)
        }
    };
    Error::Unsupported { what, hint: hint.map(str::to_owned), position: None }
}
