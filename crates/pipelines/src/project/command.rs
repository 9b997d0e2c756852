//! Functions in other languages than Python: programs that the project file declares.
//!
//! ```toml
//! [functions.upper]
//! command = ["node", "upper.js"]
//! ```
//!
//! The Python worker of a sandbox starts the program as a child process, with the limits of a
//! function in Python. For this, a small module is added to the files of the sandbox.

use std::collections::BTreeMap;

use headwater_functions::Network;
use headwater_model::{Fault, FunctionArgument, Priority};
use serde::Deserialize;
use toml::Spanned;

use super::Callable;
use super::callable::check_name;
use super::manifest::{duration, size};
use crate::source::SourceText;
use crate::{Error, Function, Location, Result};

/// The folder of the modules that start programs.
const FOLDER: &str = ".headwater/functions";

/// The only argument of such a function.
const EVENT: &str = "event";

/// A program as a function, in the project file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CommandTable {
    /// The program and its arguments.
    command: Vec<String>,
    /// More files and folders of the project that it needs.
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
}

/// The network access of a program: all, none, or some hosts.
#[derive(Deserialize)]
#[serde(untagged)]
enum NetworkSetting {
    All(bool),
    Hosts(Vec<String>),
}

/// A function that is a program.
pub(super) struct CommandFunction {
    pub callable: Callable,
    /// The module that starts it.
    pub module: String,
}

/// Reads the declaration of a function. `files` are those of the project.
pub(super) fn read(
    source: &SourceText<'_>,
    name: &str,
    table: Spanned<CommandTable>,
    files: &BTreeMap<String, String>,
) -> Result<CommandFunction> {
    let at = source.at(table.span().start);
    let table = table.into_inner();
    check_name(name, &at)?;
    check_program(&table.command, files, &at)?;
    check_files(&table.files, files, &at)?;
    let memory_bytes = table.memory.as_ref().map(|text| size(source, text)).transpose()?;
    let timeout = table.timeout.as_ref().map(|text| duration(source, text)).transpose()?;
    let command = serde_json::to_string(&table.command).unwrap_or_default();
    let module = format!(
        "from headwater.command import run\n\n\ndef call(event=None):\n    return run({command}, event)\n"
    );
    let function = function(name, table, &module, &at)?;
    let callable = Callable {
        name: name.to_owned(),
        at,
        arguments: vec![FunctionArgument { name: EVENT.to_owned(), required: false }],
        memory_bytes,
        timeout,
        // Each call starts the program again, so the worker keeps nothing of a call.
        reuse: function.network.is_off(),
        function,
    };
    Ok(CommandFunction { callable, module })
}

fn function(name: &str, table: CommandTable, module: &str, at: &Location) -> Result<Function> {
    for secret in &table.secrets {
        headwater_secrets::check_name(secret).map_err(|error| Error::Invalid {
            at: at.clone(),
            message: error.to_string(),
            hint: error.hint(),
        })?;
        if table.env.contains_key(secret) {
            let message = format!("`{secret}` is both in `env` and in `secrets`");
            return Err(Error::invalid(at.clone(), message, "Remove it from `env`."));
        }
    }
    // A missing program is reported before the call, with its package.
    let is_file = |program: &String| program.contains('/');
    let program = table.command.into_iter().take(1).filter(|program| !is_file(program));
    let system = program.chain(table.system).collect();
    Ok(Function {
        file: format!("{FOLDER}/{name}.py").into(),
        name: "call".to_owned(),
        python: None,
        python_at: None,
        packages: Some(BTreeMap::new()),
        system: Some(system),
        network: network(table.network, at)?,
        temp_bytes: None,
        cpu_millis: None,
        variables: table.env.into(),
        secrets: table.secrets,
        priority: table.priority,
        code: module.into(),
    })
}

fn network(setting: Option<NetworkSetting>, at: &Location) -> Result<Network> {
    let hosts = match setting {
        None | Some(NetworkSetting::All(false)) => return Ok(Network::Off),
        Some(NetworkSetting::All(true)) => return Ok(Network::On),
        Some(NetworkSetting::Hosts(hosts)) => hosts,
    };
    let parse = |host: &String| {
        host.parse().map_err(|_| {
            let message = format!("`{host}` is not a host");
            Error::invalid(at.clone(), message, "Write hosts as in `[\"api.example.com:443\"]`.")
        })
    };
    Ok(Network::Hosts(hosts.iter().map(parse).collect::<Result<_>>()?))
}

/// Rejects a command without a program, and a program that is not among the project's files.
fn check_program(
    command: &[String],
    files: &BTreeMap<String, String>,
    at: &Location,
) -> Result<()> {
    let Some(program) = command.first().filter(|program| !program.is_empty()) else {
        let hint = "Write the program and its arguments: `command = [\"node\", \"upper.js\"]`.";
        return Err(Error::invalid(at.clone(), "`command` names no program", hint));
    };
    if command.iter().any(|word| word.contains('\0')) {
        let message = "`command` contains a NUL character";
        return Err(Error::invalid(at.clone(), message, "Remove it."));
    }
    // A name without `/` is looked up in PATH.
    if !program.contains('/') || program.starts_with('/') || files.contains_key(inside(program)) {
        return Ok(());
    }
    let message = format!("the project has no file `{program}`");
    Err(Error::invalid(at.clone(), message, "Write its path from the project's folder."))
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
            let hint = "Write its path from the project's folder.";
            Err(Error::invalid(at.clone(), message, hint))
        }
    }
}

/// Returns a path as the project's files are named.
fn inside(path: &str) -> &str {
    path.trim_start_matches("./").trim_end_matches('/')
}

/// Paths in the functions of a project file, relative to the project's folder.
#[derive(Debug, Default)]
pub struct CommandPaths {
    /// The words of commands, of which some are files.
    pub words: Vec<String>,
    /// Files and folders.
    pub files: Vec<String>,
}

impl CommandPaths {
    /// Reads a project file. Returns nothing if it has errors, which parsing the project reports.
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
            #[serde(default)]
            files: Vec<String>,
        }
        let mut paths = CommandPaths::default();
        let Ok(commands) = toml::from_str::<Commands>(project_file) else { return paths };
        for Command { command, files } in commands.functions.into_values() {
            paths.words.extend(command.iter().filter_map(|word| below_project(word)));
            paths.files.extend(files.iter().filter_map(|path| below_project(path)));
        }
        paths
    }
}

/// Returns a path as the project's files are named; none if it is not below the project's folder.
fn below_project(path: &str) -> Option<String> {
    let path = inside(path);
    let is_below = !path.split('/').any(|part| matches!(part, "" | "." | ".."));
    is_below.then(|| path.to_owned())
}
