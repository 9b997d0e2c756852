//! Functions that are deployed without a project, in the form that calls use: a parsed project, and
//! a limit on concurrent calls.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use headwater_function_store::{
    FunctionStore, LAYERS, StoredFunction, StoredVersion, project_files,
};
use headwater_functions::LimitSource;
use headwater_lake::Lake;
use headwater_model::{
    Actor, ErrorCode, FileContent, FunctionSettings, ObjectId, Problem, ProjectFiles, ResultExt,
    did_you_mean, nearest,
};
use headwater_objects::Objects;
use headwater_pipelines::{Callable, ParsedProject, Project, ProjectError, parse_project};
use headwater_triggers::{CallDestination, CallPolicy};
use moka::sync::Cache;
use parking_lot::Mutex;

/// Maximum size of the parsed functions in memory, in KiB.
const PARSED_KIB_MAX: u64 = 512 << 10;

/// Number of bytes in a package on disk that count as one byte in the cache of parsed functions.
const PACKED_SHARE: u64 = 8;

/// The environment variable with the version, as on AWS.
const VERSION_VARIABLE: &str = "AWS_LAMBDA_FUNCTION_VERSION";

/// The qualifier of a function's current code and settings, which need not be a published version.
const LATEST: &str = "$LATEST";

/// The functions of a lake that are deployed without a project.
#[derive(Clone)]
pub struct FunctionCatalog {
    store: FunctionStore,
    /// Parsed versions, by the hash of name, settings and code.
    parsed: Cache<ObjectId, ParsedFunction>,
    /// Number of running calls by function, only for functions with a limit.
    running: Arc<Mutex<BTreeMap<String, u32>>>,
}

/// A parsed version of a function.
#[derive(Clone)]
pub struct ParsedFunction {
    /// A project that contains only the function.
    pub project: Arc<Project>,
    /// The function in the project.
    pub callable: Callable,
    /// The identity that deployed the function. The function can change only what this identity may
    /// change, and its outputs use the rights of this identity. `None` for a function of a project
    /// folder that is not deployed.
    pub deployed_by: Option<Actor>,
}

/// The version of a function to call.
pub struct CalledFunction {
    /// The parsed version.
    pub function: ParsedFunction,
    /// The version number, or `$LATEST`.
    pub version: String,
    /// The function's limit on concurrent calls.
    pub concurrency: Option<u32>,
    /// The identity that last changed the code or the settings of the version.
    pub actor: Actor,
}

/// A permit for one call, which counts towards the limit of its function.
pub struct CallPermit {
    name: String,
    running: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        if let Some(count) = running.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.name);
            }
        }
    }
}

/// Returns the error for a missing function. `project` is the project that was searched, if any;
/// `standalone` are the names of the functions without a project that were searched.
pub fn function_not_found(project: Option<&Project>, standalone: &[String], name: &str) -> Problem {
    let is_step = |project: &Project| project.steps.iter().any(|step| step.table.name == name);
    let declared = project.into_iter().flat_map(|project| project.callables.keys());
    let names = declared.chain(standalone).map(String::as_str);
    let hint = if project.is_some_and(is_step) {
        format!("Run `{name}` with `headwater run`: it is not a function.")
    } else {
        let list = match project {
            Some(_) => "List the functions with `headwater function ls`.",
            None => {
                "List the functions with `headwater function ls`; `headwater deploy` deploys the \
                 functions of a project."
            }
        };
        did_you_mean(nearest(split_name(name).0, names).as_deref(), list)
    };
    let message = match project {
        Some(project) => format!("the project `{}` has no function `{name}`", project.name),
        None => format!("function `{name}` does not exist"),
    };
    Problem::new(ErrorCode::FunctionNotFound, message).with_hint(hint)
}

/// Splits `NAME:QUALIFIER` into the name and the version or alias, if there is one.
pub fn split_name(called: &str) -> (&str, Option<&str>) {
    called.split_once(':').map_or((called, None), |(name, qualifier)| (name, Some(qualifier)))
}

/// Returns the error for a function that does not exist.
pub(crate) fn missing_function(called: &str) -> Problem {
    let message = format!("there is no function `{}`", split_name(called).0);
    let hint = "Deploy the function with `headwater function deploy`, or in a project.";
    Problem::new(ErrorCode::FunctionNotFound, message).with_hint(hint)
}

