//! Statistics of the elements of a list. An aggregate such as `mode` is rewritten to collect its
//! values in a list and to call a function of this module.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Float64Builder, Int64Array, ListArray, MapArray,
    StructArray, UInt32Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Fields, Float64Type};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Returns the functions that compute statistics of a list.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let function = |(name, statistic)| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::from(ListStatisticFunction { name, statistic, signature }))
    };
    let numbers = NUMBERS.map(|(name, of)| (name, ListStatistic::Number(of)));
    let others = [
        ("list_mode", ListStatistic::Mode),
        ("list_quantile_disc", ListStatistic::Quantile),
        ("list_histogram", ListStatistic::Histogram),
    ];
    numbers.into_iter().chain(others).map(function).collect()
}

/// The functions that compute a statistic of numbers.
const NUMBERS: [(&str, NumberStatistic); 5] = [
    ("list_mad", NumberStatistic::Mad),
    ("list_skewness", NumberStatistic::Skewness),
    ("list_kurtosis", NumberStatistic::Kurtosis),
    ("list_entropy", NumberStatistic::Entropy),
    ("list_geomean", NumberStatistic::GeometricMean),
];

/// A statistic of the elements of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ListStatistic {
    /// The most frequent value; the smallest value if several are equally frequent.
    Mode,
    /// The smallest element such that at least the given fraction of the elements are less than or
    /// equal to it.
    Quantile,
    /// A map from each distinct element to its number of occurrences.
    Histogram,
    Number(NumberStatistic),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum NumberStatistic {
    /// The median of the absolute differences from the median.
    Mad,
    Skewness,
    Kurtosis,
    /// The entropy of the values, in bits.
    Entropy,
    GeometricMean,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ListStatisticFunction {
    name: &'static str,
    statistic: ListStatistic,
    signature: Signature,
}

impl ScalarUDFImpl for ListStatisticFunction {
    fn name(&self) -> &'static str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name;
        let (list, rest) = match (self.statistic, arguments) {
            (ListStatistic::Quantile, [list, fraction])
                if fraction.is_numeric() || fraction.is_null() =>
            {
                (list, Some(DataType::Float64))
            }
            (ListStatistic::Quantile, _) => {
                return plan_err!("`{name}` takes a list and a fraction from 0 to 1");
            }
            (_, [list]) => (list, None),
            _ => return plan_err!("`{name}` takes one list"),
        };
        let element = match list {
            DataType::List(element)
            | DataType::LargeList(element)
            | DataType::FixedSizeList(element, _) => element.data_type().clone(),
            DataType::Null => DataType::Null,
            other => return plan_err!("`{name}` takes a list, not {other}"),
        };
        let element = match self.statistic {
            ListStatistic::Number(NumberStatistic::Entropy) => element,
            ListStatistic::Number(_) if element.is_numeric() || element.is_null() => {
                DataType::Float64
            }
            ListStatistic::Number(_) => {
                return plan_err!("`{name}` takes numbers, not {element}");
            }
            _ => element,
        };
        Ok([Some(DataType::new_list(element, true)), rest].into_iter().flatten().collect())
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let DataType::List(element) = &arguments[0] else {
            return plan_err!("`{}` takes a list", self.name);
        };
        Ok(match self.statistic {
            ListStatistic::Mode | ListStatistic::Quantile => element.data_type().clone(),
            ListStatistic::Histogram => histogram_type(element.data_type()),
            ListStatistic::Number(_) => DataType::Float64,
        })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let args = &arguments.args;
        let is_single = args.iter().all(|it| matches!(it, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(args)?;
        let lists = arrays[0].as_list::<i32>();
        let result = match self.statistic {
            ListStatistic::Mode => select_elements(lists, |sorted, _| Ok(sorted.mode()))?,
            ListStatistic::Quantile => {
                let fractions = arrays[1].as_primitive::<Float64Type>();
                select_elements(lists, |sorted, row| {
                    if fractions.is_null(row) {
                        return Ok(None);
                    }
                    sorted.quantile(fractions.value(row))
                })?
            }
            ListStatistic::Histogram => histograms(lists)?,
            ListStatistic::Number(NumberStatistic::Entropy) => entropies(lists)?,
            ListStatistic::Number(of) => numbers(lists, of),
        };
        Ok(if is_single {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)
        } else {
            ColumnarValue::Array(result)
        })
    }
}

/// The elements of a list that are not null, in ascending order.
struct SortedElements<'a> {
    rows: &'a Rows,
    /// Indexes of the elements in the array that contains the elements of all lists.
    order: Vec<usize>,
}

impl<'a> SortedElements<'a> {
    fn of(lists: &ListArray, rows: &'a Rows, row: usize) -> Self {
        let offsets = lists.value_offsets();
        let elements = offsets[row] as usize..offsets[row + 1] as usize;
        let values = lists.values();
        let elements = if lists.is_null(row) { 0..0 } else { elements };
        let mut order: Vec<usize> = elements.filter(|index| values.is_valid(*index)).collect();
        order.sort_by(|a, b| rows.row(*a).cmp(&rows.row(*b)));
        SortedElements { rows, order }
    }

    /// Returns each run of equal elements as the index of its first element and its length.
    fn runs(&self) -> impl Iterator<Item = (usize, usize)> {
        self.order
            .chunk_by(|a, b| self.rows.row(*a) == self.rows.row(*b))
            .map(|run| (run[0], run.len()))
    }

