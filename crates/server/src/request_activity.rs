//! Activity of the server: the number of requests in progress, and the time of the last request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use headwater_metrics::{RequestMetrics, method_label};
use headwater_telemetry::{SpanTimer, Telemetry, TraceContext, in_scope};
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;

/// Status in the metrics of a request whose client disconnected before the response; nginx uses the
/// same code.
const DISCONNECTED: u16 = 499;

/// Name of all unknown methods in traces, as in OpenTelemetry's conventions.
const OTHER_METHOD: &str = "_OTHER";

/// Routes whose requests get no trace spans.
const UNTRACED: [&str; 2] = ["/health", "/metrics"];

/// A counter of requests in progress, and the metrics of requests. Clones share the counter and the
/// metrics.
#[derive(Debug, Clone)]
pub struct RequestActivity {
    count: Arc<Mutex<RequestCount>>,
    pub metrics: RequestMetrics,
    telemetry: Telemetry,
    /// The route under which the metrics count requests that match no route.
    unmatched: &'static str,
}

#[derive(Debug)]
struct RequestCount {
    in_progress: usize,
    last: Instant,
}

impl RequestActivity {
    /// Creates the counter of a server.
    pub fn new(telemetry: Telemetry) -> Self {
        let count = Arc::new(Mutex::new(RequestCount { in_progress: 0, last: Instant::now() }));
        RequestActivity {
            count,
            metrics: RequestMetrics::default(),
            telemetry,
            unmatched: "unmatched",
        }
    }

    /// Returns a handle for a protocol without routes, whose requests are counted under its name.
    pub fn of_protocol(&self, name: &'static str) -> Self {
        RequestActivity { unmatched: name, ..self.clone() }
    }

    /// Counts a request as in progress until the guard is dropped.
    pub fn begin(&self) -> ActiveRequest {
        self.count.lock().in_progress += 1;
        ActiveRequest(self.clone())
    }

    /// Returns the time since the end of the last request; zero while a request is in progress.
    pub fn idle(&self) -> Duration {
        let count = self.count.lock();
        if count.in_progress == 0 { count.last.elapsed() } else { Duration::ZERO }
    }
}

/// A guard that counts a request as in progress until it is dropped.
#[derive(Debug)]
pub struct ActiveRequest(RequestActivity);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let mut count = self.0.count.lock();
        count.in_progress -= 1;
        count.last = Instant::now();
    }
}

/// Counts a request from the receipt of its head until the last byte of its response.
pub async fn count(
    State(activity): State<RequestActivity>,
    request: Request,
    next: Next,
) -> Response {
    let busy = activity.begin();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or(activity.unmatched, MatchedPath::as_str);
    let mut measured = MeasuredRequest::begin(&activity, &request, route);
    let RequestTrace { span, context } = begin_trace(&activity, &request, route);
    let response = match context {
        Some(_) => in_scope(context, next.run(request)).await,
        None => next.run(request).await,
    };
    let status = response.status().as_u16();
    measured.status = status;
    drop(measured);
    if let Some(mut span) = span {
        span.set("http.response.status_code", i64::from(status));
        span.end(response.status().is_server_error().then(|| format!("status {status}")));
    }
    response.map(|body| Body::new(ActiveBody { body, _busy: busy }))
}

/// The measurement of one request, which is added to the metrics when this value is dropped.
struct MeasuredRequest<'a> {
    activity: &'a RequestActivity,
    route: &'a str,
    method: Method,
    began: Instant,
    status: u16,
}

impl<'a> MeasuredRequest<'a> {
    fn begin(activity: &'a RequestActivity, request: &Request, route: &'a str) -> Self {
        let (method, began) = (request.method().clone(), Instant::now());
        MeasuredRequest { activity, route, method, began, status: DISCONNECTED }
    }
}

impl Drop for MeasuredRequest<'_> {
    fn drop(&mut self) {
        let (method, elapsed) = (self.method.as_str(), self.began.elapsed());
        self.activity.metrics.answered(self.route, method, self.status, elapsed);
    }
}

