//! HTTP destinations: a POST request for each record or result.
//!
//! The connection uses only addresses that the policy of the user allows. Redirects are not
//! followed and proxies are not used, because they could lead to another address.

use std::time::Duration;

use headwater_model::Problem;
use headwater_triggers::{ConnectionPolicy, ServerAddress};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode, redirect};
use serde_json::{Value, json};
use url::Url;

use crate::address_parts::{self, AddressOptions, invalid};
use crate::payload::IdentifiedPayload;
use crate::send_failure::{chain, excerpt, rejected, temporary};

/// The header with the id of the event.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

const TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of bytes of a response that are read.
const RESPONSE_BYTES_MAX: usize = 4 << 10;

/// Headers that the HTTP client itself sets.
const RESERVED: [&str; 6] =
    ["connection", "content-length", "content-type", "host", IDEMPOTENCY_KEY, "transfer-encoding"];

/// A URL that receives records or results, with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpEndpoint {
    url: Url,
    secret: Option<String>,
    /// The header that contains the secret; `None` for `Authorization: Bearer SECRET`.
    header: Option<HeaderName>,
    timeout: Duration,
}

impl HttpEndpoint {
    /// Parses a URL. Its fragment contains the options.
    pub(crate) fn parse(address: &str) -> Result<Self, Problem> {
        let mut url = address_parts::url(address, "https://example.com/hook#secret=TOKEN")?;
        if !url.username().is_empty() {
            let hint = "Remove the user; send a token with `#secret=NAME`.";
            return Err(invalid("it contains a user", hint));
        }
        let known = ["secret", "header", "timeout"];
        let mut options = AddressOptions::parse(url.fragment(), &known)?;
        url.set_fragment(None);
        let secret = options.secret()?;
        let header = options.one("header")?.map(|name| header(&name)).transpose()?;
        if header.is_some() && secret.is_none() {
            let hint = "Add `secret=NAME`, whose value is sent in the header.";
            return Err(invalid("`header` is set, but `secret` is not", hint));
        }
        Ok(HttpEndpoint { url, secret, header, timeout: options.timeout(TIMEOUT)? })
    }

    pub(crate) fn secret(&self) -> Option<&str> {
        self.secret.as_deref()
    }

    pub(crate) fn server(&self) -> ServerAddress {
        let scheme = if self.url.scheme() == "https" { "https" } else { "http" };
        let port = self.url.port_or_known_default().unwrap_or_default();
        ServerAddress { scheme, host: address_parts::host(&self.url), port }
    }

    /// Sends a record or a result. The response must have a status between 200 and 299.
    pub(crate) async fn send(
        &self,
        content: &IdentifiedPayload<'_>,
        policy: &ConnectionPolicy,
        secret: Option<&str>,
    ) -> Result<Value, Problem> {
        let server = self.server();
        let addresses = policy.resolve(&server).await?;
        let body = content.body().await?;
        let client = Client::builder()
            .user_agent(concat!("headwater/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .tls_built_in_root_certs(server.scheme == "https")
            .timeout(self.timeout)
            .resolve_to_addrs(&server.host, &addresses)
            .build()
            .map_err(|error| temporary(format!("{server}: {}", chain(&error))))?;
        let request = client
            .post(self.url.clone())
            .header(CONTENT_TYPE, body.media_type)
            .header(IDEMPOTENCY_KEY, content.id)
            .body(body.bytes);
        let sent = self.with_secret(request, secret)?.send().await;
        match sent {
            Ok(response) => check_response(&server, response, secret).await,
            Err(error) if error.is_timeout() => {
                let limit = self.timeout.as_secs_f64();
                Err(temporary(format!("{server} does not respond within {limit}s")))
            }
            Err(error) => {
                let reason = chain(&error.without_url());
                Err(temporary(format!("{server} cannot be reached: {reason}")))
            }
        }
    }

    fn with_secret(
        &self,
        request: RequestBuilder,
        secret: Option<&str>,
    ) -> Result<RequestBuilder, Problem> {
        let (Some(name), Some(value)) = (&self.secret, secret) else { return Ok(request) };
        let (header, value) = match &self.header {
            Some(header) => (header.clone(), value.to_owned()),
            None => (AUTHORIZATION, format!("Bearer {value}")),
        };
        let mut value = HeaderValue::from_str(&value).map_err(|_| {
            let message = format!("the value of secret `{name}` cannot be sent in a header");
            rejected(message)
        })?;
        value.set_sensitive(true);
        Ok(request.header(header, value))
    }
}

fn header(name: &str) -> Result<HeaderName, Problem> {
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
        invalid(format_args!("`{name}` is not a name of a header"), "Name a header.")
    })?;
    if RESERVED.contains(&parsed.as_str()) {
        let hint = "Name another header, such as `X-Api-Key`.";
        return Err(invalid(format_args!("the header `{name}` cannot be set"), hint));
    }
    Ok(parsed)
}

