//! Functions in languages other than Python: programs declared in the project file.
//!
//! ```toml
//! [functions.upper]
//! command = ["node", "upper.js"]
//!
//! [functions.resize]
//! runtime = "nodejs20"
//! handler = "app.handler"
//! folder = "resize"
//! ```
//!
//! The Python worker of a sandbox starts the program as a child process, with the limits of a
//! Python function. A small generated module in the sandbox starts the program.

use std::collections::BTreeMap;

use headwater_model::{DailyBudget, FunctionArgument, Priority, ToProblem};
use headwater_sandbox::{LimitSource, NetworkAccess};
use serde::Deserialize;
use toml::Spanned;

use super::Callable;
use super::callable::{CallConcurrency, CallDestinations, check_name, is_money};
use super::lambda_runtime;
use super::manifest::{duration, size};
use crate::source_location::SourceText;
use crate::{Error, Location, PythonFunction, Result, Retries};

/// The folder of the generated modules, which start programs.
const FOLDER: &str = ".headwater/functions";

/// Name of the only argument of a function that is implemented by a program.
const EVENT: &str = "event";

/// The declaration of a function that is implemented by a program.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CommandSection {
    /// The program and its arguments.
    #[serde(default)]
    pub(super) command: Vec<String>,
    /// The runtime of AWS Lambda, such as `python3.11`.
    pub(super) runtime: Option<Spanned<String>>,
    /// The function that a runtime calls, such as `app.handler`.
    pub(super) handler: Option<String>,
    /// The folder that contains the function's files.
    pub(super) folder: Option<String>,
    /// Packages from PyPI.
    pub(super) packages: Option<BTreeMap<String, String>>,
    /// Other files and folders of the project that the function needs.
    #[serde(default)]
    files: Vec<String>,
    memory: Option<Spanned<String>>,
    timeout: Option<Spanned<String>>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    secrets: Vec<String>,
    #[serde(default)]
    system: Vec<String>,
    network: Option<NetworkSetting>,
    priority: Option<Priority>,
    reserved_concurrency: Option<u32>,
    #[serde(default)]
    provisioned_concurrency: u32,
    on_success: Option<String>,
    on_failure: Option<String>,
    #[serde(default)]
    outputs: Vec<String>,
    calls_per_day: Option<u64>,
    time_per_day: Option<Spanned<String>>,
    money_per_day: Option<Spanned<f64>>,
}

impl EntryPoint {
    fn packages_are_empty(&self) -> bool {
        self.packages.as_ref().is_some_and(BTreeMap::is_empty)
    }
}

/// The network access of a program: all, none, or some hosts.
#[derive(Deserialize)]
#[serde(untagged)]
enum NetworkSetting {
    All(bool),
    Hosts(Vec<String>),
}

/// A function implemented by a program.
pub(super) struct CommandFunction {
    pub callable: Callable,
    /// The source code of the generated module that starts the program.
    pub module: String,
    /// The function's folder, whose files define no models.
    pub folder: Option<String>,
    /// The handler of a Python runtime.
    pub handler: Option<String>,
}

/// The generated module that starts a program, and the program's environment.
pub(super) struct EntryPoint {
    pub module: String,
    pub python: Option<String>,
    /// Packages; `None` for the project's defaults.
    pub packages: Option<BTreeMap<String, String>>,
    /// The function's folder, relative to the project's folder.
    pub folder: Option<String>,
    /// True if the module starts another program as the function's Lambda runtime, such as Node.
    pub starts_runtime: bool,
}

/// Parses the declaration of a function. `files` are the files of the project.
pub(super) fn read(
    source: &SourceText<'_>,
    name: &str,
    table: Spanned<CommandSection>,
    files: &BTreeMap<String, String>,
) -> Result<CommandFunction> {
    let at = source.at(table.span().start);
    let table = table.into_inner();
    check_name(name, &at)?;
    check_files(&table.files, files, &at)?;
    let start = match &table.runtime {
        Some(_) => lambda_runtime::read(source, &table, files, &at)?,
        None => command(&table, files, &at)?,
    };
    let memory_bytes = table.memory.as_ref().map(|text| size(source, text)).transpose()?;
    let timeout = table.timeout.as_ref().map(|text| duration(source, text)).transpose()?;
    let (module, folder) = (start.module.clone(), start.folder.clone());
    let handler_files = handler_files(&table, folder.as_deref());
    let files = code_files(&table, folder.as_deref(), &handler_files);
    // Keep only a handler in Python. Only a runtime for Python sets a Python version.
    let handler = table.handler.clone().filter(|_| start.python.is_some());
    let destinations = CallDestinations {
        on_success: table.on_success.clone(),
        on_failure: table.on_failure.clone(),
    };
    let concurrency = CallConcurrency {
        reserved: table.reserved_concurrency,
        provisioned: table.provisioned_concurrency,
    };
    let (concurrency, outputs) = (concurrency.check(&at)?, table.outputs.clone());
    let budget = budget(source, &table)?;
    let function = function(name, table, start, &at)?;
    let callable = Callable {
        name: name.to_owned(),
        at,
        arguments: vec![FunctionArgument { name: EVENT.to_owned(), required: false }],
        memory_bytes,
        timeout,
        settings: LimitSource::ProjectFile,
        function,
        destinations,
        concurrency,
        outputs,
        budget,
        files,
        handler_files,
        triggers: Vec::new(),
    };
    Ok(CommandFunction { callable, module, folder, handler })
}

