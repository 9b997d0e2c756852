//! What is behind an object store's failure, as far as its answer tells, and what to do about it.

use std::error::Error as StdError;

use object_store::client::{HttpError, HttpErrorKind};

/// What an error holds that came while credentials were asked for: no key is set, and the machine is none
/// of the cloud's, which would have one.
const KEYS_ARE_ASKED_FOR: [&str; 4] =
    ["token request", "http://169.254.169.254/", "http://169.254.170.2/", "//metadata.google."];

/// What is behind an object store's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The bucket, or container, is not there.
    NoBucket,
    /// The key is unknown, its signature wrong, or a token has expired.
    Credentials,
    /// The key is good, and may not do this.
    Forbidden,
    /// This machine's clock and the store's differ too much for signatures to hold.
    Clock,
    /// The bucket lies in another region.
    Region,
    /// Nobody answers at the store's address.
    Unreachable,
    /// The connection broke off before the answer was whole.
    Cut,
    /// The answer did not come in time.
    TimedOut,
    /// The store went on asking for patience, or failing, until ours was at its end.
    Busy,
    /// There is a file already where a new one was to be.
    Taken,
}

impl Trouble {
    /// What an error comes from; none where it does not tell.
    pub fn of(error: &(dyn StdError + 'static)) -> Option<Trouble> {
        let chain = std::iter::successors(Some(error), |error| (*error).source());
        let mut found = None;
        for cause in chain {
            if matches!(cause.downcast_ref(), Some(object_store::Error::AlreadyExists { .. })) {
                found = Some(Trouble::Taken);
            }
            if let Some(http) = cause.downcast_ref::<HttpError>() {
                return Some(of_transport(http.kind()));
            }
            let text = cause.to_string();
            if KEYS_ARE_ASKED_FOR.iter().any(|part| text.contains(part)) {
                return Some(Trouble::Credentials);
            }
            if let Some(answer) = text.strip_prefix("Server returned ") {
                return of_answer(answer).or(found);
            }
            if text.starts_with("Received redirect without LOCATION") {
                return Some(Trouble::Region);
            }
        }
        found
    }

    /// Whether it says nothing of the file itself, and may be over a little later.
    pub(crate) fn is_passing(self) -> bool {
        match self {
            Trouble::Credentials
            | Trouble::Clock
            | Trouble::Unreachable
            | Trouble::Cut
            | Trouble::TimedOut
            | Trouble::Busy => true,
            Trouble::NoBucket | Trouble::Forbidden | Trouble::Region | Trouble::Taken => false,
        }
    }

    /// What happened at a location.
    pub(crate) fn describe(self, location: &str) -> String {
        match self {
            Trouble::NoBucket => format!("the bucket of `{location}` does not exist"),
            Trouble::Credentials => {
                format!("there are no credentials that the object store accepts for `{location}`")
            }
            Trouble::Forbidden => format!("the object store does not allow `{location}`"),
            Trouble::Clock => format!(
                "the object store refuses `{location}`, since its clock and this machine's differ"
            ),
            Trouble::Region => format!("the bucket of `{location}` lies in another region"),
            Trouble::Unreachable => {
                format!("the object store that holds `{location}` cannot be reached")
            }
            Trouble::Cut => {
                format!("the connection to the object store broke off at `{location}`")
            }
            Trouble::TimedOut => {
                format!("the object store did not answer for `{location}` in time")
            }
            Trouble::Busy => format!(
                "the object store went on failing for `{location}`, however often it was asked"
            ),
            Trouble::Taken => format!("another file is at `{location}` already"),
        }
    }

    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Trouble::NoBucket => {
                "Make the bucket, or correct its name; for a store that is not the cloud's own, see that \
                 `AWS_ENDPOINT_URL` names it."
            }
            Trouble::Credentials => {
                "Set the cloud's variables, such as `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and \
                 `AWS_SESSION_TOKEN`, to a key that is valid, and start the server again."
            }
            Trouble::Forbidden => {
                "Allow the key to read, write, list and delete there, or set another key in the \
                 environment, and start the server again."
            }
            Trouble::Clock => "Set this machine's clock right.",
            Trouble::Region => "Set `AWS_REGION` to the bucket's region.",
            Trouble::Unreachable => {
                "Look whether this machine has a network, and whether `AWS_ENDPOINT_URL` is right where \
                 it is set."
            }
            Trouble::Cut | Trouble::TimedOut | Trouble::Busy => {
                "Try again; nothing was changed. If it goes on, look how the store fares."
            }
            Trouble::Taken => "Try again: it will be written under another name.",
        }
    }
}

fn of_transport(kind: HttpErrorKind) -> Trouble {
    match kind {
        HttpErrorKind::Connect => Trouble::Unreachable,
        HttpErrorKind::Timeout => Trouble::TimedOut,
        _ => Trouble::Cut,
    }
}

/// What the store said: `non-2xx status code: 403 Forbidden: <Error><Code>AccessDenied</Code>…`.
fn of_answer(answer: &str) -> Option<Trouble> {
    let code = answer.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let trouble = match code.map_or("", |(code, _)| code) {
        "NoSuchBucket" | "ContainerNotFound" | "FilesystemNotFound" => Trouble::NoBucket,
        "RequestTimeTooSkewed" => Trouble::Clock,
        "AuthorizationHeaderMalformed" | "PermanentRedirect" => Trouble::Region,
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "AuthenticationFailed"
        | "InvalidAuthenticationInfo" => Trouble::Credentials,
        "SlowDown" | "InternalError" | "ServiceUnavailable" | "ServerBusy" => Trouble::Busy,
        "NoSuchKey" | "NoSuchUpload" | "BlobNotFound" => return None,
        _ => return of_status(answer),
    };
    Some(trouble)
}

/// What the status alone tells, as where the answer has no body.
fn of_status(answer: &str) -> Option<Trouble> {
    let status = answer.split_once("status code: ")?.1.get(..3)?.parse::<u16>().ok()?;
    match status {
        401 => Some(Trouble::Credentials),
        403 => Some(Trouble::Forbidden),
        408 => Some(Trouble::TimedOut),
        409 | 412 => Some(Trouble::Taken),
        429 | 500..=599 => Some(Trouble::Busy),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_what_is_behind_it() {
        let answer = |status: &str, code: &str| {
            of_answer(&format!("non-2xx status code: {status}: <Error><Code>{code}</Code></Error>"))
        };
        assert_eq!(answer("404 Not Found", "NoSuchBucket"), Some(Trouble::NoBucket));
        assert_eq!(answer("404 Not Found", "NoSuchKey"), None);
        assert_eq!(answer("403 Forbidden", "RequestTimeTooSkewed"), Some(Trouble::Clock));
        assert_eq!(answer("403 Forbidden", "AccessDenied"), Some(Trouble::Forbidden));
        assert_eq!(answer("403 Forbidden", "InvalidAccessKeyId"), Some(Trouble::Credentials));
        assert_eq!(answer("503 Slow Down", "SlowDown"), Some(Trouble::Busy));
        assert_eq!(of_answer("non-2xx status code: 502 Bad Gateway: "), Some(Trouble::Busy));
        assert_eq!(of_answer("error response: nonsense"), None);
    }

    #[test]
    fn a_machine_without_keys_is_told_so() {
        let source = "Error performing PUT http://169.254.169.254/latest/api/token in 5s".into();
        let error = object_store::Error::Generic { store: "S3", source };
        assert_eq!(Trouble::of(&error), Some(Trouble::Credentials));
    }
}
