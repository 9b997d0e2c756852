//! Python interpreters of the host, found without starting them.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::path_ownership::{self, UntrustedReason};
use crate::{Error, Result};

/// The oldest supported minor version of Python 3.
const MINOR_MIN: u32 = 10;

/// A Python interpreter of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interpreter {
    /// The file, without symbolic links.
    pub(crate) path: PathBuf,
    /// The minor version.
    pub(crate) minor: u32,
    /// The patch version, if the folder's name contains it.
    patch: Option<u32>,
    /// The patch version that was requested, if any.
    asked: Option<u32>,
}

impl Interpreter {
    /// Checks that no other user can replace the interpreter or its standard library.
    pub(crate) fn check(&self) -> Result<(), UntrustedReason> {
        path_ownership::resolve(&self.path)?;
        let Some(prefix) = prefix_of(&self.path) else { return Ok(()) };
        let libraries = ["lib", "lib64"].map(|part| prefix.join(part).join(self.folder()));
        let libraries = libraries.iter().filter(|library| library.exists());
        libraries.into_iter().try_for_each(|library| path_ownership::resolve(library).map(drop))
    }

    /// Returns the name of the interpreter's library folder: `python3.11`.
    fn folder(&self) -> String {
        format!("python3.{}", self.minor)
    }

    /// Returns the version without the patch version: `3.11`.
    pub(crate) fn short(&self) -> String {
        format!("3.{}", self.minor)
    }

    /// Returns the version that identifies an environment: `3.11`, or `3.11.7` if the patch version
    /// was requested.
    pub(crate) fn wanted(&self) -> String {
        self.with(self.asked)
    }

    fn version(&self) -> String {
        self.with(self.patch_version())
    }

    fn with(&self, patch: Option<u32>) -> String {
        patch.map_or_else(|| self.short(), |patch| format!("3.{}.{patch}", self.minor))
    }

    /// Returns the patch version, from the binary if the folder's name does not contain it.
    fn patch_version(&self) -> Option<u32> {
        let library = || {
            let name = format!("libpython3.{}.so.1.0", self.minor);
            prefix_of(&self.path).map(|prefix| prefix.join("lib").join(name))
        };
        let within = |file: &Path| patch_of(file, self.minor);
        self.patch.or_else(|| within(&self.path)).or_else(|| within(&library()?))
    }
}

/// Returns the patch version of a binary. A binary is read again only if its modification time has
/// changed.
fn patch_of(program: &Path, minor: u32) -> Option<u32> {
    type PatchVersions = HashMap<PathBuf, (SystemTime, Option<u32>)>;
    static KNOWN: LazyLock<Mutex<PatchVersions>> = LazyLock::new(Mutex::default);
    let changed = fs::metadata(program).ok()?.modified().ok()?;
    let known = KNOWN.lock().get(program).copied();
    if let Some((_, patch)) = known.filter(|(of, _)| *of == changed) {
        return patch;
    }
    let patch = patch_within(&fs::read(program).ok()?, minor);
    KNOWN.lock().insert(program.to_owned(), (changed, patch));
    patch
}

/// Searches a Python binary or library for its version text, such as `3.11.7`.
fn patch_within(program: &[u8], minor: u32) -> Option<u32> {
    let before = format!("\x003.{minor}.");
    memchr::memmem::find_iter(program, &before).find_map(|at| {
        let text = &program[at + before.len()..];
        let end = text.iter().position(|byte| !byte.is_ascii_digit())?;
        let is_whole = matches!(text[end], 0 | b'+');
        let patch = std::str::from_utf8(&text[..end]).ok()?.parse().ok()?;
        is_whole.then_some(patch)
    })
}

/// Returns the interpreter for a version such as `3`, `3.11` or `3.11.7`; without a version, the
/// first interpreter from 3.10 on.
pub(crate) fn find(search: &[PathBuf], wanted: Option<&str>) -> Result<Interpreter> {
    let wanted = wanted.map(str::trim).filter(|wanted| !wanted.is_empty());
    let (minor, patch) = match wanted {
        Some(wanted) => parse(wanted).ok_or_else(|| {
            Error::failed(
                format!("`{wanted}` is not a valid Python version"),
                "Write a version such as `3.11`.",
            )
        })?,
        None => (None, None),
    };
    if let Some(minor) = minor.filter(|minor| *minor < MINOR_MIN) {
        return Err(Error::failed(
            format!("Python `3.{minor}` is too old"),
            format!("Ask for Python 3.{MINOR_MIN} or newer."),
        ));
    }
    let fits = |one: &Interpreter| {
        one.minor >= MINOR_MIN
            && minor.is_none_or(|minor| one.minor == minor)
            && patch.is_none_or(|patch| one.patch_version() == Some(patch))
    };
    let mut refused = None;
    for one in candidates(search).filter(fits) {
        match one.check() {
            Ok(()) => return Ok(Interpreter { asked: patch, ..one }),
            Err(why) => refused = refused.or(Some((one.path, why))),
        }
    }
    Err(refused.map_or_else(
        || not_found(wanted, &all(search)),
        |(path, why)| {
            Error::failed(
                format!("the Python interpreter `{}` is not trusted: {why}", path.display()),
                "Install Python in a folder that only root and you can write to.",
            )
        },
    ))
}

