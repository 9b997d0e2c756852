//! A bucket as an `ObjectStore`, for imports and exports.
//!
//! This object store does not check permissions. A multipart upload becomes one write of the
//! object, so that it is recorded as one change, and its parts have no minimum size. An upload that
//! is dropped before its completion writes nothing.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, SinkExt, StreamExt, TryStreamExt, stream};
use headwater_model::{ErrorCode, Problem};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error as StoreError, GetOptions, GetResult, GetResultPayload,
    ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result, UploadPart,
};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::{
    ContentStream, CopyRequest, Error, ListEntry, ListRequest, NewObject, ObjectHeaders,
    ObjectPath, ObjectPrecondition, ObjectRecord, Objects,
};

const NAME: &str = "headwater";

/// The number of objects per listing page.
const PAGE: usize = 1_000;

/// The maximum number of buffered parts of an upload.
const PARTS_WAITING_MAX: usize = 4;

/// A bucket as an object store.
#[derive(Debug, Clone)]
pub struct BucketObjectStore {
    objects: Objects,
    bucket: Arc<str>,
}

impl BucketObjectStore {
    /// Creates the object store for a bucket. The bucket need not exist.
    pub fn new(objects: Objects, bucket: &str) -> Self {
        BucketObjectStore { objects, bucket: bucket.into() }
    }

