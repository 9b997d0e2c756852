//! Gives `m['key']` of a map its own function.
//!
//! DataFusion uses one function for struct fields and map values. Its optimizer merges nested calls
//! of this function and pushes them down to the columns of a Parquet file. This is wrong for maps,
//! because the keys of a map are not columns of the file.
//!
//! Upstream: no issue found (November 2026)

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::functions::core::getfield::GetFieldFunc;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};

static MAP_VALUE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let signature = Signature::any(2, Volatility::Immutable);
    Arc::new(ScalarUDF::from(MapValueFunction { of_any: GetFieldFunc::new(), signature }))
});

/// Rewrite of `m['key']` of a map as a call of [`MapValueFunction`].
#[derive(Debug)]
pub(crate) struct MapAccessRewrite;

impl FunctionRewrite for MapAccessRewrite {
    fn name(&self) -> &'static str {
        "read_maps"
    }

    fn rewrite(
        &self,
        expr: Expr,
        schema: &DFSchema,
        _: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        let Expr::ScalarFunction(ScalarFunction { func, args }) = &expr else {
            return Ok(Transformed::no(expr));
        };
        let (Some((whole, keys)), true) = (args.split_first(), func.inner().is::<GetFieldFunc>())
        else {
            return Ok(Transformed::no(expr));
        };
        let mut reads_map = false;
        let mut value = whole.clone();
        for key in keys.iter().cloned() {
            let key_type = key_type(&value.get_type(schema)?);
            reads_map |= key_type.is_some();
            value = match key_type {
                Some(of) => MAP_VALUE.call(vec![value, key.cast_to(&of, schema)?]),
                None => func.call(vec![value, key]),
            };
        }
        Ok(if reads_map { Transformed::yes(value) } else { Transformed::no(expr) })
    }
}

/// Returns the type of a map's keys.
fn key_type(map: &DataType) -> Option<DataType> {
    let DataType::Map(entries, _) = map else { return None };
    let DataType::Struct(parts) = entries.data_type() else { return None };
    parts.first().map(|key| key.data_type().clone())
}

/// A function that returns the value of a key in a map.
#[derive(Debug, PartialEq, Eq, Hash)]
struct MapValueFunction {
    of_any: GetFieldFunc,
    signature: Signature,
}

impl ScalarUDFImpl for MapValueFunction {
    fn name(&self) -> &'static str {
        "map_value"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the type of `map_value` depends on the fields of its arguments")
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.of_any.return_field_from_args(arguments)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.of_any.invoke_with_args(arguments)
    }
}