fn not_found(wanted: Option<&str>, found: &[Interpreter]) -> Error {
    let usable = found.iter().filter(|one| one.minor >= MINOR_MIN);
    let mut versions: Vec<_> =
        usable.map(|one| (one.minor, one.patch_version(), one.version())).collect();
    versions.sort();
    versions.dedup();
    Error::PythonNotFound {
        wanted: wanted.unwrap_or("3.10 or newer").to_owned(),
        found: versions.into_iter().map(|(_, _, version)| version).collect(),
    }
}

/// Parses the minor and patch version: `3.11.7` becomes (11, 7).
fn parse(version: &str) -> Option<(Option<u32>, Option<u32>)> {
    let mut parts = version.split('.');
    if parts.next() != Some("3") {
        return None;
    }
    let numbers: Vec<u32> = parts.map(|part| part.parse().ok()).collect::<Option<_>>()?;
    (numbers.len() <= 2).then(|| (numbers.first().copied(), numbers.get(1).copied()))
}

/// Returns all interpreters in the folders, in order, without duplicates.
pub(crate) fn all(search: &[PathBuf]) -> Vec<Interpreter> {
    let mut found: Vec<Interpreter> = Vec::new();
    for interpreter in candidates(search) {
        if !found.iter().any(|one| one.path == interpreter.path) {
            found.push(interpreter);
        }
    }
    found
}

/// Yields the interpreters in the folders, in order. The same interpreter may occur several times.
/// A folder is read when the iterator reaches it, because the first folder usually contains the
/// wanted interpreter.
fn candidates(search: &[PathBuf]) -> impl Iterator<Item = Interpreter> {
    search.iter().flat_map(|folder| folders(folder)).flat_map(inside)
}

/// Returns the folders that a search folder represents. A folder of pyenv's shims represents the
/// installed versions: first the version that the user selected, then the others, newest first.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let Some(home) = folder.parent().filter(|_| folder.ends_with("shims")) else {
        return vec![folder.to_owned()];
    };
    let chosen = fs::read_to_string(home.join("version")).unwrap_or_default();
    let chosen: Vec<&str> = chosen.split_whitespace().collect();
    let entries = fs::read_dir(home.join("versions")).into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    versions.sort_by_key(|path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        let rank = chosen.iter().position(|one| *one == name).unwrap_or(usize::MAX);
        let numbers: Vec<u32> = name.split('.').filter_map(|part| part.parse().ok()).collect();
        (rank, Reverse(numbers))
    });
    versions.into_iter().map(|path| path.join("bin")).collect()
}

/// Yields the interpreters in one folder: the target of `python3` first, then the others by
/// version, newest first.
fn inside(folder: PathBuf) -> impl Iterator<Item = Interpreter> {
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut minors: Vec<u32> = entries
        .filter_map(|entry| {
            entry.file_name().to_str()?.strip_prefix("python3.")?.parse::<u32>().ok()
        })
        .collect();
    minors.sort_by_key(|minor| Reverse(*minor));
    let names = ["python3".to_owned()].into_iter();
    let names = names.chain(minors.into_iter().map(|minor| format!("python3.{minor}")));
    names.filter_map(move |name| interpreter(&folder.join(name)))
}

/// Determines the interpreter that a file contains, from the file's resolved name and the library
/// next to the file.
fn interpreter(file: &Path) -> Option<Interpreter> {
    let path = fs::canonicalize(file).ok()?;
    let minor: u32 = path.file_name()?.to_str()?.strip_prefix("python3.")?.parse().ok()?;
    let prefix = prefix_of(&path)?;
    let library = |folder: &str| prefix.join(folder).join(format!("python3.{minor}/os.py"));
    if !library("lib").exists() && !library("lib64").exists() {
        return None;
    }
    let name = prefix.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let patch = name.rsplit('.').next().filter(|_| name.starts_with(&format!("3.{minor}.")));
    let patch = patch.and_then(|patch| patch.parse().ok());
    Some(Interpreter { path, minor, patch, asked: None })
}

