//! Converts the statistics in manifests to DataFusion's statistics: row counts, null counts,
//! bounds, and sizes in bytes. The sizes determine the order of joins. A bound is exact if at least
//! one row has this value. For files with deletes, no statistics are exact.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Schema, UInt64Type};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, ScalarValue, Statistics};
use datafusion::functions_aggregate::min_max::{MaxAccumulator, MinAccumulator};
use datafusion::logical_expr::Accumulator;
use headwater_tables::ScanPlan;

/// Maximum number of files with separate statistics for each file. For more files, only the totals
/// are returned, because statistics for each file would cost more time than they save.
const FILES_MAX: usize = 256;

/// Assumed size in bytes of a value of a type without a fixed width.
const VARIABLE_BYTES: usize = 16;

/// Assumed decompressed size of a file, divided by its compressed size.
const COMPRESSION: usize = 2;

/// Returns the statistics of the scanned columns, as totals and, up to [`FILES_MAX`] files, for
/// each file.
pub fn of_scan(
    plan: &ScanPlan,
    schema: &Schema,
    columns: &[usize],
) -> Result<(Statistics, Option<Vec<Statistics>>)> {
    let rows = usize::try_from(plan.rows()).unwrap_or(usize::MAX);
    let mut total = Statistics::new_unknown(schema).with_num_rows(Precision::Exact(rows));
    let file_rows: Vec<usize> = plan.files().iter().map(|file| file.rows as usize).collect();
    let unknown =
        |rows: &usize| Statistics::new_unknown(schema).with_num_rows(Precision::Exact(*rows));
    let mut files: Option<Vec<Statistics>> =
        (file_rows.len() <= FILES_MAX).then(|| file_rows.iter().map(unknown).collect());
    for (index, field) in schema.fields().iter().enumerate() {
        total.column_statistics[index].byte_size = byte_size(field.data_type(), rows);
        if columns.contains(&index) {
            let known = ColumnFileStatistics::of(plan, field.name(), field.data_type());
            known.sum_up(&mut total.column_statistics[index], &file_rows)?;
            for (file, statistics) in files.iter_mut().flatten().enumerate() {
                known.of_file(file, &mut statistics.column_statistics[index])?;
            }
        }
    }
    total.total_byte_size = encoded_bytes(plan.bytes(), &total, columns);
    for (statistics, rows) in files.iter_mut().flatten().zip(&file_rows) {
        for (column, field) in statistics.column_statistics.iter_mut().zip(schema.fields()) {
            column.byte_size = byte_size(field.data_type(), *rows);
        }
    }
    for (statistics, file) in files.iter_mut().flatten().zip(plan.files().iter()) {
        statistics.total_byte_size = encoded_bytes(file.bytes, statistics, columns);
        if file.has_deletes() {
            *statistics = std::mem::take(statistics).to_inexact();
        }
    }
    if plan.has_deletes() {
        total = total.to_inexact();
    }
    Ok((total, files))
}

fn byte_size(data_type: &DataType, rows: usize) -> Precision<usize> {
    match data_type.primitive_width() {
        Some(width) => Precision::Exact(rows.saturating_mul(width)),
        None => Precision::Inexact(rows.saturating_mul(VARIABLE_BYTES)),
    }
}

/// Estimates the number of decompressed, encoded bytes of the columns that a scan reads. DataFusion
/// uses this estimate if a column has no fixed width. Manifests contain only the compressed size of
/// whole files, so it is multiplied by the columns' share of all columns. The estimate is too large
/// for small files, which consist mostly of their footer.
fn encoded_bytes(file_bytes: u64, statistics: &Statistics, columns: &[usize]) -> Precision<usize> {
    let width = |column: &ColumnStatistics| column.byte_size.get_value().copied().unwrap_or(0);
    let all: usize = statistics.column_statistics.iter().map(width).sum();
    let read: usize =
        columns.iter().filter_map(|&at| statistics.column_statistics.get(at)).map(width).sum();
    let encoded = (file_bytes as usize).saturating_mul(COMPRESSION);
    let share = read as f64 / all.max(1) as f64;
    Precision::Inexact(read.min((encoded as f64 * share) as usize))
}

