//! The DataFusion function that calls Python code.
//!
//! DataFusion's functions are synchronous, and its asynchronous functions are evaluated only in
//! projections and filters. Therefore, the evaluation of a batch blocks its thread until the
//! instance has returned the values; meanwhile, Tokio moves other tasks to other threads. The
//! function is volatile for the optimizer, so it is never evaluated while a statement is planned.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, new_empty_array};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use headwater_model::{ErrorCode, Problem};
use headwater_table_scan::view_schema;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::argument_coercion::{accepts, arguments, convert, without_view_types};
use crate::{CallResult, FunctionCall, FunctionDefinition, PythonRuntime, StatementCalls};

/// Time for a cancelled call to return its usage.
const GRACE: Duration = Duration::from_secs(5);

/// A Python function as a scalar function of DataFusion.
#[derive(Debug, Clone)]
pub struct PythonUdf {
    /// The name by which the planner looks up the function.
    key: String,
    function: Arc<FunctionDefinition>,
    signature: Signature,
    /// The type of the result; text has an Arrow view type.
    returns: DataType,
    /// The runtime; `None` for the plan of an EXPLAIN, which calls no functions.
    runtime: Option<Arc<dyn PythonRuntime>>,
    calls: Arc<StatementCalls>,
}

impl PartialEq for PythonUdf {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.function == other.function
    }
}

impl Eq for PythonUdf {}

impl Hash for PythonUdf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
        self.function.name.hash(state);
    }
}

impl PythonUdf {
    /// Creates the function for one statement. `key` is the name by which the planner looks it up.
    pub fn create(
        key: &str,
        function: Arc<FunctionDefinition>,
        runtime: Arc<dyn PythonRuntime>,
        calls: Arc<StatementCalls>,
    ) -> Result<ScalarUDF> {
        let parameters = function.parameters.fields();
        let names: Vec<String> = parameters.iter().map(|field| field.name().clone()).collect();
        let signature = Signature::any(parameters.len(), Volatility::Volatile);
        let signature = signature.with_parameter_names(names)?;
        let schema = Schema::new(vec![Field::new("v", function.returns.clone(), true)]);
        let returns = view_schema(&schema).field(0).data_type().clone();
        calls.register(&runtime);
        let (key, runtime) = (key.to_owned(), Some(runtime));
        Ok(ScalarUDF::from(PythonUdf { key, function, signature, returns, runtime, calls }))
    }

    /// Calls the function with the rows of a batch, and waits for the values.
    fn call(&self, call: FunctionCall) -> Result<ArrayRef> {
        let Some(runtime) = &self.runtime else {
            let message = format!("EXPLAIN does not call the function `{}`", self.function.name);
            return Err(problem(Problem::new(ErrorCode::UnsupportedStatement, message)));
        };
        let handle = Handle::try_current().ok();
        let handle = handle.filter(|it| it.runtime_flavor() == RuntimeFlavor::MultiThread);
        let Some(handle) = handle else {
            let message = format!("`{}` was called outside of a statement", self.function.name);
            return Err(problem(Problem::new(ErrorCode::Internal, message)));
        };
        let cancelled = call.cancelled.clone();
        if cancelled.is_cancelled() {
            return Err(stopped());
        }
        let _active = self.calls.begin_call();
        let work = async {
            let mut called = runtime.call(call);
            let overdue = async {
                cancelled.cancelled().await;
                tokio::time::sleep(GRACE).await;
            };
            tokio::select! {
                biased;
                result = &mut called => Some(result),
                () = overdue => None,
            }
        };
        let result = tokio::task::block_in_place(|| handle.block_on(work));
        let Some(CallResult { values, usage }) = result else { return Err(stopped()) };
        self.calls.add(&usage);
        if cancelled.is_cancelled() {
            return Err(stopped());
        }
        values.map_err(problem)
    }

    /// Rejects values that do not fit the definition, because the values come from user code.
    fn check(&self, values: &ArrayRef, rows: usize) -> Result<()> {
        let (name, returns) = (&self.function.name, &self.function.returns);
        let wrong =
            |message: String| Err(problem(Problem::new(ErrorCode::FunctionFailed, message)));
        if values.len() != rows {
            let message =
                format!("the function `{name}` returned {} values for {rows} rows", values.len());
            return wrong(message);
        }
        if !accepts(returns, values.data_type()) {
            let given = values.data_type();
            return wrong(format!("the function `{name}` returned {given}, not {returns}"));
        }
        Ok(())
    }
}

