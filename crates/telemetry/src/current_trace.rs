//! The trace of the request that the current task handles.

use crate::TraceContext;

tokio::task_local! {
    static CURRENT: Option<TraceContext>;
}

/// Runs a future in the scope of a span: jobs that the future starts are children of this span.
pub async fn in_scope<T>(context: Option<TraceContext>, work: impl Future<Output = T>) -> T {
    CURRENT.scope(context, work).await
}

/// Returns a future that runs in the current scope, even if another task polls it.
pub fn with_current<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    in_scope(current(), work)
}

/// Returns the span of the current scope; `None` outside the scope of a span.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|current| *current).ok().flatten()
}
