//! How many manifests a table has, and whether they are worth to be put together.

use std::collections::BTreeMap;

use iceberg::spec::{ManifestContentType, ManifestFile};

use crate::{Result, Table, Tables};

/// Manifests up to which a table is left alone, whatever is in them.
const FEW: usize = 10;

impl Tables {
    /// Manifests of a table's current snapshot.
    pub async fn manifest_count(&self, table: &Table) -> Result<usize> {
        match table.metadata().current_snapshot() {
            Some(snapshot) => Ok(self.manifests(snapshot).await?.len()),
            None => Ok(0),
        }
    }

    /// Whether a table has at least twice the manifests that it needs.
    pub async fn has_scattered_manifests(&self, table: &Table) -> Result<bool> {
        let Some(snapshot) = table.metadata().current_snapshot() else { return Ok(false) };
        let manifests = self.manifests(snapshot).await?;
        let mut entries: BTreeMap<(bool, i32), usize> = BTreeMap::new();
        for manifest in manifests.iter() {
            let deletes = manifest.content == ManifestContentType::Deletes;
            *entries.entry((deletes, manifest.partition_spec_id)).or_default() += live(manifest);
        }
        let most = crate::commit::manifests::CONSOLIDATED_ENTRIES;
        let needed: usize = entries.values().map(|entries| entries.div_ceil(most)).sum();
        Ok(manifests.len() > FEW && manifests.len() >= 2 * needed)
    }
}

fn live(manifest: &ManifestFile) -> usize {
    let count = |count: Option<u32>| count.map_or(1, |count| count as usize);
    count(manifest.added_files_count) + count(manifest.existing_files_count)
}
