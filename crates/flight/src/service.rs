//! The requests of the protocol: each is decoded, executed and encoded.

use arrow::array::RecordBatch;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionBeginSavepointRequest, ActionBeginSavepointResult, ActionBeginTransactionRequest,
    ActionBeginTransactionResult, ActionCancelQueryRequest, ActionCancelQueryResult,
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, ActionCreatePreparedSubstraitPlanRequest,
    ActionEndSavepointRequest, ActionEndTransactionRequest, CommandGetCatalogs,
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
    CommandGetXdbcTypeInfo, CommandPreparedStatementQuery, CommandPreparedStatementUpdate,
    CommandStatementIngest, CommandStatementQuery, CommandStatementSubstraitPlan,
    CommandStatementUpdate, DoPutPreparedStatementResult, EndTransaction, ProstMessageExt, SqlInfo,
    TicketStatementQuery,
};
use arrow_flight::{
    Action, ActionType, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse, Ticket,
};
use bytes::Bytes;
use futures::StreamExt;
use headwater_model::ResultExt;
use headwater_service::PreparedStatement;
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::bulk_ingestion::IngestedRows;
use crate::caller::{Caller, SessionToken};
use crate::flight_sql::{FlightSql, malformed, metadata_info, transaction, unsupported_plan};
use crate::grpc_status::to_status;
use crate::prepared_statements::parameter_schema;
use crate::row_stream::{self, RowStream, decode, flight_info, of_batch, schema_bytes};
use crate::statement::StatementSource;
use crate::ticket::{SavepointId, StatementTicket};
use crate::{catalog_metadata, custom_actions, primary_keys};

/// The value of `ActionEndSavepoint` that releases a savepoint. The other value rolls back to it.
const SAVEPOINT_RELEASE: i32 = 1;

/// The values in the result of a request to cancel a statement.
const CANCELLING: i32 = 2;
const NOT_CANCELLABLE: i32 = 3;

/// The stream of responses to a handshake.
type Handshakes = futures::stream::BoxStream<'static, Result<HandshakeResponse, Status>>;

/// The stream of results of an action.
type Actions = futures::stream::BoxStream<'static, Result<arrow_flight::Result, Status>>;

#[tonic::async_trait]
impl FlightSqlService for FlightSql {
    type FlightService = FlightSql;

    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Handshakes>, Status> {
        Caller::of(&request)?;
        let token = request.extensions().get::<SessionToken>().map(|token| token.0.clone());
        let shown = request.metadata().get("authorization").cloned();
        let payload = token.clone().unwrap_or_default().into_bytes().into();
        let answer = HandshakeResponse { protocol_version: 0, payload };
        let mut response = Response::new(futures::stream::iter([Ok(answer)]).boxed());
        let authorization = match token {
            Some(token) => format!("Bearer {token}").parse().ok(),
            None => shown,
        };
        if let Some(authorization) = authorization {
            response.metadata_mut().insert("authorization", authorization);
        }
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let caller = Caller::of(&request)?;
        let transaction = transaction(query.transaction_id.as_ref());
        let ticket = StatementTicket::new(&caller, query.query, transaction);
        flight_info(ticket.encode()?, None, request.into_inner())
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        request: Request<Ticket>,
    ) -> Result<Response<RowStream>, Status> {
        let caller = Caller::of(&request)?;
        let ticket = StatementTicket::decode(&ticket.statement_handle)?;
        let (token, registration) = self.statements.register(&caller.principal, &ticket.id);
        let caller = ticket.caller(caller.principal)?;
        let work = StatementSource::Text(ticket.sql);
        let starting = self.statements.start(&caller, ticket.transaction.as_deref(), work, None);
        let rows = tokio::select! {
            biased;
            () = token.cancelled() => return Err(row_stream::cancelled()),
            rows = starting => rows?,
        };
        Ok(row_stream::of_statement(rows, None, token, registration))
    }

    async fn get_flight_info_substrait_plan(
        &self,
        _plan: CommandStatementSubstraitPlan,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        Caller::of(&request)?;
        Err(unsupported_plan())
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let caller = Caller::of(&request)?;
        self.prepared.find(&caller.principal, &query.prepared_statement_handle)?;
        flight_info(query.as_any().encode_to_vec().into(), None, request.into_inner())
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<Ticket>,
    ) -> Result<Response<RowStream>, Status> {
        let caller = Caller::of(&request)?;
        self.prepared_rows(caller, &query.prepared_statement_handle).await
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = query.into_builder().schema();
        metadata_info(query, &schema, request)
    }

