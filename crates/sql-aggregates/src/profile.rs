//! Profiles: statistics of the columns of rows, computed while the rows are read.
//!
//! [`DataProfiler`] uses DataFusion's accumulators, so its results are equal to the results of the
//! same aggregates in SQL. The profiler never fails: a statistic that a type does not support is
//! missing.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, sum};
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Schema, SchemaRef, UInt32Type, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::functions_aggregate::approx_distinct::approx_distinct_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::{Accumulator, AggregateUDF};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::Column;
use serde::{Deserialize, Serialize};

/// Maximum number of columns in a profile. Profiles are stored in the metadata of tables, which
/// each commit writes.
const COLUMNS_MAX: usize = 100;

/// Maximum length of a minimum or maximum, in characters.
const TEXT_MAX: usize = 64;

/// Statistics of rows and of their columns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DataProfile {
    /// Number of rows.
    pub rows: u64,
    /// The first columns, in order.
    pub columns: Vec<ColumnProfile>,
}

/// Statistics of one column. A statistic is absent if all values are null or if it does not apply
/// to the column's type.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ColumnProfile {
    /// The column's name.
    pub name: String,
    /// Number of nulls.
    pub nulls: u64,
    /// Approximate number of distinct values, nulls excluded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct: Option<u64>,
    /// Smallest value, cut to 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    /// Largest value, cut to 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
    /// Average of a numeric column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avg: Option<f64>,
}

/// Computes a profile from record batches.
#[derive(Debug)]
pub struct DataProfiler {
    rows: u64,
    columns: Vec<ColumnProfiler>,
}

#[derive(Debug)]
struct ColumnProfiler {
    name: String,
    nulls: u64,
    distinct: Option<Box<dyn Accumulator>>,
    min: Option<Box<dyn Accumulator>>,
    max: Option<Box<dyn Accumulator>>,
    /// Sum of a numeric column.
    sum: Option<f64>,
}

impl DataProfiler {
    /// Creates a profiler for rows with this schema.
    pub fn new(schema: &Schema) -> Self {
        let columns = schema.fields().iter().take(COLUMNS_MAX);
        let columns = columns.map(|field| ColumnProfiler::new(field)).collect();
        DataProfiler { rows: 0, columns }
    }

    /// Adds the rows of a batch.
    pub fn add(&mut self, batch: &RecordBatch) {
        self.rows += batch.num_rows() as u64;
        for (column, values) in self.columns.iter_mut().zip(batch.columns()) {
            column.add(values);
        }
    }

    /// Returns the profile of the rows so far.
    pub fn finish(&mut self) -> DataProfile {
        let rows = self.rows;
        let columns = self.columns.iter_mut().map(|column| column.finish(rows)).collect();
        DataProfile { rows, columns }
    }
}

impl ColumnProfiler {
    fn new(field: &Field) -> Self {
        let data_type = field.data_type();
        let is_ordered = !data_type.is_nested() && !data_type.is_null();
        let of = |function: Arc<AggregateUDF>, data_type: &DataType| {
            is_ordered.then(|| accumulator(function, data_type)).flatten()
        };
        ColumnProfiler {
            name: field.name().clone(),
            nulls: 0,
            distinct: of(approx_distinct_udaf(), &countable(data_type)),
            min: of(min_udaf(), data_type),
            max: of(max_udaf(), data_type),
            sum: data_type.is_numeric().then_some(0.0),
        }
    }

    fn add(&mut self, values: &ArrayRef) {
        self.nulls += values.logical_null_count() as u64;
        update(&mut self.distinct, &to_countable(values));
        update(&mut self.min, values);
        update(&mut self.max, values);
        self.sum = self.sum.and_then(|known| {
            let values = cast(values, &DataType::Float64).ok()?;
            Some(known + sum(values.as_primitive::<Float64Type>()).unwrap_or_default())
        });
    }

    fn finish(&mut self, rows: u64) -> ColumnProfile {
        let values = rows.saturating_sub(self.nulls);
        let avg = self.sum.filter(|_| values > 0).map(|sum| sum / values as f64);
        let distinct = result(&mut self.distinct).and_then(|count| text(&count)?.parse().ok());
        ColumnProfile {
            name: self.name.clone(),
            nulls: self.nulls,
            distinct: distinct.filter(|_| values > 0),
            min: result(&mut self.min).as_ref().and_then(text),
            max: result(&mut self.max).as_ref().and_then(text),
            // JSON has no infinite numbers and no NaN.
            avg: avg.filter(|avg| avg.is_finite()),
        }
    }
}

