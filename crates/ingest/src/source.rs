//! Resolves sources to a list of files: individual files, folders with their subfolders, and globs,
//! on disk and in buckets.
//!
//! Files are listed in natural order, without duplicates. In folders, names that start with `.` or
//! `_` are skipped. Files with an unknown suffix are also skipped, unless the request names the
//! format.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use headwater_lake::FileAttributes;
use headwater_model::FileFormat;
use headwater_tables::CloudUrl;
use walkdir::WalkDir;

use super::cloud_object::{CloudStores, ListedObject, ObjectReader};
use super::compression::strip_suffix;
use super::disk_file::DiskFile;
use super::natural_sort;
use super::private_files::ResolvedPrivateFiles;
use crate::error::{Error, Result};

/// A file to import.
#[derive(Debug, Clone)]
pub(crate) struct SourceFile {
    /// The location of the file's bytes.
    pub place: SourceLocation,
    /// The path or URL as text, for messages and plans.
    pub name: String,
    /// The path without symbolic links, which identifies an imported file.
    pub identity: String,
    /// The size and times of the file when it was listed.
    pub stamp: FileAttributes,
    /// The file's format.
    pub format: FileFormat,
}

/// Location of the bytes of a file.
#[derive(Debug, Clone)]
pub(crate) enum SourceLocation {
    Disk(DiskFile),
    Object(ListedObject),
}

impl SourceLocation {
    fn open(&self) -> std::io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            SourceLocation::Disk(file) => {
                let changed = || std::io::Error::other("the file changed while it was opened");
                Box::new(file.open()?.ok_or_else(changed)?)
            }
            SourceLocation::Object(object) => Box::new(ObjectReader::new(object)),
        })
    }
}

impl SourceFile {
    /// Returns true if the file is an object in a bucket.
    pub fn is_object(&self) -> bool {
        matches!(self.place, SourceLocation::Object(_))
    }

    /// Opens the file if it is on disk, at `disk`.
    ///
    /// Errors: `FileChanged` if the file has changed since it was listed.
    pub fn open_disk(&self, disk: &DiskFile) -> Result<File> {
        let failed = |source| Error::File { file: self.name.clone(), source };
        let changed = || Error::FileChanged { file: self.name.clone() };
        disk.open().map_err(failed)?.ok_or_else(changed)
    }

    /// Returns the error that the object store recorded for the file, or else `error`.
    pub fn explain(&self, error: Error) -> Error {
        match &self.place {
            SourceLocation::Object(object) => object.failure().unwrap_or(error),
            SourceLocation::Disk(_) => error,
        }
    }
}

/// The way in which a source selects a file. This determines whether a file of unknown format is an
/// error.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FileSelection {
    /// The source names the file, or contains a glob. A file whose format is not detected is an
    /// error.
    Expressly,
    /// The source is a folder. A file with an unknown suffix is skipped.
    ByFolder,
}

/// Lists the files of `sources`, in natural order, without duplicates. A private file in a folder
/// is skipped; any other private file is an error.
pub(crate) fn discover(
    sources: &[String],
    format: Option<FileFormat>,
    clouds: CloudStores,
    private: Option<ResolvedPrivateFiles>,
) -> Result<Vec<SourceFile>> {
    let mut found = Discovery {
        private,
        format,
        seen: HashSet::new(),
        folders: BTreeMap::new(),
        files: Vec::new(),
        clouds,
    };
    for source in sources {
        found.add_source(source)?;
    }
    found.files.sort_by(|a, b| natural_sort::compare(&a.name, &b.name));
    Ok(found.files)
}

/// A search for the files of the sources, with the files found so far.
struct Discovery {
    private: Option<ResolvedPrivateFiles>,
    format: Option<FileFormat>,
    seen: HashSet<String>,
    folders: BTreeMap<PathBuf, PathBuf>,
    files: Vec<SourceFile>,
    clouds: CloudStores,
}

