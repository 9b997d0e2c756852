//! The program `uv`, which resolves and installs packages: found on the host, or fetched once.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use headwater_sandbox::Spawner;
use uuid::Uuid;

use crate::environments::{BUILDING, ProgressCallback};
use crate::interpreter::{self, Interpreter};
use crate::path_ownership;
use crate::requirement::{VERSION_HINT, normalize};
use crate::subprocess::{self, SubprocessOutput};
use crate::{EnvironmentEvent, Error, Result};

/// The `uv` program.
#[derive(Debug, Clone)]
pub(crate) struct Uv {
    program: PathBuf,
    cache: PathBuf,
    /// If true, the newest versions are resolved, and the cache is refreshed.
    newest: bool,
}

impl Uv {
    /// Locates `uv` on the host or in the tools folder; fetches it from PyPI if missing.
    pub(crate) async fn find(
        spawner: &Spawner,
        search: &[PathBuf],
        tools: &Path,
        cache: PathBuf,
        on_progress: ProgressCallback<'_>,
    ) -> Result<Self> {
        let fetched = tools.join("uv").join("bin").join("uv");
        let own = search.iter().filter(|folder| !folder.ends_with("shims"));
        let mut places = own.map(|folder| folder.join("uv")).chain([fetched.clone()]);
        let usable = |path: &PathBuf| executable(path) && is_safe(path);
        if let Some(program) = places.find(usable) {
            return Ok(Uv { program, cache, newest: false });
        }
        on_progress(EnvironmentEvent::FetchingUv);
        fetch(spawner, &interpreter::all(search), tools).await?;
        Ok(Uv { program: fetched, cache, newest: false })
    }

    /// Returns a `uv` that resolves the newest versions.
    pub(crate) fn newest(self) -> Uv {
        Uv { newest: true, ..self }
    }

    /// Resolves versions; `input` and `output` are requirements files.
    pub(crate) async fn resolve(
        &self,
        spawner: &Spawner,
        interpreter: &Interpreter,
        input: &Path,
        output: &Path,
    ) -> Result<()> {
        let python = interpreter.path.to_string_lossy();
        let (input, output) = (input.to_string_lossy(), output.to_string_lossy());
        let arguments = [
            "pip",
            "compile",
            &*input,
            "--output-file",
            &*output,
            "--python",
            &*python,
            "--no-header",
            "--no-annotate",
            "--only-binary",
            ":all:",
        ];
        if self.newest {
            let arguments = [&arguments[..], &["--upgrade", "--refresh"]].concat();
            let output = self.run(spawner, &arguments, false).await?;
            return if output.success { Ok(()) } else { Err(failed(&output)) };
        }
        self.offline_first(spawner, &arguments).await
    }

    /// Creates an empty environment. Packages may be installed into its folder concurrently.
    pub(crate) async fn create(
        &self,
        spawner: &Spawner,
        interpreter: &Interpreter,
        folder: &Path,
    ) -> Result<()> {
        let (python, folder) = (interpreter.path.to_string_lossy(), folder.to_string_lossy());
        let arguments = [
            "venv",
            "--relocatable",
            "--allow-existing",
            "--no-project",
            "--python",
            &*python,
            &*folder,
        ];
        let output = self.run(spawner, &arguments, true).await?;
        if output.success { Ok(()) } else { Err(failed(&output)) }
    }

    /// Resolves and installs a requirements file from the cache. Returns false if the cache lacks a
    /// package, or if the newest versions are requested.
    pub(crate) async fn install_cached(
        &self,
        spawner: &Spawner,
        interpreter: &Interpreter,
        folder: &Path,
        requirements: &Path,
    ) -> Result<bool> {
        if self.newest {
            return Ok(false);
        }
        let file = requirements.to_string_lossy();
        let target = InstallTarget::new(interpreter, folder);
        let arguments = [&["pip", "install", "-r", &*file], &target.arguments()[..]];
        Ok(self.run(spawner, &arguments.concat(), true).await?.success)
    }

    /// Installs a resolved requirements file.
    pub(crate) async fn install(
        &self,
        spawner: &Spawner,
        interpreter: &Interpreter,
        folder: &Path,
        requirements: &Path,
    ) -> Result<()> {
        let file = requirements.to_string_lossy();
        let target = InstallTarget::new(interpreter, folder);
        let arguments = ["pip", "sync", &*file, "--allow-empty-requirements"];
        self.offline_first(spawner, &[&arguments, &target.arguments()[..]].concat()).await
    }

