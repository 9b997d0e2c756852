//! The statements that are honoured. Every other is refused by name, and so is every clause.

use datafusion::sql::sqlparser::ast::{
    ColumnDef, ColumnOption, CreateTable, CreateTableOptions, DescribeAlias, Expr,
    HiveDistributionStyle, Ident, Insert, ObjectName, ObjectType, Query, SchemaName,
    ShowStatementIn, ShowStatementOptions, SqlOption, Statement, TableObject, Value, ValueWithSpan,
};
use headwater_model::PartitionField;

use crate::error::{Error, Result};
use crate::sql::clauses::{empty, none, unset};
use crate::sql::partition;
use crate::sql::tables::{Mention, inspect};

/// A statement that is honoured, with the tables that its query names.
#[derive(Debug)]
pub(crate) enum Command {
    /// SELECT, WITH or VALUES.
    Query(Source),
    /// EXPLAIN of a query.
    Explain {
        /// The query.
        source: Source,
        /// EXPLAIN ANALYZE.
        analyze: bool,
        /// EXPLAIN VERBOSE.
        verbose: bool,
    },
    /// SHOW TABLES, in a namespace.
    ShowTables(Option<String>),
    /// DESCRIBE of a table.
    Describe(ObjectName),
    /// CREATE TABLE.
    CreateTable(Box<NewTable>),
    /// INSERT INTO.
    Insert(Box<NewRows>),
    /// DROP TABLE.
    DropTables {
        /// The tables.
        names: Vec<ObjectName>,
        /// IF EXISTS.
        if_exists: bool,
    },
    /// CREATE SCHEMA.
    CreateNamespace {
        /// Its name.
        name: ObjectName,
        /// IF NOT EXISTS.
        if_not_exists: bool,
    },
    /// DROP SCHEMA.
    DropNamespaces {
        /// Their names.
        names: Vec<ObjectName>,
        /// IF EXISTS.
        if_exists: bool,
    },
}

/// A query and the tables it names.
#[derive(Debug)]
pub(crate) struct Source {
    /// The query.
    pub query: Box<Query>,
    /// The tables, common table expressions left out.
    pub mentions: Vec<Mention>,
}

impl Source {
    fn new(mut query: Box<Query>) -> Result<Self> {
        let mentions = inspect(&mut query)?;
        Ok(Source { query, mentions })
    }
}

/// What CREATE TABLE asks for.
#[derive(Debug)]
pub(crate) struct NewTable {
    /// Its name.
    pub name: ObjectName,
    /// OR REPLACE.
    pub or_replace: bool,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// The columns, where they are listed.
    pub columns: Vec<ColumnDef>,
    /// The partition fields.
    pub partition: Vec<PartitionField>,
    /// The query of CREATE TABLE AS.
    pub source: Option<Source>,
}

/// What INSERT asks for.
#[derive(Debug)]
pub(crate) struct NewRows {
    /// The table.
    pub table: ObjectName,
    /// The columns, where they are listed.
    pub columns: Vec<Ident>,
    /// The rows.
    pub source: Source,
    /// The statement without its rows, for the planner.
    pub statement: Insert,
}

impl Command {
    /// What the statement is called.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Command::Query(_) => "SELECT",
            Command::Explain { .. } => "EXPLAIN",
            Command::ShowTables(_) => "SHOW TABLES",
            Command::Describe(_) => "DESCRIBE",
            Command::CreateTable(_) => "CREATE TABLE",
            Command::Insert(_) => "INSERT",
            Command::DropTables { .. } => "DROP TABLE",
            Command::CreateNamespace { .. } => "CREATE SCHEMA",
            Command::DropNamespaces { .. } => "DROP SCHEMA",
        }
    }
}

