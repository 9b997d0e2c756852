//! Changes of a stored function. A change is applied to the function's newest stored state, and is
//! stored or rejected as a whole.

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_model::{FunctionAlias, FunctionSettings, ObjectId, Timestamp, UpdateFunctionAlias};
use serde_json::Value;

use crate::function_store::{Author, check_revision};
use crate::pack_file::NewPackFile;
use crate::{
    Error, FunctionFiles, QualifierChange, Result, StoredCode, StoredFunction, StoredVersion,
};

/// Maximum number of a function's versions, of its aliases, and of its tags.
const VERSIONS_MAX: usize = 10_000;
const ALIASES_MAX: usize = 1_000;
const TAGS_MAX: usize = 50;

/// Files to store with a change.
#[derive(Debug, Clone)]
pub struct NewCode {
    /// The stored form of the files: their manifest, size and hash.
    pub code: StoredCode,
    /// The objects to store: the manifest, and the contents of the files that are not in a pack
    /// file.
    pub objects: Vec<Bytes>,
    /// The pack file of large files.
    pub(crate) pack_file: Option<NewPackFile>,
}

/// A change of a function.
#[derive(Debug, Clone)]
pub enum FunctionChange {
    /// Replaces the function's files by these files, which are stored together with the change.
    Code(StoredCode),
    /// Replaces the settings, and the values that a protocol stores with the function.
    Settings(Box<FunctionSettings>, BTreeMap<String, Value>),
    /// Publishes the latest state as a version, unless it equals the last version. The text, if
    /// present, becomes the description of the version.
    Publish(Option<String>),
    /// Deletes a version.
    DeleteVersion(u64),
    /// Creates an alias.
    CreateAlias(String, FunctionAlias),
    /// Changes an alias.
    UpdateAlias {
        /// The name of the alias.
        name: String,
        /// The change.
        update: UpdateFunctionAlias,
        /// The revision that the alias must have before the change, if any.
        revision: Option<String>,
    },
    /// Deletes an alias, if it exists.
    DeleteAlias(String),
    /// Sets the maximum number of concurrent calls, or removes it.
    Concurrency(Option<u32>),
    /// Adds tags.
    Tag(BTreeMap<String, String>),
    /// Removes tags.
    Untag(Vec<String>),
    /// Changes the settings of a version, an alias or `$LATEST`.
    Qualifier(String, QualifierChange),
}

/// Changes of a function in one request. Either all are stored, or none.
#[derive(Debug, Clone, Default)]
pub struct FunctionUpdate {
    /// New files.
    pub files: Option<FunctionFiles>,
    /// Changes other than new files, in order.
    pub changes: Vec<FunctionChange>,
    /// The revision that the latest state must have before the changes, if any.
    pub revision: Option<String>,
}

impl From<FunctionChange> for FunctionUpdate {
    fn from(change: FunctionChange) -> Self {
        FunctionUpdate { changes: vec![change], ..FunctionUpdate::default() }
    }
}

/// The context in which a change is applied.
pub(crate) struct ChangeContext<'a> {
    pub author: &'a Author,
    pub now: Timestamp,
    /// Objects to store with the change.
    pub objects: &'a mut Vec<Bytes>,
    /// The last published version.
    pub last: Option<StoredVersion>,
}

impl FunctionChange {
    /// Returns the new settings, and the values that a protocol stores with the function; `None`
    /// if the change keeps them.
    pub fn settings(&self) -> Option<(&FunctionSettings, &BTreeMap<String, Value>)> {
        match self {
            FunctionChange::Settings(settings, attributes) => Some((&**settings, attributes)),
            _ => None,
        }
    }

