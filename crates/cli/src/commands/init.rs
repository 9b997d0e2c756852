//! `headwater init`: creates a project with a lake.

use std::path::{Path, PathBuf};

use headwater_dbt::ConvertedProject;
use headwater_model::{ErrorCode, PROJECT_FILE, Problem};

use crate::arguments::{ExampleArgument, Init, OutputFormat};
use crate::commands::init_dbt;
use crate::connect;
use crate::context::Context;
use crate::error::{self, Result};
use crate::example;
use crate::lake_folder::{LAKE_FOLDER, is_project};
use crate::output;

/// Creates the project and the lake. Keeps existing files, including those of a Bauplan project.
pub async fn init(context: &Context, arguments: &Init) -> Result<()> {
    let dbt = arguments.dbt.as_deref().map(init_dbt::convert).transpose()?;
    let folder = &arguments.folder;
    let is_new = !folder.exists();
    std::fs::create_dir_all(folder)
        .map_err(error::from_io(&format!("create the folder `{}`", folder.display())))?;
    let folder = folder.canonicalize().map_err(error::from_io("open the project's folder"))?;
    let lake = folder.join(LAKE_FOLDER);
    if lake.exists() {
        let message = format!("`{}` already has a lake", folder.display());
        return Err(Problem::new(ErrorCode::AlreadyExists, message)
            .with_hint("Use the existing lake, or choose another folder."));
    }
    let name = match &dbt {
        Some(converted) => converted.name.clone(),
        None => project_name(arguments, &folder),
    };
    let mut created = match (arguments.example, &dbt) {
        (Some(ExampleArgument::Flights), _) => example::write_flights(&folder)?,
        (None, Some(converted)) => {
            converted.write(&folder).map_err(error::from_io("write the converted project"))?
        }
        (None, None) => Vec::new(),
    };
    let is_foreign = is_project(&folder) && !folder.join(PROJECT_FILE).is_file();
    if !is_foreign {
        created.extend(make_project(&folder, &name)?);
    }
    if let Err(problem) = make_lake(context, &lake).await {
        // Remove everything new, so that the user can fix the problem and repeat the command.
        let _ = std::fs::remove_dir_all(&lake);
        created.iter().for_each(remove);
        if is_new {
            remove(&folder);
        }
        return Err(problem);
    }
    if context.output == OutputFormat::Json {
        let mut printed = serde_json::json!({ "project": folder, "name": name, "lake": lake });
        if let Some(converted) = &dbt {
            printed["dbt"] = converted.to_json();
        }
        output::print_json(&printed);
    } else if is_foreign {
        context.style.say(format!("created a lake for the project in {}", folder.display()));
        context.style.say(
            "next: import the source tables with `headwater table import`, then `headwater run`",
        );
    } else {
        context.style.say(format!("created the project {name} in {}", folder.display()));
        print_next(context, arguments, dbt.as_ref());
    }
    Ok(())
}

/// Prints the next commands for the new project.
fn print_next(context: &Context, arguments: &Init, dbt: Option<&ConvertedProject>) {
    if let Some(converted) = dbt {
        init_dbt::print(context, converted);
    } else if arguments.example.is_none() {
        context.style.say("next: import files with `headwater table import NAME FILES`,");
        context.style.say("      write models/NAME.sql or models/NAME.py, then `headwater run`");
    }
}

/// Creates the lake's folder and starts its server once, which initializes the lake.
async fn make_lake(context: &Context, lake: &Path) -> Result<()> {
    std::fs::create_dir_all(lake).map_err(error::from_io("create the lake's folder"))?;
    let inside = context.for_lake(lake.to_owned());
    connect::connect(&inside).await?.close().await;
    Ok(())
}

/// Creates the project's missing files and its models folder. Returns the new paths.
fn make_project(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let models = folder.join("models");
    let mut made = Vec::new();
    if !models.exists() {
        std::fs::create_dir(&models)
            .map_err(error::from_io(&format!("create the folder `{}`", models.display())))?;
        made.push(models);
    }
    let files =
        [(PROJECT_FILE, &*project_file(name)), (".gitignore", ".headwater/\n__pycache__/\n")];
    for (file, text) in files {
        let path = folder.join(file);
        if !path.exists() {
            write_new(&path, text)?;
            made.push(path);
        }
    }
    Ok(made)
}

/// Removes a file or an empty folder; ignores errors.
fn remove(path: &PathBuf) {
    let _ = if path.is_dir() { std::fs::remove_dir(path) } else { std::fs::remove_file(path) };
}

fn project_name(arguments: &Init, folder: &Path) -> String {
    if arguments.example.is_some() {
        return example::FLIGHTS_NAME.to_owned();
    }
    let folder_name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
    arguments.name.clone().or(folder_name).unwrap_or_else(|| "project".to_owned())
}

/// Writes a file if it does not exist.
pub fn write_new(path: &Path, text: &str) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    std::fs::write(path, text)
        .map_err(error::from_io(&format!("write the file `{}`", path.display())))
}

fn project_file(name: &str) -> String {
    // JSON strings are valid TOML basic strings.
    let name = serde_json::Value::from(name);
    format!(
        r#"# A Headwater project. Models are SQL and Python files in this folder or in models/.
[project]
name = {name}

# [defaults]                 # settings of models that do not override them
# python = "3.12"           # default: the first Python on the path
# memory = "1GiB"
# timeout = "10min"

# [parameters.minimum]       # `$minimum` in SQL, `headwater.Parameter("minimum")` in Python
# type = "int"
# default = 10

# [[trigger]]                # active after `headwater deploy`; see docs/triggers.md
# name = "landing"
# files = {{ folder = "landing", pattern = "*.csv" }}
# import = {{ table = "events" }}
# run = true
"#
    )
}
