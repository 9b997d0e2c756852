//! The response to a request to a function URL, created from the function's result.
//!
//! The response has the same origin as the console. So the browser must sandbox it: a page that a
//! function returns then has a separate origin, and cannot use the browser's console session.

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

/// Returns the response that a function describes by its result. The error names the invalid part
/// of the result.
pub(crate) fn response(result: &Bytes) -> Result<Response<Bytes>, String> {
    let value: Value =
        serde_json::from_slice(result).map_err(|error| format!("it is not JSON: {error}"))?;
    let described = value.as_object().filter(|fields| fields.contains_key("statusCode"));
    let mut response = match described {
        Some(fields) => described_response(fields)?,
        None => Response::new(result.clone()),
    };
    let headers = response.headers_mut();
    if !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Ok(sandboxed(response))
}

/// Returns the log line for a result that is not a valid response; `None` if it is valid.
pub(crate) fn invalid_response(result: &Bytes) -> Option<String> {
    let reason = response(result).err()?;
    Some(format!("the function's response is invalid: {reason}"))
}

pub(crate) fn sandboxed(mut response: Response<Bytes>) -> Response<Bytes> {
    let headers = response.headers_mut();
    headers.append("content-security-policy", HeaderValue::from_static(SANDBOX));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

fn described_response(fields: &Map<String, Value>) -> Result<Response<Bytes>, String> {
    let body = match fields.get("body") {
        None | Some(Value::Null) => Bytes::new(),
        Some(Value::String(text)) => match fields.get("isBase64Encoded") {
            Some(Value::Bool(true)) => {
                let decoded = STANDARD.decode(text);
                decoded.map_err(|error| format!("`body` is not Base64: {error}"))?.into()
            }
            None | Some(Value::Null | Value::Bool(false)) => Bytes::from(text.clone()),
            Some(_) => return Err("`isBase64Encoded` must be a boolean".to_owned()),
        },
        Some(_) => return Err("`body` must be a string".to_owned()),
    };
    Ok(described_head(fields)?.map(|_| body))
}

/// Returns the response that `fields` describe, without the body.
pub(crate) fn described_head(fields: &Map<String, Value>) -> Result<Response<Bytes>, String> {
    let mut response = Response::new(Bytes::new());
    // A response needs a final status code, which an informational code (1xx) is not.
    let code = fields.get("statusCode").and_then(Value::as_u64);
    let code = code.filter(|code| (200..=599).contains(code));
    let code = code.and_then(|code| StatusCode::from_u16(u16::try_from(code).ok()?).ok());
    *response.status_mut() = code.ok_or("`statusCode` must be a number from 200 to 599")?;
    match fields.get("headers") {
        None | Some(Value::Null) => {}
        Some(Value::Object(headers)) => {
            for (name, value) in headers {
                let added = add_header(&mut response, name, value);
                added.ok_or_else(|| {
                    format!("the header `{name:.40}` has an invalid name or value")
                })?;
            }
        }
        Some(_) => return Err("`headers` must be an object".to_owned()),
    }
    match fields.get("cookies") {
        None | Some(Value::Null) => {}
        Some(Value::Array(cookies)) => {
            for cookie in cookies {
                let added = add_header(&mut response, SET_COOKIE.as_str(), cookie);
                added.ok_or("a cookie is not valid text")?;
            }
        }
        Some(_) => return Err("`cookies` must be a list".to_owned()),
    }
    Ok(response)
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

/// Returns an error response that the server creates, not the function.
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
        response(&Bytes::from(result.to_string())).ok()
    }

    #[test]
    fn the_invalid_part_of_a_response_is_named() {
        for (result, reason) in [
            (json!({"statusCode": "xx"}), "`statusCode` must be a number from 200 to 599"),
            (json!({"statusCode": 200, "body": 1}), "`body` must be a string"),
            (json!({"statusCode": 200, "headers": []}), "`headers` must be an object"),
            (json!({"statusCode": 200, "headers": {"a b": "c"}}), "the header `a b` has"),
            (json!({"statusCode": 200, "cookies": "a=b"}), "`cookies` must be a list"),
        ] {
            let line = invalid_response(&Bytes::from(result.to_string())).expect("a line");
            assert!(line.starts_with("the function's response is invalid: "), "{line}");
            assert!(line.contains(reason), "{line}");
        }
        assert_eq!(invalid_response(&Bytes::from("{}")), None);
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
        assert!(response(&Bytes::from_static(b"{")).is_err());
    }
}
