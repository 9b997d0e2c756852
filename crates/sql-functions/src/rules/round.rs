//! `round(number, places)` with a stable result type. DataFusion derives the type of a decimal
//! result from the literal `places`, and cannot do so if a cast surrounds the literal. This rule
//! gives the literal the required type before DataFusion adds a cast.
//!
//! Upstream: <https://github.com/apache/datafusion/pull/23232>

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::functions::math::round::RoundFunc;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;

/// Rewrite of the argument `places` of `round`.
#[derive(Debug)]
pub(crate) struct RoundPlacesRewrite;

impl FunctionRewrite for RoundPlacesRewrite {
    fn name(&self) -> &'static str {
        "round_places"
    }

    fn rewrite(
        &self,
        mut expr: Expr,
        _: &DFSchema,
        _: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        if let Expr::ScalarFunction(ScalarFunction { func, args }) = &mut expr
            && func.inner().is::<RoundFunc>()
            && let [_, Expr::Literal(places, _)] = args.as_mut_slice()
            && let ScalarValue::Int64(Some(wide)) = *places
            && let Ok(narrow) = i32::try_from(wide)
        {
            *places = ScalarValue::Int32(Some(narrow));
            return Ok(Transformed::yes(expr));
        }
        Ok(Transformed::no(expr))
    }
}
