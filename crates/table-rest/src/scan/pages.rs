//! Returns the tasks of a scan in pages.
//!
//! [`RestTables::scan`] plans files in the same way as for Headwater's own reads. The caller then
//! replaces the field [`Scan::plan`] with a plan that is pruned by the bounds in the manifests. The
//! crate `service` does this, because only the query engine can prune. The tasks are returned in
//! pages, so that no response exceeds a few megabytes. The pages of a scan depend only on the
//! request and the state of the table.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use headwater_table_format::types::schema::{arrow_schema, with_names};
use headwater_tables::{DataFile, DeleteFile, ScanPlan, SnapshotAncestry, Table, name_mapping};
use iceberg::spec::{Operation, Schema, SchemaRef, TableMetadata};
use serde::Deserialize;
use serde_json::Value;

use super::Filter;
use super::content_files::{FilesSerializer, weight};
use super::filter::{FilterParser, invalid};
use super::residual::{ResidualFilter, RowMatch};
use crate::{Error, RestTables, Result};

/// The data files of a scan.
type Files = Arc<[Arc<DataFile>]>;

/// Maximum number of files in a page, and approximate maximum size of a page in bytes.
const PAGE_FILES_MAX: usize = 1_000;
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Approximate sizes in bytes of the parts of a page: a file without its location, partition values
/// and statistics; a reference to a delete file; the statistics of one column.
const FILE_BYTES: usize = 512;
const REFERENCE_BYTES: usize = 8;
const STATISTICS_BYTES: usize = 256;

/// Maximum number of column names in a request.
const NAMES_MAX: usize = 10_000;

/// A request to plan a scan.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ScanRequest {
    snapshot_id: Option<i64>,
    start_snapshot_id: Option<i64>,
    end_snapshot_id: Option<i64>,
    #[serde(default)]
    select: Option<Vec<String>>,
    #[serde(default)]
    filter: Option<Value>,
    case_sensitive: Option<bool>,
    #[serde(default)]
    use_snapshot_schema: Option<bool>,
    #[serde(default)]
    stats_fields: Option<Vec<String>>,
    min_rows_requested: Option<i64>,
}

/// A scan of one state of a table.
#[derive(Debug, Clone)]
pub struct Scan {
    table: Table,
    /// The files to scan.
    pub plan: ScanPlan,
    /// The row filter. Each file is returned with its residual filter: the part of the row filter
    /// that the partition values of the file do not decide.
    pub filter: Filter,
    stats: Vec<i32>,
    rows_wanted: Option<u64>,
}

/// A page of the tasks of a scan, as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanPage {
    /// The list of tasks, as JSON.
    pub tasks: String,
    /// The list of the delete files to which the tasks refer, as JSON.
    pub delete_files: String,
}

