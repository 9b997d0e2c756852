//! Executes the Python functions that SQL statements call, in the sandbox.
//!
//! The files of a function are its code, the module that calls the function with the columns of a
//! batch, and the module's settings. All calls of a statement share instances: the first batch
//! clones the zygote of the environment, and the next batches use the idle instance. The function
//! has no access to the network, the lake or secrets.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, new_empty_array};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::writer::StreamWriter;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headwater_functions::{
    Argument, ArgumentValue, CallOwner, Environment, EnvironmentCache, EnvironmentSpec, Error,
    FunctionResult, Functions, Invocation, InvocationOutcome, LimitSource, Limits,
    OptionalCallParts, ResultKind, ReuseScope, SharedTable, TracebackFrame,
};
use headwater_model::{ErrorCode, Priority, Problem, ProjectFiles, ResultExt, ToProblem, Usage};
use headwater_project::check_definition;
use headwater_sql_python::{
    CallResult, CallingStatement, FunctionCall, FunctionDefinition, PythonRuntime,
};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The file of the module that calls the user's function with the columns of a batch.
const CALL_FILE: &str = "headwater_sql_call.py";
const CALL_TEXT: &str = include_str!("../../../python/worker/headwater_sql_call.py");

/// The function in [`CALL_FILE`] that the worker calls.
const CALL_FUNCTION: &str = "call";

/// The exception that the module in [`CALL_FILE`] raises for values that do not fit the definition.
const RESULT_ERROR: &str = "ResultError";

/// The module with the settings of the call, and the module with the user's code.
const SETTINGS_FILE: &str = "headwater_sql_settings.py";
const CODE_FILE: &str = "sql_function.py";

/// Memory limit of an instance without MEMORY, in bytes.
const MEMORY_BYTES: u64 = 1 << 30;

/// Time limit for a batch without TIMEOUT.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum time in the queue for one batch. The caller's thread is blocked for this time.
const QUEUE_MAX: Duration = Duration::from_secs(300);

/// Maximum size of the values that a call returns for one batch, in bytes.
const RESULT_BYTES_MAX: u64 = 256 << 20;

/// Maximum number of frames of a traceback in an error.
const FRAMES_MAX: usize = 3;

/// The files of the definitions in use. The batches of a statement share one definition.
#[derive(Debug, Default)]
struct FileCache(Mutex<Vec<(Weak<FunctionDefinition>, Arc<ProjectFiles>)>>);

impl FileCache {
    /// Returns the files of a definition. All batches share one value, so that instances are found
    /// without comparing files.
    fn get(&self, function: &Arc<FunctionDefinition>) -> Result<Arc<ProjectFiles>, Problem> {
        let mut known = self.0.lock();
        let is_same =
            |of: &Weak<FunctionDefinition>| std::ptr::eq(of.as_ptr(), Arc::as_ptr(function));
        if let Some((_, files)) = known.iter().find(|(of, _)| is_same(of)) {
            return Ok(Arc::clone(files));
        }
        known.retain(|(of, _)| of.strong_count() > 0);
        let new = Arc::new(files(function)?);
        known.push((Arc::downgrade(function), Arc::clone(&new)));
        Ok(new)
    }
}

/// The runtime of functions in Python that SQL statements call. Clones share the runtime.
#[derive(Debug, Clone)]
pub struct SqlFunctionRuntime {
    functions: Functions,
    environments: Arc<EnvironmentCache>,
    files: Arc<FileCache>,
    /// The server's Tokio runtime, which runs the calls. The engine's threads block during a call.
    handle: Option<Handle>,
}

impl SqlFunctionRuntime {
    /// Creates the runtime. Calls are executed on the current Tokio runtime.
    pub fn new(functions: Functions) -> Self {
        let handle = Handle::try_current().ok();
        let (environments, files) = (Arc::default(), Arc::default());
        SqlFunctionRuntime { functions, environments, files, handle }
    }

    async fn environment(&self, spec: &EnvironmentSpec) -> Result<Arc<Environment>, Problem> {
        if let Some(environment) = self.environments.find(&self.functions, spec) {
            return Ok(environment);
        }
        let environment = self.functions.environment(spec, &|_| {}).await.or_problem()?;
        self.environments.insert(spec.clone(), &environment);
        Ok(environment)
    }

