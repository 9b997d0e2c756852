//! Object operations.

use std::ops::Range;
use std::time::SystemTime;

use futures::{StreamExt, stream};
use headwater_model::{ErrorCode, Principal, Problem};
use headwater_service::S3Operations;
use headwater_service::objects::{
    CopyRequest, NewObject, ObjectHeaders, ObjectPath, ObjectPrecondition, ObjectRecord,
};
use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, DeleteObjectInput,
    DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag,
    ETagCondition, Error, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput,
    Metadata, MetadataDirective, PutObjectInput, PutObjectOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use crate::authentication::principal;
use crate::checksum::Checksums;
use crate::content::{received, sent};
use crate::error::{s3_error_of, unsupported};
use crate::listing::timestamp;
use crate::unsupported_settings::CreateObjectSettings;

/// Maximum number of keys in one delete request.
const DELETES_MAX: usize = 1_000;

/// The number of keys deleted concurrently.
const DELETES_CONCURRENT: usize = 16;

pub(crate) async fn put(
    service: &S3Operations,
    request: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let principal = principal(&request);
    let checksums = Checksums::new(&request.headers, request.trailing_headers.clone());
    let input = request.input;
    if input.sse_customer_key.is_some() || input.sse_customer_algorithm.is_some() {
        return Err(unsupported("encryption with customer keys (SSE-C)"));
    }
    if input.object_lock_mode.is_some() || input.tagging.is_some() {
        return Err(unsupported("object lock or object tagging"));
    }
    let (acl, storage_class) = (input.acl.as_ref(), input.storage_class.as_ref());
    let encryption = input.server_side_encryption.as_ref();
    CreateObjectSettings { acl, storage_class, encryption }.check()?;
    let new = NewObject {
        path: ObjectPath { bucket: input.bucket, key: input.key },
        headers: ObjectHeaders {
            content_type: input.content_type,
            content_encoding: input.content_encoding,
            content_language: input.content_language,
            content_disposition: input.content_disposition,
            cache_control: input.cache_control,
            metadata: input.metadata.unwrap_or_default().into_iter().collect(),
        },
        condition: condition(input.if_match.as_ref(), input.if_none_match.as_ref())?,
        content: received(input.body, checksums),
    };
    let info = service.objects().put(&principal, new).await.map_err(s3_error_of)?;
    let e_tag = Some(ETag::Strong(info.etag));
    Ok(S3Response::new(PutObjectOutput { e_tag, ..PutObjectOutput::default() }))
}

/// Returns the condition of a write, from the headers `If-Match` and `If-None-Match`.
pub(crate) fn condition(
    matches: Option<&ETagCondition>,
    none_match: Option<&ETagCondition>,
) -> S3Result<ObjectPrecondition> {
    match (matches, none_match) {
        (None, None) => Ok(ObjectPrecondition::Always),
        (Some(ETagCondition::Any), None) => Ok(ObjectPrecondition::Exists),
        (Some(ETagCondition::ETag(tag)), None) => {
            Ok(ObjectPrecondition::Matches(tag.value().to_owned()))
        }
        (None, Some(ETagCondition::Any)) => Ok(ObjectPrecondition::Absent),
        (None, Some(ETagCondition::ETag(_))) => {
            Err(unsupported("a write with `If-None-Match` and an ETag instead of `*`"))
        }
        (Some(_), Some(_)) => Err(unsupported("a write with both `If-Match` and `If-None-Match`")),
    }
}

/// The conditions on the object of a read, or on the source object of a copy.
pub(crate) struct ReadConditions<'a> {
    pub(crate) if_match: Option<&'a ETagCondition>,
    pub(crate) if_none_match: Option<&'a ETagCondition>,
    pub(crate) if_modified_since: Option<&'a s3s::dto::Timestamp>,
    pub(crate) if_unmodified_since: Option<&'a s3s::dto::Timestamp>,
}

impl ReadConditions<'_> {
    /// Checks the conditions in the order of RFC 9110, section 13.2.2.
    fn check(&self, info: &ObjectRecord) -> Result<(), Problem> {
        let is_tag = |condition: &ETagCondition| match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(tag) => tag.value() == info.etag,
        };
        // Ignore fractions of a second, because times in headers are whole seconds.
        let modified = timestamp(chrono_seconds(info));
        let holds = match (self.if_match, self.if_unmodified_since) {
            (Some(condition), _) => is_tag(condition),
            (None, Some(since)) => modified <= *since,
            (None, None) => true,
        };
        if !holds {
            return Err(refusal("PreconditionFailed"));
        }
        let is_new = match (self.if_none_match, self.if_modified_since) {
            (Some(condition), _) => !is_tag(condition),
            (None, Some(since)) => modified > *since,
            (None, None) => true,
        };
        if is_new { Ok(()) } else { Err(refusal("NotModified")) }
    }

    /// Checks the conditions on the source of a copy. If the source is not modified, this is an
    /// error like any other failed condition, because a copy cannot have the response 304.
    pub(crate) fn check_source(&self, info: &ObjectRecord) -> Result<(), Problem> {
        self.check(info).map_err(|_| refusal("PreconditionFailed"))
    }

    fn is_empty(&self) -> bool {
        self.if_match.is_none()
            && self.if_none_match.is_none()
            && self.if_modified_since.is_none()
            && self.if_unmodified_since.is_none()
    }
}

