//! Delete files that take no row of any data file away any more.

use std::collections::HashSet;
use std::sync::Arc;

use iceberg::spec::ManifestContentType;

use crate::{DataFile, Result, Table, Tables};

impl Tables {
    /// The delete files of a table's current snapshot that concern no data file once some are gone,
    /// by location.
    pub async fn dangling_deletes(
        &self,
        table: &Table,
        removed: &[Arc<DataFile>],
    ) -> Result<Vec<String>> {
        if !table.has_deletes() {
            return Ok(Vec::new());
        }
        let metadata = table.metadata();
        let Some(snapshot) = metadata.current_snapshot() else { return Ok(Vec::new()) };
        let removed: HashSet<&str> = removed.iter().map(|file| file.location.as_str()).collect();
        let plan = self.plan(table, None).await?;
        let left = plan.files().iter().filter(|file| !removed.contains(file.location.as_str()));
        let mut needed: HashSet<String> = HashSet::new();
        for deletes in left.filter_map(|file| file.deletes.as_ref()) {
            needed.extend(deletes.files().map(str::to_owned));
        }
        let mut dangling = Vec::new();
        for manifest in self.manifests(metadata, snapshot).await?.iter() {
            if manifest.content != ManifestContentType::Deletes {
                continue;
            }
            for entry in &self.manifest(manifest).await?.live {
                let location = entry.data_file().file_path();
                if !needed.contains(location) {
                    dangling.push(location.to_owned());
                }
            }
        }
        Ok(dangling)
    }
}
