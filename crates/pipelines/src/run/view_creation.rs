//! Creates the views of models with `materialization = view`, each as one commit on the run branch.

use std::collections::BTreeMap;

use arrow::datatypes::Schema;
use headwater_lake::ViewCommit;
use headwater_model::name::quoted;
use headwater_model::{ErrorCode, Problem};
use headwater_tables::SqlView;

use super::step_output::StepOutput;
use super::{Run, StepProgress};
use crate::Result;
use crate::plan::{FINGERPRINT_CODE, sql_error};
use crate::view_materialization::VIEW_VERSION;

impl Run {
    /// Creates or replaces the view of a model. A view that has the same query and columns is not
    /// written again.
    pub(super) async fn create_view(
        &self,
        index: usize,
        sql: &str,
        done: &mut StepProgress,
    ) -> Result<()> {
        let step = &self.plan.project.steps[index];
        let query_failed = |error| sql_error(step, sql, &error);
        let session = self.engine_session(step, BTreeMap::new())?;
        let schema = session.schema_of(sql).await.map_err(query_failed)?;
        self.check_columns(step, &schema)?;
        done.output = Some(StepOutput::Table);
        let existing = self.plan.steps[index].lake_view.as_ref();
        if existing.is_some_and(|view| self.is_current(index, view, &schema)) {
            return Ok(());
        }
        self.runner.check_view(step, &self.plan.view).await?;
        let failed = |error: headwater_lake::Error| Self::failed(step, None, &error);
        let transaction = self.transaction(index, &BTreeMap::new()).await?;
        let name = quoted(&step.table.to_string());
        let statement = format!("CREATE OR REPLACE VIEW {name} AS\n{sql}");
        let created = Box::pin(session.execute_in(transaction, statement.as_str())).await;
        let (mut transaction, _) = created.map_err(|error| Self::failed(step, None, &error))?;
        // Set the properties in two further changes. The first change returns the view, whose
        // version number the second change records. The number is not known before: if an earlier
        // version has the same query, CREATE OR REPLACE VIEW makes that version current again.
        let properties = set_properties(self.plan.view_properties(index))?;
        let view = transaction.views().apply(&step.table, &properties).await.map_err(failed)?;
        let version = [(VIEW_VERSION.to_owned(), view.version().to_string())];
        let version = set_properties(version.into())?;
        transaction.views().apply(&step.table, &version).await.map_err(failed)?;
        self.commit(step, transaction).await
    }

    /// Returns true if a view was created by the current code of the model and has the columns of
    /// `schema`.
    fn is_current(&self, index: usize, view: &SqlView, schema: &Schema) -> bool {
        let properties = view.properties();
        let is_same = properties.get(FINGERPRINT_CODE) == Some(&self.plan.steps[index].code)
            && properties.get(VIEW_VERSION) == Some(&view.version().to_string());
        is_same && columns(&view.schema()) == columns(schema)
    }
}

/// Returns names and types of columns, as a view stores them.
fn columns(schema: &Schema) -> Vec<(String, String)> {
    let stored = headwater_tables::normalise_schema(schema);
    let stored = stored.map(|stored| headwater_tables::without_nanoseconds(&stored));
    let stored = stored.unwrap_or_else(|_| schema.clone());
    let fields = stored.fields().iter();
    fields.map(|field| (field.name().clone(), field.data_type().to_string())).collect()
}

/// Returns the change of a view that sets properties.
fn set_properties(properties: BTreeMap<String, String>) -> Result<ViewCommit> {
    let update = serde_json::json!({
        "updates": [{ "action": "set-properties", "updates": properties }],
    });
    serde_json::from_value(update).map_err(|error| {
        let message = format!("the properties of a view cannot be written: {error}");
        Problem::new(ErrorCode::Internal, message).into()
    })
}
