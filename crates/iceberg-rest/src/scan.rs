//! Scans that the server plans for a client.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use headwater_model::{ErrorCode, Problem};
use headwater_service::Service;
use headwater_service::iceberg::{PlannedScan, ScanPage, ScanTarget, StorageAccess};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::IcebergError;
use crate::catalog_change_request::CatalogChangeRequest;
use crate::error::HandlerResult;
use crate::request_context::RequestContext;
use crate::request_path::RequestPath;
use crate::storage_access::{self, storage_credentials};

/// Maximum length of a request to plan a scan, in bytes.
pub const BODY_BYTES_MAX: usize = 4 << 20;

/// Plans a scan.
pub async fn plan(
    State(service): State<Service>,
    change: CatalogChangeRequest,
) -> HandlerResult<Response> {
    // Only check the content type and the JSON. Discard the parsed value, because the service
    // parses the request again for each page.
    let _: Value = change.parse()?;
    let target = target(&change.path)?;
    let scan = service.iceberg().plan_scan(&change.principal, target, &change.body).await;
    let scan = scan.map_err(|problem| IcebergError::from(problem).for_scan())?;
    Ok(scan_response(&scan, &change.storage_access(&service)?))
}

/// Returns an existing plan.
pub async fn show(
    State(service): State<Service>,
    client: RequestContext,
    headers: HeaderMap,
) -> HandlerResult<Response> {
    let RequestContext { principal, path } = client;
    let id = path.segment("plan");
    let scan = service.iceberg().scan(&principal, &target(&path)?, id).await;
    let scan = scan.map_err(plan_error)?;
    Ok(scan_response(&scan, &storage_access::of_request(&service, &principal, &headers)?))
}

/// Deletes a plan.
pub async fn cancel(
    State(service): State<Service>,
    client: RequestContext,
) -> HandlerResult<StatusCode> {
    let RequestContext { principal, path } = client;
    let id = path.segment("plan");
    let cancelled = service.iceberg().cancel_scan(&principal, &target(&path)?, id).await;
    cancelled.map_err(plan_error)?;
    Ok(StatusCode::NO_CONTENT)
}

/// A request for a page of a plan.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FetchScanTasksRequest {
    plan_task: String,
}

/// Returns a further page of a plan.
pub async fn tasks(
    State(service): State<Service>,
    change: CatalogChangeRequest,
) -> HandlerResult<Response> {
    let FetchScanTasksRequest { plan_task } = change.parse()?;
    let target = target(&change.path)?;
    let page = service.iceberg().scan_page(&change.principal, &target, &plan_task).await;
    let page = page.map_err(|problem| scan_error(problem, "NoSuchPlanTaskException"))?;
    Ok(json_response(format!("{{{}}}", page_fields(&page))))
}

fn target(path: &RequestPath) -> HandlerResult<ScanTarget> {
    Ok(ScanTarget { reference: path.reference.clone(), table: path.table()? })
}

fn plan_error(problem: Problem) -> IcebergError {
    scan_error(problem, "NoSuchPlanIdException")
}

/// Converts an error of a request about a plan. `missing` is the name of the exception to use if
/// the plan does not exist.
fn scan_error(problem: Problem, missing: &'static str) -> IcebergError {
    let error = IcebergError::from(problem).for_scan();
    if error.code() == ErrorCode::RouteNotFound { error.with_kind(missing) } else { error }
}

fn scan_response(scan: &PlannedScan, access: &StorageAccess) -> Response {
    let mut rest = String::new();
    if !scan.tasks.is_empty() {
        rest.push_str(&format!(",\"plan-tasks\":{}", json!(scan.tasks)));
    }
    if access.has_credentials {
        rest.push_str(&format!(",\"storage-credentials\":{}", storage_credentials(access)));
    }
    let (id, fields) = (json!(scan.id), page_fields(&scan.first));
    json_response(format!("{{\"status\":\"completed\",\"plan-id\":{id},{fields}{rest}}}"))
}

/// Encodes the data files of a page, with the delete files to which these data files refer.
fn page_fields(page: &ScanPage) -> String {
    format!("\"delete-files\":{},\"file-scan-tasks\":{}", page.delete_files, page.tasks)
}

fn json_response(text: String) -> Response {
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}
