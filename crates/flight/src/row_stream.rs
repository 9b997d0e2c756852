//! Rows as messages of Flight, and messages of Flight as rows.

use std::pin::Pin;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::sql::server::PeekableFlightDataStream;
use arrow_flight::{FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use bytes::Bytes;
use futures::future::ready;
use futures::{Stream, StreamExt, TryStreamExt};
use headwater_model::{ErrorCode, Problem};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};

use crate::grpc_status::{internal, to_status};
use crate::message_checks::MessageChecks;
use crate::prepared_statements::ParameterRows;
use crate::statement::{ClientRows, PendingExecutions};
use crate::uploads::{UploadQuota, Uploads};

/// Maximum size of the parameters of a statement, in bytes.
const PARAMETER_BYTES_MAX: usize = 16 << 20;

/// Maximum number of rows of parameters in one request. The statement is executed once for each
/// row.
const PARAMETER_ROWS_MAX: usize = 100_000;

/// The rows of a response.
pub type RowStream = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send + 'static>>;

/// Returns the description of rows that are read with a ticket. `schema` is `None` for the rows of
/// a statement: nullability can change at execution, and ADBC drivers would then reject the rows.
pub fn flight_info(
    ticket: Bytes,
    schema: Option<&Schema>,
    descriptor: FlightDescriptor,
) -> Result<Response<FlightInfo>, Status> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket));
    let info = FlightInfo::new().with_endpoint(endpoint).with_descriptor(descriptor);
    let info = match schema {
        Some(schema) => info.try_with_schema(schema).map_err(internal)?,
        None => info,
    };
    Ok(Response::new(info))
}

/// Encodes the rows of a response to a metadata request.
pub fn of_batch(batch: RecordBatch) -> Response<RowStream> {
    let schema = batch.schema();
    encode(schema, futures::stream::iter([Ok(batch)]))
}

/// Encodes the rows of a running statement as they are read, then the rows of the `following`
/// executions, which have the same columns. `token` cancels all executions. `end` has values to
/// drop after the last row.
pub fn of_statement<E: Send + 'static>(
    rows: ClientRows,
    following: Option<PendingExecutions>,
    token: CancellationToken,
    end: E,
) -> Response<RowStream> {
    let schema = rows.schema().clone();
    let state = (Some(rows), following, token, end);
    let batches = futures::stream::try_unfold(state, |mut state| async move {
        let token = state.2.clone();
        let next = next_batch(&mut state.0, state.1.as_mut());
        let batch = tokio::select! {
            biased;
            () = token.cancelled() => return Err(cancelled()),
            batch = next => batch?,
        };
        Ok(batch.map(|batch| (batch, state)))
    });
    encode(schema, batches)
}

/// Returns the next batch of the running statement. After its last batch, starts the next of the
/// `following` executions.
async fn next_batch(
    rows: &mut Option<ClientRows>,
    mut following: Option<&mut PendingExecutions>,
) -> Result<Option<RecordBatch>, Status> {
    while let Some(running) = rows {
        if let Some(batch) = running.next().await.map_err(to_status)? {
            return Ok(Some(batch));
        }
        *rows = match &mut following {
            Some(executions) => executions.start_next().await?,
            None => None,
        };
    }
    Ok(None)
}

/// Returns the error of a cancelled statement.
pub fn cancelled() -> Status {
    Status::cancelled("the client cancelled the statement")
}

fn encode(
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, Status>> + Send + 'static,
) -> Response<RowStream> {
    let batches = batches.map_err(FlightError::from);
    let encoded = FlightDataEncoderBuilder::new().with_schema(schema).build(batches);
    Response::new(encoded.map_err(Status::from).boxed())
}

/// Decodes the rows that a client sends. To send no rows, a client sends a message without a
/// schema.
pub async fn decode(
    uploads: &Uploads,
    mut stream: PeekableFlightDataStream,
) -> Result<Option<FlightRecordBatchStream>, Status> {
    loop {
        match uploads.in_time(stream.peek()).await? {
            None => return Ok(None),
            Some(Err(status)) => return Err(status.clone()),
            Some(Ok(message)) if message.data_header.is_empty() => {
                stream.next().await;
            }
            Some(Ok(_)) => break,
        }
    }
    let mut checks = MessageChecks::default();
    let messages = stream.map_err(FlightError::from).and_then(move |message| {
        let checked = checks.check(&message).map(|()| message).map_err(FlightError::from);
        ready(checked)
    });
    Ok(Some(FlightRecordBatchStream::new_from_flight_data(messages)))
}

/// Collects the rows of parameters that a client sends.
pub async fn collect(
    uploads: &Uploads,
    mut quota: UploadQuota,
    stream: PeekableFlightDataStream,
) -> Result<ParameterRows, Status> {
    let Some(mut rows) = decode(uploads, stream).await? else {
        return Ok(ParameterRows::default());
    };
    let (mut batches, mut count) = (Vec::new(), 0);
    while let Some(batch) = uploads.next(&mut rows).await? {
        count += batch.num_rows();
        if count > PARAMETER_ROWS_MAX {
            return Err(too_many(&format!("{PARAMETER_ROWS_MAX} rows")));
        }
        quota.add(&batch)?;
        if quota.bytes() > PARAMETER_BYTES_MAX {
            return Err(too_many(&format!("{PARAMETER_BYTES_MAX} bytes")));
        }
        batches.push(batch);
    }
    quota.end();
    Ok(ParameterRows { batches, _quota: Some(quota) })
}

fn too_many(limit: &str) -> Status {
    let message = format!("the parameters have more than {limit}");
    let problem = Problem::new(ErrorCode::InvalidArgument, message);
    to_status(problem.with_hint("Ingest the rows into a table, and read it in the statement."))
}

/// Encodes a schema for a response that contains it as a field of type bytes.
pub fn schema_bytes(schema: &Schema) -> Result<Bytes, Status> {
    let options = arrow::ipc::writer::IpcWriteOptions::default();
    let message: arrow_flight::IpcMessage =
        arrow_flight::SchemaAsIpc::new(schema, &options).try_into().map_err(internal)?;
    Ok(message.0)
}

/// Returns a schema without columns.
pub fn no_columns() -> SchemaRef {
    Arc::new(Schema::empty())
}
