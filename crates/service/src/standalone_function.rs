//! Functions without a project: deploy, change, list, get, delete.

use std::fs::File;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use headwater_access::record_owner;
use headwater_destinations::DestinationAddress;
use headwater_executors::{
    check_destination, check_function, provisioned_instances, provisioned_status, split_name,
};
use headwater_function_store::{
    Author, FunctionChange, FunctionFiles, FunctionUpdate, FunctionUrl, StoredFunction,
    StoredVersion, deployment_changes, read_request, temporary_file,
};
use headwater_functions::ProvisionedStatus;
use headwater_model::{
    AccessObject, Action, Actor, DeployFunction, ErrorCode, FunctionSettings, FunctionVersion,
    Principal, Problem, ProjectFiles, ResultExt, StandaloneFunction, ToProblem,
};
use tokio::io::AsyncWriteExt;

use crate::event_source_mapping::EventSourceMappings;
use crate::layer::Layers;
use crate::service::Components;
use crate::trigger::Triggers;

/// The qualifier of a function's current code and settings, which need not be a published version.
pub(crate) const LATEST: &str = "$LATEST";

/// Maximum size of an archive in a bucket that is read into memory, in bytes.
const MEMORY_BYTES_MAX: u64 = 32 << 20;

/// Maximum number of attempts to deploy while other requests change the same function.
const DEPLOY_ATTEMPTS: u32 = 20;

/// Operations on functions that are deployed without a project.
#[derive(Clone)]
pub struct StandaloneFunctions(pub(crate) Arc<Components>);

impl StandaloneFunctions {
    /// Lists the functions that the principal may deploy.
    pub async fn list(&self, principal: &Principal) -> Result<Vec<StoredFunction>, Problem> {
        self.0.authenticated(principal)?;
        let mut functions = self.0.catalog.store().list().await.or_problem()?;
        let allows =
            |name: &str| self.0.allows(principal, Action::Deploy, &AccessObject::function(name));
        functions.retain(|function| allows(&function.name));
        Ok(functions)
    }

    /// Returns a function.
    pub async fn get(&self, principal: &Principal, name: &str) -> Result<StoredFunction, Problem> {
        // Read the function before the check. If another user changes the code, the owner loses its
        // rights first, so a permitted read never returns the changed code.
        let function = self.0.catalog.store().get(name).await;
        self.0.authorize(principal, Action::Deploy, &AccessObject::function(name))?;
        function.or_problem()
    }

