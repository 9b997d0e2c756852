//! Requests with a signature (AWS Signature Version 4), as bytes to send.

use chrono::Utc;
use ring::hmac;
use sha2::{Digest, Sha256};

/// An access key, and the region that it signs for.
#[derive(Debug, Clone)]
pub struct Key {
    pub id: String,
    pub secret: String,
}

/// A request to sign.
pub struct UnsignedRequest<'a> {
    /// `lambda` or `s3`.
    pub service: &'a str,
    pub method: &'a str,
    /// A path of characters that need no encoding.
    pub path: &'a str,
    /// Header lines that are not signed, each with its line break.
    pub headers: &'a str,
    pub body: &'a str,
}

const REGION: &str = "us-east-1";
const SIGNED: &str = "host;x-amz-content-sha256;x-amz-date";

impl Key {
    /// Returns the bytes of a signed request to a host. The signature is valid for 15 minutes.
    pub fn sign(&self, host: &str, request: &UnsignedRequest<'_>) -> Vec<u8> {
        let UnsignedRequest { service, method, path, headers, body } = request;
        let date = Utc::now().format("%Y%m%dT%H%M%SZ").to_string();
        let hash = hex::encode(Sha256::digest(body));
        let signed = format!("host:{host}\nx-amz-content-sha256:{hash}\nx-amz-date:{date}\n");
        let canonical = format!("{method}\n{path}\n\n{signed}\n{SIGNED}\n{hash}");
        let scope = format!("{}/{REGION}/{service}/aws4_request", &date[..8]);
        let digest = hex::encode(Sha256::digest(canonical));
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}");
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in scope.split('/').chain([text.as_str()]) {
            let step = hmac::Key::new(hmac::HMAC_SHA256, &key);
            key = hmac::sign(&step, part.as_bytes()).as_ref().to_vec();
        }
        let (id, signature, length) = (&self.id, hex::encode(key), body.len());
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nx-amz-content-sha256: {hash}\r\n\
             x-amz-date: {date}\r\nauthorization: AWS4-HMAC-SHA256 Credential={id}/{scope}, \
             SignedHeaders={SIGNED}, Signature={signature}\r\n{headers}content-length: {length}\
             \r\n\r\n{body}"
        )
        .into_bytes()
    }
}
