//! The functions of a lake that are deployed without a project.
//!
//! The ref `functions/NAME` contains the state of a function. Versions and files are objects. A
//! change stores its objects and compares and swaps the ref in one batch, so that it is complete
//! and durable when it is acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use headwater_model::{Actor, Clock, FunctionSettings, ObjectId, Timestamp};
use headwater_store::{Error as StoreError, RefChange, RefPrecondition, Store, WriteBatch};
use serde_json::Value;

use crate::change::ChangeContext;
use crate::layer::check_layers;
use crate::pack_file::PackFiles;
use crate::{
    Error, FunctionChange, FunctionUpdate, NewCode, Result, StoredFunction, StoredVersion,
};

/// Prefix of the refs.
const REFS: &str = "functions/";

/// Number of refs that are read from the store per page.
const PAGE: usize = 1_000;

/// Maximum number of attempts to apply a change while other requests change the same function.
const ATTEMPTS: u32 = 20;

/// Maximum total size of a function's environment variables, in bytes.
const ENV_BYTES_MAX: usize = 64 << 10;

/// The author of a change.
#[derive(Debug, Clone)]
pub struct Author {
    /// The author's name.
    pub name: String,
    /// The identity of the author.
    pub actor: Actor,
}

/// The functions of a lake. Cheap to clone.
#[derive(Clone)]
pub struct FunctionStore {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// The storage of large functions.
    pub(crate) pack_files: Option<PackFiles>,
}

impl FunctionStore {
    /// Opens the functions in a store.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        FunctionStore { store, clock, pack_files: None }
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns a function; `None` if it does not exist.
    pub async fn find(&self, name: &str) -> Result<Option<StoredFunction>> {
        Ok(self.read(name).await?.map(|(function, _)| function))
    }

    /// Returns a function.
    ///
    /// Errors: `function_not_found`.
    pub async fn get(&self, name: &str) -> Result<StoredFunction> {
        self.find(name).await?.ok_or_else(|| not_found(name))
    }

    async fn read(&self, name: &str) -> Result<Option<(StoredFunction, Bytes)>> {
        let Some(bytes) = self.store.reference(&format!("{REFS}{name}")).await? else {
            return Ok(None);
        };
        Ok(Some((decode(name, &bytes)?, bytes)))
    }

    /// Returns all functions by name.
    pub async fn list(&self) -> Result<Vec<StoredFunction>> {
        let (mut functions, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.store.references(REFS, after.as_deref(), PAGE).await?;
            for (name, bytes) in &page {
                functions.push(decode(name.trim_start_matches(REFS), bytes)?);
            }
            after = page.last().map(|(name, _)| name.clone());
            if page.len() < PAGE {
                return Ok(functions);
            }
        }
    }

    /// Returns a version of a function; without a number, the latest state.
    pub async fn version(
        &self,
        function: &StoredFunction,
        version: Option<u64>,
    ) -> Result<StoredVersion> {
        let Some(number) = version else { return Ok(function.latest.clone()) };
        let missing =
            || Error::NoVersion { name: function.name.clone(), qualifier: number.to_string() };
        let id = function.versions.get(&number).ok_or_else(missing)?;
        let bytes = self.store.object(id).await?;
        let bytes = bytes.ok_or_else(|| Error::corrupt(&function.name))?;
        serde_json::from_slice(&bytes).map_err(|_| Error::corrupt(&function.name))
    }

    /// Returns the published versions of a function by number.
    pub async fn versions(&self, function: &StoredFunction) -> Result<Vec<StoredVersion>> {
        let ids: Vec<ObjectId> = function.versions.values().copied().collect();
        let corrupt = || Error::corrupt(&function.name);
        let read = |bytes: Option<Bytes>| {
            serde_json::from_slice(&bytes.ok_or_else(corrupt)?).map_err(|_| corrupt())
        };
        self.store.objects(&ids).await?.into_iter().map(read).collect()
    }

    /// Creates a function with these files, and applies the changes to it, for example a
    /// publication. The function is durable when this method returns.
    ///
    /// Errors: `already_exists`; `invalid_argument` for an invalid name or setting.
    pub async fn create(
        &self,
        name: &str,
        code: NewCode,
        changes: &[FunctionChange],
        author: &Author,
    ) -> Result<StoredFunction> {
        check_name(name)?;
        check_changes(changes)?;
        self.store_pack_file(&code).await?;
        let mut function = StoredFunction {
            name: name.to_owned(),
            latest: StoredVersion {
                version: None,
                settings: FunctionSettings::default(),
                code: code.code,
                modified: self.clock.now(),
                author: author.name.clone(),
                actor: author.actor.clone(),
                attributes: BTreeMap::<String, Value>::new(),
            },
            versions: BTreeMap::new(),
            published: None,
            next_version: 1,
            aliases: BTreeMap::new(),
            concurrency: None,
            tags: BTreeMap::new(),
            qualifiers: BTreeMap::new(),
        };
        let mut objects = code.objects;
        self.apply_all(&mut function, changes, author, &mut objects).await?;
        match self.store_function(&function, RefPrecondition::Absent, objects).await {
            Err(Error::Conflict { .. }) => {
                let hint = "Choose another name, or change the existing function";
                Err(Error::exists(format!("function `{name}`"), hint))
            }
            other => other.map(|()| function),
        }
    }