impl RestTables<'_> {
    /// Plans a scan of a table. Fails with `invalid_argument` if the request is invalid.
    pub async fn scan(self, table: &Table, request: &ScanRequest) -> Result<Scan> {
        let metadata = table.metadata();
        let (files, schema) = match (request.snapshot_id, request.range()?) {
            (Some(_), Some(_)) => {
                return Err(invalid("the scan has both a snapshot and a range of snapshots"));
            }
            (_, Some((start, end))) => {
                let schema = schema_at(metadata, end)?;
                (self.appended_between(table, start, end).await?, Some(schema))
            }
            (Some(id), None) => {
                let schema = schema_at(metadata, id)?;
                let unknown = || Error::SnapshotNotFound { snapshot: id };
                let snapshot = metadata.snapshot_by_id(id).ok_or_else(unknown)?;
                (self.tables.metadata_files().files(metadata, snapshot).await?, Some(schema))
            }
            (None, None) => match metadata.current_snapshot() {
                Some(snapshot) => {
                    let schema = schema_at(metadata, snapshot.snapshot_id())?;
                    (self.tables.metadata_files().files(metadata, snapshot).await?, Some(schema))
                }
                None => (Files::from([]), None),
            },
        };
        let of_snapshot = request.use_snapshot_schema.unwrap_or(false);
        let schema = schema.filter(|_| of_snapshot);
        let schema = schema.unwrap_or_else(|| metadata.current_schema().clone());
        let mut reader = FilterParser::new(&schema, request.case_sensitive.unwrap_or(true));
        let filter = match &request.filter {
            Some(filter) => reader.read(filter, false)?,
            None => Filter::Always(true),
        };
        ids(&reader, request.select.as_deref())?;
        let mut stats = ids(&reader, request.stats_fields.as_deref())?;
        stats.sort_unstable();
        stats.dedup();
        let rows_wanted = request.min_rows_requested.map(u64::try_from).transpose();
        let rows_wanted = rows_wanted.map_err(|_| invalid("`min-rows-requested` is negative"))?;
        let plan = ScanPlan::new(columns(&schema, metadata), files);
        Ok(Scan { table: table.clone(), plan, filter, stats, rows_wanted })
    }

    /// Returns the files that were appended after the snapshot `start`, up to and including the
    /// snapshot `end`. If `start` is `None`, begins with the first snapshot.
    async fn appended_between(self, table: &Table, start: Option<i64>, end: i64) -> Result<Files> {
        let mut lineage = SnapshotAncestry::of(table);
        let (mut found, mut next, mut seen) = (Vec::new(), Some(end), HashSet::new());
        while let Some(id) = next
            && next != start
        {
            // Without this check, a cycle in the history would cause an endless loop.
            let snapshot = if seen.insert(id) { lineage.find(self.tables, id).await } else { None };
            let snapshot = match (snapshot, start) {
                (Some(snapshot), _) => snapshot,
                (None, Some(start)) => return Err(not_before(start, end)),
                (None, None) => break,
            };
            next = snapshot.parent_snapshot_id();
            if snapshot.summary().operation == Operation::Append {
                found.push(snapshot);
            }
        }
        if let Some(start) = start.filter(|start| next != Some(*start)) {
            return Err(not_before(start, end));
        }
        let mut files: Vec<Arc<DataFile>> = Vec::new();
        for snapshot in found.iter().rev() {
            files.extend(self.tables.history().added_by(table.metadata(), snapshot).await?);
        }
        Ok(files.into())
    }
}

fn not_before(start: i64, end: i64) -> Error {
    invalid(format!("snapshot {start} is not an ancestor of snapshot {end}"))
}

fn schema_at(metadata: &TableMetadata, id: i64) -> Result<SchemaRef> {
    let unknown = || Error::SnapshotNotFound { snapshot: id };
    let snapshot = metadata.snapshot_by_id(id).ok_or_else(unknown)?;
    snapshot.schema(metadata).map_err(|_| unknown())
}

/// Returns the Arrow schema with which files are read.
fn columns(schema: &Schema, metadata: &TableMetadata) -> arrow::datatypes::SchemaRef {
    with_names(&arrow_schema(schema.as_struct().fields()), name_mapping(metadata))
}

/// Returns the field ids of columns by their full names.
fn ids(reader: &FilterParser<'_>, names: Option<&[String]>) -> Result<Vec<i32>> {
    let names = names.unwrap_or_default();
    if names.len() > NAMES_MAX {
        return Err(invalid(format!("the scan selects more than {NAMES_MAX} columns")));
    }
    names.iter().map(|name| Ok(reader.field(name)?.id)).collect()
}

impl ScanRequest {
    /// Returns the start and the end of an incremental scan; `None` for any other scan. The files
    /// of the start snapshot are not included; without a start, the scan begins with the first
    /// snapshot.
    fn range(&self) -> Result<Option<(Option<i64>, i64)>> {
        match (self.start_snapshot_id, self.end_snapshot_id) {
            (start, Some(end)) => Ok(Some((start, end))),
            (Some(_), None) => Err(invalid("`start-snapshot-id` requires `end-snapshot-id`")),
            (None, None) => Ok(None),
        }
    }
}

impl Scan {
    /// Returns the start of each page, as an index into the files of the plan. The list is empty if
    /// there are no tasks.
    pub fn pages(&self) -> Vec<usize> {
        let residual = ResidualFilter::new(&self.filter);
        let files = self.plan.files();
        let truths: Vec<RowMatch> = files.iter().map(|file| residual.evaluate(file)).collect();
        let (fixed, truth) = (self.fixed_bytes(), |index: usize| truths[index]);
        let (mut pages, mut next, mut matching) = (Vec::new(), 0, 0);
        while !self.is_enough(matching)
            && let Some(start) = (next..files.len()).find(|index| truth(*index) != RowMatch::None)
        {
            pages.push(start);
            let (end, rows) = self.end(start, fixed, truth);
            next = end;
            matching += rows;
        }
        pages
    }

