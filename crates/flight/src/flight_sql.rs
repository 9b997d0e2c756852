//! The server of the protocol, and what its requests share.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_flight::flight_service_server::FlightServiceServer;
use arrow_flight::sql::ProstMessageExt;
use arrow_flight::sql::metadata::{SqlInfoData, XdbcTypeInfoData};
use arrow_flight::{FlightDescriptor, FlightInfo};
use bytes::Bytes;
use headwater_model::{ErrorCode, Problem};
use headwater_service::Service;
use prost::Message;
use tonic::{Request, Response, Status};

use crate::caller::Caller;
use crate::prepared::ClientPrepared;
use crate::rows::{self, RowStream, flight_info, no_columns};
use crate::statement::{ClientStatements, Executions};
use crate::status::to_status;
use crate::{sql_info, type_info};

/// The prefix of the paths of all requests.
pub const PATH_PREFIX: &str = "/arrow.flight.protocol.FlightService/";

/// The path of the request that logs in with a user name and a password.
pub const HANDSHAKE_PATH: &str = "/arrow.flight.protocol.FlightService/Handshake";

/// Maximum length of a message of a client, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The server of the protocol.
pub struct FlightSql {
    /// Statements and transactions of the clients.
    pub(crate) statements: Arc<ClientStatements>,
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
            statements: Arc::new(ClientStatements::new(service)),
            prepared: ClientPrepared::new(),
            sql_info: sql_info::sql_info().map_err(text)?,
            type_info: type_info::type_info().map_err(text)?,
        };
        Ok(FlightServiceServer::new(server).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Runs the executions of a prepared statement one after the other. Returns their rows.
    pub(crate) async fn prepared_rows(
        &self,
        caller: Caller,
        handle: &Bytes,
    ) -> Result<Response<RowStream>, Status> {
        let prepared = self.prepared.get(&caller.principal, handle)?;
        let (token, registration) = self.statements.register(&String::from_utf8_lossy(handle));
        let executions = prepared.executions()?.into_iter();
        let mut executions = Executions {
            statements: self.statements.clone(),
            caller: Caller { principal: caller.principal, ..prepared.caller.clone() },
            transaction: prepared.transaction.clone(),
            left: executions,
        };
        let rows = tokio::select! {
            biased;
            () = token.cancelled() => return Err(rows::cancelled()),
            rows = executions.start_next() => rows?,
        };
        let Some(rows) = rows else {
            return Ok(rows::of_batch(RecordBatch::new_empty(no_columns())));
        };
        Ok(rows::of_statement(rows, Some(executions), token, registration))
    }
}

/// Returns the error for a plan of Substrait.
pub fn unsupported_plan() -> Status {
    let message = "Substrait plans are not supported";
    let problem = Problem::new(ErrorCode::UnsupportedStatement, message);
    to_status(problem.with_hint("Send the statement as SQL."))
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
