//! Disk I/O on threads for blocking operations.

use arrow::error::ArrowError;

/// Runs disk I/O on a thread for blocking operations, and returns its result.
pub async fn run_blocking<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<ArrowError> + Send + 'static,
{
    let lost = |error: tokio::task::JoinError| ArrowError::ExternalError(Box::new(error));
    tokio::task::spawn_blocking(work).await.map_err(lost)?
}