async fn check_response(
    server: &ServerAddress,
    mut response: Response,
    secret: Option<&str>,
) -> Result<Value, Problem> {
    let status = response.status();
    if status.is_success() {
        return Ok(json!({"status": status.as_u16()}));
    }
    let mut body = Vec::new();
    while body.len() < RESPONSE_BYTES_MAX
        && let Ok(Some(piece)) = response.chunk().await
    {
        body.extend_from_slice(&piece[..piece.len().min(RESPONSE_BYTES_MAX)]);
    }
    let body = excerpt(&String::from_utf8_lossy(&body), secret);
    let message = if body.is_empty() {
        format!("{server} responds with status {}", status.as_u16())
    } else {
        format!("{server} responds with status {}: {body}", status.as_u16())
    };
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        Err(temporary(message))
    } else {
        Err(rejected(message))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use headwater_model::{Actor, ErrorCode};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::payload::Payload;

    const EVENT: &str = "0191f5d0-0000-7000-8000-000000000001";

    /// Starts a server that answers one request with `response`, or never if `response` is empty.
    async fn server(response: &'static str) -> (String, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let request = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                assert!(stream.read_buf(&mut request).await.expect("bytes") > 0);
            }
            if response.is_empty() {
                let _ = stream.read_buf(&mut request).await;
            }
            stream.write_all(response.as_bytes()).await.expect("sent");
            String::from_utf8(request).expect("text").to_lowercase()
        });
        (format!("http://{address}/hook?a=b"), request)
    }

    async fn send(address: &str, secret: Option<&str>) -> Result<Value, Problem> {
        let json = json!({"version": "1.0"});
        let endpoint = HttpEndpoint::parse(address).expect("an address");
        let content = IdentifiedPayload { id: EVENT, payload: Payload::Record(&json) };
        endpoint.send(&content, &ConnectionPolicy::default(), secret).await
    }

    #[tokio::test]
    async fn a_record_is_posted_with_its_event_and_the_secret() {
        for (options, header) in [
            ("#secret=T", "authorization: bearer s3cr3t"),
            ("#secret=T&header=X-Key", "x-key: s3cr3t"),
        ] {
            let (url, request) = server("HTTP/1.1 204 No Content\r\n\r\n").await;
            let sent = send(&format!("{url}{options}"), Some("S3cr3t")).await.expect("sent");
            assert_eq!(sent, json!({"status": 204}));
            let request = request.await.expect("a request");
            assert!(request.starts_with("post /hook?a=b http/1.1\r\n"), "{request}");
            assert!(request.ends_with("\r\n\r\n{\"version\":\"1.0\"}"), "{request}");
            for line in [header, "content-type: application/json"] {
                assert!(request.contains(&format!("\r\n{line}\r\n")), "{request}");
            }
            assert!(request.contains(&format!("\r\nidempotency-key: {EVENT}\r\n")), "{request}");
        }
        let problem =
            send("http://127.0.0.1:9#secret=T", Some("a\nb")).await.expect_err("rejected");
        assert!(problem.message.contains("secret `T` cannot be sent in a header"), "{problem}");
    }

    #[tokio::test]
    async fn statuses_429_and_5xx_are_retried_and_others_are_not() {
        for (response, is_retryable, shown) in [
            ("HTTP/1.1 429 No\r\ncontent-length: 4\r\n\r\nwait", true, "with status 429: wait"),
            ("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", true, "with status 503"),
            ("HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n", false, "with status 404"),
            (
                "HTTP/1.1 302 No\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
                false,
                "with status 302",
            ),
            ("no HTTP", true, "cannot be reached"),
            ("HTTP/1.1 500 No\r\ncontent-length: 9999\r\n\r\ncut", true, "with status 500: cut"),
        ] {
            let (url, request) = server(response).await;
            let problem = send(&url, None).await.expect_err(response);
            assert_eq!(problem.context["retryable"], is_retryable, "{problem}");
            assert!(
                problem.message.ends_with(shown) || problem.message.contains(shown),
                "{problem}"
            );
            request.await.expect("a request");
        }
        let (url, request) = server("").await;
        let problem = send(&format!("{url}#timeout=100ms"), None).await.expect_err("too late");
        assert!(problem.message.contains("does not respond within 0.1s"), "{problem}");
        assert_eq!(problem.context["retryable"], true);
        request.abort();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let problem = send(&format!("http://{address}"), None).await.expect_err("refused");
        assert!(problem.message.contains("cannot be reached"), "{problem}");
    }

    #[tokio::test]
    async fn a_user_reaches_a_private_address_only_with_a_grant() {
        let json = json!({});
        let content = IdentifiedPayload { id: EVENT, payload: Payload::Record(&json) };
        let allows = |location: &str| location.ends_with("//localhost:1");
        let policy = ConnectionPolicy::restricted(Actor::Anonymous, Arc::new(allows));
        for host in ["127.0.0.1:1", "[::1]:1", "169.254.169.254", "2130706433", "10.0.0.1"] {
            let endpoint = HttpEndpoint::parse(&format!("http://{host}/")).expect("an address");
            let problem = endpoint.send(&content, &policy, None).await.expect_err(host);
            assert_eq!(problem.code, ErrorCode::Forbidden, "{problem}");
        }
        let endpoint = HttpEndpoint::parse("http://localhost:1/").expect("an address");
        let problem = endpoint.send(&content, &policy, None).await.expect_err("no server");
        assert_eq!(problem.code, ErrorCode::Unavailable, "{problem}");
    }
}
