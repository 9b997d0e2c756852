//! SQL statements on roles and grants. The operations on roles and grants execute them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use headwater_access::own_grants;
use headwater_engine::system::timestamp_type;
use headwater_engine::{AccessStatement, RecordBatches, RestrictionStatement};
use headwater_executors::to_batches;
use headwater_model::{
    CreateRole, ErrorCode, Grant, GrantRequest, Permission, Principal, Problem, QueryRequest, Role,
};
use serde_json::{Value, json};

use crate::access_control::AccessControl;
use crate::restriction_statement;
use crate::service::Components;

/// Name of the table from which a session reads the result of a statement on roles and grants.
pub const RESULT: &str = "result of a statement on rights";

/// Executes a statement on roles and grants, and returns its rows. The grants of a statement are
/// one change.
pub async fn execute(
    components: &Arc<Components>,
    principal: &Principal,
    statement: &AccessStatement,
    request: &QueryRequest,
) -> Result<RecordBatches, Problem> {
    let access = AccessControl(components.clone());
    let rows = match statement {
        AccessStatement::ShowRoles => access.roles().list(principal)?.iter().map(role).collect(),
        AccessStatement::ShowGrants(grantee) => {
            visible_grants(&access, principal, grantee.as_deref())?.iter().map(grant).collect()
        }
        AccessStatement::Restrictions(statement) => {
            components.administer(principal)?;
            restriction_statement::execute(&access.restrictions(), principal, statement, request)
                .await?
        }
        change => {
            apply(&access, principal, change).await?;
            vec![json!({ "rows": 0 })]
        }
    };
    let schema = columns(statement).unwrap_or_else(|| {
        let columns = [("rows", DataType::Int64), ("commit", DataType::Utf8)];
        schema_of(&columns)
    });
    Ok(RecordBatches { batches: to_batches(&schema, &rows)?, schema })
}

/// Returns the columns of a statement that returns rows.
pub fn columns(statement: &AccessStatement) -> Option<SchemaRef> {
    let text = |name| (name, DataType::Utf8);
    match statement {
        AccessStatement::ShowRoles => {
            Some(schema_of(&[text("name"), text("roles"), ("created", timestamp_type())]))
        }
        AccessStatement::Restrictions(RestrictionStatement::Show { is_mask }) => {
            Some(restriction_statement::columns(*is_mask))
        }
        AccessStatement::ShowGrants(_) => {
            let texts = ["grantee", "actions", "object", "by"].map(text);
            let columns: Vec<_> =
                texts.into_iter().chain([("granted", timestamp_type())]).collect();
            Some(schema_of(&columns))
        }
        _ => None,
    }
}

pub(crate) fn schema_of(columns: &[(&str, DataType)]) -> SchemaRef {
    let field = |(name, kind): &(&str, DataType)| Field::new(*name, kind.clone(), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// Returns the grants of a user or role. Without a name, returns all grants if the principal is an
/// administrator, otherwise the principal's own grants and those that it made as an owner.
fn visible_grants(
    access: &AccessControl,
    principal: &Principal,
    grantee: Option<&str>,
) -> Result<Vec<Grant>, Problem> {
    match access.grants().list(principal, grantee) {
        Err(problem) if grantee.is_none() && problem.code == ErrorCode::Forbidden => {
            let user = principal.as_object_owner().ok_or(problem)?;
            Ok(own_grants(&access.0.access, &user))
        }
        listed => listed,
    }
}

async fn apply(
    access: &AccessControl,
    principal: &Principal,
    statement: &AccessStatement,
) -> Result<(), Problem> {
    let exists = |name: &String| -> Result<bool, Problem> {
        Ok(access.roles().list(principal)?.iter().any(|role| role.name == *name))
    };
    match statement {
        AccessStatement::CreateRole { name, if_not_exists } => {
            if !(*if_not_exists && exists(name)?) {
                let request = CreateRole { name: name.clone() };
                access.roles().create(principal, request).await?;
            }
        }
        AccessStatement::DropRoles { names, if_exists } => {
            for name in names {
                if !*if_exists || exists(name)? {
                    access.roles().delete(principal, name).await?;
                }
            }
        }
        AccessStatement::Roles { grants: true, roles, grantees } => {
            access.roles().grant_all(principal, roles, grantees).await?;
        }
        AccessStatement::Roles { roles, grantees, .. } => {
            access.roles().revoke_all(principal, roles, grantees).await?;
        }
        AccessStatement::Permissions { grants, permissions, grantees } => {
            let request = |(permission, grantee): (&Permission, &String)| GrantRequest {
                grantee: grantee.clone(),
                actions: permission.actions.clone(),
                object: permission.object.clone(),
            };
            let requests: Vec<_> = pairs(permissions, grantees).map(request).collect();
            if *grants {
                access.grants().grant_all(principal, &requests).await?;
            } else {
                access.grants().revoke_all(principal, &requests).await?;
            }
        }
        AccessStatement::ShowRoles
        | AccessStatement::ShowGrants(_)
        | AccessStatement::Restrictions(_) => {}
    }
    Ok(())
}

/// Returns all pairs of an item of the first list and an item of the second list.
fn pairs<'a, A, B>(all: &'a [A], others: &'a [B]) -> impl Iterator<Item = (&'a A, &'a B)> {
    all.iter().flat_map(move |one| others.iter().map(move |other| (one, other)))
}

fn role(role: &Role) -> Value {
    json!({ "name": role.name, "roles": role.roles.join(", "), "created": role.created })
}

fn grant(grant: &Grant) -> Value {
    let actions: Vec<_> = grant.permission.actions.iter().map(|one| one.as_str()).collect();
    json!({
        "grantee": grant.grantee,
        "actions": actions.join(", "),
        "object": grant.permission.object.to_string(),
        "by": grant.by,
        "granted": grant.granted,
    })
}
