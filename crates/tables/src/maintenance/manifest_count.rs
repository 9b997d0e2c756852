//! The number of a table's manifests, and the decision to merge the manifests.

use std::collections::BTreeMap;

use iceberg::spec::{ManifestContentType, ManifestFile};

use crate::{MaintenancePlanner, Result, Table};

/// Maximum number of manifests that are not worth merging.
const MANIFESTS_KEPT_MAX: usize = 10;

impl MaintenancePlanner<'_> {
    /// Returns the number of manifests of a table's current snapshot.
    pub async fn manifest_count(self, table: &Table) -> Result<usize> {
        match table.metadata().current_snapshot() {
            Some(snapshot) => Ok(self.tables.metadata_files().manifests(snapshot).await?.len()),
            None => Ok(0),
        }
    }

    /// Returns true if a table has at least twice as many manifests as it needs.
    pub async fn has_scattered_manifests(self, table: &Table) -> Result<bool> {
        let Some(snapshot) = table.metadata().current_snapshot() else { return Ok(false) };
        let manifests = self.tables.metadata_files().manifests(snapshot).await?;
        let mut entries: BTreeMap<(bool, i32), usize> = BTreeMap::new();
        for manifest in manifests.iter() {
            let deletes = manifest.content == ManifestContentType::Deletes;
            *entries.entry((deletes, manifest.partition_spec_id)).or_default() += live(manifest);
        }
        let most = crate::commit::manifests::CONSOLIDATED_ENTRIES;
        let needed: usize = entries.values().map(|entries| entries.div_ceil(most)).sum();
        Ok(manifests.len() > MANIFESTS_KEPT_MAX && manifests.len() >= 2 * needed)
    }
}

fn live(manifest: &ManifestFile) -> usize {
    let count = |count: Option<u32>| count.map_or(1, |count| count as usize);
    count(manifest.added_files_count) + count(manifest.existing_files_count)
}
