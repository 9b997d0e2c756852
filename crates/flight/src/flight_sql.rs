//! The server of the protocol, and what its requests share.

use arrow::array::RecordBatch;
use arrow_flight::flight_service_server::FlightServiceServer;
use arrow_flight::sql::ProstMessageExt;
use arrow_flight::sql::metadata::{SqlInfoData, XdbcTypeInfoData};
use arrow_flight::{FlightDescriptor, FlightInfo};
use bytes::Bytes;
use headwater_service::Service;
use prost::Message;
use tonic::{Request, Response, Status};

use crate::caller::Caller;
use crate::prepared::ClientPrepared;
use crate::rows::{self, RowStream, flight_info, no_columns};
use crate::statement::{ClientStatements, Work};
use crate::status::to_status;
use crate::{sql_info, type_info};

/// Maximum length of a message of a client, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The server of the protocol.
pub struct FlightSql {
    /// Statements and transactions of the clients.
    pub(crate) statements: ClientStatements,
    /// Prepared statements of the clients.
    pub(crate) prepared: ClientPrepared,
    /// Properties of the server.
    pub(crate) sql_info: SqlInfoData,
    /// Types of columns.
    pub(crate) type_info: XdbcTypeInfoData,
}

impl FlightSql {
    /// Creates the server on a service.
    ///
    /// Errors: the properties of the server cannot be encoded.
    pub fn server(service: Service) -> Result<FlightServiceServer<Self>, String> {
        let text = |status: Status| status.message().to_owned();
        let server = FlightSql {
            statements: ClientStatements::new(service),
            prepared: ClientPrepared::new(),
            sql_info: sql_info::sql_info().map_err(text)?,
            type_info: type_info::type_info().map_err(text)?,
        };
        Ok(FlightServiceServer::new(server).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Runs the executions of a prepared statement one after the other. Returns their rows.
    pub(crate) async fn prepared_rows(
        &self,
        caller: &Caller,
        handle: &Bytes,
    ) -> Result<Response<RowStream>, Status> {
        let prepared = self.prepared.get(&caller.principal, handle)?;
        let caller = Caller { principal: caller.principal.clone(), ..prepared.caller.clone() };
        let (token, registration) = self.statements.register(&String::from_utf8_lossy(handle));
        let mut executions = prepared.executions()?;
        let transaction = prepared.transaction.as_deref();
        if executions.len() == 1 {
            let work = Work::Bound(executions.remove(0));
            let rows = self.statements.start(&caller, transaction, work, None).await?;
            return Ok(rows::of_statement(rows, token, registration));
        }
        let (mut schema, mut batches) = (None, Vec::new());
        for execution in executions {
            let work = Work::Bound(execution);
            let mut rows = self.statements.start(&caller, transaction, work, None).await?;
            schema.get_or_insert_with(|| rows.schema().clone());
            while let Some(batch) = rows.next().await.map_err(to_status)? {
                batches.push(Ok(batch));
            }
        }
        let schema = schema.unwrap_or_else(no_columns);
        Ok(rows::of_batches(schema, futures::stream::iter(batches)))
    }
}

/// Returns the description of the rows of a metadata command.
pub fn metadata_info(
    command: impl ProstMessageExt,
    schema: &arrow::datatypes::Schema,
    request: Request<FlightDescriptor>,
) -> Result<Response<FlightInfo>, Status> {
    Caller::of(&request)?;
    let ticket = command.as_any().encode_to_vec().into();
    flight_info(ticket, Some(schema), request.into_inner())
}

/// Returns the id of a transaction.
pub fn transaction(id: Option<&Bytes>) -> Option<String> {
    id.filter(|id| !id.is_empty()).map(|id| String::from_utf8_lossy(id).into_owned())
}

/// Returns the error for a request that cannot be decoded.
pub fn malformed(error: prost::DecodeError) -> Status {
    Status::invalid_argument(format!("the request cannot be decoded: {error}"))
}

/// Encodes the rows of a metadata request.
pub fn batch(batch: RecordBatch) -> Result<Response<RowStream>, Status> {
    Ok(rows::of_batch(batch))
}
