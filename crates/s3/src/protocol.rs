//! The entry point: responds to an HTTP request.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headwater_service::S3Operations;
use http::StatusCode;
use http::header::AUTHORIZATION;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{HttpRequest, HttpResponse};

use crate::authentication::{RequestAuthenticator, SecretLookup};
use crate::failed_condition::{condition_of, name_condition};
use crate::operations::S3Backend;

/// Maximum length of an XML document that a client sends, in bytes.
const XML_BYTES_MAX: usize = 4 << 20;

/// Maximum length of a file that is uploaded in a form, in bytes. It is low, because the file is
/// held in memory.
const FORM_BYTES_MAX: u64 = 4 << 20;

/// The client of a request, which the listener adds to the request's extensions.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The client's address.
    pub address: Option<IpAddr>,
    signed: Arc<AtomicBool>,
}

impl Peer {
    /// Creates the client of a request whose signature is not verified yet.
    pub fn new(address: Option<IpAddr>) -> Self {
        Peer { address, signed: Arc::default() }
    }

    /// Records that the signature of the request is valid.
    pub(crate) fn set_signed(&self) {
        self.signed.store(true, Ordering::Relaxed);
    }

    /// Returns true if the signature of the request is valid.
    pub fn is_signed(&self) -> bool {
        self.signed.load(Ordering::Relaxed)
    }
}

/// The S3 protocol of a service. Cheap to clone.
#[derive(Clone)]
pub struct S3Protocol {
    operations: S3Operations,
    s3: S3Service,
}

impl std::fmt::Debug for S3Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Protocol").finish_non_exhaustive()
    }
}

impl S3Protocol {
    /// Creates the protocol.
    pub fn new(operations: S3Operations) -> Self {
        let mut builder = S3ServiceBuilder::new(S3Backend(operations.clone()));
        builder.set_auth(SecretLookup(operations.clone()));
        builder.set_access(RequestAuthenticator(operations.clone()));
        let mut config = S3Config::default();
        config.xml_max_body_size = XML_BYTES_MAX;
        config.post_object_max_file_size = FORM_BYTES_MAX;
        config.form_max_field_size = 64 << 10;
        config.form_max_fields_size = 1 << 20;
        config.form_max_parts = 100;
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        S3Protocol { operations, s3: builder.build() }
    }

    /// Answers a request. A wrong signature is recorded in the audit log.
    pub async fn call(&self, mut request: HttpRequest, peer: &Peer) -> HttpResponse {
        let key = claimed_key(&request);
        let condition = condition_of(request.headers());
        request.extensions_mut().insert(peer.clone());
        let mut response = if let Ok(response) = self.s3.call(request).await {
            response
        } else {
            tracing::error!("an S3 response cannot be encoded");
            let mut response = HttpResponse::new(s3s::Body::empty());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        };
        name_condition(&mut response, condition);
        if let Some(key) = key
            && response.status() == StatusCode::FORBIDDEN
            && !peer.is_signed()
        {
            self.operations.signatures().record_failure(&key, peer.address);
        }
        response
    }
}

/// Returns the id of the access key that a request names. Does not check the signature.
fn claimed_key(request: &HttpRequest) -> Option<String> {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let in_header = header.and_then(|text| text.split_once("Credential="));
    let in_query = || request.uri().query().and_then(|it| it.split_once("X-Amz-Credential="));
    let (_, credential) = in_header.or_else(in_query)?;
    let key: String = credential.chars().take_while(char::is_ascii_alphanumeric).take(64).collect();
    (!key.is_empty()).then_some(key)
}
