//! Decisions about access, computed from the directory in memory without I/O.

use headwater_model::{
    AccessObject, Action, Grant, Identity, ObjectKind, ObjectOwner, Permission, Principal,
};

use crate::access_state::AccessState;
use crate::{Access, Result};

/// The result of an access check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Access is allowed.
    Allowed(DecisionReason),
    /// Access is denied.
    Denied(DenialReason),
}

/// The reason why access is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecisionReason {
    /// The principal is the lake's owner.
    LakeOwner,
    /// The user is the owner of the object.
    Ownership,
    /// A grant to the user, or to one of its roles.
    Grant(Grant),
}

/// The reason why access is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenialReason {
    /// The principal has no identity.
    Unauthenticated,
    /// The account, the token or the login is no longer valid.
    Invalid,
    /// The token's scopes do not contain the action on the object.
    Scope,
    /// No grant contains the action on the object.
    NoGrant,
}

impl Decision {
    /// Returns true if access is allowed.
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allowed(_))
    }
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Decision::Allowed(DecisionReason::LakeOwner) => f.write_str("owner of the lake"),
            Decision::Allowed(DecisionReason::Ownership) => f.write_str("owner of the object"),
            Decision::Allowed(DecisionReason::Grant(grant)) => {
                write!(f, "grant of {} to {}", grant.permission, grant.grantee)?;
                match &grant.owner {
                    Some(owner) => write!(f, " by the owner {}", owner.user),
                    None => Ok(()),
                }
            }
            Decision::Denied(DenialReason::Unauthenticated) => f.write_str("no credential"),
            Decision::Denied(DenialReason::Invalid) => {
                f.write_str("account or token no longer valid")
            }
            Decision::Denied(DenialReason::Scope) => f.write_str("outside the token's scopes"),
            Decision::Denied(DenialReason::NoGrant) => f.write_str("no grant"),
        }
    }
}

impl Access {
    /// Decides if a principal may perform an action on an object.
    pub fn decide(&self, principal: &Principal, action: Action, object: &AccessObject) -> Decision {
        let user = match principal.identity() {
            Identity::Owner => return Decision::Allowed(DecisionReason::LakeOwner),
            Identity::Anonymous => return Decision::Denied(DenialReason::Unauthenticated),
            Identity::User(user) => user,
        };
        let directory = self.directory();
        let now = self.0.clock.now();
        let is_token_valid = user.expires.is_none_or(|expires| now < expires)
            && user.token.as_ref().is_none_or(|token| directory.is_token_valid(token, now));
        if !is_token_valid || !Self::is_account(&directory, &user.name, user.created) {
            return Decision::Denied(DenialReason::Invalid);
        }
        if let Some(scopes) = &user.scopes
            && !including(action, object)
                .any(|action| scopes.iter().any(|scope| scope.contains(action, object)))
        {
            return Decision::Denied(DenialReason::Scope);
        }
        decide(&directory, &user.name, action, object)
    }

    /// Returns true if a principal may perform any action on an object.
    pub fn may_see(&self, principal: &Principal, object: &AccessObject) -> bool {
        let mut actions = object.kind().actions().iter();
        actions.any(|action| self.decide(principal, *action, object).is_allowed())
    }

    /// Returns the decision for a user that logs in without a restriction by scopes.
    ///
    /// Errors: the user does not exist.
    pub fn explain(&self, user: &str, action: Action, object: &AccessObject) -> Result<Decision> {
        let directory = self.directory();
        if directory.user(user)?.disabled {
            return Ok(Decision::Denied(DenialReason::Invalid));
        }
        Ok(decide(&directory, user, action, object))
    }

