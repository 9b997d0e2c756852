//! Errors in the format of SQS.

use bytes::Bytes;
use headwater_model::{ErrorCode, Problem};
use headwater_service::QueueError;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::json;

use crate::error::LambdaError;

/// The media type of requests and responses.
pub(super) const MEDIA_TYPE: &str = "application/x-amz-json-1.0";

/// The header with the error code of the older query protocol, which clients report.
const QUERY_ERROR: HeaderName = HeaderName::from_static("x-amzn-query-error");

/// A result of this module.
pub(super) type Result<T, E = SqsError> = std::result::Result<T, E>;

/// An error of SQS's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SqsError {
    pub status: u16,
    /// The name of the error, such as `QueueDoesNotExist`.
    pub kind: &'static str,
    pub message: String,
}

impl SqsError {
    pub fn new(kind: &'static str, message: impl Into<String>) -> Self {
        SqsError { status: 400, kind, message: message.into() }
    }

    /// Creates the error for an invalid value.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterValue", message)
    }

    /// Creates the error for a missing parameter.
    pub fn missing(name: &str) -> Self {
        let message = format!("The request must contain the parameter {name}.");
        Self::new("MissingParameter", message)
    }

    /// Returns the code of the older query protocol.
    pub fn code(&self) -> &'static str {
        match self.kind {
            "QueueDoesNotExist" => "AWS.SimpleQueueService.NonExistentQueue",
            "QueueNameExists" => "QueueAlreadyExists",
            "EmptyBatchRequest" => "AWS.SimpleQueueService.EmptyBatchRequest",
            "TooManyEntriesInBatchRequest" => "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
            "BatchEntryIdsNotDistinct" => "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
            "InvalidBatchEntryId" => "AWS.SimpleQueueService.InvalidBatchEntryId",
            "MessageNotInflight" => "AWS.SimpleQueueService.MessageNotInflight",
            kind => kind,
        }
    }

    /// Returns true if the client caused the error.
    pub fn is_sender_fault(&self) -> bool {
        self.status < 500
    }

    /// Returns the HTTP response for the error.
    pub fn response(&self) -> Response<Bytes> {
        let body = json!({"__type": format!("com.amazonaws.sqs#{}", self.kind),
            "message": self.message});
        let mut response = Response::new(Bytes::from(body.to_string()));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        let fault = if self.is_sender_fault() { "Sender" } else { "Receiver" };
        if let Ok(value) = HeaderValue::from_str(&format!("{};{fault}", self.code())) {
            headers.insert(QUERY_ERROR, value);
        }
        response
    }
}

impl From<LambdaError> for SqsError {
    fn from(error: LambdaError) -> Self {
        SqsError { status: error.status, kind: error.kind, message: error.message }
    }
}

impl From<Problem> for SqsError {
    fn from(problem: Problem) -> Self {
        use ErrorCode as Code;
        let (status, kind) = match problem.code {
            Code::QueueNotFound => (400, "QueueDoesNotExist"),
            Code::AlreadyExists => (400, "QueueNameExists"),
            Code::InvalidArgument | Code::InvalidName => (400, "InvalidParameterValue"),
            Code::Forbidden => (403, "AccessDeniedException"),
            Code::Unauthenticated => (403, "UnrecognizedClientException"),
            Code::TooBusy | Code::QuotaExceeded => (403, "OverLimit"),
            Code::Unavailable => (503, "ServiceUnavailable"),
            _ => (500, "InternalFailure"),
        };
        SqsError { status, kind, message: problem.message }
    }
}

impl From<QueueError> for SqsError {
    fn from(error: QueueError) -> Self {
        let kind = match &error {
            QueueError::Missing { .. } => Some("MissingParameter"),
            QueueError::InvalidContents => Some("InvalidMessageContents"),
            QueueError::InvalidReceipt { .. } => Some("ReceiptHandleIsInvalid"),
            QueueError::NotInFlight { .. } => Some("MessageNotInflight"),
            _ => None,
        };
        match kind {
            Some(kind) => SqsError::new(kind, error.to_string()),
            None => headwater_model::ToProblem::to_problem(&error).into(),
        }
    }
}
