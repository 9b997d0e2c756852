//! The context of a command, read once: environment, terminal, working folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use headwater_model::{ErrorCode, MAIN_BRANCH, Problem};
use headwater_server::{CloudSettings, KeySource};

use crate::arguments::{Arguments, ColorArgument, Command, OutputFormat};
use crate::error::{self, Result};
use crate::lake::{Lake, RemoteLake};
use crate::lake_folder::{self, LakeFolder};
use crate::profiles::{self, ProfileFile};
use crate::terminal::{Appearance, OutputStyle};

/// The inputs of a command other than its own arguments.
#[derive(Clone)]
pub struct Context {
    /// `--lake`, or `HEADWATER_LAKE`.
    lake: Option<PathBuf>,
    /// `--profile`, or `HEADWATER_PROFILE`.
    profile: Option<String>,
    /// The profiles of the user's servers; `None` without a configuration folder.
    pub profiles: Option<ProfileFile>,
    /// The warehouse option for a new or served lake, if any.
    pub warehouse: Option<String>,
    /// Settings for cloud object stores.
    pub cloud: CloudSettings,
    /// The output format.
    pub output: OutputFormat,
    /// True to run the server inside the command.
    pub in_process: bool,
    /// The style of messages on standard error.
    pub style: OutputStyle,
    /// The style of results on standard output.
    pub answer_style: OutputStyle,
    /// The author of commits and jobs.
    pub author: String,
    /// The possible cache folders of this user.
    pub cache: CacheFolders,
    /// The folder of the user's state, such as the history of the SQL shell.
    pub state: Option<PathBuf>,
    /// The key that encrypts secrets; `None` if this user has no configuration folder.
    pub secret_key: Option<KeySource>,
    /// The folders of `PATH`.
    pub program_folders: Vec<PathBuf>,
    /// The folders into which pyenv and uv install interpreters.
    pub interpreter_folders: Vec<PathBuf>,
    /// The folder of this binary.
    pub binary_folder: Option<PathBuf>,
}

impl Context {
    /// Reads the environment variables. No other code of Headwater reads them.
    pub fn from_environment(arguments: &Arguments) -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let appearance = appearance(arguments);
        let path = std::env::var_os("PATH").unwrap_or_default();
        Context {
            lake: arguments.lake.clone(),
            profile: arguments.profile.clone(),
            profiles: config_folder(home.as_deref())
                .map(|folder| ProfileFile(folder.join("profiles.json"))),
            warehouse: arguments.command.warehouse().map(str::to_owned),
            cloud: CloudSettings::new(variables()),
            output: arguments.output,
            in_process: arguments.in_process,
            style: appearance.style(&std::io::stderr()),
            answer_style: appearance.style(&std::io::stdout()),
            author: author(),
            cache: CacheFolders::from_environment(home.as_deref()),
            state: state_folder(home.as_deref()),
            secret_key: secret_key(home.as_deref()),
            program_folders: std::env::split_paths(&path).collect(),
            interpreter_folders: interpreter_folders(home.as_deref()),
            binary_folder: binary_folder(),
        }
    }

    /// Rejects an output format that the command does not support.
    pub fn check_output(&self, command: &Command) -> Result<()> {
        let form = match self.output {
            OutputFormat::Csv => "csv",
            OutputFormat::Ndjson => "ndjson",
            OutputFormat::Json if matches!(command, Command::Demo(_)) => {
                return Err(error::invalid("`headwater demo` does not support `--output json`")
                    .with_hint("Use `--output json` with the commands that the demo prints."));
            }
            OutputFormat::Table | OutputFormat::Json => return Ok(()),
        };
        let is_lines = self.output == OutputFormat::Ndjson && command.outputs_json_lines();
        if command.outputs_rows() || is_lines {
            return Ok(());
        }
        let message = format!("this command does not support `--output {form}`");
        Err(error::invalid(message).with_hint("Use `--output table` or `--output json` here."))
    }

    /// Adds a hint to the error that the active branch does not exist.
    pub fn explain(&self, problem: Problem) -> Problem {
        let Ok(lake) = self.lake() else { return problem };
        let active = lake.active_branch();
        let missing = problem.code == ErrorCode::RefNotFound
            && problem.context.get("ref").is_some_and(|name| *name == *active);
        if !missing || active == MAIN_BRANCH {
            return problem;
        }
        problem.with_hint(format!(
            "The active branch `{active}` does not exist: run `headwater checkout {MAIN_BRANCH}`, or \
             use `--ref`."
        ))
    }

    /// Returns the lake of the command: the lake of `--profile` or `--lake`, otherwise the nearest
    /// lake in the working folder and its parents, otherwise the server of the default profile.
    pub fn lake(&self) -> Result<Lake> {
        if let Some(name) = &self.profile {
            return self.remote(Some(name))?.ok_or_else(|| profiles::missing(name));
        }
        if let Some(folder) = &self.lake {
            return lake_folder::at(folder).map(Lake::Folder);
        }
        match lake_folder::nearest(&current_folder()?) {
            Ok(folder) => Ok(Lake::Folder(folder)),
            Err(problem) => self.remote(None)?.ok_or(problem),
        }
    }

    /// Returns the lake of a command that supports only lakes on this machine.
    pub fn lake_folder(&self) -> Result<LakeFolder> {
        match self.lake()? {
            Lake::Folder(folder) => Ok(folder),
            Lake::Remote(remote) => {
                let url = &remote.profile.url;
                let name = &remote.name;
                let message = format!(
                    "profile `{name}` refers to the server `{url}`, but this command needs \
                     a lake's folder"
                );
                Err(error::invalid(message)
                    .with_hint("Run the command in the folder of a lake, or use `--lake DIR`."))
            }
        }
    }

    fn remote(&self, name: Option<&str>) -> Result<Option<Lake>> {
        let Some(file) = &self.profiles else { return Ok(None) };
        let found = file.find(name)?;
        Ok(found
            .map(|(name, profile)| Lake::Remote(RemoteLake { name, profile, file: file.clone() })))
    }

    /// Returns the same context for another lake.
    pub fn for_lake(&self, folder: PathBuf) -> Context {
        Context { lake: Some(folder), profile: None, ..self.clone() }
    }

    /// Prints a problem and returns the exit code.
    pub fn report(&self, problem: &Problem) -> ExitCode {
        self.style.print_problem(problem);
        if self.output == OutputFormat::Json && !crate::output::began() {
            crate::output::print_json(&serde_json::json!({ "error": problem }));
        }
        ExitCode::from(problem.code.exit_code())
    }
}

