//! The CREATE TABLE statement, with columns or AS a query. Rows of a query are streamed to the
//! table.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Fields, Schema, SchemaRef};
use futures::StreamExt;
use headwater_lake::{CommitView, Transaction};
use headwater_model::PartitionField;
use headwater_model::{Action, TableName};
use headwater_sql::alter_table::ParsedSortKey;
use headwater_sql::create_table::CreateTableStatement;
use headwater_table_scan::plain_schema;
use headwater_tables::{Alteration, FIELD_METADATA_KEYS, without_keys, without_nanoseconds};

use crate::column_definitions;
use crate::error::{Error, Result, SqlError};
use crate::plan_output;
use crate::session::Session;
use crate::session::StatementContext;
use crate::statement_result::StatementResult;
use crate::write::{first, rows};

/// The table that a statement creates or replaces.
struct CreateTarget {
    transaction: Transaction,
    table: TableName,
    exists: bool,
}

impl CreateTarget {
    /// Returns true if the table has, or will have, format version 3, which supports timestamps
    /// with nanoseconds.
    async fn is_version_3(&mut self, properties: &BTreeMap<String, String>) -> Result<bool> {
        if let Some(version) = properties.get("format-version") {
            return Ok(version == "3");
        }
        let table =
            if self.exists { Some(self.transaction.table(&self.table).await?) } else { None };
        Ok(table.is_some_and(|table| table.format_version().to_string() == "3"))
    }

    async fn alter(&mut self, changes: Vec<Alteration>) -> headwater_lake::Result<()> {
        if changes.is_empty() { Ok(()) } else { self.transaction.alter(&self.table, changes).await }
    }

    async fn create(
        &mut self,
        schema: SchemaRef,
        partition: Vec<PartitionField>,
        properties: BTreeMap<String, String>,
        sort: Vec<Alteration>,
    ) -> headwater_lake::Result<()> {
        self.transaction.create(&self.table, schema, partition, properties).await?;
        self.alter(sort).await
    }

    /// Replaces the schema, rows and settings of an existing table. Properties are set first,
    /// because the format version determines the allowed column types.
    async fn replace(
        &mut self,
        schema: SchemaRef,
        partition: Vec<PartitionField>,
        changes: NewTableSettings<'_>,
        rows: headwater_lake::BatchStream,
    ) -> headwater_lake::Result<()> {
        self.alter(set(changes.properties)).await?;
        self.transaction.replace(&self.table, schema, partition, rows).await?;
        self.alter(changes.sort).await
    }
}

/// The properties and the sort order that CREATE OR REPLACE sets on an existing table.
struct NewTableSettings<'a> {
    properties: &'a BTreeMap<String, String>,
    sort: Vec<Alteration>,
}

impl Session {
    /// Runs CREATE TABLE, with columns or AS a query.
    pub(crate) async fn create_table(&self, new: CreateTableStatement) -> Result<StatementResult> {
        let transaction = self.transaction().await?;
        let view = self.view_to_read(&transaction);
        let (table, entry) = self.view_target(&new.name, &view, &[Action::Create]).await?;
        if let (true, Some(entry)) = (new.or_replace, &entry) {
            if !entry.is_view() {
                self.authorize(Action::Drop, &entry.object(&table))?;
            }
            self.check_change(&[Action::Drop], &table, entry)?;
        }
        let exists = entry.is_some();
        let run = self.run();
        let metrics = Arc::clone(&run.metrics);
        if entry.is_some_and(|entry| entry.is_view()) {
            return Err(Error::AlreadyExists { what: "view", name: table.to_string() });
        }
        if exists && new.if_not_exists {
            return plan_output::of_write(0, None, metrics);
        }
        if exists && !new.or_replace {
            return Err(Error::AlreadyExists { what: "table", name: table.to_string() });
        }
        let mut target = CreateTarget { transaction, table, exists };
        if new.source.is_some() {
            self.create_from_query(&mut target, new, run, &view).await?;
        } else {
            create_empty(&mut target, new, &run).await?;
        }
        let CreateTarget { transaction, table, exists } = target;
        let verb = if exists { "replace" } else { "create" };
        self.finish(transaction, &format!("{verb} table {table}"), &metrics).await
    }

