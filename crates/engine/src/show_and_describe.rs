//! The statements SHOW TABLES, SHOW VIEWS and DESCRIBE.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::sql::sqlparser::ast::ObjectName;
use headwater_model::{Action, SYSTEM_NAMESPACE};
use headwater_sql::name_match::equals_ignoring_case;
use headwater_sql::statement::SourceQuery;
use headwater_sql::table_name::{ParsedTableName, position};
use headwater_sql::table_references::ReferencedTable;
use headwater_table_scan::plain_schema;
use headwater_tables::{COMMENT, default_text, field_type_name};

use crate::error::Result;
use crate::plan_output;
use crate::session::Session;
use crate::statement_result::StatementResult;
use crate::table_lookup::TableLookup;

impl Session {
    /// Runs SHOW TABLES: lists the tables of a namespace, or of all namespaces except `system`.
    pub(crate) async fn show_tables(&self, namespace: Option<String>) -> Result<StatementResult> {
        let view = self.view().await?;
        let mut names: Vec<(String, String)> = Vec::new();
        for (table, entry) in view.list(None).await? {
            let is_wanted = namespace
                .as_ref()
                .is_none_or(|wanted| equals_ignoring_case(wanted, &table.namespace));
            if is_wanted && self.lists(Action::Select, &entry.object(&table)) {
                names.push((table.namespace, table.name));
            }
        }
        if namespace.is_some_and(|wanted| equals_ignoring_case(&wanted, SYSTEM_NAMESPACE)) {
            let tables = self.engine.system_tables();
            let name = |table: &str| (SYSTEM_NAMESPACE.to_owned(), table.to_owned());
            names.extend(tables.iter().map(|table| name(table.name())));
        }
        self.show("table", &names)
    }

    /// Runs SHOW VIEWS: lists the views of a namespace, or of all namespaces.
    pub(crate) async fn show_views(&self, namespace: Option<String>) -> Result<StatementResult> {
        let view = self.view().await?;
        let wanted =
            |of: &str| namespace.as_ref().is_none_or(|wanted| equals_ignoring_case(wanted, of));
        let views = view.state().views(None).await?.into_iter();
        let views = views.filter(|(name, entry)| self.lists(Action::Select, &entry.object(name)));
        let names = views.map(|(name, _)| (name.namespace, name.name));
        let names: Vec<_> = names.filter(|(namespace, _)| wanted(namespace)).collect();
        self.show("view", &names)
    }

    fn show(&self, what: &str, names: &[(String, String)]) -> Result<StatementResult> {
        let namespaces =
            StringArray::from_iter_values(names.iter().map(|(namespace, _)| namespace));
        let found = StringArray::from_iter_values(names.iter().map(|(_, name)| name));
        let schema = Schema::new(vec![
            Field::new("namespace", DataType::Utf8, false),
            Field::new(what, DataType::Utf8, false),
        ]);
        let batch =
            RecordBatch::try_new(Arc::new(schema), vec![Arc::new(namespaces), Arc::new(found)]);
        let batch = batch.map_err(headwater_lake::Error::from)?;
        Ok(plan_output::of_batch(batch, self.run().metrics))
    }

    /// Runs DESCRIBE for a table: lists its columns.
    pub(crate) async fn describe_table(&self, name: &ObjectName) -> Result<StatementResult> {
        let view = self.view().await?;
        let table = ParsedTableName::of(name)?;
        let mut lookup = TableLookup::new(self, &view);
        lookup.add(&ReferencedTable { table, position: position(name), expected: None }).await?;
        let (_, sources) = lookup.finish();
        let schemas = sources.into_values().map(|source| plain_schema(&source.schema()));
        let fields: Vec<_> = schemas.flat_map(|schema| schema.fields().to_vec()).collect();
        self.columns(&fields)
    }

    /// Runs DESCRIBE for a query: lists the columns of its result, without running it.
    pub(crate) async fn describe_query(&self, source: SourceQuery) -> Result<StatementResult> {
        let (_, plan, names) = self.planned(source).await?;
        let schema = plan_output::renamed(&names, &plain_schema(plan.schema().as_arrow()));
        self.columns(schema.fields())
    }

    fn columns(&self, fields: &[FieldRef]) -> Result<StatementResult> {
        let names = StringArray::from_iter_values(fields.iter().map(|field| field.name()));
        let types =
            StringArray::from_iter_values(fields.iter().map(|field| field_type_name(field)));
        let defaults: StringArray = fields.iter().map(|field| default_text(field)).collect();
        let comment = |field: &FieldRef| field.metadata().get(COMMENT).cloned();
        let comments: StringArray = fields.iter().map(comment).collect();
        let nullable: BooleanArray = fields.iter().map(|field| Some(field.is_nullable())).collect();
        let schema = Schema::new(vec![
            Field::new("column", DataType::Utf8, false),
            Field::new("type", DataType::Utf8, false),
            Field::new("nullable", DataType::Boolean, false),
            Field::new("default", DataType::Utf8, true),
            Field::new("comment", DataType::Utf8, true),
        ]);
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(names),
            Arc::new(types),
            Arc::new(nullable),
            Arc::new(defaults),
            Arc::new(comments),
        ];
        let batch = RecordBatch::try_new(Arc::new(schema), columns);
        let batch = batch.map_err(headwater_lake::Error::from)?;
        Ok(plan_output::of_batch(batch, self.run().metrics))
    }
}
