//! Access keys: pairs of an id and a secret, which sign requests by AWS Signature Version 4.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CredentialSettings, Permission, Timestamp};

/// A request to create an access key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateAccessKey {
    /// The user that gets the key; by default the user that sends the request.
    pub user: Option<String>,
    /// A description, such as the program that uses it.
    pub label: String,
    /// The permissions that limit the key. If absent, the key has all permissions of its user.
    pub scopes: Option<Vec<Permission>>,
    /// The time at which the key expires. If absent, the key does not expire.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires: Option<Timestamp>,
}

impl From<CreateAccessKey> for CredentialSettings {
    fn from(request: CreateAccessKey) -> Self {
        let CreateAccessKey { label, scopes, expires, .. } = request;
        CredentialSettings { label, scopes, expires }
    }
}

/// An access key, without its secret. Clients sign requests with the secret, and never send it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccessKey {
    /// The id sent in requests: `HWAK` followed by 16 letters and digits.
    pub id: String,
    /// The user that the key authenticates. If absent, the lake's owner.
    pub user: Option<String>,
    /// A description.
    pub label: String,
    /// The permissions that limit the key. If absent, the key has all permissions of its user.
    pub scopes: Option<Vec<Permission>>,
    /// The time at which the key was created.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// The time at which the key expires. If absent, the key does not expire.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires: Option<Timestamp>,
    /// The time of the key's last use, with a precision of one minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used: Option<Timestamp>,
    /// The time at which the key was revoked; absent if the key was not revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked: Option<Timestamp>,
}

/// A new access key with its secret. Only this response contains the secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedAccessKey {
    /// The key.
    pub key: AccessKey,
    /// The secret that signs requests: `hws_` and 56 hexadecimal digits.
    pub secret: String,
}

impl std::fmt::Debug for CreatedAccessKey {
    /// Omits the secret, which must not be logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedAccessKey").field("key", &self.key).finish_non_exhaustive()
    }
}
