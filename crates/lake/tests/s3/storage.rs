//! The storage of tables in these tests: an S3 server whose buckets are folders, so that a test can
//! inspect them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use headwater_lake::{CloudSettings, Lake, StoreTimeouts, WarehouseOptions};
use headwater_tables::{CloudUrl, TablesOptions};
use object_store::ObjectStore;

use crate::s3::S3;

/// The bucket. Its folder is also used directly by tests.
const BUCKET: &str = "s3://warehouse";

/// Returns the client settings of a server.
pub fn settings(s3: &S3) -> CloudSettings {
    CloudSettings::new(s3.variables())
}

/// Returns the client settings of a server, with a short timeout.
pub fn hurried(s3: &S3, total: Duration) -> CloudSettings {
    let request = (total / 2).clamp(Duration::from_millis(400), Duration::from_secs(1));
    settings(s3).with_timeouts(StoreTimeouts { request, total })
}

/// Opens the lake in a folder, as another process would.
pub async fn open_lake(folder: &Path) -> Lake {
    std::fs::create_dir_all(folder.join("warehouse")).unwrap();
    let cloud = settings(&S3::of(folder));
    Lake::open_folder(folder, WarehouseOptions { url: Some(BUCKET.to_owned()), cloud })
        .await
        .unwrap()
}

/// Returns the object store for a folder, which is accessed over S3.
pub fn open_files(warehouse: &Path) -> (TablesOptions, Arc<dyn ObjectStore>) {
    let settings = settings(&S3::of(warehouse.parent().unwrap()));
    let store = CloudUrl::warehouse(BUCKET).unwrap().open(&settings).unwrap();
    (TablesOptions::new(BUCKET), store)
}
