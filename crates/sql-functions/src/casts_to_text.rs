//! Values as text: casts of lists, structs and maps to text, `typeof(value)`, and `len(value)` of
//! text and lists.
//!
//! The text has the format of `DuckDB`: `[1, NULL, 3]`, `{'a': 1, 'b': x}`, `{key=value}`.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::error_text::sql_words;

/// Returns the functions `typeof`, `pg_typeof` and `len`.
pub(crate) fn functions() -> [Arc<ScalarUDF>; 3] {
    [
        ("typeof", PolymorphicOperation::Type),
        ("pg_typeof", PolymorphicOperation::PostgresType),
        ("len", PolymorphicOperation::Length),
    ]
    .map(|(name, kind)| Arc::new(ScalarUDF::from(PolymorphicFunction::new(name, kind))))
}

/// The function that performs a cast to text.
static TO_TEXT: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    Arc::new(ScalarUDF::from(PolymorphicFunction::new("\0to_text", PolymorphicOperation::Text)))
});

/// The length of a text or a list.
static LENGTH: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    Arc::new(ScalarUDF::from(PolymorphicFunction::new("len", PolymorphicOperation::Length)))
});

/// Rewrite of casts from nested values to text. Arrow does not support some of these casts, and
/// omits nulls in others.
#[derive(Debug)]
pub(crate) struct NestedToTextRewrite;

impl FunctionRewrite for NestedToTextRewrite {
    fn name(&self) -> &'static str {
        "nested_to_text"
    }

    fn rewrite(
        &self,
        expr: Expr,
        schema: &DFSchema,
        _config: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        match expr {
            Expr::Cast(Cast { expr, field })
                if field.data_type().is_string() && is_nested(&expr.get_type(schema)?) =>
            {
                let text = TO_TEXT.call(vec![*expr]);
                Ok(Transformed::yes(text.cast_to(field.data_type(), schema)?))
            }
            // Replace `character_length` of a list, because DataFusion counts the characters of the
            // list's text form.
            Expr::ScalarFunction(call)
                if call.func.name() == "character_length"
                    && matches!(&call.args[..], [list] if is_nested(&list.get_type(schema)?)) =>
            {
                Ok(Transformed::yes(LENGTH.call(call.args)))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

fn is_nested(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::List(_)
            | DataType::LargeList(_)
            | DataType::FixedSizeList(..)
            | DataType::Struct(_)
            | DataType::Map(..)
    )
}

/// The operation of a [`PolymorphicFunction`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum PolymorphicOperation {
    Type,
    PostgresType,
    Length,
    Text,
}

/// A function of one argument of any type: a cast to text, `typeof`, `pg_typeof` or `len`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PolymorphicFunction {
    name: &'static str,
    kind: PolymorphicOperation,
    signature: Signature,
}

impl PolymorphicFunction {
    fn new(name: &'static str, kind: PolymorphicOperation) -> Self {
        PolymorphicFunction { name, kind, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for PolymorphicFunction {
    fn name(&self) -> &'static str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match self.kind {
            PolymorphicOperation::Length
                if arguments.iter().any(|it| !is_nested(it) && !is_text(it)) =>
            {
                plan_err!("`{}` accepts text or a list, not {}", self.name, arguments[0])
            }
            PolymorphicOperation::Length => Ok(DataType::Int64),
            _ => Ok(DataType::Utf8),
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = arguments.number_rows;
        let Ok([value]) = <[ColumnarValue; 1]>::try_from(arguments.args) else {
            return internal_err!("`{}` takes one value", self.name);
        };
        let is_single = matches!(value, ColumnarValue::Scalar(_));
        let data_type = value.data_type();
        let name = match self.kind {
            PolymorphicOperation::Type => Some(type_name(&data_type)),
            PolymorphicOperation::PostgresType => Some(type_name(&data_type).to_lowercase()),
            _ => None,
        };
        if let Some(name) = name {
            return Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(name))));
        }
        let values = value.into_array(if is_single { 1 } else { rows })?;
        let found: ArrayRef = match self.kind {
            PolymorphicOperation::Length => lengths(&values)?,
            _ => Arc::new(texts(&values)?),
        };
        Ok(if is_single {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)
        } else {
            ColumnarValue::Array(found)
        })
    }
}

