//! Access of a session to tables, views, namespaces and branches. A caller supplies the decisions.

use std::fmt::Debug;

use headwater_model::{Action, Object, Problem, TableName};

use crate::error::{Error, Result};
use crate::session::Session;
use headwater_sql::table_name::WrittenTable;

/// Decides what the statements of a session may do.
///
/// A session checks every table and view that a statement reads or writes, after its name is
/// resolved and before it is planned, and so the tables behind views.
pub trait TableAccess: Debug + Send + Sync {
    /// Checks that an action on an object is allowed, and records the decision.
    ///
    /// Errors: `forbidden`, with the action and the object.
    fn check(&self, action: Action, object: &Object) -> Result<(), Problem>;

    /// Returns true if an action on an object is allowed. Used to filter lists; not recorded.
    fn allows(&self, action: Action, object: &Object) -> bool;

    /// Returns true if names exist that the session must not see.
    fn is_limited(&self) -> bool;
}

impl Session {
    /// Checks that the session may act on an object.
    pub(crate) fn authorize(&self, action: Action, object: &Object) -> Result<()> {
        let Some(access) = &self.options.access else { return Ok(()) };
        access.check(action, object).map_err(Error::Problem)
    }

    /// Checks that the session may act on a table or view that a statement names.
    ///
    /// The error names the table as it was written. So it is the same whether the table exists, and
    /// does not reveal the stored spelling of its name.
    pub(crate) fn authorize_found(
        &self,
        action: Action,
        found: &Object,
        written: &TableName,
    ) -> Result<()> {
        let Some(access) = &self.options.access else { return Ok(()) };
        if access.allows(action, found) {
            return access.check(action, found).map_err(Error::Problem);
        }
        self.authorize(action, &Object::table(written))?;
        self.authorize(action, found)
    }

    /// Returns true if a list may contain an object.
    pub(crate) fn lists(&self, action: Action, object: &Object) -> bool {
        self.options.access.as_ref().is_none_or(|access| access.allows(action, object))
    }

    /// Returns true if errors may suggest names that exist. A session with limited access gets no
    /// suggestions: they may be names that it must not see.
    pub(crate) fn suggests(&self) -> bool {
        self.options.access.as_ref().is_none_or(|access| !access.is_limited())
    }
}

/// Returns the name of a table as it is written, in its namespace or a default one.
pub(crate) fn name_as_written(written: &WrittenTable, namespace: &str) -> TableName {
    let namespace = written.namespace.clone().unwrap_or_else(|| namespace.to_owned());
    TableName { namespace, name: written.name.clone() }
}
