//! The ticket of a statement: everything that is needed to run it.

use arrow_flight::FlightInfo;
use arrow_flight::sql::{Any, Command, ProstMessageExt, TicketStatementQuery};
use bytes::Bytes;
use headwater_model::{Principal, RefSpec};
use prost::Message;
use serde::{Deserialize, Serialize};
use tonic::Status;

use crate::caller::{Caller, parse_ref};
use crate::grpc_status::{internal, to_status};

/// The content of a ticket: a statement with its context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatementTicket {
    /// The id by which the client can cancel the running statement.
    pub id: String,
    /// The text of the statement.
    pub sql: String,
    /// The ref that the statement reads and writes.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The namespace of unqualified names.
    pub namespace: Option<String>,
    /// The id of the transaction in which the statement runs, if any.
    pub transaction: Option<String>,
}

impl StatementTicket {
    /// Creates the ticket of a statement.
    pub fn new(caller: &Caller, sql: String, transaction: Option<String>) -> Self {
        StatementTicket {
            id: uuid::Uuid::new_v4().simple().to_string(),
            sql,
            reference: caller.reference.to_string(),
            namespace: caller.namespace.clone(),
            transaction,
        }
    }

    /// Encodes the ticket.
    pub fn encode(&self) -> Result<Bytes, Status> {
        let statement_handle = serde_json::to_vec(self).map_err(internal)?.into();
        Ok(TicketStatementQuery { statement_handle }.as_any().encode_to_vec().into())
    }

    /// Decodes the content of a ticket.
    pub fn decode(handle: &[u8]) -> Result<Self, Status> {
        serde_json::from_slice(handle)
            .map_err(|_| Status::invalid_argument("the ticket was not created by this server"))
    }

    /// Returns the context in which a client runs the statement.
    pub fn caller(&self, principal: Principal) -> Result<Caller, Status> {
        let reference: RefSpec = parse_ref(&self.reference).map_err(to_status)?;
        let namespace = self.namespace.clone();
        Ok(Caller { principal, reference, namespace, session: None })
    }
}

/// Returns the id of the running statement that a `FlightInfo` describes; `None` if it does not
/// describe a statement.
pub fn running_id(info: &FlightInfo) -> Option<String> {
    let ticket = info.endpoint.first()?.ticket.as_ref()?;
    match Command::try_from(Any::decode(&*ticket.ticket).ok()?).ok()? {
        Command::TicketStatementQuery(query) => {
            Some(StatementTicket::decode(&query.statement_handle).ok()?.id)
        }
        Command::CommandPreparedStatementQuery(query) => {
            Some(String::from_utf8_lossy(&query.prepared_statement_handle).into_owned())
        }
        _ => None,
    }
}

/// The savepoint id that a client receives. It contains the id of the savepoint's transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavepointId {
    /// The id of the savepoint's transaction.
    pub transaction: String,
    /// The name of the savepoint.
    pub name: String,
}

impl SavepointId {
    /// Encodes the id.
    pub fn encode(&self) -> Result<Bytes, Status> {
        Ok(serde_json::to_vec(self).map_err(internal)?.into())
    }

    /// Decodes an id.
    pub fn decode(id: &[u8]) -> Result<Self, Status> {
        let wrong = |_| Status::invalid_argument("the savepoint was not created by this server");
        serde_json::from_slice(id).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_contains_its_statement() {
        let caller = Caller {
            principal: Principal::owner(),
            reference: RefSpec::main(),
            namespace: Some("sales".to_owned()),
            session: None,
        };
        let ticket = StatementTicket::new(&caller, "SELECT 1".to_owned(), None);
        let encoded = ticket.encode().expect("a ticket");
        let info = FlightInfo::new().with_endpoint(
            arrow_flight::FlightEndpoint::new().with_ticket(arrow_flight::Ticket::new(encoded)),
        );
        assert_eq!(running_id(&info), Some(ticket.id));
        assert!(StatementTicket::decode(b"{").is_err());
    }
}
