//! Closes connections with an unread request body after `Expect: 100-continue`.
//!
//! With this header, a client sends the body only after it has received status 100. After a final
//! response, the client may send the next request instead of the body. If the server still waited
//! for the body, it would read the next request as the body. So it closes the connection after the
//! response.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::{CONNECTION, EXPECT};
use axum::http::{HeaderValue, Version};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;

/// Calls the next handler. Closes the connection after the response if the client waits for status
/// 100 but no handler has read the body.
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
