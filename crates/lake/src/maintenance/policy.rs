//! Decides, from writes and table properties, which tables need automatic maintenance.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use headwater_model::{MaintainRequest, RefSpec, TableName, parse_duration};
use headwater_tables::Table;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::MAINTENANCE_AUTHOR;
use super::Maintenance;
use crate::error::Result;

/// The table property for automatic maintenance: `false` disables it.
const ENABLED: &str = "headwater.maintenance.enabled";

/// The table property with the number of small files in a partition that triggers compaction.
const SMALL_FILES: &str = "headwater.maintenance.small-files";

/// The table property with the number of delete files that triggers compaction.
const DELETE_FILES: &str = "headwater.maintenance.delete-files";

/// The table property with the retention of superseded states, such as `30d`; without this
/// property, states never expire.
const EXPIRE_AFTER: &str = "headwater.maintenance.expire-after";

/// The name prefix of the branches of runs, which automatic maintenance skips.
const RUNS: &str = "run/";

/// Maximum number of written tables that are recorded.
const CHANGED_MAX: usize = 10_000;

/// The tables that were written since automatic maintenance last checked them.
#[derive(Debug, Default)]
pub(crate) struct ChangedTables {
    tables: Mutex<BTreeSet<(String, TableName)>>,
    some: Notify,
    /// The number of writes so far. Each increment wakes the task of automatic maintenance.
    count: watch::Sender<u64>,
}

impl ChangedTables {
    /// Records writes to tables of a branch.
    pub fn add<'a>(&self, branch: &str, names: impl Iterator<Item = &'a TableName>) {
        if branch.starts_with(RUNS) {
            return;
        }
        let mut tables = self.tables.lock();
        for name in names {
            if tables.len() < CHANGED_MAX {
                tables.insert((branch.to_owned(), name.clone()));
            }
        }
        if !tables.is_empty() {
            self.some.notify_one();
        }
        drop(tables);
        self.count.send_modify(|count| *count += 1);
    }
}

/// The thresholds of automatic maintenance.
struct MaintenanceThresholds {
    small_files: usize,
    delete_files: u64,
}

impl MaintenanceThresholds {
    /// Reads the policy from table properties; `None` if maintenance is disabled.
    fn of(properties: &BTreeMap<String, String>) -> Option<MaintenanceThresholds> {
        if properties.get(ENABLED).is_some_and(|value| value.eq_ignore_ascii_case("false")) {
            return None;
        }
        let number = |key: &str| properties.get(key).and_then(|value| value.parse::<u32>().ok());
        Some(MaintenanceThresholds {
            small_files: number(SMALL_FILES).unwrap_or(32).max(2) as usize,
            delete_files: u64::from(number(DELETE_FILES).unwrap_or(20).max(1)),
        })
    }

    fn has_many_delete_files(&self, table: &Table) -> bool {
        table.delete_files() >= self.delete_files
    }
}

/// Returns true if a table has at least the number of delete files that triggers compaction.
pub(super) fn has_many_deletes(table: &Table) -> bool {
    MaintenanceThresholds::of(&table.properties())
        .is_some_and(|policy| policy.has_many_delete_files(table))
}

impl Maintenance<'_> {
    /// Waits until there is a table that was written since automatic maintenance last checked it.
    pub async fn written_to(self) {
        loop {
            let some = self.lake.changed().some.notified();
            if !self.lake.changed().tables.lock().is_empty() {
                return;
            }
            some.await;
        }
    }

    /// Returns the counter of writes by this process.
    pub fn writes(self) -> watch::Receiver<u64> {
        self.lake.changed().count.subscribe()
    }

    /// Returns the tables, with their branches, that were written since the last call.
    pub fn take_changed(self) -> Vec<(String, TableName)> {
        std::mem::take(&mut *self.lake.changed().tables.lock()).into_iter().collect()
    }

    /// Returns the request for the maintenance that a table needs, or `None`.
    pub async fn needed(self, branch: &str, name: &TableName) -> Result<Option<MaintainRequest>> {
        let view = self.lake.view(&RefSpec::Name(branch.to_owned())).await?;
        let Some((_, table)) = view.find(&name.namespace, &name.name).await? else {
            return Ok(None);
        };
        let Some(policy) = MaintenanceThresholds::of(&table.properties()) else { return Ok(None) };
        if !policy.has_many_delete_files(&table)
            && !self.has_small_files(&table, policy.small_files).await?
        {
            return Ok(None);
        }
        Ok(Some(MaintainRequest {
            compact: true,
            manifests: true,
            author: Some(MAINTENANCE_AUTHOR.to_owned()),
            ..MaintainRequest::default()
        }))
    }

    async fn has_small_files(self, table: &Table, most: usize) -> Result<bool> {
        if table.files() < most as u64 {
            return Ok(false);
        }
        let small = self.lake.tables().maintenance().target_file_bytes(table) / 4 * 3;
        let plan = self.lake.tables().plan(table, None).await?;
        let mut partitions: HashMap<&str, usize> = HashMap::new();
        for file in plan.files().iter().filter(|file| file.bytes < small) {
            *partitions.entry(&file.partition).or_default() += 1;
        }
        Ok(partitions.values().any(|files| *files >= most))
    }

    /// Lists the tables of a branch that have a retention, with the request that expires old
    /// states.
    pub async fn expiring_tables(self, branch: &str) -> Result<Vec<(TableName, MaintainRequest)>> {
        let view = self.lake.view(&RefSpec::Name(branch.to_owned())).await?;
        let mut found = Vec::new();
        for (name, entry) in view.list(None).await? {
            let properties = self.lake.tables().load(&entry.metadata_location).await?.properties();
            let after = properties.get(EXPIRE_AFTER).and_then(|text| parse_duration(text).ok());
            let (Some(after), Some(_)) = (after, MaintenanceThresholds::of(&properties)) else {
                continue;
            };
            let request = MaintainRequest {
                expire_before_seconds: Some(after.as_secs_f64().ceil() as u64),
                author: Some(MAINTENANCE_AUTHOR.to_owned()),
                ..MaintainRequest::default()
            };
            found.push((name, request));
        }
        Ok(found)
    }
}
