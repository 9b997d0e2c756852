//! Similarity of two texts, as DuckDB has it.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::ScalarUDF;

use crate::call::function;

/// Returns the functions.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let texts = || vec![DataType::Utf8, DataType::Utf8];
    let distance = |name, of: fn(&[ArrayRef]) -> Result<ArrayRef>| {
        function(name, texts(), DataType::Int64, of)
    };
    let similarity = |name, of: fn(&[ArrayRef]) -> Result<ArrayRef>| {
        function(name, texts(), DataType::Float64, of)
    };
    vec![
        distance("damerau_levenshtein", |values| {
            counts(values, |a, b| Ok(strsim::damerau_levenshtein(a, b)))
        }),
        distance("hamming", |values| {
            counts(values, |a, b| {
                let count = strsim::hamming(a, b);
                count.map_err(|_| exec_datafusion_err!("`hamming` takes texts of the same length"))
            })
        }),
        similarity("jaro_similarity", |values| Ok(fractions(values, strsim::jaro))),
        similarity("jaro_winkler_similarity", |values| Ok(fractions(values, strsim::jaro_winkler))),
    ]
}

fn counts(values: &[ArrayRef], of: fn(&str, &str) -> Result<usize>) -> Result<ArrayRef> {
    let (left, right) = (values[0].as_string::<i32>(), values[1].as_string::<i32>());
    let count = |(left, right): (Option<&str>, Option<&str>)| match (left, right) {
        (Some(left), Some(right)) => of(left, right).map(|count| Some(count as i64)),
        _ => Ok(None),
    };
    let counts: Result<Int64Array> = left.iter().zip(right).map(count).collect();
    Ok(Arc::new(counts?))
}

fn fractions(values: &[ArrayRef], of: fn(&str, &str) -> f64) -> ArrayRef {
    let (left, right) = (values[0].as_string::<i32>(), values[1].as_string::<i32>());
    let pairs = left.iter().zip(right);
    Arc::new(pairs.map(|(left, right)| Some(of(left?, right?))).collect::<Float64Array>())
}
