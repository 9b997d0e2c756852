//! Casts of text to bytes, lists, structs and maps, which Arrow does not do as PostgreSQL does.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::logical_expr::expr::{Cast, TryCast};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::text_values::{is_parsed, parse_value, try_parse_value};

/// Rewrite of casts from text to bytes and nested values.
#[derive(Debug)]
pub struct TextCastRewrite;

impl FunctionRewrite for TextCastRewrite {
    fn name(&self) -> &'static str {
        "parse_text"
    }

    fn rewrite(
        &self,
        expr: Expr,
        schema: &DFSchema,
        _: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        Ok(parse_cast(expr, schema))
    }
}

/// Replaces a cast that Arrow would not do as PostgreSQL does.
pub fn parse_cast(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let (inner, to, is_strict) = match &expr {
        Expr::Cast(Cast { expr, field }) => (expr, field.data_type(), true),
        Expr::TryCast(TryCast { expr, field }) => (expr, field.data_type(), false),
        _ => return Transformed::no(expr),
    };
    if !inner.get_type(schema).is_ok_and(|from| is_parsed(&from, to)) {
        return Transformed::no(expr);
    }
    let parser = ScalarUDF::new_from_impl(TextParser {
        to: to.clone(),
        is_strict,
        signature: Signature::any(1, Volatility::Immutable),
    });
    Transformed::yes(parser.call(vec![(**inner).clone()]))
}

/// Function that reads a value from text; invalid text is an error or null.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TextParser {
    to: DataType,
    is_strict: bool,
    signature: Signature,
}

impl ScalarUDFImpl for TextParser {
    fn name(&self) -> &'static str {
        if self.is_strict { "\0parse_text" } else { "\0try_parse_text" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [text] = &arguments.args[..] else {
            return internal_err!("a cast takes one argument");
        };
        if self.is_strict { parse_value(text, &self.to) } else { try_parse_value(text, &self.to) }
    }
}