/// Takes a statement in, or refuses it by name.
pub(crate) fn command(statement: Statement, partition: Vec<PartitionField>) -> Result<Command> {
    match statement {
        Statement::Query(query) => Ok(Command::Query(Source::new(query)?)),
        Statement::CreateTable(create) => {
            Ok(Command::CreateTable(Box::new(new_table(create, partition)?)))
        }
        Statement::Insert(insert) => Ok(Command::Insert(Box::new(new_rows(insert)?))),
        Statement::ShowTables { terse, history, extended, full, external, show_options } => {
            unset(terse || history || extended || full || external, "a modifier of SHOW TABLES")?;
            Ok(Command::ShowTables(show_namespace(show_options)?))
        }
        Statement::ExplainTable {
            describe_alias: _,
            hive_format,
            has_table_keyword: _,
            table_name,
        } => {
            none(hive_format.as_ref(), "DESCRIBE EXTENDED or FORMATTED")?;
            Ok(Command::Describe(table_name))
        }
        explain @ Statement::Explain { .. } => explained(explain),
        drop @ Statement::Drop { .. } => dropped(drop),
        Statement::CreateSchema {
            schema_name,
            if_not_exists,
            with,
            options,
            default_collate_spec,
            clone,
        } => {
            none(with.as_ref(), "WITH (…) in CREATE SCHEMA")?;
            none(options.as_ref(), "OPTIONS (…) in CREATE SCHEMA")?;
            none(default_collate_spec.as_ref(), "DEFAULT COLLATE in CREATE SCHEMA")?;
            none(clone.as_ref(), "CLONE in CREATE SCHEMA")?;
            match schema_name {
                SchemaName::Simple(name) => Ok(Command::CreateNamespace { name, if_not_exists }),
                SchemaName::UnnamedAuthorization(_) | SchemaName::NamedAuthorization(..) => {
                    Err(Error::unsupported("AUTHORIZATION in CREATE SCHEMA"))
                }
            }
        }
        refused => Err(refusal(&refused)),
    }
}

fn explained(statement: Statement) -> Result<Command> {
    let Statement::Explain {
        describe_alias,
        analyze,
        verbose,
        query_plan,
        estimate,
        statement,
        format,
        options,
    } = statement
    else {
        return Err(refusal(&statement));
    };
    unset(query_plan, "EXPLAIN QUERY PLAN")?;
    unset(estimate, "EXPLAIN ESTIMATE")?;
    none(format.as_ref(), "EXPLAIN FORMAT")?;
    none(options.as_ref(), "EXPLAIN (…)")?;
    match (describe_alias, *statement) {
        (DescribeAlias::Explain, Statement::Query(query)) => {
            Ok(Command::Explain { source: Source::new(query)?, analyze, verbose })
        }
        (DescribeAlias::Explain, other) => {
            Err(Error::unsupported(format!("EXPLAIN {}", keywords(&other, 1))))
        }
        _ => Err(Error::unsupported("DESCRIBE of a query")),
    }
}

fn show_namespace(options: ShowStatementOptions) -> Result<Option<String>> {
    let ShowStatementOptions { show_in, starts_with, limit, limit_from, filter_position } = options;
    none(starts_with.as_ref(), "STARTS WITH in SHOW TABLES")?;
    none(limit.as_ref(), "LIMIT in SHOW TABLES")?;
    none(limit_from.as_ref(), "FROM after LIMIT in SHOW TABLES")?;
    none(filter_position.as_ref(), "LIKE or WHERE in SHOW TABLES")?;
    let Some(ShowStatementIn { clause: _, parent_type, parent_name }) = show_in else {
        return Ok(None);
    };
    none(parent_type.as_ref(), "a kind of object in SHOW TABLES")?;
    let Some(name) = parent_name else { return Ok(None) };
    match super::table_name::idents(&name)?.as_slice() {
        [one] => Ok(Some(one.value.clone())),
        _ => Err(Error::unsupported(format!("`{name}` in SHOW TABLES"))),
    }
}

