//! The event of a request to a function URL, in version 2.0 of API Gateway's payload format.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, USER_AGENT};
use http::request::Parts;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::function_name::ACCOUNT;
use crate::request::parse_query;

/// The route and the stage, which are the same in all events.
const ROUTE: &str = "$default";

/// Name prefix of the console's cookies, and the header with the console's session key.
const CONSOLE_COOKIE: &str = "headwater-";
const CONSOLE_HEADER: &str = "x-headwater-session";

/// A request to a function URL.
pub(crate) struct UrlRequest<'a> {
    pub parts: &'a Parts,
    pub body: &'a Bytes,
    /// The path below the URL, with its first slash.
    pub path: &'a str,
    pub address: Option<IpAddr>,
    /// The user that signed the request, and its access key; `None` without authentication.
    pub signer: Option<(String, String)>,
    /// The scheme of the URL: `http` or `https`.
    pub scheme: &'static str,
    /// The function's name.
    pub function: &'a str,
    pub id: Uuid,
}

impl UrlRequest<'_> {
    /// Returns the event with which the function is called.
    pub fn event(&self, now: DateTime<Utc>) -> Value {
        let query = self.parts.uri.query().unwrap_or_default();
        let cookies = self.cookies();
        let mut event = json!({
            "version": "2.0",
            "routeKey": ROUTE,
            "rawPath": self.path,
            "rawQueryString": query,
            "headers": self.headers(now),
            "requestContext": self.context(now),
            "isBase64Encoded": false,
        });
        if !cookies.is_empty() {
            event["cookies"] = json!(cookies);
        }
        if !query.is_empty() {
            event["queryStringParameters"] = Value::Object(joined(parse_query(query)));
        }
        if !self.body.is_empty() {
            match std::str::from_utf8(self.body) {
                Ok(text) if self.is_text() => event["body"] = text.into(),
                _ => {
                    event["body"] = STANDARD.encode(self.body).into();
                    event["isBase64Encoded"] = true.into();
                }
            }
        }
        event
    }

    fn header(&self, name: &http::HeaderName) -> &str {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Returns the headers of the request and the headers that AWS adds. Omits credentials for this
    /// server, which the function must not receive.
    fn headers(&self, now: DateTime<Utc>) -> Map<String, Value> {
        let is_hidden = |name: &str| {
            name == COOKIE.as_str()
                || name == CONSOLE_HEADER
                || (name == AUTHORIZATION.as_str() && self.signer.is_some())
        };
        let shown = self.parts.headers.iter().filter(|(name, _)| !is_hidden(name.as_str()));
        let pair = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let (address, scheme) = (self.address.map(|address| address.to_string()), self.scheme);
        let added = [
            ("x-forwarded-for", address),
            ("x-forwarded-port", Some(self.port())),
            ("x-forwarded-proto", Some(scheme.to_owned())),
            ("x-amzn-trace-id", Some(self.trace(now))),
        ];
        // Append the client's address to the client's `x-forwarded-for`. The other added headers
        // replace the client's headers.
        let is_replaced =
            |name: &str| name != "x-forwarded-for" && added.iter().any(|(added, _)| *added == name);
        let shown = shown.map(pair).filter(|(name, _)| !is_replaced(name));
        let mut headers = joined(shown.chain(
            added.iter().filter_map(|(name, value)| Some(((*name).to_owned(), value.clone()?))),
        ));
        let cookies = self.cookies();
        if !cookies.is_empty() {
            headers.insert("cookie".to_owned(), cookies.join("; ").into());
        }
        headers
    }

    /// Returns the port of the URL.
    fn port(&self) -> String {
        let host: Option<http::uri::Authority> = self.header(&HOST).parse().ok();
        let usual = if self.scheme == "https" { 443 } else { 80 };
        host.and_then(|host| host.port_u16()).unwrap_or(usual).to_string()
    }

    /// Returns a trace id in the format of AWS X-Ray: time, and 24 digits of the request's id.
    fn trace(&self, now: DateTime<Utc>) -> String {
        let id = self.id.simple().to_string();
        format!("Root=1-{:08x}-{}", now.timestamp(), &id[..24])
    }

    /// Returns the cookies, without the console's session cookies, which functions must not
    /// receive.
    fn cookies(&self) -> Vec<String> {
        let values = self.parts.headers.get_all(COOKIE).iter();
        let texts: Vec<String> =
            values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
        let cookies = texts.iter().flat_map(|text| text.split(';')).map(str::trim);
        let shown = cookies.filter(|one| !one.is_empty() && !one.starts_with(CONSOLE_COOKIE));
        shown.map(str::to_owned).collect()
    }

    fn context(&self, now: DateTime<Utc>) -> Value {
        let host = self.header(&HOST);
        let address = self.address.map(|address| address.to_string()).unwrap_or_default();
        let mut context = json!({
            "accountId": "anonymous",
            "apiId": self.function,
            "domainName": host,
            "domainPrefix": host.split('.').next().unwrap_or_default(),
            "http": {
                "method": self.parts.method.as_str(),
                "path": self.path,
                "protocol": format!("{:?}", self.parts.version),
                "sourceIp": address,
                "userAgent": self.header(&USER_AGENT),
            },
            "requestId": self.id.to_string(),
            "routeKey": ROUTE,
            "stage": ROUTE,
            "time": now.format("%d/%b/%Y:%H:%M:%S +0000").to_string(),
            "timeEpoch": now.timestamp_millis(),
        });
        if let Some((user, key)) = &self.signer {
            context["accountId"] = ACCOUNT.into();
            context["authorizer"] = json!({"iam": {
                "accessKey": key,
                "accountId": ACCOUNT,
                "callerId": user,
                "userArn": format!("arn:aws:iam::{ACCOUNT}:user/{user}"),
                "userId": user,
            }});
        }
        context
    }

    /// Returns true if the content type of the body is a text type.
    fn is_text(&self) -> bool {
        let kind = self.header(&CONTENT_TYPE).split(';').next().unwrap_or_default();
        let kind = kind.trim().to_ascii_lowercase();
        kind.is_empty()
            || kind.starts_with("text/")
            || kind.ends_with("+json")
            || kind.ends_with("+xml")
            || matches!(
                kind.as_str(),
                "application/json" | "application/javascript" | "application/xml"
            )
    }
}