    async fn do_get_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<Ticket>,
    ) -> Result<Response<RowStream>, Status> {
        Ok(of_batch(self.statements.catalogs(&Caller::of(&request)?, query).await?))
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = query.clone().into_builder().schema();
        metadata_info(query, &schema, request)
    }

    async fn do_get_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<Ticket>,
    ) -> Result<Response<RowStream>, Status> {
        Ok(of_batch(self.statements.schemas(&Caller::of(&request)?, query).await?))
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = query.clone().into_builder().schema();
        metadata_info(query, &schema, request)
    }

    async fn do_get_tables(
        &self,
        query: CommandGetTables,
        request: Request<Ticket>,
    ) -> Result<Response<RowStream>, Status> {
        Ok(of_batch(self.statements.tables(&Caller::of(&request)?, query).await?))
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = catalog_metadata::table_types(query)?.schema();
        metadata_info(query, &schema, request)
    }

    async fn do_get_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<Ticket>,
    ) -> Result<Response<RowStream>, Status> {
        Caller::of(&request)?;
        Ok(of_batch(catalog_metadata::table_types(query)?))
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        metadata_info(query, &self.sql_info.schema(), request)
    }

    async fn do_get_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<Ticket>,
    ) -> Result<Response<RowStream>, Status> {
        Caller::of(&request)?;
        Ok(of_batch(query.into_builder(&self.sql_info).build().map_err(Status::from)?))
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        metadata_info(query, &self.type_info.schema(), request)
    }

    async fn do_get_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<Ticket>,
    ) -> Result<Response<RowStream>, Status> {
        Caller::of(&request)?;
        Ok(of_batch(query.into_builder(&self.type_info).build().map_err(Status::from)?))
    }

    async fn get_flight_info_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        metadata_info(query, &primary_keys::primary(), request)
    }

    async fn do_get_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<Ticket>,
    ) -> Result<Response<RowStream>, Status> {
        Ok(of_batch(self.statements.primary_keys(&Caller::of(&request)?, query).await?))
    }

    async fn get_flight_info_exported_keys(
        &self,
        query: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        metadata_info(query, &primary_keys::foreign(), request)
    }

    async fn do_get_exported_keys(
        &self,
        _query: CommandGetExportedKeys,
        request: Request<Ticket>,
    ) -> Result<Response<RowStream>, Status> {
        Caller::of(&request)?;
        Ok(of_batch(RecordBatch::new_empty(primary_keys::foreign())))
    }

    async fn get_flight_info_imported_keys(
        &self,
        query: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        metadata_info(query, &primary_keys::foreign(), request)
    }

    async fn do_get_imported_keys(
        &self,
        _query: CommandGetImportedKeys,
        request: Request<Ticket>,
    ) -> Result<Response<RowStream>, Status> {
        Caller::of(&request)?;
        Ok(of_batch(RecordBatch::new_empty(primary_keys::foreign())))
    }

    async fn get_flight_info_cross_reference(
        &self,
        query: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        metadata_info(query, &primary_keys::foreign(), request)
    }

    async fn do_get_cross_reference(
        &self,
        _query: CommandGetCrossReference,
        request: Request<Ticket>,
    ) -> Result<Response<RowStream>, Status> {
        Caller::of(&request)?;
        Ok(of_batch(RecordBatch::new_empty(primary_keys::foreign())))
    }

    async fn do_put_statement_update(
        &self,
        command: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let caller = Caller::of(&request)?;
        let transaction = transaction(command.transaction_id.as_ref());
        let work = StatementSource::Text(command.query);
        self.statements.update(&caller, transaction.as_deref(), work, None).await
    }

    async fn do_put_statement_ingest(
        &self,
        command: CommandStatementIngest,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let caller = Caller::of(&request)?;
        let quota = self.statements.uploads.begin(&caller.principal)?;
        let batches = decode(&self.statements.uploads, request.into_inner()).await?;
        self.statements.ingest(&caller, &command, IngestedRows { batches, quota }).await
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let caller = Caller::of(&request)?;
        let handle = query.prepared_statement_handle;
        let prepared = self.prepared.find(&caller.principal, &handle)?;
        *prepared.bound.lock() = self.parameters(&caller, request.into_inner()).await?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) })
    }

    async fn do_put_prepared_statement_update(
        &self,
        query: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let caller = Caller::of(&request)?;
        let prepared = self.prepared.find(&caller.principal, &query.prepared_statement_handle)?;
        let sent = self.parameters(&caller, request.into_inner()).await?;
        if !sent.batches.is_empty() {
            *prepared.bound.lock() = sent;
        }
        let caller = Caller { principal: caller.principal, ..prepared.caller.clone() };
        let mut count = 0;
        for execution in prepared.executions()? {
            let work = StatementSource::Bound(execution);
            let transaction = prepared.transaction.as_deref();
            count += self.statements.update(&caller, transaction, work, None).await?;
        }
        Ok(count)
    }

    async fn do_put_substrait_plan(
        &self,
        _plan: CommandStatementSubstraitPlan,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Caller::of(&request)?;
        Err(unsupported_plan())
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let caller = Caller::of(&request)?;
        let transaction = transaction(query.transaction_id.as_ref());
        let statement = PreparedStatement::parse(&query.query).or_problem().map_err(to_status)?;
        let described =
            self.statements.describe_prepared(&caller, transaction.as_deref(), &statement).await?;
        let parameters = parameter_schema(&statement, &described);
        let dataset_schema = match described.columns {
            Some(columns) => schema_bytes(&columns)?,
            None => Bytes::new(),
        };
        let handle = self.prepared.prepare(&caller, transaction, statement)?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: handle.into(),
            dataset_schema,
            parameter_schema: schema_bytes(&parameters)?,
        })
    }

    async fn do_action_create_prepared_substrait_plan(
        &self,
        _plan: ActionCreatePreparedSubstraitPlanRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        Caller::of(&request)?;
        Err(unsupported_plan())
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        let caller = Caller::of(&request)?;
        self.prepared.close(&caller.principal, &query.prepared_statement_handle)
    }

    async fn do_action_begin_transaction(
        &self,
        _query: ActionBeginTransactionRequest,
        request: Request<Action>,
    ) -> Result<ActionBeginTransactionResult, Status> {
        let id = self.statements.transactions.begin(&Caller::of(&request)?).await?;
        Ok(ActionBeginTransactionResult { transaction_id: id.into() })
    }

    async fn do_action_end_transaction(
        &self,
        query: ActionEndTransactionRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        let caller = Caller::of(&request)?;
        let id = String::from_utf8_lossy(&query.transaction_id).into_owned();
        let is_commit = match query.action() {
            EndTransaction::Commit => true,
            EndTransaction::Rollback => false,
            EndTransaction::Unspecified => {
                return Err(Status::invalid_argument("the action of the transaction is missing"));
            }
        };
        self.statements.transactions.end(&caller.principal, &id, is_commit).await
    }

    async fn do_action_begin_savepoint(
        &self,
        query: ActionBeginSavepointRequest,
        request: Request<Action>,
    ) -> Result<ActionBeginSavepointResult, Status> {
        let caller = Caller::of(&request)?;
        let transaction = String::from_utf8_lossy(&query.transaction_id).into_owned();
        let savepoint = SavepointId { transaction, name: query.name };
        self.statements.transactions.add_savepoint(&caller.principal, &savepoint).await?;
        Ok(ActionBeginSavepointResult { savepoint_id: savepoint.encode()? })
    }

    async fn do_action_end_savepoint(
        &self,
        query: ActionEndSavepointRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        let caller = Caller::of(&request)?;
        let id = SavepointId::decode(&query.savepoint_id)?;
        let is_release = query.action == SAVEPOINT_RELEASE;
        self.statements.transactions.end_savepoint(&caller.principal, &id, is_release).await
    }

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        request: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        let principal = Caller::of(&request)?.principal;
        let info = FlightInfo::decode(&*query.info).map_err(malformed)?;
        let result =
            if self.statements.cancel(&principal, &info) { CANCELLING } else { NOT_CANCELLABLE };
        Ok(ActionCancelQueryResult { result })
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Result<Response<Actions>, Status> {
        let caller = Caller::of(&request)?;
        let mut metadata = MetadataMap::new();
        let body = self.custom_action(&caller, &request.into_inner(), &mut metadata).await?;
        let results = futures::stream::iter([Ok(arrow_flight::Result { body })]).boxed();
        let mut response = Response::new(results);
        *response.metadata_mut() = metadata;
        Ok(response)
    }

    async fn list_custom_actions(&self) -> Option<Vec<Result<ActionType, Status>>> {
        Some(custom_actions::list().into_iter().map(Ok).collect())
    }

    async fn register_sql_info(&self, _id: i32, _result: &SqlInfo) {}
}
