//! Bucket operations: create, delete, list.

use headwater_model::Timestamp;
use headwater_store::{RefChange, RefPrecondition};

use crate::record::{BUCKETS, BucketRecord, bucket_ref, decode, object_ref, put};
use crate::{Error, ListedUpload, ObjectPath, Objects, Result, UploadTarget};

/// Maximum number of listed buckets.
const LISTED_MAX: usize = 10_000;

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// The name.
    pub name: String,
    /// The creation time.
    pub created: Timestamp,
}

impl Objects {
    /// Creates a bucket.
    ///
    /// Errors: [`Error::BucketName`], [`Error::BucketExists`].
    pub async fn create_bucket(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let record = BucketRecord { created: self.now() };
        let change = put(bucket_ref(name), &record, RefPrecondition::Absent)?;
        if self.apply(vec![change]).await? {
            return Ok(());
        }
        Err(Error::BucketExists { name: name.to_owned() })
    }

    /// Deletes an empty bucket, and aborts its multipart uploads.
    ///
    /// Errors: [`Error::NoBucket`], [`Error::NotEmpty`].
    pub async fn delete_bucket(&self, name: &str) -> Result<()> {
        // Hold the lock, so that no object is created between the check and the deletion.
        let _deleting = self.0.buckets.write().await;
        let stored = self.bucket_record(name).await?;
        if !self.0.store.references(&object_ref(name, ""), None, 1).await?.is_empty() {
            return Err(Error::NotEmpty { name: name.to_owned() });
        }
        for ListedUpload { id, key, .. } in self.uploads(name, "").await? {
            let path = ObjectPath { bucket: name.to_owned(), key };
            match self.abort(&UploadTarget { path, id }).await {
                // Another request has completed or aborted the upload meanwhile.
                Ok(()) | Err(Error::NoUpload { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let expected = RefPrecondition::Value(stored);
        let change = RefChange { name: bucket_ref(name), expected, value: None };
        if self.apply(vec![change]).await? {
            return Ok(());
        }
        Err(Error::NoBucket { name: name.to_owned() })
    }

    /// Lists the buckets by name.
    pub async fn buckets(&self) -> Result<Vec<Bucket>> {
        let found = self.0.store.references(BUCKETS, None, LISTED_MAX).await?;
        let bucket = |(reference, value): (String, bytes::Bytes)| {
            let name = reference.strip_prefix(BUCKETS).unwrap_or(&reference).to_owned();
            let BucketRecord { created } = decode(&reference, &value)?;
            Ok(Bucket { name, created })
        };
        found.into_iter().map(bucket).collect()
    }

    /// Checks that a bucket exists.
    ///
    /// Error: [`Error::NoBucket`].
    pub async fn check_bucket(&self, name: &str) -> Result<()> {
        self.bucket_record(name).await.map(drop)
    }
}

fn check_name(name: &str) -> Result<()> {
    if is_bucket_name(name) { Ok(()) } else { Err(Error::BucketName { name: name.to_owned() }) }
}

/// Returns true if a bucket name is valid by the rules of S3.
pub fn is_bucket_name(name: &str) -> bool {
    let is_edge = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let bytes = name.as_bytes();
    let is_inner = |byte: &u8| is_edge(Some(byte)) || *byte == b'-' || *byte == b'.';
    (3..=63).contains(&bytes.len())
        && is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes.iter().all(is_inner)
        && !name.contains("..")
        && name.parse::<std::net::Ipv4Addr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_buckets_follow_the_rules_of_s3() {
        for name in ["landing", "a.b-c", "123", &"x".repeat(63)] {
            check_name(name).expect(name);
        }
        let long = "x".repeat(64);
        for name in ["", "ab", "Landing", "a_b", "-ab", "ab-", "a..b", "10.0.0.1", "a/b", &long] {
            check_name(name).expect_err(name);
        }
    }
}