/// Returns the appearance settings, such as colors, from arguments and environment variables.
fn appearance(arguments: &Arguments) -> Appearance {
    Appearance {
        colors: match arguments.color {
            ColorArgument::Auto => None,
            ColorArgument::Always => Some(true),
            ColorArgument::Never => Some(false),
        },
        no_color: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
        is_dumb: std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb"),
        expanded: arguments.expanded,
    }
}

/// The cache folders that all lakes of a user share.
#[derive(Debug, Clone)]
pub struct CacheFolders {
    /// The folder in `XDG_CACHE_HOME`. If this variable is set, no other folder is used.
    named: Option<PathBuf>,
    /// The `.cache` folder in the home folder.
    home: Option<PathBuf>,
}

impl CacheFolders {
    fn from_environment(home: Option<&Path>) -> Self {
        // Ignore a relative path, as the XDG specification requires.
        let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let named = named.filter(|folder| folder.is_absolute());
        let home = home.filter(|home| home.is_absolute() && home.is_dir());
        let home = home.map(|home| home.join(".cache"));
        CacheFolders { named, home }
    }

    /// Returns the cache folder for a lake's server: the user's cache folder, or a folder in the
    /// lake if the user has no private cache folder.
    pub fn choose(&self, lake: &Path) -> PathBuf {
        let named = self.named.as_ref().map(|folder| folder.join("headwater"));
        let of_home = || {
            let folder = self.home.as_ref()?.join("headwater");
            headwater_server::make_folder(&folder).ok()
        };
        named.or_else(of_home).unwrap_or_else(|| lake.join("cache"))
    }
}

/// Returns Headwater's folder in `XDG_STATE_HOME`, or in `.local/state` of the home folder.
fn state_folder(home: Option<&Path>) -> Option<PathBuf> {
    let named = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let folder = named.filter(|folder| folder.is_absolute());
    let folder = folder.or_else(|| Some(home?.join(".local").join("state")))?;
    Some(folder.join("headwater"))
}

/// Returns the source of the key that encrypts secrets: a command, a file, or the default file in
/// the configuration folder.
fn secret_key(home: Option<&Path>) -> Option<KeySource> {
    let named = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(command) = named("HEADWATER_SECRET_KEY_COMMAND") {
        return Some(KeySource::Command(command.to_string_lossy().into_owned()));
    }
    if let Some(file) = named("HEADWATER_SECRET_KEY_FILE") {
        return Some(KeySource::File(PathBuf::from(file)));
    }
    Some(KeySource::File(config_folder(home)?.join("secret.key")))
}

/// Returns the configuration folder of the user.
fn config_folder(home: Option<&Path>) -> Option<PathBuf> {
    let named = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let folder = named.filter(|folder| folder.is_absolute());
    let folder = folder.or_else(|| Some(home?.join(".config")))?;
    Some(folder.join("headwater"))
}

/// Returns the install folders of pyenv and uv, from their environment variables or by default in
/// the home folder.
fn interpreter_folders(home: Option<&Path>) -> Vec<PathBuf> {
    let named = |variable: &str| {
        std::env::var_os(variable).filter(|folder| !folder.is_empty()).map(PathBuf::from)
    };
    let below = |folder: &str| home.map(|home| home.join(folder));
    let pyenv = named("PYENV_ROOT").or_else(|| below(".pyenv")).map(|root| root.join("versions"));
    let shared = || named("XDG_DATA_HOME").or_else(|| below(".local/share"));
    let uv = named("UV_PYTHON_INSTALL_DIR").or_else(|| Some(shared()?.join("uv").join("python")));
    pyenv.into_iter().chain(uv).collect()
}

fn binary_folder() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.to_owned())
}

/// Returns the working folder.
pub fn current_folder() -> Result<PathBuf> {
    std::env::current_dir().map_err(error::from_io("find the current folder"))
}

/// Lists the environment variables that are valid UTF-8.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn author() -> String {
    let named = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    named("HEADWATER_AUTHOR").or_else(|| named("USER")).or_else(|| named("LOGNAME")).unwrap_or_else(
        || {
            let user = rustix::process::getuid().as_raw();
            let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
            user_name(&users, user).map_or_else(|| format!("uid-{user}"), str::to_owned)
        },
    )
}

/// Looks up a user's name in the text of `/etc/passwd`.
fn user_name(users: &str, user: u32) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (!name.is_empty() && number.parse() == Ok(user)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::user_name;

    #[test]
    fn user_names_are_found_by_id() {
        let users = "root:x:0:0:root:/root:/bin/sh\n\n+::::::\neva:x:1000:1000::/home/eva:\n";
        assert_eq!(user_name(users, 0), Some("root"));
        assert_eq!(user_name(users, 1000), Some("eva"));
        assert_eq!(user_name(users, 7), None);
    }
}
