//! The records of the last maintenance of each table.

use headwater_model::{MaintainReport, TableMaintenance};
use headwater_store::{JournalAppend, KeyRange, WriteBatch};

use super::Maintenance;
use crate::error::{Error, Result};

/// The name of the journal of maintenance. Its keys are `branch/table`, or [`SWEEP`].
const JOURNAL: &str = "maintenance";

/// The key of the record of the last sweep of the whole lake.
const SWEEP: &str = "*";

impl Maintenance<'_> {
    pub(super) async fn record_maintenance(
        self,
        report: &MaintainReport,
        author: &str,
        all: bool,
        orphans: bool,
    ) -> Result<()> {
        let time = self.lake.clock().now();
        let removed = report.removed_files.clone().unwrap_or_default();
        let is_single = !all && report.tables.len() == 1;
        let mut entries = Vec::new();
        for table in &report.tables {
            let has_result = table.commit.is_some() || table.skipped_reason.is_some();
            if !has_result && !is_single {
                continue;
            }
            let (files, bytes) = if is_single {
                (
                    removed.files_expired + removed.orphans,
                    removed.bytes_expired + removed.orphan_bytes,
                )
            } else {
                (0, 0)
            };
            let record = TableMaintenance {
                table: table.table.clone(),
                branch: report.branch.clone(),
                time,
                author: author.to_owned(),
                files_rewritten: table.files_rewritten,
                files_written: table.files_written,
                delete_files_removed: table.delete_files_removed,
                files_removed: files,
                bytes_freed: bytes,
                skipped_reason: table.skipped_reason.clone(),
            };
            let key = format!("{}/{}", report.branch, table.table.qualified());
            entries.push(entry(key, &record)?);
        }
        if all && orphans {
            entries.push(entry(SWEEP.to_owned(), &(time, &report.removed_files))?);
        }
        let relaxed = true;
        self.lake.store().apply(WriteBatch { entries, relaxed, ..WriteBatch::default() }).await?;
        Ok(())
    }

    /// Lists the last maintenance of each table, by branch and name.
    pub async fn records(self) -> Result<Vec<TableMaintenance>> {
        let found = self.lake.store().scan(JOURNAL, &KeyRange::all()).await?;
        let records = found.iter().filter(|entry| entry.key != SWEEP);
        records.map(|entry| decode(&entry.key, &entry.value)).collect()
    }

    /// Returns the last maintenance of a table, if any.
    pub async fn record(
        self,
        branch: &str,
        table: &headwater_model::TableName,
    ) -> Result<Option<TableMaintenance>> {
        let key = format!("{branch}/{}", table.qualified());
        let found = self.lake.store().latest(JOURNAL, &key).await?;
        found.map(|entry| decode(&entry.key, &entry.value)).transpose()
    }

    /// Returns the time of the last sweep of the whole lake.
    pub async fn last_sweep(self) -> Result<Option<headwater_model::Timestamp>> {
        let Some(found) = self.lake.store().latest(JOURNAL, SWEEP).await? else { return Ok(None) };
        let (time, _): (_, serde_json::Value) = decode(SWEEP, &found.value)?;
        Ok(Some(time))
    }
}

fn entry(key: String, record: &impl serde::Serialize) -> Result<JournalAppend> {
    let value = serde_json::to_vec(record);
    let value = value.map_err(|error| Error::Internal { message: error.to_string() })?;
    Ok(JournalAppend { journal: JOURNAL.to_owned(), key, value: Some(value.into()) })
}

fn decode<T: serde::de::DeserializeOwned>(key: &str, value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|error| Error::Internal {
        message: format!("the maintenance record of `{key}` cannot be read: {error}"),
    })
}