    /// Returns the page whose first file has this index in the plan.
    pub fn page(&self, start: usize) -> Result<ScanPage> {
        let residual = ResidualFilter::new(&self.filter);
        let writer = FilesSerializer::new(self.table.metadata(), &self.stats);
        let truth = |index: usize| residual.evaluate(&self.plan.files()[index]);
        let (end, _) = self.end(start, self.fixed_bytes(), truth);
        let files = self.plan.files().get(start..end).unwrap_or_default();
        let mut deletes = DeleteFiles::default();
        let mut tasks = String::from("[");
        for file in files.iter().filter(|file| residual.evaluate(file) != RowMatch::None) {
            if tasks.len() > 1 {
                tasks.push(',');
            }
            write_task(file, &residual, &writer, &mut deletes, &mut tasks);
        }
        tasks.push(']');
        Ok(ScanPage { tasks, delete_files: deletes.write(&writer) })
    }

    /// Returns true if `matching` rows are enough, that is, if the client requested a number of
    /// rows and it is reached.
    fn is_enough(&self, matching: u128) -> bool {
        matching > 0 && self.rows_wanted.is_some_and(|wanted| matching >= u128::from(wanted))
    }

    /// Returns the approximate number of bytes of a file's task, without the location and the
    /// partition values of the file.
    fn fixed_bytes(&self) -> usize {
        let filter: usize = self.filter.conditions().iter().map(|one| one.text.len() + 40).sum();
        FILE_BYTES + filter + STATISTICS_BYTES * self.stats.len()
    }

    /// Returns the end of the page that starts at a file index, and the number of rows in the page
    /// that certainly match. `fixed` is the result of [`Self::fixed_bytes`].
    fn end(&self, start: usize, fixed: usize, truth: impl Fn(usize) -> RowMatch) -> (usize, u128) {
        let files = self.plan.files();
        let (mut bytes, mut tasks, mut known) = (0, 0, HashSet::new());
        let mut rows = 0;
        for (index, file) in files.iter().enumerate().skip(start) {
            match truth(index) {
                RowMatch::None => continue,
                RowMatch::All if !file.has_deletes() => rows += u128::from(file.rows),
                _ => {}
            }
            let values = file.parts.iter().filter_map(|(_, _, value)| value.as_ref());
            bytes += fixed + file.location.len() + values.map(weight).sum::<usize>();
            for delete in file.each_delete_file() {
                bytes += REFERENCE_BYTES;
                bytes += if known.insert(Arc::as_ptr(delete)) { FILE_BYTES } else { 0 };
            }
            tasks += 1;
            let full = bytes >= PAGE_BYTES_MAX || tasks >= PAGE_FILES_MAX;
            if full || self.is_enough(rows) {
                return (index + 1, rows);
            }
        }
        (files.len(), rows)
    }
}

fn write_task(
    file: &DataFile,
    residual: &ResidualFilter<'_>,
    writer: &FilesSerializer<'_>,
    deletes: &mut DeleteFiles,
    text: &mut String,
) {
    text.push_str("{\"data-file\":");
    text.push_str(&writer.file(file.entry.data_file(), file.spec_id).to_string());
    let indexes = deletes.indexes_of(file);
    if !indexes.is_empty() {
        text.push_str(",\"delete-file-references\":");
        text.push_str(&Value::from(indexes).to_string());
    }
    text.push_str(",\"residual-filter\":");
    text.push_str(&residual.text(file));
    text.push('}');
}

/// The delete files of a page, each listed once.
#[derive(Default)]
struct DeleteFiles {
    indexes: HashMap<*const DeleteFile, usize>,
    files: Vec<Arc<DeleteFile>>,
}

impl DeleteFiles {
    /// Returns the indexes of a data file's delete files in this list, and adds the delete files
    /// that the list lacks.
    fn indexes_of(&mut self, file: &DataFile) -> Vec<usize> {
        let index = |delete: &Arc<DeleteFile>| {
            *self.indexes.entry(Arc::as_ptr(delete)).or_insert_with(|| {
                self.files.push(delete.clone());
                self.files.len() - 1
            })
        };
        file.each_delete_file().map(index).collect()
    }

    fn write(&self, writer: &FilesSerializer<'_>) -> String {
        let files = self.files.iter();
        let written = files.map(|file| writer.file(file.entry.data_file(), file.spec_id));
        written.collect::<Value>().to_string()
    }
}
