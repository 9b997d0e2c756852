//! The options of a sweep.

use std::collections::HashMap;
use std::time::Duration;

use super::deleted_ref_files::UnreachableStates;

/// The retention of superseded table states. A state expires if both fields permit its expiry.
#[derive(Debug, Clone)]
pub(super) struct Retention {
    /// The minimum time since a state was superseded.
    pub before: Duration,
    /// Number of states that are kept on each branch, the newest first.
    pub keep: Option<usize>,
}

/// The options of a sweep.
#[derive(Debug)]
pub(super) struct SweepOptions {
    /// The ids of the tables to sweep; `None` for all tables.
    pub tables: Option<Vec<String>>,
    /// The ids of the tables whose states may expire.
    pub expiring: Vec<String>,
    pub retention: Option<Retention>,
    /// The minimum age at which unreferenced files are removed; `None` to keep these files.
    pub orphans: Option<Duration>,
    pub dry_run: bool,
    /// True to remove files even if they are more than half of all files.
    pub force: bool,
    /// True for automatic maintenance, which lists only the folders of tables in the lake's
    /// history.
    pub automatic: bool,
    /// The snapshots that a dry run would expire, by metadata location.
    pub dry_run_expired: HashMap<String, Vec<i64>>,
    /// The unreachable states of deleted refs. If set, only the files of these states are removed.
    pub unreachable: Option<UnreachableStates>,
}

impl SweepOptions {
    /// Returns the options for sweeping the unreachable states of deleted refs.
    pub fn of_unreachable(unreachable: UnreachableStates, age: Duration) -> Self {
        SweepOptions {
            tables: None,
            expiring: Vec::new(),
            retention: None,
            orphans: Some(age),
            dry_run: false,
            // Only files with known names are removed, so removing most files is no error.
            force: true,
            automatic: true,
            dry_run_expired: HashMap::new(),
            unreachable: Some(unreachable),
        }
    }
}
