//! Scan plans: which data files a snapshot has, and what is known of each without opening it.
//!
//! Bounds and counts come from the manifests, as Arrow arrays with one value per file and the
//! table's own types, which is the shape that an engine prunes with.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::{DataType, SchemaRef};
use iceberg::spec::{ManifestEntryRef, PrimitiveLiteral, PrimitiveType, TableMetadata, Transform};
use object_store::path::Path;

use crate::deletes::Deletes;
use crate::facts::{Fact, Facts};
use crate::promotion::comparable;
use crate::transform::transformed;
use crate::types::schema::field_id;
use crate::values::{literal_at, to_array};
use crate::write::FILE_PREFIX;

/// One data file of a table.
#[derive(Debug)]
pub struct DataFile {
    /// Its URL, as the manifest has it.
    pub location: String,
    /// Where it lies in the object store.
    pub path: Path,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its rows, those that are gone among them.
    pub rows: u64,
    /// Its partition, as `ts_day=2013-01-01/origin=EWR`; empty where the table has no partitions.
    pub partition: String,
    pub(crate) entry: ManifestEntryRef,
    /// The partition spec that its partition is one of.
    pub(crate) spec_id: i32,
    /// What takes rows of it away, where anything does.
    pub(crate) deletes: Option<Arc<Deletes>>,
    /// The values of the columns that the file is partitioned by, as their transforms make them, by field
    /// id.
    pub(crate) parts: Vec<(i32, Transform, Option<PrimitiveLiteral>)>,
    /// The columns that a file may have been written with, as the table ever had them.
    pub(crate) written: Written,
}

/// The ids of the values, not of what holds them, that each schema of a table has; none at all where the
/// table has metrics of some columns not kept, so that nothing follows from their absence.
pub(crate) type Written = Arc<[Vec<i32>]>;

/// The properties by which a table says of which columns metrics are kept.
const METRICS: &str = "write.metadata.metrics.column.";

/// What they say where none are.
const NO_METRICS: &str = "none";

/// The columns that files of a table may have been written with.
pub(crate) fn written(metadata: &TableMetadata) -> Written {
    let mut properties = metadata.properties().iter();
    let left_out = |(key, value): (&String, &String)| {
        key.starts_with(METRICS) && value.eq_ignore_ascii_case(NO_METRICS)
    };
    if properties.any(left_out) {
        return Arc::new([]);
    }
    let leaves = |schema: &iceberg::spec::SchemaRef| {
        let fields = schema.field_id_to_fields().values();
        fields.filter(|field| field.field_type.is_primitive()).map(|field| field.id).collect()
    };
    metadata.schemas_iter().map(leaves).collect()
}

impl DataFile {
    /// Bytes that a column's values take in the file, by the column's field id; none where unknown.
    pub fn column_bytes(&self, field_id: i32) -> Option<u64> {
        self.entry.data_file.column_sizes().get(&field_id).copied()
    }

    /// The sequence number of the commit that added the rows; larger is later.
    pub fn sequence_number(&self) -> i64 {
        self.entry.sequence_number.unwrap_or_default()
    }

    /// The id of its first row; none where its rows have none.
    pub fn first_row_id(&self) -> Option<i64> {
        self.entry.data_file.first_row_id()
    }

    /// Whether its bounds of numbers and times are values that occur in it. Only of a file that was written
    /// here: others may give bounds that are wider than the values, and some do.
    pub fn has_exact_bounds(&self) -> bool {
        let name = self.location.rsplit('/').next().unwrap_or(&self.location);
        name.starts_with(FILE_PREFIX)
    }

    /// Where the file's row groups begin, in bytes; empty where unknown.
    pub fn split_offsets(&self) -> &[i64] {
        self.entry.data_file.split_offsets().unwrap_or_default()
    }

    /// The one value that a column has in all rows, where the partition says so.
    fn same_value(&self, field_id: i32) -> Option<&Option<PrimitiveLiteral>> {
        let same =
            |part: &&(i32, Transform, _)| (part.0, part.1) == (field_id, Transform::Identity);
        self.parts.iter().find(same).map(|(_, _, value)| value)
    }

