//! Errors in the format of AWS: a type, a message and an HTTP status.

use bytes::Bytes;
use headwater_model::{ErrorCode, Problem};
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;

/// The header that contains the error type.
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// A result of this crate.
pub(crate) type Result<T, E = LambdaError> = std::result::Result<T, E>;

/// An error of Lambda's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LambdaError {
    pub status: u16,
    pub kind: &'static str,
    pub message: String,
    /// The reason for throttling, which AWS clients read, if the request was throttled.
    pub reason: Option<&'static str>,
}

impl LambdaError {
    pub fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        LambdaError { status, kind, message: message.into(), reason: None }
    }

    /// Creates the error for an invalid parameter.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "InvalidParameterValueException", message)
    }

    /// Creates the error for a missing resource.
    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(404, "ResourceNotFoundException", message)
    }

    /// Returns the HTTP response for the error.
    pub fn response(&self) -> Response<Bytes> {
        let mut body = json!({"Type": "User", "Message": self.message, "message": self.message});
        if self.status >= 500 {
            body["Type"] = "Service".into();
        }
        if let Some(reason) = self.reason {
            body["Reason"] = reason.into();
        }
        let mut response = Response::new(Bytes::from(body.to_string()));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ERROR_TYPE, HeaderValue::from_static(self.kind));
        if self.status == 429 {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Problem> for LambdaError {
    fn from(problem: Problem) -> Self {
        use ErrorCode as Code;
        let (status, kind) = match problem.code {
            Code::FunctionNotFound | Code::DeploymentNotFound | Code::TriggerNotFound => {
                (404, "ResourceNotFoundException")
            }
            Code::AlreadyExists | Code::NotEmpty | Code::CommitConflict => {
                (409, "ResourceConflictException")
            }
            Code::PreconditionFailed => (412, "PreconditionFailedException"),
            Code::InvalidArgument
            | Code::InvalidName
            | Code::InvalidProject
            | Code::SecretNotFound
            | Code::BucketNotFound
            | Code::ObjectNotFound => (400, "InvalidParameterValueException"),
            Code::Forbidden => (403, "AccessDeniedException"),
            Code::Unauthenticated => (403, "UnrecognizedClientException"),
            Code::TooBusy => (429, "TooManyRequestsException"),
            Code::Unavailable => (503, "ServiceUnavailableException"),
            _ => (500, "ServiceException"),
        };
        let message = match problem.hint {
            Some(hint) => format!("{}. {hint}", problem.message),
            None => problem.message,
        };
        let reason = (status == 429).then_some("ConcurrentInvocationLimitExceeded");
        LambdaError { reason, ..LambdaError::new(status, kind, message) }
    }
}
