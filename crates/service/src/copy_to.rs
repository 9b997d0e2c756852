//! COPY … TO a file: checks the target and writes the rows of the query.

use std::path::{Component, Path};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use futures::StreamExt;
use headwater_encoding::RowEncoder;
use headwater_engine::{CopyToStatement, StatementResult};
use headwater_executors::{EVERY, ExportTarget, not_written, path_to_write, record_denial};
use headwater_model::{
    AccessObject, Action, ErrorCode, FileFormat, JobId, Principal, Problem, ResultExt,
};
use headwater_objects::BucketObjectStore;
use headwater_tables::CloudUrl;

use crate::object::origin_of;
use crate::service::Components;

/// Returns the columns of the result: the file, and its numbers of rows and bytes.
pub fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("file", DataType::Utf8, false),
        Field::new("rows", DataType::Int64, false),
        Field::new("bytes", DataType::Int64, false),
    ]))
}

/// The target file of a `COPY … TO` statement.
pub struct CopyTarget {
    file: ExportTarget,
    location: String,
    format: FileFormat,
}

impl CopyTarget {
    /// Checks that a principal may write a file, and that the file is outside the lake. `job` is
    /// the job of the statement, for the audit log.
    ///
    /// Errors: `forbidden`; `invalid_argument` for a file of the lake or an unknown URL scheme.
    pub async fn check(
        components: &Components,
        principal: &Principal,
        job: JobId,
        file: CopyToStatement,
    ) -> Result<Self, Problem> {
        let CopyToStatement { location, format } = file;
        let objects = &components.buckets.objects;
        if let Some(path) =
            BucketObjectStore::lake_object_path(objects, &location).await.or_problem()?
        {
            let object = AccessObject::object_in(&path.bucket, &path.key);
            components.authorize(principal, Action::Write, &object)?;
            let objects = objects.changed_by(origin_of(principal));
            let store = BucketObjectStore::new(objects, &path.bucket);
            let file = ExportTarget::in_store(Arc::new(store), &path.key, &location)?;
            return Ok(CopyTarget { file, location, format });
        }
        let location = absolute(components, &location)?;
        let parent = Path::new(&location).components().any(|part| part == Component::ParentDir);
        let granted = if parent { EVERY } else { &location };
        components.authorize(principal, Action::Write, &AccessObject::location(granted))?;
        let private = components.import_rights.private_files(principal, &[]);
        let private = private.resolve(&components.lake);
        let path = if CloudUrl::has_cloud_scheme(&location) {
            None
        } else {
            Some(path_to_write(&location)?)
        };
        let is_private = match &path {
            Some(path) => private.has_real_path(path),
            None => private.has_object(&location),
        };
        if is_private {
            let (access, object) = (&components.access, AccessObject::location(&location));
            record_denial(access, principal, Some(job), Action::Write, &object);
            let reason = "the path belongs to a lake, or is reserved for credentials";
            return Err(not_written(&location, reason).with_hint("Name a file outside the lake."));
        }
        let file = if let Some(path) = path {
            ExportTarget::local(path)
        } else {
            let url = CloudUrl::parse(&location).or_problem()?;
            ExportTarget::object(&url, &components.config.warehouse.cloud)?
        };
        Ok(CopyTarget { file, location, format })
    }

    /// Writes the rows of a result to the file. Returns one row that describes the file. If the
    /// write fails or the future is dropped, the file is unchanged.
    pub async fn write(self, answer: StatementResult) -> Result<StatementResult, Problem> {
        let StatementResult { schema, mut stream, metrics, .. } = answer;
        let mut encoder = RowEncoder::new(self.format.into(), &schema).map_err(|e| encoding(&e))?;
        let mut output = self.file.create().await?;
        let (mut rows, mut bytes) = (0_usize, 0_usize);
        while let Some(batch) = stream.next().await {
            let mut rest = Some(batch.or_problem()?);
            while let Some(batch) = rest {
                let all = batch.num_rows();
                let (piece, left) = encoder.encode_prefix(batch).map_err(|e| encoding(&e))?;
                rows += all - left.as_ref().map_or(0, RecordBatch::num_rows);
                bytes += piece.len();
                output.write(piece).await?;
                rest = left;
            }
        }
        // Drop the stream before the usage is read: only then is the usage of the query final.
        drop(stream);
        let end = encoder.end().map_err(|e| encoding(&e))?;
        bytes += end.len();
        output.write(end).await?;
        output.finish().await?;
        let row = row(&self.location, rows, bytes).map_err(|e| encoding(&e))?;
        let stream = futures::stream::iter([Ok(row)]).boxed();
        Ok(StatementResult { schema: columns(), stream, metrics, commit: None })
    }
}

/// Returns the absolute location of a file to write. Errors: an unknown URL scheme.
fn absolute(components: &Components, location: &str) -> Result<String, Problem> {
    if CloudUrl::has_cloud_scheme(location) {
        return Ok(location.to_owned());
    }
    if let Some((scheme, _)) = location.split_once("://") {
        let message = format!("`{location}` cannot be written: unknown URL scheme `{scheme}`");
        let hint = "Use a path, or a URL with `s3://`, `gs://`, `az://` or `abfss://`.";
        return Err(Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint));
    }
    Ok(absolute_path(components, location))
}

/// Returns an absolute path. A relative path is resolved against the folder that contains the lake.
pub fn absolute_path(components: &Components, path: &str) -> String {
    let lake = &components.config.lake_dir;
    let base = lake.parent().unwrap_or(lake);
    let path = base.join(path);
    let path = std::path::absolute(&path).unwrap_or(path);
    path.to_string_lossy().into_owned()
}

fn encoding(error: &ArrowError) -> Problem {
    let message = format!("the rows cannot be encoded: {error}");
    Problem::new(ErrorCode::InvalidArgument, message).with_hint("Cast the column to text.")
}

fn row(location: &str, rows: usize, bytes: usize) -> Result<RecordBatch, ArrowError> {
    let count = |count| Arc::new(Int64Array::from(vec![i64::try_from(count).unwrap_or(i64::MAX)]));
    let file: ArrayRef = Arc::new(StringArray::from(vec![location]));
    RecordBatch::try_new(columns(), vec![file, count(rows), count(bytes)])
}
