//! Limits of users and roles: list, get, set, remove. Users may read their own limits and the
//! limits of their roles.

use std::sync::Arc;

use headwater_access::UserLimits;
use headwater_executors::limits;
use headwater_model::{Limit, LimitUsage, Limits, Principal, Problem, ResultExt};

use crate::service::Components;

/// Operations on limits.
#[derive(Clone)]
pub struct LimitOperations(pub(crate) Arc<Components>);

impl LimitOperations {
    /// Lists limits by name. A user without all rights gets only its own and those of its roles.
    pub fn list(&self, principal: &Principal) -> Result<Vec<Limit>, Problem> {
        self.0.authenticated(principal)?;
        if let Some(user) = principal.user_name().filter(|_| !self.0.is_unlimited(principal)) {
            return Ok(self.limits().on(user));
        }
        self.0.administer(principal)?;
        Ok(self.limits().list())
    }

    /// Returns the limits that were set for a user or role. A user may read its own limits.
    pub fn get(&self, principal: &Principal, name: &str) -> Result<Limit, Problem> {
        self.0.authenticated(principal)?;
        if principal.user_name() != Some(name) {
            self.0.administer(principal)?;
        }
        self.limits().get(name).or_problem()
    }

    /// Sets the limits of a user or role, and replaces the existing limits. The new limits apply to
    /// later jobs.
    pub async fn set(
        &self,
        principal: &Principal,
        name: &str,
        limits: Limits,
    ) -> Result<Limit, Problem> {
        self.0.administer(principal)?;
        self.limits().set(principal, name, limits).await.or_problem()
    }

    /// Removes the limits of a user or role.
    pub async fn delete(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        self.0.administer(principal)?;
        self.limits().remove(principal, name).await.or_problem()
    }

    fn limits(&self) -> UserLimits<'_> {
        UserLimits::of(&self.0.access)
    }
}

impl Components {
    /// Returns the limits and today's usage of a user; `None` for a principal without limits.
    pub(crate) async fn limit_usage(
        &self,
        principal: &Principal,
    ) -> Result<Option<LimitUsage>, Problem> {
        let limits = limits(&self.access, principal);
        let Some(user) = principal.user_name().filter(|_| !limits.is_empty()) else {
            return Ok(None);
        };
        let usage = self.jobs.usage_today(user).await.or_problem()?;
        Ok(Some(LimitUsage {
            limits,
            jobs: usage.jobs,
            bytes_today: usage.today.bytes,
            money_today: usage.today.money,
            currency: self.jobs.rate_card().currency,
            day_ends: usage.day_ends,
        }))
    }
}
