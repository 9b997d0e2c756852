//! What a command knows of its surroundings, read once: environment, terminal, working folder.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use headwater_model::Problem;

use crate::arguments::{Arguments, OutputFormat};
use crate::error::{self, Result};
use crate::lake_folder::{self, LakeFolder};
use crate::terminal::Style;

/// Everything a command needs besides its own arguments.
pub struct Context {
    /// `--lake`, or `HEADWATER_LAKE`.
    lake: Option<PathBuf>,
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
    /// Where packages are kept for all lakes of this person.
    pub cache_folder: PathBuf,
    /// Folders that hold programs, from `PATH`.
    pub program_folders: Vec<PathBuf>,
    /// This person's home folder.
    pub home: Option<PathBuf>,
}

impl Context {
    /// Reads the environment; nothing else in Headwater does.
    pub fn from_environment(arguments: &Arguments) -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| home.as_ref().map(|home| home.join(".cache")));
        let path = std::env::var_os("PATH").unwrap_or_default();
        Context {
            lake: arguments.lake.clone(),
            output: arguments.output,
            in_process: arguments.in_process,
            style: Style::new(std::io::stderr().is_terminal(), no_color),
            answer_style: Style::new(std::io::stdout().is_terminal(), no_color),
            author: author(),
            cache_folder: cache.unwrap_or_else(std::env::temp_dir).join("headwater"),
            program_folders: std::env::split_paths(&path).collect(),
            home,
        }
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
            output: self.output,
            in_process: self.in_process,
            style: self.style,
            answer_style: self.answer_style,
            author: self.author.clone(),
            cache_folder: self.cache_folder.clone(),
            program_folders: self.program_folders.clone(),
            home: self.home.clone(),
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

/// The folder the command was started in.
pub fn current_folder() -> Result<PathBuf> {
    std::env::current_dir().map_err(error::from_io("find the current folder"))
}

fn author() -> String {
    let named = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    named("HEADWATER_AUTHOR")
        .or_else(|| named("USER"))
        .or_else(|| named("LOGNAME"))
        .unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()))
}
