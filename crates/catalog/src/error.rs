//! Errors of the catalog.

use std::collections::BTreeMap;

use headwater_model::{AncestorDistance, CommitId, ErrorCode, NameError, TableName, ToProblem};
use serde_json::{Value, json};

use crate::TableEntry;

/// A result with the error type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the catalog.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ref does not exist.
    #[error("there is no {what} `{name}`")]
    RefNotFound {
        /// The expected kind: `branch`, `tag`, `branch or tag` or `commit`.
        what: &'static str,
        /// The requested name.
        name: String,
        /// The most similar existing name.
        near: Option<String>,
    },
    /// The requested ancestor of a ref does not exist.
    #[error("`{reference}` has no commit {}", describe_ancestor(.back))]
    NoCommitBefore {
        /// The ref whose ancestor was requested.
        reference: String,
        /// The requested distance or time.
        back: AncestorDistance,
    },
    /// The hash prefix matches several commits.
    #[error("commit prefix `{digits}` is ambiguous ({} matches)", .commits.len())]
    AmbiguousHash {
        /// The requested hash prefix.
        digits: String,
        /// The matching commits, or the first of them.
        commits: Vec<CommitId>,
    },
    /// A branch or tag with the name already exists.
    #[error("{what} `{name}` already exists")]
    RefExists {
        /// `branch` or `tag`.
        what: &'static str,
        /// The existing name.
        name: String,
    },
    /// The name is invalid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The namespace is reserved for the system tables.
    #[error("namespace `{name}` is reserved")]
    ReservedNamespace {
        /// The reserved namespace.
        name: String,
    },
    /// The namespace does not exist.
    #[error("there is no namespace `{name}`")]
    NamespaceNotFound {
        /// The requested namespace.
        name: String,
        /// The most similar existing name.
        near: Option<String>,
    },
    /// The namespace already exists.
    #[error("namespace `{name}` already exists")]
    NamespaceExists {
        /// The name that is already in use.
        name: String,
    },
    /// A namespace to drop contains other namespaces. Does not name them, because the owner of the
    /// namespace may not see the namespaces of other users in it.
    #[error("namespace `{name}` contains {inner} namespace{}", if *inner == 1 { "" } else { "s" })]
    NamespaceHasInner {
        /// The namespace to drop.
        name: String,
        /// The number of contained namespaces.
        inner: usize,
    },
    /// A namespace to drop contains tables.
    #[error("namespace `{name}` contains {tables} table{}", if *tables == 1 { "" } else { "s" })]
    NamespaceNotEmpty {
        /// The namespace to drop.
        name: String,
        /// The number of tables.
        tables: u64,
    },
    /// Several tables match the name case-insensitively.
    #[error("table name `{name}` is ambiguous: it matches {}", list(.candidates))]
    AmbiguousTable {
        /// The requested name.
        name: String,
        /// The matching tables.
        candidates: Vec<TableName>,
    },
    /// A table has changed since the request read it.
    #[error("table `{table}` on `{branch}` was {change} concurrently")]
    TableChanged {
        /// The table that has changed.
        table: TableName,
        /// The target branch of the commit.
        branch: String,
        /// The concurrent change, such as `replaced`.
        change: String,
        /// The current entry of the branch.
        found: Option<Box<TableEntry>>,
    },
    /// The branch rejects direct writes.
    #[error("branch `{branch}` is protected")]
    Protected {
        /// The protected branch.
        branch: String,
    },
    /// The source is the branch of a failed run, or was created from such a branch.
    #[error("`{reference}` contains data of run `{run}`, which failed or was cancelled")]
    Quarantined {
        /// The requested ref.
        reference: String,
        /// The failed or cancelled run.
        run: String,
    },
    /// The operation is not allowed on `main`.
    #[error("branch `main` cannot be {what}")]
    MainBranch {
        /// `renamed` or `deleted`.
        what: &'static str,
    },
    /// A commit for this event already exists.
    #[error("the changes of event `{event}` were already committed")]
    EventAlreadyCommitted {
        /// The event's id.
        event: String,
    },
    /// All attempts failed because of concurrent changes of the branch or tag.
    #[error("`{name}` was changed by concurrent requests in all {attempts} attempts")]
    Contended {
        /// The branch or tag.
        name: String,
        /// The number of attempts.
        attempts: usize,
    },
    /// An object or ref cannot be decoded.
    #[error("{what} cannot be read: {reason}")]
    Corrupt {
        /// The object or ref.
        what: String,
        /// The reason why decoding failed.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] headwater_store::Error),
}

