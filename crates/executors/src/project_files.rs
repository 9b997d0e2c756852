//! The files of a project that a run receives: its project file, SQL and Python files, unit tests,
//! and the files that functions in other languages name.
//!
//! Hidden folders, virtual environments, installed packages, build results, folders called `data`,
//! and other projects within the folder are skipped. If a function in another language names such a
//! folder, the folder is not skipped. The Python client has the same rules, in
//! `python/headwater/project.py`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use headwater_model::{ErrorCode, FileContent, PROJECT_FILE, PROJECT_FILES, Problem, ProjectFiles};
use headwater_pipelines::{CommandPaths, parallel_map};

/// Maximum size of a project's files, in bytes.
const PROJECT_BYTES_MAX: u64 = 32 << 20;

/// Additional capacity of a read buffer, beyond the size of the file, in bytes.
const SPARE_BYTES: usize = 64;

/// Maximum depth of nested folders.
const DEPTH_MAX: usize = 8;

/// Returns the project's files by path, relative to its root and separated by `/`.
///
/// Errors: `file_not_found` if there is no project; `invalid_argument` if the project is too large,
/// or if an SQL or Python file is not UTF-8.
pub fn read_project(root: &Path) -> Result<ProjectFiles, Problem> {
    if !has_project_file(root) {
        let message = format!("there is no `{PROJECT_FILE}` in `{}`", root.display());
        return Err(Problem::new(ErrorCode::FileNotFound, message)
            .with_hint("Create a project with `headwater init`."));
    }
    let mut files = FileReader { root, bytes: AtomicU64::new(0), contents: BTreeMap::new() };
    files.read(&files.code()?)?;
    let named = files.contents.get(PROJECT_FILE).map(|file| CommandPaths::read(file.text()));
    let CommandPaths { words, files: paths } = named.unwrap_or_default();
    for word in words.iter().filter(|word| root.join(word).is_file()) {
        files.read(&files.tree(&root.join(word))?)?;
    }
    for path in &paths {
        files.read(&files.tree(&root.join(path))?)?;
    }
    Ok(files.contents)
}

/// A reader of a project's files, with the files that have been read so far.
struct FileReader<'a> {
    root: &'a Path,
    bytes: AtomicU64,
    contents: ProjectFiles,
}

