//! Limits of each principal, so that no client can use the resources of other clients.

use std::time::Duration;

use headwater_model::{ErrorCode, Identity, Problem};
use tonic::Status;

use crate::grpc_status::to_status;

/// The limits that apply to each principal: to the owner, or to a user over all of its credentials.
#[derive(Debug, Clone)]
pub struct FlightLimits {
    /// Maximum number of open transactions.
    pub transactions_max: usize,
    /// Time without statements after which a transaction is rolled back.
    pub transaction_idle: Duration,
    /// Maximum number of prepared statements.
    pub prepared_max: usize,
    /// Time without use after which a prepared statement is dropped, with its parameters.
    pub prepared_idle: Duration,
    /// Maximum number of concurrent uploads, which are ingestions and rows of parameters.
    pub uploads_max: usize,
    /// Maximum size of the uploaded rows that the server holds in memory, in bytes. Rows of
    /// parameters count until they are replaced, or until their statement is dropped.
    pub upload_bytes_max: usize,
    /// Time without a message after which an upload fails.
    pub upload_idle: Duration,
    /// Approximate size of the rows that one INSERT of an ingestion inserts, in bytes. It is
    /// smaller if the principal has many uploads.
    pub chunk_bytes: usize,
}

impl Default for FlightLimits {
    fn default() -> Self {
        FlightLimits {
            transactions_max: 200,
            transaction_idle: Duration::from_secs(30 * 60),
            prepared_max: 1_000,
            prepared_idle: Duration::from_secs(3600),
            uploads_max: 32,
            upload_bytes_max: 512 << 20,
            upload_idle: Duration::from_secs(300),
            chunk_bytes: 64 << 20,
        }
    }
}

/// Returns the key under which usage is counted against the limits of a principal.
pub fn account(identity: &Identity) -> String {
    match identity {
        Identity::Owner => "the owner".to_owned(),
        // An account that is created later with the same name has its own limits.
        Identity::User(user) => format!("user `{}` {}", user.name, user.created),
        Identity::Anonymous => "anonymous".to_owned(),
    }
}

/// Returns the error for a request that exceeds a limit. `what` is the current usage, such as the
/// text `3 transactions`.
pub fn exceeded(identity: &Identity, what: &str, hint: &str) -> Status {
    let of = match identity {
        Identity::Owner => "the owner".to_owned(),
        Identity::User(user) => format!("user `{}`", user.name),
        Identity::Anonymous => "the client".to_owned(),
    };
    let message = format!("limit reached: {of} has {what}");
    to_status(Problem::new(ErrorCode::TooBusy, message).with_hint(hint))
}
