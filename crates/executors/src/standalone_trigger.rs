//! Standalone triggers, which are created without a project: create, replace, remove.
//!
//! A standalone trigger has the rights of the identity that created it. `trigger_rights` checks
//! these rights.
//!
//! If the active version cannot be read, no triggers are created or started. The version's triggers
//! are then unknown. Starting only the standalone triggers would delete the stored positions of the
//! version's triggers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use headwater_access::record_owner;
use headwater_deployments::StandaloneTrigger;
use headwater_model::{
    AccessObject, Actor, ErrorCode, Principal, Problem, ResultExt, Trigger, did_you_mean, nearest,
};
use headwater_pipelines::Project;
use headwater_triggers::{check_trigger, check_upcoming};

use crate::deployer::{
    ActiveDeployment, DeployIdentity, Deployer, ParsedDeployment, nothing_deployed,
};
use crate::function_catalog::missing_function;
use crate::trigger_rights::{TargetProject, check_trigger_rights};

/// Maximum length of the name of a standalone trigger, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// The identity whose rights a trigger has.
pub(crate) enum TriggerIdentity {
    /// The identity that deployed the active version, which declares the trigger.
    Deployed(ParsedDeployment),
    /// The identity that created the trigger without a project.
    Standalone {
        /// The trigger.
        trigger: Box<StandaloneTrigger>,
        /// All standalone triggers, by name.
        all: Arc<BTreeMap<String, StandaloneTrigger>>,
    },
}

impl TriggerIdentity {
    /// Returns the identity.
    pub(crate) fn actor(&self) -> &Actor {
        match self {
            TriggerIdentity::Deployed(version) => &version.actor,
            TriggerIdentity::Standalone { trigger, .. } => &trigger.actor,
        }
    }

    /// Returns the principal of the identity.
    pub(crate) fn principal(&self) -> Principal {
        self.actor().principal()
    }

    /// Returns true if this identity deployed or created the trigger with this name.
    pub(crate) fn has_trigger(&self, name: &str) -> bool {
        match self {
            TriggerIdentity::Deployed(version) => version.has_trigger(name),
            TriggerIdentity::Standalone { trigger, all } => {
                all.get(name).is_some_and(|other| other.actor == trigger.actor)
            }
        }
    }
}

impl ActiveDeployment {
    /// Returns the identity that created a trigger, or else the identity that deployed the active
    /// version. Returns `None` if neither exists.
    pub(crate) fn identity(&self, name: &str) -> Result<Option<TriggerIdentity>, Problem> {
        let all = self.standalone();
        if let Some(created) = all.get(name) {
            let trigger = Box::new(created.clone());
            return Ok(Some(TriggerIdentity::Standalone { trigger, all }));
        }
        Ok(self.version()?.map(TriggerIdentity::Deployed))
    }

    /// Returns the identity with whose rights an event of a trigger is delivered.
    ///
    /// Errors: `unavailable` if the trigger was replaced or removed after the delivery began. The
    /// delivery would otherwise have the rights of another user.
    pub(crate) fn actor_of(&self, trigger: &Trigger) -> Result<Actor, Problem> {
        match self.identity(&trigger.name)? {
            None => return Ok(Actor::Anonymous),
            Some(TriggerIdentity::Standalone { trigger: created, .. })
                if created.is_same(trigger) =>
            {
                return Ok(created.actor.clone());
            }
            Some(TriggerIdentity::Deployed(version)) if version.has_trigger(&trigger.name) => {
                return Ok(version.actor);
            }
            Some(_) => {}
        }
        let message = format!("trigger `{}` was replaced or removed", trigger.name);
        let hint = "If the trigger was replaced, its new definition delivers the event.";
        Err(Problem::new(ErrorCode::Unavailable, message).with_hint(hint))
    }

    /// Returns the name of the active project.
    pub fn project_name(&self) -> Option<String> {
        let version = self.version().ok().flatten()?;
        Some(version.project.name.clone())
    }
}