/// Returns the error of a call that was cancelled with its statement.
fn stopped() -> DataFusionError {
    problem(Problem::new(ErrorCode::Cancelled, "the statement was stopped"))
}

fn problem(problem: Problem) -> DataFusionError {
    DataFusionError::External(Box::new(problem))
}

impl ScalarUDFImpl for PythonUdf {
    fn name(&self) -> &str {
        &self.key
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        for (field, given) in self.function.parameters.fields().iter().zip(given) {
            if !accepts(field.data_type(), given) {
                let (name, expected) = (field.name(), field.data_type());
                let given = without_view_types(given);
                return plan_err!(
                    "the parameter `{name}` of `{}` takes {expected}, not {given}",
                    self.function.name
                );
            }
        }
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, given: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = given.number_rows;
        if rows == 0 {
            return Ok(ColumnarValue::Array(new_empty_array(&self.returns)));
        }
        let arguments = arguments(&self.function.parameters, given.args, rows)?;
        let (owner, cancelled) = (Arc::clone(self.calls.owner()), self.calls.token());
        let function = Arc::clone(&self.function);
        let values = self.call(FunctionCall { function, arguments, owner, cancelled })?;
        self.check(&values, rows)?;
        let values = convert(&values, &self.function.returns)?;
        Ok(ColumnarValue::Array(convert(&values, &self.returns)?))
    }
}

