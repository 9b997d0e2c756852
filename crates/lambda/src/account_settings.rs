//! The limits of the account and its current usage (`GetAccountSettings`).

use headwater_service::{ARCHIVE_BYTES_MAX, FILES_BYTES_MAX, Service};
use serde_json::{Value, json};

use crate::error::Result;
use crate::request::LambdaRequest;

/// The limit of concurrent calls that clients read. The server does not apply it.
const CONCURRENT_CALLS: u64 = 10_000;

pub(crate) async fn settings(service: &Service, request: &LambdaRequest) -> Result<Value> {
    let functions = service.invocations().standalone().list(&request.principal).await?;
    let size: u64 = functions.iter().map(|function| function.latest.code.bytes).sum();
    let reserved: u64 =
        functions.iter().filter_map(|function| function.concurrency).map(u64::from).sum();
    Ok(json!({
        "AccountLimit": {
            "TotalCodeSize": u64::MAX >> 12,
            "CodeSizeUnzipped": FILES_BYTES_MAX,
            "CodeSizeZipped": ARCHIVE_BYTES_MAX,
            "ConcurrentExecutions": CONCURRENT_CALLS,
            "UnreservedConcurrentExecutions": CONCURRENT_CALLS.saturating_sub(reserved),
        },
        "AccountUsage": {"TotalCodeSize": size, "FunctionCount": functions.len()},
    }))
}
