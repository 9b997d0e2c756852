//! `list_concat(list, NULL)` is the list. DataFusion casts the null to the type of the elements,
//! and fails.
//!
//! Upstream: no issue found (November 2026)

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{Expr, ExprSchemable};

/// The rewrite that removes arguments without a type.
#[derive(Debug)]
pub(crate) struct DropNulls;

impl FunctionRewrite for DropNulls {
    fn name(&self) -> &'static str {
        "drop_nulls"
    }

    fn rewrite(
        &self,
        mut expr: Expr,
        schema: &DFSchema,
        _: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        let Expr::ScalarFunction(ScalarFunction { func, args }) = &mut expr else {
            return Ok(Transformed::no(expr));
        };
        if func.name() != "array_concat" {
            return Ok(Transformed::no(expr));
        }
        let is_null = |arg: &Expr| arg.get_type(schema).is_ok_and(|of| of.is_null());
        let count = args.len();
        if !args.iter().all(is_null) {
            args.retain(|arg| !is_null(arg));
        }
        let changed = args.len() < count;
        Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
    }
}
