//! Functions of other SQL systems: rewrites of calls to functions of this dialect, and functions
//! and casts that DataFusion does not have.
//!
//! [`respelled`] rewrites a call before planning. [`functions`], [`lambda_functions`],
//! [`TextCastRewrite`] and [`BooleanComparisonPlanner`] are registered in a session's state. This
//! crate does not limit the size of results.

mod array_literal;
mod bytea;
mod bytes_and_nested_parser;
mod date_patterns;
mod dialect_function_rewrites;
mod dialect_functions;
mod epoch_ms;
mod intervals;
mod list_reduce;
mod list_statistics;
mod number_format;
mod regular_expressions;
mod scalar_function;
mod size_text;
mod text_cast_rewrite;
mod text_similarity;

use std::sync::Arc;

use datafusion::logical_expr::{HigherOrderUDF, ScalarUDF};

pub use bytes_and_nested_parser::{is_parsed, parse as parse_texts, parse_value};
pub use dialect_function_rewrites::{is_rewritten, respelled};
pub use number_format::NumberFormat;
pub use text_cast_rewrite::{BooleanComparisonPlanner, TextCastRewrite, parse_cast};

/// Returns the scalar functions.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let functions =
        list_statistics::functions().into_iter().chain(regular_expressions::functions());
    let functions = functions.chain(intervals::functions()).chain(text_similarity::functions());
    functions.chain(size_text::functions()).chain([epoch_ms::function()]).collect()
}

/// Returns the functions that take a lambda.
pub fn lambda_functions() -> Vec<Arc<HigherOrderUDF>> {
    vec![list_reduce::function()]
}
