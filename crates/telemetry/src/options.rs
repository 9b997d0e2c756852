//! The options of the export, in the formats of OpenTelemetry's environment variables. This crate
//! reads no environment variable: the caller passes the values.

use std::fmt;
use std::str::FromStr;

use opentelemetry::KeyValue;
use percent_encoding::percent_decode_str;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::{Error, Result};

/// The path of traces below the URL of a collector.
const TRACES: &str = "/v1/traces";

/// Options of the export.
#[derive(Clone, Default)]
pub struct TelemetryOptions {
    /// The URL of the collector for OTLP over HTTP, for example `http://127.0.0.1:4318`.
    pub endpoint: String,
    /// The name of the service in exported spans.
    pub service: String,
    /// Additional headers of the requests, such as `api-key=secret,tenant=a`.
    pub headers: String,
    /// Additional attributes of the service, such as `deployment.environment.name=test`.
    pub attributes: String,
}

/// Omits the headers and the endpoint, which may contain credentials.
impl fmt::Debug for TelemetryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TelemetryOptions").field("service", &self.service).finish_non_exhaustive()
    }
}

impl TelemetryOptions {
    /// Returns the URL for traces. The path of traces is added to the URL of a collector, as the
    /// standard requires for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub(crate) fn url(&self) -> Result<Url> {
        let invalid = || Error::InvalidEndpoint { url: without_login(&self.endpoint) };
        let mut url = Url::parse(&self.endpoint).map_err(|_| invalid())?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(invalid());
        }
        let path = url.path().trim_end_matches('/').to_owned();
        if !path.ends_with(TRACES) {
            url.set_path(&format!("{path}{TRACES}"));
        }
        Ok(url)
    }

    /// Returns the additional headers.
    pub(crate) fn header_map(&self) -> Result<HeaderMap> {
        let invalid = || Error::InvalidList { what: "headers" };
        let mut headers = HeaderMap::new();
        for (name, value) in pairs(&self.headers).ok_or_else(invalid)? {
            let name = HeaderName::from_str(&name).map_err(|_| invalid())?;
            let mut value = HeaderValue::from_str(&value).map_err(|_| invalid())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }

    /// Returns the attributes of the service. The option for its name takes precedence over an
    /// attribute with the name.
    pub(crate) fn resource_attributes(&self) -> Result<Vec<KeyValue>> {
        let pairs = pairs(&self.attributes).ok_or(Error::InvalidList { what: "attributes" })?;
        let mut all: Vec<KeyValue> =
            pairs.into_iter().map(|(name, value)| KeyValue::new(name, value)).collect();
        all.push(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        all.push(KeyValue::new("service.name", self.service.clone()));
        Ok(all)
    }
}

/// Parses a list such as `name=value,name=value`, with values in percent-encoding. Returns `None`
/// if it is invalid.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let name = name.trim();
        (!name.is_empty()).then(|| (name.to_owned(), value.into_owned()))
    };
    parts.map(pair).collect()
}

/// Returns a URL without its user and password.
fn without_login(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        (None, Some((_, rest))) => rest.to_owned(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use headwater_model::ToProblem;

    use super::*;

    fn options(endpoint: &str) -> TelemetryOptions {
        TelemetryOptions { endpoint: endpoint.to_owned(), ..TelemetryOptions::default() }
    }

    #[test]
    fn the_path_of_traces_is_added_once() {
        for (given, expected) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
            ("https://c.example/otlp/", "https://c.example/otlp/v1/traces"),
            ("https://c.example/v1/traces", "https://c.example/v1/traces"),
        ] {
            assert_eq!(options(given).url().expect("a URL").as_str(), expected);
        }
        for given in ["", "127.0.0.1:4318", "ftp://c.example", "localhost:4318"] {
            options(given).url().expect_err(given);
        }
    }

    #[test]
    fn lists_are_parsed_as_in_the_standard() {
        let parsed = pairs("a=1, b = x%2Cy=z ,,").expect("a list");
        assert_eq!(parsed, [("a".into(), "1".into()), ("b".into(), "x,y=z".into())]);
        assert_eq!(pairs("").map(|all| all.len()), Some(0));
        for invalid in ["a", "=1", "a=%FF"] {
            assert_eq!(pairs(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn messages_and_debug_output_contain_no_secrets() {
        let headers = "api-key=hush%0A".to_owned();
        let options = TelemetryOptions { headers, ..options("ftp://user:hush@c.example") };
        let texts = [
            format!("{options:?}"),
            options.url().expect_err("a scheme").to_string(),
            options.header_map().expect_err("a line break").to_problem().to_string(),
        ];
        assert!(texts.iter().all(|text| !text.contains("hush")), "{texts:?}");
        let headers = "api-key=hush".to_owned();
        let options = TelemetryOptions { headers, ..TelemetryOptions::default() };
        let headers = options.header_map().expect("headers");
        assert_eq!(headers["api-key"], "hush");
        assert!(!format!("{headers:?}").contains("hush"), "{headers:?}");
    }
}