    /// Whether it has values of a column, nulls among them, or may have. A writer may keep no metrics of a
    /// column that it writes; only where there are some of all columns of a schema, it kept those of all.
    pub(crate) fn has_column(&self, field_id: i32) -> bool {
        let file = &self.entry.data_file;
        let (sizes, counts) = (file.column_sizes(), file.value_counts());
        let known = |id: &i32| sizes.contains_key(id) || counts.contains_key(id);
        let complete = |schema: &Vec<i32>| !schema.is_empty() && schema.iter().all(known);
        known(&field_id) || !self.written.iter().any(complete)
    }

    pub(crate) fn null_count(&self, field_id: i32) -> Option<u64> {
        match self.same_value(field_id) {
            Some(Some(_)) => Some(0),
            Some(None) => Some(self.rows),
            None => self.entry.data_file.null_value_counts().get(&field_id).copied(),
        }
    }

    /// Whether some of its rows may be gone; which are, [`crate::Tables::deleted`] says.
    pub fn has_deletes(&self) -> bool {
        self.deletes.is_some()
    }

    /// How many delete files may concern it.
    pub fn delete_files(&self) -> usize {
        self.deletes.as_ref().map_or(0, |deletes| deletes.files().count())
    }

    /// The same file with all rows that were ever in it.
    pub(crate) fn whole(&self) -> Self {
        self.deleted_by(None)
    }

    /// The same file with what takes rows of it away.
    pub(crate) fn with_deletes(&self, deletes: Arc<Deletes>) -> Self {
        self.deleted_by(Some(deletes))
    }

    fn deleted_by(&self, deletes: Option<Arc<Deletes>>) -> Self {
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
            written: self.written.clone(),
        }
    }

    /// Where it lies, and what tells its delete files from all others.
    pub fn state(&self) -> (&str, u128) {
        (&self.location, self.deletes.as_ref().map_or(0, |deletes| deletes.fingerprint()))
    }

    /// Whether a column may hold NaNs, which no bound covers.
    fn may_hold_nan(&self, field_id: i32) -> bool {
        self.entry.data_file.nan_value_counts().get(&field_id) != Some(&0)
    }
}

/// The data files of one snapshot; cheap to clone.
#[derive(Debug, Clone)]
pub struct ScanPlan {
    schema: SchemaRef,
    files: Arc<[Arc<DataFile>]>,
    facts: Arc<Facts>,
}

impl ScanPlan {
    pub(crate) fn new(schema: SchemaRef, files: Arc<[Arc<DataFile>]>) -> Self {
        ScanPlan::with_facts(schema, files, Arc::default())
    }

    /// A plan of files of which others may have asked something before.
    pub(crate) fn with_facts(
        schema: SchemaRef,
        files: Arc<[Arc<DataFile>]>,
        facts: Arc<Facts>,
    ) -> Self {
        ScanPlan { schema, files, facts }
    }

    /// The columns of the snapshot.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The files, oldest first.
    pub fn files(&self) -> &Arc<[Arc<DataFile>]> {
        &self.files
    }

    /// Whether some rows of the files may be gone, so that counts are too large and bounds too wide.
    pub fn has_deletes(&self) -> bool {
        self.files.iter().any(|file| file.has_deletes())
    }

    /// Rows in all files, those that are gone among them.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// A lower bound of a top-level column in each file, typed as the column; null where unknown.
    /// None for a column that the snapshot does not have.
    pub fn min(&self, column: &str) -> Option<ArrayRef> {
        self.bounds(column, Fact::Lower)
    }

    /// An upper bound of a top-level column in each file, typed as the column; null where unknown.
    /// None for a column that the snapshot does not have.
    pub fn max(&self, column: &str) -> Option<ArrayRef> {
        self.bounds(column, Fact::Upper)
    }

    /// Whether a file may hold NaN in a top-level column.
    pub fn may_hold_nan(&self, column: &str) -> bool {
        let id = self.column(column).map(|(id, _)| id);
        id.is_some_and(|id| self.files.iter().any(|file| file.may_hold_nan(id)))
    }