    /// Runs `uv` without the network first. This takes milliseconds if the cache contains all
    /// packages.
    async fn offline_first(&self, spawner: &Spawner, arguments: &[&str]) -> Result<()> {
        if self.run(spawner, arguments, true).await?.success {
            return Ok(());
        }
        let output = self.run(spawner, arguments, false).await?;
        if output.success { Ok(()) } else { Err(failed(&output)) }
    }

    async fn run(
        &self,
        spawner: &Spawner,
        arguments: &[&str],
        offline: bool,
    ) -> Result<SubprocessOutput> {
        let mut command = vec![self.program.to_string_lossy().into_owned()];
        command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        command.extend(["--no-progress", "--color", "never"].map(str::to_owned));
        if offline {
            command.push("--offline".to_owned());
        }
        let cache = self.cache.to_string_lossy().into_owned();
        let variables = [("UV_CACHE_DIR", cache.as_str()), ("UV_PYTHON_DOWNLOADS", "never")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        subprocess::run(spawner, command, variables.to_vec(), false).await
    }
}

/// Target of an installation: a folder, which uv treats as the prefix of the host's interpreter.
/// With the interpreter of the new environment as target, uv would have to run this interpreter
/// first.
struct InstallTarget {
    python: String,
    folder: String,
}

impl InstallTarget {
    fn new(interpreter: &Interpreter, folder: &Path) -> Self {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        InstallTarget { python: text(&interpreter.path), folder: text(folder) }
    }

    fn arguments(&self) -> [&str; 8] {
        let InstallTarget { python, folder } = self;
        [
            "--prefix",
            folder,
            "--python",
            python,
            "--link-mode",
            "hardlink",
            "--only-binary",
            ":all:",
        ]
    }
}

pub(crate) fn executable(path: &Path) -> bool {
    let mode = path.metadata().ok().filter(std::fs::Metadata::is_file);
    mode.is_some_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}

/// Returns true if no other user can replace a program.
fn is_safe(program: &Path) -> bool {
    let resolved = path_ownership::resolve(program);
    let warn =
        |refused: &path_ownership::UntrustedReason| tracing::warn!("uv is not trusted: {refused}");
    resolved.inspect_err(warn).is_ok()
}

/// Fetches `uv` with the pip of the first interpreter that succeeds.
async fn fetch(spawner: &Spawner, interpreters: &[Interpreter], tools: &Path) -> Result<()> {
    std::fs::create_dir_all(tools).map_err(Error::io("create the tools folder"))?;
    let mut last = "the download needs Python 3.8 or later, which is not installed".to_owned();
    let usable = |one: &&Interpreter| one.minor >= 8 && one.check().is_ok();
    for interpreter in interpreters.iter().filter(usable) {
        let folder = tools.join(format!(".uv-{}", Uuid::new_v4().simple()));
        let python = interpreter.path.to_string_lossy().into_owned();
        let target = folder.to_string_lossy().into_owned();
        let command = [
            &*python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-input",
            "--disable-pip-version-check",
            "--target",
            &*target,
            "uv",
        ];
        let command = command.map(str::to_owned).to_vec();
        let output = subprocess::run(spawner, command, Vec::new(), false).await?;
        let program = folder.join("bin").join("uv");
        // The rename fails if another server has fetched `uv` concurrently. In this case, use its
        // `uv`.
        let placed = output.success
            && executable(&program)
            && (std::fs::rename(&folder, tools.join("uv")).is_ok()
                || is_safe(&tools.join("uv/bin/uv")));
        let _ = std::fs::remove_dir_all(&folder);
        if placed {
            return Ok(());
        }
        let mut lines = output.text.lines().filter(|line| !line.trim().is_empty());
        last = lines.next_back().map_or(last, str::to_owned);
    }
    Err(Error::failed(
        format!("cannot fetch uv from PyPI: {}", last.trim()),
        "Install uv (https://docs.astral.sh/uv) so that it is on the path, or check the network.",
    ))
}

/// Returns the error for a failed run of `uv`.
fn failed(output: &SubprocessOutput) -> Error {
    let message = without_paths(&trim(&output.text));
    let message =
        if message.is_empty() { format!("uv: {}", output.exit.describe()) } else { message };
    let hint = hint(&message);
    Error::failed(message, hint)
}

/// Replaces the quoted paths of files of a build, which do not exist after the build.
fn without_paths(message: &str) -> String {
    let quoted = |(at, part): (usize, &str)| {
        let is_path = at % 2 == 1 && part.contains(BUILDING);
        if is_path { "packages".to_owned() } else { part.to_owned() }
    };
    message.split('`').enumerate().map(quoted).collect::<Vec<_>>().join("`")
}

/// Converts the error tree that uv prints into one line.
fn trim(text: &str) -> String {
    let mut message = String::new();
    for line in text.lines() {
        let line = line.trim().trim_start_matches(['×', '╰', '├', '─', '▶', '│', ' ']);
        let line = line.strip_prefix("error: ").unwrap_or(line).trim();
        let noise = ["warning:", "Using ", "Resolved ", "hint:", "Creating ", "Activate "];
        if line.is_empty() || noise.iter().any(|one| line.starts_with(one)) {
            continue;
        }
        if !message.is_empty() {
            message.push_str(if line.starts_with("cause: ") { ": " } else { " " });
        }
        message.push_str(line.strip_prefix("cause: ").unwrap_or(line));
        if message.len() > 2000 {
            break;
        }
    }
    let found = message.strip_prefix("No solution found when resolving dependencies: ");
    let message = found.unwrap_or(&message).to_owned();
    let mut letters = message.chars();
    match letters.next() {
        Some(first) => {
            let rest = letters.as_str();
            format!("{}{}", first.to_lowercase(), rest.strip_suffix('.').unwrap_or(rest))
        }
        None => message,
    }
}

fn hint(message: &str) -> &'static str {
    let any = |all: &[&str]| all.iter().any(|one| message.contains(one));
    if any(&["not found in the package registry", "was not found in the cache"]) {
        "Check the spelling of the package's name."
    } else if any(&["parse requirement"]) {
        VERSION_HINT
    } else if any(&["dns error", "onnect", "timed out", "ailed to fetch", "ailed to download"]) {
        "Check the network, and that PyPI or the configured index can be reached."
    } else if any(&["No space left", "os error 28"]) {
        "Free space on the disk that holds the environments."
    } else if any(&["no wheels", "no usable wheels", "building", "source distribution"]) {
        "Request a version that has a wheel for this Python; packages are not built from source."
    } else if any(&["no version", "there are no versions", "only "]) {
        "Request a version that exists and is compatible with the other packages."
    } else {
        "Relax the version of one of the packages."
    }
}

