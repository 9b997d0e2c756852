//! Layers: files that several functions share.
//!
//! The ref `layers/NAME` has the versions of a layer. A function stores references to the files of
//! the layer versions that it uses. So the function still works after one of these layer versions
//! is deleted.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use headwater_model::{FileContent, ObjectOwner, ProjectFiles, Timestamp};
use headwater_store::{Error as StoreError, RefChange, RefPrecondition, WriteBatch};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::layer_owner::LayerUser;
use crate::paths::printable;
use crate::{Error, FunctionStore, NewCode, Result, StoredCode, StoredVersion};

/// Prefix of the refs.
const REFS: &str = "layers/";

/// Number of refs that are read from the store per page.
const PAGE: usize = 1_000;

/// Maximum number of attempts to apply a change while other requests change the same layer.
const ATTEMPTS: u32 = 20;

/// Maximum length of a layer's name, in bytes.
const NAME_BYTES_MAX: usize = 140;

/// The attribute of a layer version that contains its description, named as in Lambda.
const DESCRIPTION: &str = "Description";

/// Maximum length of a description, in bytes. Limited because one stored value contains all
/// versions of a layer.
const DESCRIPTION_BYTES_MAX: usize = 1_024;

/// Maximum number of versions of a layer, and of statements in the policy of a version.
const VERSIONS_MAX: usize = 1_000;
const STATEMENTS_MAX: usize = 100;

/// Folders of a layer whose files are placed in the root folder of the function.
const ROOTS: [&str; 2] = ["python/", "nodejs/"];

/// The function's folder for the files of layers in other folders. In the sandbox, `/opt` is a link
/// to this folder.
const OTHERS: &str = "opt";

/// A layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredLayer {
    /// The layer's name.
    pub name: String,
    /// The versions by number.
    pub versions: BTreeMap<u64, LayerVersion>,
    /// The number of the next version. Numbers of deleted versions are not used again.
    pub next_version: u64,
    /// The user that owns the layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<ObjectOwner>,
}

/// A version of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerVersion {
    /// The files of the version.
    pub code: StoredCode,
    /// The time of the version's creation.
    pub created: Timestamp,
    /// The author.
    pub author: String,
    /// Values that a protocol, such as the Lambda API, stores for its clients.
    #[serde(default)]
    pub attributes: BTreeMap<String, Value>,
    /// The statements of the version's policy, by id. Clients can store and read these statements,
    /// which grant no rights.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policy: BTreeMap<String, Value>,
}

/// The hint of the error if a policy already has a statement with the id.
pub(crate) const STATEMENT_EXISTS: &str = "Choose another id, or remove the statement first";

/// The text before the layer's name in the ARN of a layer version.
const ARN_PART: &str = ":layer:";

/// The attribute of a function version that lists its layers: [`UsedLayer`]s, in order.
pub const LAYERS: &str = "Layers";

/// A version of a layer that a function uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsedLayer {
    /// The ARN, as clients know it.
    #[serde(rename = "Arn")]
    pub arn: String,
    /// The files of the layer version.
    #[serde(rename = "Code")]
    pub code: StoredCode,
}

/// A change of a layer.
#[derive(Debug, Clone)]
pub enum LayerChange {
    /// Publishes a version with these files.
    Publish {
        /// The files.
        code: NewCode,
        /// The author.
        author: String,
        /// Values that the protocol stores for its clients.
        attributes: BTreeMap<String, Value>,
    },
    /// Deletes a version.
    Delete(u64),
    /// Adds a statement to the policy of a version.
    AddPermission(u64, String, Value),
    /// Removes a statement.
    RemovePermission(u64, String),
}

impl LayerChange {
    /// Returns the publication of a version with a description.
    ///
    /// Errors: `invalid_argument` if the description is too long.
    pub fn publish(code: NewCode, author: &str, description: String) -> Result<Self> {
        if description.len() > DESCRIPTION_BYTES_MAX {
            let message = format!("the description has {} bytes", description.len());
            let hint = format!("Write at most {DESCRIPTION_BYTES_MAX} bytes");
            return Err(Error::invalid(message, hint));
        }
        let mut attributes = BTreeMap::new();
        if !description.is_empty() {
            attributes.insert(DESCRIPTION.to_owned(), Value::String(description));
        }
        Ok(LayerChange::Publish { code, author: author.to_owned(), attributes })
    }
}

impl StoredLayer {
    /// Returns the descriptions of the versions for the API, by number.
    pub fn summaries(&self) -> Vec<headwater_model::LayerVersion> {
        let summary = |(number, version): (&u64, &LayerVersion)| headwater_model::LayerVersion {
            layer: self.name.clone(),
            version: *number,
            description: version.description().to_owned(),
            code: version.code.manifest,
            code_bytes: version.code.bytes,
            created: version.created,
            author: version.author.clone(),
        };
        self.versions.iter().map(summary).collect()
    }

