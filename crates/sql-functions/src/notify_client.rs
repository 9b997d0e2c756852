//! Functions that send a signal to a receiver outside the engine, such as the connection of a
//! client. A session adds them to the functions of its statements.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};

/// Sends a signal to the receiver with this number. Returns false if there is no such receiver.
pub type NotifyCallback = Arc<dyn Fn(i64) -> bool + Send + Sync>;

/// Returns a function that sends a signal for each row and returns the results. The returned
/// function takes the number of the receiver, and a second number that it ignores.
pub fn signal_function(name: &str, signal: NotifyCallback) -> Arc<ScalarUDF> {
    let one = TypeSignature::Exact(vec![DataType::Int64]);
    let two = TypeSignature::Exact(vec![DataType::Int64, DataType::Int64]);
    // Volatile functions are not evaluated while a query is planned.
    let signature = Signature::one_of(vec![one, two], Volatility::Volatile);
    Arc::new(ScalarUDF::from(NotifyFunction { name: name.to_owned(), signature, signal }))
}

/// Returns a session's state with additional functions. Without functions, returns the same state.
pub fn with_functions(state: Arc<SessionState>, functions: &[Arc<ScalarUDF>]) -> Arc<SessionState> {
    if functions.is_empty() {
        return state;
    }
    let mut state = Arc::unwrap_or_clone(state);
    for function in functions {
        // Registering a scalar function in a session's state cannot fail.
        let _ = state.register_udf(Arc::clone(function));
    }
    Arc::new(state)
}

struct NotifyFunction {
    name: String,
    signature: Signature,
    signal: NotifyCallback,
}

impl fmt::Debug for NotifyFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NotifyFunction").field(&self.name).finish()
    }
}

impl PartialEq for NotifyFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.signal, &other.signal)
    }
}

impl Eq for NotifyFunction {}

impl Hash for NotifyFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for NotifyFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(receivers) = arguments.args.into_iter().next() else {
            return exec_err!("`{}` needs an argument", self.name);
        };
        let receivers = receivers.into_array(arguments.number_rows)?;
        let receivers = receivers.as_primitive::<Int64Type>().iter();
        let sent: BooleanArray = receivers.map(|receiver| Some((self.signal)(receiver?))).collect();
        Ok(ColumnarValue::Array(Arc::new(sent) as Arc<dyn Array>))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn each_row_sends_one_signal() {
        let received = Arc::new(Mutex::new(Vec::new()));
        let own = Arc::clone(&received);
        let signal = signal_function(
            "wake",
            Arc::new(move |number| {
                own.lock().expect("a lock").push(number);
                number < 3
            }),
        );
        let context = SessionContext::new();
        let state = with_functions(Arc::new(context.state()), &[signal]);
        let context = SessionContext::new_with_state(SessionState::clone(&state));
        let sql = "SELECT wake(a) AS sent FROM (VALUES (1), (NULL), (3)) AS t (a)";
        let batches = context.sql(sql).await.expect("a plan").collect().await.expect("rows");
        let sent: Vec<Option<bool>> =
            batches.iter().flat_map(|batch| batch.column(0).as_boolean().iter()).collect();
        assert_eq!(sent, [Some(true), None, Some(false)]);
        assert_eq!(*received.lock().expect("a lock"), [1, 3]);
        context.sql("SELECT wake(7, 0)").await.expect("a plan").collect().await.expect("rows");
        context.sql("EXPLAIN SELECT wake(8)").await.expect("it").collect().await.expect("rows");
        assert_eq!(*received.lock().expect("a lock"), [1, 3, 7]);
    }
}
