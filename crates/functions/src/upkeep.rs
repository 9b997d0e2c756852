//! What people see of the runtime and can do to it: environments, and calls that run and wait.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use headwater_model::{
    EnvironmentExplained, EnvironmentSummary, FunctionCall, PrunedEnvironments, RebuiltEnvironment,
    ZygoteSummary,
};
use parking_lot::Mutex;

use crate::environment::Removed;
use crate::error::size;
use crate::functions::{Functions, MEMORY_UNIT};
use crate::{Environment, EnvironmentEvent, Error, Invocation, Result};

/// Calls in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Calls(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    calls: BTreeMap<u64, Call>,
}

#[derive(Debug)]
struct Call {
    label: String,
    environment: String,
    memory_bytes: u64,
    since: SystemTime,
    runs: bool,
}

/// A call that is listed as long as this lives.
#[derive(Debug)]
pub(crate) struct Listed<'a> {
    calls: &'a Calls,
    number: u64,
}

impl Calls {
    /// Lists a call that waits.
    pub(crate) fn add(&self, invocation: &Invocation) -> Listed<'_> {
        let mut state = self.0.lock();
        let number = state.next;
        state.next += 1;
        let call = Call {
            label: invocation.label.clone(),
            environment: invocation.environment.id.clone(),
            memory_bytes: invocation.limits.memory_bytes,
            since: SystemTime::now(),
            runs: false,
        };
        state.calls.insert(number, call);
        Listed { calls: self, number }
    }
}

impl Listed<'_> {
    /// Its turn has come.
    pub(crate) fn runs(&self) {
        if let Some(call) = self.calls.0.lock().calls.get_mut(&self.number) {
            (call.runs, call.since) = (true, SystemTime::now());
        }
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.calls.0.lock().calls.remove(&self.number);
    }
}

impl Functions {
    /// The environments that there are, the last used first.
    pub async fn environments(&self) -> Vec<EnvironmentSummary> {
        let functions = self.clone();
        let all = tokio::task::spawn_blocking(move || functions.0.environments.all());
        all.await.unwrap_or_default()
    }

    /// What there is to say of an environment, by the beginning of its id, and of every call that
    /// runs or waits. Codes: `environment_not_found`.
    pub async fn explain(&self, id: &str) -> Result<EnvironmentExplained> {
        let environment = self.named(id).await?;
        let report = self.zygotes().into_iter().find(|one| one.environment == environment.id);
        let zygote = report.map(|report| ZygoteSummary {
            memory_bytes: report.memory_bytes,
            imported_ms: report.imported_ms,
            skipped: report.skipped,
            failure: report.failure,
        });
        let small_pages = self.0.pages.as_ref().err().cloned();
        Ok(EnvironmentExplained { environment, zygote, small_pages, calls: self.calls() })
    }

    /// The calls that run and wait, and what those wait for.
    pub fn calls(&self) -> Vec<FunctionCall> {
        let inner = &*self.0;
        let state = inner.calls.0.lock();
        let (free, memory) = (inner.turns.available_permits(), inner.memory.available_permits());
        let running = state.calls.values().filter(|call| call.runs).count();
        let mut first = true;
        let reason = |call: &Call| {
            if !std::mem::take(&mut first) {
                return "the calls before it".to_owned();
            }
            if free == 0 {
                return format!("one of the {running} that run to end: no more may run at once");
            }
            let (free, all) = (memory as u64 * MEMORY_UNIT, u64::from(inner.memory_units));
            let wanted = size(call.memory_bytes);
            let all = size(all * MEMORY_UNIT);
            format!("memory: it may hold {wanted}, and {} of {all} are free", size(free))
        };
        let mut reason = reason;
        let told = |call: &Call| FunctionCall {
            label: call.label.clone(),
            environment: call.environment.clone(),
            memory_bytes: call.memory_bytes,
            since: call.since.into(),
            waits_for: (!call.runs).then(|| reason(call)),
        };
        state.calls.values().map(told).collect()
    }

    /// Removes environments that no function has asked for in so long and that none uses now.
    pub async fn prune(&self, unused_for: Duration) -> Result<PrunedEnvironments> {
        let mut pruned = PrunedEnvironments::default();
        for environment in self.environments().await {
            if !self.0.environments.is_unused(&environment.id, unused_for) {
                continue;
            }
            // What waits for calls to come is in nobody's use.
            let of_this = |held: &Environment| held.id == environment.id;
            self.0.warm.end_where(of_this);
            self.0.zygotes.end_unused(of_this);
            match self.0.environments.remove(&environment.id, unused_for).await? {
                Removed::Gone(environment) => {
                    pruned.bytes += environment.bytes_own;
                    pruned.removed.push(environment);
                }
                Removed::Busy => pruned.busy.push(environment.id),
                Removed::Wanted => {}
            }
        }
        Ok(pruned)
    }

    /// Chooses an environment's packages anew, within what was asked for. Calls that run go on with
    /// the old ones; the next call gets the new ones. Codes: `environment_not_found`,
    /// `environment_failed`.
    pub async fn rebuild(
        &self,
        id: &str,
        on_progress: &(dyn Fn(EnvironmentEvent) + Send + Sync),
    ) -> Result<RebuiltEnvironment> {
        let id = self.named(id).await?.id;
        let rebuilt = self.0.environments.rebuild(&id, on_progress).await?;
        let now = self.0.environments.build_of(&id);
        let of_before = |held: &Environment| held.id == id && Some(&held.build) != now.as_ref();
        self.0.warm.end_where(of_before);
        self.0.zygotes.end_where(of_before);
        let environments = self.0.environments.clone();
        let _ = tokio::task::spawn_blocking(move || environments.sweep()).await;
        Ok(rebuilt)
    }

    async fn named(&self, id: &str) -> Result<EnvironmentSummary> {
        let (functions, id) = (self.clone(), id.to_owned());
        let found = tokio::task::spawn_blocking(move || functions.0.environments.named(&id));
        found.await.map_err(|_| Error::Spawner { reason: "is stopping".to_owned() })?
    }
}