impl FunctionCatalog {
    /// Opens the functions of a lake. The packages of large functions are stored with the contents
    /// of buckets. `folder` is for temporary files.
    pub fn new(lake: &Lake, objects: &Objects, folder: &Path) -> Self {
        let store = FunctionStore::new(lake.store().clone(), lake.clock().clone());
        let store = store.with_pack_files(objects.clone(), folder);
        let weigh = |_: &ObjectId, parsed: &ParsedFunction| {
            // A file outside a package counts twice, because both the project and the sandboxes
            // hold it in memory. A package is on disk; it counts to limit the disk space for
            // copies.
            let weight = |file: &FileContent| match file {
                FileContent::Packed(packed) => packed.bytes / PACKED_SHARE,
                FileContent::Text(_) | FileContent::Binary(_) => 2 * file.size(),
            };
            let bytes: u64 = parsed.project.files.values().map(weight).sum();
            u32::try_from((bytes >> 10) + 1).unwrap_or(u32::MAX)
        };
        let parsed = Cache::builder().max_capacity(PARSED_KIB_MAX).weigher(weigh).build();
        FunctionCatalog { store, parsed, running: Arc::default() }
    }

    /// Returns the store of the functions.
    pub fn store(&self) -> &FunctionStore {
        &self.store
    }

    /// Returns the names of the functions.
    pub async fn names(&self) -> Result<Vec<String>, Problem> {
        let functions = self.store.list().await.or_problem()?;
        Ok(functions.into_iter().map(|function| function.name).collect())
    }

    /// Finds the version to call. `called` is a name, or a name with a version or alias. Returns
    /// `None` if no function has this name.
    ///
    /// Errors: `function_not_found` for an unknown version.
    pub async fn find(&self, called: &str) -> Result<Option<CalledFunction>, Problem> {
        let (name, qualifier) = split_name(called);
        let Some(stored) = self.store.find(name).await.or_problem()? else { return Ok(None) };
        let roll = f64::from(uuid::Uuid::new_v4().as_u128() as u32) / (f64::from(u32::MAX) + 1.0);
        let number = stored.resolve(qualifier.unwrap_or(LATEST), roll).or_problem()?;
        let version = self.store.version(&stored, number).await.or_problem()?;
        let function = self.parsed(name, &version).await?;
        let (concurrency, qualifier) = (stored.concurrency, version.qualifier());
        let actor = version.actor;
        Ok(Some(CalledFunction { function, version: qualifier, concurrency, actor }))
    }

    /// Returns a version of a function; without a number, the current state `$LATEST`.
    pub(crate) async fn version(
        &self,
        stored: &StoredFunction,
        number: Option<u64>,
    ) -> Result<ParsedFunction, Problem> {
        let version = self.store.version(stored, number).await.or_problem()?;
        self.parsed(&stored.name, &version).await
    }

    async fn parsed(&self, name: &str, version: &StoredVersion) -> Result<ParsedFunction, Problem> {
        let mut settings = version.settings.clone();
        settings.env.insert(VERSION_VARIABLE.to_owned(), version.qualifier());
        let layers = version.attributes.get(LAYERS);
        let key = serde_json::json!([name, settings, version.code.manifest, layers]).to_string();
        let key = ObjectId::of(key.as_bytes());
        if let Some(parsed) = self.parsed.get(&key) {
            return Ok(parsed);
        }
        let files = self.store.files(name, &version.code).await.or_problem()?;
        let files = self.store.with_layers(name, files, &version.attributes).await.or_problem()?;
        let parsed = parse_function(name, &settings, files, |parsed| parsed).await?;
        self.parsed.insert(key, parsed.clone());
        Ok(parsed)
    }

