//! Signatures of requests: AWS Signature Version 4 in the header `authorization`.

use bytes::Bytes;
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use http::header::AUTHORIZATION;
use http::request::Parts;
use ring::hmac;
use sha2::{Digest, Sha256};

use crate::error::{LambdaError, Result};
use crate::request::parse_query;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The name of the service in the credential scope of requests to Lambda.
pub(crate) const LAMBDA: &str = "lambda";

/// The header with the time of a request, and the format of the time.
const DATE: &str = "x-amz-date";
const DATE_FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// The header with the hash of the body.
const CONTENT: &str = "x-amz-content-sha256";

/// Maximum clock difference between client and server.
const SKEW_MAX: TimeDelta = TimeDelta::minutes(15);

/// The signature in a request, not verified yet.
#[derive(Debug)]
pub(crate) struct Signature {
    /// The id of the access key.
    pub key: String,
    /// The credential scope: date, region, service and the constant `aws4_request`.
    scope: String,
    /// The names of the signed headers, in order.
    headers: Vec<String>,
    signature: Vec<u8>,
    /// The time of the request, as text in the format of `x-amz-date`.
    date: String,
}

impl Signature {
    /// Parses the signature of a request without verifying it. Its scope must contain `service`.
    pub fn read(parts: &Parts, service: &str, now: DateTime<Utc>) -> Result<Self> {
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let Some(text) = header(AUTHORIZATION.as_str()) else {
            let message = "The request has no signature.";
            return Err(LambdaError::new(403, "MissingAuthenticationTokenException", message));
        };
        let incomplete = || {
            let message = "The Authorization header is not a valid AWS4-HMAC-SHA256 signature.";
            LambdaError::new(403, "IncompleteSignatureException", message)
        };
        let fields = text.strip_prefix(ALGORITHM).ok_or_else(incomplete)?;
        let field = |name: &str| {
            let mut fields = fields.split(',').map(str::trim);
            fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
        };
        let (key, scope) =
            field("Credential").and_then(|text| text.split_once('/')).ok_or_else(incomplete)?;
        let headers = field("SignedHeaders").ok_or_else(incomplete)?;
        let signature = field("Signature").and_then(|text| hex::decode(text).ok());
        let date = header(DATE).ok_or_else(incomplete)?;
        let signature = Signature {
            key: key.to_owned(),
            scope: scope.to_owned(),
            headers: headers.split(';').map(str::to_owned).collect(),
            signature: signature.ok_or_else(incomplete)?,
            date: date.to_owned(),
        };
        signature.check_scope(service)?;
        signature.check_date(now)?;
        // A signature that does not cover the host could be used for a request to another server.
        let signs = |name: &str| signature.headers.iter().any(|header| header == name);
        if signs("host") && signs(DATE) { Ok(signature) } else { Err(incomplete()) }
    }

    fn check_scope(&self, service: &str) -> Result<()> {
        let parts: Vec<&str> = self.scope.split('/').collect();
        let fits = matches!(parts.as_slice(), [date, _, found, "aws4_request"]
            if *found == service && self.date.starts_with(*date) && date.len() == 8);
        if fits {
            return Ok(());
        }
        Err(invalid(&format!(
            "Credential should be scoped to the service {service} and the date of the request."
        )))
    }

    fn check_date(&self, now: DateTime<Utc>) -> Result<()> {
        let date = NaiveDateTime::parse_from_str(&self.date, DATE_FORMAT)
            .map_err(|_| invalid("The X-Amz-Date header is not a valid time."))?;
        if (date.and_utc() - now).abs() > SKEW_MAX {
            return Err(invalid(
                "Signature expired: the time of the request differs from the server's by more \
                 than 15 minutes.",
            ));
        }
        Ok(())
    }

