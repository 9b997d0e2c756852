//! The client of a collector: OTLP over HTTP, with protobuf.
//!
//! The crate `opentelemetry-otlp` reads environment variables and rejects some of their values, so
//! this client sends the messages of `opentelemetry-proto` itself.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use prost::Message as _;
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use url::Url;

use crate::{Error, Result, TelemetryOptions};

/// Time limit of one request, and of a batch with all its attempts.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of attempts to send a batch.
const ATTEMPTS_MAX: u32 = 4;

/// The pause after the first attempt. It doubles with each attempt.
const PAUSE: Duration = Duration::from_millis(100);

/// Maximum number of bytes of a response that are read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The client of a collector.
pub(crate) struct CollectorClient {
    client: reqwest::Client,
    url: Url,
    resource: ResourceAttributesWithSchema,
}

/// A failed attempt.
struct ExportFailure {
    reason: String,
    /// True if another attempt may succeed.
    is_temporary: bool,
}

impl CollectorClient {
    pub(crate) fn new(options: &TelemetryOptions) -> Result<Self> {
        let url = options.url()?;
        let client = reqwest::Client::builder()
            .timeout(EXPORT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(options.header_map()?)
            // Use no proxy. Otherwise, the client would read the environment variables for proxies.
            .no_proxy()
            .build()
            .map_err(|error| Error::Exporter { reason: error.to_string() })?;
        // Use an empty builder, because the default builder reads environment variables.
        let resource = Resource::builder_empty();
        let resource = resource.with_attributes(options.resource_attributes()?).build();
        Ok(CollectorClient { client, url, resource: (&resource).into() })
    }

    /// Sends spans. Returns the number of spans that the collector rejected, or the reason why it
    /// received no spans.
    pub(crate) async fn export(&self, spans: Vec<SpanData>) -> std::result::Result<u64, String> {
        let resource_spans = group_spans_by_resource_and_scope(spans, &self.resource);
        let body = Bytes::from(ExportTraceServiceRequest { resource_spans }.encode_to_vec());
        let attempts = async {
            let (mut attempt, mut pause) = (1, PAUSE);
            loop {
                match self.send(body.clone()).await {
                    Err(failure) if failure.is_temporary && attempt < ATTEMPTS_MAX => {
                        tokio::time::sleep(pause).await;
                        (attempt, pause) = (attempt + 1, pause * 2);
                    }
                    sent => return sent.map_err(|failure| failure.reason),
                }
            }
        };
        let late = |_| Err("the collector did not respond in time".to_owned());
        tokio::time::timeout(EXPORT_TIMEOUT, attempts).await.unwrap_or_else(late)
    }

    async fn send(&self, body: Bytes) -> std::result::Result<u64, ExportFailure> {
        let request = self.client.post(self.url.clone()).body(body);
        let request = request.header(CONTENT_TYPE, "application/x-protobuf");
        let failed = |error| ExportFailure { reason: reason(error), is_temporary: true };
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            let reason = format!("the collector responded with status {}", status.as_u16());
            return Err(ExportFailure { reason, is_temporary: is_temporary(status) });
        }
        let mut answer = Vec::new();
        while let Ok(Some(part)) = response.chunk().await {
            if answer.len() + part.len() > ANSWER_BYTES_MAX {
                return Ok(0);
            }
            answer.extend_from_slice(&part);
        }
        Ok(rejected_spans(&answer))
    }
}

/// Returns the message of an error with its causes. The URL is omitted, because it may contain
/// credentials.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(found) = cause {
        text = format!("{text}: {found}");
        cause = found.source();
    }
    text
}