fn chrono_seconds(info: &ObjectRecord) -> headwater_model::Timestamp {
    let seconds = SystemTime::UNIX_EPOCH
        + std::time::Duration::from_secs(u64::try_from(info.modified.timestamp()).unwrap_or(0));
    seconds.into()
}

fn refusal(code: &str) -> Problem {
    let message = "the object does not meet the conditions of the request";
    let mut problem = Problem::new(ErrorCode::PreconditionFailed, message);
    problem.context.insert("s3_code".to_owned(), code.into());
    problem
}

pub(crate) async fn get(
    service: &S3Operations,
    request: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let principal = principal(&request);
    let input = request.input;
    check_version(input.version_id.as_deref(), input.part_number)?;
    let conditions = ReadConditions {
        if_match: input.if_match.as_ref(),
        if_none_match: input.if_none_match.as_ref(),
        if_modified_since: input.if_modified_since.as_ref(),
        if_unmodified_since: input.if_unmodified_since.as_ref(),
    };
    let path = ObjectPath { bucket: input.bucket.clone(), key: input.key.clone() };
    let range = |info: &ObjectRecord| {
        conditions.check(info)?;
        range_of(input.range.as_ref(), info.size)
    };
    let opened = service.objects().open(&principal, &path, range).await.map_err(s3_error_of)?;
    let (info, range) = (opened.info, opened.range);
    let content_range = input.range.map(|_| content_range(&range, info.size));
    let ObjectHeaders {
        content_type, content_encoding, content_language, content_disposition, ..
    } = info.headers.clone();
    Ok(S3Response::new(GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: i64::try_from(range.end - range.start).ok(),
        content_range,
        e_tag: Some(ETag::Strong(info.etag)),
        last_modified: Some(timestamp(info.modified)),
        content_type: input.response_content_type.or(content_type),
        content_encoding: input.response_content_encoding.or(content_encoding),
        content_language: input.response_content_language.or(content_language),
        content_disposition: input.response_content_disposition.or(content_disposition),
        cache_control: input.response_cache_control.or(info.headers.cache_control),
        metadata: user_metadata(info.headers.metadata),
        body: Some(sent(opened.content)),
        ..GetObjectOutput::default()
    }))
}

pub(crate) async fn head(
    service: &S3Operations,
    request: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let principal = principal(&request);
    let input = request.input;
    check_version(input.version_id.as_deref(), input.part_number)?;
    let path = ObjectPath { bucket: input.bucket, key: input.key };
    let info = service.objects().head(&principal, &path).await.map_err(s3_error_of)?;
    let conditions = ReadConditions {
        if_match: input.if_match.as_ref(),
        if_none_match: input.if_none_match.as_ref(),
        if_modified_since: input.if_modified_since.as_ref(),
        if_unmodified_since: input.if_unmodified_since.as_ref(),
    };
    conditions.check(&info).map_err(s3_error_of)?;
    let range = range_of(input.range.as_ref(), info.size).map_err(s3_error_of)?;
    let content_range = input.range.map(|_| content_range(&range, info.size));
    let headers = info.headers;
    Ok(S3Response::new(HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: i64::try_from(range.end - range.start).ok(),
        content_range,
        e_tag: Some(ETag::Strong(info.etag)),
        last_modified: Some(timestamp(info.modified)),
        content_type: headers.content_type,
        content_encoding: headers.content_encoding,
        content_language: headers.content_language,
        content_disposition: headers.content_disposition,
        cache_control: headers.cache_control,
        metadata: user_metadata(headers.metadata),
        ..HeadObjectOutput::default()
    }))
}

fn check_version(version: Option<&str>, part: Option<i32>) -> S3Result<()> {
    if version.is_some_and(|version| version != "null") {
        return Err(s3_error!(NoSuchVersion, "versions of objects are not supported"));
    }
    match part {
        Some(_) => Err(unsupported("reading a part by number")),
        None => Ok(()),
    }
}

/// Returns the byte range of a request in an object of this size.
pub(crate) fn range_of(range: Option<&s3s::dto::Range>, size: u64) -> Result<Range<u64>, Problem> {
    let Some(range) = range else { return Ok(0..size) };
    range.check(size).map_err(|_| {
        let message = format!("the range is outside the object's {size} bytes");
        let mut problem = Problem::new(ErrorCode::InvalidArgument, message);
        problem.context.insert("s3_code".to_owned(), "InvalidRange".into());
        problem
    })
}

fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1))
}

