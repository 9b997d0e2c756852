//! Permissions: actions on the objects that a pattern selects. Grants and token scopes consist of
//! permissions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{AccessObject, ErrorCode, ObjectKind, ObjectPattern, ToProblem};

/// An action on an object.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Read the rows and the description of a table or view.
    Select,
    /// Add rows.
    Insert,
    /// Change rows.
    Update,
    /// Delete rows, objects of a bucket, or all messages of a queue.
    Delete,
    /// Create an object whose name the permission covers.
    Create,
    /// Change the object's definition, properties or name.
    Alter,
    /// Remove the object.
    Drop,
    /// List and describe a branch and its commits, a trigger, an environment, or the jobs of a
    /// user; import from a location; read objects of a bucket; receive and delete messages of a
    /// queue.
    Read,
    /// Commit to a branch; write objects of a bucket; send messages to a queue.
    Write,
    /// Merge into a branch, cherry-pick or revert there.
    Merge,
    /// Call a function.
    Invoke,
    /// Set the value of a secret, or delete the secret.
    Set,
    /// Give a secret's value to functions.
    Use,
    /// Run a project, or deliver an event of a trigger again.
    Run,
    /// Deploy a version of a project or function.
    Deploy,
    /// Maintain tables; stop jobs of other users.
    Maintain,
    /// List the objects of a bucket.
    List,
    /// Read the audit log.
    Audit,
    /// Perform every action, and manage the permissions of users.
    Administer,
}

impl Action {
    /// All actions.
    pub const ALL: [Action; 19] = [
        Action::Select,
        Action::Insert,
        Action::Update,
        Action::Delete,
        Action::Create,
        Action::Alter,
        Action::Drop,
        Action::Read,
        Action::Write,
        Action::Merge,
        Action::Invoke,
        Action::Set,
        Action::Use,
        Action::Run,
        Action::Deploy,
        Action::Maintain,
        Action::List,
        Action::Audit,
        Action::Administer,
    ];

    /// Returns the name, for example `select`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Action::Select => "select",
            Action::Insert => "insert",
            Action::Update => "update",
            Action::Delete => "delete",
            Action::Create => "create",
            Action::Alter => "alter",
            Action::Drop => "drop",
            Action::Read => "read",
            Action::Write => "write",
            Action::Merge => "merge",
            Action::Invoke => "invoke",
            Action::Set => "set",
            Action::Use => "use",
            Action::Run => "run",
            Action::Deploy => "deploy",
            Action::Maintain => "maintain",
            Action::List => "list",
            Action::Audit => "audit",
            Action::Administer => "administer",
        }
    }
}

/// Returns the item of `all` whose text equals `text`, ignoring case.
pub(crate) fn named<T: Copy + fmt::Display>(all: &[T], text: &str) -> Option<T> {
    all.iter().copied().find(|one| one.to_string().eq_ignore_ascii_case(text))
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An invalid permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PermissionError {
    /// The action does not exist.
    #[error("unknown action `{text}`")]
    Action {
        /// The unknown action.
        text: String,
    },
    /// The kind of object does not exist.
    #[error("unknown kind of object in `{text}`")]
    Kind {
        /// The unknown kind.
        text: String,
    },
    /// The pattern cannot match a valid name.
    #[error("`{text}` is not a usable pattern: {reason}")]
    Pattern {
        /// The text of the pattern.
        text: String,
        /// The violated rule.
        reason: String,
    },
    /// The action does not apply to the kind of object.
    #[error("`{action}` cannot be granted on a {kind}")]
    Inapplicable {
        /// The action.
        action: Action,
        /// The kind of object.
        kind: ObjectKind,
    },
    /// The permission has no action.
    #[error("the permission has no action")]
    NoAction,
}

impl ToProblem for PermissionError {
    fn code(&self) -> ErrorCode {
        ErrorCode::InvalidArgument
    }

    fn hint(&self) -> Option<String> {
        let list = |all: &[Action]| {
            let names: Vec<_> = all.iter().map(|action| format!("`{action}`")).collect();
            names.join(", ")
        };
        Some(match self {
            PermissionError::Action { .. } | PermissionError::NoAction => {
                format!("Use one of {}", list(&Action::ALL))
            }
            PermissionError::Kind { .. } => {
                "Write the object as in `table:sales.orders`, `branch:dev/*` or `lake`".to_owned()
            }
            PermissionError::Pattern { .. } => {
                "Write a name, in which `*` stands for any text".to_owned()
            }
            PermissionError::Inapplicable { kind, .. } => {
                format!("Use one of {}", list(kind.actions()))
            }
        })
    }
}

impl FromStr for Action {
    type Err = PermissionError;

    fn from_str(text: &str) -> Result<Self, PermissionError> {
        named(&Action::ALL, text).ok_or_else(|| PermissionError::Action { text: text.to_owned() })
    }
}

/// Actions on the objects that a pattern selects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct Permission {
    /// The actions.
    pub actions: Vec<Action>,
    /// The objects, as in `table:sales.*`, `namespace:sales`, `branch:dev/*` or `lake`.
    #[schema(value_type = String)]
    pub object: ObjectPattern,
}

impl Permission {
    /// Sorts the actions, and checks that each of them applies to the kind of object. Errors: no
    /// action, or an action that does not apply.
    pub fn checked(mut self) -> Result<Self, PermissionError> {
        self.actions.sort_unstable();
        self.actions.dedup();
        if self.actions.is_empty() {
            return Err(PermissionError::NoAction);
        }
        let kind = self.object.kind();
        match self.actions.iter().find(|action| !kind.actions().contains(action)) {
            Some(action) => Err(PermissionError::Inapplicable { action: *action, kind }),
            None => Ok(self),
        }
    }

    /// Returns true if the permission allows an action on an object. `administer` on the lake
    /// allows every action on every object.
    pub fn contains(&self, action: Action, object: &AccessObject) -> bool {
        self.is_administration() || (self.actions.contains(&action) && self.object.covers(object))
    }

    /// Returns true if the permission includes `administer` on the lake.
    pub fn is_administration(&self) -> bool {
        self.object.kind() == ObjectKind::Lake && self.actions.contains(&Action::Administer)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actions: Vec<_> = self.actions.iter().map(|action| action.as_str()).collect();
        write!(f, "{} on {}", actions.join(", "), self.object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_must_apply_to_the_kind_of_object() {
        let permission = |actions: &[Action], object: &str| {
            let object = object.parse().expect(object);
            Permission { actions: actions.to_vec(), object }.checked()
        };
        permission(&[Action::Merge], "table:a").expect_err("tables have no such action");
        permission(&[], "table:a").expect_err("no action");
        let read = permission(&[Action::Select, Action::Select], "table:a").expect("valid");
        assert_eq!(read.to_string(), "select on table:public.a");
        let lake = permission(&[Action::Administer], "lake").expect("valid");
        assert!(lake.contains(Action::Drop, &AccessObject::branch("main")));
        assert!(!read.contains(Action::Insert, &"table:a".parse().expect("a table")));
    }
}
