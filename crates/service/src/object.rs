//! Objects of buckets: write, read, copy, delete, list; multipart uploads.

use std::ops::Range;
use std::sync::Arc;

use headwater_model::{AccessObject, Action, Principal, Problem, Requester, ResultExt};
use headwater_objects::{
    ChangeOrigin, CompletedPart, ContentStream, CopyRequest, Error, ListRequest, ListedPart,
    ListedUpload, Listing, NewObject, NewUpload, ObjectPath, ObjectPrecondition, ObjectRecord,
    OpenObject, UploadTarget,
};
use headwater_telemetry::current;

use crate::service::Components;

/// Returns the origin of a change to an object: the principal, and the span of the current request.
pub(crate) fn origin_of(principal: &Principal) -> ChangeOrigin {
    let trace = current().filter(|trace| trace.is_sampled).map(|trace| trace.to_string());
    ChangeOrigin { requester: Requester::of(principal), trace }
}

/// Operations on the objects of buckets.
#[derive(Clone)]
pub struct Objects(pub(crate) Arc<Components>);

impl Objects {
    fn authorize(
        &self,
        principal: &Principal,
        action: Action,
        path: &ObjectPath,
    ) -> Result<(), Problem> {
        self.0.authorize(principal, action, &AccessObject::object_in(&path.bucket, &path.key))
    }

    /// Returns a handle to the stored objects, whose changes are recorded with the principal.
    fn changed_by(&self, principal: &Principal) -> headwater_objects::Objects {
        self.0.buckets.objects.changed_by(origin_of(principal))
    }

    /// Writes or replaces an object. The object is durable on return.
    pub async fn put(&self, by: &Principal, new: NewObject) -> Result<ObjectRecord, Problem> {
        self.authorize(by, Action::Write, &new.path)?;
        self.changed_by(by).put(new).await.or_problem()
    }

    /// Returns an object without its content.
    pub async fn head(&self, by: &Principal, path: &ObjectPath) -> Result<ObjectRecord, Problem> {
        self.authorize(by, Action::Read, path)?;
        self.0.buckets.objects.head(path).await.or_problem()
    }

    /// Opens the content of an object. `range` computes the byte range to read, or an error.
    pub async fn open(
        &self,
        by: &Principal,
        path: &ObjectPath,
        range: impl Fn(&ObjectRecord) -> Result<Range<u64>, Problem>,
    ) -> Result<OpenObject, Problem> {
        self.authorize(by, Action::Read, path)?;
        let range = |info: &ObjectRecord| range(info).map_err(|it| Error::Content(Box::new(it)));
        self.0.buckets.objects.open_object(path, range).await.or_problem()
    }

    /// Copies an object.
    pub async fn copy(&self, by: &Principal, copy: CopyRequest) -> Result<ObjectRecord, Problem> {
        self.authorize(by, Action::Read, &copy.from)?;
        self.authorize(by, Action::Write, &copy.to)?;
        self.changed_by(by).copy(copy).await.or_problem()
    }

    /// Deletes an object. A missing object is not an error.
    pub async fn delete(
        &self,
        by: &Principal,
        path: &ObjectPath,
        condition: &ObjectPrecondition,
    ) -> Result<(), Problem> {
        self.authorize(by, Action::Delete, path)?;
        self.changed_by(by).delete(path, condition).await.or_problem()
    }

    /// Lists objects.
    pub async fn list(&self, by: &Principal, list: &ListRequest) -> Result<Listing, Problem> {
        self.0.authorize(by, Action::List, &AccessObject::prefix_in(&list.bucket, &list.prefix))?;
        self.0.buckets.objects.list(list).await.or_problem()
    }

    /// Starts a multipart upload and returns its id.
    pub async fn create_upload(&self, by: &Principal, new: NewUpload) -> Result<String, Problem> {
        self.authorize(by, Action::Write, &new.path)?;
        self.0.buckets.objects.create_upload(new).await.or_problem()
    }

    /// Writes or replaces a part of an upload.
    pub async fn put_part(
        &self,
        by: &Principal,
        target: &UploadTarget,
        number: u32,
        content: ContentStream,
    ) -> Result<ListedPart, Problem> {
        self.authorize(by, Action::Write, &target.path)?;
        self.0.buckets.objects.put_part(target, number, content).await.or_problem()
    }

    /// Completes an upload by combining its parts into the object.
    pub async fn complete(
        &self,
        by: &Principal,
        target: &UploadTarget,
        parts: &[CompletedPart],
        condition: &ObjectPrecondition,
    ) -> Result<ObjectRecord, Problem> {
        self.authorize(by, Action::Write, &target.path)?;
        self.changed_by(by).complete(target, parts, condition).await.or_problem()
    }

    /// Aborts an upload.
    pub async fn abort(&self, by: &Principal, target: &UploadTarget) -> Result<(), Problem> {
        self.authorize(by, Action::Write, &target.path)?;
        self.0.buckets.objects.abort(target).await.or_problem()
    }

    /// Lists at most `limit` parts of an upload, after the given part number.
    pub async fn parts(
        &self,
        by: &Principal,
        target: &UploadTarget,
        after: u32,
        limit: usize,
    ) -> Result<Vec<ListedPart>, Problem> {
        self.authorize(by, Action::Write, &target.path)?;
        self.0.buckets.objects.parts(target, after, limit).await.or_problem()
    }

    /// Lists the uploads of a bucket, optionally only those with a key prefix.
    pub async fn uploads(
        &self,
        by: &Principal,
        bucket: &str,
        prefix: &str,
    ) -> Result<Vec<ListedUpload>, Problem> {
        self.0.authorize(by, Action::List, &AccessObject::prefix_in(bucket, prefix))?;
        self.0.buckets.objects.uploads(bucket, prefix).await.or_problem()
    }
}
