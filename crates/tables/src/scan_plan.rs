//! Scan plans: the data files of a snapshot and their column statistics.
//!
//! Bounds and counts come from the manifests. They are returned as Arrow arrays with one value per
//! file. Bounds have the type of the table's column. Engines use both to prune files.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::{DataType, SchemaRef};
use iceberg::spec::{ManifestEntryRef, PrimitiveLiteral, PrimitiveType, TableMetadata, Transform};
use object_store::path::Path;

use crate::deletes::{DeleteFile, Deletes};
use crate::file_stat_cache::{FileStatCache, FileStatKind};
use crate::partition_transform::transformed;
use crate::type_promotion::comparable;
use crate::types::schema::field_id;
use crate::value_conversion::{literal_at, to_array};
use crate::write::FILE_PREFIX;

/// One data file of a table.
#[derive(Debug)]
pub struct DataFile {
    /// The URL of the file, as listed in the manifest.
    pub location: String,
    /// The path in the object store.
    pub path: Path,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// The number of rows, including deleted rows.
    pub rows: u64,
    /// The partition, such as `ts_day=2013-01-01/origin=EWR`; empty if the table is not
    /// partitioned.
    pub partition: String,
    /// The manifest entry.
    pub entry: ManifestEntryRef,
    /// The id of the file's partition spec.
    pub spec_id: i32,
    /// The delete files that apply to the file.
    pub(crate) deletes: Option<Arc<Deletes>>,
    /// Partition values with their transforms, by the field id of the source column.
    pub parts: Vec<(i32, Transform, Option<PrimitiveLiteral>)>,
    /// The primitive field ids of each schema that the writer of the file may have used.
    pub(crate) written_schemas: WrittenSchemas,
}

/// The ids of the primitive fields in each schema of a table. Empty if the table disables the
/// metrics of any column: missing metrics then do not show that a file lacks the column.
pub(crate) type WrittenSchemas = Arc<[Vec<i32>]>;

/// Prefix of the table properties that select which metrics are kept for a column.
const COLUMN_METRICS_PREFIX: &str = "write.metadata.metrics.column.";

/// Property value that disables a column's metrics.
const NO_METRICS: &str = "none";

/// Returns the primitive field ids of every schema of a table.
pub(crate) fn written_schemas(metadata: &TableMetadata) -> WrittenSchemas {
    let mut properties = metadata.properties().iter();
    let without_metrics = |(key, value): (&String, &String)| {
        key.starts_with(COLUMN_METRICS_PREFIX) && value.eq_ignore_ascii_case(NO_METRICS)
    };
    if properties.any(without_metrics) {
        return Arc::new([]);
    }
    let leaves = |schema: &iceberg::spec::SchemaRef| {
        let fields = schema.field_id_to_fields().values();
        fields.filter(|field| field.field_type.is_primitive()).map(|field| field.id).collect()
    };
    metadata.schemas_iter().map(leaves).collect()
}

impl DataFile {
    /// Returns the compressed size in bytes of the column with this field id in the file; `None` if
    /// unknown.
    pub fn column_bytes(&self, field_id: i32) -> Option<u64> {
        self.entry.data_file.column_sizes().get(&field_id).copied()
    }

    /// Returns the data sequence number. Later files have larger numbers.
    pub fn sequence_number(&self) -> i64 {
        self.entry.sequence_number.unwrap_or_default()
    }

    /// Returns the id of the file's first row; `None` if the table has no row lineage.
    pub fn first_row_id(&self) -> Option<i64> {
        self.entry.data_file.first_row_id()
    }

    /// Returns true if the bounds of numeric and temporal columns are values that occur in the
    /// file. True only for files written by Headwater, because other writers may store wider
    /// bounds.
    pub fn has_exact_bounds(&self) -> bool {
        let name = self.location.rsplit('/').next().unwrap_or(&self.location);
        name.starts_with(FILE_PREFIX)
    }

    /// Returns the offsets of the file's row groups, in bytes; empty if unknown.
    pub fn split_offsets(&self) -> &[i64] {
        self.entry.data_file.split_offsets().unwrap_or_default()
    }

    /// Returns the value that a column has in all rows of the file, if the table is partitioned by
    /// the column itself (transform `identity`).
    fn constant_value(&self, field_id: i32) -> Option<&Option<PrimitiveLiteral>> {
        let same =
            |part: &&(i32, Transform, _)| (part.0, part.1) == (field_id, Transform::Identity);
        self.parts.iter().find(same).map(|(_, _, value)| value)
    }

    /// Returns false only if the file certainly lacks the column. A writer may omit the metrics of
    /// a column that it writes. So missing metrics prove that the column is missing only if the
    /// file has metrics of all columns of some schema.
    pub fn has_column(&self, field_id: i32) -> bool {
        let file = &self.entry.data_file;
        let (sizes, counts) = (file.column_sizes(), file.value_counts());
        let known = |id: &i32| sizes.contains_key(id) || counts.contains_key(id);
        let complete = |schema: &Vec<i32>| !schema.is_empty() && schema.iter().all(known);
        known(&field_id) || !self.written_schemas.iter().any(complete)
    }

