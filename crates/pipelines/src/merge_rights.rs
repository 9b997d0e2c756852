//! The permissions of a user that merges, cherry-picks or reverts.
//!
//! If a conflict is resolved by taking the source's version, this version replaces the target's
//! version, so rows of the target can be lost. A user that may not delete these rows directly may
//! not delete them by a merge either. A cherry-pick or revert is a new change, so the user needs
//! the permissions to make this change. A row filter or column mask also forbids cherry-picks and
//! reverts of the table, because the user could remove or repeat hidden rows.

use std::sync::Arc;

use headwater_engine::{TableAccess, change_forbidden};
use headwater_lake::MergeRights;
use headwater_model::{Action, ErrorCode, Object, Problem, TableName};

/// Creates the checks that a merge, cherry-pick or revert makes for a user with the permissions in
/// `access`. If rows or values of a table are hidden from the user, the user may not change the
/// table.
pub fn merge_rights(access: Arc<dyn TableAccess>) -> Arc<dyn MergeRights> {
    Arc::new(UserMergeRights(access))
}

/// Returns the permission (an action on an object) that reading an entry of the catalog requires.
/// The code of a function may be read with the right to call the function.
pub fn reading(name: &TableName, is_view: bool) -> (Action, Object) {
    match name.function() {
        Some(own) if is_view => {
            (Action::Invoke, Object::function(&format!("{}.{own}", name.namespace)))
        }
        _ if is_view => (Action::Select, Object::view(name)),
        _ => (Action::Select, Object::table(name)),
    }
}

/// The merge checks for one user, with the same permissions as in the user's sessions.
#[derive(Debug)]
struct UserMergeRights(Arc<dyn TableAccess>);

impl MergeRights for UserMergeRights {
    fn check(&self, action: Action, table: &TableName, id: &str) -> Result<(), Problem> {
        let checked = self.0.check(action, &Object::table(table));
        let checked = checked.and_then(|()| self.check_restrictions(action, table, id));
        checked.map_err(|problem| {
            let message = "a table that is hidden from the user may not be changed";
            self.concealed(problem, table, message)
        })
    }

    fn check_unrestricted(&self, table: &TableName, id: &str) -> Result<(), Problem> {
        self.check_restrictions(Action::Update, table, id).map_err(|problem| {
            let message = "a table of the commit has rows or values that are hidden from the user";
            self.concealed(problem, table, message)
        })
    }

    fn shows(&self, name: &TableName, is_view: bool) -> bool {
        let (action, object) = reading(name, is_view);
        self.0.allows(action, &object)
    }
}

impl UserMergeRights {
    fn check_restrictions(
        &self,
        action: Action,
        table: &TableName,
        id: &str,
    ) -> Result<(), Problem> {
        match self.0.change_restrictions(table, id) {
            Some(restrictions) => Err(change_forbidden(action, table, &restrictions)),
            None => Ok(()),
        }
    }

    /// Returns `problem` if the user may see the table's name. Otherwise returns a problem with
    /// `message`, which does not contain the name.
    fn concealed(&self, problem: Problem, table: &TableName, message: &str) -> Problem {
        if self.shows(table, false) {
            return problem;
        }
        Problem::new(ErrorCode::Forbidden, message).with_hint(
            "Ask an administrator to make this change, or leave the table as it is in the target.",
        )
    }
}
