//! Preconditions of a write, checked against the existing object.

use crate::record::ObjectRecord;
use crate::{Error, Result};

/// A condition on the current object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ObjectPrecondition {
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

impl ObjectPrecondition {
    /// Checks the condition.
    ///
    /// Errors: [`Error::Precondition`]; [`Error::NoObject`] if the object must exist.
    pub(crate) fn check(&self, key: &str, current: Option<&ObjectRecord>) -> Result<()> {
        let failed = || Err(Error::Precondition { key: key.to_owned() });
        match (self, current) {
            (ObjectPrecondition::Always, _)
            | (ObjectPrecondition::Absent, None)
            | (ObjectPrecondition::Exists, Some(_)) => Ok(()),
            (ObjectPrecondition::Matches(tag), Some(current)) if *tag == current.etag => Ok(()),
            (ObjectPrecondition::Absent | ObjectPrecondition::Matches(_), Some(_)) => failed(),
            (ObjectPrecondition::Matches(_) | ObjectPrecondition::Exists, None) => {
                Err(Error::NoObject { key: key.to_owned() })
            }
        }
    }
}
