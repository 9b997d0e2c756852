//! Versions of a project in the store, and the active one.
//!
//! | kind | name | value |
//! |---|---|---|
//! | object | its hash | one file of a project |
//! | object | the version | a manifest: JSON of `{path: hash of the file}`, or `{"program": hash}` |
//! | journal `deployments` | version | the [`DeploymentRecord`] of its last deployment |
//! | ref `deployments/active` | | the active version |
//!
//! A version is the hash of its manifest, so equal files have the same version. The objects, the
//! record and the ref of a deployment are written in one batch, which is stored completely or not
//! at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use headwater_model::{
    Actor, ChangeKind, Clock, DeployChange, DeployedKind, Deployment, FileContent, ObjectId,
    ProjectFiles, Timestamp,
};
use headwater_project::Project;
use headwater_store::{JournalAppend, KeyRange, RefChange, RefPrecondition, Store, WriteBatch};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

const JOURNAL: &str = "deployments";
const ACTIVE: &str = "deployments/active";

/// The deployed versions of a lake's project. Cheap to clone.
#[derive(Clone)]
pub struct DeploymentStore {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for DeploymentStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeploymentStore").finish_non_exhaustive()
    }
}

/// Journal record of a version.
#[derive(Debug, Serialize, Deserialize)]
struct DeploymentRecord {
    project: String,
    deployed: Timestamp,
    author: String,
    /// The identity that deployed the version. Its permissions apply to the version's triggers.
    #[serde(default)]
    actor: Actor,
    functions: Vec<String>,
    triggers: Vec<String>,
    models: u64,
    files: Vec<String>,
}

impl DeploymentRecord {
    fn deployment(self, version: ObjectId, active: Option<ObjectId>) -> Deployment {
        let DeploymentRecord {
            project, deployed, author, functions, triggers, models, files, ..
        } = self;
        Deployment {
            version,
            project,
            deployed,
            author,
            active: active == Some(version),
            functions,
            triggers,
            models,
            files,
        }
    }
}

