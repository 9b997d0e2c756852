//! What the catalog refuses, and what it says then.

use std::collections::BTreeMap;

use headwater_model::{Back, CommitId, ErrorCode, Fault, NameError, TableName};
use serde_json::{Value, json};

use crate::TableEntry;

/// A result of this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in the catalog.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing answers to the name.
    #[error("there is no {what} `{name}`")]
    RefNotFound {
        /// What was looked for: `branch`, `tag`, `branch or tag`, `commit`.
        what: &'static str,
        /// The name as given.
        name: String,
        /// The name that is most like it.
        near: Option<String>,
    },
    /// A ref's history does not reach so far back.
    #[error("`{reference}` has no commit {}", before(.back))]
    NoCommitBefore {
        /// The ref.
        reference: String,
        /// How far back.
        back: Back,
    },
    /// Several commits begin with these digits.
    #[error("`{digits}` is the beginning of {} commits", .commits.len())]
    AmbiguousHash {
        /// The digits.
        digits: String,
        /// The commits, or the first of them.
        commits: Vec<CommitId>,
    },
    /// A branch or tag of that name exists.
    #[error("{what} `{name}` exists already")]
    RefExists {
        /// `branch` or `tag`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A name that breaks the rules.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A namespace that nobody may make or remove.
    #[error("namespace `{name}` belongs to Headwater")]
    ReservedNamespace {
        /// The namespace.
        name: String,
    },
    /// There is no such namespace.
    #[error("there is no namespace `{name}`")]
    NamespaceNotFound {
        /// The namespace.
        name: String,
        /// The name that is most like it.
        near: Option<String>,
    },
    /// A namespace of that name exists.
    #[error("namespace `{name}` exists already")]
    NamespaceExists {
        /// The namespace.
        name: String,
    },
    /// A namespace that is to be removed holds other namespaces.
    #[error(
        "namespace `{name}` holds {} namespace{}, such as `{}`",
        inner.len(),
        if inner.len() == 1 { "" } else { "s" },
        inner.first().map_or("", String::as_str)
    )]
    NamespaceHasInner {
        /// The namespace.
        name: String,
        /// The namespaces in it, by name.
        inner: Vec<String>,
    },
    /// A namespace that is to be removed holds tables.
    #[error("namespace `{name}` holds {tables} table{}", if *tables == 1 { "" } else { "s" })]
    NamespaceNotEmpty {
        /// The namespace.
        name: String,
        /// How many.
        tables: u64,
    },
    /// Several tables differ from the name in case alone.
    #[error("`{name}` could be any of {}", list(.candidates))]
    AmbiguousTable {
        /// The name as given.
        name: String,
        /// The tables.
        candidates: Vec<TableName>,
    },
    /// A table is not what the request took it to be.
    #[error("table `{table}` on `{branch}` was {change} by someone else")]
    TableChanged {
        /// The table.
        table: TableName,
        /// The branch.
        branch: String,
        /// What happened to it, in a word.
        change: String,
        /// What the branch holds now.
        found: Option<Box<TableEntry>>,
    },
    /// The branch takes no direct writes.
    #[error("branch `{branch}` is protected")]
    Protected {
        /// The branch.
        branch: String,
    },
    /// The branch of a failed run, or one made from it.
    #[error("`{reference}` holds what run `{run}` wrote before it failed or was stopped")]
    Quarantined {
        /// The ref as given.
        reference: String,
        /// The run.
        run: String,
    },
    /// `main` can be neither renamed nor deleted.
    #[error("branch `main` cannot be {what}")]
    MainBranch {
        /// `renamed` or `deleted`.
        what: &'static str,
    },
    /// An event that caused a commit already.
    #[error("event `{event}` was committed already")]
    EventAlreadyCommitted {
        /// The event's id.
        event: String,
    },
    /// Others changed the branch each time before this change could be made.
    #[error("`{name}` was changed by others {attempts} times in a row")]
    Contended {
        /// The branch or tag.
        name: String,
        /// How often it was tried.
        attempts: usize,
    },
    /// An object or ref that cannot be read back.
    #[error("{what} cannot be read: {reason}")]
    Corrupt {
        /// Which.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] headwater_store::Error),
}

impl Error {
    /// Whether the answer stands although it came of a state that may be out of date: the store was asked.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Error::Store(_) | Error::EventAlreadyCommitted { .. })
    }
}

fn before(back: &Back) -> String {
    match back {
        Back::Commits(count) => format!("that lies {count} before it"),
        Back::Time(time) => format!("as early as {}", time.to_rfc3339()),
    }
}

impl Fault for Error {
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
                "Look the commit up with `headwater log`."
            }
            Error::RefNotFound { .. } => {
                "List the names with `headwater branch ls` and `headwater tag ls`."
            }
            Error::AmbiguousHash { .. } => "Give more digits of the commit.",
            Error::RefExists { .. } => "Choose another name, or use the one that exists.",
            Error::NamespaceNotFound { .. } => {
                "Make it with `headwater namespace create`, or list those there are with \
                 `headwater namespace ls`."
            }
            Error::NamespaceNotEmpty { .. } => "Drop its tables first.",
            Error::NamespaceHasInner { inner, .. } => {
                let first = inner.first().map_or("", String::as_str);
                return Some(format!("Drop namespace `{first}` first."));
            }
            Error::AmbiguousTable { .. } => "Write the name in the case it has.",
            Error::TableChanged { .. } | Error::Contended { .. } => {
                "Repeat what you did; it will start from the new state."
            }
            Error::Protected { .. } => {
                "Make a branch, change that, and merge it; or lift the protection with \
                 `headwater branch unprotect`."
            }
            Error::Quarantined { .. } => {
                "Mend what failed and run again, or say `--unchecked` to merge it all the same."
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