    /// Checks the signature with the secret of its access key.
    pub fn verify(&self, parts: &Parts, body: &Bytes, secret: &str) -> Result<()> {
        let hash = hex::encode(Sha256::digest(body));
        let shown = parts.headers.get(CONTENT).and_then(|value| value.to_str().ok());
        if shown.is_some_and(|shown| shown != hash) {
            return Err(invalid(
                "The X-Amz-Content-Sha256 header does not match the hash of the body.",
            ));
        }
        let canonical = self.canonical(parts, &hash)?;
        let digest = hex::encode(Sha256::digest(canonical));
        let text = format!("{ALGORITHM}\n{}\n{}\n{digest}", self.date, self.scope);
        let mut key = format!("AWS4{secret}").into_bytes();
        for part in self.scope.split('/') {
            let step = hmac::Key::new(hmac::HMAC_SHA256, &key);
            key = hmac::sign(&step, part.as_bytes()).as_ref().to_vec();
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        hmac::verify(&key, text.as_bytes(), &self.signature).map_err(|_| {
            invalid(
                "The request signature we calculated does not match the signature you provided. \
                 Check your secret access key and signing method.",
            )
        })
    }

    /// Returns the canonical request, in the form that Signature Version 4 defines.
    fn canonical(&self, parts: &Parts, hash: &str) -> Result<String> {
        let mut query: Vec<(String, String)> = parse_query(parts.uri.query().unwrap_or_default())
            .into_iter()
            .map(|(key, value)| (encode(&key, false), encode(&value, false)))
            .collect();
        query.sort();
        let query: Vec<String> =
            query.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut headers = String::new();
        for name in &self.headers {
            let values: Vec<_> = parts.headers.get_all(name.as_str()).iter().collect();
            if values.is_empty() {
                return Err(invalid(&format!("The signed header {name} is missing.")));
            }
            let trimmed = |value: &&http::HeaderValue| {
                let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
                text.split_whitespace().collect::<Vec<_>>().join(" ")
            };
            let values: Vec<String> = values.iter().map(trimmed).collect();
            headers.push_str(&format!("{name}:{}\n", values.join(",")));
        }
        // The client has encoded the path once. Signature Version 4 requires a second encoding.
        let path = encode(parts.uri.path(), true);
        let (method, names) = (&parts.method, self.headers.join(";"));
        Ok(format!("{method}\n{path}\n{}\n{headers}\n{names}\n{hash}", query.join("&")))
    }
}

fn invalid(message: &str) -> LambdaError {
    LambdaError::new(403, "InvalidSignatureException", message)
}

/// Percent-encodes a string; keeps slashes if `keep_slashes` is true.
fn encode(text: &str, keep_slashes: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || (keep_slashes && byte == b'/')
        {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    /// A request that botocore has signed.
    fn request(path: &str) -> Parts {
        let request = http::Request::builder().method("GET").uri(path);
        let request =
            request.header("host", "localhost:8080").header(DATE, "20260301T120000Z").header(
                AUTHORIZATION,
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260301/us-east-1/lambda/aws4_request, \
                 SignedHeaders=host;x-amz-date, Signature=SIGNATURE",
            );
        request.body(()).expect("a request").into_parts().0
    }

    fn now() -> DateTime<Utc> {
        "2026-03-01T12:01:00Z".parse().expect("a time")
    }

    fn signed(path: &str, signature: &str) -> Parts {
        let mut parts = request(path);
        let header = parts.headers[AUTHORIZATION].to_str().expect("text");
        let header = header.replace("SIGNATURE", signature);
        parts.headers.insert(AUTHORIZATION, header.parse().expect("a header"));
        parts
    }

    #[test]
    fn only_the_signed_request_is_accepted() {
        let path = "/2015-03-31/functions/a%3Ab?Marker=x%20y&MaxItems=5";
        let signature = "ff48f3b67cb6989c63283da059b9a048cff0513b731e0532da8db86271f20039";
        let parts = signed(path, signature);
        let read = Signature::read(&parts, LAMBDA, now()).expect("a signature");
        assert_eq!(read.key, "AKIDEXAMPLE");
        read.verify(&parts, &Bytes::new(), SECRET).expect("valid");
        read.verify(&parts, &Bytes::from_static(b"x"), SECRET).expect_err("another body");
        read.verify(&parts, &Bytes::new(), "other").expect_err("another secret");
        for other in ["/2015-03-31/functions/a%3Ac?Marker=x%20y&MaxItems=5", "/", &path[..50]] {
            let parts = signed(other, signature);
            read.verify(&parts, &Bytes::new(), SECRET).expect_err(other);
        }
        let late = now() + TimeDelta::hours(1);
        Signature::read(&parts, LAMBDA, late).expect_err("too late");
    }

    #[test]
    fn incomplete_signatures_are_rejected() {
        let with = |header: &str| {
            let mut parts = request("/");
            parts.headers.insert(AUTHORIZATION, header.parse().expect("a header"));
            Signature::read(&parts, LAMBDA, now())
        };
        let scope = "k/20260301/us-east-1/lambda/aws4_request";
        for header in [
            "Bearer token",
            "AWS4-HMAC-SHA256",
            "AWS4-HMAC-SHA256 Credential=k, SignedHeaders=host, Signature=00",
            &format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00"),
            &format!(
                "AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date, Signature=x"
            ),
            "AWS4-HMAC-SHA256 Credential=k/20260301/us-east-1/s3/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature=00",
            "AWS4-HMAC-SHA256 Credential=k/20260228/us-east-1/lambda/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature=00",
        ] {
            with(header).expect_err(header);
        }
    }
}