fn dropped(statement: Statement) -> Result<Command> {
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
    unset(cascade, "CASCADE")?;
    unset(purge, "PURGE")?;
    unset(temporary, "DROP TEMPORARY")?;
    none(table.as_ref(), "ON after DROP")?;
    match object_type {
        ObjectType::Table => Ok(Command::DropTables { names, if_exists }),
        ObjectType::Schema => Ok(Command::DropNamespaces { names, if_exists }),
        other => Err(Error::unsupported(format!("DROP {other}"))),
    }
}

fn new_rows(mut insert: Insert) -> Result<NewRows> {
    let source = insert.source.take();
    let statement = insert.clone();
    let Insert {
        insert_token: _,
        optimizer_hints,
        or,
        ignore,
        into: _,
        table,
        table_alias,
        columns,
        overwrite,
        source: _,
        assignments,
        partitioned,
        after_columns,
        has_table_keyword: _,
        on,
        returning,
        output,
        replace_into,
        priority,
        insert_alias,
        settings,
        format_clause,
        multi_table_insert_type,
        multi_table_into_clauses,
        multi_table_when_clauses,
        multi_table_else_clause,
    } = insert;
    empty(&optimizer_hints, "an optimizer hint")?;
    none(or.as_ref(), "INSERT OR …")?;
    unset(ignore, "INSERT IGNORE")?;
    none(table_alias.as_ref(), "an alias in INSERT")?;
    unset(overwrite, "INSERT OVERWRITE")?;
    empty(&assignments, "INSERT … SET")?;
    none(partitioned.as_ref(), "PARTITION (…) in INSERT")?;
    empty(&after_columns, "columns after PARTITION (…)")?;
    none(on.as_ref(), "ON CONFLICT or ON DUPLICATE KEY")?;
    none(returning.as_ref(), "RETURNING")?;
    none(output.as_ref(), "OUTPUT")?;
    unset(replace_into, "REPLACE INTO")?;
    none(priority.as_ref(), "INSERT with a priority")?;
    none(insert_alias.as_ref(), "AS in INSERT")?;
    none(settings.as_ref(), "SETTINGS")?;
    none(format_clause.as_ref(), "FORMAT")?;
    none(multi_table_insert_type.as_ref(), "INSERT into several tables")?;
    empty(&multi_table_into_clauses, "INSERT into several tables")?;
    empty(&multi_table_when_clauses, "INSERT into several tables")?;
    none(multi_table_else_clause.as_ref(), "INSERT into several tables")?;
    let TableObject::TableName(table) = table else {
        return Err(Error::unsupported("INSERT into anything but a table"));
    };
    let Some(source) = source else { return Err(Error::unsupported("INSERT without rows")) };
    let columns = column_list(columns)?;
    Ok(NewRows { table, columns, source: Source::new(source)?, statement })
}

fn column_list(columns: Vec<ObjectName>) -> Result<Vec<Ident>> {
    let single = |name: ObjectName| match super::table_name::idents(&name)?.as_slice() {
        [one] => Ok((*one).clone()),
        _ => Err(Error::unsupported(format!("`{name}` in a list of columns"))),
    };
    columns.into_iter().map(single).collect()
}