/// Creates an accumulator for a column; `None` if the function does not support the type.
fn accumulator(function: Arc<AggregateUDF>, data_type: &DataType) -> Option<Box<dyn Accumulator>> {
    let schema: SchemaRef = Schema::new(vec![Field::new("value", data_type.clone(), true)]).into();
    let aggregate = AggregateExprBuilder::new(function, vec![Arc::new(Column::new("value", 0))]);
    aggregate.schema(schema).alias("value").build().ok()?.create_accumulator().ok()
}

/// Adds values to an accumulator. An accumulator that fails is dropped.
fn update(accumulator: &mut Option<Box<dyn Accumulator>>, values: &ArrayRef) {
    if let Some(known) = accumulator
        && known.update_batch(std::slice::from_ref(values)).is_err()
    {
        *accumulator = None;
    }
}

/// Returns the result of an accumulator as an array with one element.
fn result(accumulator: &mut Option<Box<dyn Accumulator>>) -> Option<ArrayRef> {
    accumulator.as_mut()?.evaluate().ok()?.to_array().ok()
}

fn text(value: &ArrayRef) -> Option<String> {
    let options = FormatOptions::default();
    let format = ArrayFormatter::try_new(value, &options).ok()?;
    value.is_valid(0).then(|| format.value(0).to_string().chars().take(TEXT_MAX).collect())
}

/// Returns the type in which a column's values are passed to `approx_distinct`. This function does
/// not accept floating-point numbers, so their bits are passed as integers.
fn countable(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Float64 => DataType::UInt64,
        DataType::Float32 => DataType::UInt32,
        other => other.clone(),
    }
}

fn to_countable(values: &ArrayRef) -> ArrayRef {
    match values.data_type() {
        DataType::Float64 => {
            Arc::new(values.as_primitive::<Float64Type>().unary::<_, UInt64Type>(f64::to_bits))
        }
        DataType::Float32 => {
            Arc::new(values.as_primitive::<Float32Type>().unary::<_, UInt32Type>(f32::to_bits))
        }
        _ => Arc::clone(values),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array, ListArray, StringArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn profile(columns: Vec<(&str, ArrayRef)>) -> DataProfile {
        let batch = RecordBatch::try_from_iter(columns).expect("a batch");
        let mut profiler = DataProfiler::new(&batch.schema());
        let half = batch.num_rows() / 2;
        profiler.add(&batch.slice(0, half));
        profiler.add(&batch.slice(half, batch.num_rows() - half));
        profiler.finish()
    }

    #[test]
    fn a_profile_has_the_statistics_of_all_batches() {
        let long = "z".repeat(TEXT_MAX + 1);
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1)]); 4]);
        let found = profile(vec![
            ("n", Arc::new(Int64Array::from(vec![Some(4), None, Some(2), Some(4)]))),
            ("x", Arc::new(Float64Array::from(vec![0.5, 1.5, 0.5, 1.5]))),
            ("t", Arc::new(StringArray::from(vec![Some("a"), Some(&*long), None, None]))),
            ("none", Arc::new(Int64Array::from(vec![None::<i64>; 4]))),
            ("list", Arc::new(list)),
        ]);
        let column = |name: &str, nulls, distinct, [min, max]: [&str; 2], avg| ColumnProfile {
            name: name.to_owned(),
            nulls,
            distinct,
            min: (!min.is_empty()).then(|| min.to_owned()),
            max: (!max.is_empty()).then(|| max.to_owned()),
            avg,
        };
        let columns = vec![
            column("n", 1, Some(2), ["2", "4"], Some(10.0 / 3.0)),
            column("x", 0, Some(2), ["0.5", "1.5"], Some(1.0)),
            column("t", 2, Some(2), ["a", &long[..TEXT_MAX]], None),
            column("none", 4, None, ["", ""], None),
            column("list", 0, None, ["", ""], None),
        ];
        assert_eq!(found, DataProfile { rows: 4, columns });
    }

    #[test]
    fn a_profile_without_rows_has_no_values() {
        let found = profile(vec![("n", Arc::new(Int64Array::from(Vec::<i64>::new())))]);
        let n = ColumnProfile { name: "n".to_owned(), ..ColumnProfile::default() };
        assert_eq!(found, DataProfile { rows: 0, columns: vec![n] });
    }
}
