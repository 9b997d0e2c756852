//! Wraps a scalar function so that it returns signed integers.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};

use super::{signed, signed_field};

/// A scalar function whose unsigned result is cast to signed integers.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ScalarFunctionWithSignedResult {
    pub of: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for ScalarFunctionWithSignedResult {
    fn name(&self) -> &str {
        self.of.name()
    }

    fn aliases(&self) -> &[String] {
        self.of.aliases()
    }

    fn signature(&self) -> &Signature {
        self.of.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(signed(&self.of.return_type(arguments)?))
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(signed_field(&self.of.return_field_from_args(arguments)?))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let value = self.of.inner().invoke_with_args(arguments)?;
        let to = signed(&value.data_type());
        value.cast_to(&to, None)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.of.coerce_types(arguments)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.of.documentation()
    }
}