fn user_metadata(metadata: std::collections::BTreeMap<String, String>) -> Option<Metadata> {
    (!metadata.is_empty()).then(|| metadata.into_iter().collect())
}

/// Returns the source object of a copy.
pub(crate) fn source(source: &CopySource) -> S3Result<ObjectPath> {
    let CopySource::Bucket { bucket, key, version_id } = source else {
        return Err(unsupported("a copy from an access point"));
    };
    check_version(version_id.as_deref(), None)?;
    Ok(ObjectPath { bucket: bucket.to_string(), key: key.to_string() })
}

pub(crate) async fn copy(
    service: &S3Operations,
    request: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let principal = principal(&request);
    let input = request.input;
    let directive = input.metadata_directive.as_ref().map(MetadataDirective::as_str);
    let replaces = directive == Some(MetadataDirective::REPLACE);
    let headers = replaces.then(|| ObjectHeaders {
        content_type: input.content_type,
        content_encoding: input.content_encoding,
        content_language: input.content_language,
        content_disposition: input.content_disposition,
        cache_control: input.cache_control,
        metadata: input.metadata.unwrap_or_default().into_iter().collect(),
    });
    let (acl, storage_class) = (input.acl.as_ref(), input.storage_class.as_ref());
    let encryption = input.server_side_encryption.as_ref();
    CreateObjectSettings { acl, storage_class, encryption }.check()?;
    let from = source(&input.copy_source)?;
    let to = ObjectPath { bucket: input.bucket, key: input.key };
    if from == to && headers.is_none() {
        let message = "an object cannot be copied to itself without new metadata";
        return Err(s3_error!(InvalidRequest, "{message}"));
    }
    let conditions = ReadConditions {
        if_match: input.copy_source_if_match.as_ref(),
        if_none_match: input.copy_source_if_none_match.as_ref(),
        if_modified_since: input.copy_source_if_modified_since.as_ref(),
        if_unmodified_since: input.copy_source_if_unmodified_since.as_ref(),
    };
    let condition = if conditions.is_empty() {
        ObjectPrecondition::Always
    } else {
        let info = service.objects().head(&principal, &from).await.map_err(s3_error_of)?;
        conditions.check_source(&info).map_err(s3_error_of)?;
        // Let the copy fail if another request replaces the source object after this check.
        ObjectPrecondition::Matches(info.etag)
    };
    let copied =
        service.objects().copy(&principal, CopyRequest { from, to, headers, condition }).await;
    let info = copied.map_err(s3_error_of)?;
    let result = CopyObjectResult {
        e_tag: Some(ETag::Strong(info.etag)),
        last_modified: Some(timestamp(info.modified)),
        ..CopyObjectResult::default()
    };
    let copy_object_result = Some(result);
    Ok(S3Response::new(CopyObjectOutput { copy_object_result, ..CopyObjectOutput::default() }))
}

pub(crate) async fn delete(
    service: &S3Operations,
    request: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let principal = principal(&request);
    let input = request.input;
    check_version(input.version_id.as_deref(), None)?;
    let condition = condition(input.if_match.as_ref(), None)?;
    let path = ObjectPath { bucket: input.bucket, key: input.key };
    let deleted = service.objects().delete(&principal, &path, &condition).await;
    deleted.map_err(s3_error_of)?;
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

/// Deletes several objects. The response contains a result for each.
pub(crate) async fn delete_several(
    service: &S3Operations,
    request: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let principal = &principal(&request);
    let DeleteObjectsInput { bucket, delete, .. } = request.input;
    if delete.objects.len() > DELETES_MAX {
        return Err(s3_error!(MalformedXML, "the request names more than 1000 keys"));
    }
    let quiet = delete.quiet.unwrap_or(false);
    service.buckets().exists(principal, &bucket).await.map_err(s3_error_of)?;
    let deletes = delete.objects.into_iter().map(|object| {
        let path = ObjectPath { bucket: bucket.clone(), key: object.key };
        async move { (delete_one(service, principal, &path).await, path.key) }
    });
    let mut results = stream::iter(deletes).buffered(DELETES_CONCURRENT);
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    while let Some((result, key)) = results.next().await {
        match result {
            Ok(()) if quiet => {}
            Ok(()) => {
                deleted.push(DeletedObject { key: Some(key), ..DeletedObject::default() });
            }
            Err(error) => errors.push(Error {
                code: Some(error.code().as_str().to_owned()),
                message: error.message().map(str::to_owned),
                key: Some(key),
                version_id: None,
            }),
        }
    }
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: Some(deleted),
        errors: Some(errors),
        ..DeleteObjectsOutput::default()
    }))
}

async fn delete_one(
    service: &S3Operations,
    principal: &Principal,
    path: &ObjectPath,
) -> S3Result<()> {
    let deleted = service.objects().delete(principal, path, &ObjectPrecondition::Always).await;
    deleted.map_err(s3_error_of)
}
