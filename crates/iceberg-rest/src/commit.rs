//! Commits of one table, or of several tables atomically.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use headwater_service::Service;
use headwater_service::iceberg::{NamedTableCommit, TableCommit};
use serde::Deserialize;

use crate::IcebergError;
use crate::catalog_change_request::CatalogChangeRequest;
use crate::error::HandlerResult;
use crate::table::{TableIdentifier, table_response};

/// Updates of one table in a commit of several tables.
#[derive(Debug, Deserialize)]
struct CommitTableRequest {
    identifier: TableIdentifier,
    #[serde(flatten)]
    commit: TableCommit,
}

/// Updates of several tables.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct CommitTransactionRequest {
    table_changes: Vec<CommitTableRequest>,
}

/// Updates or creates the table that the path selects.
pub async fn one(
    State(service): State<Service>,
    change: CatalogChangeRequest,
) -> HandlerResult<Response> {
    let commit: TableCommit = change.parse()?;
    let table = if commit.creates() { change.path.new_table()? } else { change.path.table()? };
    let updates = vec![NamedTableCommit { table: table.clone(), commit }];
    let iceberg = service.iceberg();
    let tables = iceberg.commit(&change.principal, &change.request, updates).await;
    let tables = tables.map_err(IcebergError::of_change)?;
    let loaded = match tables.get(&table) {
        Some(loaded) => loaded.clone(),
        // The request repeats an earlier one, and the principal may not read the table. This call
        // then returns the error.
        None => iceberg.load_table(&change.principal, &change.request.reference, &table).await?,
    };
    // Omit credentials: the client has received them when it loaded or created the table.
    let access = iceberg.storage_access(&change.principal, false)?;
    table_response(&loaded, false, &access)
}

/// Updates several tables in one commit.
pub async fn many(
    State(service): State<Service>,
    change: CatalogChangeRequest,
) -> HandlerResult<Response> {
    let transaction: CommitTransactionRequest = change.parse()?;
    let mut updates: Vec<NamedTableCommit> = Vec::new();
    for CommitTableRequest { identifier, commit } in transaction.table_changes {
        let table =
            if commit.creates() { identifier.new_name()? } else { identifier.existing()? };
        if updates.iter().any(|other| other.table == table) {
            return Err(IcebergError::invalid(format!(
                "the transaction changes table `{table}` twice"
            )));
        }
        updates.push(NamedTableCommit { table, commit });
    }
    let iceberg = service.iceberg();
    let committed = iceberg.commit(&change.principal, &change.request, updates).await;
    committed.map_err(IcebergError::of_change)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
