//! Prepared statements of clients.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use headwater_model::{Identity, Principal, ResultExt};
use headwater_service::{Description, PreparedStatement};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;
use tonic::Status;

use crate::caller::Caller;
use crate::parameters;
use crate::status::to_status;

/// Time without use after which a prepared statement is dropped.
const IDLE: Duration = Duration::from_secs(12 * 3600);

/// Maximum number of prepared statements. Beyond it, the one that has been unused for longest is
/// dropped.
const PREPARED_MAX: u64 = 10_000;

/// A prepared statement of a client.
pub struct ClientStatement {
    owner: Identity,
    /// The context in which it was prepared.
    pub caller: Caller,
    /// The transaction in which it runs.
    pub transaction: Option<String>,
    /// The statement, with its parameters.
    pub statement: PreparedStatement,
    /// The parameters of the next execution, one row each.
    pub bound: Mutex<Vec<RecordBatch>>,
}

impl ClientStatement {
    /// Returns the statements to execute: one for each bound row.
    pub fn executions(&self) -> Result<Vec<PreparedStatement>, Status> {
        let bound = self.bound.lock().clone();
        if self.statement.parameters().is_empty() {
            return Ok(vec![self.statement.clone()]);
        }
        let mut statements = Vec::new();
        for batch in &bound {
            statements.extend(parameters::bind(&self.statement, batch)?);
        }
        if statements.is_empty() {
            // Reports the first parameter without a value.
            let bound = self.statement.clone().bind(&std::collections::BTreeMap::new());
            statements.push(bound.or_problem().map_err(to_status)?);
        }
        Ok(statements)
    }
}

/// The prepared statements of all clients.
pub struct ClientPrepared(Cache<String, Arc<ClientStatement>>);

impl ClientPrepared {
    /// Creates an empty set.
    pub fn new() -> Self {
        let cache = Cache::builder()
            .max_capacity(PREPARED_MAX)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(IDLE)
            .build();
        ClientPrepared(cache)
    }

    /// Adds a statement. Returns its handle.
    pub fn add(
        &self,
        caller: &Caller,
        transaction: Option<String>,
        statement: PreparedStatement,
    ) -> String {
        let handle = uuid::Uuid::new_v4().simple().to_string();
        let prepared = ClientStatement {
            owner: caller.principal.identity().clone(),
            caller: caller.clone(),
            transaction,
            statement,
            bound: Mutex::default(),
        };
        self.0.insert(handle.clone(), Arc::new(prepared));
        handle
    }

    /// Returns a statement of the client.
    pub fn get(
        &self,
        principal: &Principal,
        handle: &[u8],
    ) -> Result<Arc<ClientStatement>, Status> {
        let handle = String::from_utf8_lossy(handle);
        let found = self.0.get(&*handle).filter(|it| it.owner == *principal.identity());
        found.ok_or_else(|| {
            Status::not_found("the prepared statement does not exist or was unused for too long")
        })
    }

    /// Drops a statement of the client.
    pub fn close(&self, principal: &Principal, handle: &[u8]) -> Result<(), Status> {
        self.get(principal, handle)?;
        self.0.invalidate(&*String::from_utf8_lossy(handle));
        Ok(())
    }
}

/// Returns the parameters of a statement as a schema. A parameter without a known type is text.
pub fn parameter_schema(statement: &PreparedStatement, description: &Description) -> Schema {
    let field = |name: &String| {
        let known = description.parameters.iter().find(|it| it.parameter.name == *name);
        let data_type = known.and_then(|it| it.data_type.clone()).unwrap_or(DataType::Utf8);
        Field::new(name, data_type, true)
    };
    Schema::new(parameters::names(statement).iter().map(field).collect::<Vec<_>>())
}