/// Returns the files and folders with the code of a function, relative to the project's folder.
fn code_files(table: &CommandSection, folder: Option<&str>, handler: &[String]) -> Vec<String> {
    let words = table.files.iter().chain(&table.command);
    let mut files: Vec<String> = words.filter_map(|path| below_project(path)).collect();
    match folder {
        Some(folder) => files.push(folder.to_owned()),
        None => files.extend_from_slice(handler),
    }
    files
}

/// Returns the files that may contain the handler of a function with a runtime, relative to the
/// project's folder. Some of these files may not exist.
fn handler_files(table: &CommandSection, folder: Option<&str>) -> Vec<String> {
    if table.runtime.is_none() {
        return Vec::new();
    }
    let mut files = lambda_runtime::entry_files(table.handler.as_deref());
    if let Some((module, _)) = table.handler.as_deref().and_then(|text| text.rsplit_once('.')) {
        let path = module.replace('.', "/");
        files.extend([format!("{path}.py"), format!("{path}/__init__.py")]);
    }
    match folder {
        Some(folder) => files.iter().map(|file| format!("{folder}/{file}")).collect(),
        None => files,
    }
}

/// Parses the daily budget of a function.
fn budget(source: &SourceText<'_>, table: &CommandSection) -> Result<DailyBudget> {
    let time = table.time_per_day.as_ref().map(|text| duration(source, text)).transpose()?;
    let money = table.money_per_day.as_ref();
    if let Some(money) = money.filter(|money| !is_money(*money.get_ref())) {
        let message = format!("`{}` is not an amount of money", money.get_ref());
        let at = source.at(money.span().start);
        return Err(Error::invalid(at, message, "Write a number such as `2.5`."));
    }
    let (calls_per_day, money_per_day) = (table.calls_per_day, money.map(|one| *one.get_ref()));
    Ok(DailyBudget { calls_per_day, money_per_day, ..DailyBudget::default() }.with_time(time))
}

/// Parses the declaration of a program that runs once per call.
fn command(
    table: &CommandSection,
    files: &BTreeMap<String, String>,
    at: &Location,
) -> Result<EntryPoint> {
    let keys = [
        ("handler", table.handler.is_some()),
        ("folder", table.folder.is_some()),
        ("packages", table.packages.is_some()),
    ];
    if let Some((key, _)) = keys.into_iter().find(|(_, is_set)| *is_set) {
        let message = format!("`{key}` is only for functions with a `runtime`");
        return Err(Error::invalid(at.clone(), message, "Add `runtime`, or remove the key."));
    }
    check_program(&table.command, "", files, at)?;
    let command = serde_json::to_string(&table.command).unwrap_or_default();
    let module = format!(
        "from headwater.command import run\n\n\ndef call(event=None):\n    return run({command}, event)\n"
    );
    let packages = Some(BTreeMap::new());
    Ok(EntryPoint { module, python: None, packages, folder: None, starts_runtime: false })
}

fn function(
    name: &str,
    table: CommandSection,
    start: EntryPoint,
    at: &Location,
) -> Result<PythonFunction> {
    for secret in &table.secrets {
        headwater_secrets::check_name(secret).map_err(|error| Error::Invalid {
            at: at.clone(),
            message: error.to_string(),
            hint: error.hint(),
        })?;
        if table.env.contains_key(secret) {
            let message = format!("`{secret}` is both in `env` and in `secrets`");
            return Err(Error::invalid(at.clone(), message, "Remove the name from `env`."));
        }
    }
    // Require the command's program as a system program, so that a missing program is reported
    // before the call. Do not require it if there are packages, because a package may contain it.
    let is_system = |program: &String| !program.contains('/') && start.packages_are_empty();
    let program = table.command.into_iter().take(1).filter(is_system);
    let system = program.chain(table.system).collect();
    let network = network(table.network, at)?;
    Ok(PythonFunction {
        file: format!("{FOLDER}/{name}.py").into(),
        name: "call".to_owned(),
        python_at: start.python.as_ref().map(|_| at.clone()),
        python: start.python,
        packages: start.packages,
        system: Some(system),
        // Reuse is safe: the worker keeps no state between calls, and Lambda runtimes are designed
        // for many calls.
        reuse: network.denies_all(),
        network,
        temp_bytes: None,
        cpu_millis: None,
        variables: table.env.into(),
        secrets: table.secrets,
        priority: table.priority,
        starts_runtime: start.starts_runtime,
        code: start.module.into(),
        modules: Vec::new(),
        retries: Retries::default(),
    })
}

