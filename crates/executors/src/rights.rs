//! Decisions about what a principal may do, for operations and for recorded jobs.
//!
//! Decisions are recorded in the audit log as soon as a user exists. Until then, every client acts
//! as the owner.

use std::sync::Arc;

use headwater_access::{Access, Decision, DenialReason, TableRestrictions, UserLimits};
use headwater_engine::{SessionRights, change_forbidden};
use headwater_model::{
    AccessObject, Action, AuditEvent, AuditOutcome, ErrorCode, Identity, JobId, Limits, ObjectKind,
    ObjectOwner, Principal, Problem, Restriction, Restrictions, TableName,
};
use headwater_pipelines::Callable;
use serde_json::json;

/// The name that stands for all objects of a kind, or for an object that does not exist. Only a
/// grant on all names covers it.
pub const EVERY: &str = "*";

/// Returns true if an action changes existing rows or the table's definition.
pub fn is_change(action: Action) -> bool {
    matches!(action, Action::Update | Action::Delete | Action::Alter | Action::Drop)
}

/// Returns the access decisions for a session that acts for a principal; `None` for the owner of a
/// lake without users. In a lake with users, the owner has decisions too: they allow everything,
/// and the audit log records them.
pub fn table_access(
    access: &Access,
    principal: &Principal,
    job: Option<JobId>,
) -> Option<Arc<dyn SessionRights>> {
    if *principal.identity() == Identity::Owner && !access.has_users() {
        return None;
    }
    let (access, principal) = (access.clone(), principal.clone());
    Some(Arc::new(SessionAccess { access, principal, job }))
}

/// The access decisions of an SQL session.
#[derive(Debug)]
struct SessionAccess {
    access: Access,
    principal: Principal,
    /// The job that the session runs in, if any.
    job: Option<JobId>,
}

impl SessionRights for SessionAccess {
    fn check(&self, action: Action, object: &AccessObject) -> Result<(), Problem> {
        let decision = self.access.decide(&self.principal, action, object);
        let decided = RecordedDecision { action, object, decision: &decision };
        record(&self.access, &self.principal, self.job, &decided);
        outcome(&self.principal, action, object, decision)?;
        self.check_restrictions(action, object)
    }

    fn allows(&self, action: Action, object: &AccessObject) -> bool {
        self.access.decide(&self.principal, action, object).is_allowed()
    }

    fn is_limited(&self) -> bool {
        !self.allows(Action::Administer, &AccessObject::lake())
    }

    fn restrictions(&self, table: &TableName, id: Option<&str>) -> Option<Restrictions> {
        TableRestrictions::new(&self.access).on(&self.principal, table, id)
    }

    fn restriction_by_name(&self, table: &TableName, id: &str) -> Option<Restriction> {
        TableRestrictions::new(&self.access).lost_by_rename(table, id)
    }

    fn restriction_digest(&self) -> Option<String> {
        TableRestrictions::new(&self.access).digest(&self.principal)
    }

    fn limits(&self) -> Limits {
        limits(&self.access, &self.principal)
    }

    fn creator(&self) -> Option<ObjectOwner> {
        self.principal.as_object_owner()
    }
}

impl SessionAccess {
    /// Rejects changes of a table if row filters or column masks on its name apply to the
    /// principal. Callers that know the table's id also check the restrictions on the id.
    fn check_restrictions(&self, action: Action, object: &AccessObject) -> Result<(), Problem> {
        if object.kind() != ObjectKind::Table || !is_change(action) {
            return Ok(());
        }
        let Ok(table) = object.name().parse::<TableName>() else { return Ok(()) };
        match self.restrictions(&table, None) {
            None => Ok(()),
            Some(restrictions) => Err(change_forbidden(action, &table, &restrictions)),
        }
    }
}

/// Returns the limits of a principal; the owner has none.
pub fn limits(access: &Access, principal: &Principal) -> Limits {
    let user = principal.user_name();
    user.map(|user| UserLimits::of(access).effective(user)).unwrap_or_default()
}

/// Checks that a principal may perform an action on an object, and records the decision.
pub fn authorize(
    access: &Access,
    principal: &Principal,
    action: Action,
    object: &AccessObject,
) -> Result<(), Problem> {
    let decision = access.decide(principal, action, object);
    let decided = RecordedDecision { action, object, decision: &decision };
    record(access, principal, None, &decided);
    outcome(principal, action, object, decision)
}