    /// Applies the change to a function in memory.
    pub(crate) fn apply(
        &self,
        to: &mut StoredFunction,
        with: &mut ChangeContext<'_>,
    ) -> Result<()> {
        match self.clone() {
            FunctionChange::Code(code) => {
                to.latest.code = code;
                to.published = None;
                modified(&mut to.latest, with);
            }
            FunctionChange::Settings(settings, attributes) => {
                to.latest.settings = *settings;
                to.published = None;
                to.latest.attributes = attributes;
                modified(&mut to.latest, with);
            }
            FunctionChange::Publish(description) => publish(to, description, with)?,
            FunctionChange::DeleteVersion(version) => delete_version(to, version)?,
            FunctionChange::CreateAlias(name, alias) => {
                if to.aliases.contains_key(&name) {
                    let function = &to.name;
                    let what = format!("alias `{name}` of function `{function}`");
                    let hint = format!(
                        "Change it with `headwater function alias update {function} {name}`"
                    );
                    return Err(Error::exists(what, hint));
                }
                check_alias(to, &name, &alias)?;
                to.aliases.insert(name, alias);
            }
            FunctionChange::UpdateAlias { name, update, revision } => {
                let mut alias = to.alias(&name)?.clone();
                let changed = format!("{}:{name}", to.name);
                check_revision(&changed, to.alias_revision(&name), revision.as_deref())?;
                update.apply(&mut alias);
                check_alias(to, &name, &alias)?;
                to.aliases.insert(name, alias);
            }
            FunctionChange::DeleteAlias(name) => {
                to.aliases.remove(&name);
                to.qualifiers.remove(&name);
            }
            FunctionChange::Concurrency(limit) => to.concurrency = limit,
            FunctionChange::Tag(tags) => {
                to.tags.extend(tags);
                if to.tags.len() > TAGS_MAX {
                    let message =
                        format!("function `{}` would have more than {TAGS_MAX} tags", to.name);
                    return Err(Error::invalid(message, "Remove unused tags"));
                }
            }
            FunctionChange::Untag(keys) => to.tags.retain(|key, _| !keys.contains(key)),
            FunctionChange::Qualifier(name, change) => change.apply(&name, to, with)?,
        }
        Ok(())
    }
}

fn modified(version: &mut StoredVersion, with: &ChangeContext<'_>) {
    version.modified = with.now;
    version.author.clone_from(&with.author.name);
    version.actor = with.author.actor.clone();
}

fn publish(
    to: &mut StoredFunction,
    description: Option<String>,
    with: &mut ChangeContext<'_>,
) -> Result<()> {
    let mut new = StoredVersion { version: Some(to.next_version), ..to.latest.clone() };
    if let Some(description) = description {
        new.settings.description = description;
    }
    if let Some(last) = with.last.as_ref().filter(|last| last.is_same(&new)) {
        to.published = last.version;
        return Ok(());
    }
    if to.versions.len() >= VERSIONS_MAX {
        let message =
            format!("function `{}` has reached the limit of {VERSIONS_MAX} versions", to.name);
        return Err(Error::invalid(message, "Delete some of them"));
    }
    new.modified = with.now;
    let object = serde_json::to_vec(&new).map_err(|_| Error::corrupt(&to.name))?;
    to.versions.insert(to.next_version, ObjectId::of(&object));
    with.objects.push(object.into());
    to.published = Some(to.next_version);
    to.next_version += 1;
    Ok(())
}

fn delete_version(to: &mut StoredFunction, version: u64) -> Result<()> {
    let uses = |alias: &FunctionAlias| {
        alias.version == Some(version) || alias.weights.contains_key(&version)
    };
    if let Some((alias, _)) = to.aliases.iter().find(|(_, alias)| uses(alias)) {
        let (name, alias) = (to.name.clone(), alias.clone());
        return Err(Error::VersionInUse { name, version, alias });
    }
    // Deleting a version that does not exist succeeds, as on AWS.
    to.versions.remove(&version);
    to.qualifiers.remove(&version.to_string());
    to.published = to.published.filter(|published| *published != version);
    Ok(())
}

fn check_alias(to: &StoredFunction, name: &str, alias: &FunctionAlias) -> Result<()> {
    let is_usable = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let is_number = name.chars().all(|c| c.is_ascii_digit());
    if name.len() > 128 || is_number || !name.chars().all(is_usable) {
        let message = format!("`{}` is not a valid alias name", crate::paths::printable(name));
        let hint = "Use 1 to 128 letters, digits, `-` and `_`; at least one must not be a digit";
        return Err(Error::invalid(message, hint));
    }
    if to.aliases.len() >= ALIASES_MAX && !to.aliases.contains_key(name) {
        let message =
            format!("function `{}` has reached the limit of {ALIASES_MAX} aliases", to.name);
        return Err(Error::invalid(message, "Delete some of them"));
    }
    let versions = alias.version.iter().chain(alias.weights.keys());
    for version in versions {
        to.resolve(&version.to_string(), 0.0)?;
    }
    let weights = || alias.weights.values();
    let is_share = weights().all(|weight| (0.0..=1.0).contains(weight));
    if !is_share || weights().sum::<f64>() > 1.0 {
        let message = format!(
            "the weights of alias `{name}` must be between 0 and 1, with a sum of at most 1"
        );
        return Err(Error::invalid(message, "Lower the weights"));
    }
    let repeats = alias.version.is_some_and(|version| alias.weights.contains_key(&version));
    if !alias.weights.is_empty() && (alias.version.is_none() || repeats) {
        let message = format!("alias `{name}` needs two published versions for its weights");
        return Err(Error::invalid(message, "Publish a version and use its number in `weights`"));
    }
    Ok(())
}
