//! Lists the objects in buckets of other object stores, for triggers on these buckets.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use headwater_lake::CloudSettings;
use headwater_model::{ErrorCode, Problem, ResultExt};
use headwater_tables::CloudUrl;
use headwater_triggers::{PageRequest, RemoteBuckets, RemoteObject};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use parking_lot::Mutex;

/// The buckets that the server's credentials can read.
pub struct CloudBuckets {
    settings: CloudSettings,
    /// The open buckets by URL.
    stores: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl CloudBuckets {
    /// Creates the buckets, without sending requests.
    pub fn new(settings: CloudSettings) -> Self {
        CloudBuckets { settings, stores: Mutex::default() }
    }

    fn store(&self, bucket: &str) -> Result<Arc<dyn ObjectStore>, Problem> {
        if let Some(store) = self.stores.lock().get(bucket) {
            return Ok(store.clone());
        }
        let store = CloudUrl::parse(bucket).or_problem()?.open_bucket(&self.settings);
        let store = store.or_problem()?;
        self.stores.lock().insert(bucket.to_owned(), store.clone());
        Ok(store)
    }
}

#[async_trait]
impl RemoteBuckets for CloudBuckets {
    async fn list(&self, bucket: &str, page: &PageRequest) -> Result<Vec<RemoteObject>, Problem> {
        let store = self.store(bucket)?;
        let folder = page.prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let folder = path(folder)?;
        let folder = Some(&folder).filter(|folder| !folder.as_ref().is_empty());
        let listed = match &page.after {
            Some(after) => store.list_with_offset(folder, &path(after)?),
            None => store.list(folder),
        };
        let listed: Result<Vec<ObjectMeta>, object_store::Error> =
            listed.take(page.limit).try_collect().await;
        let failed = |error: object_store::Error| headwater_tables::Error::storage(bucket, error);
        Ok(listed.map_err(failed).or_problem()?.into_iter().map(object).collect())
    }
}

fn object(meta: ObjectMeta) -> RemoteObject {
    let etag = meta.e_tag.as_deref().map(|etag| etag.trim_matches('"').to_owned());
    RemoteObject {
        key: meta.location.to_string(),
        size: meta.size,
        etag: etag.unwrap_or_else(|| meta.last_modified.to_rfc3339()),
        modified: meta.last_modified,
    }
}

fn path(key: &str) -> Result<Path, Problem> {
    Path::parse(key).map_err(|error| {
        let message = format!("`{key}` is not a valid object key: {error}");
        Problem::new(ErrorCode::InvalidArgument, message)
    })
}