    /// Returns the bucket and key of a URL such as `s3://landing/in/a.csv`. Returns `None` if the
    /// lake lacks the bucket.
    pub async fn lake_object_path(
        objects: &Objects,
        url: &str,
    ) -> crate::Result<Option<ObjectPath>> {
        let rest = url.strip_prefix("s3://").or_else(|| url.strip_prefix("s3a://"));
        let Some(rest) = rest else { return Ok(None) };
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        match objects.check_bucket(bucket).await {
            Ok(()) => Ok(Some(ObjectPath { bucket: bucket.to_owned(), key: key.to_owned() })),
            Err(Error::NoBucket { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn path(&self, location: &Path) -> ObjectPath {
        ObjectPath { bucket: self.bucket.to_string(), key: location.to_string() }
    }

    fn new_object(&self, location: &Path, content: ContentStream) -> NewObject {
        let (headers, condition) = (ObjectHeaders::default(), ObjectPrecondition::Always);
        NewObject { path: self.path(location), headers, condition, content }
    }

    async fn page(&self, list: &ListRequest) -> Result<(Vec<ListEntry>, Option<String>)> {
        let page = self.objects.list(list).await;
        let page = page.map_err(|error| failed(&list.prefix, error))?;
        Ok((page.entries, page.next))
    }

    fn listing(&self, prefix: Option<&Path>, delimiter: Option<&str>) -> ListRequest {
        let prefix = prefix.filter(|prefix| !prefix.as_ref().is_empty());
        ListRequest {
            bucket: self.bucket.to_string(),
            // The `object_store` API matches prefixes by whole path components.
            prefix: prefix.map(|prefix| format!("{prefix}/")).unwrap_or_default(),
            delimiter: delimiter.map(str::to_owned),
            after: None,
            limit: PAGE,
        }
    }
}

impl std::fmt::Display for BucketObjectStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s3://{}", self.bucket)
    }
}

#[async_trait]
impl ObjectStore for BucketObjectStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let condition = match options.mode {
            PutMode::Overwrite => ObjectPrecondition::Always,
            PutMode::Create => ObjectPrecondition::Absent,
            PutMode::Update(version) => {
                ObjectPrecondition::Matches(version.e_tag.unwrap_or_default())
            }
        };
        let parts: Vec<Bytes> = payload.into_iter().collect();
        let content = stream::iter(parts.into_iter().map(Ok)).boxed();
        let new = NewObject { condition, ..self.new_object(location, content) };
        let put = self.objects.put(new).await;
        put.map(put_result).map_err(|error| failed(location.as_ref(), error))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (sender, receiver) = futures::channel::mpsc::channel(PARTS_WAITING_MAX);
        let new = self.new_object(location, until_end(receiver));
        let objects = self.objects.clone();
        let write = tokio::spawn(async move { objects.put(new).await });
        let sender = Arc::new(Mutex::new(sender));
        Ok(Box::new(Upload { sender, write: Some(write), key: location.to_string() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let path = self.path(location);
        let fail = |error| failed(location.as_ref(), error);
        let meta = |info: &ObjectRecord| meta_of(location.clone(), info);
        if options.head {
            let info = self.objects.head(&path).await.map_err(fail)?;
            options.check_preconditions(&meta(&info))?;
            let payload = GetResultPayload::Stream(stream::empty().boxed());
            return Ok(get_result(payload, meta(&info), 0..0));
        }
        let wanted = |info: &ObjectRecord| match &options.range {
            Some(range) => range.as_range(info.size).map_err(|_| Error::Range { size: info.size }),
            None => Ok(0..info.size),
        };
        let opened = self.objects.open_object(&path, wanted).await.map_err(fail)?;
        options.check_preconditions(&meta(&opened.info))?;
        let range = opened.range.clone();
        let content = opened.content.map_err(|problem| generic(&problem));
        let payload = GetResultPayload::Stream(content.boxed());
        Ok(get_result(payload, meta(&opened.info), range))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Path| {
            let store = store.clone();
            async move {
                let path = store.path(&location);
                let deleted = store.objects.delete(&path, &ObjectPrecondition::Always).await;
                deleted.map_err(|error| failed(location.as_ref(), error))?;
                Ok(location)
            }
        };
        locations.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, first) = (self.clone(), self.listing(prefix, None));
        let pages = stream::try_unfold(Some(first), move |list| {
            let store = store.clone();
            async move {
                let Some(list) = list else { return Ok::<_, StoreError>(None) };
                let (entries, after) = store.page(&list).await?;
                let next = after.map(|after| ListRequest { after: Some(after), ..list });
                let objects = entries.iter().filter_map(object_meta).map(Ok);
                Ok(Some((stream::iter(objects.collect::<Vec<_>>()), next)))
            }
        });
        pages.try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut list = self.listing(prefix, Some("/"));
        let (mut objects, mut common_prefixes) = (Vec::new(), Vec::new());
        loop {
            let (entries, next) = self.page(&list).await?;
            objects.extend(entries.iter().filter_map(object_meta));
            let groups = entries.iter().filter_map(|entry| match entry {
                ListEntry::Group(group) => Path::parse(group.trim_end_matches('/')).ok(),
                ListEntry::Object { .. } => None,
            });
            common_prefixes.extend(groups);
            match next {
                Some(after) => list.after = Some(after),
                None => return Ok(ListResult { common_prefixes, objects }),
            }
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let fail = |error| failed(to.as_ref(), error);
        let (from, path) = (self.path(from), self.path(to));
        if options.mode == CopyMode::Create {
            let source = self.objects.open_object(&from, |info| Ok(0..info.size)).await;
            let new = self.new_object(to, source.map_err(fail)?.content);
            let new = NewObject { condition: ObjectPrecondition::Absent, ..new };
            return self.objects.put(new).await.map(drop).map_err(fail);
        }
        let copy =
            CopyRequest { from, to: path, headers: None, condition: ObjectPrecondition::Always };
        self.objects.copy(copy).await.map(drop).map_err(fail)
    }
}

/// A chunk of an upload, or the end of the upload.
enum UploadChunk {
    Bytes(Bytes),
    End,
}

/// Returns the content of an upload as a stream. The stream fails if the upload is dropped before
/// its end.
fn until_end(receiver: futures::channel::mpsc::Receiver<UploadChunk>) -> ContentStream {
    let next = |receiver: Option<futures::channel::mpsc::Receiver<UploadChunk>>| async move {
        let mut receiver = receiver?;
        match receiver.next().await {
            Some(UploadChunk::Bytes(bytes)) => Some((Ok(bytes), Some(receiver))),
            Some(UploadChunk::End) => None,
            None => {
                let problem = Problem::new(ErrorCode::Interrupted, "the upload was not completed");
                Some((Err(problem), None))
            }
        }
    };
    stream::unfold(Some(receiver), next).boxed()
}

/// A multipart upload. The content of its parts is written in the order of the calls.
struct Upload {
    sender: Arc<Mutex<futures::channel::mpsc::Sender<UploadChunk>>>,
    write: Option<JoinHandle<crate::Result<ObjectRecord>>>,
    key: String,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Upload {
    /// Sends the chunks of a part. If calls overlap, their chunks are sent in the order of the
    /// calls.
    fn send(&self, pieces: Vec<UploadChunk>) -> UploadPart {
        let mut lock = Box::pin(self.sender.clone().lock_owned());
        // Poll the lock once now: this determines the position of this call in the lock's queue.
        let taken = lock.as_mut().now_or_never();
        async move {
            let mut sender = match taken {
                Some(sender) => sender,
                None => lock.await,
            };
            for piece in pieces {
                // The receiver is dropped after a failed write. Ignore this here: `complete`
                // returns the error.
                if sender.send(piece).await.is_err() {
                    break;
                }
            }
            Ok(())
        }
        .boxed()
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.send(data.into_iter().map(UploadChunk::Bytes).collect())
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.send(vec![UploadChunk::End]).await?;
        let ended = || StoreError::Generic { store: NAME, source: "the upload has ended".into() };
        let written = self.write.take().ok_or_else(ended)?.await?;
        written.map(put_result).map_err(|error| failed(&self.key, error))
    }

    async fn abort(&mut self) -> Result<()> {
        if let Some(write) = self.write.take() {
            write.abort();
        }
        Ok(())
    }
}

fn put_result(info: ObjectRecord) -> PutResult {
    PutResult { e_tag: Some(info.etag), version: None }
}

fn get_result(
    payload: GetResultPayload,
    meta: ObjectMeta,
    range: std::ops::Range<u64>,
) -> GetResult {
    GetResult { payload, meta, range, attributes: object_store::Attributes::default() }
}

/// Returns the metadata of a listed object; `None` for a key that is not a valid path, such as
/// `a//b`.
fn object_meta(listed: &ListEntry) -> Option<ObjectMeta> {
    match listed {
        ListEntry::Object { key, info } => Some(meta_of(Path::parse(key).ok()?, info)),
        ListEntry::Group(_) => None,
    }
}

fn meta_of(location: Path, info: &ObjectRecord) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: info.modified,
        size: info.size,
        e_tag: Some(info.etag.clone()),
        version: None,
    }
}

fn failed(key: &str, error: Error) -> StoreError {
    let path = key.to_owned();
    match error {
        Error::NoObject { .. } | Error::NoBucket { .. } => {
            StoreError::NotFound { path, source: error.into() }
        }
        Error::Precondition { .. } => StoreError::Precondition { path, source: error.into() },
        error => StoreError::Generic { store: NAME, source: error.into() },
    }
}

fn generic(problem: &Problem) -> StoreError {
    StoreError::Generic { store: NAME, source: problem.to_string().into() }
}
