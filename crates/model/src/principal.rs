//! The identity of a request, and the author of its work.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Permission, Timestamp};

/// Author of work that a client without a credential requests.
const ANONYMOUS: &str = "anonymous";

/// Author of the owner's work if the request names no author. No user can have this name.
const OWNER: &str = "owner";

/// Maximum length of an author, in bytes.
pub const AUTHOR_BYTES_MAX: usize = 200;

/// The identity of a request, and the author named in the request.
///
/// The identity comes from the connection: the Unix socket or a credential. The author is a label
/// on commits and jobs and grants no permission. The owner may choose the author. For a user, the
/// author is always the user's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    identity: Identity,
    author: Option<String>,
    address: Option<IpAddr>,
}

/// A verified identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The owner of the lake: a client on the Unix socket, or a client with the server's token.
    Owner,
    /// A user or a service account.
    User(Arc<AuthenticatedUser>),
    /// A client without a credential. Such a client may read only the server's health and the API
    /// description.
    Anonymous,
}

/// A user or service account with a valid credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthenticatedUser {
    /// The name.
    pub name: String,
    /// The time at which the account was created. A later account with the same name is a different
    /// account.
    pub created: Timestamp,
    /// The kind of the credential.
    pub method: AuthMethod,
    /// The id of the access token or access key, if it was the credential.
    pub token: Option<String>,
    /// The permissions that limit the token. `None` means all permissions of the user.
    pub scopes: Option<Vec<Permission>>,
    /// The expiry time that the credential itself contains, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// The user that owns a table, a view, an SQL function or a namespace. The record is stored with
/// the object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct ObjectOwner {
    /// The user's name.
    pub user: String,
    /// The time at which the account was created. A later account with the same name does not own
    /// the object.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
}

/// The identity that started a job or deployed a version. It is stored with the job or version,
/// whose work runs with the permissions of this identity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The owner of the lake. This is also the value for records of earlier releases, which contain
    /// no identity.
    #[default]
    Owner,
    /// A user.
    User(Box<AuthenticatedUser>),
    /// A client without a credential. The work has no permissions.
    Anonymous,
}

impl Actor {
    /// Returns the actor for the identity of a principal.
    pub fn of(principal: &Principal) -> Self {
        match principal.identity() {
            Identity::Owner => Actor::Owner,
            Identity::User(user) => Actor::User(Box::new((**user).clone())),
            Identity::Anonymous => Actor::Anonymous,
        }
    }

    /// Returns the actor without the id of the access token, because the token may expire before
    /// the work starts. The token's scopes are kept.
    #[must_use]
    pub fn without_token(mut self) -> Self {
        if let Actor::User(user) = &mut self {
            user.token = None;
            user.expires = None;
        }
        self
    }

    /// Returns the principal with whose permissions the work runs.
    pub fn principal(&self) -> Principal {
        match self {
            Actor::Owner => Principal::owner(),
            Actor::User(user) => Principal::user((**user).clone()),
            Actor::Anonymous => Principal::anonymous(),
        }
    }
}

/// The kind of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    /// No credential.
    None,
    /// The Unix socket or the server's token.
    Owner,
    /// A personal access token.
    Token,
    /// A password.
    Password,
    /// A token of an OpenID provider.
    Oidc,
    /// An access key, which signs requests.
    AccessKey,
}

impl AuthMethod {
    /// Returns the name, for example `password`.
    pub const fn as_str(self) -> &'static str {
        match self {
            AuthMethod::None => "none",
            AuthMethod::Owner => "owner",
            AuthMethod::Token => "token",
            AuthMethod::Password => "password",
            AuthMethod::Oidc => "oidc",
            AuthMethod::AccessKey => "access_key",
        }
    }
}

impl Principal {
    /// Creates the principal of the lake's owner, without an author.
    pub const fn owner() -> Self {
        Principal { identity: Identity::Owner, author: None, address: None }
    }

