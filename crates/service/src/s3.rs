//! The operations for S3 clients: buckets, objects and signatures.

use std::time::{Duration, Instant};

use headwater_lake::Lake;
use headwater_objects::Objects as Stored;
use parking_lot::Mutex;

use crate::access_key::{KeySecretCache, Signatures};
use crate::bucket::Buckets;
use crate::object::Objects;
use crate::{Error, Result, Service, ServiceConfig};

/// Minimum time between two deletions of files that no object references.
const GARBAGE_INTERVAL: Duration = Duration::from_secs(60);

/// The operations of S3 clients, grouped by noun. Cheap to clone.
#[derive(Clone)]
pub struct S3Operations(Service);

impl S3Operations {
    /// Returns the operations of a service.
    pub fn of(service: &Service) -> Self {
        S3Operations(service.clone())
    }

    /// Returns the operations on buckets.
    pub fn buckets(&self) -> Buckets {
        Buckets(self.0.shared().clone())
    }

    /// Returns the operations on the objects of buckets.
    pub fn objects(&self) -> Objects {
        Objects(self.0.shared().clone())
    }

    /// Returns the operations on the signatures of requests.
    pub fn signatures(&self) -> Signatures {
        Signatures(self.0.shared().clone())
    }
}

/// The buckets of a running lake, and the access keys of their clients.
pub(crate) struct BucketComponents {
    /// The stored buckets and their objects.
    pub objects: Stored,
    /// Decrypted secrets of access keys.
    pub key_secrets: KeySecretCache,
    /// Time of the last deletion of files that no object references; `None` before the first.
    collected: Mutex<Option<Instant>>,
}

impl BucketComponents {
    /// Opens the buckets, in the lake's folder, or in the warehouse if it is in a cloud.
    pub fn open(config: &ServiceConfig, lake: &Lake) -> Result<Self> {
        let (store, clock, tables) = (lake.store().clone(), lake.clock().clone(), lake.tables());
        let objects = if tables.root_url().starts_with("file://") {
            let path = config.lake_dir.join("objects");
            let opened = Stored::local(store, clock, &path);
            opened.map_err(|source| Error::Folder { path, source })?
        } else {
            Stored::in_warehouse(store, clock, tables.storage().clone(), tables.root_url())
        };
        Ok(BucketComponents {
            objects,
            key_secrets: KeySecretCache::default(),
            collected: Mutex::default(),
        })
    }

    /// Deletes files that no object references, at most once per `GARBAGE_INTERVAL`.
    pub async fn collect_garbage(&self) {
        {
            let mut last = self.collected.lock();
            if last.is_some_and(|last| last.elapsed() < GARBAGE_INTERVAL) {
                return;
            }
            *last = Some(Instant::now());
        }
        if let Err(error) = self.objects.collect_garbage().await {
            tracing::warn!("files of deleted objects cannot be removed: {error}");
        }
    }
}
