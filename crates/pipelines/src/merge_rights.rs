//! The rights to resolve a merge conflict by taking the source's version of a table.
//!
//! The source's version replaces the target's version, so rows of the target can be lost. A user
//! that may not delete these rows directly may not delete them by a merge either.

use std::sync::Arc;

use headwater_engine::{TableAccess, change_forbidden};
use headwater_lake::ChoiceCheck;
use headwater_model::{Action, ErrorCode, Object, Problem, TableName};

/// Returns the check of a merge's choices for the rights in `access`. A row filter or column mask
/// of the table denies the choice, as it denies all changes of existing rows.
pub fn choice_check(access: Arc<dyn TableAccess>) -> ChoiceCheck {
    ChoiceCheck::new(move |action: Action, table: &TableName, id: &str| {
        let object = Object::table(table);
        let checked = access.check(action, &object).and_then(|()| {
            let restrictions = access.restrictions(table, Some(id));
            restrictions.map_or(Ok(()), |found| Err(change_forbidden(action, table, &found)))
        });
        let is_seen = access.allows(Action::Select, &object);
        checked.map_err(|problem| if is_seen { problem } else { hidden() })
    })
}

/// Returns the error for a table in conflict whose name the user may not see.
fn hidden() -> Problem {
    let message = "a table in conflict may not be replaced by the version of the source";
    Problem::new(ErrorCode::Forbidden, message)
        .with_hint("Ask an administrator to merge, or keep the version of the target.")
}
