//! Memory of functions in Python: the actual sizes of arguments and results.
//!
//! The size of a result of user code cannot be estimated, and the arguments are copied to an
//! instance. So the arguments of a call count towards the memory limit before the call, and the
//! result after the call. Large batches are passed in slices of rows, which limits the memory of
//! these copies. A single value may be as large as the runtime accepts.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl};

use super::budget::FunctionMemory;
use super::call::CallArguments;
use super::charged_buffer::{attach_charge, memory_bytes, total_bytes};

/// Maximum size of the arguments of one call, in bytes.
const SLICE_BYTES_MAX: u64 = 64 << 20;

/// Ratio of the statement's limit to the limit for the arguments of one call.
const SLICES_PER_LIMIT: u64 = 8;

/// Calls a function with the rows of a batch, in one or more slices.
pub(super) fn invoke(
    inner: &dyn ScalarUDFImpl,
    memory: &Arc<FunctionMemory>,
    given: &ScalarFunctionArgs,
) -> Result<ColumnarValue> {
    let to = given.return_type().clone();
    let call = CallArguments::new(&given.args, &to);
    let most = SLICE_BYTES_MAX.min(memory.limit() / SLICES_PER_LIMIT);
    let (mut parts, mut begin): (Vec<ArrayRef>, usize) = (Vec::new(), 0);
    loop {
        let end = end_of_slice(&call, begin..given.number_rows, most);
        memory.check_stopped()?;
        let _arguments = memory.charge(inner.name(), call.total(&(begin..end)))?;
        let result = inner.invoke_with_args(sliced(given, begin..end))?;
        let values = result.into_array(end - begin)?;
        let charge = memory.charge(inner.name(), memory_bytes(&values))?;
        parts.push(attach_charge(values, charge));
        begin = end;
        if begin >= given.number_rows {
            break;
        }
    }
    if parts.len() == 1 {
        return Ok(ColumnarValue::Array(parts.remove(0)));
    }
    let charge = memory.charge(inner.name(), total_bytes(&parts))?;
    let parts: Vec<&dyn Array> = parts.iter().map(Arc::as_ref).collect();
    Ok(ColumnarValue::Array(attach_charge(concat(&parts)?, charge)))
}

/// Returns the end of a slice of at most `most` bytes that begins with the first of these rows.
/// Each slice has at least one row, unless there are no rows.
fn end_of_slice(call: &CallArguments<'_>, rows: Range<usize>, most: u64) -> usize {
    if call.total(&rows) <= most {
        return rows.end;
    }
    let (mut end, mut sum) = (rows.start, 0_u64);
    while end < rows.end {
        sum = sum.saturating_add(call.all_bytes(end));
        if sum > most && end > rows.start {
            break;
        }
        end += 1;
    }
    end
}

/// Returns the arguments of a range of rows.
pub(super) fn sliced(given: &ScalarFunctionArgs, rows: Range<usize>) -> ScalarFunctionArgs {
    let mut arguments = given.clone();
    arguments.number_rows = rows.len();
    for argument in &mut arguments.args {
        if let ColumnarValue::Array(values) = argument {
            *values = values.slice(rows.start, rows.len());
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use std::hash::{Hash, Hasher};

    use arrow::array::StringArray;
    use arrow::datatypes::{DataType, Field};
    use datafusion::common::ScalarValue;
    use datafusion::common::config::ConfigOptions;
    use datafusion::logical_expr::{Signature, Volatility};
    use parking_lot::Mutex;

    use super::*;
    use crate::total_memory::TotalMemory;

    /// Function that returns texts of the same size for all rows. It records the number of rows of
    /// each call.
    #[derive(Debug)]
    struct Texts {
        bytes: usize,
        calls: Mutex<Vec<usize>>,
        signature: Signature,
    }

    impl PartialEq for Texts {
        fn eq(&self, other: &Self) -> bool {
            self.bytes == other.bytes
        }
    }

    impl Eq for Texts {}

    impl Hash for Texts {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.bytes.hash(state);
        }
    }

    impl ScalarUDFImpl for Texts {
        fn name(&self) -> &'static str {
            "texts"
        }

        fn signature(&self) -> &Signature {
            &self.signature
        }

        fn return_type(&self, _: &[DataType]) -> Result<DataType> {
            Ok(DataType::Utf8)
        }

        fn invoke_with_args(&self, given: ScalarFunctionArgs) -> Result<ColumnarValue> {
            self.calls.lock().push(given.number_rows);
            let values = vec!["x".repeat(self.bytes); given.number_rows];
            Ok(ColumnarValue::Array(Arc::new(StringArray::from(values))))
        }
    }

    fn texts(bytes: usize) -> Texts {
        let signature = Signature::any(1, Volatility::Volatile);
        Texts { bytes, calls: Mutex::default(), signature }
    }

    fn memory(limit: u64) -> Arc<FunctionMemory> {
        Arc::new(FunctionMemory::new(limit, Arc::new(TotalMemory::new(limit))))
    }

    fn given(value: ColumnarValue, rows: usize) -> ScalarFunctionArgs {
        let field = Arc::new(Field::new("a", DataType::Utf8, true));
        ScalarFunctionArgs {
            args: vec![value],
            arg_fields: vec![Arc::clone(&field)],
            number_rows: rows,
            return_field: field,
            config_options: Arc::new(ConfigOptions::default()),
        }
    }

    fn rows_of(bytes: usize, rows: usize) -> ScalarFunctionArgs {
        let values = StringArray::from(vec!["a".repeat(bytes); rows]);
        given(ColumnarValue::Array(Arc::new(values)), rows)
    }

    #[test]
    fn a_result_is_charged_with_its_size_until_it_is_dropped() {
        let (function, memory) = (texts(1 << 20), memory(16 << 20));
        let result = invoke(&function, &memory, &rows_of(1, 4)).unwrap();
        assert!(memory.used() >= 4 << 20, "{}", memory.used());
        drop(result);
        assert_eq!(memory.used(), 0);
        let error = invoke(&function, &memory, &rows_of(1, 32)).unwrap_err();
        assert!(error.to_string().contains("in all batches"), "{error}");
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn arguments_are_charged_once() {
        // Eight times the size of the arguments would exceed the limit.
        let (function, memory) = (texts(1), memory(16 << 20));
        invoke(&function, &memory, &rows_of(4 << 20, 1)).unwrap();
        assert_eq!(*function.calls.lock(), [1]);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn large_batches_are_passed_in_slices() {
        let (function, memory) = (texts(3), memory(8 << 20));
        let result = invoke(&function, &memory, &rows_of(600 << 10, 5)).unwrap();
        assert_eq!(result.into_array(5).unwrap().len(), 5);
        assert_eq!(*function.calls.lock(), [1, 1, 1, 1, 1]);
        // A constant is passed once for each row.
        let constant = ScalarValue::Utf8(Some("a".repeat(300 << 10)));
        function.calls.lock().clear();
        invoke(&function, &memory, &given(ColumnarValue::Scalar(constant), 5)).unwrap();
        assert_eq!(*function.calls.lock(), [3, 2]);
    }

    #[test]
    fn a_batch_without_rows_is_passed_as_it_is() {
        let (function, memory) = (texts(3), memory(8 << 20));
        let result = invoke(&function, &memory, &rows_of(1, 0)).unwrap();
        assert_eq!(result.into_array(0).unwrap().len(), 0);
    }
}