    async fn create_from_query(
        &self,
        target: &mut CreateTarget,
        new: CreateTableStatement,
        run: StatementContext,
        view: &CommitView,
    ) -> Result<()> {
        let CreateTableStatement { partition, sort, properties, source, .. } = new;
        let Some(source) = source else { return Ok(()) };
        let limits = run.limits;
        let query = source.query().clone();
        let (plan, names) = self.plan(&run, source, view).await?;
        let returns_nanoseconds = column_definitions::returns_nanoseconds(&query, &plan);
        let running = self.start(run, plan).await?;
        let mut schema =
            nullable(&plan_output::renamed(&names.of_relation(), &plain_schema(&running.schema)));
        distinct_names(&schema)?;
        if !(returns_nanoseconds && target.is_version_3(&properties).await?) {
            schema = without_nanoseconds(&schema).into();
        }
        let partition = column_definitions::partition(partition, &schema)?;
        let (rows, kept) = rows(running, SchemaRef::clone(&schema), limits);
        let sort = sort_order(sort);
        let written = if target.exists {
            target
                .replace(
                    schema,
                    partition,
                    NewTableSettings { properties: &properties, sort },
                    rows,
                )
                .await
        } else {
            let created = target.create(schema, partition, properties, sort).await;
            match created {
                Ok(()) => target.transaction.append(&target.table, rows).await,
                Err(error) => Err(error),
            }
        };
        written.map_err(|error| first(&kept, error))
    }
}

async fn create_empty(
    target: &mut CreateTarget,
    new: CreateTableStatement,
    run: &StatementContext,
) -> Result<()> {
    let CreateTableStatement { columns, partition, sort, properties, primary_key, .. } = new;
    let mut sort = sort_order(sort);
    if !primary_key.is_empty() {
        sort.push(Alteration::Identify(primary_key));
    }
    let schema = column_definitions::schema(&run.state, columns, run.limits)?;
    let partition = column_definitions::partition(partition, &schema)?;
    if target.exists {
        let none = futures::stream::empty().boxed();
        let changes = NewTableSettings { properties: &properties, sort };
        target.replace(schema, partition, changes, none).await?;
    } else {
        target.create(schema, partition, properties, sort).await?;
    }
    Ok(())
}

/// Returns the schema with all columns nullable. CREATE TABLE AS uses it, because rows that are
/// added later may contain nulls.
pub(crate) fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter();
    // Remove the field's metadata, because it describes the source column.
    let fields: Fields =
        fields.map(|field| without_keys(field, &FIELD_METADATA_KEYS).with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

/// Returns the alteration that sets a table's sort order; an empty list without sort keys.
fn sort_order(sort: Vec<ParsedSortKey>) -> Vec<Alteration> {
    if sort.is_empty() {
        Vec::new()
    } else {
        vec![Alteration::SortBy(column_definitions::sort(sort))]
    }
}

/// Returns the alteration that sets a table's properties; an empty list without properties.
fn set(properties: &BTreeMap<String, String>) -> Vec<Alteration> {
    if properties.is_empty() {
        return Vec::new();
    }
    let set = properties.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
    vec![Alteration::SetProperties(set.collect())]
}

/// Rejects duplicate column names.
pub(crate) fn distinct_names(schema: &SchemaRef) -> Result<()> {
    for (index, field) in schema.fields().iter().enumerate() {
        if schema.fields()[..index].iter().any(|other| other.name() == field.name()) {
            return Err(Error::Sql(SqlError::Invalid {
                message: format!("there are two columns named `{}`", field.name()),
                hint: Some("Give one of the columns another name with AS.".to_owned()),
                position: None,
            }));
        }
    }
    Ok(())
}