    async fn run(&self, call: FunctionCall) -> CallResult {
        let mut usage = Usage::default();
        let values = self.values(&call, &mut usage).await;
        CallResult { values, usage }
    }

    async fn values(&self, call: &FunctionCall, usage: &mut Usage) -> Result<ArrayRef, Problem> {
        let FunctionCall { function, arguments, owner, cancelled } = call;
        let (asked, spec) = (Instant::now(), environment_spec(function));
        let environment = tokio::select! {
            environment = self.environment(&spec) => environment?,
            () = cancelled.cancelled() => return Err(stopped(function)),
        };
        usage.environment_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        let rows = SharedTable::write(arguments.schema(), [Ok(arguments.clone())]).or_problem()?;
        let in_time = CancellationToken::new();
        let invocation = Invocation {
            environment,
            files: self.files.get(function)?,
            module: CALL_FILE.to_owned(),
            function: CALL_FUNCTION.to_owned(),
            arguments: vec![Argument {
                name: "rows".to_owned(),
                value: ArgumentValue::Table(rows),
            }],
            kind: ResultKind::Table,
            limits: limits(function, owner.memory_bytes_max),
            label: function.name.clone(),
            quota: None,
            reuse: ReuseScope::SameStatement(owner.instances),
            starts_runtime: false,
            share: CallOwner {
                owner: format!("caller `{}`", owner.author).into(),
                job: owner.job,
                priority: Priority::Normal,
            },
            begins_until: in_time.clone(),
            lake: None,
            client: OptionalCallParts::default(),
            early_result: None,
        };
        // The receiver is dropped, so printed lines are discarded.
        let (sink, _) = mpsc::channel(1);
        let mut invoked = Box::pin(self.functions.invoke(invocation, sink, cancelled.clone()));
        let ended = tokio::select! {
            outcome = &mut invoked => Some(outcome),
            () = tokio::time::sleep(QUEUE_MAX) => None,
        };
        let InvocationOutcome { returned, usage: used } = if let Some(outcome) = ended {
            outcome
        } else {
            // Cancelling this token ends the call only if the call is still in the queue.
            in_time.cancel();
            invoked.await
        };
        usage.add(&used);
        match returned {
            Err(Error::Stopping { .. }) if in_time.is_cancelled() => Err(not_admitted(function)),
            Ok(FunctionResult::Table(table)) => values_of(function, &table),
            Ok(FunctionResult::Bool(_) | FunctionResult::Json(_)) => Err(no_values(function)),
            Err(error) => Err(explained(function, &error)),
        }
    }
}

#[async_trait]
impl PythonRuntime for SqlFunctionRuntime {
    async fn check(&self, function: &FunctionDefinition) -> Result<(), Problem> {
        let invalid = |problem: Problem| Problem { code: ErrorCode::InvalidArgument, ..problem };
        let checked = check_definition(CODE_FILE, &function.body, &function.handler);
        checked.or_problem().map_err(invalid)?;
        let spec = environment_spec(function);
        self.functions.check_environment(&spec).or_problem().map_err(invalid)
    }

    fn end(&self, owner: &CallingStatement) {
        let (functions, statement) = (self.functions.clone(), owner.instances);
        match &self.handle {
            Some(handle) => drop(handle.spawn(async move { functions.end_instances(statement) })),
            None => functions.end_instances(statement),
        }
    }

    async fn call(&self, call: FunctionCall) -> CallResult {
        let Some(handle) = &self.handle else { return self.run(call).await };
        let this = self.clone();
        let mut task = AbortOnDrop(handle.spawn(async move { this.run(call).await }));
        let ended = (&mut task.0).await;
        ended.unwrap_or_else(|error| {
            let message = format!("the call of a function stopped: {error}");
            let values = Err(Problem::new(ErrorCode::Internal, message));
            CallResult { values, usage: Usage::default() }
        })
    }
}

/// A task that is aborted when its caller stops waiting.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Returns the environment of a function.
fn environment_spec(function: &FunctionDefinition) -> EnvironmentSpec {
    let packages = function.packages.iter().map(|requirement| {
        let requirement = requirement.trim();
        let end = requirement.find(['<', '>', '=', '!', '~', ' ']).unwrap_or(requirement.len());
        let (name, version) = requirement.split_at(end);
        (name.to_owned(), version.trim().to_owned())
    });
    let packages: BTreeMap<String, String> = packages.collect();
    let python = function.python.clone();
    EnvironmentSpec { python, packages, ..EnvironmentSpec::default() }
}

