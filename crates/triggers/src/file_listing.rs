//! Listings of the files in a folder, and the debounce of changing files.
//!
//! A file is complete once it has not changed for the debounce time. A file that was renamed into
//! the folder is complete immediately.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use headwater_model::{ErrorCode, Problem, Timestamp};
use serde::{Deserialize, Serialize};
use walkdir::{DirEntry, WalkDir};

use crate::definition::WatchedFolder;

/// The hint for a file or folder that the server cannot read.
const UNREADABLE_HINT: &str = "Allow the user of the server process to read it.";

/// Suffixes of the names of incomplete files, which are skipped.
const INCOMPLETE: [&str; 3] = [".tmp", ".part", ".crdownload"];

/// The version of a file: its size and modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileVersion {
    pub bytes: u64,
    /// Time of the last modification, in nanoseconds since 1970.
    pub modified: i64,
}

impl FileVersion {
    /// Returns the version as an entity tag.
    pub(crate) fn etag(&self) -> String {
        format!("{:x}-{:x}", self.modified, self.bytes)
    }
}

/// The files of a folder.
#[derive(Debug, Default)]
pub(crate) struct FolderListing {
    /// Files by absolute path.
    pub files: BTreeMap<String, FileVersion>,
    /// The error of a file or subfolder that could not be read, if any.
    pub fault: Option<Problem>,
}

/// Lists the files of a watched folder that match its pattern. Fails if the folder does not exist
/// or cannot be read.
pub(crate) fn list(folder: &WatchedFolder) -> Result<FolderListing, Problem> {
    if let Err(error) = std::fs::read_dir(&folder.path) {
        return Err(no_folder(&folder.path, &error));
    }
    let depth = if folder.recursive { usize::MAX } else { 1 };
    let walk = WalkDir::new(&folder.path).min_depth(1).max_depth(depth).follow_links(true);
    let mut listing = FolderListing::default();
    for entry in walk.into_iter().filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry)) {
        match entry {
            Ok(entry) => list_one(folder, &entry, &mut listing),
            // A file that was removed while the folder was being listed is not an error.
            Err(error) if error.io_error().is_none_or(is_not_found) => {}
            Err(error) => listing.fault = Some(unreadable(&error)),
        }
    }
    Ok(listing)
}

