//! Multipart upload operations.

use headwater_service::S3Operations;
use headwater_service::objects::{
    CompletedPart, ListedPart, NewUpload, ObjectHeaders, ObjectPath, ObjectRecord, UploadTarget,
};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CopyPartResult, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, ETag, ListMultipartUploadsInput, ListMultipartUploadsOutput,
    ListPartsInput, ListPartsOutput, MultipartUpload, Part, Range, UploadPartCopyInput,
    UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use crate::authentication::principal;
use crate::checksum::Checksums;
use crate::content::received;
use crate::error::{s3_error_of, unsupported};
use crate::listing::{KeyEncoding, timestamp};
use crate::object::{ReadConditions, condition, range_of, source};
use crate::unsupported_settings::CreateObjectSettings;

/// The default and maximum number of parts per page.
const PARTS_MAX: i32 = 1_000;

pub(crate) async fn create(
    service: &S3Operations,
    request: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let principal = principal(&request);
    let input = request.input;
    if input.sse_customer_key.is_some() || input.tagging.is_some() {
        return Err(unsupported("encryption with customer keys (SSE-C), or object tagging"));
    }
    let (acl, storage_class) = (input.acl.as_ref(), input.storage_class.as_ref());
    let encryption = input.server_side_encryption.as_ref();
    CreateObjectSettings { acl, storage_class, encryption }.check()?;
    let new = NewUpload {
        path: ObjectPath { bucket: input.bucket.clone(), key: input.key.clone() },
        headers: ObjectHeaders {
            content_type: input.content_type,
            content_encoding: input.content_encoding,
            content_language: input.content_language,
            content_disposition: input.content_disposition,
            cache_control: input.cache_control,
            metadata: input.metadata.unwrap_or_default().into_iter().collect(),
        },
    };
    let id = service.objects().create_upload(&principal, new).await.map_err(s3_error_of)?;
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(id),
        ..CreateMultipartUploadOutput::default()
    }))
}

fn target(bucket: String, key: String, id: String) -> UploadTarget {
    UploadTarget { path: ObjectPath { bucket, key }, id }
}

fn number(sent: i32) -> S3Result<u32> {
    u32::try_from(sent)
        .map_err(|_| s3_error!(InvalidArgument, "the part number must not be negative"))
}

pub(crate) async fn put_part(
    service: &S3Operations,
    request: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let principal = principal(&request);
    let checksums = Checksums::new(&request.headers, request.trailing_headers.clone());
    let UploadPartInput { bucket, key, upload_id, part_number, body, .. } = request.input;
    let (target, number) = (target(bucket, key, upload_id), number(part_number)?);
    let content = received(body, checksums);
    let put = service.objects().put_part(&principal, &target, number, content).await;
    let e_tag = Some(ETag::Strong(put.map_err(s3_error_of)?.etag));
    Ok(S3Response::new(UploadPartOutput { e_tag, ..UploadPartOutput::default() }))
}

pub(crate) async fn copy_part(
    service: &S3Operations,
    request: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let principal = principal(&request);
    let input = request.input;
    let from = source(&input.copy_source)?;
    let range = input.copy_source_range.as_deref().map(Range::parse).transpose();
    let range = range.map_err(|_| {
        let range = input.copy_source_range.as_deref().unwrap_or_default();
        s3_error!(InvalidArgument, "`{range}` is not a valid range of bytes")
    })?;
    let target = target(input.bucket, input.key, input.upload_id);
    let number = number(input.part_number)?;
    let objects = service.objects();
    let conditions = ReadConditions {
        if_match: input.copy_source_if_match.as_ref(),
        if_none_match: input.copy_source_if_none_match.as_ref(),
        if_modified_since: input.copy_source_if_modified_since.as_ref(),
        if_unmodified_since: input.copy_source_if_unmodified_since.as_ref(),
    };
    let wanted = |info: &ObjectRecord| {
        conditions.check_source(info)?;
        range_of(range.as_ref(), info.size)
    };
    let opened = objects.open(&principal, &from, wanted).await.map_err(s3_error_of)?;
    let copied = objects.put_part(&principal, &target, number, opened.content).await;
    let part = copied.map_err(s3_error_of)?;
    let copy_part_result = Some(CopyPartResult {
        e_tag: Some(ETag::Strong(part.etag)),
        last_modified: Some(timestamp(part.modified)),
        ..CopyPartResult::default()
    });
    Ok(S3Response::new(UploadPartCopyOutput {
        copy_part_result,
        ..UploadPartCopyOutput::default()
    }))
}

