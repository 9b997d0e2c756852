//! Tables: list, create, load, drop, rename, register. Updates are in `commit.rs`.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::header::{ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use headwater_model::TableName;
use headwater_model::name::namespace_of;
use headwater_service::Service;
use headwater_service::iceberg::{LoadedTable, NewTable, RegisterTableRequest, StorageAccess};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::IcebergError;
use crate::catalog_change_request::{CatalogChangeRequest, no_content};
use crate::error::HandlerResult;
use crate::pagination::Pagination;
use crate::request_context::RequestContext;
use crate::request_path::levels_of;
use crate::storage_access::{self, storage_credentials};

/// Lists the tables of a namespace by name.
pub async fn list(
    State(service): State<Service>,
    client: RequestContext,
    page: Pagination,
) -> HandlerResult<Json<Value>> {
    let RequestContext { principal, path } = client;
    let namespace = path.namespace()?;
    let iceberg = service.iceberg();
    let names = iceberg.list_tables(&principal, &path.reference, &namespace).await?;
    Ok(identifiers(&namespace, names, &page))
}

/// Encodes a page of the tables or views of a namespace.
pub fn identifiers(namespace: &str, names: Vec<String>, page: &Pagination) -> Json<Value> {
    let (names, next) = page.of(names);
    let levels = levels_of(namespace);
    let identifiers = names.iter().map(|name| json!({"namespace": levels, "name": name}));
    let identifiers: Vec<Value> = identifiers.collect();
    Json(json!({"identifiers": identifiers, "next-page-token": next}))
}

#[derive(Deserialize)]
struct Parameters {
    snapshots: Option<String>,
}

/// Returns a table's metadata. Includes either all snapshots, or only the snapshots to which
/// branches and tags in the metadata refer.
pub async fn show(
    State(service): State<Service>,
    client: RequestContext,
    uri: Uri,
    headers: HeaderMap,
) -> HandlerResult<Response> {
    let RequestContext { principal, path } = client;
    let parameters = Query::<Parameters>::try_from_uri(&uri);
    let snapshots = parameters.ok().and_then(|query| query.0.snapshots);
    let only_named = match snapshots.as_deref() {
        None | Some("" | "all") => false,
        Some("refs") => true,
        Some(other) => {
            let message = format!("`snapshots` is `{other}`, but must be `all` or `refs`");
            return Err(IcebergError::invalid(message));
        }
    };
    let name = path.table()?;
    let table = service.iceberg().load_table(&principal, &path.reference, &name).await?;
    let etag = etag(&table, only_named);
    if matches_etag(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, header(&etag))]).into_response());
    }
    let access = storage_access::of_request(&service, &principal, &headers)?;
    table_response(&table, only_named, &access)
}

/// Returns true if the response that the client has cached is current.
fn matches_etag(headers: &HeaderMap, etag: &str) -> bool {
    let sent = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = sent.flat_map(|value| value.split(','));
    tags.any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
    })
}

/// Returns the entity tag of a response. The tag is a hash of two values: the location of the
/// immutable metadata file, and the highest column id on any branch.
fn etag(table: &LoadedTable, only_named: bool) -> String {
    let mut digest = Sha256::new();
    digest.update(table.metadata_location());
    digest.update([u8::from(only_named)]);
    digest.update(table.last_column_id().to_le_bytes());
    format!("\"{}\"", &hex::encode(digest.finalize())[..32])
}

