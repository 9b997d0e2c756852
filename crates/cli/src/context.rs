//! What a command knows of its surroundings, read once: environment, terminal, working folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use headwater_model::{ErrorCode, MAIN_BRANCH, Problem};
use headwater_server::CloudSettings;

use crate::arguments::{Arguments, Command, OutputFormat};
use crate::error::{self, Result};
use crate::lake_folder::{self, LakeFolder};
use crate::terminal::{Appearance, Style};

/// Everything a command needs besides its own arguments.
pub struct Context {
    /// `--lake`, or `HEADWATER_LAKE`.
    lake: Option<PathBuf>,
    /// Where a lake that is to be made, or served, is to keep its tables.
    pub warehouse: Option<String>,
    /// How clouds are reached.
    pub cloud: CloudSettings,
    /// How answers are printed.
    pub output: OutputFormat,
    /// Run the server inside the command.
    pub in_process: bool,
    /// Colours and signs for messages, by what standard error is.
    pub style: Style,
    /// Colours for answers, by what standard output is.
    pub answer_style: Style,
    /// Who acts.
    pub author: String,
    /// The cache folders of this user to choose from, by preference.
    pub cache: CacheFolders,
    /// Folders that hold programs, from `PATH`.
    pub program_folders: Vec<PathBuf>,
    /// Folders in which pyenv and uv keep interpreters, each in a folder of its own.
    pub interpreter_folders: Vec<PathBuf>,
    /// The folder of this binary.
    pub binary_folder: Option<PathBuf>,
}

impl Context {
    /// Reads the environment; nothing else in Headwater does.
    pub fn from_environment(arguments: &Arguments) -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let appearance = appearance(arguments);
        let path = std::env::var_os("PATH").unwrap_or_default();
        Context {
            lake: arguments.lake.clone(),
            warehouse: arguments.command.warehouse().map(str::to_owned),
            cloud: CloudSettings::new(variables()),
            output: arguments.output,
            in_process: arguments.in_process,
            style: appearance.style(&std::io::stderr()),
            answer_style: appearance.style(&std::io::stdout()),
            author: author(),
            cache: CacheFolders::from_environment(home.as_deref()),
            program_folders: std::env::split_paths(&path).collect(),
            interpreter_folders: interpreter_folders(home.as_deref()),
            binary_folder: binary_folder(),
        }
    }

    /// Refuses a form that the command's answer does not have.
    pub fn check_output(&self, command: &Command) -> Result<()> {
        let form = match self.output {
            OutputFormat::Csv => "csv",
            OutputFormat::Ndjson => "ndjson",
            OutputFormat::Json if matches!(command, Command::Demo(_)) => {
                return Err(error::invalid("`--output json` is not for `headwater demo`")
                    .with_hint("Give `--output json` to the commands that the demo prints."));
            }
            OutputFormat::Table | OutputFormat::Json => return Ok(()),
        };
        if command.answers_rows() {
            return Ok(());
        }
        let message = format!(
            "`--output {form}` is for the rows of `headwater query`, `headwater table diff` and \
             `headwater function invoke` alone"
        );
        Err(error::invalid(message).with_hint("Use `--output table` or `--output json` here."))
    }

    /// The problem as a person meets it: where it is that the active branch is gone, that is said.
    pub fn explain(&self, problem: Problem) -> Problem {
        let Ok(lake) = self.lake_folder() else { return problem };
        let active = lake.active_branch();
        let missing = problem.code == ErrorCode::RefNotFound
            && problem.context.get("ref").is_some_and(|name| *name == *active);
        if !missing || active == MAIN_BRANCH {
            return problem;
        }
        problem.with_hint(format!(
            "The active branch `{active}` is gone: run `headwater checkout {MAIN_BRANCH}`, or name \
             another with `--ref`."
        ))
    }

    /// The lake the command is about.
    pub fn lake_folder(&self) -> Result<LakeFolder> {
        match &self.lake {
            Some(folder) => lake_folder::at(folder),
            None => lake_folder::nearest(&current_folder()?),
        }
    }

    /// The same surroundings, for another lake.
    pub fn for_lake(&self, folder: PathBuf) -> Context {
        Context {
            lake: Some(folder),
            warehouse: self.warehouse.clone(),
            cloud: self.cloud.clone(),
            output: self.output,
            in_process: self.in_process,
            style: self.style,
            answer_style: self.answer_style,
            author: self.author.clone(),
            cache: self.cache.clone(),
            program_folders: self.program_folders.clone(),
            interpreter_folders: self.interpreter_folders.clone(),
            binary_folder: self.binary_folder.clone(),
        }
    }

    /// Prints a problem and says with which code the command ends.
    pub fn report(&self, problem: &Problem) -> ExitCode {
        self.style.print_problem(problem);
        if self.output == OutputFormat::Json && !crate::output::began() {
            crate::output::print_json(&serde_json::json!({ "error": problem }));
        }
        ExitCode::from(problem.code.exit_code())
    }
}

/// How output looks, by arguments and environment.
fn appearance(arguments: &Arguments) -> Appearance {
    Appearance {
        color: arguments.color,
        no_color: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
        is_dumb: std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb"),
        expanded: arguments.expanded,
    }
}

/// Where packages are kept for all lakes of a user.
#[derive(Debug, Clone)]
pub struct CacheFolders {
    /// From `XDG_CACHE_HOME`: used, or the server does not start.
    named: Option<PathBuf>,
    /// Below the home folder.
    home: Option<PathBuf>,
}

impl CacheFolders {
    fn from_environment(home: Option<&Path>) -> Self {
        // A relative path is ignored, as the XDG specification says.
        let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let named = named.filter(|folder| folder.is_absolute());
        let home = home.filter(|home| home.is_absolute() && home.is_dir());
        let home = home.map(|home| home.join(".cache"));
        CacheFolders { named, home }
    }

    /// Returns the folder for a lake's server: below the lake where this user has none that only this user
    /// can write to.
    pub fn choose(&self, lake: &Path) -> PathBuf {
        let named = self.named.as_ref().map(|folder| folder.join("headwater"));
        let of_home = || {
            let folder = self.home.as_ref()?.join("headwater");
            headwater_server::make_folder(&folder).ok()
        };
        named.or_else(of_home).unwrap_or_else(|| lake.join("cache"))
    }
}

/// Where pyenv and uv put interpreters, by their own variables or below the home folder.
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

/// The folder the command was started in.
pub fn current_folder() -> Result<PathBuf> {
    std::env::current_dir().map_err(error::from_io("find the current folder"))
}

/// The variables of the environment that are text.
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

/// The name of a user in the text of `/etc/passwd`.
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
    fn users_are_known_by_name() {
        let users = "root:x:0:0:root:/root:/bin/sh\n\n+::::::\neva:x:1000:1000::/home/eva:\n";
        assert_eq!(user_name(users, 0), Some("root"));
        assert_eq!(user_name(users, 1000), Some("eva"));
        assert_eq!(user_name(users, 7), None);
    }
}