impl Discovery {
    fn add_source(&mut self, source: &str) -> Result<()> {
        if CloudUrl::has_cloud_scheme(source) {
            return self.add_objects(source);
        }
        if let Some((scheme, _)) = source.split_once("://") {
            return Err(not_readable(source, scheme));
        }
        let path = Path::new(source);
        if !path.is_absolute() {
            return Err(Error::RelativeSource { path: source.to_owned() });
        }
        // Check this before the first access, so that the error does not show which files exist.
        if self.is_private(path) {
            return Err(Error::Private { file: source.to_owned() });
        }
        // A file may have a name with pattern characters, so look for a file before treating the
        // name as a pattern.
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.add_folder(source, path),
            Ok(_) => self.add_file(path, FileSelection::Expressly),
            Err(_) if source.contains(['*', '?', '[', '{']) => self.add_glob(source),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::NoFiles { path: source.to_owned(), note: None })
            }
            Err(error) => Err(Error::File { file: source.to_owned(), source: error }),
        }
    }

    fn add_folder(&mut self, source: &str, folder: &Path) -> Result<()> {
        let mut visible = 0;
        let before = self.seen.len();
        for entry in walk(folder) {
            let entry = entry.map_err(|error| walk_error(folder, error))?;
            if entry.file_type().is_file() {
                visible += 1;
                self.add_file(entry.path(), FileSelection::ByFolder)?;
            }
        }
        if self.seen.len() > before
            || self.files.iter().any(|file| Path::new(&file.name).starts_with(folder))
        {
            return Ok(());
        }
        let note =
            (visible > 0).then_some("Name the format: none of the files has a known suffix.");
        Err(Error::NoFiles { path: source.to_owned(), note })
    }

    fn add_glob(&mut self, pattern: &str) -> Result<()> {
        let (base, matcher) = compile(pattern)?;
        if self.is_private(&base) {
            return Err(Error::Private { file: pattern.to_owned() });
        }
        let mut matched = false;
        for entry in walk(&base) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if error.io_error().is_some_and(not_found) => break,
                Err(error) => return Err(walk_error(&base, error)),
            };
            if entry.file_type().is_file() && matcher.is_match(entry.path()) {
                matched = true;
                self.add_file(entry.path(), FileSelection::Expressly)?;
            }
        }
        if matched { Ok(()) } else { Err(Error::NoFiles { path: pattern.to_owned(), note: None }) }
    }

    /// Adds the objects of a URL: one object, a glob, or everything below a prefix.
    fn add_objects(&mut self, source: &str) -> Result<()> {
        let url = CloudUrl::parse(source)?;
        if self.private.as_ref().is_some_and(|files| files.has_object(url.as_str())) {
            return Err(Error::Private { file: source.to_owned() });
        }
        let missing = |note| Error::NoFiles { path: source.to_owned(), note };
        let is_folder = url.key().is_empty() || source.ends_with('/');
        // An object may have a key with pattern characters, so look for an object before treating
        // the key as a pattern.
        if !is_folder && let Some(object) = self.clouds.find(&url)? {
            return self.add_object(object, FileSelection::Expressly);
        }
        if url.key().contains(['*', '?', '[', '{']) {
            let (folder, matcher) = compile(url.key())?;
            let folder = folder.to_string_lossy().trim_start_matches('/').to_owned();
            let mut matched = false;
            for object in self.clouds.below(&url, &folder)? {
                if matcher.is_match(object.key()) {
                    matched = true;
                    self.add_object(object, FileSelection::Expressly)?;
                }
            }
            return if matched { Ok(()) } else { Err(missing(None)) };
        }
        let objects = self.clouds.below(&url, url.key())?;
        let (any, before) = (!objects.is_empty(), self.seen.len());
        for object in objects {
            self.add_object(object, FileSelection::ByFolder)?;
        }
        let folder = format!("{}/", url.as_str());
        if self.seen.len() > before || self.files.iter().any(|file| file.name.starts_with(&folder))
        {
            return Ok(());
        }
        Err(missing(any.then_some("Name the format: none of the files has a known suffix.")))
    }

    fn add_object(&mut self, object: ListedObject, named: FileSelection) -> Result<()> {
        let (name, stamp) = (object.url().to_owned(), object.file_attributes());
        if self.private.as_ref().is_some_and(|files| files.has_object(&name)) {
            return hide(name, named);
        }
        let place = SourceLocation::Object(object);
        let Some(format) = self.format_of(&place, &name, named)? else { return Ok(()) };
        if self.seen.insert(name.clone()) {
            self.files.push(SourceFile { place, identity: name.clone(), name, stamp, format });
        }
        Ok(())
    }

    /// Returns the format of a file; `None` if the file is to be skipped.
    fn format_of(
        &self,
        place: &SourceLocation,
        name: &str,
        named: FileSelection,
    ) -> Result<Option<FileFormat>> {
        match (self.format.or_else(|| format_by_name(name)), named) {
            (Some(format), _) => Ok(Some(format)),
            (None, FileSelection::ByFolder) => Ok(None),
            (None, FileSelection::Expressly) => {
                let found = super::compression::sniff_format(|| place.open());
                let found = found.map_err(|source| {
                    let error = Error::File { file: name.to_owned(), source };
                    match place {
                        SourceLocation::Object(object) => object.failure().unwrap_or(error),
                        SourceLocation::Disk(_) => error,
                    }
                })?;
                found.map(Some).ok_or_else(|| Error::UnknownFormat { file: name.to_owned() })
            }
        }
    }

    fn add_file(&mut self, path: &Path, named: FileSelection) -> Result<()> {
        let name = path.to_string_lossy().into_owned();
        let fail = |source| Error::File { file: name.clone(), source };
        let real = self.real_path(path).map_err(fail)?;
        // Read the metadata through `real`: a symbolic link in `path` could now lead to another
        // file.
        let metadata = real.symlink_metadata().map_err(fail)?;
        if !metadata.is_file() {
            let reason = "the path is a device, a pipe or a socket, not a regular file";
            return Err(fail(std::io::Error::new(std::io::ErrorKind::InvalidInput, reason)));
        }
        let is_private = |files: &mut ResolvedPrivateFiles| {
            files.has_real_path(&real) || files.has_hard_link(&metadata)
        };
        if self.private.as_mut().is_some_and(is_private) {
            return hide(name, named);
        }
        let file = DiskFile::new(path, &metadata);
        let stamp = file.file_attributes();
        let place = SourceLocation::Disk(file);
        let Some(format) = self.format_of(&place, &name, named)? else { return Ok(()) };
        let identity = real.to_string_lossy().into_owned();
        if self.seen.insert(identity.clone()) {
            self.files.push(SourceFile { place, name, identity, stamp, format });
        }
        Ok(())
    }

    fn is_private(&self, path: &Path) -> bool {
        self.private.as_ref().is_some_and(|files| files.has_path(path))
    }

    /// Returns the path of a file without symbolic links. Each folder is resolved only once.
    fn real_path(&mut self, path: &Path) -> std::io::Result<PathBuf> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return path.canonicalize();
        };
        if path.symlink_metadata()?.is_symlink() {
            return path.canonicalize();
        }
        if let Some(real) = self.folders.get(folder) {
            return Ok(real.join(name));
        }
        let real = folder.canonicalize()?;
        let path = real.join(name);
        self.folders.insert(folder.to_owned(), real);
        Ok(path)
    }
}