    /// Returns the number of nulls in a column; `None` if unknown.
    pub fn null_count(&self, field_id: i32) -> Option<u64> {
        match self.constant_value(field_id) {
            Some(Some(_)) => Some(0),
            Some(None) => Some(self.rows),
            None => self.entry.data_file.null_value_counts().get(&field_id).copied(),
        }
    }

    /// Returns true if some rows may be deleted; [`crate::RowDeletes::deleted`] returns the deleted
    /// rows.
    pub fn has_deletes(&self) -> bool {
        self.deletes.is_some()
    }

    /// Returns the delete files that may apply to the file.
    pub fn each_delete_file(&self) -> impl Iterator<Item = &Arc<DeleteFile>> {
        self.deletes.iter().flat_map(|deletes| deletes.each())
    }

    /// Returns the number of delete files that may apply to the file.
    pub fn delete_files(&self) -> usize {
        self.deletes.as_ref().map_or(0, |deletes| deletes.files().count())
    }

    /// Returns the same file without delete files.
    pub(crate) fn without_deletes(&self) -> Self {
        self.replace_deletes(None)
    }

    /// Returns the same file with these delete files.
    pub(crate) fn with_deletes(&self, deletes: Arc<Deletes>) -> Self {
        self.replace_deletes(Some(deletes))
    }

    fn replace_deletes(&self, deletes: Option<Arc<Deletes>>) -> Self {
        DataFile {
            location: self.location.clone(),
            path: self.path.clone(),
            bytes: self.bytes,
            rows: self.rows,
            partition: self.partition.clone(),
            entry: self.entry.clone(),
            spec_id: self.spec_id,
            deletes,
            parts: self.parts.clone(),
            written_schemas: self.written_schemas.clone(),
        }
    }

    /// Returns the location of the file, and a fingerprint of its delete files.
    pub fn state(&self) -> (&str, u128) {
        (&self.location, self.deletes.as_ref().map_or(0, |deletes| deletes.fingerprint()))
    }

    /// Returns true if a column may contain NaN, which is never a bound.
    fn may_contain_nan(&self, field_id: i32) -> bool {
        self.entry.data_file.nan_value_counts().get(&field_id) != Some(&0)
    }
}

/// The data files of one snapshot. Clones share the files.
#[derive(Debug, Clone)]
pub struct ScanPlan {
    schema: SchemaRef,
    files: Arc<[Arc<DataFile>]>,
    stats: Arc<FileStatCache>,
}

impl ScanPlan {
    /// Creates a plan to scan these files.
    pub fn new(schema: SchemaRef, files: Arc<[Arc<DataFile>]>) -> Self {
        ScanPlan::with_stats(schema, files, Arc::default())
    }

    /// Creates a plan that shares cached statistics with other plans of the same files.
    pub(crate) fn with_stats(
        schema: SchemaRef,
        files: Arc<[Arc<DataFile>]>,
        stats: Arc<FileStatCache>,
    ) -> Self {
        ScanPlan { schema, files, stats }
    }

    /// Returns the snapshot's schema.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the data files, oldest first.
    pub fn files(&self) -> &Arc<[Arc<DataFile>]> {
        &self.files
    }

    /// Returns true if some rows may be deleted. Counts and bounds are then inexact.
    pub fn has_deletes(&self) -> bool {
        self.files.iter().any(|file| file.has_deletes())
    }

    /// Returns the number of rows in all files, including deleted rows.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    /// Returns the total size of all files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Returns a lower bound of a top-level column for each file, in the column's type; null if
    /// unknown. Returns `None` if the snapshot does not have the column.
    pub fn min(&self, column: &str) -> Option<ArrayRef> {
        self.bounds(column, FileStatKind::Lower)
    }

    /// Returns an upper bound of a top-level column for each file, in the column's type; null if
    /// unknown. Returns `None` if the snapshot does not have the column.
    pub fn max(&self, column: &str) -> Option<ArrayRef> {
        self.bounds(column, FileStatKind::Upper)
    }

    /// Returns true if at least one file may contain NaN in a top-level column.
    pub fn may_contain_nan(&self, column: &str) -> bool {
        let id = self.column(column).map(|(id, _)| id);
        id.is_some_and(|id| self.files.iter().any(|file| file.may_contain_nan(id)))
    }

