//! Rules for the `Host` and `Origin` of requests over TCP.
//!
//! A web page can send requests to any address that its browser can reach and, by DNS rebinding,
//! read the responses. So the `Host` must be a loopback name or a configured name. The `Origin`
//! header, with which a browser names the page that sends a request, must be the server's own
//! origin or a configured origin. Pages of configured origins may read responses (CORS).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST,
    ORIGIN, VARY,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use headwater_lambda::URL_ROOT;
use headwater_model::{ErrorCode, Problem};

use crate::network_config::{NetworkConfig, is_loopback_host};
use crate::request_protocol::error_response;

/// Methods and headers that pages of configured origins may send.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
const HEADERS: HeaderValue =
    HeaderValue::from_static("accept, authorization, content-type, x-headwater-author");

/// Response headers that pages of configured origins may read.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("x-headwater-job, x-headwater-next-offset, retry-after");

/// Seconds for which browsers may cache the response to a preflight request.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The accepted hosts and origins of a listener.
#[derive(Debug)]
pub struct HostAndOriginRules {
    hosts: Vec<String>,
    origins: Vec<String>,
    /// The address of the listener; `None` if the listener accepts connections on all addresses of
    /// the machine.
    address: Option<IpAddr>,
    is_tls: bool,
    is_https: bool,
}

/// The origin of the web page that sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebOrigin {
    /// The request comes from no page, or from a page of an accepted origin.
    Own,
    /// The request comes from a page of another origin, which only the URL of a function may
    /// accept.
    Foreign,
}

impl HostAndOriginRules {
    /// Creates the rules of a listener.
    pub fn new(config: &NetworkConfig, address: SocketAddr) -> Self {
        let lower = |host: &String| host.trim_matches(['[', ']']).to_ascii_lowercase();
        HostAndOriginRules {
            hosts: config.hosts.iter().map(lower).collect(),
            origins: config.origins.iter().map(|origin| origin.as_str().to_owned()).collect(),
            address: Some(address.ip()).filter(|address| !address.is_unspecified()),
            is_tls: config.tls.is_some(),
            is_https: config.is_https(),
        }
    }

    /// Returns the origin of a request if it is a configured origin, whose pages may read
    /// responses.
    fn configured_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        let text = origin.to_str().ok()?.to_ascii_lowercase();
        self.origins.contains(&text).then(|| origin.clone())
    }

    fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<WebOrigin, Problem> {
        let host = match uri.authority() {
            Some(authority) => authority.as_str(),
            None => only(headers, HOST).and_then(|host| host.to_str().ok()).unwrap_or(""),
        };
        let Some(name) = host_name(host).filter(|name| self.accepts_host(name)) else {
            let message = format!("the host `{host}` is not a name of this server");
            return Err(Problem::new(ErrorCode::Forbidden, message).with_hint(
                "Address the server as `127.0.0.1`, `[::1]` or `localhost`, or start the server \
                 with `--host NAME`.",
            ));
        };
        let Some(origin) = headers.get(ORIGIN) else { return Ok(WebOrigin::Own) };
        let is_single = headers.get_all(ORIGIN).iter().nth(1).is_none();
        if is_single && origin.to_str().is_ok_and(|origin| self.accepts_origin(origin, host, &name))
        {
            return Ok(WebOrigin::Own);
        }
        if is_function_url(uri) {
            return Ok(WebOrigin::Foreign);
        }
        let origin = String::from_utf8_lossy(origin.as_bytes());
        let message = format!("a page from `{origin}` may not use this server");
        Err(Problem::new(ErrorCode::Forbidden, message).with_hint(
            "Send the request from a program, or start the server with `--allow-origin ORIGIN`.",
        ))
    }

    fn accepts_host(&self, name: &str) -> bool {
        let is_own = |address: IpAddr| Some(address) == self.address;
        is_loopback_host(name)
            || self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
            || name.parse().is_ok_and(is_own)
    }

    /// Returns true if the origin is accepted. `host` is the request's host with the port, which is
    /// already accepted; `name` is the host without the port.
    fn accepts_origin(&self, origin: &str, host: &str, name: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        if self.origins.contains(&origin) {
            return true;
        }
        // Even if a proxy provides `https`, a browser on this machine may load the page directly
        // from this server, by `http`.
        let is_plain = !self.is_tls && (!self.is_https || is_loopback_host(name));
        let own =
            |scheme| origin.strip_prefix(scheme).is_some_and(|it| it.eq_ignore_ascii_case(host));
        (self.is_https && own("https://")) || (is_plain && own("http://"))
    }
}

