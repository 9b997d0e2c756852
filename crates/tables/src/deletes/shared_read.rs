//! A value that many tasks need, but that only one of them reads from storage.

use std::future::Future;
use std::sync::{Arc, Weak};

use moka::sync::Cache;
use tokio::sync::Mutex;

use super::Fingerprint;
use crate::Result;

/// A value that is read once. This type has only a weak reference to the value, so that the value
/// is dropped when no cache and no task uses it.
#[derive(Debug)]
pub(super) struct SharedRead<T>(Mutex<Weak<T>>);

impl<T> Default for SharedRead<T> {
    fn default() -> Self {
        SharedRead(Mutex::new(Weak::new()))
    }
}

impl<T: Send + Sync + 'static> SharedRead<T> {
    /// Returns the value. The first caller reads it, and other callers wait for the result.
    pub(super) async fn get(
        &self,
        cache: &Cache<Fingerprint, Arc<T>>,
        key: Fingerprint,
        read: impl Future<Output = Result<T>>,
    ) -> Result<Arc<T>> {
        let mut value = self.0.lock().await;
        if let Some(loaded) = value.upgrade().or_else(|| cache.get(&key)) {
            return Ok(loaded);
        }
        let loaded = Arc::new(read.await?);
        *value = Arc::downgrade(&loaded);
        cache.insert(key, loaded.clone());
        Ok(loaded)
    }
}
