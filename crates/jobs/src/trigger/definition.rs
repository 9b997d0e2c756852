//! A trigger's definition, checked and ready for use.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use headwater_model::{FilesTrigger, Trigger};

use super::schedule::Schedule;
use crate::{Error, Result};

/// A trigger and what it watches.
#[derive(Debug)]
pub(crate) struct Definition {
    pub trigger: Trigger,
    pub source: Source,
}

/// What a trigger watches.
#[derive(Debug)]
pub(crate) enum Source {
    Files(Folder),
    Schedule(Box<Schedule>),
}

/// A folder that is watched.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub path: PathBuf,
    pub recursive: bool,
    /// Whether the pattern is for the path below the folder, rather than for the file's name.
    pub whole_path: bool,
    pub pattern: Option<GlobMatcher>,
    pub settle_ms: u64,
    pub batch: usize,
    /// Whether files with nothing in them are left alone: there is nothing to import.
    pub skip_empty: bool,
}

/// Checks a trigger as it stands in a project file. Error: `invalid_project`.
pub fn check_trigger(trigger: &Trigger) -> Result<()> {
    Definition::new(trigger, Path::new("/")).map(drop)
}

impl Definition {
    pub(crate) fn new(trigger: &Trigger, project: &Path) -> Result<Self> {
        let name = trigger.name.trim();
        if name.is_empty() || name.contains(char::is_control) {
            let hint = "Give the trigger a name of letters, digits and underscores.";
            return Err(invalid(trigger, "its name is empty or has control characters", hint));
        }
        if trigger.import.is_none() && !trigger.run {
            let hint = "Add `run = true` or an `import` table.";
            return Err(invalid(trigger, "it does nothing", hint));
        }
        let source = match (&trigger.files, &trigger.schedule) {
            (Some(files), None) => Source::Files(Folder::new(trigger, files, project)?),
            (None, Some(schedule)) => {
                let schedule = Schedule::new(schedule);
                let invalid = |(reason, hint): (String, &str)| invalid(trigger, reason, hint);
                Source::Schedule(Box::new(schedule.map_err(invalid)?))
            }
            _ => {
                let hint = "Give the trigger either `files` or `schedule`.";
                return Err(invalid(
                    trigger,
                    "it needs exactly one of `files` and `schedule`",
                    hint,
                ));
            }
        };
        Ok(Definition { trigger: trigger.clone(), source })
    }
}

impl Folder {
    fn new(trigger: &Trigger, files: &FilesTrigger, project: &Path) -> Result<Self> {
        if files.folder.trim().is_empty() {
            return Err(invalid(trigger, "its folder is empty", "Name a folder to watch."));
        }
        let matcher = |pattern: &String| {
            let glob = GlobBuilder::new(pattern).literal_separator(true).build();
            glob.map(|glob| glob.compile_matcher()).map_err(|error| {
                let hint = "Write a pattern such as `*.csv` or `*.{csv,csv.gz}`.";
                invalid(trigger, format!("its pattern is none: {error}"), hint)
            })
        };
        Ok(Folder {
            path: clean(&project.join(&files.folder)),
            recursive: files.recursive,
            whole_path: files.pattern.as_ref().is_some_and(|pattern| pattern.contains('/')),
            pattern: files.pattern.as_ref().map(matcher).transpose()?,
            settle_ms: files.settle_ms,
            batch: files.batch.max(1),
            skip_empty: trigger.import.is_some(),
        })
    }
}

/// The same path without `.` and trailing separators, so that one file has one key.
fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}

fn invalid(trigger: &Trigger, reason: impl Into<String>, hint: &str) -> Error {
    Error::InvalidTrigger {
        trigger: trigger.name.clone(),
        reason: reason.into(),
        hint: hint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use headwater_model::Fault;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_with_a_trigger_is_said_with_a_hint() {
        let check = |definition: serde_json::Value, expected: &str| {
            let trigger: Trigger = serde_json::from_value(definition).expect("a trigger");
            let error = check_trigger(&trigger).expect_err("an error");
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.hint().is_some());
        };
        let files = json!({"folder": "in"});
        check(json!({"name": "a", "files": files}), "does nothing");
        check(json!({"name": "a", "run": true}), "exactly one of");
        check(json!({"name": "", "run": true, "files": files}), "name is empty");
        let pattern = json!({"folder": "in", "pattern": "*.{csv"});
        check(json!({"name": "a", "run": true, "files": pattern}), "pattern");
        let cron = |cron: &str, zone: &str| {
            let schedule = json!({"cron": cron, "timezone": zone});
            json!({"name": "a", "run": true, "schedule": schedule})
        };
        check(cron("61 * * * *", "UTC"), "`61 * * * *`");
        check(cron("0 0 0 1 1 * 2027", "UTC"), "five or six fields");
        check(cron("* * * * *", "Europe/Berlim"), "`Europe/Berlim`");
        check(cron("0 0 30 2 *", "UTC"), "never strikes");
    }
}