impl Error {
    /// Returns true if the error does not depend on the branch's head. A retry with a newer head
    /// would then fail with the same error.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Error::Store(_) | Error::EventAlreadyCommitted { .. })
    }
}

fn describe_ancestor(back: &AncestorDistance) -> String {
    match back {
        AncestorDistance::Commits(count) => format!("{count} commits back"),
        AncestorDistance::Time(time) => format!("at or before {}", time.to_rfc3339()),
    }
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::RefNotFound { .. } | Error::NoCommitBefore { .. } => ErrorCode::RefNotFound,
            Error::AmbiguousHash { .. } | Error::AmbiguousTable { .. } => {
                ErrorCode::InvalidArgument
            }
            Error::RefExists { .. }
            | Error::NamespaceExists { .. }
            | Error::EventAlreadyCommitted { .. } => ErrorCode::AlreadyExists,
            Error::Name(error) => error.code(),
            Error::ReservedNamespace { .. } => ErrorCode::InvalidName,
            Error::NamespaceNotFound { .. } => ErrorCode::NamespaceNotFound,
            Error::NamespaceNotEmpty { .. } | Error::NamespaceHasInner { .. } => {
                ErrorCode::NotEmpty
            }
            Error::TableChanged { .. } | Error::Contended { .. } => ErrorCode::CommitConflict,
            Error::Protected { .. } | Error::Quarantined { .. } => ErrorCode::BranchProtected,
            Error::MainBranch { .. } => ErrorCode::Forbidden,
            Error::Corrupt { .. } => ErrorCode::Corrupt,
            Error::Store(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::RefNotFound { near: Some(near), .. }
            | Error::NamespaceNotFound { near: Some(near), .. } => {
                return Some(format!("Did you mean `{near}`?"));
            }
            Error::NoCommitBefore { .. } | Error::RefNotFound { what: "commit", .. } => {
                "List the commits with `headwater log`."
            }
            Error::RefNotFound { .. } => {
                "List the names with `headwater branch ls` and `headwater tag ls`."
            }
            Error::AmbiguousHash { .. } => "Use more digits of the commit hash.",
            Error::RefExists { .. } => "Choose another name, or use the existing one.",
            Error::NamespaceNotFound { .. } => {
                "Create the namespace with `headwater namespace create`, or list the namespaces \
                 with `headwater namespace ls`."
            }
            Error::NamespaceNotEmpty { .. } => {
                "Drop the tables, views and functions of the namespace first."
            }
            Error::NamespaceHasInner { .. } => "Drop the namespaces in it first.",
            Error::AmbiguousTable { .. } => "Write the name with its exact upper and lower case.",
            Error::TableChanged { .. } | Error::Contended { .. } => {
                "Retry the operation: it then reads the latest commit."
            }
            Error::Protected { .. } => {
                "Write to another branch, then merge it. Or remove the protection with \
                 `headwater branch unprotect`."
            }
            Error::Quarantined { .. } => {
                "Fix the cause, then run again. Or merge the branch with `--unchecked`."
            }
            Error::Name(error) => return error.hint(),
            Error::Store(error) => return error.hint(),
            Error::ReservedNamespace { .. } => "Choose another name.",
            Error::NamespaceExists { .. }
            | Error::MainBranch { .. }
            | Error::EventAlreadyCommitted { .. }
            | Error::Corrupt { .. } => return None,
        };
        Some(hint.to_owned())
    }

    fn context(&self) -> BTreeMap<String, Value> {
        let pairs: Vec<(&str, Value)> = match self {
            Error::RefNotFound { name, near, .. } => {
                vec![("ref", json!(name)), ("near", json!(near))]
            }
            Error::AmbiguousHash { commits, .. } => vec![("commits", json!(commits))],
            Error::AmbiguousTable { candidates, .. } => vec![("tables", json!(candidates))],
            Error::TableChanged { table, branch, change, .. } => {
                vec![("table", json!(table)), ("branch", json!(branch)), ("change", json!(change))]
            }
            Error::NamespaceNotFound { name, .. }
            | Error::NamespaceHasInner { name, .. }
            | Error::NamespaceNotEmpty { name, .. } => {
                vec![("namespace", json!(name))]
            }
            Error::Protected { branch } => vec![("branch", json!(branch))],
            Error::Quarantined { run, .. } => vec![("run", json!(run))],
            Error::EventAlreadyCommitted { event } => vec![("event", json!(event))],
            Error::Store(error) => return error.context(),
            _ => Vec::new(),
        };
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn list(tables: &[TableName]) -> String {
    let names: Vec<String> = tables.iter().map(|table| format!("`{table}`")).collect();
    names.join(", ")
}