fn limits(function: &FunctionDefinition, memory_bytes_max: Option<u64>) -> Limits {
    let memory_bytes = function.memory_bytes.unwrap_or(MEMORY_BYTES);
    Limits {
        memory_bytes: memory_bytes.min(memory_bytes_max.unwrap_or(u64::MAX)),
        timeout: function.timeout.unwrap_or(TIMEOUT),
        settings: LimitSource::SqlFunction,
        ..Limits::default()
    }
}

/// Returns the files of a function's instances.
fn files(function: &FunctionDefinition) -> Result<ProjectFiles, Problem> {
    let internal = |error: arrow::error::ArrowError| {
        Problem::new(ErrorCode::Internal, format!("the result type cannot be encoded: {error}"))
    };
    let schema = Schema::new(vec![Field::new("value", function.returns.clone(), true)]);
    let mut stream = StreamWriter::try_new(Vec::new(), &schema).map_err(internal)?;
    stream.finish().map_err(internal)?;
    let schema = STANDARD.encode(stream.into_inner().map_err(internal)?);
    let handler = serde_json::Value::from(function.handler.clone());
    let settings = format!("HANDLER = {handler}\nRESULT = \"{schema}\"\n");
    Ok(ProjectFiles::from([
        (CALL_FILE.to_owned(), CALL_TEXT.into()),
        (SETTINGS_FILE.to_owned(), settings.into()),
        (CODE_FILE.to_owned(), function.body.clone().into()),
    ]))
}

/// Returns the values of a result. Copies the values: a plan may keep the values of many batches,
/// and uncopied values would keep one memory mapping per batch.
fn values_of(function: &FunctionDefinition, table: &SharedTable) -> Result<ArrayRef, Problem> {
    let name = &function.name;
    if table.bytes() > RESULT_BYTES_MAX {
        let (mib, most) = (table.bytes() >> 20, RESULT_BYTES_MAX >> 20);
        let message =
            format!("the function `{name}` returned {mib} MiB for one batch (limit {most} MiB)");
        return Err(
            Problem::new(ErrorCode::FunctionFailed, message).with_hint("Return shorter values.")
        );
    }
    let batches = table.mapped().unwrap_or_default();
    let columns: Vec<ArrayRef> =
        batches.iter().filter_map(|batch| batch.columns().first().cloned()).collect();
    let Some(data_type) = columns.first().map(|column| column.data_type().clone()) else {
        let empty = table.schema().fields().first().map(|field| field.data_type().clone());
        return Ok(new_empty_array(&empty.unwrap_or(DataType::Null)));
    };
    let empty = new_empty_array(&data_type);
    let parts: Vec<&dyn Array> =
        columns.iter().chain([&empty]).map(|column| column.as_ref() as &dyn Array).collect();
    concat(&parts).map_err(|error| {
        let message = format!("the values of the function `{name}` cannot be read: {error}");
        Problem::new(ErrorCode::FunctionFailed, message)
    })
}

fn stopped(function: &FunctionDefinition) -> Problem {
    let message = format!("the call of the function `{}` was stopped", function.name);
    Problem::new(ErrorCode::Cancelled, message)
}

/// Returns the error of a call that waited too long in the queue.
fn not_admitted(function: &FunctionDefinition) -> Problem {
    let (name, seconds) = (&function.name, QUEUE_MAX.as_secs());
    let message = format!(
        "the call of the function `{name}` failed because no instance became free within \
         {seconds} s"
    );
    Problem::new(ErrorCode::TooBusy, message)
        .with_hint("Retry the statement later, or lower MEMORY of the function.")
}

fn no_values(function: &FunctionDefinition) -> Problem {
    let message = format!("the function `{}` returned no values", function.name);
    Problem::new(ErrorCode::FunctionFailed, message)
}