impl DeploymentStore {
    /// Opens the deployments in a store.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        DeploymentStore { store, clock }
    }

    /// Returns the active version; `None` before the first deployment.
    pub async fn active(&self) -> Result<Option<ObjectId>> {
        Ok(self.active_text().await?.and_then(|text| read_id(&text)))
    }

    async fn active_text(&self) -> Result<Option<Bytes>> {
        Ok(self.store.reference(ACTIVE).await?)
    }

    /// Returns the identity that last deployed a version. Error: `corrupt`.
    pub async fn actor(&self, version: ObjectId) -> Result<Actor> {
        let entry = self.store.latest(JOURNAL, &version.to_string()).await?;
        let record =
            entry.and_then(|it| serde_json::from_slice::<DeploymentRecord>(&it.value).ok());
        Ok(record.ok_or_else(|| corrupt(version))?.actor)
    }

    /// Returns the files of a version, by path. Error: `corrupt` if a file is missing.
    pub async fn files(&self, version: ObjectId) -> Result<ProjectFiles> {
        let manifest = self.objects(version, &[version]).await?.remove(0);
        let manifest: BTreeMap<String, StoredFile> =
            serde_json::from_slice(&manifest).map_err(|_| corrupt(version))?;
        let ids: Vec<ObjectId> = manifest.values().map(StoredFile::id).collect();
        let contents = self.objects(version, &ids).await?;
        let files = manifest.into_iter().zip(contents);
        let file = |((path, stored), bytes): ((String, StoredFile), Bytes)| {
            (path, FileContent::new(bytes.into(), matches!(stored, StoredFile::Program { .. })))
        };
        Ok(files.map(file).collect())
    }

    async fn objects(&self, version: ObjectId, ids: &[ObjectId]) -> Result<Vec<Bytes>> {
        let found = self.store.objects(ids).await?;
        let found: Option<Vec<Bytes>> = found.into_iter().collect();
        found.filter(|found| found.len() == ids.len()).ok_or_else(|| corrupt(version))
    }

    /// Returns the deployment that a project would create.
    pub fn preview(&self, project: &Project, author: &str) -> Deployment {
        let (manifest, _) = objects(project);
        self.record(project, author, Actor::Owner).deployment(ObjectId::of(&manifest), None)
    }

    fn record(&self, project: &Project, author: &str, actor: Actor) -> DeploymentRecord {
        DeploymentRecord {
            project: project.name.clone(),
            deployed: self.clock.now(),
            author: author.to_owned(),
            actor,
            functions: project.callables.keys().cloned().collect(),
            triggers: project.triggers.iter().map(|trigger| trigger.name.clone()).collect(),
            models: project.models().count() as u64,
            files: project.files.keys().cloned().collect(),
        }
    }

    /// Stores a project as a version and activates the version. The change is durable on return.
    ///
    /// Error: `commit_conflict` if another version was activated concurrently.
    pub async fn deploy(
        &self,
        project: &Project,
        author: &str,
        actor: Actor,
    ) -> Result<Deployment> {
        let (manifest, mut objects) = objects(project);
        let version = ObjectId::of(&manifest);
        objects.push(manifest);
        let record = self.record(project, author, actor);
        let value = serde_json::to_vec(&record).map_err(|_| corrupt(version))?;
        let entry = JournalAppend {
            journal: JOURNAL.to_owned(),
            key: version.to_string(),
            value: Some(value.into()),
        };
        self.switch(version, WriteBatch { objects, entries: vec![entry], ..WriteBatch::default() })
            .await?;
        Ok(record.deployment(version, Some(version)))
    }

    /// Activates a version that was deployed before. The change is durable on return.
    ///
    /// Error: `commit_conflict` if another version was activated concurrently.
    pub async fn activate(&self, version: ObjectId) -> Result<()> {
        self.switch(version, WriteBatch::default()).await
    }

    async fn switch(&self, version: ObjectId, mut batch: WriteBatch) -> Result<()> {
        let expected =
            self.active_text().await?.map_or(RefPrecondition::Absent, RefPrecondition::Value);
        let value = Some(Bytes::from(version.to_string()));
        batch.refs.push(RefChange { name: ACTIVE.to_owned(), expected, value });
        self.store.apply(batch).await?;
        Ok(())
    }

    /// Returns the versions, the most recently deployed first.
    pub async fn list(&self) -> Result<Vec<Deployment>> {
        let active = self.active().await?;
        let mut found = Vec::new();
        for entry in self.store.scan(JOURNAL, &KeyRange::default()).await? {
            let Some(version) = read_id(entry.key.as_bytes()) else { continue };
            let record = serde_json::from_slice::<DeploymentRecord>(&entry.value);
            found.push(record.map_err(|_| corrupt(version))?.deployment(version, active));
        }
        found.sort_by_key(|one| std::cmp::Reverse((one.deployed, one.active)));
        Ok(found)
    }

    /// Returns the version with this id, or the only version whose id has this prefix.
    ///
    /// Error: `deployment_not_found`.
    pub async fn get(&self, text: &str) -> Result<Deployment> {
        let wanted = text.to_ascii_lowercase();
        let all = self.list().await?;
        let is_found = |one: &Deployment| one.version.to_string().starts_with(&wanted);
        let mut found = all.into_iter().filter(is_found);
        match (found.next(), found.next()) {
            (Some(only), None) if !wanted.is_empty() => Ok(only),
            (first, _) => {
                Err(Error::NoDeployment { text: text.to_owned(), several: first.is_some() })
            }
        }
    }
}

/// Returns the manifest of a project, and the contents of its files.
fn objects(project: &Project) -> (Bytes, Vec<Bytes>) {
    let content = |file: &FileContent| Bytes::copy_from_slice(file.bytes());
    let files: Vec<Bytes> = project.files.values().map(content).collect();
    let entry = |((path, file), bytes)| (path, StoredFile::of(file, bytes));
    let manifest: BTreeMap<&String, StoredFile> =
        project.files.iter().zip(&files).map(entry).collect();
    let manifest = serde_json::json!(manifest).to_string();
    (Bytes::from(manifest.into_bytes()), files)
}

/// A file in a manifest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum StoredFile {
    Plain(ObjectId),
    /// A binary program.
    Program {
        program: ObjectId,
    },
}

impl StoredFile {
    fn of(file: &FileContent, bytes: &Bytes) -> Self {
        let id = ObjectId::of(bytes);
        match file {
            FileContent::Binary(file) if file.executable => StoredFile::Program { program: id },
            // A project has no packages: only functions without a project have them.
            FileContent::Binary(_) | FileContent::Text(_) | FileContent::Packed(_) => {
                StoredFile::Plain(id)
            }
        }
    }

