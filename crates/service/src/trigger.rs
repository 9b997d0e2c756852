//! Triggers of the deployed version and their events: list, replay.

use std::sync::Arc;

use headwater_model::{
    ErrorCode, Fault, MAIN_BRANCH, OrProblem, Principal, Problem, Trigger, TriggerEvent,
    TriggerStatus,
};
use headwater_triggers::TriggerEventFilter;

use crate::service::Components;

/// Operations on triggers.
#[derive(Clone)]
pub struct Triggers(pub(crate) Arc<Components>);

impl Triggers {
    /// Lists the triggers of the deployed version by name.
    pub async fn list(&self, principal: &Principal) -> Result<Vec<TriggerStatus>, Problem> {
        self.0.administer(principal)?;
        self.0.deployer.deployed().version()?;
        let triggers = self.0.triggers.as_ref();
        let mut listed = triggers.map(headwater_triggers::Triggers::list).unwrap_or_default();
        for status in listed.iter_mut().filter(|status| status.error.is_none()) {
            status.error = missing_branch(&self.0.lake, &status.trigger).await?;
        }
        Ok(listed)
    }

    /// Lists events, newest first.
    pub async fn events(
        &self,
        principal: &Principal,
        filter: &TriggerEventFilter,
    ) -> Result<Vec<TriggerEvent>, Problem> {
        self.0.administer(principal)?;
        match (&self.0.triggers, &filter.trigger) {
            (Some(triggers), _) => triggers.events(filter).await.or_problem(),
            (None, None) => Ok(Vec::new()),
            (None, Some(name)) => Err(triggers_disabled(&format!("trigger `{name}`"))),
        }
    }

    /// Delivers an event again: a failed one starts over, a waiting one is due at once.
    pub async fn replay(
        &self,
        principal: &Principal,
        event: &str,
    ) -> Result<TriggerEvent, Problem> {
        self.0.administer(principal)?;
        let triggers = self.0.triggers.as_ref();
        let triggers =
            triggers.ok_or_else(|| triggers_disabled(&format!("trigger event `{event}`")))?;
        triggers.replay(event).await.or_problem()
    }
}

fn triggers_disabled(object: &str) -> Problem {
    let message = format!("there is no {object}: triggers are disabled on this server");
    Problem::new(ErrorCode::TriggerNotFound, message)
}

/// Returns an error if a trigger's branch does not exist.
pub async fn missing_branch(
    lake: &headwater_lake::Lake,
    trigger: &Trigger,
) -> Result<Option<Problem>, Problem> {
    let branch = trigger.branch.as_deref().unwrap_or(MAIN_BRANCH);
    match lake.catalog().branch(branch).await {
        Ok(_) => Ok(None),
        Err(error) if error.code() == ErrorCode::RefNotFound => {
            let name = &trigger.name;
            let message = format!("branch `{branch}` of trigger `{name}` does not exist");
            let hint = format!("Create it with `headwater branch create {branch}`.");
            Ok(Some(Problem::new(ErrorCode::RefNotFound, message).with_hint(hint)))
        }
        Err(error) => Err(error.to_problem()),
    }
}