/// Checks again that the identity of recorded work may perform an action on an object. Records only
/// a denial.
pub(crate) fn reauthorize(
    access: &Access,
    principal: &Principal,
    action: Action,
    object: &AccessObject,
) -> Result<(), Problem> {
    if access.decide(principal, action, object).is_allowed() {
        return Ok(());
    }
    check_account(access, principal)?;
    authorize(access, principal, action, object)
}

/// Checks that the account of a principal's user still exists and is enabled.
pub(crate) fn check_account(access: &Access, principal: &Principal) -> Result<(), Problem> {
    let (action, object) = (Action::Administer, AccessObject::lake());
    let decision = access.decide(principal, action, &object);
    if !matches!(decision, Decision::Denied(DenialReason::Invalid)) {
        return Ok(());
    }
    record(
        access,
        principal,
        None,
        &RecordedDecision { action, object: &object, decision: &decision },
    );
    Err(no_account(principal))
}

/// Checks again that the identity of recorded work may perform an action on an object. Records
/// nothing in the audit log, because the check is repeated every second.
pub(crate) fn check_unrecorded(
    access: &Access,
    principal: &Principal,
    action: Action,
    object: &AccessObject,
) -> Result<(), Problem> {
    match access.decide(principal, action, object) {
        Decision::Denied(DenialReason::Invalid) => Err(no_account(principal)),
        decision => outcome(principal, action, object, decision),
    }
}

fn no_account(principal: &Principal) -> Problem {
    let user = principal.user_name().unwrap_or_default();
    let message = format!("user `{user}` was dropped or disabled");
    let hint = "Enable the user, or deploy the trigger or call the function as another user.";
    Problem::new(ErrorCode::Unauthenticated, message).with_hint(hint)
}

/// Returns the error of a decision that denies an action; `Ok` if the decision allows the action.
fn outcome(
    principal: &Principal,
    action: Action,
    object: &AccessObject,
    decision: Decision,
) -> Result<(), Problem> {
    match decision {
        Decision::Allowed(_) => Ok(()),
        Decision::Denied(denial @ (DenialReason::Unauthenticated | DenialReason::Invalid)) => {
            Err(unauthenticated(denial))
        }
        Decision::Denied(denial) => Err(forbidden(principal, action, object, denial)),
    }
}

/// A decision on a request.
struct RecordedDecision<'a> {
    action: Action,
    object: &'a AccessObject,
    decision: &'a Decision,
}

/// Records a decision in the audit log. A request without a credential is recorded by the protocol
/// that rejects it.
fn record(
    access: &Access,
    principal: &Principal,
    job: Option<JobId>,
    decided: &RecordedDecision<'_>,
) {
    if *principal.identity() == Identity::Anonymous || !access.has_users() {
        return;
    }
    let RecordedDecision { action, object, decision } = decided;
    let outcome = if decision.is_allowed() { AuditOutcome::Allowed } else { AuditOutcome::Denied };
    let event = access.audit().event(principal, action.as_str(), object.to_string(), outcome);
    access.audit().record(AuditEvent { reason: decision.to_string(), job, ..event });
}

/// Records in the audit log that access to a private file was denied. No grant gives such access.
pub fn record_denial(
    access: &Access,
    principal: &Principal,
    job: Option<JobId>,
    action: Action,
    file: &AccessObject,
) {
    if !access.has_users() {
        return;
    }
    let (action, object) = (action.as_str(), file.to_string());
    let event = access.audit().event(principal, action, object, AuditOutcome::Denied);
    let reason = "the file belongs to a lake, or may contain credentials".to_owned();
    access.audit().record(AuditEvent { reason, job, ..event });
}

/// Records in the audit log that a call receives the function's secrets. The user that deployed the
/// function may use these secrets.
pub fn record_secrets(access: &Access, principal: &Principal, callable: &Callable, job: JobId) {
    if !access.has_users() {
        return;
    }
    for secret in &callable.function.secrets {
        record_secret(access, principal, secret, &SecretUse::in_call_of(&callable.name, job));
    }
}

/// The use of a secret by a job.
pub(crate) struct SecretUse {
    pub reason: String,
    pub job: JobId,
}

impl SecretUse {
    fn in_call_of(function: &str, job: JobId) -> Self {
        SecretUse { reason: format!("call of function {function}"), job }
    }
}

/// Records in the audit log that a job uses a secret.
pub(crate) fn record_secret(access: &Access, principal: &Principal, secret: &str, by: &SecretUse) {
    if !access.has_users() {
        return;
    }
    let (action, object) = (Action::Use.as_str(), AccessObject::secret(secret).to_string());
    let event = access.audit().event(principal, action, object, AuditOutcome::Allowed);
    access.audit().record(AuditEvent { reason: by.reason.clone(), job: Some(by.job), ..event });
}

