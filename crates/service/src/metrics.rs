//! Metrics of the server.

use headwater_executors::EVERY;
use headwater_metrics::{Exposition, MetricsFormat, RequestMetrics};
use headwater_model::{AccessObject, Action, ErrorCode, Principal, Problem};
use headwater_triggers::Triggers;

use crate::job::Jobs;

impl Jobs {
    /// Returns the metrics of all components, and of the protocols (`requests`), as text.
    ///
    /// The labels contain names of functions and triggers, so the principal needs the right to read
    /// the usage of every user. Errors: `unauthenticated`; `forbidden`.
    pub async fn metrics(
        &self,
        principal: &Principal,
        requests: &RequestMetrics,
        format: MetricsFormat,
    ) -> Result<String, Problem> {
        let components = &self.0;
        components.authorize(principal, Action::Read, &AccessObject::usage(EVERY))?;
        let (functions, triggers) = (&components.functions, components.triggers.as_ref());
        let exposition = Exposition {
            version: components.config.version.clone(),
            calls: functions.metrics().clone(),
            instances: functions.instances(),
            functions_cpu_us: functions.kernel_cpu_us().await,
            jobs: components.jobs.monitor().metrics().clone(),
            unfinished: components.jobs.monitor().unfinished(),
            events: triggers.map(Triggers::metrics).cloned().unwrap_or_default(),
            pending: triggers.map(Triggers::pending).unwrap_or_default(),
            commits: components.lake.telemetry().metrics().clone(),
            statements: components.engine.statements().clone(),
            requests: requests.clone(),
            spans: components.config.telemetry.metrics(),
        };
        let failed = || Problem::new(ErrorCode::Internal, "the metrics cannot be encoded");
        // Use a blocking thread: the text has thousands of lines, and encoding reads `/proc`.
        let encoded = tokio::task::spawn_blocking(move || exposition.encode(format)).await;
        encoded.map_err(|_| failed())?.map_err(|_| failed())
    }
}