/// Joins the values of each name with commas.
fn joined(pairs: impl IntoIterator<Item = (String, String)>) -> Map<String, Value> {
    let mut values: Map<String, Value> = Map::new();
    for (name, value) in pairs {
        let text = match values.get(&name).and_then(Value::as_str) {
            Some(before) => format!("{before},{value}"),
            None => value,
        };
        values.insert(name, text.into());
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(request: http::request::Builder, body: &'static [u8], signed: bool) -> Value {
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let request = UrlRequest {
            parts: &parts,
            body: &Bytes::from_static(body),
            path: "/a/b",
            address: Some("10.0.0.9".parse().expect("an address")),
            signer: signed.then(|| ("ana".to_owned(), "AKID".to_owned())),
            function: "price",
            scheme: "https",
            id: Uuid::from_u128(7 << 64),
        };
        request.event("2026-03-01T09:05:07Z".parse().expect("a time"))
    }

    #[test]
    fn a_request_becomes_an_event_of_version_2() {
        let request = http::Request::post("http://h/lambda-url/price/a/b?x=1&x=2&y=%20z")
            .header("host", "lake.example.com:8443")
            .header("x-forwarded-for", "1.2.3.4")
            .header("x-forwarded-proto", "forged")
            .header("content-type", "application/json; charset=utf-8")
            .header("cookie", "a=1; headwater-8321=secret")
            .header("cookie", "b=2")
            .header("x-headwater-session", "secret")
            .header("x-many", "one")
            .header("x-many", "two")
            .header("authorization", "Bearer mine");
        let event = event(request, b"{\"n\": 1}", false);
        assert_eq!((&event["version"], &event["rawPath"]), (&json!("2.0"), &json!("/a/b")));
        assert_eq!(event["rawQueryString"], "x=1&x=2&y=%20z");
        assert_eq!(event["queryStringParameters"], json!({"x": "1,2", "y": " z"}));
        assert_eq!(event["cookies"], json!(["a=1", "b=2"]));
        assert_eq!(event["headers"]["x-many"], "one,two");
        assert_eq!(event["headers"]["authorization"], "Bearer mine");
        assert_eq!(event["headers"]["cookie"], "a=1; b=2");
        assert_eq!(event["headers"]["x-forwarded-for"], "1.2.3.4,10.0.0.9");
        assert_eq!(event["headers"]["x-forwarded-port"], "8443");
        assert_eq!(event["headers"]["x-forwarded-proto"], "https");
        let trace = "Root=1-69a40143-000000000000000700000000";
        assert_eq!(event["headers"]["x-amzn-trace-id"], trace);
        assert!(!event.to_string().contains("secret"), "{event}");
        assert_eq!(
            (&event["body"], &event["isBase64Encoded"]),
            (&json!("{\"n\": 1}"), &json!(false))
        );
        let context = &event["requestContext"];
        assert_eq!(context["http"]["method"], "POST");
        assert_eq!(context["http"]["sourceIp"], "10.0.0.9");
        assert_eq!(context["time"], "01/Mar/2026:09:05:07 +0000");
        assert_eq!(context["domainPrefix"], "lake");
        assert_eq!(context["accountId"], "anonymous");
    }

    #[test]
    fn other_bodies_are_base64_and_signatures_are_hidden() {
        for (kind, body, expected) in [
            ("application/octet-stream", &b"abc"[..], json!("YWJj")),
            ("text/plain", b"\xff\xfe", json!("//4=")),
            ("application/x-www-form-urlencoded", b"a=b", json!("YT1i")),
        ] {
            let request = http::Request::post("http://h/").header("content-type", kind);
            let event = event(request.header("authorization", "AWS4-HMAC-SHA256 x"), body, true);
            assert_eq!((&event["body"], &event["isBase64Encoded"]), (&expected, &json!(true)));
            assert_eq!(event["headers"].get("authorization"), None);
            assert_eq!(event["requestContext"]["authorizer"]["iam"]["userId"], "ana");
        }
        let event = event(http::Request::get("http://h/"), b"", false);
        assert_eq!((event.get("body"), event.get("cookies")), (None, None));
    }
}