/// Skips a private file in a folder. Returns an error for a private file that a source selects
/// expressly.
fn hide(file: String, named: FileSelection) -> Result<()> {
    if named == FileSelection::ByFolder { Ok(()) } else { Err(Error::Private { file }) }
}

/// Returns the error for a URL of an unsupported object store.
fn not_readable(source: &str, scheme: &str) -> Error {
    let (what, hint) = match scheme.to_ascii_lowercase().as_str() {
        "http" | "https" => (
            "imports do not read web addresses",
            "Download the file with `curl --location --remote-name URL`, and import the \
             downloaded file.",
        ),
        "file" => ("imports need a path without `file://`", "Leave `file://` out."),
        _ => (
            "no object store has this URL scheme",
            "Use a path, or a URL with `s3://`, `gs://`, `az://` or `abfss://`.",
        ),
    };
    Error::InvalidRequest { message: format!("`{source}` cannot be imported: {what}"), hint }
}

fn not_found(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

fn walk(folder: &Path) -> impl Iterator<Item = walkdir::Result<walkdir::DirEntry>> {
    WalkDir::new(folder).follow_links(true).into_iter().filter_entry(|entry| {
        let hidden = entry.file_name().as_encoded_bytes().first();
        entry.depth() == 0 || !matches!(hidden, Some(b'.' | b'_'))
    })
}

fn walk_error(folder: &Path, error: walkdir::Error) -> Error {
    let file = error.path().unwrap_or(folder).to_string_lossy().into_owned();
    Error::File { file, source: error.into() }
}

/// Returns the folder that contains all matches of a pattern, and the compiled pattern.
fn compile(pattern: &str) -> Result<(PathBuf, GlobMatcher)> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    let glob = glob.map_err(|error| Error::InvalidRequest {
        message: format!("`{pattern}` is not a pattern: {}", error.kind()),
        hint: "Escape special characters with a backslash.",
    })?;
    let literal = pattern.split('/').take_while(|part| !part.contains(['*', '?', '[', '{', '\\']));
    let base: PathBuf = std::iter::once("/").chain(literal).collect();
    Ok((base, glob.compile_matcher()))
}

