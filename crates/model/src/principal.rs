//! The identity that a request acts as.

/// Author of a request that names none.
const ANONYMOUS: &str = "anonymous";

/// Maximum length of an author, in bytes.
pub const AUTHOR_BYTES_MAX: usize = 200;

/// The identity that a request acts as, and the author that the request names.
///
/// The identity comes from the connection: the Unix socket or the server's token, both of which
/// only the lake's owner can use. The author is a label of commits and jobs; it grants nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    identity: Identity,
    author: Option<String>,
}

/// A verified identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The owner of the lake.
    Owner,
    /// A client without a token. It may read the server's health and the API's description.
    Anonymous,
}

impl Principal {
    /// Creates the lake's owner, without an author.
    pub const fn owner() -> Self {
        Principal { identity: Identity::Owner, author: None }
    }

    /// Creates the principal of a client without a token.
    pub const fn anonymous() -> Self {
        Principal { identity: Identity::Anonymous, author: None }
    }

    /// Returns the identity.
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns the principal with another author, cut to [`AUTHOR_BYTES_MAX`]. None and the empty
    /// text change nothing.
    #[must_use]
    pub fn with_author(mut self, author: Option<String>) -> Self {
        if let Some(mut author) = author.filter(|author| !author.is_empty()) {
            author.truncate(author.floor_char_boundary(AUTHOR_BYTES_MAX));
            self.author = Some(author);
        }
        self
    }

    /// Returns the author; `anonymous` by default.
    pub fn author(&self) -> &str {
        self.author.as_deref().unwrap_or(ANONYMOUS)
    }
}