#[expect(clippy::too_many_lines, reason = "one line for each clause that is refused")]
fn new_table(create: CreateTable, mut partition: Vec<PartitionField>) -> Result<NewTable> {
    let CreateTable {
        or_replace,
        temporary,
        external,
        dynamic,
        global,
        if_not_exists,
        transient,
        volatile,
        iceberg: _,
        snapshot,
        name,
        columns,
        constraints,
        hive_distribution,
        hive_formats,
        table_options,
        file_format,
        location,
        query,
        without_rowid,
        like,
        clone,
        version,
        comment,
        on_commit,
        on_cluster,
        primary_key,
        order_by,
        partition_by,
        cluster_by,
        clustered_by,
        inherits,
        partition_of,
        for_values,
        strict,
        copy_grants,
        enable_schema_evolution,
        change_tracking,
        data_retention_time_in_days,
        max_data_extension_time_in_days,
        default_ddl_collation,
        with_aggregation_policy,
        with_row_access_policy,
        with_storage_lifecycle_policy,
        with_tags,
        external_volume,
        base_location,
        catalog,
        catalog_sync,
        storage_serialization_policy,
        target_lag,
        warehouse,
        refresh_mode,
        initialize,
        require_user,
        diststyle,
        distkey,
        sortkey,
        backup,
    } = create;
    unset(temporary || volatile, "CREATE TEMPORARY TABLE")?;
    unset(external, "CREATE EXTERNAL TABLE")?;
    unset(dynamic, "CREATE DYNAMIC TABLE")?;
    none(global, "CREATE GLOBAL or LOCAL TABLE")?;
    unset(transient, "CREATE TRANSIENT TABLE")?;
    unset(snapshot, "CREATE SNAPSHOT TABLE")?;
    empty(&constraints, "a constraint on the table")?;
    if !matches!(hive_distribution, HiveDistributionStyle::NONE) {
        return Err(Error::unsupported("PARTITIONED BY or SKEWED BY with types"));
    }
    let format = hive_formats.filter(|f| {
        f.row_format.is_some()
            || f.serde_properties.is_some()
            || f.storage.is_some()
            || f.location.is_some()
    });
    none(format.as_ref(), "ROW FORMAT, STORED AS or LOCATION")?;
    none(file_format.as_ref(), "STORED AS")?;
    none(location.as_ref(), "LOCATION")?;
    unset(without_rowid, "WITHOUT ROWID")?;
    none(like.as_ref(), "CREATE TABLE LIKE")?;
    none(clone.as_ref(), "CREATE TABLE CLONE")?;
    none(version.as_ref(), "CREATE TABLE CLONE")?;
    none(comment.as_ref(), "COMMENT")?;
    none(on_commit.as_ref(), "ON COMMIT")?;
    none(on_cluster.as_ref(), "ON CLUSTER")?;
    none(primary_key.as_ref(), "PRIMARY KEY")?;
    none(order_by.as_ref(), "ORDER BY in CREATE TABLE")?;
    none(partition_by.as_ref(), "PARTITION BY without parentheses")?;
    none(cluster_by.as_ref(), "CLUSTER BY")?;
    none(clustered_by.as_ref(), "CLUSTERED BY")?;
    none(inherits.as_ref(), "INHERITS")?;
    none(partition_of.as_ref(), "PARTITION OF")?;
    none(for_values.as_ref(), "FOR VALUES")?;
    unset(strict, "STRICT")?;
    unset(copy_grants, "COPY GRANTS")?;
    none(enable_schema_evolution, "ENABLE_SCHEMA_EVOLUTION")?;
    none(change_tracking, "CHANGE_TRACKING")?;
    none(data_retention_time_in_days, "DATA_RETENTION_TIME_IN_DAYS")?;
    none(max_data_extension_time_in_days, "MAX_DATA_EXTENSION_TIME_IN_DAYS")?;
    none(default_ddl_collation.as_ref(), "DEFAULT_DDL_COLLATION")?;
    none(with_aggregation_policy.as_ref(), "WITH AGGREGATION POLICY")?;
    none(with_row_access_policy.as_ref(), "WITH ROW ACCESS POLICY")?;
    none(with_storage_lifecycle_policy.as_ref(), "WITH STORAGE LIFECYCLE POLICY")?;
    none(with_tags.as_ref(), "WITH TAG")?;
    none(external_volume.as_ref(), "EXTERNAL_VOLUME")?;
    none(base_location.as_ref(), "BASE_LOCATION")?;
    none(catalog.as_ref(), "CATALOG")?;
    none(catalog_sync.as_ref(), "CATALOG_SYNC")?;
    none(storage_serialization_policy.as_ref(), "STORAGE_SERIALIZATION_POLICY")?;
    none(target_lag.as_ref(), "TARGET_LAG")?;
    none(warehouse.as_ref(), "WAREHOUSE")?;
    none(refresh_mode.as_ref(), "REFRESH_MODE")?;
    none(initialize.as_ref(), "INITIALIZE")?;
    unset(require_user, "REQUIRE USER")?;
    none(diststyle.as_ref(), "DISTSTYLE")?;
    none(distkey.as_ref(), "DISTKEY")?;
    none(sortkey.as_ref(), "SORTKEY")?;
    none(backup, "BACKUP")?;
    unset(or_replace && if_not_exists, "OR REPLACE and IF NOT EXISTS together")?;
    columns.iter().try_for_each(column_options)?;
    if query.is_some() && !columns.is_empty() {
        return Err(Error::unsupported("a list of columns in CREATE TABLE AS"));
    }
    for field in table_options_partition(&table_options)? {
        partition.push(field);
    }
    let source = query.map(Source::new).transpose()?;
    Ok(NewTable { name, or_replace, if_not_exists, columns, partition, source })
}

