//! Tables as destinations: one row for each record, or the rows that a function returned, in a
//! commit that contains the id of the event, so that each is appended once.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use headwater_function_lake::{
    AppendResult, CallIdentity, FunctionLakeAccess, LakeComponents, json_rows as rows,
};
use headwater_functions::{FunctionResult, LakeAccess, LakeRequest, SharedTable};
use headwater_model::{
    AccessObject, Action, ErrorCode, MAIN_BRANCH, NameError, Problem, RefSpec, ResultExt,
    TableName, Timestamp,
};

use crate::address_parts::{AddressOptions, invalid};
use crate::invocation_record::InvocationRecord;
use crate::payload::{IdentifiedPayload, Payload, ResultPayload};
use crate::send_failure::rejected;

/// A table that receives rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableTarget {
    table: TableName,
    branch: String,
}

impl TableTarget {
    /// Parses `NAMESPACE.NAME` or `NAME`, with the option `branch` after a question mark.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let (name, options) =
            text.split_once('?').map_or((text, None), |(name, rest)| (name, Some(rest)));
        let unusable = |error: NameError| {
            invalid(error.to_string(), "Name a table, such as `table://audit.calls`.")
        };
        let table: TableName = name.parse().map_err(unusable)?;
        let branch = AddressOptions::parse(options, &["branch"])?.one("branch")?;
        let branch = branch.unwrap_or_else(|| MAIN_BRANCH.to_owned());
        let Ok(RefSpec::Name(branch)) = branch.parse() else {
            let hint = "Name a branch, as in `table://calls?branch=dev`.";
            return Err(invalid(format_args!("`{branch}` is not the name of a branch"), hint));
        };
        Ok(TableTarget { table, branch })
    }

    pub(crate) fn rights(&self) -> Vec<(Action, AccessObject)> {
        vec![
            (Action::Write, AccessObject::branch(&self.branch)),
            (Action::Insert, AccessObject::table(&self.table)),
        ]
    }

    /// Appends rows, and creates the table if it does not exist. Does nothing if a commit already
    /// contains the event id of `scope`.
    pub(crate) async fn append(
        &self,
        lake: &LakeComponents,
        content: &IdentifiedPayload<'_>,
        scope: CallIdentity,
    ) -> Result<AppendResult, Problem> {
        let scope = CallIdentity { branch: self.branch.clone(), ..scope };
        let lake = FunctionLakeAccess::new(lake.clone(), scope);
        let Some(rows) = self.rows(content, &lake).await? else {
            return Ok(AppendResult::default());
        };
        lake.answer(LakeRequest::Append { table: self.table.to_string(), rows }).await?;
        lake.commit().await
    }

    /// Returns the rows to append: one row for a record, or the rows that a function returned.
    async fn rows(
        &self,
        content: &IdentifiedPayload<'_>,
        lake: &FunctionLakeAccess,
    ) -> Result<Option<SharedTable>, Problem> {
        match content.payload {
            Payload::Record(json) => {
                let row = row(InvocationRecord { json })?;
                SharedTable::write(row.schema(), [Ok(row)]).or_problem().map(Some)
            }
            Payload::Result(ResultPayload { value: FunctionResult::Table(table), .. }) => {
                Ok(Some(table.clone()))
            }
            Payload::Result(_) => {
                let columns = lake.columns(&self.table).await?;
                rows::table(content.body().await?.bytes, columns).await
            }
        }
    }
}

/// Returns the row of a record.
fn row(record: InvocationRecord<'_>) -> Result<RecordBatch, Problem> {
    let time: Timestamp = record
        .time()
        .parse()
        .map_err(|error| rejected(format!("the record has no valid time: {error}")))?;
    let time = TimestampMicrosecondArray::from(vec![time.timestamp_micros()]).with_timezone("UTC");
    let text = |value: Option<String>| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    let texts = [
        ("id", Some(record.call().to_owned())),
        ("function", Some(record.function().to_owned())),
        ("status", Some(record.status().to_owned())),
        ("request", Some(record.request().to_string())),
        ("response", record.response().map(ToString::to_string)),
        ("error", record.error().map(str::to_owned)),
    ];
    let mut columns: Vec<ArrayRef> = Vec::new();
    let mut fields = Vec::new();
    for (name, value) in texts {
        fields.push(Field::new(name, DataType::Utf8, true));
        columns.push(text(value));
    }
    let kind = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    fields.insert(1, Field::new("time", kind, true));
    columns.insert(1, Arc::new(time));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_has_the_parts_of_a_record() {
        let json = json!({
            "timestamp": "2026-03-01T10:00:00.250Z",
            "requestContext": {
                "requestId": "e1",
                "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:price:$LATEST",
                "condition": "RetriesExhausted",
            },
            "requestPayload": {"n": 1},
            "responseContext": {"functionError": "Unhandled"},
            "responsePayload": {"errorType": "function_failed", "errorMessage": "no price"},
        });
        let row = row(InvocationRecord { json: &json }).expect("a row");
        let shown = pretty_format_batches(&[row]).expect("text").to_string();
        let line = shown.lines().nth(3).expect("a row").to_owned();
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(
            cells,
            [
                "e1",
                "2026-03-01T10:00:00.250Z",
                "price",
                "RetriesExhausted",
                "{\"n\":1}",
                "",
                "no price"
            ]
        );
    }
}
