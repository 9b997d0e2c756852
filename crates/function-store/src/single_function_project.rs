//! A project that contains only one function: its declaration, and its files in one folder.
//!
//! The project is parsed and called like a project that a user writes. The files are in a separate
//! folder, so that no file of the function is read as a project file or an SQL model, for example.

use std::collections::BTreeMap;

use headwater_model::{FunctionSettings, PROJECT_FILE, ProjectFiles};
use serde::Serialize;

use crate::{Error, Result, check_handler, requirements};

/// The folder with the function's files. In the sandbox, `/opt` is a link to the subfolder `opt` of
/// this folder.
const FOLDER: &str = "code";

/// The host pattern that matches all hosts.
const EVERY_HOST: &str = "*";

#[derive(Serialize)]
struct Manifest<'a> {
    project: ProjectSection<'a>,
    functions: BTreeMap<&'a str, FunctionSection<'a>>,
}

#[derive(Serialize)]
struct ProjectSection<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct FunctionSection<'a> {
    runtime: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    handler: Option<&'a str>,
    folder: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    secrets: &'a [String],
    system: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<NetworkAccess<'a>>,
    env: &'a BTreeMap<String, String>,
    packages: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum NetworkAccess<'a> {
    All(bool),
    Hosts(&'a [String]),
}

/// Returns the project that contains one function.
///
/// Errors: `invalid_argument` for a handler without a file, a timeout of zero, or an invalid
/// `requirements.txt`.
pub fn project_files(
    name: &str,
    settings: &FunctionSettings,
    files: ProjectFiles,
) -> Result<ProjectFiles> {
    check_handler(settings, &files)?;
    if settings.timeout_ms == Some(0) {
        return Err(Error::invalid("the timeout is 0 ms", "Write a longer timeout, such as `30s`"));
    }
    let requirements = files.get(requirements::FILE).map(headwater_model::FileContent::text);
    let is_python = settings.runtime.starts_with("python");
    let packages = match requirements.filter(|_| is_python) {
        Some(text) => requirements::parse(text)?,
        None => BTreeMap::new(),
    };
    let network = match settings.network.as_slice() {
        [] => None,
        hosts if hosts.iter().any(|host| host == EVERY_HOST) => Some(NetworkAccess::All(true)),
        hosts => Some(NetworkAccess::Hosts(hosts)),
    };
    let function = FunctionSection {
        runtime: &settings.runtime,
        handler: settings.handler.as_deref(),
        folder: FOLDER,
        memory: settings.memory_bytes.map(|bytes| format!("{bytes}B")),
        timeout: settings.timeout_ms.map(|milliseconds| format!("{milliseconds}ms")),
        secrets: &settings.secrets,
        system: &settings.system,
        network,
        env: &settings.env,
        packages,
    };
    let functions = BTreeMap::from([(name, function)]);
    let manifest = Manifest { project: ProjectSection { name }, functions };
    let manifest = toml::to_string(&manifest)
        .map_err(|error| Error::invalid(error.to_string(), "Change the settings"))?;
    let below = |(path, file)| (format!("{FOLDER}/{path}"), file);
    let mut project: ProjectFiles = files.into_iter().map(below).collect();
    project.insert(PROJECT_FILE.to_owned(), manifest.into());
    Ok(project)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_of_zero_is_rejected() {
        let files = ProjectFiles::from([("app.py".to_owned(), "text".into())]);
        let settings = FunctionSettings {
            runtime: "python3.11".to_owned(),
            handler: Some("app.handler".to_owned()),
            timeout_ms: Some(0),
            ..FunctionSettings::default()
        };
        let error = project_files("f", &settings, files).expect_err("no time");
        assert_eq!(error.to_string(), "the timeout is 0 ms");
    }

    #[test]
    fn the_project_declares_the_function_and_no_file_of_it_is_a_part() {
        let files = ["app.py", PROJECT_FILE, "models/a.sql"].map(|path| (path, "text"));
        let mut files: ProjectFiles =
            files.map(|(path, text)| (path.to_owned(), text.into())).into();
        files.insert("requirements.txt".to_owned(), "six>=1\n".into());
        let settings = FunctionSettings {
            runtime: "python3.11".to_owned(),
            handler: Some("app.handler".to_owned()),
            memory_bytes: Some(256 << 20),
            timeout_ms: Some(1_500),
            env: BTreeMap::from([("A".to_owned(), "\"]\n[functions.evil]".to_owned())]),
            network: vec!["example.com:443".to_owned()],
            ..FunctionSettings::default()
        };
        let project = project_files("a.b", &settings, files).expect("a project");
        let names: Vec<&str> = project.keys().map(String::as_str).collect();
        let expected =
            ["code/app.py", "code/headwater.toml", "code/models/a.sql", "code/requirements.txt"];
        assert_eq!(names[..4], expected);
        let manifest: toml::Table =
            toml::from_str(project[PROJECT_FILE].text()).expect("a manifest");
        let functions = manifest["functions"].as_table().expect("functions");
        assert_eq!(functions.len(), 1);
        let function = functions["a.b"].as_table().expect("a function");
        assert_eq!(function["memory"].as_str(), Some("268435456B"));
        assert_eq!(function["timeout"].as_str(), Some("1500ms"));
        assert_eq!(function["packages"]["six"].as_str(), Some(">=1"));
    }
}