/// Returns a header that occurs exactly once; `None` for a repeated header, because a proxy and
/// this server might use different values.
pub fn only(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Returns the host without its port, and without the brackets of an IPv6 address.
fn host_name(host: &str) -> Option<String> {
    let authority: Authority = host.parse().ok()?;
    // A `Host` with a user name is invalid.
    if authority.as_str().contains('@') {
        return None;
    }
    Some(authority.host().trim_matches(['[', ']']).to_owned())
}

/// Rejects a request whose host or origin the rules do not accept, and lets pages of configured
/// origins read the response.
pub async fn apply(
    State(rules): State<Arc<HostAndOriginRules>>,
    mut request: Request,
    next: Next,
) -> Response {
    match rules.check(request.uri(), request.headers()) {
        Ok(page) => request.extensions_mut().insert(page),
        Err(problem) => return error_response(request.uri(), problem),
    };
    let configured = rules.configured_origin(request.headers());
    let Some(origin) = configured.filter(|_| !is_function_url(request.uri())) else {
        return next.run(request).await;
    };
    // Browsers send a preflight request before a request with a token. It has no token itself.
    let is_preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if is_preflight { preflight() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.append(VARY, HeaderValue::from_static("origin"));
    response
}

/// Returns true for the URLs of functions, which have their own rules for origins.
fn is_function_url(uri: &Uri) -> bool {
    let rest = uri.path().strip_prefix('/').and_then(|path| path.strip_prefix(URL_ROOT));
    rest.is_some_and(|rest| rest.starts_with('/'))
}

fn preflight() -> Response {
    let allowed = [
        (ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        (ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE),
    ];
    (StatusCode::NO_CONTENT, allowed).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network_config::CertificateSource;

    fn rules(config: &NetworkConfig, address: &str) -> HostAndOriginRules {
        HostAndOriginRules::new(config, address.parse().expect("an address"))
    }

    fn check(rules: &HostAndOriginRules, host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().expect("a header"));
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().expect("a header"));
        }
        rules.check(&Uri::from_static("/v1/query"), &headers).is_ok()
    }

    #[test]
    fn urls_of_functions_have_their_own_rules_for_origins() {
        let rules = rules(&NetworkConfig::default(), "127.0.0.1:4280");
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("localhost:4280"));
        headers.insert(ORIGIN, HeaderValue::from_static("https://shop.example"));
        for (path, accepts) in
            [("/lambda-url/price/a", true), ("/lambda-urls/price", false), ("/v1/query", false)]
        {
            let uri: Uri = path.parse().expect("a path");
            let page = rules.check(&uri, &headers).ok();
            assert_eq!(page, accepts.then_some(WebOrigin::Foreign), "{path}");
        }
        headers.insert(HOST, HeaderValue::from_static("evil.example"));
        let uri = Uri::from_static("/lambda-url/price/");
        rules.check(&uri, &headers).expect_err("another host");
    }

    #[test]
    fn only_loopback_and_configured_hosts_are_accepted() {
        let loopback = rules(&NetworkConfig::default(), "127.0.0.1:4280");
        for host in ["localhost", "LOCALHOST:4280", "127.0.0.1:4280", "127.1.2.3", "[::1]:80"] {
            assert!(check(&loopback, host, None), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example", "192.168.1.2:4280", "a@b c"] {
            assert!(!check(&loopback, host, None), "{host}");
        }
        let hosts = vec!["Lake.example".to_owned(), "[fd00::7]".to_owned()];
        let named = rules(&NetworkConfig { hosts, ..NetworkConfig::default() }, "10.0.0.1:4280");
        for host in ["lake.example", "LAKE.example:1", "[fd00::7]:4280", "10.0.0.1", "localhost"] {
            assert!(check(&named, host, None), "{host}");
        }
        for host in ["evil.lake.example", "10.0.0.2", "eva@lake.example", "0.0.0.0"] {
            assert!(!check(&named, host, None), "{host}");
        }
        assert!(!check(&rules(&NetworkConfig::default(), "0.0.0.0:1"), "0.0.0.0:1", None));
    }

    #[test]
    fn only_the_servers_own_and_configured_origins_are_accepted() {
        let plain = rules(&NetworkConfig::default(), "127.0.0.1:4280");
        assert!(check(&plain, "localhost:4280", Some("http://localhost:4280")));
        for origin in ["https://evil.example", "null", "http://localhost:3000", ""] {
            assert!(!check(&plain, "localhost:4280", Some(origin)), "{origin}");
        }
        let config = NetworkConfig {
            tls: Some(CertificateSource::SelfSigned),
            hosts: vec!["lake.example".to_owned()],
            origins: vec!["https://app.example".parse().expect("an origin")],
            ..NetworkConfig::default()
        };
        let tls = rules(&config, "0.0.0.0:4280");
        for origin in ["https://lake.example:4280", "https://app.example", "HTTPS://APP.example"] {
            assert!(check(&tls, "lake.example:4280", Some(origin)), "{origin}");
        }
        for origin in ["http://lake.example:4280", "https://lake.example", "http://app.example"] {
            assert!(!check(&tls, "lake.example:4280", Some(origin)), "{origin}");
        }
        let proxied = NetworkConfig { tls: None, behind_proxy: true, ..config };
        let proxied = rules(&proxied, "127.0.0.1:4280");
        assert!(check(&proxied, "lake.example", Some("https://lake.example")));
        assert!(!check(&proxied, "lake.example", Some("http://lake.example")));
        assert!(check(&proxied, "localhost:4280", Some("http://localhost:4280")));
    }
}