/// Returns the error for a request without a valid credential.
pub fn unauthenticated(denial: DenialReason) -> Problem {
    let message = match denial {
        DenialReason::Invalid => "the credential is no longer valid",
        _ => "the request has no credential",
    };
    Problem::new(ErrorCode::Unauthenticated, message)
        .with_hint("Send an access token as `authorization: Bearer TOKEN`")
}

fn forbidden(
    principal: &Principal,
    action: Action,
    object: &AccessObject,
    denial: DenialReason,
) -> Problem {
    let user = principal.user_name().unwrap_or_default();
    let what = match object.kind() {
        ObjectKind::Lake => "the lake".to_owned(),
        kind => format!("{kind} `{}`", object.name()),
    };
    let message = format!("user `{user}` may not {action} {what}");
    let hint = match denial {
        // Only a grant on all branches (`branch:*`) covers a commit, which is written as `@ID`.
        _ if object.kind() == ObjectKind::Branch && object.name().starts_with('@') => format!(
            "Name the commit by its branch, such as `main~2`, or ask an administrator to grant \
             `{action} on branch:*`"
        ),
        DenialReason::Scope => format!("Use a token whose scopes contain `{action} on {object}`"),
        _ => format!("Ask an administrator to grant `{action} on {object}`"),
    };
    let mut problem = Problem::new(ErrorCode::Forbidden, message).with_hint(hint);
    problem.context.insert("action".to_owned(), json!(action));
    problem.context.insert("object".to_owned(), json!(object.to_string()));
    problem
}

#[cfg(test)]
mod tests {
    use headwater_access::{Credential, NewUser};
    use headwater_model::{CredentialSettings, Permission, SystemClock};
    use headwater_store::MemoryStore;

    use super::*;

    async fn access() -> Access {
        let opened = Access::open(Arc::new(MemoryStore::new()), Arc::new(SystemClock)).await;
        opened.expect("an empty store")
    }

    #[tokio::test]
    async fn only_the_owner_is_authorized_without_users() {
        let access = access().await;
        for action in Action::ALL {
            let owner = Principal::owner();
            assert!(authorize(&access, &owner, action, &AccessObject::lake()).is_ok());
            let anonymous = Principal::anonymous().with_author(Some("owner".to_owned()));
            let refused = authorize(&access, &anonymous, action, &AccessObject::lake());
            assert_eq!(refused.expect_err("denied").code, ErrorCode::Unauthenticated);
        }
    }

    #[tokio::test]
    async fn a_denial_names_the_action_and_the_object_and_is_recorded() {
        let (access, owner) = (access().await, Principal::owner());
        let new = NewUser { name: "ana".to_owned(), ..NewUser::default() };
        access.create_user(&owner, new).await.expect("a user");
        let token = access.create_token(&owner, "ana", CredentialSettings::default()).await;
        let secret = token.expect("a token").secret;
        let ana = access.authenticate(Credential::Token(&secret), None).await.expect("valid");
        let table: AccessObject = "table:sales.orders".parse().expect("a table");
        let denied = authorize(&access, &ana, Action::Select, &table).expect_err("no grant");
        assert_eq!(denied.code, ErrorCode::Forbidden);
        assert_eq!(denied.message, "user `ana` may not select table `sales.orders`");
        let hint = denied.hint.expect("a hint");
        assert_eq!(hint, "Ask an administrator to grant `select on table:sales.orders`.");
        let commit = AccessObject::branch("@3ca056110aba");
        let denied = authorize(&access, &ana, Action::Read, &commit).expect_err("no grant");
        assert!(denied.hint.is_some_and(|hint| hint.contains("`read on branch:*`")));
        let object = "namespace:sales".parse().expect("a pattern");
        let permission = Permission { actions: vec![Action::Select], object };
        access.grant(&owner, "ana", permission).await.expect("a grant");
        authorize(&access, &ana, Action::Select, &table).expect("granted");
        let events = access.audit().list(10).await.expect("events");
        let recorded =
            |outcome| events.iter().any(|it| it.outcome == outcome && it.action == "select");
        assert!(recorded(AuditOutcome::Denied) && recorded(AuditOutcome::Allowed));
        let impostor = ana.clone().with_author(Some("eve".to_owned()));
        assert_eq!(impostor.author(), "ana");
    }
}
