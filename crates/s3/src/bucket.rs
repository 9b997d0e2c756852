//! Bucket operations.

use headwater_service::S3Operations;
use s3s::dto::{
    Bucket, CreateBucketInput, CreateBucketOutput, DeleteBucketInput, DeleteBucketOutput,
    GetBucketLocationInput, GetBucketLocationOutput, GetBucketVersioningInput,
    GetBucketVersioningOutput, HeadBucketInput, HeadBucketOutput, ListBucketsInput,
    ListBucketsOutput, Owner,
};
use s3s::{S3Request, S3Response, S3Result};

use crate::authentication::principal;
use crate::error::s3_error_of;
use crate::listing::timestamp;

pub(crate) async fn create(
    service: &S3Operations,
    request: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let bucket = &request.input.bucket;
    service.buckets().create(&principal(&request), bucket).await.map_err(s3_error_of)?;
    let location = Some(format!("/{bucket}"));
    Ok(S3Response::new(CreateBucketOutput { location }))
}

pub(crate) async fn delete(
    service: &S3Operations,
    request: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    let deleted = service.buckets().delete(&principal(&request), &request.input.bucket).await;
    deleted.map_err(s3_error_of)?;
    Ok(S3Response::new(DeleteBucketOutput::default()))
}

pub(crate) async fn head(
    service: &S3Operations,
    request: S3Request<HeadBucketInput>,
) -> S3Result<S3Response<HeadBucketOutput>> {
    check(service, &request, &request.input.bucket).await?;
    Ok(S3Response::new(HeadBucketOutput::default()))
}

pub(crate) async fn location(
    service: &S3Operations,
    request: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    check(service, &request, &request.input.bucket).await?;
    Ok(S3Response::new(GetBucketLocationOutput::default()))
}

pub(crate) async fn versioning(
    service: &S3Operations,
    request: S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    check(service, &request, &request.input.bucket).await?;
    Ok(S3Response::new(GetBucketVersioningOutput::default()))
}

async fn check<T>(service: &S3Operations, request: &S3Request<T>, bucket: &str) -> S3Result<()> {
    service.buckets().check(&principal(request), bucket).await.map_err(s3_error_of)
}

pub(crate) async fn list(
    service: &S3Operations,
    request: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let principal = principal(&request);
    let found = service.buckets().list(&principal).await.map_err(s3_error_of)?;
    let prefix = request.input.prefix;
    let found = found.into_iter().filter(|bucket| {
        prefix.as_ref().is_none_or(|prefix| bucket.name.starts_with(prefix.as_str()))
    });
    let bucket = |bucket: headwater_service::objects::Bucket| Bucket {
        name: Some(bucket.name),
        creation_date: Some(timestamp(bucket.created)),
        ..Bucket::default()
    };
    let name = principal.user_name().unwrap_or("owner").to_owned();
    let owner = Owner { display_name: Some(name.clone()), id: Some(name) };
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(found.map(bucket).collect()),
        owner: Some(owner),
        prefix,
        ..ListBucketsOutput::default()
    }))
}
