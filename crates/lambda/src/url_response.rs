//! The response to a request to a function URL, created from the function's result.
//!
//! The response has the same origin as the console. Its content is therefore sandboxed: a page of
//! a function gets a separate origin, and cannot use the console session of a browser.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, SET_COOKIE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Map, Value, json};

/// Headers that functions cannot set: headers of the connection, and headers that apply to the
/// whole server.
const RESERVED: [&str; 12] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "clear-site-data",
    "service-worker-allowed",
    "strict-transport-security",
];

/// The policy of a page: no access to the origin of the server.
const SANDBOX: &str = "sandbox allow-downloads allow-forms allow-modals allow-popups allow-scripts";

/// Name prefix of the console's cookies.
const CONSOLE_COOKIE: &str = "headwater-";

/// Returns the response that a function describes by its result; `None` if the description is
/// invalid.
pub(crate) fn response(result: &Bytes) -> Option<Response<Bytes>> {
    let value: Value = serde_json::from_slice(result).ok()?;
    let described = value.as_object().filter(|fields| fields.contains_key("statusCode"));
    let mut response = match described {
        Some(fields) => described_response(fields)?,
        None => Response::new(result.clone()),
    };
    let headers = response.headers_mut();
    if !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Some(sandboxed(response))
}

pub(crate) fn sandboxed(mut response: Response<Bytes>) -> Response<Bytes> {
    let headers = response.headers_mut();
    headers.append("content-security-policy", HeaderValue::from_static(SANDBOX));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

fn described_response(fields: &Map<String, Value>) -> Option<Response<Bytes>> {
    let body = match fields.get("body") {
        None | Some(Value::Null) => Bytes::new(),
        Some(Value::String(text)) => match fields.get("isBase64Encoded") {
            Some(Value::Bool(true)) => STANDARD.decode(text).ok()?.into(),
            None | Some(Value::Null | Value::Bool(false)) => Bytes::from(text.clone()),
            Some(_) => return None,
        },
        Some(_) => return None,
    };
    Some(described_head(fields)?.map(|_| body))
}

/// Returns the described response without its body.
pub(crate) fn described_head(fields: &Map<String, Value>) -> Option<Response<Bytes>> {
    let mut response = Response::new(Bytes::new());
    // Informational status codes (1xx) are not final responses.
    let status = fields.get("statusCode")?.as_u64().filter(|code| (200..=599).contains(code))?;
    *response.status_mut() = StatusCode::from_u16(u16::try_from(status).ok()?).ok()?;
    match fields.get("headers") {
        None | Some(Value::Null) => {}
        Some(Value::Object(headers)) => {
            for (name, value) in headers {
                add_header(&mut response, name, value)?;
            }
        }
        Some(_) => return None,
    }
    match fields.get("cookies") {
        None | Some(Value::Null) => {}
        Some(Value::Array(cookies)) => {
            for cookie in cookies {
                add_header(&mut response, SET_COOKIE.as_str(), cookie)?;
            }
        }
        Some(_) => return None,
    }
    Some(response)
}

fn add_header(response: &mut Response<Bytes>, name: &str, value: &Value) -> Option<()> {
    let name: HeaderName = name.parse().ok()?;
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        _ => return None,
    };
    let value = HeaderValue::from_str(&text).ok()?;
    let is_console = name == SET_COOKIE && text.trim_start().starts_with(CONSOLE_COOKIE);
    if !RESERVED.contains(&name.as_str()) && !is_console {
        response.headers_mut().append(name, value);
    }
    Some(())
}

/// Returns an error response of the server, not of the function.
pub(crate) fn failure(status: StatusCode) -> Response<Bytes> {
    let message = match status {
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::TOO_MANY_REQUESTS => "Rate Exceeded.",
        StatusCode::PAYLOAD_TOO_LARGE => "Request Entity Too Large",
        StatusCode::SERVICE_UNAVAILABLE => "Service Unavailable",
        _ => "Internal Server Error",
    };
    let mut response = Response::new(Bytes::from(json!({"Message": message}).to_string()));
    *response.status_mut() = status;
    let media_type = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    sandboxed(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(result: &Value) -> Option<Response<Bytes>> {
        response(&Bytes::from(result.to_string()))
    }

    #[test]
    fn a_function_describes_its_response() {
        let result = json!({
            "statusCode": 201, "body": "YWJj", "isBase64Encoded": true,
            "headers": {"Content-Type": "text/plain", "X-Count": 3, "Content-Length": "99"},
            "cookies": ["a=1; Path=/", "headwater-80=stolen"],
        });
        let response = of(&result).expect("a response");
        assert_eq!((response.status().as_u16(), &response.body()[..]), (201, &b"abc"[..]));
        let headers = response.headers();
        assert_eq!(headers["content-type"], "text/plain");
        assert_eq!(headers["x-count"], "3");
        assert_eq!(headers.get("content-length"), None);
        let cookies: Vec<_> = headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1; Path=/"]);
        let own = json!({"statusCode": 200, "headers": {"content-security-policy": "x"}});
        let response = of(&own).expect("a response");
        let policies = response.headers().get_all("content-security-policy").iter();
        assert!(policies.into_iter().any(|policy| policy == SANDBOX));
    }

    #[test]
    fn other_results_are_the_body() {
        for result in [json!("text"), json!({"a": [1]}), json!(null), json!([])] {
            let response = of(&result).expect("a response");
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.body(), &Bytes::from(result.to_string()));
            assert_eq!(response.headers()["content-type"], "application/json");
        }
    }

    #[test]
    fn invalid_descriptions_are_not_responses() {
        for result in [
            json!({"statusCode": 99}),
            json!({"statusCode": 101}),
            json!({"statusCode": 1000}),
            json!({"statusCode": "many"}),
            json!({"statusCode": 200, "body": {"a": 1}}),
            json!({"statusCode": 200, "body": "%", "isBase64Encoded": true}),
            json!({"statusCode": 200, "isBase64Encoded": "yes", "body": "a"}),
            json!({"statusCode": 200, "headers": []}),
            json!({"statusCode": 200, "headers": {"a b": "c"}}),
            json!({"statusCode": 200, "headers": {"a": "b\r\nc: d"}}),
            json!({"statusCode": 200, "headers": {"a": ["b"]}}),
            json!({"statusCode": 200, "cookies": "a=1"}),
        ] {
            assert!(of(&result).is_none(), "{result}");
        }
        assert!(response(&Bytes::from_static(b"{")).is_none());
    }
}
