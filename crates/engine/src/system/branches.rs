//! `system.branches`: all branches with their head commits.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use headwater_lake::CommitView;
use headwater_model::{Branch, Problem, ToProblem};

use super::{SystemTable, batch, schema, timestamp_column, timestamp_type};

pub(super) struct BranchesTable;

#[async_trait]
impl SystemTable for BranchesTable {
    fn name(&self) -> &'static str {
        "branches"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("name", DataType::Utf8, false),
            ("commit", DataType::Utf8, false),
            ("protected", DataType::Boolean, false),
            ("quarantine", DataType::Utf8, true),
            ("created", timestamp_type(), false),
        ])
    }

    async fn batches(&self, view: &CommitView) -> Result<Vec<RecordBatch>, Problem> {
        let branches = view.lake().catalog().branches(None).await;
        let branches = Branch::visible(branches.map_err(|error| error.to_problem())?);
        let names = branches.iter().map(|branch| branch.name.as_str());
        let commits = branches.iter().map(|branch| branch.commit.to_string());
        let protected: BooleanArray = branches.iter().map(|b| Some(b.protected)).collect();
        let quarantine: StringArray = branches.iter().map(|b| b.quarantine.as_deref()).collect();
        batch(
            self.schema(),
            vec![
                Arc::new(StringArray::from_iter_values(names)),
                Arc::new(StringArray::from_iter_values(commits)),
                Arc::new(protected),
                Arc::new(quarantine),
                timestamp_column(branches.iter().map(|branch| Some(branch.created))),
            ],
        )
    }
}