impl Deployer {
    /// Creates a trigger, or replaces the standalone trigger with the same name if `replaces` is
    /// true. A replaced trigger keeps its pending events, which are then delivered with the rights
    /// of the new creator. A new trigger does not receive events that an earlier trigger with the
    /// same name left. The principal owns a new trigger. Another owner of a replaced trigger loses
    /// its ownership first, because it may not see the events of the new creator.
    ///
    /// Errors: `invalid_argument`; `already_exists` if a trigger has the name; the errors for a
    /// missing function, secret or right.
    pub async fn create_trigger(
        &self,
        principal: &Principal,
        trigger: Trigger,
        by: DeployIdentity,
        replaces: bool,
    ) -> Result<bool, Problem> {
        self.check_standalone(&trigger, &by).await?;
        let _guard = self.activation.lock().await;
        let stored = self.standalone.list().await.or_problem()?;
        let name = &trigger.name;
        self.check_not_declared(name)?;
        let exists = stored.iter().any(|it| it.trigger.name == *name && !it.removed);
        if exists && !replaces {
            let message = format!("trigger `{name}` already exists");
            let hint = "Choose another name, or replace the trigger with `--replace`.";
            return Err(Problem::new(ErrorCode::AlreadyExists, message).with_hint(hint));
        }
        let replaced = stored.iter().filter(|it| it.trigger.name == *name && !it.removed);
        let replaced = replaced.map(|it| &it.trigger);
        let invalid = |problem| Problem { code: ErrorCode::InvalidArgument, ..problem };
        let now = self.lake.clock().now();
        check_upcoming(&trigger, replaced, now).or_problem().map_err(invalid)?;
        let object = AccessObject::trigger(name);
        if exists {
            record_owner(&self.access, principal, &object, false).await.or_problem()?;
        } else {
            self.forget_events(name).await?;
        }
        let DeployIdentity { author, actor, .. } = by;
        let (created, removed, notification) = (self.lake.clock().now(), false, None);
        let changed = StandaloneTrigger { trigger, author, actor, created, removed, notification };
        self.store_standalone(&[changed]).await?;
        if !exists {
            // The lock is still held, so no other user has replaced the trigger meanwhile.
            record_owner(&self.access, principal, &object, true).await.or_problem()?;
        }
        Ok(exists)
    }

    /// Checks that the active version declares no trigger with this name.
    pub(crate) fn check_not_declared(&self, name: &str) -> Result<(), Problem> {
        if !self.deployed().version()?.is_some_and(|version| version.has_trigger(name)) {
            return Ok(());
        }
        let message = format!("the deployed project already has a trigger `{name}`");
        let hint = "Choose another name, or remove the trigger from the project.";
        Err(Problem::new(ErrorCode::AlreadyExists, message).with_hint(hint))
    }

    /// Deletes the events that an earlier trigger with this name has left.
    pub(crate) async fn forget_events(&self, name: &str) -> Result<(), Problem> {
        match &self.triggers {
            Some(triggers) => triggers.forget(name).await.or_problem(),
            None => Ok(()),
        }
    }

