//! Settings of new objects, such as encryption, that are not supported. Requests with such settings
//! are rejected.

use s3s::dto::{ObjectCannedACL, ServerSideEncryption, StorageClass};
use s3s::{S3Result, s3_error};

use crate::error::unsupported;

/// Canned access control lists that grant nothing to other users, so they can be accepted.
const PRIVATE: [&str; 2] = ["private", "bucket-owner-full-control"];

/// Settings of a request that creates an object.
#[derive(Default)]
pub(crate) struct CreateObjectSettings<'a> {
    pub(crate) acl: Option<&'a ObjectCannedACL>,
    pub(crate) storage_class: Option<&'a StorageClass>,
    pub(crate) encryption: Option<&'a ServerSideEncryption>,
}

impl CreateObjectSettings<'_> {
    /// Rejects settings that are not supported.
    pub(crate) fn check(&self) -> S3Result<()> {
        if self.acl.is_some_and(|acl| !PRIVATE.contains(&acl.as_str())) {
            let message = "access control lists are not supported; grant `read` on the bucket";
            return Err(s3_error!(AccessControlListNotSupported, "{message}"));
        }
        if self.storage_class.is_some_and(|class| class.as_str() != StorageClass::STANDARD) {
            return Err(s3_error!(
                InvalidStorageClass,
                "the storage class is not supported; use STANDARD"
            ));
        }
        if self.encryption.is_some() {
            return Err(unsupported("server-side encryption"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(acl: &str, class: &str, is_accepted: bool) {
        let acl = ObjectCannedACL::from(acl.to_owned());
        let class = StorageClass::from(class.to_owned());
        let settings = CreateObjectSettings {
            acl: Some(&acl),
            storage_class: Some(&class),
            ..CreateObjectSettings::default()
        };
        assert_eq!(settings.check().is_ok(), is_accepted, "{} {}", acl.as_str(), class.as_str());
    }

    #[test]
    fn only_settings_of_a_plain_object_are_accepted() {
        check("private", "STANDARD", true);
        check("bucket-owner-full-control", "STANDARD", true);
        check("public-read", "STANDARD", false);
        check("private", "GLACIER", false);
        let aes = ServerSideEncryption::from("AES256".to_owned());
        CreateObjectSettings { encryption: Some(&aes), ..CreateObjectSettings::default() }
            .check()
            .unwrap_err();
    }
}