/// Returns the format that a file's suffix indicates, ignoring a compression suffix.
fn format_by_name(name: &str) -> Option<FileFormat> {
    let ending = Path::new(strip_suffix(name)).extension()?.to_str()?.to_ascii_lowercase();
    match ending.as_str() {
        "csv" | "tsv" | "psv" | "tab" => Some(FileFormat::Csv),
        "ndjson" | "jsonl" | "json" => Some(FileFormat::Ndjson),
        "parquet" | "pq" => Some(FileFormat::Parquet),
        "arrow" | "arrows" | "feather" | "ipc" => Some(FileFormat::Arrow),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use headwater_tables::CloudSettings;

    use super::*;
    use crate::cloud_object::BucketStores;

    fn clouds() -> CloudStores {
        CloudStores::new(CloudSettings::default(), BucketStores::new())
    }

    fn folder_with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "a\n1\n").unwrap();
        }
        folder
    }

    fn listed(folder: &Path, sources: &[&str]) -> Vec<String> {
        let sources: Vec<String> = sources
            .iter()
            .map(|source| folder.join(source).to_string_lossy().into_owned())
            .collect();
        let files = discover(&sources, None, clouds(), None).unwrap();
        let prefix = format!("{}/", folder.to_string_lossy());
        files.iter().map(|file| file.name.strip_prefix(&prefix).unwrap().to_owned()).collect()
    }

    #[test]
    fn folders_globs_and_files_are_listed_in_natural_order_without_duplicates() {
        let names = ["a10.csv", "a2.csv.gz", "sub/b.jsonl", "sub/deep/c.parquet", "README.md"];
        let folder =
            folder_with(&[&names[..], &[".hidden.csv", "_SUCCESS.csv", "_tmp/x.csv"]].concat());
        let all = ["a2.csv.gz", "a10.csv", "sub/b.jsonl", "sub/deep/c.parquet"];
        assert_eq!(listed(folder.path(), &["."]).len(), 4);
        assert_eq!(listed(folder.path(), &[""]), all);
        assert_eq!(listed(folder.path(), &["", "a10.csv", "*.csv*"]), all);
        assert_eq!(listed(folder.path(), &["*.csv*"]), ["a2.csv.gz", "a10.csv"]);
        assert_eq!(listed(folder.path(), &["**/*.{jsonl,parquet}"]).len(), 2);
    }

    #[test]
    fn a_name_with_brackets_is_a_file_first() {
        let folder = folder_with(&["data[1].csv", "data1.csv"]);
        assert_eq!(listed(folder.path(), &["data[1].csv"]), ["data[1].csv"]);
    }

    #[test]
    fn a_source_without_files_is_an_error() {
        let folder = folder_with(&["notes.md"]);
        let fail = |source: String| discover(&[source], None, clouds(), None).unwrap_err();
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        assert!(matches!(fail("data.csv".into()), Error::RelativeSource { .. }));
        assert!(matches!(fail(at("missing.csv")), Error::NoFiles { note: None, .. }));
        assert!(matches!(fail(at("*.csv")), Error::NoFiles { .. }));
        assert!(matches!(fail(at("")), Error::NoFiles { note: Some(_), .. }));
        assert!(matches!(fail(at("notes.md")), Error::UnknownFormat { .. }));
    }
}
