//! Errors of users, roles, grants and credentials.

use std::sync::Arc;

use headwater_model::{ErrorCode, PermissionError, ToProblem};

/// A result with the error type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of users, roles, grants or credentials.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The credential is invalid. The message is the same for every cause.
    #[error("the credential is invalid")]
    InvalidCredential,
    /// The user does not exist.
    #[error("there is no user `{name}`")]
    NoUser {
        /// The requested user.
        name: String,
    },
    /// The role does not exist.
    #[error("there is no role `{name}`")]
    NoRole {
        /// The requested role.
        name: String,
    },
    /// There is neither a user nor a role with the name.
    #[error("there is no user or role `{name}`")]
    NoGrantee {
        /// The requested user or role.
        name: String,
    },
    /// The token does not exist.
    #[error("there is no token `{id}`")]
    NoToken {
        /// The requested token's id.
        id: String,
    },
    /// The access key does not exist.
    #[error("there is no access key `{id}`")]
    NoKey {
        /// The requested access key's id.
        id: String,
    },
    /// A user or role with the name exists.
    #[error("a user or role `{name}` already exists")]
    Exists {
        /// The name that is already in use.
        name: String,
    },
    /// The row filter or column mask does not exist.
    #[error("there is no {kind} `{name}`")]
    NoRestriction {
        /// The kind: `row filter` or `column mask`.
        kind: &'static str,
        /// The requested row filter or column mask.
        name: String,
    },
    /// A row filter or column mask with the name exists.
    #[error("{restriction} already exists")]
    RestrictionExists {
        /// The kind and name of the existing row filter or column mask.
        restriction: String,
    },
    /// The column has another mask.
    #[error("column `{column}` already has the {restriction}")]
    Masked {
        /// The column that already has a mask.
        column: String,
        /// The kind and name of the existing mask.
        restriction: String,
    },
    /// The user or role to drop is named in a row filter or column mask.
    #[error("`{name}` cannot be dropped: the {restriction} names it")]
    Restricted {
        /// The user or role.
        name: String,
        /// The kind and name of the restriction.
        restriction: String,
    },
    /// The grant to revoke does not exist.
    #[error("there is no grant of {what} to `{grantee}`")]
    NotGranted {
        /// The actions and objects, or the role, to revoke.
        what: String,
        /// The user or role.
        grantee: String,
    },
    /// The user or role has no limits.
    #[error("`{name}` has no limits")]
    NoLimit {
        /// The user or role.
        name: String,
    },
    /// Audit events would be kept for less than a day.
    #[error("audit events must be kept for at least one day")]
    Retention,
    /// The limits are invalid.
    #[error("the limit is invalid: {reason}")]
    Limit {
        /// The violated rule.
        reason: &'static str,
    },
    /// The name of a new user, role or restriction breaks the rules.
    #[error("`{name}` is not a usable name: {reason}")]
    Name {
        /// The rejected name.
        name: String,
        /// The violated rule.
        reason: &'static str,
    },
    /// A role would contain itself.
    #[error("granting role `{role}` to `{grantee}` would create a cycle")]
    Cycle {
        /// The role to grant.
        role: String,
        /// The role or user that would get the role.
        grantee: String,
    },
    /// The password breaks the rules.
    #[error("the password is not usable: {reason}")]
    Password {
        /// The violated rule.
        reason: String,
    },
    /// The expiry of a token or access key is not in the future.
    #[error("the expiry of the credential is in the past")]
    Expired,
    /// A text exceeds its maximum length.
    #[error("the {what} is longer than {max} bytes")]
    TooLong {
        /// The kind of text.
        what: &'static str,
        /// The maximum length, in bytes.
        max: usize,
    },
    /// The user has too many valid tokens or access keys.
    #[error("the user has {max} valid credentials of this kind (limit {max})")]
    TooManyCredentials {
        /// The maximum number.
        max: usize,
    },
    /// The user has made too many grants as an owner.
    #[error("the user has granted rights on its objects {max} times (limit {max})")]
    TooManyGrants {
        /// The maximum number.
        max: usize,
    },
    /// The permission is invalid.
    #[error(transparent)]
    Permission(#[from] PermissionError),
    /// Too many passwords are being checked.
    #[error("too many password checks are running")]
    Busy,
    /// A stored record cannot be read.
    #[error("the access record `{key}` cannot be read")]
    Corrupt {
        /// The key of the record.
        key: String,
    },
    /// The operating system returned no random bytes, or no hash could be computed.
    #[error("cannot create a secret: {reason}")]
    Secret {
        /// The reason for which no secret could be created.
        reason: String,
    },
    /// An error of the store.
    #[error(transparent)]
    Store(Arc<headwater_store::Error>),
}

