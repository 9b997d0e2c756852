//! Triggers and their events: list, create, delete, replay.

use std::sync::Arc;

use headwater_executors::{DeployIdentity, EVERY, missing_branch};
use headwater_model::{
    AccessObject, Action, Actor, ErrorCode, MAIN_BRANCH, Principal, Problem, ResultExt, Trigger,
    TriggerEvent, TriggerStatus,
};
use headwater_triggers::TriggerEventFilter;

use crate::deployment::complete;
use crate::service::Components;

/// Operations on triggers.
#[derive(Clone)]
pub struct Triggers(pub(crate) Arc<Components>);

impl Triggers {
    /// Lists the deployed and standalone triggers that the principal may read, by name.
    pub async fn list(&self, principal: &Principal) -> Result<Vec<TriggerStatus>, Problem> {
        self.0.authenticated(principal)?;
        self.0.deployer.deployed().version()?;
        let triggers = self.0.triggers.as_ref();
        let mut listed = triggers.map(headwater_triggers::Triggers::list).unwrap_or_default();
        listed.retain(|status| self.is_visible(principal, &status.trigger.name));
        for status in listed.iter_mut().filter(|status| status.error.is_none()) {
            let branch = status.trigger.branch.as_deref().unwrap_or(MAIN_BRANCH);
            if self.0.allows(principal, Action::Read, &AccessObject::branch(branch)) {
                status.error = missing_branch(&self.0.lake, &status.trigger).await?;
            }
        }
        Ok(listed)
    }

    /// Creates a trigger without a project, which the principal then owns, or replaces it if
    /// `replaces` is true. The trigger has the rights of the principal. A disconnect of the caller
    /// does not interrupt the change. Returns true if an existing trigger was replaced.
    ///
    /// Errors: `invalid_argument`; `already_exists`; the error for a missing function, secret or
    /// project.
    pub async fn create(
        &self,
        principal: &Principal,
        trigger: Trigger,
        replaces: bool,
    ) -> Result<bool, Problem> {
        self.authorize_change(principal)?;
        let (components, by) = (self.0.clone(), self.identity(principal));
        let principal = principal.clone();
        complete(async move {
            components.deployer.create_trigger(&principal, trigger, by, replaces).await
        })
        .await
    }

    /// Deletes a trigger that was created without a project, and its pending and failed events.
    pub async fn delete(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        self.authorize_change(principal)?;
        let (components, name) = (self.0.clone(), name.to_owned());
        let principal = principal.clone();
        complete(async move { components.deployer.remove_trigger(&principal, &name).await }).await
    }

    /// Returns the identity whose rights the triggers of a principal have.
    pub(crate) fn identity(&self, principal: &Principal) -> DeployIdentity {
        DeployIdentity {
            author: principal.author().to_owned(),
            actor: Actor::of(principal).without_token(),
            access: self.0.table_access(principal),
        }
    }

    /// Checks that a principal may deploy the active project, or all projects if no project is
    /// active.
    pub(crate) fn authorize_change(&self, principal: &Principal) -> Result<(), Problem> {
        let name = self.0.deployer.deployed().project_name();
        let object = AccessObject::project(name.as_deref().unwrap_or(EVERY));
        self.0.authorize(principal, Action::Deploy, &object)
    }

    /// Returns true if a principal may see a trigger and its events.
    fn is_visible(&self, principal: &Principal, trigger: &str) -> bool {
        self.0.allows(principal, Action::Read, &AccessObject::trigger(trigger))
    }

    /// Returns true if a principal may see an event: the principal caused it, or may read its
    /// trigger.
    fn is_event_visible(&self, principal: &Principal, event: &TriggerEvent) -> bool {
        let author = event.author.as_deref();
        let is_own = author.is_some_and(|author| principal.is_author_of(author, event.created));
        is_own || self.is_visible(principal, &event.trigger)
    }

    /// Lists events of triggers that the principal may read, newest first.
    pub async fn events(
        &self,
        principal: &Principal,
        filter: &TriggerEventFilter,
    ) -> Result<Vec<TriggerEvent>, Problem> {
        match &filter.trigger {
            Some(trigger) => {
                self.0.authorize(principal, Action::Read, &AccessObject::trigger(trigger))?;
            }
            None => self.0.authenticated(principal)?,
        }
        match (&self.0.triggers, &filter.trigger) {
            (Some(triggers), _) => {
                let is_visible = |event: &TriggerEvent| self.is_event_visible(principal, event);
                triggers.events_visible(filter, &is_visible).await.or_problem()
            }
            (None, None) => Ok(Vec::new()),
            (None, Some(name)) => Err(triggers_disabled(&format!("trigger `{name}`"))),
        }
    }

    /// Returns an event that the principal caused, or whose trigger it may read.
    pub async fn event(&self, principal: &Principal, event: &str) -> Result<TriggerEvent, Problem> {
        self.0.authenticated(principal)?;
        let found = match self.of_event(event) {
            Ok(triggers) => triggers.event(event).await.or_problem(),
            Err(disabled) => Err(disabled),
        };
        if self.0.is_unlimited(principal) {
            return found;
        }
        // Drop the error: for an ambiguous short id, it contains the ids of hidden events.
        let visible = found.ok().filter(|found| self.is_event_visible(principal, found));
        visible.ok_or_else(|| {
            Problem::new(ErrorCode::EventNotFound, format!("there is no event `{event}`"))
        })
    }

    /// Returns the triggers component for a request about an event. Fails if triggers are disabled.
    fn of_event(&self, event: &str) -> Result<&headwater_triggers::Triggers, Problem> {
        let triggers = self.0.triggers.as_ref();
        triggers.ok_or_else(|| triggers_disabled(&format!("event `{event}`")))
    }

    /// Checks that a principal may run the trigger of an event.
    async fn authorize_run(&self, principal: &Principal, event: &str) -> Result<(), Problem> {
        self.0.authenticated(principal)?;
        let found = match self.of_event(event) {
            Ok(triggers) => triggers.event(event).await.ok(),
            Err(_) => None,
        };
        let allows = |trigger: &AccessObject| self.0.allows(principal, Action::Run, trigger);
        // A hidden event gives the same error as a missing one.
        let trigger = found.and_then(|event| {
            let trigger = AccessObject::trigger(&event.trigger);
            (allows(&trigger) || self.is_event_visible(principal, &event)).then_some(trigger)
        });
        let trigger = trigger.unwrap_or_else(|| AccessObject::trigger(EVERY));
        self.0.authorize(principal, Action::Run, &trigger)
    }

    /// Removes a pending or failed event, which is then never delivered.
    pub async fn remove(
        &self,
        principal: &Principal,
        event: &str,
    ) -> Result<TriggerEvent, Problem> {
        self.authorize_run(principal, event).await?;
        self.of_event(event)?.remove(event).await.or_problem()
    }

    /// Delivers an event again. A failed event starts over with its first attempt. A waiting event
    /// becomes due immediately.
    pub async fn replay(
        &self,
        principal: &Principal,
        event: &str,
    ) -> Result<TriggerEvent, Problem> {
        self.authorize_run(principal, event).await?;
        self.of_event(event)?.replay(event).await.or_problem()
    }
}

fn triggers_disabled(object: &str) -> Problem {
    let message = format!("there is no {object}: triggers are disabled on this server");
    Problem::new(ErrorCode::TriggerNotFound, message)
}