fn header(etag: &str) -> HeaderValue {
    HeaderValue::from_str(etag).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Encodes a table.
pub fn table_response(
    table: &LoadedTable,
    only_named: bool,
    access: &StorageAccess,
) -> HandlerResult<Response> {
    let body = Json(json!({
        "metadata-location": table.metadata_location(),
        "metadata": table.metadata_json(only_named)?,
        "config": access.properties,
        "storage-credentials": storage_credentials(access),
    }));
    Ok(([(ETAG, header(&etag(table, only_named)))], body).into_response())
}

/// Checks that a table exists.
pub async fn exists(
    State(service): State<Service>,
    client: RequestContext,
) -> HandlerResult<StatusCode> {
    check(&service, &client).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn check(service: &Service, client: &RequestContext) -> HandlerResult<()> {
    let RequestContext { principal, path } = client;
    let name = path.table()?;
    service.iceberg().table_id(principal, &path.reference, &name).await?;
    Ok(())
}

/// Creates a table. If the request stages the table, returns only the metadata; a later commit then
/// creates the table.
pub async fn create(
    State(service): State<Service>,
    change: CatalogChangeRequest,
) -> HandlerResult<Response> {
    let new: NewTable = change.parse()?;
    let name = change.new_name(&new.name)?;
    let iceberg = service.iceberg();
    let access = change.storage_access(&service)?;
    if new.stage_create {
        let reference = &change.path.reference;
        let metadata = iceberg.stage_table(&change.principal, reference, &name, new).await?;
        let credentials = storage_credentials(&access);
        let config = access.properties;
        let body =
            json!({"metadata": metadata, "config": config, "storage-credentials": credentials});
        return Ok(Json(body).into_response());
    }
    let table = iceberg.create_table(&change.principal, &change.request, &name, new).await;
    table_response(&table.map_err(IcebergError::of_change)?, false, &access)
}

/// Drops a table from the branch. Its files are kept for the commits and branches that contain the
/// table, even if the client requests a purge.
pub async fn remove(
    State(service): State<Service>,
    change: CatalogChangeRequest,
) -> HandlerResult<StatusCode> {
    let name = change.path.table()?;
    no_content(service.iceberg().drop_table(&change.principal, &change.request, &name).await)
}

/// The name of a table or view in a request body.
#[derive(Debug, Clone, Deserialize)]
pub struct TableIdentifier {
    namespace: Vec<String>,
    name: String,
}

impl TableIdentifier {
    /// Returns the name of an existing table or view. An invalid name is reported as a missing
    /// object.
    pub fn existing(&self) -> HandlerResult<TableName> {
        let missing =
            |_| IcebergError::no_table(&format!("{}.{}", self.namespace.join("."), self.name));
        let namespace = namespace_of(&self.namespace).map_err(missing)?;
        TableName::new(namespace, &*self.name).map_err(missing)
    }

    /// Returns the name of a table or view to create. Errors: invalid name.
    pub fn new_name(&self) -> HandlerResult<TableName> {
        Ok(TableName::new(namespace_of(&self.namespace)?, &*self.name)?)
    }
}

/// A request to rename a table or view.
#[derive(Debug, Deserialize)]
pub struct RenameRequest {
    /// The old name.
    pub source: TableIdentifier,
    /// The new name.
    pub destination: TableIdentifier,
}

/// Renames a table.
pub async fn rename(
    State(service): State<Service>,
    change: CatalogChangeRequest,
) -> HandlerResult<StatusCode> {
    let rename: RenameRequest = change.parse()?;
    let from = rename.source.existing()?;
    let to = rename.destination.new_name()?;
    let iceberg = service.iceberg();
    no_content(iceberg.rename_table(&change.principal, &change.request, from, to).await)
}

/// A request to register a table or view.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RegisterRequest {
    /// The name of the table or view.
    pub name: String,
    /// The location of the metadata file to register.
    pub metadata_location: String,
    /// True to replace an existing table.
    #[serde(default)]
    pub overwrite: bool,
}

/// Registers a table from a metadata file in the warehouse.
pub async fn register(
    State(service): State<Service>,
    change: CatalogChangeRequest,
) -> HandlerResult<Response> {
    let new: RegisterRequest = change.parse()?;
    let name = change.new_name(&new.name)?;
    let source = RegisterTableRequest { location: new.metadata_location, overwrite: new.overwrite };
    let iceberg = service.iceberg();
    let table = iceberg
        .register_table(&change.principal, &change.request, &name, source)
        .await
        .map_err(IcebergError::of_change)?;
    table_response(&table, false, &change.storage_access(&service)?)
}

/// Returns credentials for a table's files, if the server may grant them. Unlike other requests,
/// this request returns credentials even without the delegation header.
pub async fn credentials(
    State(service): State<Service>,
    client: RequestContext,
) -> HandlerResult<Json<Value>> {
    check(&service, &client).await?;
    let access = service.iceberg().storage_access(&client.principal, true)?;
    Ok(Json(json!({"storage-credentials": storage_credentials(&access)})))
}

/// Accepts a client's metrics and discards them.
pub async fn metrics(
    State(service): State<Service>,
    change: CatalogChangeRequest,
) -> HandlerResult<StatusCode> {
    let _: Value = change.parse()?;
    let (principal, name) = (&change.principal, change.path.table()?);
    service.iceberg().table_id(principal, &change.path.reference, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