impl FileReader<'_> {
    /// Returns the paths of the project file, SQL files, Python files and unit tests.
    fn code(&self) -> Result<Vec<PathBuf>, Problem> {
        let mut found = Vec::new();
        let mut folders = vec![(self.root.to_owned(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            for entry in std::fs::read_dir(&folder).map_err(unreadable(&folder))?.flatten() {
                let path = entry.path();
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() && depth < DEPTH_MAX && is_code_folder(&path) {
                    folders.push((path, depth + 1));
                } else if kind.is_file() && is_code_file(self.root, &path) {
                    found.push(path);
                }
            }
        }
        Ok(found)
    }

    /// Returns the path of a file, or of all files below a folder except hidden ones. Links are
    /// skipped.
    fn tree(&self, path: &Path) -> Result<Vec<PathBuf>, Problem> {
        let mut found = Vec::new();
        let resolved = |path: &Path| path.canonicalize().ok();
        if !resolved(path)
            .zip(resolved(self.root))
            .is_some_and(|(path, root)| path.starts_with(root))
        {
            return Ok(found);
        }
        let mut left = vec![path.to_owned()];
        while let Some(path) = left.pop() {
            let Ok(metadata) = path.symlink_metadata() else { continue };
            if metadata.is_dir() {
                let entries = std::fs::read_dir(&path).map_err(unreadable(&path))?.flatten();
                left.extend(entries.map(|entry| entry.path()).filter(|path| !is_hidden(path)));
            } else if metadata.is_file() {
                found.push(path);
            }
        }
        Ok(found)
    }

    /// Reads files on all processors. Files that have been read before are skipped.
    fn read(&mut self, paths: &[PathBuf]) -> Result<(), Problem> {
        let this = &*self;
        let read = parallel_map::map(paths, |path| {
            let name = relative(this.root, path);
            if this.contents.contains_key(&name) {
                return Ok(None);
            }
            this.read_file(path).map(|file| Some((name, file)))
        });
        for file in read {
            self.contents.extend(file?);
        }
        Ok(())
    }

    /// Reads a file. SQL, Python and the project file must be text.
    fn read_file(&self, path: &Path) -> Result<FileContent, Problem> {
        let file = File::open(path).map_err(unreadable(path))?;
        let metadata = file.metadata().map_err(unreadable(path))?;
        let before = self.bytes.fetch_add(metadata.len(), Ordering::Relaxed);
        check_size(self.root, before + metadata.len())?;
        // With spare capacity, `read_to_end` detects the end of the file without growing the
        // buffer.
        let size = usize::try_from(metadata.len()).unwrap_or_default() + SPARE_BYTES;
        let mut bytes = Vec::with_capacity(size);
        let read = file.take(PROJECT_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(unreadable(path))?;
        let file = FileContent::new(bytes, metadata.permissions().mode() & 0o111 != 0);
        if matches!(file, FileContent::Binary(_)) && is_code_file(self.root, path) {
            let message = format!("`{}` is not UTF-8 text", path.display());
            let problem = Problem::new(ErrorCode::InvalidArgument, message);
            return Err(problem.with_hint("Save the file as UTF-8."));
        }
        Ok(file)
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn check_size(root: &Path, bytes: u64) -> Result<(), Problem> {
    if bytes <= PROJECT_BYTES_MAX {
        return Ok(());
    }
    let message = format!("the project in `{}` has more than 32 MiB of files", root.display());
    Err(Problem::new(ErrorCode::InvalidArgument, message).with_hint(
        "Move data files out of the project and import them into tables; reduce programs with \
         `strip`.",
    ))
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Problem {
    move |error| {
        let message = format!("`{}` cannot be read", path.display());
        let mut problem = Problem::new(ErrorCode::Storage, message);
        problem.causes.push(error.to_string());
        problem
    }
}

/// Names of folders that contain no code of the project itself.
const SKIPPED_FOLDERS: [&str; 7] =
    ["__pycache__", "node_modules", "site-packages", "venv", "build", "dist", "data"];

/// Files that mark a virtual environment or a cache (<https://bford.info/cachedir/>).
const SKIPPED_MARKS: [&str; 2] = ["pyvenv.cfg", "CACHEDIR.TAG"];

fn is_code_folder(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(".");
    !name.starts_with('.')
        && !SKIPPED_FOLDERS.contains(&name)
        && !name.ends_with(".egg-info")
        && !SKIPPED_MARKS.iter().any(|mark| path.join(mark).exists())
        && !has_project_file(path)
}

fn has_project_file(folder: &Path) -> bool {
    PROJECT_FILES.iter().any(|file| folder.join(file).is_file())
}

fn is_code_file(root: &Path, path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let marks = || PROJECT_FILES.iter().any(|file| path == root.join(file));
    let tests = || path.starts_with(root.join("tests"));
    let is_code = match extension {
        Some("sql" | "py") => true,
        Some("yaml" | "yml") => tests(),
        _ => false,
    };
    !is_hidden(path) && (is_code || marks())
}

fn relative(root: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_files_are_read() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let toml = "[functions.upper]\ncommand = [\"node\", \"./web/upper.js\", \".\", \"web\", \"data\"]\n\
                    files = [\"web/lib/\", \"../x\"]\n";
        for (path, text) in [
            ("headwater.toml", toml),
            ("models/a.sql", "SELECT 1"),
            ("models/b.py", ""),
            ("data/rows.sql", ""),
            (".headwater/x.sql", ""),
            ("models/__pycache__/b.py", ""),
            ("other/headwater.toml", ""),
            ("other/c.sql", ""),
            ("third/bauplan_project.yml", ""),
            ("third/d.sql", ""),
            ("tools/env/pyvenv.cfg", ""),
            ("tools/env/lib/python3.11/site-packages/e.py", ""),
            ("tools/packages/site-packages/f.py", ""),
            ("build/lib/g.py", ""),
            ("dist/h.py", ""),
            ("shop.egg-info/i.py", ""),
            ("cache/CACHEDIR.TAG", ""),
            ("cache/j.py", ""),
            ("web/node_modules/k.py", ""),
            ("notes.md", ""),
            ("notes.yaml", ""),
            ("tests/unit/a.yaml", ""),
            ("web/upper.js", ""),
            ("web/other.js", ""),
            ("web/lib/text.js", ""),
            ("web/lib/.cache", ""),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        let files = read_project(root.path()).expect("the project");
        let names: Vec<_> = files.keys().map(String::as_str).collect();
        let expected = [
            "headwater.toml",
            "models/a.sql",
            "models/b.py",
            "tests/unit/a.yaml",
            "web/lib/text.js",
            "web/upper.js",
        ];
        assert_eq!(names, expected);
        let missing = read_project(&root.path().join("models")).expect_err("no project");
        assert_eq!(missing.code, ErrorCode::FileNotFound);
        let third = read_project(&root.path().join("third")).expect("a project for Bauplan");
        assert_eq!(third.keys().collect::<Vec<_>>(), ["bauplan_project.yml", "d.sql"]);
    }
}
