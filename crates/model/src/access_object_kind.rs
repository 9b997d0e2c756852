//! The kinds of objects on which a principal acts, and the actions on each kind.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Action;

/// The kind of an object.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A table, on every branch.
    Table,
    /// An SQL view, on every branch.
    View,
    /// A namespace, on every branch, and the tables, views and namespaces in it.
    Namespace,
    /// A branch.
    Branch,
    /// A function that is called by name.
    Function,
    /// A project.
    Project,
    /// A trigger.
    Trigger,
    /// A Python environment.
    Environment,
    /// A secret.
    Secret,
    /// A location of files outside the lake, and the files and folders below it.
    Location,
    /// A bucket, or an object in a bucket: `BUCKET/KEY` and the objects below it.
    Bucket,
    /// A message queue.
    Queue,
    /// The jobs and the usage of a user.
    Usage,
    /// The lake as a whole.
    Lake,
}

impl ObjectKind {
    /// All kinds.
    pub const ALL: [ObjectKind; 14] = [
        ObjectKind::Table,
        ObjectKind::View,
        ObjectKind::Namespace,
        ObjectKind::Branch,
        ObjectKind::Function,
        ObjectKind::Project,
        ObjectKind::Trigger,
        ObjectKind::Environment,
        ObjectKind::Secret,
        ObjectKind::Location,
        ObjectKind::Bucket,
        ObjectKind::Queue,
        ObjectKind::Usage,
        ObjectKind::Lake,
    ];

    /// Returns the name, for example `table`.
    pub const fn as_str(self) -> &'static str {
        match self {
            ObjectKind::Table => "table",
            ObjectKind::View => "view",
            ObjectKind::Namespace => "namespace",
            ObjectKind::Branch => "branch",
            ObjectKind::Function => "function",
            ObjectKind::Project => "project",
            ObjectKind::Trigger => "trigger",
            ObjectKind::Environment => "environment",
            ObjectKind::Secret => "secret",
            ObjectKind::Location => "location",
            ObjectKind::Bucket => "bucket",
            ObjectKind::Queue => "queue",
            ObjectKind::Usage => "usage",
            ObjectKind::Lake => "lake",
        }
    }

    /// Returns the actions that can be granted on objects of the kind.
    pub const fn actions(self) -> &'static [Action] {
        use Action::{
            Administer, Alter, Audit, Create, Delete, Deploy, Drop, Insert, Invoke, List, Maintain,
            Merge, Read, Run, Select, Set, Update, Use, Write,
        };
        match self {
            ObjectKind::Table | ObjectKind::Namespace => {
                &[Select, Insert, Update, Delete, Create, Alter, Drop]
            }
            ObjectKind::View => &[Select, Create, Alter, Drop],
            ObjectKind::Branch => &[Read, Write, Merge, Create, Alter, Drop],
            ObjectKind::Function => &[Invoke, Deploy],
            ObjectKind::Project => &[Run, Deploy],
            ObjectKind::Trigger => &[Read, Run],
            ObjectKind::Environment => &[Read, Drop],
            ObjectKind::Secret => &[Set, Use],
            ObjectKind::Location => &[Read, Write],
            ObjectKind::Usage => &[Read],
            ObjectKind::Bucket => &[Read, Write, List, Delete, Create, Drop],
            ObjectKind::Queue => &[Read, Write, Delete, Create, Alter, Drop],
            ObjectKind::Lake => &[Maintain, Audit, Administer],
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