    /// Returns the description of the newest version for the API.
    ///
    /// Errors: `function_not_found` for a layer without versions.
    pub fn newest(&self) -> Result<headwater_model::LayerVersion> {
        self.summaries().pop().ok_or_else(|| missing(&self.name, None))
    }

    /// Returns a version.
    ///
    /// Errors: `function_not_found`.
    pub fn version(&self, number: u64) -> Result<&LayerVersion> {
        self.versions.get(&number).ok_or_else(|| missing(&self.name, Some(number)))
    }

    fn version_mut(&mut self, number: u64) -> Result<&mut LayerVersion> {
        let missing = missing(&self.name, Some(number));
        self.versions.get_mut(&number).ok_or(missing)
    }
}

impl LayerVersion {
    fn description(&self) -> &str {
        self.attributes.get(DESCRIPTION).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Returns the name and the number in a text such as `deps:3`.
///
/// Errors: `invalid_argument`.
pub fn parse_layer_version(text: &str) -> Result<(&str, u64)> {
    let parts = text.rsplit_once(':');
    let parts = parts.and_then(|(name, number)| Some((name, number.parse().ok()?)));
    parts.ok_or_else(|| {
        let message = format!("`{}` is not a version of a layer", printable(text));
        Error::invalid(message, "Write the name and the number, such as `deps:3`")
    })
}

impl FunctionStore {
    /// Returns a layer.
    ///
    /// Errors: `function_not_found` if it never existed.
    pub async fn layer(&self, name: &str) -> Result<StoredLayer> {
        let layer = self.read_layer(name).await?;
        layer.map(|(layer, _)| layer).ok_or_else(|| missing(name, None))
    }

    /// Returns all layers by name.
    pub async fn layers(&self) -> Result<Vec<StoredLayer>> {
        let (mut layers, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.store().references(REFS, after.as_deref(), PAGE).await?;
            for (name, bytes) in &page {
                layers.push(decode(name.trim_start_matches(REFS), bytes)?);
            }
            after = page.last().map(|(name, _)| name.clone());
            if page.len() < PAGE {
                return Ok(layers);
            }
        }
    }

    async fn read_layer(&self, name: &str) -> Result<Option<(StoredLayer, Bytes)>> {
        let Some(bytes) = self.store().reference(&format!("{REFS}{name}")).await? else {
            return Ok(None);
        };
        Ok(Some((decode(name, &bytes)?, bytes)))
    }

    /// Changes a layer; publishing the first version creates the layer. The change is durable when
    /// this method returns.
    ///
    /// Errors: `function_not_found` for an unknown layer or version; `invalid_argument`;
    /// `already_exists` for the id of a statement; `commit_conflict`, even if the user no longer
    /// owns the layer.
    pub async fn change_layer(
        &self,
        name: &str,
        change: &LayerChange,
        by: &LayerUser,
    ) -> Result<StoredLayer> {
        check_layer_name(name)?;
        if let LayerChange::Publish { code, .. } = change {
            self.store_pack_file(code).await?;
        }
        for _ in 0..ATTEMPTS {
            let (mut layer, expected) = match (self.read_layer(name).await?, change) {
                (Some((layer, before)), _) => (layer, RefPrecondition::Value(before)),
                (None, LayerChange::Publish { .. }) => {
                    let (name, versions) = (name.to_owned(), BTreeMap::new());
                    let new = StoredLayer { name, versions, next_version: 1, owner: None };
                    (new, RefPrecondition::Absent)
                }
                (None, _) => return Err(missing(name, None)),
            };
            by.check(&layer)?;
            let objects = self.apply_to_layer(&mut layer, change)?;
            by.set_owner(&mut layer, change);
            let value = serde_json::to_vec(&layer).map_err(|_| Error::corrupt(name))?;
            let ref_name = format!("{REFS}{name}");
            let refs = vec![RefChange { name: ref_name, expected, value: Some(value.into()) }];
            match self.store().apply(WriteBatch { objects, refs, ..WriteBatch::default() }).await {
                Ok(_) => return Ok(layer),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Conflict { name: name.to_owned() })
    }

    /// Applies a change to a layer in memory. Returns the objects to store with the change.
    fn apply_to_layer(&self, to: &mut StoredLayer, change: &LayerChange) -> Result<Vec<Bytes>> {
        match change.clone() {
            LayerChange::Publish { code, author, attributes } => {
                if to.versions.len() >= VERSIONS_MAX {
                    let message = format!(
                        "layer `{}` has reached the limit of {VERSIONS_MAX} versions",
                        to.name
                    );
                    return Err(Error::invalid(message, "Delete unused versions"));
                }
                let created = self.now();
                let policy = BTreeMap::new();
                let version = LayerVersion { code: code.code, created, author, attributes, policy };
                to.versions.insert(to.next_version, version);
                to.next_version += 1;
                return Ok(code.objects);
            }
            LayerChange::Delete(number) => {
                to.versions.remove(&number).ok_or_else(|| missing(&to.name, Some(number)))?;
            }
            LayerChange::AddPermission(number, id, statement) => {
                let version = to.version_mut(number)?;
                if version.policy.contains_key(&id) {
                    let what = format!("the statement `{}`", printable(&id));
                    return Err(Error::exists(what, STATEMENT_EXISTS));
                }
                if version.policy.len() >= STATEMENTS_MAX {
                    let message =
                        format!("the policy has reached the limit of {STATEMENTS_MAX} statements");
                    return Err(Error::invalid(message, "Remove unused statements"));
                }
                version.policy.insert(id, statement);
            }
            LayerChange::RemovePermission(number, id) => {
                let layer = format!("version {number} of layer `{}`", printable(&to.name));
                let removed = to.version_mut(number)?.policy.remove(&id);
                let what = format!("{layer} has no permission `{}`", printable(&id));
                removed.ok_or(Error::NoLayer { what })?;
            }
        }
        Ok(Vec::new())
    }
}

impl StoredVersion {
    /// Returns the layer versions that this version of a function uses, such as `deps:3`, in order.
    pub(crate) fn layers(&self) -> Vec<String> {
        let used = used_layers(self);
        let short = |layer: &UsedLayer| {
            let name = layer.arn.rsplit_once(ARN_PART).map(|(_, name)| name.to_owned());
            name.unwrap_or_else(|| layer.arn.clone())
        };
        used.iter().map(short).collect()
    }
}

/// Returns the layer versions that a version of a function uses, in order.
pub(crate) fn used_layers(version: &StoredVersion) -> Vec<UsedLayer> {
    let used = version.attributes.get(LAYERS).cloned().unwrap_or_default();
    serde_json::from_value(used).unwrap_or_default()
}

impl FunctionStore {
    /// Returns the files of a function and of the layers that its attribute [`LAYERS`] names.
    ///
    /// Errors: `invalid_argument` if the files are too many or too large together.
    pub async fn with_layers(
        &self,
        name: &str,
        files: ProjectFiles,
        attributes: &BTreeMap<String, Value>,
    ) -> Result<ProjectFiles> {
        let used = attributes.get(LAYERS).cloned().unwrap_or(Value::Array(Vec::new()));
        let used: Vec<UsedLayer> =
            serde_json::from_value(used).map_err(|_| Error::corrupt(name))?;
        if used.is_empty() {
            return Ok(files);
        }
        let mut layers = Vec::with_capacity(used.len());
        for layer in &used {
            layers.push(self.files(name, &layer.code).await?);
        }
        let merged = add_layers(files, layers);
        crate::check_files(&merged)?;
        Ok(merged)
    }
}

/// Checks that the attributes of a function name each layer once, as on AWS. If a function used two
/// versions, the files of one version would replace files of the other.
pub(crate) fn check_layers(attributes: &BTreeMap<String, Value>) -> Result<()> {
    let used = attributes.get(LAYERS).and_then(Value::as_array).into_iter().flatten();
    let mut seen = BTreeSet::new();
    for arn in used.filter_map(|layer| layer["Arn"].as_str()) {
        let layer = arn.rsplit(':').nth(1).unwrap_or(arn);
        if !seen.insert(layer) {
            let message = format!("the layer `{}` is named twice", printable(layer));
            return Err(Error::invalid(message, "Name one version of each layer"));
        }
    }
    Ok(())
}

/// Adds the files of layers to the files of a function. Later layers replace files of earlier
/// layers, and files of the function replace files of layers.
pub fn add_layers(files: ProjectFiles, layers: Vec<ProjectFiles>) -> ProjectFiles {
    let mut merged = ProjectFiles::new();
    for layer in layers {
        let moved = |(path, file): (String, FileContent)| {
            let below = ROOTS.iter().find_map(|root| path.strip_prefix(root));
            let path = below.map_or_else(|| format!("{OTHERS}/{path}"), str::to_owned);
            (path, file)
        };
        merged.extend(layer.into_iter().map(moved));
    }
    merged.extend(files);
    merged
}

/// Checks the name of a layer, which must be a valid part of an ARN.
fn check_layer_name(name: &str) -> Result<()> {
    let is_usable = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(is_usable) {
        return Ok(());
    }
    let message = format!("`{}` is not a valid layer name", printable(name));
    let hint = format!("Use at most {NAME_BYTES_MAX} letters, digits, `_` and `-`");
    Err(Error::invalid(message, hint))
}

fn missing(name: &str, number: Option<u64>) -> Error {
    let what = match number {
        Some(number) => format!("layer `{}` has no version {number}", printable(name)),
        None => format!("layer `{}` does not exist", printable(name)),
    };
    Error::NoLayer { what }
}

fn decode(name: &str, bytes: &Bytes) -> Result<StoredLayer> {
    serde_json::from_slice(bytes).map_err(|_| Error::corrupt(name))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use headwater_model::{ErrorCode, FixedClock, ToProblem};
    use headwater_store::MemoryStore;
    use serde_json::json;

    use super::*;

    fn publish(text: &str) -> LayerChange {
        let files = ProjectFiles::from([("python/shared.py".to_owned(), text.into())]);
        let code = FunctionStore::code(&files, None).expect("files");
        LayerChange::publish(code, "ada", format!("the text {text}")).expect("a change")
    }

    #[tokio::test]
    async fn versions_of_layers_are_numbered_once() {
        let clock = FixedClock::at("2026-03-01T00:00:00Z".parse().expect("a time"));
        let store = FunctionStore::new(Arc::new(MemoryStore::new()), Arc::new(clock));
        let by = LayerUser::default();
        let change = async |change: &LayerChange| store.change_layer("deps", change, &by).await;
        for text in ["one", "two"] {
            change(&publish(text)).await.expect("published");
        }
        change(&LayerChange::Delete(2)).await.expect("deleted");
        let layer = change(&publish("three")).await.expect("published");
        let shown = layer.summaries().into_iter().map(|one| (one.version, one.description));
        let expected = [(1, "the text one".to_owned()), (3, "the text three".to_owned())];
        assert_eq!(shown.collect::<Vec<_>>(), expected);
        assert_eq!(layer.newest().expect("a version").version, 3);
        let add = || LayerChange::AddPermission(1, "all".into(), json!({}));
        change(&add()).await.expect("added");
        for (name, change, code) in [
            ("deps", add(), ErrorCode::AlreadyExists),
            ("none", add(), ErrorCode::FunctionNotFound),
            ("a/b", publish("x"), ErrorCode::InvalidArgument),
            ("a.b", publish("x"), ErrorCode::InvalidArgument),
            ("", publish("x"), ErrorCode::InvalidArgument),
            ("deps", LayerChange::Delete(2), ErrorCode::FunctionNotFound),
            ("none", LayerChange::Delete(1), ErrorCode::FunctionNotFound),
            (
                "deps",
                LayerChange::AddPermission(2, "a".into(), json!({})),
                ErrorCode::FunctionNotFound,
            ),
            ("deps", LayerChange::RemovePermission(1, "b".into()), ErrorCode::FunctionNotFound),
        ] {
            let error = store.change_layer(name, &change, &by).await.expect_err(name);
            assert_eq!(error.code(), code, "{name}");
        }
        assert_eq!(store.layers().await.expect("layers").len(), 1);
        let files = store.files("deps", &layer.versions[&3].code).await.expect("files");
        assert_eq!(files["python/shared.py"].text(), "three");
    }

    #[test]
    fn versions_and_descriptions_are_checked() {
        assert_eq!(parse_layer_version("deps:3").expect("a version"), ("deps", 3));
        for wrong in ["", "deps", "deps:", "deps:x", "deps:-1"] {
            parse_layer_version(wrong).expect_err(wrong);
        }
        let files = ProjectFiles::from([("a.py".to_owned(), "x = 1".into())]);
        let code = FunctionStore::code(&files, None).expect("files");
        let long = "x".repeat(DESCRIPTION_BYTES_MAX + 1);
        let error = LayerChange::publish(code, "ada", long).expect_err("too long");
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
    }

    #[test]
    fn files_of_a_function_replace_those_of_layers() {
        let files = |pairs: &[(&str, &str)]| -> ProjectFiles {
            pairs.iter().map(|(path, text)| ((*path).to_owned(), (*text).into())).collect()
        };
        let layers = vec![
            files(&[("python/a.py", "1"), ("python/b.py", "1"), ("bin/tool", "1")]),
            files(&[("python/b.py", "2"), ("nodejs/node_modules/c.js", "2")]),
        ];
        let merged = add_layers(files(&[("app.py", "own"), ("a.py", "own")]), layers);
        let text = |path: &str| merged[path].text();
        assert_eq!((text("a.py"), text("b.py"), text("opt/bin/tool")), ("own", "2", "1"));
        assert_eq!((text("node_modules/c.js"), merged.len()), ("2", 5));
    }
}
