//! Users, roles, grants and access tokens. Users and roles share one set of names.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ObjectOwner, Permission, Timestamp};

/// The kind of a user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserKind {
    /// A person.
    #[default]
    Person,
    /// A program, which has tokens and no password.
    Service,
}

/// A user or service account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// The name.
    pub name: String,
    /// The kind of the user.
    pub kind: UserKind,
    /// The time at which the user was created.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// True if the user is disabled, so that its credentials are rejected.
    pub disabled: bool,
    /// True if the user has a password.
    pub has_password: bool,
    /// The identity of the user at an OpenID provider: the issuer and the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The roles granted to the user, by name.
    pub roles: Vec<String>,
}

/// A role: a set of grants for the users and roles to which it is granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Role {
    /// The name.
    pub name: String,
    /// The time at which the role was created.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// The roles granted to this role, by name.
    pub roles: Vec<String>,
}

/// A permission of a user or role. There is one grant for each grantee and object pattern, and one
/// for each owner that granted rights on the object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Grant {
    /// The user or role.
    pub grantee: String,
    /// The actions and the objects.
    #[serde(flatten)]
    pub permission: Permission,
    /// The time at which the grant was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub granted: Timestamp,
    /// The user that last changed the grant.
    pub by: String,
    /// The owner of the object, if the owner made the grant. The grant then applies only to objects
    /// of this owner. Absent if an administrator made the grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<ObjectOwner>,
}

/// The settings of a new access token or access key. They do not contain its user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CredentialSettings {
    /// A description, such as the program that uses it.
    pub label: String,
    /// The permissions that limit the token. If absent, the token has all permissions of its user.
    pub scopes: Option<Vec<Permission>>,
    /// The time at which the token expires. If absent, the token does not expire.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires: Option<Timestamp>,
}

/// An access token, without its secret. Clients send the secret with each request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccessToken {
    /// The id.
    pub id: String,
    /// The user that the token authenticates.
    pub user: String,
    /// A description.
    pub label: String,
    /// The permissions that limit the token. If absent, the token has all permissions of its user.
    pub scopes: Option<Vec<Permission>>,
    /// The time at which the token was created.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// The time at which the token expires. If absent, the token does not expire.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires: Option<Timestamp>,
    /// The time of the token's last use, with a precision of one minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used: Option<Timestamp>,
    /// The time at which the token was revoked; absent if the token was not revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked: Option<Timestamp>,
}

/// A new access token with its secret. Only this response contains the secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// The token.
    pub token: AccessToken,
    /// The secret that clients send: `hwp_` and 56 hexadecimal digits.
    pub secret: String,
}

impl std::fmt::Debug for CreatedToken {
    /// Omits the secret, which must not be logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedToken").field("token", &self.token).finish_non_exhaustive()
    }
}