    fn id(&self) -> ObjectId {
        match self {
            StoredFile::Plain(id) | StoredFile::Program { program: id } => *id,
        }
    }
}

fn read_id(text: &[u8]) -> Option<ObjectId> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn corrupt(version: ObjectId) -> Error {
    Error::Corrupt { version }
}

/// Returns the differences between two versions of a project, sorted by kind and name.
pub fn deploy_changes(before: Option<&Project>, after: &Project) -> Vec<DeployChange> {
    let mut changes = Vec::new();
    changes.extend(compare(DeployedKind::Trigger, before.map(triggers), &triggers(after)));
    changes.extend(compare(DeployedKind::Function, before.map(functions), &functions(after)));
    changes.extend(compare(DeployedKind::File, before.map(files), &files(after)));
    changes
}

/// Returns the hash of each file's content, by path.
fn files(project: &Project) -> BTreeMap<String, String> {
    let hashed = |(path, file): (&String, &FileContent)| {
        let bytes = Bytes::copy_from_slice(file.bytes());
        let id = StoredFile::of(file, &bytes);
        (path.clone(), serde_json::json!(id).to_string())
    };
    project.files.iter().map(hashed).collect()
}

fn triggers(project: &Project) -> BTreeMap<String, String> {
    let text =
        |one: &headwater_model::Trigger| (one.name.clone(), serde_json::json!(one).to_string());
    project.triggers.iter().map(text).collect()
}

/// Returns a string for each function, which changes whenever the function's settings or the
/// content of one of its files change. Functions may share a folder, so files in it that contain
/// handlers of other functions do not count.
fn functions(project: &Project) -> BTreeMap<String, String> {
    let hashes = files(project);
    let handlers: BTreeSet<&String> =
        project.callables.values().flat_map(|one| &one.handler_files).collect();
    let described = project.callables.iter().map(|(name, callable)| {
        let is_own = |path: &String| {
            let is_named = callable.files.contains(path) || callable.handler_files.contains(path);
            let is_in_folder = callable.files.iter().any(|own| is_inside(path, own));
            is_named || (is_in_folder && !handlers.contains(path))
        };
        let own: Vec<_> = hashes.iter().filter(|(path, _)| is_own(path)).collect();
        (name.clone(), format!("{}\n{own:?}", callable.settings_text(&project.defaults)))
    });
    described.collect()
}