    /// Removes a trigger that was created without a project, and its pending and failed events.
    /// Removes its owner first, so that it does not own a later trigger of this name.
    ///
    /// Errors: `trigger_not_found`; `invalid_argument` if the project declares the trigger.
    pub async fn remove_trigger(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        let _guard = self.activation.lock().await;
        let stored = self.standalone.list().await.or_problem()?;
        let found = stored.iter().find(|it| it.trigger.name == name && !it.removed);
        let Some(found) = found else {
            if self.deployed().version()?.is_some_and(|version| version.has_trigger(name)) {
                let message = format!("trigger `{name}` is declared in the deployed project");
                let hint = "Remove the trigger from the project, then run `headwater deploy`.";
                return Err(Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint));
            }
            let names = stored.iter().filter(|it| !it.removed).map(|it| it.trigger.name.as_str());
            let list = "List the triggers with `headwater trigger ls`.";
            let hint = did_you_mean(nearest(name, names).as_deref(), list);
            let message = format!("there is no trigger `{name}`");
            return Err(Problem::new(ErrorCode::TriggerNotFound, message).with_hint(hint));
        };
        self.access.remove_owner(principal, &AccessObject::trigger(name)).await.or_problem()?;
        self.store_standalone(&[StandaloneTrigger { removed: true, ..found.clone() }]).await
    }

    /// Stores new, replaced or removed triggers, and then applies the changes.
    pub(crate) async fn store_standalone(
        &self,
        changed: &[StandaloneTrigger],
    ) -> Result<(), Problem> {
        let stored = self.standalone.put(changed).await.or_problem();
        // Some changes may be stored even if `put` returned an error, so load the triggers again.
        self.triggers_outdated.store(true, Ordering::Relaxed);
        if let Some(problem) = self.update_triggers().await {
            // The server repeats the update periodically, so that the stored changes become active.
            tracing::warn!("the changed triggers are not active yet: {problem}");
        }
        self.delete_removed().await;
        stored
    }

    /// Deletes the events and the records of removed triggers. A deletion that fails is repeated at
    /// the next start or change.
    pub(crate) async fn delete_removed(&self) {
        let Some(triggers) = &self.triggers else { return };
        if self.triggers_outdated.load(Ordering::Relaxed) {
            // Keep the records for now: the removed triggers may still be active, and record
            // events.
            return;
        }
        let Ok(stored) = self.standalone.list().await else { return };
        let version = self.deployed().version().ok().flatten();
        for created in stored.iter().filter(|created| created.removed) {
            let name = &created.trigger.name;
            // If a project now declares the name, the trigger of the project takes over the events.
            if !version.as_ref().is_some_and(|version| version.has_trigger(name))
                && let Err(error) = triggers.forget(name).await
            {
                tracing::warn!(%error, "the events of trigger `{name}` cannot be deleted");
                continue;
            }
            if let Err(error) = self.standalone.delete(name).await {
                tracing::warn!(%error, "the record of trigger `{name}` cannot be deleted");
            }
        }
    }

    /// Checks that no trigger of a project has the name of a standalone trigger.
    pub(crate) fn check_names(&self, project: &Project) -> Result<(), Problem> {
        let created = self.deployed().standalone();
        let mut names = project.triggers.iter().map(|trigger| &trigger.name);
        let Some(name) = names.find(|name| created.contains_key(*name)) else { return Ok(()) };
        let message = format!(
            "the project declares trigger `{name}`, but a trigger with this name was created with \
             `headwater trigger create`"
        );
        let hint =
            format!("Rename the trigger of the project, or run `headwater trigger rm {name}`.");
        Err(Problem::new(ErrorCode::AlreadyExists, message).with_hint(hint))
    }

    /// Validates a new trigger, and checks the rights of its creator.
    pub(crate) async fn check_standalone(
        &self,
        trigger: &Trigger,
        by: &DeployIdentity,
    ) -> Result<(), Problem> {
        let invalid = |problem| Problem { code: ErrorCode::InvalidArgument, ..problem };
        check_trigger(trigger).or_problem().map_err(invalid)?;
        if trigger.name.len() > NAME_BYTES_MAX || trigger.name.trim() != trigger.name {
            let message = format!(
                "the name of the trigger has more than {NAME_BYTES_MAX} bytes, or begins or ends \
                 with a space"
            );
            let hint = "Choose a short name of letters, digits and underscores.";
            return Err(Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint));
        }
        if let Some(access) = &by.access {
            let version = self.deployed().version().ok().flatten();
            let project = TargetProject::Active(version.as_ref());
            check_trigger_rights(trigger, project, &**access)?;
        }
        let secrets: Vec<String> = trigger.secrets().into_iter().map(str::to_owned).collect();
        self.secrets.check(&secrets).await.or_problem()?;
        self.check_target(trigger).await
    }

    /// Checks the target of a new trigger. A function must exist and take an event. A run needs a
    /// deployed project that declares the parameters of the trigger.
    async fn check_target(&self, trigger: &Trigger) -> Result<(), Problem> {
        let version = self.deployed().version()?;
        if trigger.run {
            let project = version.as_ref().ok_or_else(nothing_deployed)?.project.clone();
            let known = |name: &&String| project.parameters.contains_key(*name);
            if let Some(name) = trigger.parameters.keys().find(|name| !known(name)) {
                let message = format!("the deployed project does not declare parameter `{name}`");
                let hint = "Declare the parameter in the project, or remove it from the trigger.";
                return Err(Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint));
            }
        }
        let Some(called) = &trigger.function else { return Ok(()) };
        let declared = version.as_ref().and_then(|it| it.project.callables.get(called));
        if let Some(callable) = declared {
            return callable.event_argument().map(drop).or_problem();
        }
        if self.catalog.find(called).await?.is_some() {
            return Ok(());
        }
        Err(missing_function(called))
    }
}