    fn bounds(&self, column: &str, bound: FileStatKind) -> Option<ArrayRef> {
        let (id, data_type) = self.column(column)?;
        // DataFusion sorts NaN after all numbers, so the bounds are valid only without a NaN.
        let floats = matches!(data_type, DataType::Float32 | DataType::Float64);
        let values = self.files.iter().map(|file| {
            if floats && file.may_contain_nan(id) { None } else { bound_of(file, id, bound) }
        });
        Some(self.stats.get(bound, id, data_type, || to_array(data_type, values)))
    }

    /// Returns the null count of a top-level column for each file, as `UInt64`; null if unknown.
    pub fn null_counts(&self, column: &str) -> Option<ArrayRef> {
        let (id, data_type) = self.column(column)?;
        let counts = self.files.iter().map(|file| file.null_count(id));
        Some(
            self.stats.get(FileStatKind::Nulls, id, data_type, || {
                Arc::new(counts.collect::<UInt64Array>())
            }),
        )
    }

    /// Returns the number of rows of each file, as `UInt64`.
    pub fn row_counts(&self) -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(self.files.iter().map(|file| file.rows)))
    }

    /// Returns true if [`ScanPlan::min`] and [`ScanPlan::max`] of a column are values that occur in
    /// files with [`DataFile::has_exact_bounds`]. False for strings and binary, which have
    /// truncated bounds, and for floats, because of signed zeros.
    pub fn is_exact(&self, column: &str) -> bool {
        self.column(column).is_some_and(|(_, data_type)| match data_type {
            DataType::Boolean | DataType::Decimal128(..) => true,
            other => other.is_integer() || other.is_temporal(),
        })
    }

    /// Returns one value for each file: `false` if the file's partition excludes all of these
    /// values of a top-level column, and null if the file may contain one of the values. Returns
    /// `None` if no file can be excluded.
    ///
    /// `values` must be castable to the column's type.
    pub fn may_contain(&self, column: &str, values: &ArrayRef) -> Option<BooleanArray> {
        let (id, data_type) = self.column(column)?;
        let values = arrow::compute::cast(values, data_type).ok()?;
        let mut known: HashMap<Transform, Option<HashSet<Option<PrimitiveLiteral>>>> =
            HashMap::new();
        let mut excluded = |file: &DataFile| {
            file.parts.iter().filter(|(source, _, _)| *source == id).any(|(_, transform, value)| {
                let transformed = known
                    .entry(*transform)
                    .or_insert_with(|| transform_values(&values, *transform));
                transformed.as_ref().is_some_and(|transformed| !transformed.contains(value))
            })
        };
        let files: BooleanArray =
            self.files.iter().map(|file| excluded(file).then_some(false)).collect();
        (files.null_count() < files.len()).then_some(files)
    }

    /// Returns the plan with only the files for which `keep` is true. `keep` has one value per
    /// file, in plan order.
    #[must_use]
    pub fn retain(&self, keep: &[bool]) -> ScanPlan {
        let retained =
            self.files.iter().zip(keep).filter(|(_, keep)| **keep).map(|(f, _)| f.clone());
        ScanPlan::new(self.schema.clone(), retained.collect())
    }

    /// Returns the plan without the files of another plan.
    #[must_use]
    pub fn without(&self, other: &ScanPlan) -> ScanPlan {
        let known: HashSet<&str> = other.files.iter().map(|file| file.location.as_str()).collect();
        let new = self.files.iter().filter(|file| !known.contains(file.location.as_str()));
        ScanPlan::new(self.schema.clone(), new.cloned().collect())
    }

    fn column(&self, name: &str) -> Option<(i32, &DataType)> {
        let field = self.schema.field_with_name(name).ok()?;
        Some((field_id(field)?, field.data_type()))
    }
}

/// Applies a transform to values. Returns `None` if the transform is `void` or does not support the
/// type of the values.
fn transform_values(
    values: &ArrayRef,
    transform: Transform,
) -> Option<HashSet<Option<PrimitiveLiteral>>> {
    if transform == Transform::Void {
        return None;
    }
    let result = transformed(values, transform)?;
    let literal = |row| literal_at(&result, row).and_then(|value| value.as_primitive_literal());
    Some((0..result.len()).map(|row| literal(row).map(comparable)).collect())
}

fn bound_of(file: &DataFile, id: i32, bound: FileStatKind) -> Option<&PrimitiveLiteral> {
    if let Some(value) = file.constant_value(id) {
        return value.as_ref();
    }
    let own = file.has_exact_bounds();
    let file = &file.entry.data_file;
    let bounds = match bound {
        FileStatKind::Lower => file.lower_bounds(),
        FileStatKind::Upper => file.upper_bounds(),
        FileStatKind::Nulls => return None,
    };
    let bound = bounds.get(&id)?;
    // Bounds of timestamps in nanoseconds are not used, because DuckDB 1.5.5 writes wrong upper
    // bounds for them.
    let nanoseconds =
        matches!(bound.data_type(), PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs);
    (own || !nanoseconds).then(|| bound.literal())
}