/// Parses a resolved requirements file: version by package.
pub(crate) fn resolved(lock: &str) -> std::collections::BTreeMap<String, String> {
    let lines = lock.lines().filter_map(|line| line.split(';').next()?.trim().split_once("=="));
    lines.map(|(name, version)| (normalize(name.trim()), version.trim().to_owned())).collect()
}

/// Returns the packages in a folder: version by package.
pub(crate) fn installed(packages: &Path) -> std::collections::BTreeMap<String, String> {
    let entries = std::fs::read_dir(packages).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let version = |name: String| {
        let (name, version) = name.strip_suffix(".dist-info")?.split_once('-')?;
        Some((normalize(name), version.to_owned()))
    };
    names.filter_map(version).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_uv_become_one_line() {
        let text = "  × No solution found when resolving dependencies:\n  ╰─▶ Because nosuch was \
                    not found in the package registry and you require nosuch, we can\n      conclude \
                    that your requirements are unsatisfiable.\n";
        let message = trim(text);
        assert_eq!(
            message,
            "because nosuch was not found in the package registry and you require nosuch, we can \
             conclude that your requirements are unsatisfiable"
        );
        assert_eq!(hint(&message), "Check the spelling of the package's name.");
        let text = "error: No solution found when resolving dependencies\n  cause: Because only \
                    numpy<=2.5 is available and you require\n      numpy==99, we can conclude.\n";
        let message =
            "because only numpy<=2.5 is available and you require numpy==99, we can conclude";
        assert_eq!(trim(text), message);
    }

    #[test]
    fn an_error_names_no_file_of_the_build() {
        let text = "error: Couldn't parse requirement in `/lake/environments/.building-1-2-3in` at \
                    position 0\n  cause: no such comparison operator \"=>\"\n";
        let message = without_paths(&trim(text));
        assert_eq!(
            message,
            "couldn't parse requirement in `packages` at position 0: no such comparison operator \
             \"=>\""
        );
        assert_eq!(hint(&message), VERSION_HINT);
    }

    #[test]
    fn a_lock_lists_versions() {
        let lock = "numpy==2.4.6\npolars-runtime-32==2.1.0 ; python_version >= '3.10'\n# note\n";
        let found = resolved(lock);
        assert_eq!(found["polars-runtime-32"], "2.1.0");
        assert_eq!(found.len(), 2);
    }
}
