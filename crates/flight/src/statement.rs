//! Statements: described, started inside or outside of a transaction, and cancelled.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow_flight::FlightInfo;
use headwater_model::{Principal, Problem, ResultExt};
use headwater_service::{
    CopiedRows, PreparedStatement, Service, StartedStatement, StatementDescription, StatementRows,
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::caller::Caller;
use crate::client_handles::EntryGuard;
use crate::grpc_status::to_status;
use crate::limits::FlightLimits;
use crate::parameter_inference::type_inference_queries;
use crate::running_statements::{RunningStatements, StatementRegistration};
use crate::ticket::running_id;
use crate::transactions::{ClientTransaction, ClientTransactions, ended};
use crate::uploads::Uploads;

/// The statement that a request runs.
pub enum StatementSource {
    /// Text with one or more statements, without parameters.
    Text(String),
    /// A statement whose parameters are bound.
    Bound(PreparedStatement),
}

/// The names of the statements that change nothing, in addition to SHOW.
const READS: [&str; 5] = ["SELECT", "EXPLAIN", "EXPLAIN COST", "DESCRIBE", "SUMMARIZE"];

/// Returns true if a statement changes nothing, by its name.
fn is_read(name: &str) -> bool {
    name.starts_with("SHOW ") || READS.contains(&name)
}

impl StatementSource {
    /// Returns true if at least one of the statements may change something.
    fn writes(&self) -> Result<bool, Problem> {
        let writes = |statement: &PreparedStatement| -> Result<bool, Problem> {
            Ok(!is_read(statement.name().or_problem()?))
        };
        match self {
            StatementSource::Bound(statement) => writes(statement),
            StatementSource::Text(sql) => {
                let script = PreparedStatement::parse_script(sql).or_problem()?;
                let written: Result<Vec<bool>, Problem> = script.iter().map(writes).collect();
                Ok(written?.contains(&true))
            }
        }
    }
}

/// The statements, transactions and uploads of all clients.
pub struct FlightState {
    service: Service,
    /// The open transactions.
    pub transactions: Arc<ClientTransactions>,
    /// The uploads of clients: the rows that they are sending.
    pub uploads: Uploads,
    running: RunningStatements,
}

/// The result rows of a running statement, whose transaction does not expire while this value
/// exists.
pub struct ClientRows {
    rows: StatementRows,
    _transaction: Option<EntryGuard<ClientTransaction>>,
}

impl ClientRows {
    /// Returns the columns.
    pub fn schema(&self) -> &SchemaRef {
        self.rows.schema()
    }

    /// Returns the next rows; `None` after the last ones.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, Problem> {
        self.rows.next().await
    }
}

impl FlightState {
    /// Creates the state of a server that has no clients yet.
    pub fn new(service: Service, limits: &FlightLimits) -> Self {
        FlightState {
            transactions: Arc::new(ClientTransactions::new(service.clone(), limits)),
            uploads: Uploads::new(limits.clone()),
            service,
            running: RunningStatements::default(),
        }
    }

    /// Returns the service.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Returns true if the account and the token of a principal are still valid.
    pub fn is_valid(&self, principal: &Principal) -> bool {
        self.service.access_control().credential_state(principal).is_ok()
    }

    /// Starts a statement. In a transaction, the statement sees the uncommitted changes of the
    /// transaction.
    pub async fn start(
        &self,
        caller: &Caller,
        transaction: Option<&str>,
        work: StatementSource,
        rows: Option<CopiedRows>,
    ) -> Result<ClientRows, Status> {
        let statements = self.service.statements().with_rows(rows);
        let Some(id) = transaction else {
            let started = run(&statements, caller, work).await?;
            let rows = started.rows.map_err(to_status)?;
            return Ok(ClientRows { rows, _transaction: None });
        };
        let transaction = self.transactions.get(&caller.principal, id)?;
        let mut locked = transaction.lock().await;
        let open = locked.as_mut().ok_or_else(ended)?;
        if work.writes().map_err(to_status)? {
            let transactions = statements.transactions();
            let prepared = transactions.prepare_write(&caller.principal, open);
            Box::pin(prepared).await.map_err(to_status)?;
        }
        let caller = caller.at(open.reference().clone());
        let started = run(&statements.within(Some(open)), &caller, work).await?;
        let rows = started.rows.map_err(to_status)?;
        drop(locked);
        Ok(ClientRows { rows, _transaction: Some(transaction) })
    }

    /// Runs a statement to its end. Returns the number of changed rows; for a query, the number of
    /// returned rows.
    pub async fn update(
        &self,
        caller: &Caller,
        transaction: Option<&str>,
        work: StatementSource,
        rows: Option<CopiedRows>,
    ) -> Result<i64, Status> {
        let rows = self.start(caller, transaction, work, rows).await?;
        changed_rows(rows).await
    }

    /// Returns the types of a prepared statement's columns and parameters. Runs a statement such as
    /// SHOW, whose columns are known only after execution. For INSERT, UPDATE and DELETE, infers
    /// the types of the parameters.
    pub async fn describe_prepared(
        &self,
        caller: &Caller,
        transaction: Option<&str>,
        statement: &PreparedStatement,
    ) -> Result<StatementDescription, Status> {
        let mut described = self.describe(caller, transaction, statement).await?;
        let name = statement.name().or_problem().map_err(to_status)?;
        let is_unknown = described.columns.is_none() && is_read(name);
        if is_unknown && described.parameters.is_empty() {
            let work = StatementSource::Bound(statement.clone());
            let rows = self.start(caller, transaction, work, None).await?;
            described.columns = Some(rows.schema().clone());
            changed_rows(rows).await?;
        }
        if described.parameters.iter().any(|parameter| parameter.data_type.is_none()) {
            self.infer(caller, transaction, statement, &mut described).await;
        }
        Ok(described)
    }

