//! The entry point: takes an HTTP request and returns its response.

use std::net::IpAddr;

use bytes::Bytes;
use headwater_model::Principal;
use headwater_service::{Queues, Service};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde_json::{Value, json};

use super::error::{MEDIA_TYPE, Result, SqsError};
use super::{message, queue};
use crate::protocol::{LambdaApi, with_id};

/// The beginning of the header `x-amz-target` of all requests.
pub const TARGET_PREFIX: &str = "AmazonSQS.";

/// The name of the service in the credential scope of requests to SQS.
const SERVICE: &str = "sqs";

/// The account in ARNs and URLs.
pub(super) const ACCOUNT: &str = "000000000000";

/// The SQS API on top of a service. Cheap to clone.
#[derive(Clone)]
pub struct SqsApi {
    service: Service,
    /// The Lambda API, whose methods authenticate requests.
    lambda: LambdaApi,
    /// The scheme of URLs: `http` or `https`.
    scheme: &'static str,
}

/// A request whose signature is valid.
pub(super) struct SqsRequest {
    pub principal: Principal,
    pub queues: Queues,
    /// Scheme and host of the request. URLs of queues begin with this origin.
    pub origin: String,
    body: Bytes,
}

impl SqsRequest {
    /// Parses the body.
    ///
    /// Errors: `SerializationException`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        let body: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        serde_json::from_slice(body)
            .map_err(|error| SqsError::new("SerializationException", error.to_string()))
    }

    /// Returns the URL of a queue.
    pub fn url(&self, queue: &str) -> String {
        format!("{}/{ACCOUNT}/{queue}", self.origin)
    }
}

impl SqsApi {
    /// Creates the protocol. The URLs of queues begin with `scheme`.
    pub fn new(service: &Service, scheme: &'static str) -> Self {
        let lambda = LambdaApi::new(service, scheme);
        SqsApi { service: service.clone(), lambda, scheme }
    }

    /// Returns an error response if the request's access key is unknown. The server then need not
    /// read the body.
    pub async fn reject_unknown(
        &self,
        parts: &Parts,
        address: Option<IpAddr>,
    ) -> Option<Response<Bytes>> {
        let checked = self.lambda.check_key(parts, SERVICE, address).await;
        checked.err().map(|error| with_id(SqsError::from(error).response()))
    }

    /// Answers a request.
    pub async fn call(&self, request: Request<Bytes>, address: Option<IpAddr>) -> Response<Bytes> {
        let (parts, body) = request.into_parts();
        with_id(match self.answer(parts, body, address).await {
            Ok(answer) => response(&answer),
            Err(error) => error.response(),
        })
    }

    async fn answer(&self, parts: Parts, body: Bytes, address: Option<IpAddr>) -> Result<Value> {
        let principal = self.lambda.authenticate_for(SERVICE, &parts, &body, address).await?;
        let target = parts.headers.get("x-amz-target").and_then(|value| value.to_str().ok());
        let operation = target.and_then(|target| target.strip_prefix(TARGET_PREFIX));
        let host = parts.headers.get("host").and_then(|value| value.to_str().ok());
        let origin = format!("{}://{}", self.scheme, host.unwrap_or("localhost"));
        let queues = Queues::of(&self.service);
        let request = SqsRequest { principal, queues, origin, body };
        SqsOperation::of(operation.unwrap_or_default())?.execute(&request).await
    }
}

/// The operations of SQS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum SqsOperation {
    CreateQueue,
    DeleteQueue,
    GetQueueUrl,
    ListQueues,
    GetQueueAttributes,
    SetQueueAttributes,
    PurgeQueue,
    TagQueue,
    UntagQueue,
    ListQueueTags,
    ListDeadLetterSourceQueues,
    SendMessage,
    SendMessageBatch,
    ReceiveMessage,
    DeleteMessage,
    DeleteMessageBatch,
    ChangeMessageVisibility,
    ChangeMessageVisibilityBatch,
}

impl SqsOperation {
    fn of(name: &str) -> Result<Self> {
        let parsed = SqsOperation::deserialize(name.into_deserializer());
        parsed.map_err(|_: serde::de::value::Error| {
            let message = format!("The operation {name} is not supported.");
            SqsError::new("UnsupportedOperation", message)
        })
    }

    async fn execute(self, request: &SqsRequest) -> Result<Value> {
        use SqsOperation as Op;
        match self {
            Op::CreateQueue => queue::create(request).await,
            Op::DeleteQueue => queue::delete(request).await,
            Op::GetQueueUrl => queue::url(request),
            Op::ListQueues => queue::list(request),
            Op::GetQueueAttributes => queue::attributes(request).await,
            Op::SetQueueAttributes => queue::set_attributes(request).await,
            Op::PurgeQueue => queue::purge(request).await,
            Op::TagQueue => queue::tag(request).await,
            Op::UntagQueue => queue::untag(request).await,
            Op::ListQueueTags => queue::tags(request),
            Op::ListDeadLetterSourceQueues => queue::dead_letter_sources(request),
            Op::SendMessage => message::send(request).await,
            Op::SendMessageBatch => message::send_batch(request).await,
            Op::ReceiveMessage => message::receive(request).await,
            Op::DeleteMessage => message::delete(request).await,
            Op::DeleteMessageBatch => message::delete_batch(request).await,
            Op::ChangeMessageVisibility => message::change_visibility(request).await,
            Op::ChangeMessageVisibilityBatch => message::change_visibility_batch(request).await,
        }
    }
}

fn response(answer: &Value) -> Response<Bytes> {
    let answer = if answer.is_null() { json!({}) } else { answer.clone() };
    let mut response = Response::new(Bytes::from(answer.to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    response
}