/// Returns a plan for EXPLAIN in which functions in Python return an error instead of being called.
/// DataFusion evaluates the rows of VALUES while it creates the physical plan.
pub fn without_calls(plan: LogicalPlan) -> Result<LogicalPlan> {
    let inert = |expr: Expr| {
        if let Expr::ScalarFunction(ScalarFunction { func, args }) = &expr
            && let Some(python) = func.inner().downcast_ref::<PythonUdf>()
        {
            let func = Arc::new(ScalarUDF::from(PythonUdf { runtime: None, ..python.clone() }));
            let args = args.clone();
            return Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args })));
        }
        Ok(Transformed::no(expr))
    };
    let inert_in = |plan: LogicalPlan| plan.map_expressions(|expr| expr.transform_up(inert));
    plan.transform_up_with_subqueries(inert_in).data()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use arrow::array::{AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::Int64Type;
    use async_trait::async_trait;
    use datafusion::common::config::ConfigOptions;
    use headwater_model::{JobId, Usage};
    use tokio::sync::Notify;

    use super::*;
    use crate::{CallingStatement, ConcurrencyLimitedRuntime};

    /// A runtime that returns fixed values, or waits for the cancellation if there are none.
    #[derive(Debug)]
    struct FixedRuntime {
        values: Option<Vec<i64>>,
        /// Notified when a call begins.
        begun: Notify,
        /// Number of statements whose instances were ended.
        ended: AtomicUsize,
    }

    #[async_trait]
    impl PythonRuntime for FixedRuntime {
        async fn check(&self, _: &FunctionDefinition) -> Result<(), Problem> {
            Ok(())
        }

        async fn call(&self, call: FunctionCall) -> CallResult {
            let usage = Usage { calls: 1, ..Usage::default() };
            self.begun.notify_one();
            let Some(values) = &self.values else {
                call.cancelled.cancelled().await;
                return CallResult { values: Err(Problem::new(ErrorCode::Cancelled, "")), usage };
            };
            let values: ArrayRef = Arc::new(Int64Array::from(values.clone()));
            CallResult { values: Ok(values), usage }
        }

        fn end(&self, _: &CallingStatement) {
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn fixed(values: Option<Vec<i64>>) -> Arc<FixedRuntime> {
        Arc::new(FixedRuntime { values, begun: Notify::new(), ended: AtomicUsize::new(0) })
    }

    fn udf(values: Option<Vec<i64>>) -> (ScalarUDF, Arc<StatementCalls>) {
        udf_of(fixed(values))
    }

    fn udf_of(runtime: Arc<dyn PythonRuntime>) -> (ScalarUDF, Arc<StatementCalls>) {
        let parameters = Schema::new(vec![Field::new("a", DataType::Int64, true)]);
        let definition = FunctionDefinition {
            name: "f".to_owned(),
            parameters: parameters.into(),
            returns: DataType::Int64,
            body: String::new(),
            handler: "f".to_owned(),
            packages: Vec::new(),
            python: None,
            memory_bytes: None,
            timeout: None,
        };
        let owner = CallingStatement {
            author: "ada".to_owned(),
            job: None,
            instances: JobId::generate(),
            memory_bytes_max: None,
        };
        let calls = Arc::new(StatementCalls::new(owner));
        let udf = PythonUdf::create("f", Arc::new(definition), runtime, Arc::clone(&calls));
        (udf.expect("a function"), calls)
    }

    async fn call(udf: ScalarUDF, rows: usize) -> Result<ArrayRef> {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1; rows]));
        let field = Arc::new(Field::new("a", DataType::Int64, true));
        let given = ScalarFunctionArgs {
            args: vec![ColumnarValue::Array(column)],
            arg_fields: vec![Arc::clone(&field)],
            number_rows: rows,
            return_field: field,
            config_options: Arc::new(ConfigOptions::default()),
        };
        let work = tokio::spawn(async move { udf.invoke_with_args(given)?.into_array(rows) });
        work.await.expect("no panic")
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn values_are_checked_and_calls_are_counted() {
        let (function, calls) = udf(Some(vec![4, 5]));
        let values = call(function.clone(), 2).await.expect("values");
        assert_eq!(values.as_primitive::<Int64Type>().values(), &[4, 5]);
        assert_eq!(calls.usage().calls, 1);
        let error = call(function.clone(), 3).await.expect_err("too few values");
        assert!(error.to_string().contains("returned 2 values for 3 rows"), "{error}");
        assert_eq!(call(function, 0).await.expect("no values").len(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_end_of_a_plan_ends_its_calls_and_instances() {
        let runtime = fixed(None);
        let (function, calls) = udf_of(runtime.clone());
        let running = calls.begin();
        let waiting = tokio::spawn(call(function.clone(), 1));
        runtime.begun.notified().await;
        assert!(calls.is_active());
        drop(running);
        calls.ended().await;
        assert!(!calls.is_active());
        assert_eq!(calls.usage().calls, 1, "the usage is complete");
        let error = waiting.await.expect("no panic").expect_err("the call was stopped");
        assert!(error.to_string().contains("the statement was stopped"), "{error}");
        assert_eq!(runtime.ended.load(Ordering::Relaxed), 1);
        // The token that cancels calls stays cancelled until the next plan, so no further call
        // begins.
        assert!(call(function, 1).await.is_err());
        assert_eq!(calls.usage().calls, 1, "the usage of a cancelled call is counted");
        drop(calls);
        assert!(runtime.ended.load(Ordering::Relaxed) > 1, "a statement ends its last instances");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn calls_above_the_limit_are_rejected() {
        let bounded: Arc<dyn PythonRuntime> =
            Arc::new(ConcurrencyLimitedRuntime::new(fixed(None), 1));
        let (function, calls) = udf_of(bounded);
        let running = calls.begin();
        let mut calling =
            [tokio::spawn(call(function.clone(), 1)), tokio::spawn(call(function, 1))];
        let [one, other] = &mut calling;
        let rejected = tokio::select! { first = one => first, first = other => first };
        let error = rejected.expect("no panic").expect_err("only one call may run");
        assert!(error.to_string().contains("too many calls of Python functions"), "{error}");
        drop(running);
    }

    #[test]
    fn a_statement_with_a_function_is_recognized() {
        let owner = CallingStatement {
            author: "ada".to_owned(),
            job: None,
            instances: JobId::generate(),
            memory_bytes_max: None,
        };
        assert!(!StatementCalls::new(owner).has_functions());
        assert!(udf(None).1.has_functions());
    }

    #[test]
    fn the_rows_of_a_batch_are_the_parameters() {
        let (function, _) = udf(None);
        let error = function.return_type(&[DataType::Utf8]).expect_err("text is no number");
        assert!(error.to_string().contains("the parameter `a` of `f` takes Int64, not Utf8"));
        let schema = Schema::new(vec![Field::new("a", DataType::Int64, true)]);
        let null = ColumnarValue::Scalar(datafusion::common::ScalarValue::Null);
        let batch: RecordBatch = arguments(&schema, vec![null], 3).expect("a batch");
        assert_eq!((batch.num_rows(), batch.column(0).null_count()), (3, 3));
    }
}