    fn bounds(&self, column: &str, bound: Fact) -> Option<ArrayRef> {
        let (id, data_type) = self.column(column)?;
        // DataFusion orders NaN above and below all numbers, so bounds hold only without them.
        let floats = matches!(data_type, DataType::Float32 | DataType::Float64);
        let values = self.files.iter().map(|file| {
            if floats && file.may_hold_nan(id) { None } else { bound_of(file, id, bound) }
        });
        Some(self.facts.get(bound, (id, data_type), || to_array(data_type, values)))
    }

    /// Nulls of a top-level column in each file, as `UInt64`; null where unknown.
    pub fn null_counts(&self, column: &str) -> Option<ArrayRef> {
        let (id, data_type) = self.column(column)?;
        let counts = self.files.iter().map(|file| file.null_count(id));
        Some(
            self.facts
                .get(Fact::Nulls, (id, data_type), || Arc::new(counts.collect::<UInt64Array>())),
        )
    }

    /// Rows of each file, as `UInt64`.
    pub fn row_counts(&self) -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(self.files.iter().map(|file| file.rows)))
    }

    /// Whether [`ScanPlan::min`] and [`ScanPlan::max`] of a column are values that occur in the files for
    /// which [`DataFile::has_exact_bounds`] holds, where they are known. Not so for strings and bytes,
    /// whose bounds are shortened, nor for floats, whose zeros have a sign.
    pub fn is_exact(&self, column: &str) -> bool {
        self.column(column).is_some_and(|(_, data_type)| match data_type {
            DataType::Boolean | DataType::Decimal128(..) => true,
            other => other.is_integer() || other.is_temporal(),
        })
    }

    /// For each file, whether any of some values of a top-level column may be in it: `false` where its
    /// partition says that none is, null where nothing says so. None where no file's partition tells.
    ///
    /// `values` are of the column's own type.
    pub fn may_hold(&self, column: &str, values: &ArrayRef) -> Option<BooleanArray> {
        let (id, data_type) = self.column(column)?;
        let values = arrow::compute::cast(values, data_type).ok()?;
        let mut known: HashMap<Transform, Option<HashSet<Option<PrimitiveLiteral>>>> =
            HashMap::new();
        let mut excluded = |file: &DataFile| {
            file.parts.iter().filter(|(source, _, _)| *source == id).any(|(_, transform, value)| {
                let made = known.entry(*transform).or_insert_with(|| made(&values, *transform));
                made.as_ref().is_some_and(|made| !made.contains(value))
            })
        };
        let files: BooleanArray =
            self.files.iter().map(|file| excluded(file).then_some(false)).collect();
        (files.null_count() < files.len()).then_some(files)
    }

    /// The plan without the files for which `keep` is false; `keep` has one value per file, in
    /// order.
    #[must_use]
    pub fn retain(&self, keep: &[bool]) -> ScanPlan {
        let kept = self.files.iter().zip(keep).filter(|(_, keep)| **keep).map(|(f, _)| f.clone());
        ScanPlan::new(self.schema.clone(), kept.collect())
    }

    /// The plan without the files that another plan has.
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

/// What a transform makes of some values; none where it takes none of their type, or gives nothing that
/// tells them apart.
fn made(values: &ArrayRef, transform: Transform) -> Option<HashSet<Option<PrimitiveLiteral>>> {
    if transform == Transform::Void {
        return None;
    }
    let made = transformed(values, transform)?;
    let literal = |row| literal_at(&made, row).and_then(|value| value.as_primitive_literal());
    Some((0..made.len()).map(|row| literal(row).map(comparable)).collect())
}

fn bound_of(file: &DataFile, id: i32, bound: Fact) -> Option<&PrimitiveLiteral> {
    if let Some(value) = file.same_value(id) {
        return value.as_ref();
    }
    let trusted = file.has_exact_bounds();
    let file = &file.entry.data_file;
    let bounds = match bound {
        Fact::Lower => file.lower_bounds(),
        Fact::Upper => file.upper_bounds(),
        Fact::Nulls => return None,
    };
    let bound = bounds.get(&id)?;
    // DuckDB 1.5.5 writes bounds of nanoseconds that are above all values.
    let nanoseconds =
        matches!(bound.data_type(), PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs);
    (trusted || !nanoseconds).then(|| bound.literal())
}
