//! Listings of objects, by both versions of the S3 operation.

use headwater_model::Timestamp;
use headwater_service::S3Operations;
use headwater_service::objects::{ListEntry, ListRequest, Listing};
use s3s::dto::{
    CommonPrefix, ETag, EncodingType, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
    ListObjectsV2Output, Object, ObjectStorageClass,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use crate::authentication::principal;
use crate::error::s3_error_of;

/// The default and maximum number of results per page.
const PAGE_MAX: i32 = 1_000;

/// Lists objects (`ListObjects`, version 1).
pub(crate) async fn list(
    service: &S3Operations,
    request: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let principal = principal(&request);
    let ListObjectsInput { bucket, delimiter, encoding_type, marker, max_keys, prefix, .. } =
        request.input;
    let list = ListRequest {
        bucket,
        prefix: prefix.unwrap_or_default(),
        delimiter,
        after: marker.clone().filter(|marker| !marker.is_empty()),
        limit: limit(max_keys)?,
    };
    let listing = service.objects().list(&principal, &list).await.map_err(s3_error_of)?;
    let text = KeyEncoding::new(encoding_type.as_ref());
    let (contents, groups) = entries(&listing, text);
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(list.bucket),
        prefix: Some(text.encode(&list.prefix)),
        marker: Some(text.encode(&marker.unwrap_or_default())),
        max_keys: i32::try_from(list.limit).ok(),
        is_truncated: Some(listing.next.is_some()),
        contents: Some(contents),
        common_prefixes: Some(groups),
        next_marker: listing.next.as_deref().map(|next| text.encode(next)),
        delimiter: list.delimiter.as_deref().map(|delimiter| text.encode(delimiter)),
        encoding_type,
        ..ListObjectsOutput::default()
    }))
}

/// Lists objects (`ListObjectsV2`).
pub(crate) async fn list_v2(
    service: &S3Operations,
    request: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let principal = principal(&request);
    let input = request.input;
    let token = input.continuation_token.as_deref().map(token_key).transpose()?;
    let list = ListRequest {
        bucket: input.bucket,
        prefix: input.prefix.unwrap_or_default(),
        delimiter: input.delimiter,
        after: token.or_else(|| input.start_after.clone().filter(|after| !after.is_empty())),
        limit: limit(input.max_keys)?,
    };
    let listing = service.objects().list(&principal, &list).await.map_err(s3_error_of)?;
    let text = KeyEncoding::new(input.encoding_type.as_ref());
    let (contents, groups) = entries(&listing, text);
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(list.bucket),
        prefix: Some(text.encode(&list.prefix)),
        max_keys: i32::try_from(list.limit).ok(),
        key_count: i32::try_from(listing.entries.len()).ok(),
        continuation_token: input.continuation_token,
        is_truncated: Some(listing.next.is_some()),
        next_continuation_token: listing.next.as_deref().map(hex::encode),
        contents: Some(contents),
        common_prefixes: Some(groups),
        delimiter: list.delimiter.as_deref().map(|delimiter| text.encode(delimiter)),
        start_after: input.start_after.as_deref().map(|after| text.encode(after)),
        encoding_type: input.encoding_type,
        ..ListObjectsV2Output::default()
    }))
}

fn limit(sent: Option<i32>) -> S3Result<usize> {
    let limit = sent.unwrap_or(PAGE_MAX).min(PAGE_MAX);
    usize::try_from(limit)
        .map_err(|_| s3_error!(InvalidArgument, "`max-keys` must not be negative"))
}

/// Decodes a continuation token to the key after which the page starts.
fn token_key(token: &str) -> S3Result<String> {
    let key = hex::decode(token).ok().and_then(|key| String::from_utf8(key).ok());
    key.ok_or_else(|| s3_error!(InvalidArgument, "`{token}` is not a continuation token"))
}

/// The encoding of keys in a response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyEncoding {
    is_url: bool,
}

impl KeyEncoding {
    pub(crate) fn new(sent: Option<&EncodingType>) -> Self {
        KeyEncoding { is_url: sent.is_some_and(|sent| sent.as_str() == EncodingType::URL) }
    }

    /// Returns a key in the encoding that the client requested.
    pub(crate) fn encode(self, key: &str) -> String {
        if !self.is_url {
            return key.to_owned();
        }
        let mut encoded = String::with_capacity(key.len());
        for byte in key.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
                encoded.push(char::from(byte));
            } else {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
        encoded
    }
}

fn entries(listing: &Listing, text: KeyEncoding) -> (Vec<Object>, Vec<CommonPrefix>) {
    let (mut objects, mut groups) = (Vec::new(), Vec::new());
    for entry in &listing.entries {
        match entry {
            ListEntry::Group(group) => {
                groups.push(CommonPrefix { prefix: Some(text.encode(group)) });
            }
            ListEntry::Object { key, info } => objects.push(Object {
                key: Some(text.encode(key)),
                e_tag: Some(ETag::Strong(info.etag.clone())),
                last_modified: Some(timestamp(info.modified)),
                size: i64::try_from(info.size).ok(),
                storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
                ..Object::default()
            }),
        }
    }
    (objects, groups)
}

/// Converts a time to the type of `s3s`.
pub(crate) fn timestamp(time: Timestamp) -> s3s::dto::Timestamp {
    s3s::dto::Timestamp::from(std::time::SystemTime::from(time))
}
