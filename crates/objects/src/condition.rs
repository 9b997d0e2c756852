//! Preconditions of a write, checked against the existing object.

use crate::record::ObjectRecord;
use crate::{Error, Result};

/// A condition on the current object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    /// No condition.
    #[default]
    Always,
    /// The object does not exist: `If-None-Match: *`.
    Absent,
    /// The object has this entity tag: `If-Match`.
    Matches(String),
    /// The object exists: `If-Match: *`.
    Exists,
}

impl Condition {
    /// Checks the condition.
    ///
    /// Errors: [`Error::Precondition`]; [`Error::NoObject`] if the object must exist.
    pub(crate) fn check(&self, key: &str, current: Option<&ObjectRecord>) -> Result<()> {
        let failed = || Err(Error::Precondition { key: key.to_owned() });
        match (self, current) {
            (Condition::Always, _) | (Condition::Absent, None) | (Condition::Exists, Some(_)) => {
                Ok(())
            }
            (Condition::Matches(tag), Some(current)) if *tag == current.etag => Ok(()),
            (Condition::Absent | Condition::Matches(_), Some(_)) => failed(),
            (Condition::Matches(_) | Condition::Exists, None) => {
                Err(Error::NoObject { key: key.to_owned() })
            }
        }
    }
}
