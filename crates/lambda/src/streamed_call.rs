//! A call whose output arrives in parts, for streaming calls and for URLs that stream.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use headwater_model::{Principal, Problem};
use headwater_service::{
    Argument, ArgumentValue, CallInput, EndedJob, JobContext, OptionalCallParts, ResolvedFunction,
    ResponsePart, ResponseSender, ResultKind, Service,
};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::invoke::{EVENT, encode};

/// The end of a call: its job, and the result as JSON.
pub(crate) type CallEnd = Result<EndedJob<Bytes>, Problem>;

/// Values that a client sends with a call, and the function that checks the call's result.
pub(crate) struct ClientInput {
    pub(crate) event: Value,
    pub(crate) context: Option<Value>,
    pub(crate) check: ResultCheck,
}

/// Checks the result of a call. Returns a line for the job's log if the result is invalid.
pub(crate) type ResultCheck = fn(&Bytes) -> Option<String>;

/// A running call. Dropping it stops the function.
pub(crate) struct StreamedCall {
    call: BoxFuture<'static, CallEnd>,
    parts: mpsc::Receiver<ResponsePart>,
    ended: Option<CallEnd>,
    is_over: bool,
}

/// The next event of a call.
pub(crate) enum CallEvent {
    /// The next part of the output.
    Part(ResponsePart),
    /// The call has ended. If the call sent no part, its result is the output.
    Ended(CallEnd),
}

impl StreamedCall {
    /// Creates a call, which starts at the first call of `next`.
    pub(crate) fn new(
        service: &Service,
        principal: &Principal,
        function: ResolvedFunction,
        ClientInput { event, context, check }: ClientInput,
    ) -> Self {
        let (answer, parts) = ResponseSender::new();
        let client =
            OptionalCallParts { context, answer: Some(answer), ..OptionalCallParts::default() };
        let arguments =
            vec![Argument { name: EVENT.to_owned(), value: ArgumentValue::Json(event) }];
        let returns = ResultKind::Any;
        let input = CallInput { arguments, returns, client, permit: None, started: None };
        let (invocations, principal) = (service.invocations(), principal.clone());
        let call = async move {
            let encode = move |returned, job: JobContext| async move {
                let result = encode(returned).await?;
                if let Some(line) = check(&result) {
                    job.log_system(line);
                }
                Ok::<_, Problem>(result)
            };
            invocations.call(&principal, function, input, encode).await
        };
        let call = call.boxed();
        StreamedCall { call, parts, ended: None, is_over: false }
    }

    /// Returns the next event; `None` after the end.
    pub(crate) async fn next(&mut self) -> Option<CallEvent> {
        if self.is_over {
            return None;
        }
        if self.ended.is_none() {
            tokio::select! {
                biased;
                Some(part) = self.parts.recv() => return Some(CallEvent::Part(part)),
                ended = &mut self.call => self.ended = Some(ended),
            }
            self.parts.close();
        }
        if let Some(part) = self.parts.recv().await {
            return Some(CallEvent::Part(part));
        }
        self.is_over = true;
        self.ended.take().map(CallEvent::Ended)
    }
}