impl From<headwater_store::Error> for Error {
    fn from(error: headwater_store::Error) -> Self {
        Error::Store(Arc::new(error))
    }
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::InvalidCredential => ErrorCode::Unauthenticated,
            Error::NoUser { .. }
            | Error::NoRole { .. }
            | Error::NoGrantee { .. }
            | Error::NoToken { .. }
            | Error::NoKey { .. }
            | Error::NoRestriction { .. }
            | Error::NoLimit { .. }
            | Error::NotGranted { .. }
            | Error::Limit { .. }
            | Error::Retention
            | Error::Restricted { .. }
            | Error::Cycle { .. }
            | Error::Password { .. }
            | Error::Expired
            | Error::TooLong { .. } => ErrorCode::InvalidArgument,
            Error::Exists { .. } | Error::RestrictionExists { .. } | Error::Masked { .. } => {
                ErrorCode::AlreadyExists
            }
            Error::Name { .. } => ErrorCode::InvalidName,
            Error::TooManyCredentials { .. } | Error::TooManyGrants { .. } => {
                ErrorCode::QuotaExceeded
            }
            Error::Permission(error) => error.code(),
            Error::Busy => ErrorCode::TooBusy,
            Error::Corrupt { .. } => ErrorCode::Corrupt,
            Error::Secret { .. } => ErrorCode::Internal,
            Error::Store(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::InvalidCredential => "Send a valid access token, or a user's name and password.",
            Error::NoUser { .. } => "List the users with `headwater user ls`.",
            Error::NoRole { .. } => {
                "List the roles with `headwater role ls`, or create this one with `headwater role \
                 create`."
            }
            Error::NoGrantee { .. } => {
                "List the users with `headwater user ls` and the roles with `headwater role ls`."
            }
            Error::NoToken { .. } => "List the tokens with `headwater token ls --user NAME`.",
            Error::NoKey { .. } => "List the access keys with `headwater key ls`.",
            Error::Exists { .. } => "Choose another name.",
            Error::NoRestriction { .. } => {
                "List the restrictions with `SHOW ROW FILTERS` or `SHOW COLUMN MASKS`."
            }
            Error::NotGranted { .. } => {
                "List the grants with `headwater access ls` and the roles with `headwater role ls`."
            }
            Error::NoLimit { .. } => "List the limits with `headwater limit ls`.",
            Error::Retention => "Write a longer time, such as `90d`.",
            Error::Limit { .. } => {
                "Set at least one of jobs, memory, bytes and money; to reject all requests of a \
                 user, run `headwater user disable`."
            }
            Error::RestrictionExists { .. } => "Choose another name, or write `OR REPLACE`.",
            Error::Masked { .. } => {
                "Replace or drop the existing mask: a column can have only one."
            }
            Error::Restricted { .. } => "Replace or drop the restriction first.",
            Error::Name { .. } => "Use letters, digits and `.`, `_`, `-`, `@`, as in `ana`.",
            Error::Cycle { role, grantee } => {
                return Some(format!(
                    "If `{role}` has the role `{grantee}`, directly or through other roles, revoke \
                     that grant first."
                ));
            }
            Error::Password { .. } => "Choose another password.",
            Error::Expired => "Choose a time in the future.",
            Error::TooLong { .. } => "Shorten the text.",
            Error::TooManyCredentials { .. } => {
                "Revoke unused ones: `headwater token ls` and `headwater key ls` list them."
            }
            Error::TooManyGrants { .. } => {
                "Revoke unused ones: `SHOW GRANTS` lists them. One grant to a role replaces grants \
                 to its members."
            }
            Error::Permission(error) => return error.hint(),
            Error::Busy => "Try again, or use an access token.",
            Error::Store(error) => return error.hint(),
            Error::Corrupt { .. } | Error::Secret { .. } => return None,
        };
        Some(hint.to_owned())
    }
}