pub(crate) async fn complete(
    service: &S3Operations,
    request: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let principal = principal(&request);
    let input = request.input;
    let condition = condition(input.if_match.as_ref(), input.if_none_match.as_ref())?;
    let sent = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    let part = |part: s3s::dto::CompletedPart| {
        let number = number(part.part_number.unwrap_or_default())?;
        let etag = part.e_tag.map(ETag::into_value).unwrap_or_default();
        Ok(CompletedPart { number, etag })
    };
    let parts = sent.into_iter().map(part).collect::<S3Result<Vec<_>>>()?;
    let target = target(input.bucket.clone(), input.key.clone(), input.upload_id);
    let completed = service.objects().complete(&principal, &target, &parts, &condition).await;
    let info = completed.map_err(s3_error_of)?;
    Ok(S3Response::new(CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(ETag::Strong(info.etag)),
        ..CompleteMultipartUploadOutput::default()
    }))
}

pub(crate) async fn abort(
    service: &S3Operations,
    request: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let principal = principal(&request);
    let AbortMultipartUploadInput { bucket, key, upload_id, .. } = request.input;
    let target = target(bucket, key, upload_id);
    service.objects().abort(&principal, &target).await.map_err(s3_error_of)?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

pub(crate) async fn list_parts(
    service: &S3Operations,
    request: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let principal = principal(&request);
    let input = request.input;
    let target = target(input.bucket.clone(), input.key.clone(), input.upload_id.clone());
    let max_parts = input.max_parts.unwrap_or(PARTS_MAX).clamp(1, PARTS_MAX);
    let limit = usize::try_from(max_parts).unwrap_or_default();
    let after = number(input.part_number_marker.unwrap_or_default())?;
    let listed = service.objects().parts(&principal, &target, after, limit + 1).await;
    let mut listed = listed.map_err(s3_error_of)?;
    let is_truncated = listed.len() > limit;
    listed.truncate(limit);
    let last = listed.last().and_then(|part| i32::try_from(part.number).ok());
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        parts: Some(listed.into_iter().map(part).collect()),
        part_number_marker: input.part_number_marker,
        next_part_number_marker: last.filter(|_| is_truncated),
        is_truncated: Some(is_truncated),
        max_parts: Some(max_parts),
        ..ListPartsOutput::default()
    }))
}

fn part(part: ListedPart) -> Part {
    Part {
        part_number: i32::try_from(part.number).ok(),
        size: i64::try_from(part.size).ok(),
        e_tag: Some(ETag::Strong(part.etag)),
        last_modified: Some(timestamp(part.modified)),
        ..Part::default()
    }
}

pub(crate) async fn list(
    service: &S3Operations,
    request: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let principal = principal(&request);
    let input = request.input;
    if input.delimiter.is_some() || input.key_marker.is_some() {
        return Err(unsupported("a delimiter or marker in a listing of uploads"));
    }
    let prefix = input.prefix.unwrap_or_default();
    let found = service.objects().uploads(&principal, &input.bucket, &prefix).await;
    let text = KeyEncoding::new(input.encoding_type.as_ref());
    let upload = |upload: headwater_service::objects::ListedUpload| MultipartUpload {
        key: Some(text.encode(&upload.key)),
        upload_id: Some(upload.id),
        initiated: Some(timestamp(upload.created)),
        ..MultipartUpload::default()
    };
    let uploads = found.map_err(s3_error_of)?.into_iter().map(upload).collect();
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: Some(text.encode(&prefix)),
        uploads: Some(uploads),
        is_truncated: Some(false),
        encoding_type: input.encoding_type,
        ..ListMultipartUploadsOutput::default()
    }))
}
