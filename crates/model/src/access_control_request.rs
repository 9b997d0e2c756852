//! Requests and responses about users, roles, tokens and grants.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Action, AuthMethod, CredentialSettings, LimitUsage, ObjectPattern, Permission, Timestamp,
    UserKind,
};

/// A request to create a user.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateUser {
    /// The name.
    pub name: String,
    /// The kind.
    pub kind: UserKind,
    /// The password. If absent, the user can log in with tokens only.
    pub password: Option<String>,
}

impl std::fmt::Debug for CreateUser {
    /// Omits the password, which must not be logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A change of a user. Absent fields are not changed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct UpdateUser {
    /// The new password.
    pub password: Option<String>,
    /// True to reject the user's credentials, false to accept them again.
    pub disabled: Option<bool>,
}

impl std::fmt::Debug for UpdateUser {
    /// Omits the password, which must not be logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpdateUser").field("disabled", &self.disabled).finish_non_exhaustive()
    }
}

/// A request to create an access token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateToken {
    /// The user that gets the token; by default the user that sends the request.
    pub user: Option<String>,
    /// A description, such as the program that uses it.
    pub label: String,
    /// The permissions that limit the token. If absent, the token has all permissions of its user.
    pub scopes: Option<Vec<Permission>>,
    /// The time at which the token expires. If absent, the token does not expire.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires: Option<Timestamp>,
}

impl From<CreateToken> for CredentialSettings {
    fn from(request: CreateToken) -> Self {
        let CreateToken { label, scopes, expires, .. } = request;
        CredentialSettings { label, scopes, expires }
    }
}

/// A request to create a role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreateRole {
    /// The name.
    pub name: String,
}

/// A request to grant a permission, or to revoke it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantRequest {
    /// The user or role.
    pub grantee: String,
    /// The actions.
    pub actions: Vec<Action>,
    /// The objects, as in `table:sales.*`, `branch:dev/*` or `lake`.
    #[schema(value_type = String)]
    pub object: ObjectPattern,
}

/// The identity as which the server has authenticated a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Whoami {
    /// The user's name; `owner` for the lake's owner.
    pub name: String,
    /// The kind of the credential.
    pub method: AuthMethod,
    /// The roles of the user, by name.
    pub roles: Vec<String>,
    /// The id of the access token, if one authenticated the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The permissions that limit the token. If absent, the token has all permissions of its user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Permission>>,
    /// The permissions of the user and its roles. The owner has all permissions.
    pub permissions: Vec<Permission>,
    /// The limits of the user and its usage today. Absent if the user has no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitUsage>,
}

/// An access decision with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccessExplanation {
    /// The user.
    pub user: String,
    /// The action.
    pub action: Action,
    /// The object.
    pub object: String,
    /// True if the user may perform the action on the object.
    pub allowed: bool,
    /// The reason, for example the grant that permits the action.
    pub reason: String,
    /// The row filters and column masks of the table that apply to the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restrictions: Vec<String>,
}
