//! Converts sqlparser's CREATE TABLE to a [`CreateTableStatement`].

use std::collections::BTreeMap;

use headwater_model::PartitionField;
use sqlparser::ast::{
    ColumnDef, ColumnOption, ColumnOptionDef, CommentDef, CreateTable, CreateTableOptions, Expr,
    IndexColumn, ObjectName, SqlOption, TableConstraint,
};

use crate::alter_table::{ParsedSortKey, keys, property};
use crate::error::{Error, Result};
use crate::partition_field::{self, partitioned_by};
use crate::sequence_column;
use crate::statement::{SourceQuery, keywords};
use crate::unsupported_clauses::{none, unset};

/// A CREATE TABLE statement.
#[derive(Debug)]
pub struct CreateTableStatement {
    /// Table name.
    pub name: ObjectName,
    /// True with OR REPLACE.
    pub or_replace: bool,
    /// True with IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Listed columns; empty if a query defines them.
    pub columns: Vec<ColumnDef>,
    /// Partition fields.
    pub partition: Vec<PartitionField>,
    /// Sort order.
    pub sort: Vec<ParsedSortKey>,
    /// Table properties, including the comment.
    pub properties: BTreeMap<String, String>,
    /// The columns of the primary key; empty without one.
    pub primary_key: Vec<String>,
    /// The query of CREATE TABLE AS; `None` without a query.
    pub source: Option<SourceQuery>,
}

/// Converts a CREATE TABLE statement. An unsupported part is an error that names the part.
#[expect(clippy::too_many_lines, reason = "one line for each rejected clause")]
pub fn new_table(create: CreateTable) -> Result<CreateTableStatement> {
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
        mut columns,
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
        primary_key: key_of_clickhouse,
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
    let primary_key = primary_key_of(&mut columns, constraints)?;
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
    none(on_commit.as_ref(), "ON COMMIT")?;
    none(on_cluster.as_ref(), "ON CLUSTER")?;
    none(key_of_clickhouse.as_ref(), "PRIMARY KEY after the columns")?;
    none(order_by.as_ref(), "ORDER BY in CREATE TABLE")?;
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
    if query.is_some() && !(columns.is_empty() && primary_key.is_empty()) {
        return Err(Error::unsupported("a list of columns in CREATE TABLE AS"));
    }
    let mut options = TableOptions::of(table_options)?;
    let mut fields = partitioned_by(hive_distribution)?;
    if let Some(clause) = partition_by {
        fields.append(&mut partition_field::partition_by(*clause)?);
    }
    fields.append(&mut options.partition);
    if let Some(CommentDef::WithEq(text) | CommentDef::WithoutEq(text)) = comment {
        options.properties.insert(COMMENT.to_owned(), text);
    }
    let TableOptions { sort, properties, .. } = options;
    let source = query.map(SourceQuery::new).transpose()?;
    let partition = fields;
    Ok(CreateTableStatement {
        name,
        or_replace,
        if_not_exists,
        columns,
        partition,
        sort,
        properties,
        primary_key,
        source,
    })
}

/// Removes the primary key from the column options and constraints of a new table, and returns the
/// key's columns. Other constraints are rejected.
fn primary_key_of(
    columns: &mut [ColumnDef],
    constraints: Vec<TableConstraint>,
) -> Result<Vec<String>> {
    let mut keys: Vec<Vec<String>> = Vec::new();
    for column in columns {
        let is_key =
            |option: &ColumnOptionDef| matches!(option.option, ColumnOption::PrimaryKey(_));
        if column.options.iter().any(is_key) {
            column.options.retain(|option| !is_key(option));
            keys.push(vec![column.name.value.clone()]);
        }
    }
    for constraint in constraints {
        keys.push(key_columns(constraint)?);
    }
    unset(keys.len() > 1, "a second primary key")?;
    Ok(keys.pop().unwrap_or_default())
}

/// Returns the columns of a primary key. Other constraints are rejected.
pub fn key_columns(constraint: TableConstraint) -> Result<Vec<String>> {
    let TableConstraint::PrimaryKey(key) = constraint else {
        return Err(Error::Unsupported {
            what: format!("the constraint `{constraint}`"),
            hint: Some("Check it with an expectation of a project.".to_owned()),
            position: None,
        });
    };
    let column = |one: IndexColumn| match one.column.expr {
        Expr::Identifier(name) => Ok(name.value),
        other => Err(Error::unsupported(format!("PRIMARY KEY of `{other}`"))),
    };
    key.columns.into_iter().map(column).collect()
}

/// Name of the table property that holds the table's comment.
pub const COMMENT: &str = "comment";

/// Rejects unsupported column options, and types with values from a sequence.
pub fn column_options(column: &ColumnDef) -> Result<()> {
    sequence_column::reject(column)?;
    for option in &column.options {
        match &option.option {
            ColumnOption::Null
            | ColumnOption::NotNull
            | ColumnOption::Comment(_)
            | ColumnOption::Default(_) => {}
            refused => {
                let words = keywords(refused, 2);
                let what = format!("`{words}` on column `{}`", column.name.value);
                return Err(Error::unsupported(what));
            }
        }
    }
    Ok(())
}

/// Options of `WITH (…)` and TBLPROPERTIES.
#[derive(Default)]
struct TableOptions {
    partition: Vec<PartitionField>,
    sort: Vec<ParsedSortKey>,
    properties: BTreeMap<String, String>,
}

impl TableOptions {
    fn of(options: CreateTableOptions) -> Result<Self> {
        let (options, any) = match options {
            CreateTableOptions::None => (Vec::new(), false),
            CreateTableOptions::With(options) => (options, false),
            CreateTableOptions::TableProperties(options) => (options, true),
            CreateTableOptions::Options(_) => return Err(Error::unsupported("OPTIONS (…)")),
            CreateTableOptions::Plain(options) => return Self::of_comment(options),
        };
        let mut found = TableOptions::default();
        for option in options {
            found.take(option, any)?;
        }
        Ok(found)
    }

    /// Returns the comment of the table, which sqlparser parses as an option.
    fn of_comment(options: Vec<SqlOption>) -> Result<Self> {
        let mut found = TableOptions::default();
        for option in options {
            let SqlOption::Comment(CommentDef::WithEq(text) | CommentDef::WithoutEq(text)) = option
            else {
                return Err(Error::unsupported("a table option"));
            };
            found.properties.insert(COMMENT.to_owned(), text);
        }
        Ok(found)
    }

    /// Adds one option. If `any` is true, any unknown key is accepted as a property. Otherwise, an
    /// unknown key must have the form of a property.
    fn take(&mut self, option: SqlOption, any: bool) -> Result<()> {
        let written = option.to_string();
        let refused = || Error::unsupported(format!("the table option `{written}`"));
        let (key, Some(value)) = property(option).map_err(|_| refused())? else {
            return Err(refused());
        };
        match key.to_lowercase().as_str() {
            "partitioned_by" | "partition_by" => {
                for field in PartitionField::split(&value) {
                    self.partition.push(partition_field::parse(field)?);
                }
            }
            "sorted_by" => self.sort.extend(keys(&value)?),
            // Ignore this setting of PostgreSQL's page storage, which changes no result.
            "fillfactor" => {}
            "format_version" => {
                self.properties.insert("format-version".to_owned(), value);
            }
            _ if any || key.contains(['.', '-']) => {
                self.properties.insert(key, value);
            }
            _ => return Err(Error::unsupported(format!("the table option `{key}`"))),
        }
        Ok(())
    }
}
