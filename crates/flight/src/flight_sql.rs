//! The server of the protocol, and functions that several requests use.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow_flight::flight_service_server::FlightServiceServer;
use arrow_flight::sql::ProstMessageExt;
use arrow_flight::sql::metadata::{SqlInfoData, XdbcTypeInfoData};
use arrow_flight::sql::server::PeekableFlightDataStream;
use arrow_flight::{FlightDescriptor, FlightInfo};
use bytes::Bytes;
use headwater_model::{ErrorCode, Problem};
use headwater_service::Service;
use prost::Message;
use tonic::{Request, Response, Status};

use crate::caller::Caller;
use crate::grpc_status::to_status;
use crate::limits::FlightLimits;
use crate::prepared_statements::{self, ClientPreparedStatements, ParameterRows};
use crate::row_stream::{self, RowStream, flight_info, no_columns};
use crate::statement::{FlightState, PendingExecutions};
use crate::{sql_info, type_info};

/// The prefix of the paths of all requests.
pub const PATH_PREFIX: &str = "/arrow.flight.protocol.FlightService/";

/// The path of the request that logs in with a user name and a password.
pub const HANDSHAKE_PATH: &str = "/arrow.flight.protocol.FlightService/Handshake";

/// Maximum length of a message of a client, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Longest time between two searches for expired transactions and prepared statements. With short
/// idle limits, the server searches more often.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(30);

/// Shortest time between two searches for expired transactions and prepared statements.
const EXPIRY_INTERVAL_MIN: Duration = Duration::from_millis(20);

/// The server of the protocol.
pub struct FlightSql {
    /// Statements and transactions of the clients.
    pub(crate) statements: Arc<FlightState>,
    /// Prepared statements of the clients.
    pub(crate) prepared: Arc<ClientPreparedStatements>,
    /// Properties of the server, for the request `GetSqlInfo`.
    pub(crate) sql_info: SqlInfoData,
    /// The column types that the server supports, for the request `GetXdbcTypeInfo`.
    pub(crate) type_info: XdbcTypeInfoData,
}

impl FlightSql {
    /// Creates the server on a service, in a runtime of tokio.
    ///
    /// Errors: the properties of the server cannot be encoded.
    pub fn server(
        service: Service,
        limits: &FlightLimits,
    ) -> Result<FlightServiceServer<Self>, String> {
        let text = |status: Status| status.message().to_owned();
        let server = FlightSql {
            statements: Arc::new(FlightState::new(service, limits)),
            prepared: Arc::new(prepared_statements::prepared(limits)),
            sql_info: sql_info::sql_info().map_err(text)?,
            type_info: type_info::type_info().map_err(text)?,
        };
        let interval = limits.transaction_idle.min(limits.prepared_idle) / 4;
        let interval = interval.clamp(EXPIRY_INTERVAL_MIN, EXPIRY_INTERVAL);
        let statements = Arc::downgrade(&server.statements);
        tokio::spawn(expire(statements, Arc::downgrade(&server.prepared), interval));
        Ok(FlightServiceServer::new(server).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Receives the rows of parameters that a client sends, and keeps them in memory.
    pub(crate) async fn parameters(
        &self,
        caller: &Caller,
        stream: PeekableFlightDataStream,
    ) -> Result<ParameterRows, Status> {
        let uploads = &self.statements.uploads;
        let quota = uploads.begin(&caller.principal)?;
        row_stream::collect(uploads, quota, stream).await
    }

    /// Runs a prepared statement once for each row of parameters, in sequence. Returns all rows of
    /// the results.
    pub(crate) async fn prepared_rows(
        &self,
        caller: Caller,
        handle: &Bytes,
    ) -> Result<Response<RowStream>, Status> {
        let prepared = self.prepared.find(&caller.principal, handle)?;
        let id = String::from_utf8_lossy(handle);
        let (token, registration) = self.statements.register(&caller.principal, &id);
        let executions = prepared.executions()?.into_iter();
        let mut executions = PendingExecutions {
            statements: self.statements.clone(),
            caller: Caller { principal: caller.principal, ..prepared.caller.clone() },
            transaction: prepared.transaction.clone(),
            left: executions,
        };
        let rows = tokio::select! {
            biased;
            () = token.cancelled() => return Err(row_stream::cancelled()),
            rows = executions.start_next() => rows?,
        };
        let Some(rows) = rows else {
            return Ok(row_stream::of_batch(RecordBatch::new_empty(no_columns())));
        };
        // The prepared statement does not expire while its rows are read.
        Ok(row_stream::of_statement(rows, Some(executions), token, (registration, prepared)))
    }
}

/// Periodically ends expired transactions and prepared statements, until the server is dropped.
async fn expire(
    statements: Weak<FlightState>,
    prepared: Weak<ClientPreparedStatements>,
    interval: Duration,
) {
    loop {
        tokio::time::sleep(interval).await;
        let (Some(statements), Some(prepared)) = (statements.upgrade(), prepared.upgrade()) else {
            return;
        };
        let now = Instant::now();
        drop(prepared.remove_expired(now, |principal| statements.is_valid(principal)));
        statements.transactions.roll_back_expired(now);
    }
}

/// Returns the error for a request with a plan in the format of Substrait.
pub fn unsupported_plan() -> Status {
    let message = "Substrait plans are not supported";
    let problem = Problem::new(ErrorCode::UnsupportedStatement, message);
    to_status(problem.with_hint("Send the statement as SQL."))
}

/// Returns the description of the rows that a metadata command returns.
pub fn metadata_info(
    command: impl ProstMessageExt,
    schema: &arrow::datatypes::Schema,
    request: Request<FlightDescriptor>,
) -> Result<Response<FlightInfo>, Status> {
    Caller::of(&request)?;
    let ticket = command.as_any().encode_to_vec().into();
    flight_info(ticket, Some(schema), request.into_inner())
}

/// Returns the id of a transaction as text; `None` if it is absent or empty.
pub fn transaction(id: Option<&Bytes>) -> Option<String> {
    id.filter(|id| !id.is_empty()).map(|id| String::from_utf8_lossy(id).into_owned())
}

/// Returns the error for a request that cannot be decoded.
pub fn malformed(error: prost::DecodeError) -> Status {
    Status::invalid_argument(format!("the request cannot be decoded: {error}"))
}