    /// Changes a function. The change is durable when this method returns.
    ///
    /// Errors: `function_not_found`; `precondition_failed` if the function has another revision
    /// than the expected one; `commit_conflict`; the errors of the individual changes.
    pub async fn change(
        &self,
        name: &str,
        update: &FunctionUpdate,
        author: &Author,
    ) -> Result<StoredFunction> {
        check_changes(&update.changes)?;
        let code = update.files.as_ref().map(|files| &files.code);
        if let Some(code) = code {
            self.store_pack_file(code).await?;
        }
        let mut changes: Vec<FunctionChange> = Vec::new();
        changes.extend(code.map(|code| FunctionChange::Code(code.code.clone())));
        changes.extend(update.changes.iter().cloned());
        for _ in 0..ATTEMPTS {
            let (mut function, before) = self.read(name).await?.ok_or_else(|| not_found(name))?;
            check_revision(name, function.latest.revision(), update.revision.as_deref())?;
            let mut objects = code.map(|code| code.objects.clone()).unwrap_or_default();
            self.apply_all(&mut function, &changes, author, &mut objects).await?;
            match self.store_function(&function, RefPrecondition::Value(before), objects).await {
                Err(Error::Conflict { .. }) => {}
                other => return other.map(|()| function),
            }
        }
        Err(Error::Conflict { name: name.to_owned() })
    }

    async fn apply_all(
        &self,
        function: &mut StoredFunction,
        changes: &[FunctionChange],
        author: &Author,
        objects: &mut Vec<Bytes>,
    ) -> Result<()> {
        let given = objects.len();
        for change in changes {
            let last = match (change, function.versions.keys().next_back().copied()) {
                (FunctionChange::Publish(_), Some(last)) => {
                    Some(self.published_version(function, last, &objects[given..]).await?)
                }
                _ => None,
            };
            let mut with = ChangeContext { author, now: self.clock.now(), objects, last };
            change.apply(function, &mut with)?;
        }
        // Check this after all changes, because a request can change the limit on concurrent calls
        // and the number of provisioned instances in any order.
        if changes.iter().any(|change| matches!(change, FunctionChange::Concurrency(_))) {
            function.check_concurrency()?;
        }
        Ok(())
    }

    /// Returns a version of a function. An earlier change of the same request may have published
    /// it: then it is not stored yet, but in `objects`.
    async fn published_version(
        &self,
        function: &StoredFunction,
        number: u64,
        objects: &[Bytes],
    ) -> Result<StoredVersion> {
        let id = function.versions.get(&number);
        match objects.iter().find(|object| id == Some(&ObjectId::of(object))) {
            Some(object) => {
                serde_json::from_slice(object).map_err(|_| Error::corrupt(&function.name))
            }
            None => self.version(function, Some(number)).await,
        }
    }

    async fn store_function(
        &self,
        function: &StoredFunction,
        expected: RefPrecondition,
        objects: Vec<Bytes>,
    ) -> Result<()> {
        let value = serde_json::to_vec(function).map_err(|_| Error::corrupt(&function.name))?;
        let name = format!("{REFS}{}", function.name);
        let refs = vec![RefChange { name, expected, value: Some(value.into()) }];
        self.apply(&function.name, WriteBatch { objects, refs, ..WriteBatch::default() }).await
    }

