//! What many readers need and one reads.

use std::future::Future;
use std::sync::{Arc, Weak};

use moka::sync::Cache;
use tokio::sync::Mutex;

use super::Fingerprint;
use crate::Result;

/// A value that is read once and kept by a cache as long as there is room, and in any case as long as
/// someone uses it.
#[derive(Debug)]
pub(super) struct Shared<T>(Mutex<Weak<T>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Shared(Mutex::new(Weak::new()))
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// The value; read where nobody has it, while all others who want it wait.
    pub(super) async fn get(
        &self,
        cache: &Cache<Fingerprint, Arc<T>>,
        key: Fingerprint,
        read: impl Future<Output = Result<T>>,
    ) -> Result<Arc<T>> {
        let mut known = self.0.lock().await;
        if let Some(found) = known.upgrade().or_else(|| cache.get(&key)) {
            return Ok(found);
        }
        let found = Arc::new(read.await?);
        *known = Arc::downgrade(&found);
        cache.insert(key, found.clone());
        Ok(found)
    }
}