    fn mode(&self) -> Option<usize> {
        let longest = |best: Option<(usize, usize)>, run: (usize, usize)| match best {
            Some(best) if best.1 >= run.1 => Some(best),
            _ => Some(run),
        };
        self.runs().fold(None, longest).map(|run| run.0)
    }

    fn quantile(&self, fraction: f64) -> Result<Option<usize>> {
        if !(0.0..=1.0).contains(&fraction) {
            return exec_err!("the fraction of a quantile must be from 0 to 1, not {fraction}");
        }
        let place = (fraction * self.order.len() as f64).ceil() as usize;
        Ok(self.order.get(place.saturating_sub(1)).copied())
    }
}

/// Converts the elements of all lists to rows that can be compared.
fn rows_of(lists: &ListArray) -> Result<Rows> {
    let field = SortField::new(lists.values().data_type().clone());
    Ok(RowConverter::new(vec![field])?.convert_columns(&[Arc::clone(lists.values())])?)
}

/// Returns one element of each list: the element at the index that `select` returns, or null for
/// `None`.
fn select_elements(
    lists: &ListArray,
    select: impl Fn(&SortedElements<'_>, usize) -> Result<Option<usize>>,
) -> Result<ArrayRef> {
    let rows = rows_of(lists)?;
    let index = |row| {
        let found = select(&SortedElements::of(lists, &rows, row), row)?;
        Ok(found.and_then(|index| u32::try_from(index).ok()))
    };
    let indexes: Result<UInt32Array> = (0..lists.len()).map(index).collect();
    Ok(take(lists.values(), &indexes?, None)?)
}

fn histogram_fields(element: &DataType) -> Fields {
    Fields::from(vec![
        Field::new("key", element.clone(), false),
        Field::new("value", DataType::Int64, true),
    ])
}

fn histogram_type(element: &DataType) -> DataType {
    let entries = Field::new("entries", DataType::Struct(histogram_fields(element)), false);
    DataType::Map(Arc::new(entries), false)
}

fn histograms(lists: &ListArray) -> Result<ArrayRef> {
    let rows = rows_of(lists)?;
    let (mut keys, mut counts, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    let mut is_valid = Vec::new();
    for row in 0..lists.len() {
        let before = keys.len();
        for (index, count) in SortedElements::of(lists, &rows, row).runs() {
            keys.push(index as u32);
            counts.push(count as i64);
        }
        lengths.push(keys.len() - before);
        is_valid.push(lists.is_valid(row));
    }
    let keys = take(lists.values(), &UInt32Array::from(keys), None)?;
    let fields = histogram_fields(keys.data_type());
    let counts: ArrayRef = Arc::new(Int64Array::from(counts));
    let entries = StructArray::try_new(fields, vec![keys, counts], None)?;
    let DataType::Map(field, _) = histogram_type(lists.values().data_type()) else {
        return exec_err!("a histogram is a map");
    };
    let offsets = OffsetBuffer::from_lengths(lengths);
    let nulls = NullBuffer::from(is_valid);
    Ok(Arc::new(MapArray::try_new(field, offsets, entries, Some(nulls), false)?))
}

fn entropies(lists: &ListArray) -> Result<ArrayRef> {
    let rows = rows_of(lists)?;
    let entropy = |row| {
        let sorted = SortedElements::of(lists, &rows, row);
        let all = sorted.order.len() as f64;
        let part = |(_, count): (usize, usize)| {
            let share = count as f64 / all;
            -share * share.log2()
        };
        // Add 0, because the sum of no values is -0.
        lists.is_valid(row).then(|| sorted.runs().map(part).sum::<f64>() + 0.0)
    };
    Ok(Arc::new((0..lists.len()).map(entropy).collect::<Float64Array>()))
}

fn numbers(lists: &ListArray, of: NumberStatistic) -> ArrayRef {
    let mut found = Float64Builder::with_capacity(lists.len());
    for list in lists.iter() {
        let numbers = list.and_then(|list| cast(&list, &DataType::Float64).ok());
        let numbers: Vec<f64> = numbers
            .map(|list| list.as_primitive::<Float64Type>().iter().flatten().collect())
            .unwrap_or_default();
        found.append_option(if numbers.is_empty() { None } else { number(numbers, of) });
    }
    Arc::new(found.finish())
}

/// Returns a statistic of one or more numbers, computed with DuckDB's formula.
fn number(mut values: Vec<f64>, of: NumberStatistic) -> Option<f64> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let moment = |power| values.iter().map(|it| (it - mean).powi(power)).sum::<f64>() / count;
    match of {
        NumberStatistic::Mad => {
            let middle = median(&mut values);
            for value in &mut values {
                *value = (*value - middle).abs();
            }
            Some(median(&mut values))
        }
        NumberStatistic::GeometricMean => {
            Some((values.iter().map(|it| it.ln()).sum::<f64>() / count).exp())
        }
        NumberStatistic::Skewness if count > 2.0 => {
            let variance = moment(2);
            let correction = (count * (count - 1.0)).sqrt() / (count - 2.0);
            (variance > 0.0).then(|| correction * moment(3) / variance.powf(1.5))
        }
        NumberStatistic::Kurtosis if count > 3.0 => {
            let variance = moment(2);
            let factor = (count - 1.0) / ((count - 2.0) * (count - 3.0));
            (variance > 0.0).then(|| {
                factor * ((count + 1.0) * moment(4) / variance.powi(2) - 3.0 * (count - 1.0))
            })
        }
        NumberStatistic::Skewness | NumberStatistic::Kurtosis | NumberStatistic::Entropy => None,
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        f64::midpoint(values[middle - 1], values[middle])
    } else {
        values[middle]
    }
}