    /// Creates the principal of a user.
    pub fn user(user: AuthenticatedUser) -> Self {
        Principal { identity: Identity::User(Arc::new(user)), author: None, address: None }
    }

    /// Creates the principal of a client without a credential.
    pub const fn anonymous() -> Self {
        Principal { identity: Identity::Anonymous, author: None, address: None }
    }

    /// Returns the identity.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the expiry time that the credential itself contains; `None` if the credential
    /// contains no expiry time.
    pub fn expires(&self) -> Option<Timestamp> {
        match &self.identity {
            Identity::User(user) => user.expires,
            Identity::Owner | Identity::Anonymous => None,
        }
    }

    /// Returns the principal with the address of its client, for the audit log.
    #[must_use]
    pub fn with_address(self, address: Option<IpAddr>) -> Self {
        Principal { address, ..self }
    }

    /// Returns the address of the client, if it is known.
    pub const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Returns the name of the user; `None` for the owner and for anonymous clients.
    pub fn user_name(&self) -> Option<&str> {
        match &self.identity {
            Identity::User(user) => Some(&user.name),
            Identity::Owner | Identity::Anonymous => None,
        }
    }

    /// Returns the owner of the objects that the principal creates: the user; `None` for the lake's
    /// owner, which needs no ownership, and for anonymous clients.
    pub fn as_object_owner(&self) -> Option<ObjectOwner> {
        match &self.identity {
            Identity::User(user) => {
                Some(ObjectOwner { user: user.name.clone(), created: user.created })
            }
            Identity::Owner | Identity::Anonymous => None,
        }
    }

    /// Returns true if work with this author, recorded at `time`, is the work of this user. Returns
    /// false for work of a deleted account with the same name, which is older than this user's
    /// account.
    pub fn is_author_of(&self, author: &str, time: Timestamp) -> bool {
        match &self.identity {
            Identity::User(user) => user.name == author && user.created <= time,
            Identity::Owner | Identity::Anonymous => false,
        }
    }

    /// Returns the kind of the credential.
    pub fn method(&self) -> AuthMethod {
        match &self.identity {
            Identity::Owner => AuthMethod::Owner,
            Identity::User(user) => user.method,
            Identity::Anonymous => AuthMethod::None,
        }
    }

    /// Returns the principal with another author, truncated to [`AUTHOR_BYTES_MAX`]. Only the owner
    /// can choose an author; an absent or empty `author` changes nothing.
    #[must_use]
    pub fn with_author(mut self, author: Option<String>) -> Self {
        if let Some(mut author) = author.filter(|author| !author.is_empty()) {
            author.truncate(author.floor_char_boundary(AUTHOR_BYTES_MAX));
            self.author = Some(author);
        }
        self
    }

    /// Returns the user's name, or the author that the owner chose; `None` for an owner without an
    /// author and for anonymous clients.
    pub fn named_author(&self) -> Option<String> {
        self.user_name().map(ToOwned::to_owned).or_else(|| self.author.clone())
    }

    /// Returns the author of commits and jobs: the user's name, or the author that the owner chose;
    /// by default `owner` for the owner, and `anonymous` for a client without a credential.
    pub fn author(&self) -> &str {
        let default = match &self.identity {
            Identity::User(user) => return &user.name,
            Identity::Owner => OWNER,
            Identity::Anonymous => ANONYMOUS,
        };
        self.author.as_deref().unwrap_or(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clients_without_a_credential_are_anonymous() {
        let chosen = |name: &str| Some(name.to_owned());
        assert_eq!(Principal::owner().author(), "owner");
        assert_eq!(Principal::owner().named_author(), None);
        assert_eq!(Principal::owner().with_author(chosen("ada")).author(), "ada");
        assert_eq!(Actor::Owner.principal().author(), "owner");
        assert_eq!(Principal::anonymous().author(), "anonymous");
    }
}
