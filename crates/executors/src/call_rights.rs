//! The rights of a function call. The call reads with the rights of its caller. The call changes
//! only objects that both the caller and the deployer of the function may change, and receives only
//! secrets that the deployer may use.
//!
//! Without this rule, if an administrator called the function, the deployer's code could change
//! everything.

use std::sync::Arc;

use headwater_access::{Access, Decision, DenialReason};
use headwater_engine::SessionRights;
use headwater_model::{
    AccessObject, Action, Actor, ErrorCode, JobId, Limits, ObjectKind, ObjectOwner, Principal,
    Problem, Restriction, Restrictions, TableName,
};
use headwater_pipelines::Callable;

use crate::rights::{authorize, is_change, table_access};

/// Returns the access decisions for a call of a function; `None` allows everything. `deployed_by`
/// is the identity that deployed the function, if it is known.
pub fn call_rights(
    access: &Access,
    caller: &Principal,
    deployed_by: Option<&Actor>,
    job: JobId,
) -> Option<Arc<dyn SessionRights>> {
    let caller = table_access(access, caller, Some(job))?;
    let Some(deployed_by) = deployed_by else { return Some(caller) };
    match table_access(access, &deployed_by.principal(), Some(job)) {
        Some(deployer) => Some(Arc::new(CallRights { caller, deployer })),
        None => Some(caller),
    }
}

/// Checks that the user that deployed a function may still use the function's secrets. Otherwise,
/// the code of this user would receive values that other users set later. The function of a user
/// that was dropped or disabled still receives its secrets, because this user can no longer call
/// it.
///
/// Errors: `forbidden`.
pub fn check_secrets(
    access: &Access,
    callable: &Callable,
    deployed_by: Option<&Actor>,
) -> Result<(), Problem> {
    // Most functions have no secrets. Their calls must not copy the identity.
    if callable.function.secrets.is_empty() {
        return Ok(());
    }
    let Some(deployer) = deployed_by.map(Actor::principal) else { return Ok(()) };
    let is_lost = |secret: &AccessObject| {
        let decision = access.decide(&deployer, Action::Use, secret);
        matches!(decision, Decision::Denied(DenialReason::NoGrant | DenialReason::Scope))
    };
    let mut secrets = callable.function.secrets.iter().map(|name| AccessObject::secret(name));
    let Some(lost) = secrets.find(is_lost) else { return Ok(()) };
    // Record the denial in the audit log. The error names neither the user nor the secret.
    let _ = authorize(access, &deployer, Action::Use, &lost);
    let message = format!(
        "function `{}` cannot be called: the user that deployed it may no longer use its secrets",
        callable.name
    );
    Err(Problem::new(ErrorCode::Forbidden, message).with_hint(
        "Deploy it again as a user with `use` on the secrets, and move its aliases to a new \
         version. Or grant `use` to the user that deployed it: the audit log contains the names.",
    ))
}

/// The access decisions of a call.
#[derive(Debug)]
struct CallRights {
    caller: Arc<dyn SessionRights>,
    deployer: Arc<dyn SessionRights>,
}

impl CallRights {
    /// Returns true if the rights of the deployer allow an action of the function.
    fn deployer_allows(&self, action: Action, object: &AccessObject) -> bool {
        if matches!(action, Action::Select | Action::Read | Action::List) {
            return true;
        }
        self.deployer.allows(action, object) && !self.is_restricted(action, object)
    }

    /// Returns true if row filters or column masks prevent the deployer from changing a table.
    fn is_restricted(&self, action: Action, object: &AccessObject) -> bool {
        if object.kind() != ObjectKind::Table || !is_change(action) {
            return false;
        }
        let Ok(table) = object.name().parse::<TableName>() else { return false };
        self.deployer.restrictions(&table, None).is_some()
    }
}

impl SessionRights for CallRights {
    fn check(&self, action: Action, object: &AccessObject) -> Result<(), Problem> {
        self.caller.check(action, object)?;
        if self.deployer_allows(action, object) {
            return Ok(());
        }
        // Record the denial in the audit log, and return its error.
        self.deployer.check(action, object)
    }

    fn allows(&self, action: Action, object: &AccessObject) -> bool {
        self.caller.allows(action, object) && self.deployer_allows(action, object)
    }

    fn is_limited(&self) -> bool {
        self.caller.is_limited()
    }

    fn restrictions(&self, table: &TableName, id: Option<&str>) -> Option<Restrictions> {
        self.caller.restrictions(table, id)
    }

    fn change_restrictions(&self, table: &TableName, id: &str) -> Option<Restrictions> {
        let of_caller = self.caller.change_restrictions(table, id);
        of_caller.or_else(|| self.deployer.change_restrictions(table, id))
    }

    fn restriction_by_name(&self, table: &TableName, id: &str) -> Option<Restriction> {
        self.caller.restriction_by_name(table, id)
    }

    fn restriction_digest(&self) -> Option<String> {
        self.caller.restriction_digest()
    }

    fn limits(&self) -> Limits {
        self.caller.limits()
    }

    fn creator(&self) -> Option<ObjectOwner> {
        self.caller.creator()
    }
}
