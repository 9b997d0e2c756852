//! Grants on objects, with the check that a principal may grant and revoke them: administrators on
//! all objects, and the owner of an object on this object.
//!
//! A grant by an owner gives a right only to objects of this owner, and only while the owner has
//! the right as the owner. Every decision checks this. So such a grant applies neither to an object
//! of another user with the same name on another branch, nor to a later object with this name.

use std::collections::BTreeSet;

use headwater_access::{
    Access, Decision, DecisionReason, DenialReason, TableRestrictions, grant_all, grant_as_owner,
    own_grants, revoke_all, revoke_as_owner,
};
use headwater_function_store::StoredLayer;
use headwater_lake::Lake;
use headwater_model::name::is_within;
use headwater_model::{
    AccessObject, Action, AuditEvent, AuditOutcome, ErrorCode, Grant, GrantRequest, ObjectKind,
    ObjectPattern, Principal, Problem, RefSpec, ResultExt, TableName,
};

use crate::deployer::ActiveDeployment;
use crate::entry_rights::with_owner_on_main;
use crate::function_catalog::FunctionCatalog;
use crate::rights::authorize;

/// The part of a function's name that makes it the name of a layer.
const LAYER_START: &str = "layer/";

/// The kinds of objects on which their owners may grant rights.
const OWNED_KINDS: [ObjectKind; 8] = [
    ObjectKind::Table,
    ObjectKind::View,
    ObjectKind::Namespace,
    ObjectKind::Function,
    ObjectKind::Secret,
    ObjectKind::Bucket,
    ObjectKind::Queue,
    ObjectKind::Trigger,
];

/// The grants on the objects of a lake, and the stores that contain the owners of the objects.
pub struct ObjectGrants<'a> {
    /// The grants, and the owners of buckets, queues, secrets, triggers and functions.
    pub access: &'a Access,
    /// The lake, which stores the owners of tables, views, namespaces and functions in SQL.
    pub lake: &'a Lake,
    /// The functions without a project, whose store contains the layers and their owners.
    pub functions: &'a FunctionCatalog,
    /// The deployed project, whose functions belong to its deployer.
    pub deployed: &'a ActiveDeployment,
}

/// Returns the object of a layer, with the owner of the stored layer, if it exists.
pub fn layer_object(name: &str, stored: Option<&StoredLayer>) -> AccessObject {
    let owner = stored.and_then(|layer| layer.owner.as_ref());
    AccessObject::function(&format!("{LAYER_START}{name}")).with_owner(owner)
}

