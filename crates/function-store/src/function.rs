//! A stored function: its latest state (the current files and settings), versions and aliases.

use std::collections::BTreeMap;

use headwater_model::{
    Actor, FunctionAlias, FunctionSettings, FunctionVersion, ObjectId, StandaloneFunction,
    Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{Error, QualifierSettings, Result};

/// The qualifier of a function's latest state: the current files and settings, which need not be
/// published.
pub(crate) const LATEST: &str = "$LATEST";

/// The files of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCode {
    /// The id of the object with the manifest: the paths and hashes of the files.
    pub manifest: ObjectId,
    /// Size in bytes of the archive, or of all files together.
    pub bytes: u64,
    /// SHA-256 of the archive, or of the manifest, in Base64.
    pub sha256: String,
    /// True if the contents of the files are in a pack file. The pack file has the manifest's id as
    /// its name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub packaged: bool,
}

/// A published version, or the latest state of a function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredVersion {
    /// The version number; `None` for the latest state.
    pub version: Option<u64>,
    /// The settings of this version.
    pub settings: FunctionSettings,
    /// The files of this version.
    pub code: StoredCode,
    /// Time of the last change.
    pub modified: Timestamp,
    /// Author of the last change.
    pub author: String,
    /// The identity that made the last change.
    pub actor: Actor,
    /// Values that a protocol, such as the Lambda API, stores for its clients.
    #[serde(default)]
    pub attributes: BTreeMap<String, serde_json::Value>,
}

impl StoredVersion {
    /// Returns a string that identifies this state, in the form of a UUID.
    pub fn revision(&self) -> String {
        revision(self)
    }

    /// Returns the version number as text, or `$LATEST`.
    pub fn qualifier(&self) -> String {
        self.version.map_or_else(|| LATEST.to_owned(), |version| version.to_string())
    }

    /// Returns true if files, settings and attributes are equal.
    pub(crate) fn is_same(&self, other: &StoredVersion) -> bool {
        self.code == other.code
            && self.settings == other.settings
            && self.attributes == other.attributes
    }

    /// Returns the description for the API.
    pub fn summary(&self) -> FunctionVersion {
        FunctionVersion {
            version: self.version,
            settings: self.settings.clone(),
            code: self.code.manifest,
            code_bytes: self.code.bytes,
            modified: self.modified,
            author: self.author.clone(),
        }
    }
}

/// A function that is deployed without a project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredFunction {
    /// The function's name.
    pub name: String,
    /// The latest state.
    pub latest: StoredVersion,
    /// The ids of the stored objects of the published versions, by version number.
    #[serde(default)]
    pub versions: BTreeMap<u64, ObjectId>,
    /// The published version that equals the latest state, if any.
    #[serde(default)]
    pub published: Option<u64>,
    /// The number of the next version. Numbers of deleted versions are not reused.
    pub next_version: u64,
    /// The aliases by name.
    #[serde(default)]
    pub aliases: BTreeMap<String, FunctionAlias>,
    /// The maximum number of concurrent calls; `None` if the function has no limit of its own.
    #[serde(default)]
    pub concurrency: Option<u32>,
    /// The tags by key.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Settings by qualifier: a version number, the name of an alias, or `$LATEST`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub qualifiers: BTreeMap<String, QualifierSettings>,
}

impl StoredFunction {
    /// Returns the number of the version to which a qualifier refers; `None` for the latest state.
    /// For an alias with weights, the random number `roll` (from 0 to 1) selects the version.
    ///
    /// Errors: `function_not_found`.
    pub fn resolve(&self, qualifier: &str, roll: f64) -> Result<Option<u64>> {
        let missing = || Error::NoVersion {
            name: self.name.clone(),
            qualifier: crate::paths::printable(qualifier),
        };
        if qualifier == LATEST {
            return Ok(None);
        }
        if let Ok(number) = qualifier.parse::<u64>() {
            return self.versions.contains_key(&number).then_some(Some(number)).ok_or_else(missing);
        }
        let alias = self.aliases.get(qualifier).ok_or_else(missing)?;
        let mut from = 0.0;
        for (version, weight) in &alias.weights {
            from += weight;
            if roll < from {
                return Ok(Some(*version));
            }
        }
        Ok(alias.version)
    }

    /// Returns the numbers of provisioned instances, by version or alias.
    fn provisioned(&self) -> BTreeMap<String, u32> {
        let count = |(name, settings): (&String, &QualifierSettings)| {
            Some((name.clone(), settings.provisioned.as_ref()?.count))
        };
        self.qualifiers.iter().filter_map(count).collect()
    }

    /// Checks that the limit on concurrent calls is not lower than the number of provisioned
    /// instances. The limit 0 stops all calls, including calls to provisioned instances.
    ///
    /// Errors: `invalid_argument`.
    pub(crate) fn check_concurrency(&self) -> Result<()> {
        let sum = self.provisioned().values().fold(0_u32, |sum, count| sum.saturating_add(*count));
        let Some(limit) = self.concurrency.filter(|limit| *limit > 0 && *limit < sum) else {
            return Ok(());
        };
        let message = format!(
            "the reserved concurrency {limit} of function `{}` is lower than its provisioned \
             concurrency {sum}",
            self.name
        );
        let hint = "Raise the reserved concurrency, or lower the provisioned concurrency";
        Err(Error::invalid(message, hint))
    }

    /// Returns an alias.
    ///
    /// Errors: `function_not_found`.
    pub fn alias(&self, alias: &str) -> Result<&FunctionAlias> {
        self.aliases.get(alias).ok_or_else(|| Error::NoVersion {
            name: self.name.clone(),
            qualifier: crate::paths::printable(alias),
        })
    }

    /// Returns a string that identifies the current settings of an alias.
    pub fn alias_revision(&self, alias: &str) -> String {
        revision(&self.aliases.get(alias))
    }

    /// Returns the description for the API, without the state of provisioned instances. `files` are
    /// the paths of the files in the latest state.
    pub fn summary(&self, files: Vec<String>) -> StandaloneFunction {
        StandaloneFunction {
            name: self.name.clone(),
            latest: FunctionVersion { version: self.published, ..self.latest.summary() },
            files,
            layers: self.latest.layers(),
            versions: self.versions.keys().copied().collect(),
            aliases: self.aliases.clone(),
            concurrency: self.concurrency,
            provisioned_concurrency: self.provisioned(),
            provisioned: BTreeMap::new(),
            callers: Vec::new(),
        }
    }
}

/// Returns a string that identifies a value, in the form of a UUID.
pub(crate) fn revision<T: Serialize>(value: &T) -> String {
    let hash = ObjectId::of(&serde_json::to_vec(value).unwrap_or_default()).to_string();
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| &hash[range]);
    parts.join("-")
}