/// Returns true for the statuses that the standard defines as temporary.
fn is_temporary(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// Returns the number of rejected spans in the response of a collector.
fn rejected_spans(answer: &[u8]) -> u64 {
    let response = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
    let rejected = response.partial_success.map(|partial| partial.rejected_spans);
    u64::try_from(rejected.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use headwater_metrics::{SpanExportMetrics, SpanExportResult};
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    use super::*;
    use crate::Telemetry;

    /// Reads a request and returns its head.
    fn read_request(stream: &mut TcpStream) -> String {
        let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
        loop {
            let count = stream.read(&mut part).expect("bytes");
            assert!(count > 0, "the request is incomplete");
            bytes.extend_from_slice(&part[..count]);
            let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
            let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.expect("a length").trim().parse().expect("a number");
            if bytes.len() >= head.len() + 4 + length {
                return head.to_owned();
            }
        }
    }

    /// Starts a collector that sends one of the responses to each request. Returns its URL, and a
    /// thread that returns the heads of the requests after the last response.
    fn collector(answers: Vec<Vec<u8>>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let serve = move || {
            let answer = |answer: Vec<u8>| {
                let (mut stream, _) = listener.accept().expect("a connection");
                let head = read_request(&mut stream);
                stream.write_all(&answer).expect("a response");
                head
            };
            answers.into_iter().map(answer).collect()
        };
        (url, std::thread::spawn(serve))
    }

    fn response(status: &str, body: &[u8]) -> Vec<u8> {
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        [head.as_bytes(), body].concat()
    }

    fn options(endpoint: String) -> TelemetryOptions {
        let headers = "api-key=hush".to_owned();
        TelemetryOptions { endpoint, headers, ..TelemetryOptions::default() }
    }

    async fn counts(telemetry: &Telemetry) -> String {
        telemetry.flush(Duration::from_secs(20)).await;
        format!("{:?}", telemetry.metrics().expect("metrics"))
    }

    #[tokio::test]
    async fn a_batch_is_sent_again_after_a_temporary_failure() {
        let partial = ExportTracePartialSuccess { rejected_spans: 1, ..Default::default() };
        let partial = ExportTraceServiceResponse { partial_success: Some(partial) };
        let answers = vec![
            response("503 Service Unavailable", b""),
            response("200 OK", &partial.encode_to_vec()),
        ];
        let (url, served) = collector(answers);
        let telemetry = Telemetry::start(&options(url)).expect("an export");
        for _ in 0..3 {
            telemetry.begin_request(None, "GET /").expect("a span").end(None);
        }
        let expected = SpanExportMetrics::default();
        expected.count(SpanExportResult::Exported, 2);
        expected.count(SpanExportResult::Failed, 1);
        assert_eq!(counts(&telemetry).await, format!("{expected:?}"));
        for head in served.join().expect("two requests") {
            assert!(head.starts_with("post /v1/traces "), "{head}");
            assert!(head.contains("api-key: hush"), "{head}");
        }
    }

    #[tokio::test]
    async fn a_batch_is_not_sent_again_after_a_permanent_failure() {
        let (url, served) = collector(vec![response("400 Bad Request", b"")]);
        let telemetry = Telemetry::start(&options(url)).expect("an export");
        telemetry.begin_request(None, "GET /").expect("a span").end(None);
        let expected = SpanExportMetrics::default();
        expected.count(SpanExportResult::Failed, 1);
        assert_eq!(counts(&telemetry).await, format!("{expected:?}"));
        assert_eq!(served.join().expect("one request").len(), 1);
    }

    #[tokio::test]
    async fn a_full_queue_drops_spans_and_does_not_wait() {
        // The address accepts connections and never responds.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let telemetry = Telemetry::start(&options(url)).expect("an export");
        let began = std::time::Instant::now();
        for _ in 0..20_000 {
            telemetry.begin_request(None, "GET /").expect("a span").end(None);
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let began = std::time::Instant::now();
        telemetry.flush(Duration::from_millis(50)).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let metrics = telemetry.metrics().expect("metrics");
        let none = format!("{:?}", SpanExportMetrics::default());
        assert_ne!(format!("{metrics:?}"), none, "spans were dropped");
    }
}
