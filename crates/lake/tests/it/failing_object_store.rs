//! An object store that fails all calls after a given number of changes.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// The object store, and the number of changes that succeed before all calls fail.
#[derive(Debug)]
pub struct FailingObjectStore {
    inner: Arc<dyn ObjectStore>,
    left: Arc<AtomicI64>,
}

impl FailingObjectStore {
    pub fn after(inner: Arc<dyn ObjectStore>, changes: i64) -> Self {
        FailingObjectStore { inner, left: Arc::new(AtomicI64::new(changes)) }
    }
}

fn dead() -> Error {
    Error::Generic { store: "FailingObjectStore", source: "it is dead".into() }
}

fn change(left: &AtomicI64) -> Result<()> {
    if left.fetch_sub(1, Ordering::SeqCst) > 0 { Ok(()) } else { Err(dead()) }
}

fn look(left: &AtomicI64) -> Result<()> {
    if left.load(Ordering::SeqCst) > 0 { Ok(()) } else { Err(dead()) }
}

impl std::fmt::Display for FailingObjectStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FailingObjectStore")
    }
}

#[async_trait::async_trait]
impl ObjectStore for FailingObjectStore {
    async fn put_opts(&self, to: &Path, content: PutPayload, how: PutOptions) -> Result<PutResult> {
        change(&self.left)?;
        self.inner.put_opts(to, content, how).await
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        change(&self.left)?;
        self.inner.put_multipart_opts(to, how).await
    }

    async fn get_opts(&self, from: &Path, how: GetOptions) -> Result<GetResult> {
        look(&self.left)?;
        self.inner.get_opts(from, how).await
    }

    async fn get_ranges(&self, from: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        look(&self.left)?;
        self.inner.get_ranges(from, ranges).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (inner, left) = (self.inner.clone(), self.left.clone());
        let delete = move |path: Path| {
            let (inner, left) = (inner.clone(), left.clone());
            async move {
                change(&left)?;
                object_store::ObjectStoreExt::delete(&inner, &path).await?;
                Ok(path)
            }
        };
        paths.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match look(&self.left) {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::once(async move { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        look(&self.left)?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        change(&self.left)?;
        self.inner.copy_opts(from, to, how).await
    }
}