/// Converts the error of a call to the error of the statement: the function, the exception, and the
/// last frames of the user's code.
fn explained(function: &FunctionDefinition, error: &Error) -> Problem {
    let name = &function.name;
    let Error::FunctionRaised { exception, message, frames, .. } = error else {
        let problem = error.to_problem();
        let names_function = problem.message.starts_with(&format!("`{name}`"));
        let own = if names_function { String::new() } else { format!("`{name}`: ") };
        let message = format!("function {own}{}", problem.message);
        return Problem { message, ..problem };
    };
    let own: Vec<&TracebackFrame> = frames.iter().filter(|frame| frame.file == CODE_FILE).collect();
    if exception.rsplit('.').next() == Some(RESULT_ERROR) {
        let message = format!("the function `{name}` {message}");
        return Problem::new(ErrorCode::FunctionFailed, message)
            .with_hint("Return one value of the result type for each row.");
    }
    let mut text = format!("the function `{name}` failed: {exception}");
    if !message.is_empty() {
        text = format!("{text}: {message}");
    }
    if let Some(last) = own.last() {
        text = format!("{text} (line {} of its code)", last.line);
    }
    // Replace the worker's hint, which is for decorated functions.
    let is_missing = exception == "ModuleNotFoundError";
    let hint = is_missing.then(|| "Add the package to PACKAGES of the function.".to_owned());
    let mut problem = Problem { hint, ..error.to_problem() };
    // Remove the list of frames, because it also contains frames of the module that calls the
    // user's function.
    problem.context.remove("frames");
    let causes = own.iter().skip(own.len().saturating_sub(FRAMES_MAX));
    let causes = causes
        .map(|frame| format!("line {}, in {}: `{}`", frame.line, frame.function, frame.source));
    Problem { message: text, causes: causes.collect(), ..problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> FunctionDefinition {
        FunctionDefinition {
            name: "f".to_owned(),
            parameters: Schema::new(vec![Field::new("a", DataType::Int64, true)]).into(),
            returns: DataType::Int64,
            body: "def f(a):\n    return a\n".to_owned(),
            handler: "f".to_owned(),
            packages: vec!["numpy".to_owned(), "httpx[http2]>=0.27, <1".to_owned()],
            python: Some("3.12".to_owned()),
            memory_bytes: None,
            timeout: Some(Duration::from_secs(2)),
        }
    }

    #[test]
    fn packages_have_names_and_versions() {
        let spec = environment_spec(&definition());
        let packages: Vec<_> = spec.packages.iter().collect();
        let text = |name: &str| name.to_owned();
        assert_eq!(
            packages,
            [(&text("httpx[http2]"), &text(">=0.27, <1")), (&text("numpy"), &String::new()),]
        );
        let limits = limits(&definition(), None);
        assert_eq!((limits.memory_bytes, limits.timeout), (MEMORY_BYTES, Duration::from_secs(2)));
        assert!(limits.network.denies_all());
    }

    #[test]
    fn the_batches_of_a_statement_share_the_files() {
        let (cache, one) = (FileCache::default(), Arc::new(definition()));
        let first = cache.get(&one).expect("files");
        assert!(Arc::ptr_eq(&first, &cache.get(&one).expect("files")));
        let other = cache.get(&Arc::new(definition())).expect("files");
        assert!(!Arc::ptr_eq(&first, &other), "another statement has its own definition");
        drop(one);
        cache.get(&Arc::new(definition())).expect("files");
        assert_eq!(cache.0.lock().len(), 1, "unused files are removed");
    }

    #[test]
    fn a_call_that_waits_too_long_is_too_busy() {
        let problem = not_admitted(&definition());
        assert_eq!(problem.code, ErrorCode::TooBusy);
        assert_eq!(
            problem.message,
            "the call of the function `f` failed because no instance became free within 300 s"
        );
    }

    #[test]
    fn an_exception_names_the_function_and_the_line_of_its_code() {
        let frame = |file: &str, line| TracebackFrame {
            file: file.to_owned(),
            line,
            function: "f".to_owned(),
            source: "return a / 0".to_owned(),
        };
        let error = Error::FunctionRaised {
            exception: "ZeroDivisionError".to_owned(),
            message: "division by zero".to_owned(),
            frames: vec![frame(CALL_FILE, 31), frame(CODE_FILE, 2)],
            hint: None,
        };
        let problem = explained(&definition(), &error);
        assert_eq!(
            problem.message,
            "the function `f` failed: ZeroDivisionError: division by zero (line 2 of its code)"
        );
        assert_eq!(problem.causes, ["line 2, in f: `return a / 0`"]);
        assert!(!problem.context.contains_key("frames"));
        assert_eq!(problem.code, ErrorCode::FunctionFailed);
    }
}
