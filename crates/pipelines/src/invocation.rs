//! Invocations of Python functions within a job, for steps of a run and for calls by name.
//!
//! All [`Invocation`]s of a project's functions are created in this module. Installation progress
//! and printed lines become log events of the job.

use std::sync::Arc;

use headwater_functions::{
    Argument, CallOwner, EarlyResultSender, Environment, EnvironmentEvent, EnvironmentSpec,
    FunctionEvent, Invocation, InvocationOutcome, LakeAccess, Limits, OptionalCallParts,
    ResultKind, ReuseScope,
};
use headwater_jobs::JobContext;
use headwater_model::{JobEventKind, LogStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::function_secrets::FunctionSecrets;
use crate::{Project, PythonFunction, Runner};

/// Maximum number of printed lines that are buffered for the job; a full buffer blocks the
/// function's output.
const LINES_BUFFERED_MAX: usize = 1_024;

/// A function to invoke, with its environment, arguments and limits.
pub(crate) struct FunctionCall<'a> {
    pub project: &'a Project,
    pub function: &'a PythonFunction,
    pub environment: Arc<Environment>,
    pub arguments: Vec<Argument>,
    pub returns: ResultKind,
    pub limits: Limits,
    /// The secrets passed as environment variables. Their values are removed from the output.
    pub secrets: FunctionSecrets,
    /// The function's name in error messages.
    pub label: &'a str,
    /// Name of the model for log events; `None` for a call by name.
    pub model: Option<&'a str>,
    /// The owner, job and priority, which determine the order of calls in the queue.
    pub share: CallOwner,
    /// Determines which later calls may reuse the process of this call.
    pub reuse: ReuseScope,
    /// A token that is cancelled to reject a call that has not started.
    pub start_until: CancellationToken,
    /// The function's access to the lake, for `headwater.lake`.
    pub lake: Option<Arc<dyn LakeAccess>>,
    /// Values from the client: the Lambda client context, and the receiver of a streamed response.
    pub client: OptionalCallParts,
    /// The receiver of a result that is sent before the process exits. Secrets are not removed from
    /// the result, which is a table or a Boolean value.
    pub early_result: Option<EarlyResultSender>,
}

impl Runner {
    /// Returns an environment, and installs it if it is missing.
    pub(crate) async fn install_environment(
        &self,
        spec: &EnvironmentSpec,
        model: Option<&str>,
        context: &JobContext,
    ) -> headwater_functions::Result<Arc<Environment>> {
        let (context, model) = (context.clone(), model.map(str::to_owned));
        let report_progress = move |event: EnvironmentEvent| {
            if !matches!(event, EnvironmentEvent::Ready { .. }) {
                context.emit(JobEventKind::Log {
                    stream: LogStream::System,
                    model: model.clone(),
                    file: None,
                    line: None,
                    text: event.to_string(),
                });
            }
        };
        self.functions.environment(spec, &report_progress).await
    }

    /// Invokes a function. On return, all lines that it printed are events of the job.
    pub(crate) async fn invoke(
        &self,
        call: FunctionCall<'_>,
        context: &JobContext,
        cancelled: CancellationToken,
    ) -> InvocationOutcome {
        let model = call.model.map(str::to_owned);
        let (invocation, secrets) = self.invocation_of(call);
        let (sink, mut lines) = mpsc::channel(LINES_BUFFERED_MAX);
        let forward_lines = async {
            while let Some(event) = lines.recv().await {
                let FunctionEvent::Line { stream, file, line, text } = secrets.redact_line(event);
                context.emit(JobEventKind::Log { stream, model: model.clone(), file, line, text });
            }
        };
        let invoked = self.functions.invoke(invocation, sink, cancelled);
        let (outcome, ()) = tokio::join!(invoked, forward_lines);
        secrets.redact_outcome(outcome)
    }

    /// Returns the invocation of a function, and the secrets that must be removed from the
    /// function's output.
    pub(crate) fn invocation_of(&self, call: FunctionCall<'_>) -> (Invocation, FunctionSecrets) {
        let (secrets, mut client) = (call.secrets, call.client);
        if secrets.redacts() {
            // Do not stream the response of a function with secrets: a secret that spans two parts
            // of the response would not be removed.
            client.answer = None;
        }
        let invocation = Invocation {
            environment: call.environment,
            files: call.project.sandbox_files.clone(),
            module: call.function.file.to_string(),
            function: call.function.name.clone(),
            arguments: call.arguments,
            kind: call.returns,
            limits: secrets.add_to(call.limits),
            label: call.label.to_owned(),
            quota: Some(self.table_quota.clone()),
            reuse: call.reuse,
            starts_runtime: call.function.starts_runtime,
            share: call.share,
            begins_until: call.start_until,
            lake: call.lake,
            client,
            early_result: call.early_result,
        };
        (invocation, secrets)
    }
}
