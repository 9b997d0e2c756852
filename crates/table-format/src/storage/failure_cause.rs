//! The causes of object store failures, which are derived from responses, and a hint for each
//! cause.

use std::error::Error as StdError;

use object_store::client::{HttpError, HttpErrorKind};

/// Parts of the error messages of failed requests for credentials. A message with one of them means
/// that no key is set and that the cloud's metadata service provided none.
const CREDENTIAL_REQUESTS: [&str; 4] =
    ["token request", "http://169.254.169.254/", "http://169.254.170.2/", "//metadata.google."];

/// The cause of an object store's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureCause {
    /// The bucket or container does not exist.
    NoBucket,
    /// The key is unknown, the signature is wrong, or a token has expired.
    Credentials,
    /// The key is valid but does not permit the request.
    Forbidden,
    /// The clocks of this machine and the store differ too much for signed requests to be accepted.
    Clock,
    /// The bucket is in another region.
    Region,
    /// The store's address cannot be reached.
    Unreachable,
    /// The connection was closed before the response was complete.
    Cut,
    /// The request timed out.
    TimedOut,
    /// The store throttled or failed requests until the timeout for retries.
    Busy,
    /// The file to create already exists.
    Taken,
}

impl FailureCause {
    /// Returns the cause of an error; `None` if unknown.
    pub fn of(error: &(dyn StdError + 'static)) -> Option<FailureCause> {
        let chain = std::iter::successors(Some(error), |error| (*error).source());
        let mut found = None;
        for cause in chain {
            if matches!(cause.downcast_ref(), Some(object_store::Error::AlreadyExists { .. })) {
                found = Some(FailureCause::Taken);
            }
            if let Some(http) = cause.downcast_ref::<HttpError>() {
                return Some(transport_cause(http.kind()));
            }
            let text = cause.to_string();
            if CREDENTIAL_REQUESTS.iter().any(|part| text.contains(part)) {
                return Some(FailureCause::Credentials);
            }
            if let Some(response) = text.strip_prefix("Server returned ") {
                return response_cause(response).or(found);
            }
            if text.starts_with("Received redirect without LOCATION") {
                return Some(FailureCause::Region);
            }
        }
        found
    }

    /// Returns true if a retry may succeed later. A transient cause never depends on the file.
    pub fn is_transient(self) -> bool {
        match self {
            FailureCause::Credentials
            | FailureCause::Clock
            | FailureCause::Unreachable
            | FailureCause::Cut
            | FailureCause::TimedOut
            | FailureCause::Busy => true,
            FailureCause::NoBucket
            | FailureCause::Forbidden
            | FailureCause::Region
            | FailureCause::Taken => false,
        }
    }

    /// Returns the message for a failure at a location.
    pub fn describe(self, location: &str) -> String {
        match self {
            FailureCause::NoBucket => format!("the bucket of `{location}` does not exist"),
            FailureCause::Credentials => {
                format!(
                    "the object store rejects the credentials for `{location}`, or no credentials \
                     are set"
                )
            }
            FailureCause::Forbidden => format!("the object store denies access to `{location}`"),
            FailureCause::Clock => format!(
                "the object store rejects requests for `{location}`, because its clock and this \
                 machine's differ"
            ),
            FailureCause::Region => format!("the bucket of `{location}` is in another region"),
            FailureCause::Unreachable => {
                format!("the object store of `{location}` cannot be reached")
            }
            FailureCause::Cut => {
                format!(
                    "the connection to the object store was lost during a request for `{location}`"
                )
            }
            FailureCause::TimedOut => {
                format!("the object store timed out for `{location}`")
            }
            FailureCause::Busy => {
                format!(
                    "the object store failed every request for `{location}`, even after retries"
                )
            }
            FailureCause::Taken => format!("another file already exists at `{location}`"),
        }
    }

    /// Returns a hint for resolving the failure.
    pub fn hint(self) -> &'static str {
        match self {
            FailureCause::NoBucket => {
                "Create the bucket or correct its name; for S3-compatible stores, check \
                 `AWS_ENDPOINT_URL`."
            }
            FailureCause::Credentials => {
                "Set the cloud's environment variables, such as `AWS_ACCESS_KEY_ID`, \
                 `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, to a valid key and restart the \
                 server."
            }
            FailureCause::Forbidden => {
                "Grant the key the permissions to read, write, list and delete. Or set another key \
                 in the environment, then restart the server."
            }
            FailureCause::Clock => "Correct this machine's clock.",
            FailureCause::Region => "Set `AWS_REGION` to the bucket's region.",
            FailureCause::Unreachable => {
                "Check this machine's network connection, and `AWS_ENDPOINT_URL` if \
                 it is set."
            }
            FailureCause::Cut | FailureCause::TimedOut | FailureCause::Busy => {
                "Retry; nothing was changed. If it fails again, check the store's status."
            }
            FailureCause::Taken => "Retry: the retry writes the file under another name.",
        }
    }
}

