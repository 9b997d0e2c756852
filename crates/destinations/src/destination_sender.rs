//! Sends records and results to destinations.

use headwater_function_lake::{AppendResult, CallIdentity, LakeComponents};
use headwater_model::{ErrorCode, Problem, ResultExt};
use headwater_queues::Queues;
use headwater_secrets::{Redactor, SecretStore};
use headwater_triggers::{ConnectionPolicy, with_retryable};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::DestinationAddress;
use crate::payload::{IdentifiedPayload, Payload};
use crate::queue::{self, MessageOrigin};
use crate::send_failure::redacted;

/// Sender of records and results to destinations, with the parts of the lake that it uses. Cheap to
/// clone.
#[derive(Clone)]
pub struct DestinationSender {
    /// The lake with the tables and buckets to which content is written.
    pub lake: LakeComponents,
    /// The queues.
    queues: Queues,
    /// The secrets, for passwords and headers.
    secrets: SecretStore,
}

/// An attempt to send a record or a result.
pub struct SendAttempt<'a> {
    /// The id of the content. Each attempt to send it has the same id.
    pub id: &'a str,
    /// The record or the result.
    pub payload: Payload<'a>,
    /// The name of the sender that a message in a queue contains.
    pub sender: &'a str,
    /// The servers to which the identity that set the destination may connect.
    pub policy: ConnectionPolicy,
    /// The access of this identity to the lake, and the event id that a commit of rows contains.
    pub scope: CallIdentity,
}

/// Content that was sent.
#[derive(Debug)]
pub struct SentContent {
    /// A description of the sent content, for the result of the job.
    pub result: Value,
    /// The rows that were appended to a table of the lake.
    pub appended: AppendResult,
}

impl DestinationSender {
    /// Creates a sender that uses these parts of a lake.
    pub fn new(lake: LakeComponents, queues: &Queues, secrets: &SecretStore) -> Self {
        DestinationSender { lake, queues: queues.clone(), secrets: secrets.clone() }
    }

    /// Sends a record or a result.
    ///
    /// Errors: the errors of the destination; `forbidden` if the identity may not connect to the
    /// server. `retryable` in the context of an error states whether another attempt may succeed.
    /// An error without `retryable` is not counted as an attempt to deliver the event.
    pub async fn send(
        &self,
        to: &DestinationAddress,
        sending: SendAttempt<'_>,
    ) -> Result<SentContent, Problem> {
        let SendAttempt { id, payload, sender, policy, scope } = sending;
        let content = IdentifiedPayload { id, payload };
        let secret = self.secret(to).await?;
        let value = secret.as_deref().map(String::as_str);
        let mut appended = AppendResult::default();
        let result = match to {
            DestinationAddress::Queue(name) => {
                let origin = MessageOrigin { sender, caused_by: scope.caused_by };
                queue::send(&self.queues, name, origin, &content).await
            }
            DestinationAddress::Http(endpoint) => endpoint.send(&content, &policy, value).await,
            DestinationAddress::Mail(route) => route.send(&content, &policy, value).await,
            DestinationAddress::Table(target) => {
                let rows = target.append(&self.lake, &content, scope).await;
                rows.map(|rows| {
                    appended = rows;
                    json!({"rows": rows.rows})
                })
            }
            DestinationAddress::Postgres(table) => table.write(&content, &policy, value).await,
            DestinationAddress::Object(target) => target.write(&self.lake, &content, scope).await,
        };
        let result = result.map_err(|problem| redacted(counted(problem), &Redactor::new(value)))?;
        Ok(SentContent { result, appended })
    }

    async fn secret(&self, to: &DestinationAddress) -> Result<Option<Zeroizing<String>>, Problem> {
        let Some(name) = to.secret() else { return Ok(None) };
        let mut values = self.secrets.values(&[name.to_owned()]).await.or_problem()?;
        Ok(values.remove(name))
    }
}

/// Marks the error of a destination that is unavailable as retryable. Without this mark, the
/// trigger would not count the attempt, and would retry until the event is too old. Marks the error
/// for a forbidden server as final.
fn counted(problem: Problem) -> Problem {
    match problem.code {
        ErrorCode::Unavailable if !problem.context.contains_key("retryable") => {
            with_retryable(problem, true)
        }
        ErrorCode::Forbidden => with_retryable(problem, false),
        _ => problem,
    }
}