    /// Returns the policy of asynchronous calls of a function. `called` is a name, or a name with a
    /// version or alias.
    pub async fn call_policy(&self, called: &str) -> Result<CallPolicy, Problem> {
        let (name, qualifier) = split_name(called);
        let stored = self.store.find(name).await.or_problem()?;
        let config = stored.as_ref().and_then(|it| it.settings_of(qualifier)?.invoke.clone());
        Ok(config.map_or_else(CallPolicy::default, |config| CallPolicy {
            retries: config.retries,
            max_age: config.max_age_seconds.map(|seconds| Duration::from_secs(seconds.into())),
            on_success: destination(config.on_success, config.success_actor),
            on_failure: destination(config.on_failure, config.failure_actor),
        }))
    }

    /// Counts a call of a function until the permit is dropped.
    ///
    /// Errors: `too_busy` if the limit of concurrent calls is reached.
    pub fn permit(
        &self,
        callable: &Callable,
        limit: Option<u32>,
    ) -> Result<Option<CallPermit>, Problem> {
        let Some(limit) = limit else { return Ok(None) };
        if limit == 0 {
            return Err(disabled(callable));
        }
        let name = callable.name.clone();
        let mut running = self.running.lock();
        let count = running.get(&name).copied().unwrap_or_default();
        if count >= limit {
            let message = format!(
                "function `{name}` has reached its concurrency limit: {count} calls running (limit \
                 {limit})"
            );
            return Err(Problem::new(ErrorCode::TooBusy, message)
                .with_hint("Repeat the call later, or raise the reserved concurrency."));
        }
        running.insert(name.clone(), count + 1);
        Ok(Some(CallPermit { name, running: self.running.clone() }))
    }
}

/// Returns the error of a call to a function whose limit on concurrent calls is 0.
fn disabled(callable: &Callable) -> Problem {
    let message =
        format!("function `{}` is disabled: its reserved concurrency is 0", callable.name);
    let hint = match callable.settings {
        LimitSource::Deployment => {
            "Set another limit with `headwater function deploy --reserved-concurrency CALLS`, or \
             remove it with `--reset reserved-concurrency`."
        }
        LimitSource::Decorator => {
            "Change `reserved_concurrency` in the function's decorator, and deploy the project."
        }
        LimitSource::ProjectFile | LimitSource::SqlFunction => {
            "Change `reserved_concurrency` of the function in headwater.toml, and deploy the \
             project."
        }
    };
    Problem::new(ErrorCode::TooBusy, message).with_hint(hint)
}

fn destination(target: Option<String>, actor: Actor) -> Option<CallDestination> {
    target.map(|target| CallDestination { target, actor })
}

/// Parses a function that is to be deployed, on a blocking thread. Its handler must be defined.
///
/// Errors: `invalid_argument`.
pub async fn check_function(
    name: &str,
    settings: &FunctionSettings,
    files: ProjectFiles,
) -> Result<ParsedFunction, Problem> {
    parse_function(name, settings, files, ParsedProject::with_deployment_errors).await
}

/// Parses a function on a blocking thread. `check` adds errors to the parsed project.
async fn parse_function(
    name: &str,
    settings: &FunctionSettings,
    files: ProjectFiles,
    check: fn(ParsedProject) -> ParsedProject,
) -> Result<ParsedFunction, Problem> {
    let (name, settings) = (name.to_owned(), settings.clone());
    let parse = move || {
        let files = project_files(&name, &settings, files).or_problem()?;
        let invalid = |problem| Problem { code: ErrorCode::InvalidArgument, ..problem };
        let parsed = parse_project(&files).or_problem().map_err(invalid)?;
        // `project_files` generated the project file, so its line numbers mean nothing to a user.
        let found = check(parsed).into_callable(&name).map_err(ProjectError::without_location);
        let (project, callable) = found.or_problem().map_err(invalid)?;
        let mut callable = callable.ok_or_else(|| {
            Problem::new(
                ErrorCode::Internal,
                format!("the stored project of function `{name}` does not define the function"),
            )
        })?;
        callable.settings = LimitSource::Deployment;
        // Remove the outputs: only the deployment of a project checks the rights to outputs, and
        // without this check an output would use the rights of the function's caller.
        callable.outputs.clear();
        Ok(ParsedFunction { project: Arc::new(project), callable, deployed_by: None })
    };
    tokio::task::spawn_blocking(parse).await.unwrap_or_else(|error| {
        Err(Problem::new(ErrorCode::Internal, format!("reading the function failed: {error}")))
    })
}