/// The span of a request, and the parent of further spans.
#[derive(Default)]
struct RequestTrace {
    span: Option<SpanTimer>,
    /// Parent of the spans of the work for this request: the request's own span, or the client's
    /// span if the client requests that its trace is not recorded.
    context: Option<TraceContext>,
}

/// Begins the trace span of a request. The parent is the span in the request's headers, if any.
/// Requests for the server's health and metrics have no spans.
fn begin_trace(activity: &RequestActivity, request: &Request, route: &str) -> RequestTrace {
    if !activity.telemetry.is_on() || UNTRACED.contains(&route) {
        return RequestTrace::default();
    }
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let parent = header("traceparent").and_then(TraceContext::parse);
    let parent = parent.or_else(|| TraceContext::parse_xray(header("x-amzn-trace-id")?));
    let method = method_label(request.method().as_str()).unwrap_or(OTHER_METHOD);
    let mut span = activity.telemetry.begin_request(parent, format!("{method} {route}"));
    if let Some(span) = &mut span {
        span.set("http.request.method", method);
        span.set("http.route", route.to_owned());
    }
    let context = span.as_ref().and_then(SpanTimer::context).or(parent);
    RequestTrace { span, context }
}

/// A response body that counts as activity until it is dropped. It keeps the size hint of the
/// original body: a body of known size is written at once, without a write timeout.
struct ActiveBody {
    body: Body,
    _busy: ActiveRequest,
}

impl HttpBody for ActiveBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use headwater_metrics::{Exposition, MetricsFormat};
    use headwater_telemetry::TelemetryOptions;

    use super::*;

    #[test]
    fn a_request_in_progress_is_activity() {
        let activity = RequestActivity::new(Telemetry::default());
        let first = activity.begin();
        let second = activity.begin();
        drop(first);
        assert_eq!(activity.idle(), Duration::ZERO);
        drop(second);
        assert!(activity.idle() < Duration::from_secs(60));
    }

    #[test]
    fn a_request_without_a_response_is_counted_as_disconnected() {
        let activity = RequestActivity::new(Telemetry::default());
        let request = Request::new(Body::empty());
        drop(MeasuredRequest::begin(&activity, &request, "/a"));
        let exposition = Exposition { requests: activity.metrics.clone(), ..Exposition::default() };
        let text = exposition.encode(MetricsFormat::Prometheus).expect("text");
        let name = "headwater_http_requests_total{method=\"GET\",route=\"/a\",status=\"499\"} 1";
        assert!(text.lines().any(|line| line == name), "{text}");
    }

    #[test]
    fn requests_continue_the_trace_of_their_client() {
        let endpoint = "http://127.0.0.1:9".to_owned();
        let options = TelemetryOptions { endpoint, ..TelemetryOptions::default() };
        let activity = RequestActivity::new(Telemetry::start(&options).expect("an export"));
        let trace = |header: Option<&'static str>, route: &str| {
            let mut request = Request::new(Body::empty());
            if let Some(header) = header {
                request.headers_mut().insert("traceparent", HeaderValue::from_static(header));
            }
            begin_trace(&activity, &request, route)
        };
        let recorded = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let id = TraceContext::parse(recorded).expect("a context").trace;
        let RequestTrace { span, context } = trace(Some(recorded), "/a");
        assert!(span.is_some() && context.is_some_and(|context| context.trace == id));
        // If the client requests that its trace is not recorded, the server starts no other trace.
        let RequestTrace { span, context } =
            trace(Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"), "/a");
        assert!(span.is_none() && context.is_some_and(|context| !context.is_sampled));
        // Without a valid header, the request starts a new trace.
        for header in [None, Some("00-0-0-01"), Some("")] {
            let RequestTrace { span, context } = trace(header, "/a");
            assert!(span.is_some() && context.is_some_and(|context| context.trace != id));
        }
        let RequestTrace { span, context } = trace(Some(recorded), "/health");
        assert!(span.is_none() && context.is_none());
    }

    #[test]
    fn a_complete_body_keeps_its_size_hint() {
        let activity = RequestActivity::new(Telemetry::default());
        let answer = ActiveBody { body: Body::from("{}"), _busy: activity.begin() };
        assert_eq!(answer.size_hint().exact(), Some(2));
        assert_eq!(activity.idle(), Duration::ZERO);
    }
}