fn list_one(folder: &WatchedFolder, entry: &DirEntry, listing: &mut FolderListing) {
    if !entry.file_type().is_file() || !is_wanted(folder, entry) {
        return;
    }
    let Some(path) = entry.path().to_str() else {
        let path = entry.path().display();
        let problem =
            Problem::new(ErrorCode::InvalidName, format!("the name of `{path}` is not UTF-8"));
        listing.fault = Some(problem.with_hint("Rename the file."));
        return;
    };
    let Ok(metadata) = entry.metadata() else { return };
    if metadata.len() == 0 && folder.skip_empty {
        return;
    }
    let modified = metadata.modified().ok();
    let modified = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let modified = modified.map_or(0, |time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
    listing.files.insert(path.to_owned(), FileVersion { bytes: metadata.len(), modified });
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

fn is_wanted(folder: &WatchedFolder, entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    let lower = name.to_ascii_lowercase();
    if INCOMPLETE.iter().any(|end| lower.ends_with(end)) {
        return false;
    }
    folder.pattern.as_ref().is_none_or(|pattern| {
        if folder.whole_path {
            entry.path().strip_prefix(&folder.path).is_ok_and(|below| pattern.is_match(below))
        } else {
            pattern.is_match(&*name)
        }
    })
}

fn is_not_found(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

fn no_folder(path: &Path, error: &std::io::Error) -> Problem {
    let path = path.display();
    if is_not_found(error) {
        let problem = Problem::new(
            ErrorCode::FileNotFound,
            format!("the watched folder `{path}` does not exist"),
        );
        return problem
            .with_hint("Create the folder; the trigger watches it as soon as it exists.");
    }
    let mut problem =
        Problem::new(ErrorCode::Storage, format!("the folder `{path}` cannot be read"));
    problem.causes.push(error.to_string());
    problem.with_hint(UNREADABLE_HINT)
}

fn unreadable(error: &walkdir::Error) -> Problem {
    let path = error.path().unwrap_or_else(|| Path::new("")).display();
    let mut problem = Problem::new(ErrorCode::Storage, format!("`{path}` cannot be read"));
    problem.causes.extend(error.io_error().map(ToString::to_string));
    problem.with_hint(UNREADABLE_HINT)
}

/// New and changed files, each with its version and the time at which this version was found.
#[derive(Debug, Default)]
pub(crate) struct Debounce {
    files: HashMap<String, (FileVersion, Timestamp)>,
}

impl Debounce {
    /// Adds new files and updates the versions of changed files. Returns the complete files, oldest
    /// first. A complete file is returned again until it is [removed](Debounce::remove).
    pub(crate) fn update(
        &mut self,
        new: BTreeMap<String, FileVersion>,
        renamed: &HashSet<PathBuf>,
        now: Timestamp,
        debounce: Duration,
    ) -> Vec<(String, FileVersion)> {
        let mut before = std::mem::take(&mut self.files);
        let mut complete = Vec::new();
        for (path, version) in new {
            let since = before.remove(&path).filter(|(last, _)| *last == version);
            let since = since.map_or(now, |(_, since)| since);
            let settled = (now - since).to_std().is_ok_and(|age| age >= debounce);
            if settled || renamed.contains(Path::new(&path)) {
                complete.push((path.clone(), version));
            }
            self.files.insert(path, (version, since));
        }
        complete.sort_by(|one, other| (one.1.modified, &one.0).cmp(&(other.1.modified, &other.0)));
        complete
    }

    /// Removes a file from the pending files.
    pub(crate) fn remove(&mut self, path: &str) {
        self.files.remove(path);
    }

    /// Returns the time until the next file may be complete.
    pub(crate) fn next(&self, now: Timestamp, debounce: Duration) -> Option<Duration> {
        let oldest = self.files.values().map(|(_, since)| *since).min()?;
        let age = (now - oldest).to_std().unwrap_or_default();
        Some(debounce.saturating_sub(age))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::definition::{TriggerDefinition, TriggerSource};

    fn names(dir: &Path, files: &serde_json::Value) -> Vec<String> {
        let import = serde_json::json!({"table": "t"});
        let trigger = serde_json::json!({"name": "t", "files": files, "import": import});
        let trigger = serde_json::from_value(trigger).expect("a trigger");
        let definition = TriggerDefinition::new(&trigger, dir).expect("a definition");
        let TriggerSource::Files(folder) = definition.source else { panic!("no folder") };
        let listing = list(&folder).expect("a listing");
        let below = |path: &String| {
            let below = Path::new(path).strip_prefix(dir.join("in")).expect("below the folder");
            below.display().to_string()
        };
        listing.files.keys().map(below).collect()
    }

    #[test]
    fn hidden_unfinished_and_empty_files_are_ignored() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("in");
        fs::create_dir_all(folder.join("below/.git")).expect("folders");
        let all = [
            "a.csv",
            "b.csv.gz",
            ".a.csv",
            "c.csv.tmp",
            "d.PART",
            "e.crdownload",
            "below/f.csv",
            "below/.git/g.csv",
            "h.json",
        ];
        for name in all {
            fs::write(folder.join(name), "x").expect("a file");
        }
        fs::write(folder.join("empty.csv"), "").expect("a file");
        let check = |files: &serde_json::Value, expected: &[&str]| {
            assert_eq!(names(dir.path(), files), expected);
        };
        check(&serde_json::json!({"folder": "./in/"}), &["a.csv", "b.csv.gz", "h.json"]);
        check(&serde_json::json!({"folder": "in", "pattern": "*.csv"}), &["a.csv"]);
        let mut below = serde_json::json!({"folder": "in", "recursive": true});
        let mut recursive = |pattern: &str| {
            below["pattern"] = pattern.into();
            below.clone()
        };
        check(&recursive("*.csv"), &["a.csv", "below/f.csv"]);
        check(&recursive("below/*.csv"), &["below/f.csv"]);
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + chrono::TimeDelta::milliseconds(millis)
    }

    #[test]
    fn a_file_is_complete_after_the_debounce_time() {
        let mut debounce = Debounce::default();
        let settle = Duration::from_secs(1);
        let mut watch = |bytes: u64, millis: i64| {
            let version = FileVersion { bytes, modified: millis };
            let new = BTreeMap::from([("a".to_owned(), FileVersion { modified: 0, ..version })]);
            debounce.update(new, &HashSet::new(), at(millis), settle).len()
        };
        assert_eq!(watch(1, 0), 0);
        assert_eq!(watch(1, 900), 0);
        assert_eq!(watch(2, 1_000), 0, "it has grown");
        assert_eq!(watch(2, 1_900), 0);
        assert_eq!(watch(2, 2_000), 1);
        assert_eq!(debounce.next(at(1_500), settle), Some(Duration::from_millis(500)));
        debounce.remove("a");
        assert_eq!(debounce.next(at(2_000), settle), None);
    }

    #[test]
    fn a_renamed_file_is_complete_immediately() {
        let mut debounce = Debounce::default();
        let version = FileVersion { bytes: 1, modified: 0 };
        let new = BTreeMap::from([("/a".to_owned(), version), ("/b".to_owned(), version)]);
        let renamed = HashSet::from([PathBuf::from("/b")]);
        let complete = debounce.update(new, &renamed, at(0), Duration::from_secs(1));
        assert_eq!(complete, [("/b".to_owned(), version)]);
    }
}