    /// Returns the description of a function.
    pub async fn show(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<StandaloneFunction, Problem> {
        let function = self.get(principal, name).await?;
        self.describe(principal, function).await
    }

    async fn describe(
        &self,
        principal: &Principal,
        function: StoredFunction,
    ) -> Result<StandaloneFunction, Problem> {
        let store = self.0.catalog.store();
        let paths = store.paths(&function.name, &function.latest.code).await.or_problem()?;
        let provisioned = provisioned_instances(&self.0.functions, &function);
        let callers = self.callers(principal, &function.name).await;
        Ok(StandaloneFunction { provisioned, callers, ..function.summary(paths) })
    }

    /// Returns the triggers and event source mappings that call a function, as far as the principal
    /// may see them.
    async fn callers(&self, principal: &Principal, name: &str) -> Vec<String> {
        let triggers = Triggers(self.0.clone()).list(principal).await.unwrap_or_default();
        let mappings =
            EventSourceMappings(self.0.clone()).list(principal).await.unwrap_or_default();
        let calls = |called: &str| split_name(called).0 == name;
        let triggers = triggers.into_iter().map(|one| one.trigger);
        let triggers = triggers.filter(|one| one.function.as_deref().is_some_and(calls));
        let mappings = mappings.into_iter().map(|one| one.mapping);
        let mappings = mappings.filter(|one| calls(&one.settings.function));
        let triggers = triggers.map(|one| format!("trigger `{}`", one.name));
        triggers.chain(mappings.map(|one| format!("event source mapping `{}`", one.id))).collect()
    }

    /// Returns a function, and its state at a version or alias; by default, at `$LATEST`.
    pub async fn version(
        &self,
        principal: &Principal,
        name: &str,
        qualifier: Option<&str>,
    ) -> Result<(StoredFunction, StoredVersion), Problem> {
        let function = self.get(principal, name).await?;
        // An alias can divide calls between two versions; 1.0 selects its main version.
        let number = function.resolve(qualifier.unwrap_or(LATEST), 1.0).or_problem()?;
        let version = self.0.catalog.store().version(&function, number).await.or_problem()?;
        Ok((function, version))
    }

    /// Returns the URL settings of a function or of its alias. Checks no right, because the server
    /// reads these settings to decide which requests it accepts.
    pub async fn url(
        &self,
        name: &str,
        qualifier: Option<&str>,
    ) -> Result<Option<FunctionUrl>, Problem> {
        let function = self.0.catalog.store().find(name).await.or_problem()?;
        let settings = function.as_ref().and_then(|function| function.settings_of(qualifier));
        Ok(settings.and_then(|settings| settings.url.clone()))
    }

    /// Returns a function, and the state of the provisioned instances of its version or alias.
    /// Returns `None` if the version or alias has no provisioned concurrency.
    pub async fn provisioned(
        &self,
        principal: &Principal,
        name: &str,
        qualifier: &str,
    ) -> Result<(StoredFunction, Option<ProvisionedStatus>), Problem> {
        let function = self.get(principal, name).await?;
        let status = provisioned_status(&self.0.functions, &function, qualifier);
        Ok((function, status))
    }

    /// Returns the published versions of a function by number.
    pub async fn stored_versions(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<(StoredFunction, Vec<StoredVersion>), Problem> {
        let function = self.get(principal, name).await?;
        let versions = self.0.catalog.store().versions(&function).await.or_problem()?;
        Ok((function, versions))
    }

    /// Lists summaries of the published versions of a function by number.
    pub async fn versions(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<Vec<FunctionVersion>, Problem> {
        let (_, versions) = self.stored_versions(principal, name).await?;
        Ok(versions.iter().map(StoredVersion::summary).collect())
    }

    /// Deploys a function as a new version. On return, the current state and the version are
    /// durable. Settings that the request does not contain are unchanged. No version is created if
    /// the last version has the same files and settings.
    ///
    /// Errors: `invalid_argument`, `secret_not_found`; `already_exists` if the deployed project has
    /// a function of this name.
    pub async fn deploy(
        &self,
        principal: &Principal,
        name: &str,
        mut request: DeployFunction,
    ) -> Result<StandaloneFunction, Problem> {
        self.0.authorize(principal, Action::Deploy, &AccessObject::function(name))?;
        let (files, archive) = (mem::take(&mut request.files), request.archive.take());
        let upload = request.upload.take();
        let files = self.request_files(principal, files, archive, upload.as_deref()).await?;
        let function = self.apply(principal, name, &request, files).await?;
        if let Some(upload) = upload {
            // Delete the upload last, so that a client can repeat a rejected request with it.
            let _ = self.0.import_rights.delete_upload(principal, &upload).await;
        }
        self.describe(principal, function).await
    }

    /// Applies a deployment to the function's current state. Settings that it does not contain are
    /// kept. Applies it again if another request changed or created the function meanwhile.
    async fn apply(
        &self,
        principal: &Principal,
        name: &str,
        request: &DeployFunction,
        files: FunctionFiles,
    ) -> Result<StoredFunction, Problem> {
        let layers = match &request.layers {
            Some(layers) => Some(Layers(self.0.clone()).used(principal, layers).await?),
            None => None,
        };
        let store = self.0.catalog.store();
        let mut attempts = 1;
        loop {
            let exists = store.find(name).await.or_problem()?;
            let changes = deployment_changes(name, request, exists.as_ref(), layers.as_deref());
            let (changes, is_new) = (changes.or_problem()?, exists.is_none());
            let deployed = if let Some(function) = exists {
                let revision = Some(function.latest.revision());
                let update = FunctionUpdate { files: Some(files.clone()), changes, revision };
                self.change(principal, name, update).await
            } else {
                self.create(principal, name, files.clone(), changes).await
            };
            let code = deployed.as_ref().err().map(|problem| problem.code);
            let is_outdated = code == Some(ErrorCode::PreconditionFailed)
                || is_new
                    && code == Some(ErrorCode::AlreadyExists)
                    && store.find(name).await.or_problem()?.is_some();
            if !is_outdated || attempts == DEPLOY_ATTEMPTS {
                return deployed;
            }
            attempts += 1;
        }
    }

    /// Creates a function by applying changes to an empty function. One of the changes must contain
    /// the settings.
    pub async fn create(
        &self,
        principal: &Principal,
        name: &str,
        files: FunctionFiles,
        changes: Vec<FunctionChange>,
    ) -> Result<StoredFunction, Problem> {
        self.0.authorize(principal, Action::Deploy, &AccessObject::function(name))?;
        let project = self.0.deployer.deployed().version().ok().flatten();
        if project.is_some_and(|version| version.project.callables.contains_key(name)) {
            let message = format!("the deployed project already has a function `{name}`");
            let hint = "Choose another name, or remove the function from the project.";
            return Err(Problem::new(ErrorCode::AlreadyExists, message).with_hint(hint));
        }
        let new = changes.iter().find_map(FunctionChange::settings);
        let settings = new.map(|(settings, _)| settings.clone()).unwrap_or_default();
        let store = self.0.catalog.store();
        let merged = match new {
            Some((_, used)) => store.with_layers(name, files.files, used).await.or_problem()?,
            None => files.files,
        };
        self.check(principal, name, &settings, merged).await?;
        let created = store.create(name, files.code, &changes, &author(principal)).await;
        self.0.provisioner.update();
        let created = created.or_problem()?;
        if principal.user_name().is_some() {
            let object = AccessObject::function(name);
            self.0.access.set_owner(principal, &object).await.or_problem()?;
            // Another user may have changed the function before the owner was recorded.
            let stored = store.find(name).await.or_problem()?;
            let revision = stored.map(|function| function.latest.revision());
            if revision != Some(created.latest.revision()) {
                self.0.access.remove_owner(principal, &object).await.or_problem()?;
            }
        }
        Ok(created)
    }

    /// Changes a function.
    pub async fn change(
        &self,
        principal: &Principal,
        name: &str,
        mut update: FunctionUpdate,
    ) -> Result<StoredFunction, Problem> {
        let is_any_revision = update.revision.is_none();
        let mut attempts = 1;
        loop {
            let checked = self.check_change(principal, name, &update).await?;
            if is_any_revision {
                update.revision.clone_from(&checked);
            }
            let changed = self.0.catalog.store().change(name, &update, &author(principal)).await;
            self.0.provisioner.update();
            if checked.is_some() {
                // A concurrent creation may have recorded its user after the first check.
                self.end_ownership(principal, name).await?;
            }
            match changed.or_problem() {
                Err(problem)
                    if problem.code == ErrorCode::PreconditionFailed
                        && is_any_revision
                        && checked.is_some()
                        && attempts < DEPLOY_ATTEMPTS =>
                {
                    attempts += 1;
                }
                changed => return changed,
            }
        }
    }

    /// Checks the right to a change. Returns the checked revision if the change replaces the code
    /// or the settings.
    async fn check_change(
        &self,
        principal: &Principal,
        name: &str,
        update: &FunctionUpdate,
    ) -> Result<Option<String>, Problem> {
        let latest = self.get(principal, name).await?.latest;
        let store = self.0.catalog.store();
        let new = update.changes.iter().find_map(FunctionChange::settings);
        let files = match (&update.files, new) {
            (Some(files), _) => Some(files.files.clone()),
            (None, Some(_)) => Some(store.files(name, &latest.code).await.or_problem()?),
            (None, None) => None,
        };
        let Some(files) = files else { return Ok(None) };
        let used = new.map_or(&latest.attributes, |(_, used)| used);
        let files = store.with_layers(name, files, used).await.or_problem()?;
        let settings = new.map_or(&latest.settings, |(settings, _)| settings);
        self.check(principal, name, settings, files).await?;
        self.end_ownership(principal, name).await?;
        Ok(Some(latest.revision()))
    }

    /// Removes the owner of a function that another user changes: the owner may not use the code
    /// and the environment variables of that user.
    async fn end_ownership(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        let object = AccessObject::function(name);
        record_owner(&self.0.access, principal, &object, false).await.or_problem()
    }

    /// Deletes a function with its versions. Running calls are not stopped.
    pub async fn delete(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        self.0.authorize(principal, Action::Deploy, &AccessObject::function(name))?;
        // Remove the owner first, so that it does not own a new function of this name.
        self.0.access.remove_owner(principal, &AccessObject::function(name)).await.or_problem()?;
        let deleted = self.0.catalog.store().delete(name).await;
        self.0.provisioner.update();
        deleted.or_problem()
    }

    /// Checks that the principal may set the address of a queue, table or server as the destination
    /// of calls.
    ///
    /// Errors: `invalid_argument`, `queue_not_found`, `secret_not_found`.
    pub async fn check_destination(
        &self,
        principal: &Principal,
        address: &str,
    ) -> Result<(), Problem> {
        self.0.authenticated(principal)?;
        let (access, secrets) = (&self.0.access, &self.0.secrets);
        match check_destination(access, secrets, principal, address).await? {
            DestinationAddress::Queue(name) => self.0.queues.get(&name).or_problem().map(drop),
            _ => Ok(()),
        }
    }

    /// Reads the files of a request on a thread of the blocking pool.
    ///
    /// Errors: `invalid_argument`, `disk_full`, `storage`.
    pub async fn read_files(
        &self,
        files: ProjectFiles,
        archive: Option<String>,
    ) -> Result<FunctionFiles, Problem> {
        let folder = self.0.config.lake_dir.clone();
        read_blocking(move || read_request(files, archive.as_deref(), &folder).or_problem()).await
    }

    /// Reads the files of a ZIP archive of this size. A large archive is written to disk first, so
    /// that memory does not depend on its size.
    ///
    /// Errors: `invalid_argument`, `disk_full`, `storage`, and errors of the content.
    pub async fn read_archive(
        &self,
        size: u64,
        content: impl Stream<Item = Result<Bytes, Problem>> + Send,
    ) -> Result<FunctionFiles, Problem> {
        let folder = self.0.config.lake_dir.clone();
        let mut content = std::pin::pin!(content);
        if size <= MEMORY_BYTES_MAX {
            let mut archive = Vec::new();
            while let Some(part) = content.try_next().await? {
                archive.extend_from_slice(&part);
            }
            let read = move || FunctionFiles::of_archive(&archive, &folder).or_problem();
            return read_blocking(read).await;
        }
        let mut file = tokio::fs::File::from_std(temporary_file(&folder).or_problem()?);
        while let Some(part) = content.try_next().await? {
            file.write_all(&part).await.map_err(not_written)?;
        }
        file.flush().await.map_err(not_written)?;
        let archive = file.into_std().await;
        read_blocking(move || FunctionFiles::of_archive_file(archive, &folder).or_problem()).await
    }

    /// Reads the files of a request, or of the archive `upload` that the principal uploaded.
    pub(crate) async fn request_files(
        &self,
        principal: &Principal,
        files: ProjectFiles,
        archive: Option<String>,
        upload: Option<&str>,
    ) -> Result<FunctionFiles, Problem> {
        let Some(upload) = upload else { return self.read_files(files, archive).await };
        if !files.is_empty() || archive.is_some() {
            return Err(several_sources());
        }
        let path = self.0.import_rights.own_upload(principal, upload)?;
        let folder = self.0.config.lake_dir.clone();
        let read = move || {
            let archive = File::open(&path).map_err(|error| not_opened(&error))?;
            FunctionFiles::of_archive_file(archive, &folder).or_problem()
        };
        read_blocking(read).await
    }

    /// Checks the new state of a function before it is stored.
    async fn check(
        &self,
        principal: &Principal,
        name: &str,
        settings: &FunctionSettings,
        files: ProjectFiles,
    ) -> Result<(), Problem> {
        for secret in &settings.secrets {
            self.0.authorize(principal, Action::Use, &AccessObject::secret(secret))?;
        }
        self.0.secrets.check(&settings.secrets).await.or_problem()?;
        let function = check_function(name, settings, files).await?;
        self.0.runner.check_environments(&function.project).map_err(|error| match error {
            // Omit the location in the file: the file is generated, so the user does not know it.
            headwater_pipelines::Error::Environment { problem, .. } => {
                Problem { code: ErrorCode::InvalidArgument, ..*problem }
            }
            other => other.to_problem(),
        })
    }
}

async fn read_blocking(
    read: impl FnOnce() -> Result<FunctionFiles, Problem> + Send + 'static,
) -> Result<FunctionFiles, Problem> {
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| {
        Err(Problem::new(ErrorCode::Internal, format!("reading the files failed: {error}")))
    })
}

fn several_sources() -> Problem {
    let message = "the request has `upload`, and also `files` or `archive`";
    Problem::new(ErrorCode::InvalidArgument, message)
        .with_hint("Send only one of `files`, `archive` and `upload`.")
}

fn not_written(source: std::io::Error) -> Problem {
    headwater_function_store::Error::Disk { source }.to_problem()
}

fn not_opened(error: &std::io::Error) -> Problem {
    let mut problem = Problem::new(ErrorCode::FileNotFound, "the upload cannot be opened");
    problem.causes.push(error.to_string());
    problem.with_hint("Send the file again: an upload can be deployed once, within a day.")
}

fn author(principal: &Principal) -> Author {
    let actor = Actor::of(principal).without_token();
    Author { name: principal.author().to_owned(), actor }
}
