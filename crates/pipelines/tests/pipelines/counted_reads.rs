//! An object store in memory that records the ranges that are read from data files.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

/// A range of a file.
pub type FileRange = (String, u64, u64);

/// The files of the store, and the file ranges that were read.
#[derive(Debug, Default)]
pub struct CountedReads {
    inner: InMemory,
    reads: Mutex<Vec<FileRange>>,
}

impl CountedReads {
    /// Returns the ranges that were read since the last call, sorted. Footers are not included.
    pub fn take(&self) -> Vec<FileRange> {
        let mut reads = std::mem::take(&mut *self.reads.lock());
        reads.sort();
        reads
    }

    /// Returns the paths of all Parquet files.
    pub async fn parquet_files(&self) -> BTreeSet<String> {
        let found: Vec<ObjectMeta> = self.inner.list(None).try_collect().await.unwrap();
        let paths = found.into_iter().map(|file| file.location.to_string());
        paths.filter(|path| path.ends_with(".parquet")).collect()
    }
}

/// An object store that shares the counts.
#[derive(Debug, Clone)]
pub struct CountingStore(pub Arc<CountedReads>);

impl std::fmt::Display for CountingStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CountingStore")
    }
}

#[async_trait::async_trait]
impl ObjectStore for CountingStore {
    async fn put_opts(&self, to: &Path, content: PutPayload, how: PutOptions) -> Result<PutResult> {
        self.0.inner.put_opts(to, content, how).await
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.inner.put_multipart_opts(to, how).await
    }

    async fn get_opts(&self, from: &Path, how: GetOptions) -> Result<GetResult> {
        self.0.inner.get_opts(from, how).await
    }

    async fn get_ranges(&self, from: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let read = ranges.iter().map(|range| (from.to_string(), range.start, range.end));
        self.0.reads.lock().extend(read);
        self.0.inner.get_ranges(from, ranges).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.0.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.0.inner.copy_opts(from, to, how).await
    }
}
