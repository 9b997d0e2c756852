//! Actions of Flight that are not part of Flight SQL: they cancel a statement, set or return the
//! options of a session, or end a session.

use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus,
};
use bytes::Bytes;
use prost::Message;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::caller::Caller;
use crate::flight_sql::{FlightSql, malformed};
use crate::session_options;

/// The action that cancels a statement by its `FlightInfo`.
const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";

/// The action that ends the session of a client.
const CLOSE_SESSION: &str = "CloseSession";

/// The actions that set and return the options of a session.
const SET_SESSION_OPTIONS: &str = "SetSessionOptions";
const GET_SESSION_OPTIONS: &str = "GetSessionOptions";

/// The values in the result of [`CLOSE_SESSION`].
const SESSION_CLOSED: i32 = 1;
const SESSION_NOT_CLOSABLE: i32 = 3;

/// The result of the action [`CLOSE_SESSION`], which the crate `arrow-flight` does not define.
#[derive(Clone, PartialEq, Message)]
struct CloseSessionResult {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Returns the descriptions of the actions.
pub fn list() -> Vec<ActionType> {
    let action = |name: &str, description: &str| ActionType {
        r#type: name.to_owned(),
        description: description.to_owned(),
    };
    vec![
        action(CANCEL_FLIGHT_INFO, "Cancels a statement.\nRequest: CancelFlightInfoRequest"),
        action(SET_SESSION_OPTIONS, "Sets options.\nRequest: SetSessionOptionsRequest"),
        action(GET_SESSION_OPTIONS, "Returns options.\nRequest: GetSessionOptionsRequest"),
        action(CLOSE_SESSION, "Ends the session.\nRequest: CloseSessionRequest"),
    ]
}

impl FlightSql {
    /// Runs an action of a client. Returns its encoded result. Session options are added as cookies
    /// to the metadata of the response.
    pub(crate) async fn custom_action(
        &self,
        caller: &Caller,
        action: &Action,
        response: &mut MetadataMap,
    ) -> Result<Bytes, Status> {
        match action.r#type.as_str() {
            SET_SESSION_OPTIONS => {
                let service = self.statements.service();
                let set = session_options::set(service, caller, &action.body, response);
                Ok(Box::pin(set).await?.into())
            }
            GET_SESSION_OPTIONS => Ok(session_options::get(caller).into()),
            CANCEL_FLIGHT_INFO => self.cancel_flight_info(caller, &action.body),
            CLOSE_SESSION => Ok(self.close_session(caller).await),
            other => {
                let message = format!("the action `{other}` is not supported");
                Err(Status::unimplemented(message))
            }
        }
    }

    fn cancel_flight_info(&self, caller: &Caller, request: &[u8]) -> Result<Bytes, Status> {
        let cancel = CancelFlightInfoRequest::decode(request).map_err(malformed)?;
        let info = cancel.info.as_ref();
        let is_cancelled = info.is_some_and(|it| self.statements.cancel(&caller.principal, it));
        let status =
            if is_cancelled { CancelStatus::Cancelling } else { CancelStatus::NotCancellable };
        Ok(CancelFlightInfoResult::new(status).encode_to_vec().into())
    }

    /// Ends the session of a client, with its transactions and prepared statements. A client that
    /// sends a credential other than a session token has no session.
    async fn close_session(&self, caller: &Caller) -> Bytes {
        let Some(session) = &caller.session else {
            return CloseSessionResult { status: SESSION_NOT_CLOSABLE }.encode_to_vec().into();
        };
        session.end();
        self.prepared.remove_session(session.id());
        self.statements.transactions.roll_back_session(session.id()).await;
        CloseSessionResult { status: SESSION_CLOSED }.encode_to_vec().into()
    }
}