impl ObjectGrants<'_> {
    /// Grants actions to users and roles in one change.
    ///
    /// Errors: `forbidden` unless the principal is an administrator, or owns each of the objects;
    /// also if a row filter or column mask of a table applies to the owner.
    pub async fn grant_all(
        &self,
        by: &Principal,
        requests: &[GrantRequest],
    ) -> Result<Vec<Grant>, Problem> {
        if self.is_administrator(by)? {
            return grant_all(self.access, by, requests).await.or_problem();
        }
        // Several requests of a statement can name the same object for different grantees.
        let objects: BTreeSet<&ObjectPattern> = requests.iter().map(|it| &it.object).collect();
        for pattern in objects {
            match self.owned(by, pattern).await {
                Some(object) => self.check_unrestricted(by, &object).await?,
                None => return Err(self.refused(by, "grant", pattern)),
            }
        }
        grant_as_owner(self.access, by, requests).await.or_problem()
    }

    /// Revokes actions of grants in one change. Fails if a grant contains none of the actions. An
    /// owner revokes only the grants that it made as the owner, also after its ownership has ended.
    ///
    /// Errors: `forbidden` unless the principal is an administrator, or owns each of the objects or
    /// has made the grant.
    pub async fn revoke_all(
        &self,
        by: &Principal,
        requests: &[GrantRequest],
    ) -> Result<(), Problem> {
        if self.is_administrator(by)? {
            return revoke_all(self.access, by, requests).await.or_problem();
        }
        let owner = by.as_object_owner();
        let known = owner.as_ref().map(|user| own_grants(self.access, user)).unwrap_or_default();
        for request in requests {
            let is_made = |grant: &Grant| {
                grant.owner.is_some()
                    && grant.owner == owner
                    && grant.grantee == request.grantee
                    && grant.permission.object == request.object
            };
            if !known.iter().any(is_made) && self.owned(by, &request.object).await.is_none() {
                return Err(self.refused(by, "revoke", &request.object));
            }
        }
        revoke_as_owner(self.access, by, requests).await.or_problem()
    }

    /// Returns an object with the owner that is stored with it: a layer, a function of the deployed
    /// project, or an object on `main`. Returns any other object unchanged.
    pub async fn stored(&self, object: &AccessObject) -> AccessObject {
        if object.kind() == ObjectKind::Function {
            if let Some(name) = object.name().strip_prefix(LAYER_START) {
                return layer_object(name, self.functions.store().layer(name).await.ok().as_ref());
            }
            let version = self.deployed.version().ok().flatten();
            let function = version.and_then(|version| version.function_object(object.name()));
            if let Some(function) = function {
                return function;
            }
        }
        with_owner_on_main(self.lake, object).await
    }

    /// Returns true for an administrator, and false for another user. A token with scopes that do
    /// not include `administer` makes no grants, also for an owner, because a grant outlives the
    /// token.
    ///
    /// Errors: `unauthenticated`; `forbidden` for such a token.
    fn is_administrator(&self, by: &Principal) -> Result<bool, Problem> {
        let (action, lake) = (Action::Administer, AccessObject::lake());
        match self.access.decide(by, action, &lake) {
            Decision::Denied(DenialReason::NoGrant) => Ok(false),
            _ => authorize(self.access, by, action, &lake).map(|()| true),
        }
    }

    /// Returns the only object that a pattern selects, if the principal owns this object.
    async fn owned(&self, by: &Principal, pattern: &ObjectPattern) -> Option<AccessObject> {
        let object = pattern.to_string().parse::<AccessObject>().ok()?;
        if !OWNED_KINDS.contains(&object.kind()) {
            return None;
        }
        let object = self.stored(&object).await;
        let owns = |action: &Action| {
            let decision = self.access.decide(by, *action, &object);
            decision == Decision::Allowed(DecisionReason::Ownership)
        };
        // The owner of a namespace may create tables in it and insert rows, but these tables need
        // not belong to this owner.
        let of_object = |action: &&Action| !matches!(action, Action::Create | Action::Insert);
        let is_owner = object.kind().actions().iter().filter(of_object).any(owns);
        is_owner.then_some(object)
    }

    /// Checks that no row filter or column mask of a table applies to its owner. The owner could
    /// otherwise give a user without this restriction the right to read the hidden rows. The error
    /// for a namespace names no table, because the tables of other users in it can be hidden.
    async fn check_unrestricted(
        &self,
        by: &Principal,
        object: &AccessObject,
    ) -> Result<(), Problem> {
        let restrictions = TableRestrictions::new(self.access);
        let has_tables = matches!(object.kind(), ObjectKind::Table | ObjectKind::Namespace);
        if !has_tables || restrictions.digest(by).is_none() {
            return Ok(());
        }
        let reason = if object.kind() == ObjectKind::Table {
            self.restrictions_of(by, object).await?
        } else {
            let reason = "a row filter or column mask of a table in it applies to the user";
            let is_restricted = self.has_restricted_table(by, object.name()).await?;
            is_restricted.then(|| reason.to_owned())
        };
        let Some(reason) = reason else { return Ok(()) };
        let Problem { message, .. } = self.refused(by, "grant", &ObjectPattern::of(object));
        let problem = Problem::new(ErrorCode::Forbidden, format!("{message}: {reason}"));
        Err(problem.with_hint("Ask an administrator for the grant."))
    }

    /// Returns the row filters and column masks of a table on `main` that apply to a principal, as
    /// text.
    async fn restrictions_of(
        &self,
        by: &Principal,
        table: &AccessObject,
    ) -> Result<Option<String>, Problem> {
        let name: TableName = table.name().parse().or_problem()?;
        let view = self.lake.view(&RefSpec::main()).await.or_problem()?;
        let entry = view.state().table(&name).await.or_problem()?;
        let id = entry.as_ref().map(|entry| entry.id.as_str());
        let found = TableRestrictions::new(self.access).on(by, &name, id);
        Ok(found.map(|found| {
            let names: Vec<String> = found.all.iter().map(ToString::to_string).collect();
            format!("{} of table `{name}`", names.join(", "))
        }))
    }

    /// Returns true if a row filter or column mask applies to a principal for a table in a
    /// namespace or below it. The table is on `main`, or a restriction has its name: such a table
    /// can be on another branch.
    async fn has_restricted_table(&self, by: &Principal, namespace: &str) -> Result<bool, Problem> {
        let restrictions = TableRestrictions::new(self.access);
        // The names of tables in restrictions match in any case.
        let outer = namespace.to_lowercase();
        let is_inside = |table: &TableName| {
            let inner = table.namespace.to_lowercase();
            inner == outer || is_within(&inner, &outer)
        };
        let view = self.lake.view(&RefSpec::main()).await.or_problem()?;
        let stored = view.state().all_entries().await.or_problem()?;
        let named = restrictions.list();
        let stored = stored.iter().map(|(table, entry)| (table, Some(entry.id.as_str())));
        let mut tables = stored.chain(named.iter().map(|restriction| (&restriction.table, None)));
        Ok(tables.any(|(table, id)| is_inside(table) && restrictions.on(by, table, id).is_some()))
    }

    /// Returns the error for a principal that may not change grants on objects. Records the denial
    /// in the audit log.
    fn refused(&self, by: &Principal, verb: &str, objects: &ObjectPattern) -> Problem {
        let audit = self.access.audit();
        let event = audit.event(by, verb, objects.to_string(), AuditOutcome::Denied);
        let reason = "neither an administrator nor the unrestricted owner".to_owned();
        audit.record(AuditEvent { reason, ..event });
        let what = match objects.kind() {
            ObjectKind::Lake => "the lake".to_owned(),
            kind => format!("{kind} `{}`", objects.pattern()),
        };
        let user = by.user_name().unwrap_or_default();
        let message = format!("user `{user}` may not {verb} rights on {what}");
        Problem::new(ErrorCode::Forbidden, message)
            .with_hint("Ask an administrator, or the owner of the object on `main`.")
    }
}
