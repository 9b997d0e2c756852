//! The permissions of a user that merges, cherry-picks or reverts.
//!
//! If a conflict is resolved by taking the source's version, this version replaces the target's
//! version, so rows of the target can be lost. A user that may not delete these rows directly may
//! not delete them by a merge either. A cherry-pick or revert is a new change, so the user needs
//! the permissions to make this change. A row filter or column mask also forbids cherry-picks and
//! reverts of the table, because the user could remove or repeat hidden rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use headwater_catalog::TableEntry;
use headwater_engine::{SessionRights, change_forbidden};
use headwater_lake::{Lake, MergeRights};
use headwater_model::{AccessObject, Action, CommitId, ErrorCode, Problem, TableName};

/// Creates the checks that a merge, cherry-pick or revert makes for a user with the permissions in
/// `access`. If rows or values of a table are hidden from the user, the user may not change the
/// table.
pub fn merge_rights(access: Arc<dyn SessionRights>) -> Arc<dyn MergeRights> {
    Arc::new(UserMergeRights(access))
}

/// Returns the permission (an action on an object) that reading an entry of the catalog requires.
/// The code of a function may be read with the right to call the function.
pub fn reading(name: &TableName, is_view: bool) -> (Action, AccessObject) {
    match name.function() {
        Some(own) if is_view => {
            let object = AccessObject::function(&format!("{}.{own}", name.namespace));
            // The owner of a function without a project with this name has no right to it.
            (Action::Invoke, object.with_owner(None))
        }
        _ if is_view => (Action::Select, AccessObject::view(name)),
        _ => (Action::Select, AccessObject::table(name)),
    }
}

/// Returns the names that a user may read, of tables, views and functions. The user must have the
/// right to read each object that has the name at one of the commits. `allows` decides about an
/// action on an object.
pub async fn readable(
    lake: &Lake,
    commits: impl IntoIterator<Item = CommitId> + Send,
    names: BTreeSet<TableName>,
    allows: impl Fn(Action, &AccessObject) -> bool + Send + Sync,
) -> Result<BTreeSet<TableName>, headwater_lake::Error> {
    let mut states = Vec::new();
    for commit in commits.into_iter().collect::<BTreeSet<_>>() {
        states.push(lake.catalog().state(commit).await?);
    }
    let mut readable = BTreeSet::new();
    for name in names {
        let mut objects = Vec::new();
        for state in &states {
            let entry = state.any_entry(&name).await?;
            let right = entry.map(|entry| (reading(&name, entry.is_view()).0, entry.object(&name)));
            objects.extend(right);
        }
        if objects.is_empty() {
            objects.push(reading(&name, name.function().is_some()));
        }
        if objects.iter().all(|(action, object)| allows(*action, object)) {
            readable.insert(name);
        }
    }
    Ok(readable)
}

/// The merge checks for one user, with the same permissions as in the user's sessions.
#[derive(Debug)]
struct UserMergeRights(Arc<dyn SessionRights>);

impl MergeRights for UserMergeRights {
    fn check(&self, action: Action, table: &TableName, entry: &TableEntry) -> Result<(), Problem> {
        let checked = self.0.check(action, &entry.object(table));
        let checked = checked.and_then(|()| self.check_restrictions(action, table, &entry.id));
        checked.map_err(|problem| {
            let message = "a table that is hidden from the user may not be changed";
            self.concealed(problem, &entry.object(table), message)
        })
    }

    fn check_unrestricted(&self, table: &TableName, entry: &TableEntry) -> Result<(), Problem> {
        self.check_restrictions(Action::Update, table, &entry.id).map_err(|problem| {
            let message = "a table of the commit has rows or values that are hidden from the user";
            self.concealed(problem, &entry.object(table), message)
        })
    }

    fn shows(&self, name: &TableName, entry: &TableEntry) -> bool {
        let action = reading(name, entry.is_view()).0;
        self.0.allows(action, &entry.object(name))
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
    fn concealed(&self, problem: Problem, table: &AccessObject, message: &str) -> Problem {
        if self.0.allows(Action::Select, table) {
            return problem;
        }
        Problem::new(ErrorCode::Forbidden, message).with_hint(
            "Ask an administrator to make this change, or leave the table as it is in the target.",
        )
    }
}
