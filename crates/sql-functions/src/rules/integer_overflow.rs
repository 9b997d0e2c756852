//! Makes integer overflow an error; DataFusion wraps around.
//!
//! DataFusion computes `+`, `-` and `*` of integers modulo their width, and has no option to change
//! that. After type coercion, these operators are replaced by functions that fail on overflow.
//! Operators on decimals are not replaced. The aggregate `sum` of the crate `sql-aggregates` checks
//! sums.
//!
//! Upstream: <https://github.com/apache/datafusion/issues/17539>

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Datum};
use arrow::compute::kernels::numeric::{add, mul, sub};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::error::ArrowError;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::physical_expr_common::datum::apply;

use super::rewrite_parts;

/// Replaces the operators of a plan by checked functions.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    rewrite_parts(plan, check)
}

fn check(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let whole = |expr: &Expr| expr.get_type(schema).ok().filter(DataType::is_integer);
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let types = whole(&left).filter(|left| whole(&right).as_ref() == Some(left));
            match types.and_then(|_| function(op)) {
                Some(function) => Transformed::yes(function.call(vec![*left, *right])),
                None => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
            }
        }
        Expr::Negative(inner) => {
            let zero = whole(&inner).and_then(|of| ScalarValue::new_zero(&of).ok());
            match (zero, function(Operator::Minus)) {
                (Some(zero), Some(minus)) => Transformed::yes(minus.call(vec![lit(zero), *inner])),
                _ => Transformed::no(Expr::Negative(inner)),
            }
        }
        other => Transformed::no(other),
    }
}

/// Returns the checked function of an operator; `None` if the operator is not checked.
fn function(operator: Operator) -> Option<&'static ScalarUDF> {
    static FUNCTIONS: LazyLock<[ScalarUDF; 3]> = LazyLock::new(|| {
        [CheckedOperator::Add, CheckedOperator::Subtract, CheckedOperator::Multiply].map(
            |checked| {
                let signature = Signature::any(2, Volatility::Immutable);
                ScalarUDF::new_from_impl(CheckedArithmetic { checked, signature })
            },
        )
    });
    match operator {
        Operator::Plus => Some(&FUNCTIONS[0]),
        Operator::Minus => Some(&FUNCTIONS[1]),
        Operator::Multiply => Some(&FUNCTIONS[2]),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum CheckedOperator {
    Add,
    Subtract,
    Multiply,
}

impl CheckedOperator {
    fn of(self, left: &dyn Datum, right: &dyn Datum) -> Result<ArrayRef, ArrowError> {
        match self {
            CheckedOperator::Add => add(left, right),
            CheckedOperator::Subtract => sub(left, right),
            CheckedOperator::Multiply => mul(left, right),
        }
    }
}

/// Function that computes one operator and fails on overflow.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedArithmetic {
    checked: CheckedOperator,
    signature: Signature,
}

impl ScalarUDFImpl for CheckedArithmetic {
    fn name(&self) -> &'static str {
        match self.checked {
            CheckedOperator::Add => "add",
            CheckedOperator::Subtract => "subtract",
            CheckedOperator::Multiply => "multiply",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments.first().cloned().unwrap_or(DataType::Null))
    }

    /// Returns a field that is nullable if an argument is nullable. The operator that this function
    /// replaces behaves in the same way, so the plan's schema does not change.
    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let fields = arguments.arg_fields;
        let nullable = fields.iter().any(|field| field.is_nullable());
        let data_type = fields.first().map_or(DataType::Null, |field| field.data_type().clone());
        Ok(Arc::new(Field::new(self.name(), data_type, nullable)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = &arguments.args[..] else {
            return datafusion::common::internal_err!("`{}` takes two values", self.name());
        };
        apply(left, right, |left, right| self.checked.of(left, right))
    }
}
