//! The rights of a session to tables, views, namespaces and branches. The caller of the engine
//! implements [`SessionRights`], which decides.

use std::fmt::Debug;

use headwater_catalog::is_commit_in;
use headwater_lake::Lake;
use headwater_model::{
    AccessObject, Action, Limits, ObjectOwner, Problem, RefSpec, Restriction, Restrictions,
    ResultExt, TableName,
};

use crate::error::{Error, Result};
use crate::session::Session;
use headwater_sql::table_name::ParsedTableName;

/// Decides which objects the statements of a session may access.
///
/// A session checks every table and view that a statement reads or writes, including the tables
/// behind views. The session makes this check after name resolution and before planning.
pub trait SessionRights: Debug + Send + Sync {
    /// Checks that an action on an object is allowed, and records the decision.
    ///
    /// Errors: `forbidden`, with the action and the object.
    fn check(&self, action: Action, object: &AccessObject) -> Result<(), Problem>;

    /// Returns true if an action on an object is allowed. Used to filter lists; not recorded.
    fn allows(&self, action: Action, object: &AccessObject) -> bool;

    /// Returns true if the session may not see the names of some existing objects.
    fn is_limited(&self) -> bool;

    /// Returns the row filters and column masks of a table that apply to the session. A restriction
    /// applies if it refers to the table's name or, if `id` is set, to the table's id.
    fn restrictions(&self, table: &TableName, id: Option<&str>) -> Option<Restrictions>;

    /// Returns the row filters and column masks of a table because of which the session may not
    /// change existing rows. By default, these are all restrictions of the table that apply to the
    /// session.
    fn change_restrictions(&self, table: &TableName, id: &str) -> Option<Restrictions> {
        self.restrictions(table, Some(id))
    }

    /// Returns a row filter or column mask, for any user, that refers to a table only by its name.
    /// It would no longer apply if the table were renamed.
    fn restriction_by_name(&self, table: &TableName, id: &str) -> Option<Restriction>;

    /// Returns a digest of all row filters and column masks that apply to the session. Results
    /// are reused only between sessions with the same digest.
    fn restriction_digest(&self) -> Option<String>;

    /// Returns the limits of the session's user.
    fn limits(&self) -> Limits;

    /// Returns the owner of the objects that the session creates; `None` for no owner.
    fn creator(&self) -> Option<ObjectOwner> {
        None
    }
}

impl Session {
    /// Checks that the session may act on an object.
    pub(crate) fn authorize(&self, action: Action, object: &AccessObject) -> Result<()> {
        let Some(access) = &self.options.access else { return Ok(()) };
        access.check(action, object).map_err(Error::Problem)
    }

    /// Checks that the session may act on a table or view that a statement names.
    ///
    /// The error contains the name as written, so it reveals neither whether the table exists nor
    /// the stored spelling of its name.
    pub(crate) fn authorize_found(
        &self,
        action: Action,
        found: &AccessObject,
        written: &TableName,
    ) -> Result<()> {
        if self.options.access.as_ref().is_some_and(|access| !access.allows(action, found)) {
            self.authorize(action, &AccessObject::table(written))?;
        }
        self.authorize(action, found)
    }

    /// Returns the owner of the objects that the session creates; `None` for no owner.
    pub(crate) fn creator(&self) -> Option<ObjectOwner> {
        self.options.access.as_ref().and_then(|access| access.creator())
    }

    /// Returns true if the session may see an object in a list.
    pub(crate) fn lists(&self, action: Action, object: &AccessObject) -> bool {
        self.options.access.as_ref().is_none_or(|access| access.allows(action, object))
    }

    /// Returns true if errors may suggest existing names. A session with limited access gets no
    /// suggestions, because it may not be allowed to see these names.
    pub(crate) fn suggests(&self) -> bool {
        self.options.access.as_ref().is_none_or(|access| !access.is_limited())
    }
}

/// Checks the right to read at a ref: `read` on the branch or tag. A commit id must be in the
/// history of a branch or tag that the session may read.
///
/// Errors: `forbidden`, even if the ref does not exist.
pub async fn check_ref(
    lake: &Lake,
    access: &dyn SessionRights,
    reference: &RefSpec,
) -> Result<(), Problem> {
    let reads = |object: &AccessObject| access.allows(Action::Read, object);
    let object = AccessObject::reference(reference);
    let reads_name = |name: &str| reads(&AccessObject::branch(name));
    let catalog = lake.catalog();
    if reads(&object) || is_commit_in(catalog, reference, &reads_name).await.or_problem()? {
        return Ok(());
    }
    access.check(Action::Read, &object)
}

/// Returns the name of a table as written, in `namespace` if the name is unqualified.
pub(crate) fn name_as_written(written: &ParsedTableName, namespace: &str) -> TableName {
    let namespace = written.namespace.clone().unwrap_or_else(|| namespace.to_owned());
    TableName { namespace, name: written.name.clone() }
}