fn column_options(column: &ColumnDef) -> Result<()> {
    for option in &column.options {
        match &option.option {
            ColumnOption::Null | ColumnOption::NotNull => {}
            refused => {
                let words = keywords(refused, 2);
                let what = format!("`{words}` on column `{}`", column.name.value);
                return Err(Error::unsupported(what));
            }
        }
    }
    Ok(())
}

/// `WITH (partitioned_by = 'day(ts), origin')`, the one option that is honoured.
fn table_options_partition(options: &CreateTableOptions) -> Result<Vec<PartitionField>> {
    let options = match options {
        CreateTableOptions::None => return Ok(Vec::new()),
        CreateTableOptions::With(options) => options,
        CreateTableOptions::Options(_) => return Err(Error::unsupported("OPTIONS (…)")),
        CreateTableOptions::Plain(_) => return Err(Error::unsupported("a table option")),
        CreateTableOptions::TableProperties(_) => return Err(Error::unsupported("TBLPROPERTIES")),
    };
    let mut fields = Vec::new();
    for option in options {
        let (key, text) = match option {
            SqlOption::KeyValue {
                key,
                value:
                    Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), span: _ }),
            } => (key, text),
            other => return Err(Error::unsupported(format!("the table option `{other}`"))),
        };
        let partition =
            ["partitioned_by", "partition_by"].iter().any(|k| key.value.eq_ignore_ascii_case(k));
        if !partition {
            return Err(Error::unsupported(format!("the table option `{}`", key.value)));
        }
        for field in text.split(',') {
            fields.push(partition::parse(field.trim())?);
        }
    }
    Ok(fields)
}

/// The first words of something as it is written.
fn keywords(thing: &impl std::fmt::Display, count: usize) -> String {
    let text = thing.to_string();
    let words: Vec<&str> = text.split_whitespace().take(count).collect();
    words.join(" ")
}

/// The refusal of a statement by its name.
fn refusal(statement: &Statement) -> Error {
    let (what, hint) = match statement {
        Statement::Update(_) => ("UPDATE".to_owned(), Some(REWRITE_HINT)),
        Statement::Delete(_) => ("DELETE".to_owned(), Some(REWRITE_HINT)),
        Statement::Merge(_) => ("MERGE".to_owned(), Some(REWRITE_HINT)),
        Statement::Truncate(_) => ("TRUNCATE".to_owned(), Some(REWRITE_HINT)),
        Statement::CreateView(_) => ("CREATE VIEW".to_owned(), Some("Write a model instead.")),
        Statement::Copy { .. } | Statement::CopyIntoSnowflake { .. } => {
            ("COPY".to_owned(), Some("Import files with `headwater table import`."))
        }
        Statement::StartTransaction { .. }
        | Statement::Commit { .. }
        | Statement::Rollback { .. } => (
            keywords(statement, 1),
            Some("Write on a branch and merge it: a merge is atomic over all tables."),
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

const REWRITE_HINT: &str =
    "Use CREATE OR REPLACE TABLE … AS SELECT … with the rows as they should be.";
