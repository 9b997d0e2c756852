//! The name of the condition that an object did not meet, which is added to the error response.
//!
//! S3 names the condition in the element `Condition` of the error `PreconditionFailed`. Clients
//! such as s3fs read this element to detect that an object exists. `s3s` cannot encode the element
//! in its errors, so this module adds it to the encoded response.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
use http::{HeaderMap, HeaderName, StatusCode};
use s3s::{Body, HttpResponse};

/// The headers with conditions whose failure has the status 412, and the names that S3 gives to the
/// conditions.
const CONDITIONS: [(HeaderName, &str); 3] = [
    (IF_MATCH, "If-Match"),
    (IF_UNMODIFIED_SINCE, "If-Unmodified-Since"),
    (IF_NONE_MATCH, "If-None-Match"),
];

const END: &str = "</Error>";

/// Returns the condition in the headers of a request.
pub(crate) fn condition_of(headers: &HeaderMap) -> Option<&'static str> {
    let mut conditions = CONDITIONS.iter();
    conditions.find(|(header, _)| headers.contains_key(header)).map(|(_, name)| *name)
}

/// Adds the name of the request's condition to the response, if the condition was not met.
pub(crate) fn name_condition(response: &mut HttpResponse, condition: Option<&str>) {
    let Some(condition) = condition.filter(|_| is_failed(response)) else { return };
    let Some(document) = response.body().bytes() else { return };
    let Some(open) = std::str::from_utf8(&document).ok().and_then(|text| text.strip_suffix(END))
    else {
        return;
    };
    let document = format!("{open}<Condition>{condition}</Condition>{END}");
    response.headers_mut().remove(CONTENT_LENGTH);
    *response.body_mut() = Body::from(Bytes::from(document));
}

fn is_failed(response: &HttpResponse) -> bool {
    response.status() == StatusCode::PRECONDITION_FAILED
}

#[cfg(test)]
mod tests {
    use s3s::{S3Error, S3ErrorCode};

    use super::*;

    fn document(code: S3ErrorCode, condition: Option<&str>) -> String {
        let error = S3Error::with_message(code, "no");
        let mut response = error.to_http_response().expect("a response");
        name_condition(&mut response, condition);
        let bytes = response.body().bytes().expect("a document");
        String::from_utf8(bytes.to_vec()).expect("text")
    }

    #[test]
    fn a_failed_condition_is_named_in_the_error() {
        let named = document(S3ErrorCode::PreconditionFailed, Some("If-None-Match"));
        let end = "<Message>no</Message><Condition>If-None-Match</Condition></Error>";
        assert!(named.ends_with(end), "{named}");
        for (code, condition) in
            [(S3ErrorCode::PreconditionFailed, None), (S3ErrorCode::AccessDenied, Some("If-Match"))]
        {
            let unchanged = document(code, condition);
            assert!(unchanged.ends_with("<Message>no</Message></Error>"), "{unchanged}");
        }
    }

    #[test]
    fn the_condition_is_that_of_the_headers() {
        let mut headers = HeaderMap::new();
        assert_eq!(condition_of(&headers), None);
        headers.insert(IF_NONE_MATCH, "*".parse().expect("a value"));
        assert_eq!(condition_of(&headers), Some("If-None-Match"));
        headers.insert(IF_MATCH, "\"1\"".parse().expect("a value"));
        assert_eq!(condition_of(&headers), Some("If-Match"));
    }
}
