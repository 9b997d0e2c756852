//! Prepared statements of clients.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use headwater_model::{Principal, ResultExt};
use headwater_service::{PreparedStatement, StatementDescription};
use parking_lot::Mutex;
use tonic::Status;

use crate::caller::Caller;
use crate::client_handles::{ClientHandles, EntryGuard};
use crate::grpc_status::to_status;
use crate::limits::FlightLimits;
use crate::parameters;
use crate::uploads::UploadQuota;

/// A prepared statement of a client.
pub struct ClientPreparedStatement {
    /// The context in which the client prepared the statement.
    pub caller: Caller,
    /// The id of the transaction in which the statement runs, if any.
    pub transaction: Option<String>,
    /// The statement, with its parameters.
    pub statement: PreparedStatement,
    /// The rows of parameters for the next executions, which replace earlier rows.
    pub bound: Mutex<ParameterRows>,
}

/// Rows of parameters. The statement is executed once for each row.
#[derive(Default)]
pub struct ParameterRows {
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// The charge for the memory of the rows, which is released when the rows are dropped.
    pub _quota: Option<UploadQuota>,
}

impl ClientPreparedStatement {
    /// Returns the statements to execute: one for each row of parameters, or one without
    /// parameters.
    pub fn executions(&self) -> Result<Vec<PreparedStatement>, Status> {
        let bound = self.bound.lock().batches.clone();
        if self.statement.parameters().is_empty() {
            return Ok(vec![self.statement.clone()]);
        }
        let mut statements = Vec::new();
        for batch in &bound {
            statements.extend(parameters::bind(&self.statement, batch)?);
        }
        if statements.is_empty() {
            // No row was sent. Binding nothing returns the error for the first parameter without a
            // value.
            let bound = self.statement.clone().bind(&std::collections::BTreeMap::new());
            statements.push(bound.or_problem().map_err(to_status)?);
        }
        Ok(statements)
    }
}

/// The prepared statements of all clients.
pub type ClientPreparedStatements = ClientHandles<ClientPreparedStatement>;

/// Creates an empty set of prepared statements.
pub fn prepared(limits: &FlightLimits) -> ClientPreparedStatements {
    let hint = "Close the statements that are no longer used.";
    ClientHandles::new("prepared statements", hint, limits.prepared_max, limits.prepared_idle)
}

impl ClientPreparedStatements {
    /// Adds a statement. Returns its handle.
    ///
    /// Errors: the principal has too many statements.
    pub fn prepare(
        &self,
        caller: &Caller,
        transaction: Option<String>,
        statement: PreparedStatement,
    ) -> Result<String, Status> {
        let bound = Mutex::default();
        let prepared =
            ClientPreparedStatement { caller: caller.clone(), transaction, statement, bound };
        self.add(caller, prepared).map_err(|(_, status)| status)
    }

    /// Returns a statement of the client.
    pub fn find(
        &self,
        principal: &Principal,
        handle: &[u8],
    ) -> Result<EntryGuard<ClientPreparedStatement>, Status> {
        self.get(principal, &String::from_utf8_lossy(handle)).ok_or_else(missing)
    }

    /// Drops a statement of the client.
    pub fn close(&self, principal: &Principal, handle: &[u8]) -> Result<(), Status> {
        let removed = self.remove(principal, &String::from_utf8_lossy(handle));
        removed.map(drop).ok_or_else(missing)
    }
}

fn missing() -> Status {
    Status::not_found("the prepared statement does not exist or was unused for too long")
}

/// Returns the parameters of a statement as a schema. A parameter without a known type is text.
pub fn parameter_schema(
    statement: &PreparedStatement,
    description: &StatementDescription,
) -> Schema {
    let field = |name: &String| {
        let known = description.parameters.iter().find(|it| it.parameter.name == *name);
        let data_type =
            known.and_then(|it| it.data_type.as_ref()).map_or(DataType::Utf8, without_encodings);
        Field::new(name, data_type, true)
    };
    Schema::new(parameters::names(statement).iter().map(field).collect::<Vec<_>>())
}

/// Returns a type without the string views and dictionaries that the engine uses, because JDBC
/// drivers do not know these types.
fn without_encodings(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, values) => without_encodings(values),
        DataType::List(element) | DataType::LargeList(element) => {
            DataType::new_list(without_encodings(element.data_type()), true)
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_no_view_types() {
        assert_eq!(without_encodings(&DataType::Utf8View), DataType::Utf8);
        let texts = DataType::new_list(DataType::Utf8View, false);
        assert_eq!(without_encodings(&texts), DataType::new_list(DataType::Utf8, true));
        assert_eq!(without_encodings(&DataType::Date32), DataType::Date32);
    }
}
