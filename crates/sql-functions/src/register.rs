//! Registration of functions and rules in a session's state.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::registry::FunctionRegistry;
use headwater_sql_aggregates as aggregates;
use headwater_sql_library::BooleanComparisonPlanner;

use crate::size_bounds::ResultSizeAnalyzerRule;
use crate::slice_and_integer_division::IntegerDivisionPlanner;
use crate::{
    casts_to_text, formats, json_extract, json_values, printf, rules, signed_results, similar_to,
    size_bounds, slice_and_integer_division, text_hash, timestamps, unique_key_check,
};

/// Registers all functions and analyzer rules of this crate. The state must have been built with
/// [`optimizer_rules`](crate::optimizer_rules). Call [`limit_results`] afterwards, as the last
/// step.
pub fn register(state: &mut SessionState) -> Result<()> {
    for rule in rules::analyzer() {
        state.add_analyzer_rule(rule);
    }
    for rewrite in rules::functions() {
        state.register_function_rewrite(rewrite)?;
    }
    for function in aggregates::extremes().into_iter().chain(aggregates::by_key()) {
        state.register_udaf(function)?;
    }
    state.register_udaf(aggregates::checked_sum())?;
    state.register_udaf(aggregates::percentile_cont())?;
    state.register_udaf(aggregates::average())?;
    signed_results::register(state)?;
    aggregates::register_sliding(state)?;
    scalar(state)?;
    for function in timestamps::functions(state.config_options()) {
        state.register_udf(function)?;
    }
    Ok(())
}

/// Limits the results of all registered functions, operators and casts.
pub fn limit_results(state: &mut SessionState) -> Result<()> {
    size_bounds::register(state)?;
    state.add_analyzer_rule(Arc::new(ResultSizeAnalyzerRule));
    Ok(())
}

/// Registers the functions that constant expressions may use, with limits on their results.
/// Registers no rules.
pub fn register_for_constants(state: &mut SessionState) -> Result<()> {
    scalar(state)?;
    size_bounds::register(state)
}

/// Registers the scalar functions that may also be used in constant expressions.
fn scalar(state: &mut SessionState) -> Result<()> {
    state.register_expr_planner(Arc::new(IntegerDivisionPlanner))?;
    state.register_expr_planner(Arc::new(BooleanComparisonPlanner))?;
    let functions = formats::functions().into_iter().chain(json_extract::functions());
    let functions = functions.chain(json_values::functions());
    let functions = functions.chain(printf::functions()).chain(casts_to_text::functions());
    for function in functions.chain([
        similar_to::function(),
        slice_and_integer_division::function(),
        text_hash::function(),
        unique_key_check::function(),
    ]) {
        state.register_udf(function)?;
    }
    for function in headwater_sql_library::functions() {
        state.register_udf(function)?;
    }
    for function in headwater_sql_library::lambda_functions() {
        state.register_higher_order_function(function)?;
    }
    Ok(())
}
