//! Operators, casts and constants as functions, so that the limits of functions apply to them.

use std::sync::{Arc, LazyLock};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};

use super::function::with_rule;
use super::rules::SizeRule;
use super::{lists, text};

/// The operator `||` of strings and binaries, as a function.
pub(super) static CONCATENATION: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| with_rule(Arc::new(ConcatenationFunction(any())), SizeRule::Within(1)));

/// Function that returns its argument, a large constant. With this function around a constant, the
/// copies of the constant for each row count towards the memory limit.
pub(super) static CONSTANT: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| with_rule(FirstArgumentFunction::new("constant"), SizeRule::Within(1)));

/// Function that returns its first argument, the list to which a lambda is applied. The other
/// arguments are the outer columns that the lambda reads. They are passed so that their copies
/// count towards the memory limit.
pub(super) static LAMBDA_INPUT: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    with_rule(FirstArgumentFunction::new("lambda"), SizeRule::Each(lists::captures))
});

/// Returns the function that casts nested values to a type.
pub(super) fn cast(to: FieldRef, tries: bool) -> Arc<ScalarUDF> {
    with_rule(Arc::new(CastFunction { to, tries, signature: any() }), SizeRule::Each(text::cast))
}

fn any() -> Signature {
    Signature::variadic_any(Volatility::Immutable)
}

/// Returns the output field of a call. The field is nullable if an argument is nullable.
fn field_like(name: &str, arguments: &ReturnFieldArgs<'_>, to: DataType) -> FieldRef {
    let nullable = arguments.arg_fields.iter().any(|field| field.is_nullable());
    Arc::new(Field::new(name, to, nullable))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ConcatenationFunction(Signature);

impl ScalarUDFImpl for ConcatenationFunction {
    fn name(&self) -> &'static str {
        "||"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let names: Vec<String> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(names.join(" || "))
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [left, right] = types else { return plan_err!("`||` takes two values") };
        BinaryOperandTypes { left, right }.result()
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<_> =
            arguments.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(field_like(self.name(), &arguments, self.return_type(&types)?))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = &arguments.args[..] else {
            return internal_err!("`||` takes two values");
        };
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        let mut side = |value: &ColumnarValue| -> Arc<dyn PhysicalExpr> {
            match value {
                ColumnarValue::Scalar(value) => Arc::new(Literal::new(value.clone())),
                ColumnarValue::Array(values) => {
                    let column = Column::new("value", columns.len());
                    fields.push(Field::new("value", values.data_type().clone(), true));
                    columns.push(Arc::clone(values));
                    Arc::new(column)
                }
            }
        };
        let expr = BinaryExpr::new(side(left), Operator::StringConcat, side(right));
        let options = RecordBatchOptions::new().with_row_count(Some(arguments.number_rows));
        let schema = Arc::new(Schema::new(fields));
        expr.evaluate(&RecordBatch::try_new_with_options(schema, columns, &options)?)
    }
}

struct BinaryOperandTypes<'a> {
    left: &'a DataType,
    right: &'a DataType,
}

impl BinaryOperandTypes<'_> {
    fn result(&self) -> Result<DataType> {
        use datafusion::logical_expr::binary::BinaryTypeCoercer;
        BinaryTypeCoercer::new(self.left, &Operator::StringConcat, self.right).get_result_type()
    }
}

/// Implementation of [`CONSTANT`] and [`LAMBDA_INPUT`]: returns its first argument. The other
/// arguments only count towards the memory limit.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FirstArgumentFunction {
    name: &'static str,
    signature: Signature,
}

impl FirstArgumentFunction {
    fn new(name: &'static str) -> Arc<Self> {
        Arc::new(FirstArgumentFunction { name, signature: any() })
    }
}

impl ScalarUDFImpl for FirstArgumentFunction {
    fn name(&self) -> &'static str {
        self.name
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.first().map(|arg| arg.schema_name().to_string()).unwrap_or_default())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.first().cloned().unwrap_or(DataType::Null))
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let Some(field) = arguments.arg_fields.first() else {
            return internal_err!("`{}` takes an argument", self.name);
        };
        Ok(Arc::clone(field))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(value) = arguments.args.into_iter().next() else {
            return internal_err!("`{}` takes an argument", self.name);
        };
        Ok(value)
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CastFunction {
    to: FieldRef,
    tries: bool,
    signature: Signature,
}

impl ScalarUDFImpl for CastFunction {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.first().map(|arg| arg.schema_name().to_string()).unwrap_or_default())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.data_type().clone())
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let field = field_like(self.name(), &arguments, self.to.data_type().clone());
        let nullable = self.tries || field.is_nullable();
        Ok(Arc::new(self.to.as_ref().clone().with_nullable(nullable)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = &arguments.args[..] else {
            return internal_err!("a cast takes one argument");
        };
        let options = arrow::compute::CastOptions {
            safe: self.tries,
            format_options: datafusion::common::format::DEFAULT_FORMAT_OPTIONS,
        };
        value.cast_to(self.to.data_type(), Some(&options))
    }
}