fn transport_cause(kind: HttpErrorKind) -> FailureCause {
    match kind {
        HttpErrorKind::Connect => FailureCause::Unreachable,
        HttpErrorKind::Timeout => FailureCause::TimedOut,
        _ => FailureCause::Cut,
    }
}

/// Returns the cause that a response contains, for example `non-2xx status code: 403 Forbidden:
/// <Error><Code>AccessDenied</Code>…`.
fn response_cause(response: &str) -> Option<FailureCause> {
    let code = response.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let trouble = match code.map_or("", |(code, _)| code) {
        "NoSuchBucket" | "ContainerNotFound" | "FilesystemNotFound" => FailureCause::NoBucket,
        "RequestTimeTooSkewed" => FailureCause::Clock,
        "AuthorizationHeaderMalformed" | "PermanentRedirect" => FailureCause::Region,
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "AuthenticationFailed"
        | "InvalidAuthenticationInfo" => FailureCause::Credentials,
        "SlowDown" | "InternalError" | "ServiceUnavailable" | "ServerBusy" => FailureCause::Busy,
        "NoSuchKey" | "NoSuchUpload" | "BlobNotFound" => return None,
        _ => return status_cause(response),
    };
    Some(trouble)
}

/// Returns the cause that a status code stands for, for a response without a body.
fn status_cause(response: &str) -> Option<FailureCause> {
    let status = response.split_once("status code: ")?.1.get(..3)?.parse::<u16>().ok()?;
    match status {
        401 => Some(FailureCause::Credentials),
        403 => Some(FailureCause::Forbidden),
        408 => Some(FailureCause::TimedOut),
        409 | 412 => Some(FailureCause::Taken),
        429 | 500..=599 => Some(FailureCause::Busy),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_map_to_causes() {
        let response = |status: &str, code: &str| {
            response_cause(&format!(
                "non-2xx status code: {status}: <Error><Code>{code}</Code></Error>"
            ))
        };
        assert_eq!(response("404 Not Found", "NoSuchBucket"), Some(FailureCause::NoBucket));
        assert_eq!(response("404 Not Found", "NoSuchKey"), None);
        assert_eq!(response("403 Forbidden", "RequestTimeTooSkewed"), Some(FailureCause::Clock));
        assert_eq!(response("403 Forbidden", "AccessDenied"), Some(FailureCause::Forbidden));
        assert_eq!(
            response("403 Forbidden", "InvalidAccessKeyId"),
            Some(FailureCause::Credentials)
        );
        assert_eq!(response("503 Slow Down", "SlowDown"), Some(FailureCause::Busy));
        assert_eq!(
            response_cause("non-2xx status code: 502 Bad Gateway: "),
            Some(FailureCause::Busy)
        );
        assert_eq!(response_cause("error response: nonsense"), None);
    }

    #[test]
    fn missing_credentials_are_detected() {
        let source = "Error performing PUT http://169.254.169.254/latest/api/token in 5s".into();
        let error = object_store::Error::Generic { store: "S3", source };
        assert_eq!(FailureCause::of(&error), Some(FailureCause::Credentials));
    }
}