    /// Returns the permissions of a user, from its own grants and the grants of its roles. Omits
    /// the grants of owners whose ownership has ended, if the directory contains the owner. Also
    /// omits the grants that the user made as an owner, and actions that an owner does not have.
    pub fn permissions(&self, user: &str) -> Vec<Permission> {
        let directory = self.directory();
        let grants = directory.grants_of(user).filter(|grant| !has_ended(&directory, grant));
        let is_own = |grant: &&Grant| grant.owner.as_ref().is_some_and(|owner| owner.user == user);
        let others = grants.filter(|grant| !is_own(grant));
        others.map(effective).filter(|permission| !permission.actions.is_empty()).collect()
    }
}

/// Returns the permission of a grant, without the action that has no effect in a grant by an owner:
/// the owner of a table or view may not create another one of its name.
fn effective(grant: &Grant) -> Permission {
    let mut permission = grant.permission.clone();
    let is_entry = matches!(permission.object.kind(), ObjectKind::Table | ObjectKind::View);
    if grant.owner.is_some() && is_entry {
        permission.actions.retain(|action| *action != Action::Create);
    }
    permission
}

/// Returns true if a principal has a right to an object that ends when the object, or the namespace
/// of a new object, gets another owner. The principal is this owner, or has a grant by this owner.
pub fn depends_on_owner(access: &Access, principal: &Principal, object: &AccessObject) -> bool {
    let Some(owner) = object.owner().or_else(|| object.namespace_owner()) else { return false };
    let Some(user) = principal.as_object_owner() else { return false };
    user == *owner || access.directory().has_owner_grant(&user.user, object)
}

/// Decides for a user: allows access by ownership, or by a grant that contains the action.
fn decide(directory: &AccessState, user: &str, action: Action, object: &AccessObject) -> Decision {
    if is_owner(directory, user, action, object) {
        return Decision::Allowed(DecisionReason::Ownership);
    }
    match including(action, object).find_map(|action| directory.find_grant(user, action, object)) {
        Some(grant) => Decision::Allowed(DecisionReason::Grant(grant.clone())),
        None => Decision::Denied(DenialReason::NoGrant),
    }
}

/// Returns true if a user may perform an action because it owns the object, or the namespace of a
/// new object. The owner of a table, view, SQL function or namespace is stored with the object, and
/// may not create another object of its name. The records of the directory contain the owners of
/// other objects.
pub(crate) fn is_owner(
    directory: &AccessState,
    user: &str,
    action: Action,
    object: &AccessObject,
) -> bool {
    let is_user = |owner: &ObjectOwner| owner.user == user && directory.has_account(owner);
    if object.is_looked_up() {
        return object.owner().is_some_and(is_user) && action != Action::Create;
    }
    if let Some(owner) = object.namespace_owner() {
        // The first rows of a new table are a part of its creation.
        return is_user(owner) && matches!(action, Action::Create | Action::Insert);
    }
    directory.owner(&object.owned()) == Some(user)
}

/// Returns an action, and the actions whose grants include it. The rights to write to a branch and
/// to merge into it include the right to read it.
fn including(action: Action, object: &AccessObject) -> impl Iterator<Item = Action> {
    let is_branch = object.kind() == ObjectKind::Branch && action == Action::Read;
    let wider = is_branch.then_some([Action::Write, Action::Merge]);
    std::iter::once(action).chain(wider.into_iter().flatten())
}

/// Returns true if an owner made a grant on an object that the owner no longer owns. Returns false
/// for kinds of objects whose owners the directory does not contain, if the owner's account exists.
fn has_ended(directory: &AccessState, grant: &Grant) -> bool {
    use ObjectKind::{Bucket, Queue, Secret, Trigger};
    let Some(owner) = &grant.owner else { return false };
    if !directory.has_account(owner) {
        return true;
    }
    let object = grant.permission.object.to_string().parse::<AccessObject>();
    let recorded = object.ok().filter(|it| matches!(it.kind(), Bucket | Queue | Secret | Trigger));
    recorded.is_some_and(|it| directory.owner(&it.owned()) != Some(owner.user.as_str()))
}
