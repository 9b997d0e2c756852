//! The storage of tables in these tests: a local folder.

use std::path::Path;
use std::sync::Arc;

use headwater_lake::Lake;
use headwater_tables::TablesOptions;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;

/// Opens the lake in a folder, as another process would.
pub async fn open_lake(folder: &Path) -> Lake {
    Lake::open_local(folder).await.unwrap()
}

/// Returns the object store for a folder, which does not fsync.
pub fn open_files(warehouse: &Path) -> (TablesOptions, Arc<dyn ObjectStore>) {
    let tables = TablesOptions::new(format!("file://{}", warehouse.display()));
    (tables, Arc::new(LocalFileSystem::new_with_prefix(warehouse).unwrap()))
}
