//! Finds delete files that apply to no data file.

use std::collections::HashSet;
use std::sync::Arc;

use iceberg::spec::ManifestContentType;

use crate::deletes::place_of;
use crate::{DataFile, DeleteKey, MaintenancePlanner, Result, Table};

impl MaintenancePlanner<'_> {
    /// Returns the delete files and deletion vectors of a table's current snapshot that apply to no
    /// data file after the given data files are removed.
    pub async fn dangling_deletes(
        self,
        table: &Table,
        removed: &[Arc<DataFile>],
    ) -> Result<Vec<DeleteKey>> {
        if !table.has_deletes() {
            return Ok(Vec::new());
        }
        let metadata = table.metadata();
        let Some(snapshot) = metadata.current_snapshot() else { return Ok(Vec::new()) };
        let removed: HashSet<&str> = removed.iter().map(|file| file.location.as_str()).collect();
        let plan = self.tables.plan(table, None).await?;
        let remaining =
            plan.files().iter().filter(|file| !removed.contains(file.location.as_str()));
        let mut needed: HashSet<DeleteKey> = HashSet::new();
        for deletes in remaining.filter_map(|file| file.deletes.as_ref()) {
            needed.extend(deletes.files());
        }
        let mut dangling = Vec::new();
        for manifest in self.tables.metadata_files().manifests(snapshot).await?.iter() {
            if manifest.content != ManifestContentType::Deletes {
                continue;
            }
            for entry in &self.tables.metadata_files().manifest(manifest).await?.live {
                let (location, at) = place_of(entry.data_file());
                let key = (location.to_owned(), at);
                if !needed.contains(&key) {
                    dangling.push(key);
                }
            }
        }
        Ok(dangling)
    }
}