/// Returns the SQL name of a type.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            format!("{}[]", type_name(field.data_type()))
        }
        DataType::Struct(fields) => {
            let part =
                |field: &FieldRef| format!("{} {}", field.name(), type_name(field.data_type()));
            format!("STRUCT({})", fields.iter().map(part).collect::<Vec<_>>().join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => {
                let parts = fields.iter().map(|field| type_name(field.data_type()));
                format!("MAP({})", parts.collect::<Vec<_>>().join(", "))
            }
            other => type_name(other),
        },
        other => sql_words(&other.to_string()),
    }
}

fn is_text(data_type: &DataType) -> bool {
    data_type.is_string() || data_type.is_null()
}

fn lengths(values: &ArrayRef) -> Result<ArrayRef> {
    if is_nested(values.data_type()) {
        let values = match values.data_type() {
            DataType::FixedSizeList(field, _) => cast(values, &DataType::List(field.clone()))?,
            _ => Arc::clone(values),
        };
        return Ok(cast(&arrow::compute::kernels::length::length(&values)?, &DataType::Int64)?);
    }
    let texts = cast(values, &DataType::Utf8)?;
    let count = |text: &str| i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let counts = texts.as_string::<i32>().iter().map(|text| text.map(count));
    Ok(Arc::new(counts.collect::<Int64Array>()))
}

/// Returns the text of each value; null for null.
fn texts(values: &ArrayRef) -> Result<StringArray> {
    let mut texts = StringBuilder::with_capacity(values.len(), 0);
    match values.data_type() {
        DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            return self::texts(&cast(values, &DataType::List(field.clone()))?);
        }
        DataType::List(_) => {
            let list = values.as_list::<i32>();
            let elements = self::texts(list.values())?;
            for row in 0..list.len() {
                let (start, end) = (list.value_offsets()[row], list.value_offsets()[row + 1]);
                let parts = (start..end).map(|place| shown(&elements, place_of(place)));
                let text = list
                    .is_valid(row)
                    .then(|| format!("[{}]", parts.collect::<Vec<_>>().join(", ")));
                texts.append_option(text);
            }
        }
        DataType::Map(..) => {
            let map = values.as_map();
            let (keys, elements) = (self::texts(map.keys())?, self::texts(map.values())?);
            for row in 0..map.len() {
                let (start, end) = (map.value_offsets()[row], map.value_offsets()[row + 1]);
                let entry = |place: i32| {
                    let place = place_of(place);
                    format!("{}={}", shown(&keys, place), shown(&elements, place))
                };
                let parts: Vec<String> = (start..end).map(entry).collect();
                texts.append_option(map.is_valid(row).then(|| format!("{{{}}}", parts.join(", "))));
            }
        }
        DataType::Struct(fields) => {
            let columns = values.as_struct().columns().iter().map(self::texts);
            let columns = columns.collect::<Result<Vec<_>>>()?;
            for row in 0..values.len() {
                let part = |(name, column): (&String, &StringArray)| {
                    format!("'{name}': {}", shown(column, row))
                };
                let names = fields.iter().map(|field| field.name());
                let parts: Vec<String> = names.zip(&columns).map(part).collect();
                let text = values.is_valid(row).then(|| format!("{{{}}}", parts.join(", ")));
                texts.append_option(text);
            }
        }
        _ => return Ok(cast(values, &DataType::Utf8)?.as_string::<i32>().clone()),
    }
    Ok(texts.finish())
}

fn shown(texts: &StringArray, place: usize) -> &str {
    if texts.is_valid(place) { texts.value(place) } else { "NULL" }
}

/// Converts an offset to an index. Arrow guarantees that offsets are not negative.
fn place_of(offset: i32) -> usize {
    usize::try_from(offset).unwrap_or(0)
}
