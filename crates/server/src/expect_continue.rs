//! Requests with `Expect: 100-continue` whose body is not read.
//!
//! Such a client sends its body only after the response 100. If the response is final instead, it
//! may send the next request at once, and a server that still awaits the body would take the
//! beginning of that request for it. So the connection ends with such a response.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::{CONNECTION, EXPECT};
use axum::http::{HeaderValue, Version};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;

/// Answers a request, and ends the connection if the client was not asked for the body.
pub async fn close_if_unread(request: Request, next: Next) -> Response {
    let expects = request.headers().contains_key(EXPECT) && request.version() < Version::HTTP_2;
    if !expects || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let was_read = Arc::<AtomicBool>::default();
    let read = was_read.clone();
    let request = request.map(|body| {
        Body::new(body.map_frame(move |frame| {
            read.store(true, Ordering::Relaxed);
            frame
        }))
    });
    let mut response = next.run(request).await;
    if !was_read.load(Ordering::Relaxed) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
