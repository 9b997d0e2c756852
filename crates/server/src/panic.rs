//! Catches panics of handlers. The response is the error `internal`, the panic is logged, and the
//! server continues.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use futures::FutureExt;
use headwater_model::{ErrorCode, Problem};

use crate::request_protocol::error_response;

/// Converts a panic into a response.
pub async fn catch(request: Request, next: Next) -> Response {
    let uri = request.uri().clone();
    let path = uri.path().to_owned();
    // After a panic, the state of the request is dropped, so no code sees it in an inconsistent
    // form.
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    answer.unwrap_or_else(|payload| {
        let mut problem = Problem::new(ErrorCode::Internal, format!("`{path}` panicked"))
            .with_hint("Report this error together with the server's log.");
        problem.causes.push(describe(&*payload));
        error_response(&uri, problem)
    })
}

fn describe(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_internal_error() {
        let broken = async || {
            let number = "none".parse::<u8>();
            number.expect("a number").to_string()
        };
        let router: Router =
            Router::new().route("/", get(broken)).layer(axum::middleware::from_fn(catch));
        let request = Request::builder().uri("/").body(Body::empty()).expect("a request");
        let response = router.oneshot(request).await.expect("an answer");
        assert_eq!(response.status(), 500);
    }
}
