//! Checksums that a client sends for the content of an object, in headers or after the content.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use headwater_model::{ErrorCode, Problem};
use http::HeaderMap;
use s3s::TrailingHeaders;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};

/// Prefix of the headers with checksums.
const PREFIX: &str = "x-amz-checksum-";

/// Header that lists the headers sent after the content (trailers).
const TRAILER: &str = "x-amz-trailer";

/// The checksums being computed over the content, and the values that the client expects.
pub(crate) struct Checksums {
    hasher: ChecksumHasher,
    md5: Option<Md5>,
    headers: HeaderMap,
    trailers: Option<TrailingHeaders>,
}

impl Checksums {
    /// Reads the expected checksums from the headers of a request.
    pub(crate) fn new(headers: &HeaderMap, trailers: Option<TrailingHeaders>) -> Self {
        let trailer = headers.get(TRAILER).and_then(|value| value.to_str().ok()).unwrap_or("");
        let is_sent = |name: &str| {
            let header = format!("{PREFIX}{name}");
            headers.contains_key(&header) || trailer.to_ascii_lowercase().contains(&header)
        };
        let hasher = ChecksumHasher {
            crc32: is_sent("crc32").then(Crc32::new),
            crc32c: is_sent("crc32c").then(Crc32c::new),
            sha1: is_sent("sha1").then(Sha1::new),
            sha256: is_sent("sha256").then(Sha256::new),
            crc64nvme: is_sent("crc64nvme").then(Crc64Nvme::new),
        };
        let md5 = headers.contains_key("content-md5").then(Md5::new);
        Checksums { hasher, md5, headers: headers.clone(), trailers }
    }

    /// Adds a part of the content.
    pub(crate) fn update(&mut self, part: &Bytes) {
        self.hasher.update(part);
        if let Some(md5) = &mut self.md5 {
            md5.update(part);
        }
    }

    /// Compares the checksums after all content has been added.
    pub(crate) fn check(self) -> Result<(), Problem> {
        let Checksums { hasher, md5, headers, trailers } = self;
        let trailers = trailers.and_then(|trailers| trailers.read(Clone::clone));
        let sent = |name: &str| {
            let trailer = trailers.as_ref().and_then(|trailers| trailers.get(name));
            let value = headers.get(name).or(trailer)?;
            value.to_str().ok().map(|text| text.trim().to_owned())
        };
        let computed = hasher.finalize();
        let md5 = md5.map(|md5| STANDARD.encode(md5.finalize()));
        for (name, computed) in [
            ("content-md5", md5),
            ("x-amz-checksum-crc32", computed.checksum_crc32),
            ("x-amz-checksum-crc32c", computed.checksum_crc32c),
            ("x-amz-checksum-sha1", computed.checksum_sha1),
            ("x-amz-checksum-sha256", computed.checksum_sha256),
            ("x-amz-checksum-crc64nvme", computed.checksum_crc64nvme),
        ] {
            if computed.is_some() && computed != sent(name) {
                let message = format!("the content does not match the checksum in `{name}`");
                let mut problem = Problem::new(ErrorCode::InvalidArgument, message)
                    .with_hint("Send the content again.");
                problem.context.insert("s3_code".to_owned(), "BadDigest".into());
                return Err(problem);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&'static str, &'static str)], content: &'static str) -> bool {
        let value = |text: &&'static str| text.parse().expect("a header");
        let headers =
            headers.iter().map(|(name, text)| (http::HeaderName::from_static(name), value(text)));
        let mut checksums = Checksums::new(&headers.collect(), None);
        checksums.update(&Bytes::from_static(content.as_bytes()));
        checksums.check().is_ok()
    }

    #[test]
    fn a_content_must_have_each_checksum_that_was_sent() {
        assert!(check(&[], "hello"));
        let crc = ("x-amz-checksum-crc32", "NhCmhg==");
        let md5 = ("content-md5", "XUFAKrxLKna5cZ2REBfFkg==");
        assert!(check(&[crc, md5], "hello"));
        assert!(!check(&[crc], "hellO") && !check(&[md5], "hellO"));
        // The header announces a checksum after the content, but the request does not contain one.
        assert!(!check(&[("x-amz-trailer", "x-amz-checksum-sha256")], "hello"));
    }
}
