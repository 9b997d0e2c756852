//! `system.commits`: the history of the ref, newest first.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field, SchemaRef};
use async_trait::async_trait;
use headwater_lake::CommitView;
use headwater_model::{Commit, ErrorCode, Problem, ToProblem};

use super::{SystemTable, batch, schema, timestamp_column, timestamp_type};

/// Maximum number of commits returned.
const COMMITS_MAX: usize = 100_000;

pub(super) struct CommitsTable;

#[async_trait]
impl SystemTable for CommitsTable {
    fn name(&self) -> &'static str {
        "commits"
    }

    fn schema(&self) -> SchemaRef {
        let parents = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
        schema(&[
            ("id", DataType::Utf8, false),
            ("parents", parents, false),
            ("author", DataType::Utf8, false),
            ("message", DataType::Utf8, false),
            ("time", timestamp_type(), false),
            ("properties", DataType::Utf8, false),
        ])
    }

    async fn batches(&self, view: &CommitView) -> Result<Vec<RecordBatch>, Problem> {
        let catalog = view.lake().catalog();
        let commits = catalog.history(view.commit(), COMMITS_MAX, None).await;
        let commits = commits.map_err(|error| error.to_problem())?;
        let properties = commits
            .iter()
            .map(|commit| serde_json::to_string(&commit.properties))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?;
        let ids = commits.iter().map(|commit| commit.id.to_string());
        let authors = commits.iter().map(|commit| commit.author.as_str());
        let messages = commits.iter().map(|commit| commit.message.as_str());
        batch(
            self.schema(),
            vec![
                Arc::new(StringArray::from_iter_values(ids)),
                parents(&commits),
                Arc::new(StringArray::from_iter_values(authors)),
                Arc::new(StringArray::from_iter_values(messages)),
                timestamp_column(commits.iter().map(|commit| Some(commit.time))),
                Arc::new(StringArray::from(properties)),
            ],
        )
    }
}

fn parents(commits: &[Commit]) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for commit in commits {
        for parent in &commit.parents {
            lists.values().append_value(parent.to_string());
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}