fn network(setting: Option<NetworkSetting>, at: &Location) -> Result<NetworkAccess> {
    let hosts = match setting {
        None | Some(NetworkSetting::All(false)) => return Ok(NetworkAccess::Off),
        Some(NetworkSetting::All(true)) => return Ok(NetworkAccess::On),
        Some(NetworkSetting::Hosts(hosts)) => hosts,
    };
    let parse = |host: &String| {
        host.parse().map_err(|_| {
            let message = format!("`{host}` is not a valid host");
            Error::invalid(
                at.clone(),
                message,
                "Write a host with or without a port, as in `api.example.com:443`.",
            )
        })
    };
    Ok(NetworkAccess::Hosts(hosts.iter().map(parse).collect::<Result<_>>()?))
}

/// Rejects an empty command, and a program that is missing in the project's files. The program's
/// path is relative to `folder`, the function's folder. `folder` is empty or ends with `/`.
pub(super) fn check_program(
    command: &[String],
    folder: &str,
    files: &BTreeMap<String, String>,
    at: &Location,
) -> Result<()> {
    let Some(program) = command.first().filter(|program| !program.is_empty()) else {
        let hint = "Write the program and its arguments: `command = [\"node\", \"upper.js\"]`.";
        return Err(Error::invalid(at.clone(), "`command` is empty", hint));
    };
    if command.iter().any(|word| word.contains('\0')) {
        let message = "`command` contains a NUL character";
        return Err(Error::invalid(at.clone(), message, "Remove the NUL character."));
    }
    // Accept a name without `/`, which is looked up in PATH.
    let file = format!("{folder}{}", inside(program));
    if !program.contains('/') || program.starts_with('/') || files.contains_key(&file) {
        return Ok(());
    }
    let shown = if folder.is_empty() { program } else { &file };
    let message = format!("the project has no file `{shown}`");
    Err(Error::invalid(at.clone(), message, "Write the path relative to the project's folder."))
}

/// Rejects a file or folder that the project does not have.
fn check_files(named: &[String], files: &BTreeMap<String, String>, at: &Location) -> Result<()> {
    let has = |path: &str| {
        let folder = format!("{path}/");
        files.keys().any(|file| file == path || file.starts_with(&folder))
    };
    match named.iter().find(|path| !has(inside(path))) {
        None => Ok(()),
        Some(path) => {
            let message = format!("the project has no file or folder `{path}`");
            let hint = "Write the path relative to the project's folder.";
            Err(Error::invalid(at.clone(), message, hint))
        }
    }
}

/// Returns a path without `./` at its start and `/` at its end, as in the list of the project's
/// files.
pub(super) fn inside(path: &str) -> &str {
    path.trim_start_matches("./").trim_end_matches('/')
}

/// Paths in the function declarations of a project file, relative to the project's folder.
#[derive(Debug, Default)]
pub struct CommandPaths {
    /// Words of commands. Some words are file names.
    pub words: Vec<String>,
    /// Files and folders.
    pub files: Vec<String>,
}

impl CommandPaths {
    /// Reads the paths from a project file. Returns no paths if the file has errors, because
    /// parsing the project reports them.
    pub fn read(project_file: &str) -> Self {
        #[derive(Deserialize)]
        struct Commands {
            #[serde(default)]
            functions: BTreeMap<String, Command>,
        }
        #[derive(Deserialize)]
        struct Command {
            #[serde(default)]
            command: Vec<String>,
            runtime: Option<String>,
            handler: Option<String>,
            folder: Option<String>,
            #[serde(default)]
            files: Vec<String>,
        }
        let mut paths = CommandPaths::default();
        let Ok(commands) = toml::from_str::<Commands>(project_file) else { return paths };
        for Command { command, runtime, handler, folder, files } in commands.functions.into_values()
        {
            paths.words.extend(command.iter().filter_map(|word| below_project(word)));
            paths.files.extend(files.iter().filter_map(|path| below_project(path)));
            match folder.as_deref().map(below_project) {
                Some(folder) => paths.files.extend(folder),
                None if runtime.is_some() => {
                    paths.words.extend(lambda_runtime::entry_files(handler.as_deref()));
                }
                None => {}
            }
        }
        paths
    }
}

/// Returns a path without `./` at its start and `/` at its end; `None` if the path is outside the
/// project's folder.
pub(super) fn below_project(path: &str) -> Option<String> {
    let path = inside(path);
    let is_below = !path.split('/').any(|part| matches!(part, "" | "." | ".."));
    is_below.then(|| path.to_owned())
}