/// The statistics of one column in the manifests, with one value for each file.
struct ColumnFileStatistics {
    data_type: DataType,
    min: Option<ArrayRef>,
    max: Option<ArrayRef>,
    nulls: Option<ArrayRef>,
    /// For each file, true if the bounds are exact, that is, values that occur in the file.
    exact: Vec<bool>,
}

impl ColumnFileStatistics {
    fn of(plan: &ScanPlan, column: &str, data_type: &DataType) -> Self {
        // Bounds of floats are not exact: in Iceberg, NaN is never a bound, but DataFusion orders
        // NaN above every number.
        let exact = plan.is_exact(column) && !data_type.is_floating();
        let exact = plan.files().iter().map(|file| exact && file.has_exact_bounds()).collect();
        // Ignore the bounds of nested types: engines order nested values in different ways, and
        // maps have no order.
        let bounded = !data_type.is_nested();
        ColumnFileStatistics {
            data_type: data_type.clone(),
            min: bounded.then(|| plan.min(column)).flatten(),
            max: bounded.then(|| plan.max(column)).flatten(),
            nulls: plan.null_counts(column),
            exact,
        }
    }

    /// Returns true if every file without a bound contains only nulls in this column.
    fn covers_every_file(&self, bounds: &ArrayRef, rows: &[usize]) -> bool {
        if bounds.null_count() == 0 {
            return true;
        }
        let Some(nulls) = &self.nulls else { return false };
        let nulls = nulls.as_primitive::<UInt64Type>();
        (0..bounds.len())
            .filter(|&file| bounds.is_null(file))
            .all(|file| nulls.is_valid(file) && rows[file] as u64 == nulls.value(file))
    }

    fn sum_up(&self, column: &mut ColumnStatistics, rows: &[usize]) -> Result<()> {
        if let Some(nulls) = &self.nulls {
            let counts = nulls.as_primitive::<UInt64Type>();
            let sum: u64 = counts.iter().flatten().sum();
            column.null_count = match counts.null_count() {
                0 => Precision::Exact(sum as usize),
                _ => Precision::Absent,
            };
        }
        if let Some(min) = &self.min {
            let mut least = MinAccumulator::try_new(min.data_type())?;
            least.update_batch(std::slice::from_ref(min))?;
            column.min_value =
                self.bound_of_all(least.evaluate()?, self.covers_every_file(min, rows))?;
        }
        if let Some(max) = &self.max {
            let mut most = MaxAccumulator::try_new(max.data_type())?;
            most.update_batch(std::slice::from_ref(max))?;
            column.max_value =
                self.bound_of_all(most.evaluate()?, self.covers_every_file(max, rows))?;
        }
        Ok(())
    }

    fn of_file(&self, file: usize, column: &mut ColumnStatistics) -> Result<()> {
        if let Some(nulls) = self.nulls.as_ref().filter(|nulls| nulls.is_valid(file)) {
            let count = nulls.as_primitive::<UInt64Type>().value(file);
            column.null_count = Precision::Exact(count as usize);
        }
        if let Some(min) = self.min.as_ref().filter(|min| min.is_valid(file)) {
            column.min_value =
                self.bound(ScalarValue::try_from_array(min, file)?, self.exact[file])?;
        }
        if let Some(max) = self.max.as_ref().filter(|max| max.is_valid(file)) {
            column.max_value =
                self.bound(ScalarValue::try_from_array(max, file)?, self.exact[file])?;
        }
        Ok(())
    }

    fn bound_of_all(&self, value: ScalarValue, complete: bool) -> Result<Precision<ScalarValue>> {
        if !complete {
            return Ok(Precision::Absent);
        }
        self.bound(value, self.exact.iter().all(|exact| *exact))
    }

    fn bound(&self, value: ScalarValue, exact: bool) -> Result<Precision<ScalarValue>> {
        if value.is_null() {
            return Ok(Precision::Absent);
        }
        let value = value.cast_to(&self.data_type)?;
        Ok(if exact { Precision::Exact(value) } else { Precision::Inexact(value) })
    }
}
