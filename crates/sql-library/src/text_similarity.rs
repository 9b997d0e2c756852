//! Similarity of two texts, as in DuckDB.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::ScalarUDF;

use crate::scalar_function::function;

/// Maximum product of the lengths of two texts in bytes. The time of a call grows with this
/// product; at the maximum it is a few seconds.
const LENGTHS_MAX: usize = 1_000_000_000;

/// Returns the functions that compare two texts.
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
            counts(values, |a, b| {
                check_lengths("damerau_levenshtein", a, b)?;
                Ok(strsim::damerau_levenshtein(a, b))
            })
        }),
        distance("hamming", |values| {
            counts(values, |a, b| {
                let count = strsim::hamming(a, b);
                count
                    .map_err(|_| exec_datafusion_err!("`hamming` takes strings of the same length"))
            })
        }),
        similarity("jaro_similarity", |values| {
            fractions(values, |a, b| {
                check_lengths("jaro_similarity", a, b)?;
                Ok(strsim::jaro(a, b))
            })
        }),
        similarity("jaro_winkler_similarity", |values| {
            fractions(values, |a, b| {
                check_lengths("jaro_winkler_similarity", a, b)?;
                Ok(strsim::jaro_winkler(a, b))
            })
        }),
    ]
}

fn check_lengths(name: &str, left: &str, right: &str) -> Result<()> {
    let (left, right) = (left.len(), right.len());
    if left.saturating_mul(right) <= LENGTHS_MAX {
        return Ok(());
    }
    exec_err!("strings of {left} and {right} bytes are too long for `{name}`")
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

fn fractions(values: &[ArrayRef], of: fn(&str, &str) -> Result<f64>) -> Result<ArrayRef> {
    let (left, right) = (values[0].as_string::<i32>(), values[1].as_string::<i32>());
    let fraction = |(left, right): (Option<&str>, Option<&str>)| match (left, right) {
        (Some(left), Some(right)) => of(left, right).map(Some),
        _ => Ok(None),
    };
    let fractions: Result<Float64Array> = left.iter().zip(right).map(fraction).collect();
    Ok(Arc::new(fractions?))
}
