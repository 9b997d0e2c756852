//! `system.views`: all views at the ref, with one row per query dialect.

use std::sync::Arc;

use arrow::array::{Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use headwater_lake::CommitView;
use headwater_model::{Problem, SqlView, ToProblem, ViewQuery};

use super::{SystemTable, batch, schema, timestamp_column, timestamp_type};

pub(super) struct ViewsTable;

#[async_trait]
impl SystemTable for ViewsTable {
    fn name(&self) -> &'static str {
        "views"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("namespace", DataType::Utf8, false),
            ("name", DataType::Utf8, false),
            ("id", DataType::Utf8, false),
            ("dialect", DataType::Utf8, false),
            ("sql", DataType::Utf8, false),
            ("version", DataType::Int32, false),
            ("updated", timestamp_type(), true),
            ("metadata_location", DataType::Utf8, false),
        ])
    }

    async fn batches(&self, view: &CommitView) -> Result<Vec<RecordBatch>, Problem> {
        let listed = view.state().views(None).await.map_err(|error| error.to_problem())?;
        let mut views: Vec<SqlView> = Vec::with_capacity(listed.len());
        for (name, entry) in listed {
            let found = view.load_view(&entry).await.map_err(|error| error.to_problem())?;
            views.push(found.describe(&name));
        }
        let rows: Vec<(&SqlView, &ViewQuery)> = views
            .iter()
            .flat_map(|view| view.queries.iter().map(move |query| (view, query)))
            .collect();
        let texts = |text: fn(&SqlView, &ViewQuery) -> String| {
            let values = rows.iter().map(|(view, query)| text(view, query));
            Arc::new(StringArray::from_iter_values(values))
        };
        batch(
            self.schema(),
            vec![
                texts(|view, _| view.namespace.clone()),
                texts(|view, _| view.name.name.clone()),
                texts(|view, _| view.id.clone()),
                texts(|_, query| query.dialect.clone()),
                texts(|_, query| query.sql.clone()),
                Arc::new(Int32Array::from_iter_values(rows.iter().map(|(view, _)| view.version))),
                timestamp_column(rows.iter().map(|(view, _)| view.updated)),
                texts(|view, _| view.metadata_location.clone()),
            ],
        )
    }
}