    /// Adds the types that can be inferred for the parameters of INSERT, UPDATE or DELETE. Ignores
    /// errors, because a client may have the right to change a table that it must not read.
    async fn infer(
        &self,
        caller: &Caller,
        transaction: Option<&str>,
        statement: &PreparedStatement,
        described: &mut StatementDescription,
    ) {
        let Some(queries) = type_inference_queries(statement.source()) else { return };
        let mut known: Vec<(String, DataType)> = Vec::new();
        let columns = self.types(caller, transaction, &queries.columns).await;
        if let Some(columns) = columns.and_then(|found| found.columns) {
            let value = |(name, index): (String, usize)| {
                Some((name, columns.fields().get(index)?.data_type().clone()))
            };
            known.extend(queries.values.into_iter().filter_map(value));
        }
        if let Some(found) = self.types(caller, transaction, &queries.expressions).await {
            let typed = |one: headwater_service::ParameterDescription| {
                Some((one.parameter.name, one.data_type?))
            };
            known.extend(found.parameters.into_iter().filter_map(typed));
        }
        for parameter in &mut described.parameters {
            let same = known.iter().find(|(name, _)| *name == parameter.parameter.name);
            if parameter.data_type.is_none() {
                parameter.data_type = same.map(|(_, data_type)| data_type.clone());
            }
        }
    }

    /// Returns the types of a query's columns and parameters; `None` if the text is empty or cannot
    /// be planned.
    async fn types(
        &self,
        caller: &Caller,
        transaction: Option<&str>,
        sql: &str,
    ) -> Option<StatementDescription> {
        let query = PreparedStatement::parse(sql).ok().filter(|_| !sql.is_empty())?;
        self.describe(caller, transaction, &query).await.ok()
    }

    /// Returns the types of a statement's columns and parameters.
    pub async fn describe(
        &self,
        caller: &Caller,
        transaction: Option<&str>,
        statement: &PreparedStatement,
    ) -> Result<StatementDescription, Status> {
        let statements = self.service.statements();
        let Some(id) = transaction else {
            let request = caller.request("");
            let described = statements.describe(&caller.principal, &request, statement);
            return Box::pin(described).await.map_err(to_status);
        };
        let transaction = self.transactions.get(&caller.principal, id)?;
        let open = transaction.lock().await;
        let open = open.as_ref().ok_or_else(ended)?;
        let request = caller.at(open.reference().clone()).request("");
        let statements = statements.within(Some(open));
        let described = statements.describe(&caller.principal, &request, statement);
        Box::pin(described).await.map_err(to_status)
    }

    /// Registers a running statement, so that its client can cancel it by its id.
    pub fn register(
        &self,
        principal: &Principal,
        id: &str,
    ) -> (CancellationToken, StatementRegistration) {
        self.running.register(principal, id)
    }

    /// Cancels the running statement that a `FlightInfo` describes. Returns false if the client has
    /// no such statement.
    pub fn cancel(&self, principal: &Principal, info: &FlightInfo) -> bool {
        running_id(info).is_some_and(|id| self.running.cancel(principal, &id))
    }
}

/// Executions of a prepared statement that have not started.
pub struct PendingExecutions {
    /// The statements of all clients.
    pub statements: Arc<FlightState>,
    /// The client that runs the statements.
    pub caller: Caller,
    /// The id of the transaction in which the statements run, if any.
    pub transaction: Option<String>,
    /// The statement for each remaining execution, with bound parameters.
    pub left: std::vec::IntoIter<PreparedStatement>,
}

impl PendingExecutions {
    /// Starts the next execution; `None` after the last one.
    pub async fn start_next(&mut self) -> Result<Option<ClientRows>, Status> {
        let Some(execution) = self.left.next() else { return Ok(None) };
        let (caller, transaction) = (&self.caller, self.transaction.as_deref());
        let started =
            self.statements.start(caller, transaction, StatementSource::Bound(execution), None);
        Ok(Some(Box::pin(started).await?))
    }
}

async fn run(
    statements: &headwater_service::Statements,
    caller: &Caller,
    work: StatementSource,
) -> Result<StartedStatement, Status> {
    let principal = &caller.principal;
    let started = match work {
        StatementSource::Text(sql) => {
            Box::pin(statements.start(principal, &caller.request(&sql))).await
        }
        StatementSource::Bound(statement) => {
            let request = caller.request("");
            Box::pin(statements.start_prepared(principal, &request, statement)).await
        }
    };
    started.map_err(to_status)
}

/// Reads all rows. Returns the number of rows that the statement changed, which its result
/// contains; for a query, the number of returned rows.
async fn changed_rows(mut rows: ClientRows) -> Result<i64, Status> {
    let mut count = 0;
    let schema = rows.schema().clone();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let is_write = names == ["rows", "commit"];
    while let Some(batch) = rows.next().await.map_err(to_status)? {
        let changed = batch.columns().first().filter(|_| is_write);
        count += match changed.and_then(|column| column.as_primitive_opt::<Int64Type>()) {
            Some(changed) => changed.values().iter().sum(),
            None => i64::try_from(batch.num_rows()).unwrap_or(i64::MAX),
        };
    }
    Ok(count)
}