    async fn apply(&self, name: &str, batch: WriteBatch) -> Result<()> {
        match self.store.apply(batch).await {
            Ok(_) => Ok(()),
            Err(StoreError::Conflict { .. }) => Err(Error::Conflict { name: name.to_owned() }),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes a function with its versions and aliases.
    ///
    /// Errors: `function_not_found`.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let (_, before) = self.read(name).await?.ok_or_else(|| not_found(name))?;
        let expected = RefPrecondition::Value(before);
        let refs = vec![RefChange { name: format!("{REFS}{name}"), expected, value: None }];
        self.apply(name, WriteBatch { refs, ..WriteBatch::default() }).await
    }
}

fn not_found(name: &str) -> Error {
    Error::NotFound { name: crate::paths::printable(name) }
}

fn decode(name: &str, bytes: &Bytes) -> Result<StoredFunction> {
    serde_json::from_slice(bytes).map_err(|_| Error::corrupt(name))
}

/// Checks that the revision of a function or an alias is the expected one, if any.
///
/// Errors: `precondition_failed`.
pub(crate) fn check_revision(name: &str, found: String, expected: Option<&str>) -> Result<()> {
    match expected {
        Some(expected) if expected != found => Err(Error::WrongRevision {
            name: name.to_owned(),
            found,
            expected: crate::paths::printable(expected),
        }),
        _ => Ok(()),
    }
}

fn check_name(name: &str) -> Result<()> {
    let is_usable = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let is_dots = name.chars().all(|c| c == '.');
    if name.len() <= 140 && !is_dots && name.chars().all(is_usable) {
        return Ok(());
    }
    let message = format!("`{}` is not a valid function name", crate::paths::printable(name));
    Err(Error::invalid(message, "Use at most 140 letters, digits, `_`, `-` and `.`"))
}

/// Checks the settings in changes. Called before large files are stored, which takes long.
fn check_changes(changes: &[FunctionChange]) -> Result<()> {
    for change in changes {
        if let FunctionChange::Settings(settings, attributes) = change {
            check_settings(settings)?;
            check_layers(attributes)?;
        }
    }
    Ok(())
}

fn check_settings(settings: &FunctionSettings) -> Result<()> {
    let size = |(name, value): (&String, &String)| name.len() + value.len();
    let bytes: usize = settings.env.iter().map(size).sum();
    if bytes > ENV_BYTES_MAX {
        let message = format!("the environment variables need {bytes} bytes (limit 64 KiB)");
        return Err(Error::invalid(message, "Remove variables or shorten their values"));
    }
    let is_name = |name: &str| {
        let mut rest = name.chars();
        rest.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && rest.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match settings.env.iter().find(|(name, value)| !is_name(name) || value.contains('\0')) {
        None => Ok(()),
        Some((name, _)) => {
            let name = crate::paths::printable(name);
            let message = format!("`{name}` is not a valid environment variable");
            Err(Error::invalid(message, "Use letters, digits and `_` in the name of the variable"))
        }
    }
}

#[cfg(test)]
mod tests {
    use headwater_model::{
        ErrorCode, FixedClock, FunctionAlias, ProjectFiles, ToProblem, UpdateFunctionAlias,
    };
    use headwater_store::MemoryStore;

    use super::*;
    use crate::FunctionFiles;

    fn author() -> Author {
        Author { name: "ada".to_owned(), actor: Actor::Owner }
    }

    fn files(text: &str) -> FunctionFiles {
        let files = ProjectFiles::from([("app.py".to_owned(), text.into())]);
        let code = FunctionStore::code(&files, None).expect("files");
        FunctionFiles { files, code }
    }

    fn code(text: &str) -> NewCode {
        files(text).code
    }

    /// Replaces the files by one with this text, and publishes a version.
    async fn deploy(store: &FunctionStore, text: &str) {
        let changes = vec![publish()];
        let update = FunctionUpdate { files: Some(files(text)), changes, revision: None };
        store.change("f", &update, &author()).await.expect("changed");
    }

    fn store() -> FunctionStore {
        let clock = FixedClock::at("2026-03-01T00:00:00Z".parse().expect("a time"));
        FunctionStore::new(Arc::new(MemoryStore::new()), Arc::new(clock))
    }

    fn publish() -> FunctionChange {
        FunctionChange::Publish(None)
    }

    async fn change(store: &FunctionStore, change: FunctionChange) -> Result<StoredFunction> {
        store.change("f", &change.into(), &author()).await
    }

    #[tokio::test]
    async fn versions_never_change_and_numbers_are_not_used_again() {
        let store = store();
        let one = store.create("f", code("one"), &[publish()], &author()).await.expect("created");
        assert_eq!(one.versions.keys().copied().collect::<Vec<_>>(), [1]);
        let same = change(&store, publish()).await.expect("unchanged");
        assert_eq!(same.versions.len(), 1);
        deploy(&store, "two").await;
        change(&store, FunctionChange::DeleteVersion(2)).await.expect("deleted");
        let published = change(&store, publish()).await.expect("published");
        assert_eq!(published.versions.keys().copied().collect::<Vec<_>>(), [1, 3]);
        let versions = store.versions(&published).await.expect("versions");
        let text = async |version: &StoredVersion| {
            store.files("f", &version.code).await.expect("files")["app.py"].text().to_owned()
        };
        assert_eq!(text(&versions[0]).await, "one");
        assert_eq!(text(&versions[1]).await, "two");
        assert_eq!(published.resolve("3", 0.0).expect("a version"), Some(3));
        assert_eq!(published.resolve("$LATEST", 0.0).expect("a version"), None);
        published.resolve("2", 0.0).expect_err("deleted");
    }

    #[tokio::test]
    async fn a_request_can_publish_several_versions() {
        let store = store();
        let created = store.create("f", code("one"), &[publish(), publish()], &author()).await;
        assert_eq!(created.expect("created").versions.len(), 1, "nothing has changed in between");
        let second = FunctionChange::Code(code("one").code);
        let changes = vec![publish(), second, publish()];
        let update = FunctionUpdate { files: Some(files("two")), changes, revision: None };
        let changed = store.change("f", &update, &author()).await.expect("changed");
        let versions = store.versions(&changed).await.expect("versions");
        let versions: Vec<_> = versions.into_iter().map(|one| (one.version, one.code)).collect();
        let expected = [(1, "one"), (2, "two"), (3, "one")];
        assert_eq!(versions, expected.map(|(number, text)| (Some(number), code(text).code)));
    }

    #[tokio::test]
    async fn an_alias_selects_versions_by_weight_and_keeps_them() {
        let store = store();
        store.create("f", code("one"), &[publish()], &author()).await.expect("created");
        deploy(&store, "two").await;
        let weights = BTreeMap::from([(2, 0.25)]);
        let alias = FunctionAlias { version: Some(1), weights, ..FunctionAlias::default() };
        let create = || FunctionChange::CreateAlias("live".to_owned(), alias.clone());
        let function = change(&store, create()).await.expect("an alias");
        assert_eq!(function.resolve("live", 0.2).expect("a version"), Some(2));
        assert_eq!(function.resolve("live", 0.25).expect("a version"), Some(1));
        let update = |name: &str, update: UpdateFunctionAlias, revision: Option<&str>| {
            let revision = revision.map(str::to_owned);
            FunctionChange::UpdateAlias { name: name.to_owned(), update, revision }
        };
        let description = Some("stable".to_owned());
        let described = UpdateFunctionAlias { description, ..UpdateFunctionAlias::default() };
        let read = function.alias_revision("live");
        let change_once = || update("live", described.clone(), Some(&read));
        let function = change(&store, change_once()).await.expect("changed");
        let expected = FunctionAlias { description: "stable".to_owned(), ..alias.clone() };
        assert_eq!(function.aliases["live"], expected, "absent fields are unchanged");
        for (failing, code) in [
            (create(), ErrorCode::AlreadyExists),
            (FunctionChange::DeleteVersion(2), ErrorCode::NotEmpty),
            (update("a", described.clone(), None), ErrorCode::FunctionNotFound),
            (change_once(), ErrorCode::PreconditionFailed),
            (FunctionChange::CreateAlias("7".into(), alias.clone()), ErrorCode::InvalidArgument),
        ] {
            assert_eq!(change(&store, failing).await.expect_err("rejected").code(), code);
        }
        let weights = Some(BTreeMap::from([(2, 1.5)]));
        let heavy = UpdateFunctionAlias { weights, ..UpdateFunctionAlias::default() };
        change(&store, update("live", heavy, None)).await.expect_err("too heavy");
        change(&store, FunctionChange::DeleteAlias("live".into())).await.expect("deleted");
        change(&store, FunctionChange::DeleteVersion(2)).await.expect("deleted");
    }

    #[tokio::test]
    async fn concurrent_changes_are_all_applied() {
        let store = store();
        store.create("f", code("one"), &[], &author()).await.expect("created");
        let error = store.create("f", code("two"), &[], &author()).await.expect_err("exists");
        assert_eq!(error.code(), ErrorCode::AlreadyExists);
        let tag = |number: u32| {
            FunctionChange::Tag(BTreeMap::from([(number.to_string(), String::new())]))
        };
        let changes: Vec<_> = (0..8)
            .map(|number| {
                let store = store.clone();
                tokio::spawn(async move { change(&store, tag(number)).await })
            })
            .collect();
        for one in changes {
            one.await.expect("no panic").expect("changed");
        }
        assert_eq!(store.get("f").await.expect("a function").tags.len(), 8);
        let revision = Some("other".to_owned());
        let stale = FunctionUpdate { revision, ..publish().into() };
        let stale = store.change("f", &stale, &author()).await;
        assert_eq!(stale.expect_err("stale").code(), ErrorCode::PreconditionFailed);
        assert_eq!(store.list().await.expect("a list").len(), 1);
        store.delete("f").await.expect("deleted");
        assert_eq!(store.delete("f").await.expect_err("gone").code(), ErrorCode::FunctionNotFound);
        for name in ["", "..", "a/b", "ä", &"a".repeat(141)] {
            store.create(name, code("x"), &[], &author()).await.expect_err(name);
        }
    }
}
