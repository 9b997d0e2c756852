//! Which tables need upkeep, by what was written to them and by their properties.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use headwater_model::{MaintainRequest, RefSpec, TableName, parse_duration};
use headwater_tables::Table;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::UPKEEP_AUTHOR;
use crate::error::Result;
use crate::lake::Lake;

/// Whether a table is kept by itself: `false` switches it off.
const ENABLED: &str = "headwater.upkeep.enabled";

/// How many small files a partition has before they are put together.
const SMALL_FILES: &str = "headwater.upkeep.small-files";

/// How many delete files a table has before they are folded in.
const DELETE_FILES: &str = "headwater.upkeep.delete-files";

/// After how long states that were superseded lose their files: `30d`. Never where it is not said.
const EXPIRE_AFTER: &str = "headwater.upkeep.expire-after";

/// The branches of runs that are under way begin so; they live too short a time to be kept.
const RUNS: &str = "run/";

/// Tables that are remembered as written to, at most.
const CHANGED_MAX: usize = 10_000;

/// The tables that were written to, and are not looked at yet.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    tables: Mutex<BTreeSet<(String, TableName)>>,
    some: Notify,
    /// How many times something was written to.
    count: watch::Sender<u64>,
}

impl Changed {
    /// Remembers tables of a branch.
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

/// When a table is kept.
struct Policy {
    small_files: usize,
    delete_files: u64,
}

impl Policy {
    /// None where the table is left alone.
    fn of(properties: &BTreeMap<String, String>) -> Option<Policy> {
        if properties.get(ENABLED).is_some_and(|value| value.eq_ignore_ascii_case("false")) {
            return None;
        }
        let number = |key: &str| properties.get(key).and_then(|value| value.parse::<u32>().ok());
        Some(Policy {
            small_files: number(SMALL_FILES).unwrap_or(32).max(2) as usize,
            delete_files: u64::from(number(DELETE_FILES).unwrap_or(20).max(1)),
        })
    }

    fn folds(&self, table: &Table) -> bool {
        table.delete_files() >= self.delete_files
    }
}

/// Whether a table has as many delete files as it is to have at most.
pub(super) fn has_many_deletes(table: &Table) -> bool {
    Policy::of(&table.properties()).is_some_and(|policy| policy.folds(table))
}

impl Lake {
    /// Waits until tables were written to.
    pub async fn written_to(&self) {
        loop {
            let some = self.changed().some.notified();
            if !self.changed().tables.lock().is_empty() {
                return;
            }
            some.await;
        }
    }

    /// Counts up whenever tables of a branch were written to by this process.
    pub fn writes(&self) -> watch::Receiver<u64> {
        self.changed().count.subscribe()
    }

    /// The tables that were written to since this was asked last, with their branches.
    pub fn take_written(&self) -> Vec<(String, TableName)> {
        std::mem::take(&mut *self.changed().tables.lock()).into_iter().collect()
    }

    /// The upkeep that a table of a branch needs by its policy; none where it needs none.
    pub async fn needed_upkeep(
        &self,
        branch: &str,
        name: &TableName,
    ) -> Result<Option<MaintainRequest>> {
        let view = self.view(&RefSpec::Name(branch.to_owned())).await?;
        let Some((_, table)) = view.find(&name.namespace, &name.name).await? else {
            return Ok(None);
        };
        let Some(policy) = Policy::of(&table.properties()) else { return Ok(None) };
        if !policy.folds(&table) && !self.has_small_files(&table, policy.small_files).await? {
            return Ok(None);
        }
        Ok(Some(MaintainRequest {
            compact: true,
            manifests: true,
            author: Some(UPKEEP_AUTHOR.to_owned()),
            ..MaintainRequest::default()
        }))
    }

    async fn has_small_files(&self, table: &Table, most: usize) -> Result<bool> {
        if table.files() < most as u64 {
            return Ok(false);
        }
        let small = self.tables().target_file_bytes(table) / 4 * 3;
        let plan = self.tables().plan(table, None).await?;
        let mut partitions: HashMap<&str, usize> = HashMap::new();
        for file in plan.files().iter().filter(|file| file.bytes < small) {
            *partitions.entry(&file.partition).or_default() += 1;
        }
        Ok(partitions.values().any(|files| *files >= most))
    }

    /// The tables of a branch of which old states lose their files, and after how many seconds.
    pub async fn expiring_tables(&self, branch: &str) -> Result<Vec<(TableName, MaintainRequest)>> {
        let view = self.view(&RefSpec::Name(branch.to_owned())).await?;
        let mut found = Vec::new();
        for (name, entry) in view.list(None).await? {
            let properties = self.tables().load(&entry.metadata_location).await?.properties();
            let after = properties.get(EXPIRE_AFTER).and_then(|text| parse_duration(text).ok());
            let (Some(after), Some(_)) = (after, Policy::of(&properties)) else { continue };
            let request = MaintainRequest {
                expire_before_seconds: Some(after.as_secs_f64().ceil() as u64),
                author: Some(UPKEEP_AUTHOR.to_owned()),
                ..MaintainRequest::default()
            };
            found.push((name, request));
        }
        Ok(found)
    }
}