/// Returns true for a file or folder itself, and for the files in the folder.
fn is_inside(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn compare(
    kind: DeployedKind,
    before: Option<BTreeMap<String, String>>,
    after: &BTreeMap<String, String>,
) -> Vec<DeployChange> {
    let before = before.unwrap_or_default();
    let change = |name: &String, change| DeployChange { kind, name: name.clone(), change };
    let removed = before.keys().filter(|name| !after.contains_key(*name));
    let mut changes: Vec<_> = removed.map(|name| change(name, ChangeKind::Removed)).collect();
    for (name, text) in after {
        match before.get(name) {
            None => changes.push(change(name, ChangeKind::Added)),
            Some(other) if other != text => changes.push(change(name, ChangeKind::Changed)),
            Some(_) => {}
        }
    }
    changes.sort_by(|one, other| one.name.cmp(&other.name));
    changes
}

#[cfg(test)]
mod tests {
    use headwater_model::FixedClock;
    use headwater_project::ParsedProject;
    use headwater_store::MemoryStore;

    use super::*;

    fn project(function: &str) -> Project {
        let manifest = "[project]\nname = \"p\"\n[[trigger]]\nname = \"nightly\"\n\
                        schedule = { cron = \"0 2 * * *\" }\nrun = true\n";
        let code = format!("import headwater\n@headwater.function()\ndef {function}(): pass\n");
        let files = [("headwater.toml", manifest), ("a.py", &code)];
        let files = files.map(|(path, text)| (path.to_owned(), text.into()));
        let parsed = ParsedProject::read(&ProjectFiles::from(files), |_| None);
        let parsed = parsed.expect("a project");
        parsed.into_whole(|_| false).expect("a project without errors")
    }

    #[tokio::test]
    async fn a_version_is_named_by_its_files_and_read_back_completely() {
        let clock = Arc::new(FixedClock::at("2026-03-01T00:00:00Z".parse().expect("a time")));
        let deployments = DeploymentStore::new(Arc::new(MemoryStore::new()), clock.clone());
        assert_eq!(deployments.active().await.expect("none"), None);
        let (one, two) = (project("one"), project("two"));
        let first = deployments.deploy(&one, "ada", Actor::Owner).await.expect("a version");
        clock.advance(std::time::Duration::from_secs(1));
        let second = deployments.deploy(&two, "bob", Actor::Owner).await.expect("a version");
        assert_ne!(first.version, second.version);
        assert_eq!(deployments.active().await.expect("a ref"), Some(second.version));
        assert_eq!(deployments.files(first.version).await.expect("files"), *one.files);
        assert_eq!(deployments.preview(&one, "eve").version, first.version);

        deployments.activate(first.version).await.expect("a rollback");
        let listed = deployments.list().await.expect("a list");
        let seen: Vec<_> =
            listed.iter().map(|one| (&*one.functions[0], &*one.author, one.active)).collect();
        assert_eq!(seen, [("two", "bob", false), ("one", "ada", true)]);
        let short = &second.version.to_string()[..12];
        assert_eq!(deployments.get(short).await.expect("a version").author, "bob");
        for unknown in ["", "zz"] {
            let error = deployments.get(unknown).await.expect_err("no version");
            let code = headwater_model::ToProblem::code(&error);
            assert_eq!(code, headwater_model::ErrorCode::DeploymentNotFound);
        }
    }

    #[test]
    fn changes_name_files_functions_and_triggers() {
        let changes = deploy_changes(Some(&project("one")), &project("two"));
        let named: Vec<_> = changes.iter().map(|one| (one.kind, &*one.name, one.change)).collect();
        let expected = [
            (DeployedKind::Function, "one", ChangeKind::Removed),
            (DeployedKind::Function, "two", ChangeKind::Added),
            (DeployedKind::File, "a.py", ChangeKind::Changed),
        ];
        assert_eq!(named, expected);
        assert_eq!(deploy_changes(Some(&project("one")), &project("one")), []);
        assert_eq!(deploy_changes(None, &project("one")).len(), 4);
    }

    #[test]
    fn a_function_changes_with_its_settings_and_its_own_files() {
        let read = |env: &str, replaced: &[(&str, &str)]| {
            let manifest = format!(
                "[project]\nname = \"p\"\n{}[functions.hello]\nruntime = \"python3.11\"\n\
                 handler = \"app.handler\"\nfolder = \"fw\"\nenv = {{ A = \"{env}\" }}\n\
                 [functions.net]\nruntime = \"python3.11\"\nhandler = \"net.handler\"\n\
                 folder = \"fw\"\n",
                if replaced.is_empty() { "" } else { "# A comment.\n" },
            );
            let code = "import helper\nimport headwater\n@headwater.function()\ndef f(): pass\n";
            let mut files: ProjectFiles = [
                ("headwater.toml", manifest.as_str()),
                ("a.py", code),
                ("helper.py", "ONE = 1\n"),
                ("fw/app.py", "def handler(event, context): pass\n"),
                ("fw/net.py", "def handler(event, context): pass\n"),
                ("fwx/app.py", "ONE = 1\n"),
            ]
            .into_iter()
            .map(|(path, text)| (path.to_owned(), text.into()))
            .collect();
            files.extend(replaced.iter().map(|(path, text)| ((*path).to_owned(), (*text).into())));
            let parsed = ParsedProject::read(&files, |_| None).expect("a project");
            parsed.into_whole(|_| false).expect("a project without errors")
        };
        let before = read("one", &[]);
        let changed = |after: &Project| {
            let changes = deploy_changes(Some(&before), after).into_iter();
            let functions = changes.filter(|one| one.kind == DeployedKind::Function);
            functions.map(|one| one.name).collect::<Vec<_>>().join(" ")
        };
        for (path, text, expected) in [
            ("fw/app.py", "def handler(event, context): return 1\n", "hello"),
            ("fw/net.py", "def handler(event, context): return 1\n", "net"),
            ("fw/data.json", "{}", "hello net"),
            ("fwx/app.py", "TWO = 2\n", ""),
            ("net.py", "TWO = 2\n", ""),
            ("helper.py", "ONE = 2\n", "f"),
        ] {
            assert_eq!(changed(&read("one", &[(path, text)])), expected, "{path}");
        }
        assert_eq!(changed(&read("two", &[])), "hello");
    }
}