/// Returns the installation folder of an interpreter.
pub(crate) fn prefix_of(interpreter: &Path) -> Option<&Path> {
    interpreter.parent()?.parent()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn install(prefix: &Path, minor: u32) {
        fs::create_dir_all(prefix.join("bin")).unwrap();
        fs::create_dir_all(prefix.join(format!("lib/python3.{minor}"))).unwrap();
        fs::write(prefix.join(format!("bin/python3.{minor}")), "").unwrap();
        fs::write(prefix.join(format!("lib/python3.{minor}/os.py")), "").unwrap();
        let _ = symlink(format!("python3.{minor}"), prefix.join("bin/python3"));
    }

    fn machine() -> (tempfile::TempDir, Vec<PathBuf>) {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("pyenv");
        for (version, minor) in [("3.9.18", 9), ("3.11.7", 11), ("3.12.1", 12)] {
            install(&home.join("versions").join(version), minor);
        }
        fs::create_dir_all(home.join("shims")).unwrap();
        fs::write(home.join("version"), "3.11.7\n").unwrap();
        install(&root.path().join("usr"), 13);
        let search = vec![home.join("shims"), root.path().join("usr/bin")];
        (root, search)
    }

    #[test]
    fn versions_are_found_where_the_machine_has_them() {
        let (_root, search) = machine();
        let check = |wanted: Option<&str>, version: &str| {
            assert_eq!(find(&search, wanted).unwrap().version(), version, "{wanted:?}");
        };
        check(None, "3.11.7");
        check(Some("3"), "3.11.7");
        check(Some("3.12"), "3.12.1");
        check(Some("3.12.1"), "3.12.1");
        check(Some("3.13"), "3.13");
    }

    #[test]
    fn the_search_reads_no_folder_behind_the_first_match() {
        let (root, search) = machine();
        let mut candidates = candidates(&search);
        assert_eq!(candidates.next().unwrap().version(), "3.11.7");
        // The deletion shows that the iterator has not read the other folders yet: otherwise, it
        // would still yield their interpreters.
        fs::remove_dir_all(root.path().join("usr")).unwrap();
        fs::remove_dir_all(root.path().join("pyenv/versions/3.12.1")).unwrap();
        assert!(candidates.all(|one| one.minor < 12));
    }

    #[test]
    fn a_missing_version_error_lists_the_existing_versions() {
        let (_root, search) = machine();
        let error = find(&search, Some("3.14")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no Python `3.14` on this machine; found: 3.11.7, 3.12.1, 3.13"
        );
        assert!(find(&search, Some("3.9")).unwrap_err().to_string().contains("too old"));
        assert!(find(&search, Some("eleven")).unwrap_err().to_string().contains("`eleven`"));
        assert!(find(&search, Some("3.11.2")).is_err());
    }

    #[test]
    fn an_interpreter_that_others_can_replace_is_not_run() {
        let (root, search) = machine();
        let set = |path: &str, mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            fs::set_permissions(root.path().join(path), mode).unwrap();
        };
        set("usr/lib/python3.13", 0o777);
        let error = find(&search, Some("3.13")).unwrap_err();
        assert!(error.to_string().contains("usr/bin/python3.13` is not trusted: `"), "{error}");
        set("usr/lib/python3.13", 0o755);
        assert!(find(&search, Some("3.13")).is_ok());
        set("pyenv/versions/3.11.7/bin", 0o777);
        assert_eq!(find(&search, None).unwrap().version(), "3.12.1");
        set("pyenv/versions/3.11.7/bin", 0o1777);
        assert!(find(&search, Some("3.11")).is_err());
    }

    #[test]
    fn an_exact_python_version_is_found_in_any_folder() {
        let (root, search) = machine();
        let program = root.path().join("usr/bin/python3.13");
        fs::write(&program, b"\x7fELF\x003.13.x\x003.13.4rc1\x003.13.5\0").unwrap();
        let found = |wanted: &str| find(&search, Some(wanted)).map(|one| one.wanted());
        assert_eq!(found("3.13.5").unwrap(), "3.13.5");
        assert_eq!(found("3.11.7").unwrap(), "3.11.7");
        assert_eq!(found("3.13").unwrap(), "3.13");
        let error = found("3.13.4").unwrap_err().to_string();
        assert!(error.ends_with("found: 3.11.7, 3.12.1, 3.13.5"), "{error}");
    }
}
