//! A target that behaves like tables: the files of an event are committed together, and at most
//! once.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use headwater_jobs::{CallBudget, JobContext, Jobs};
use headwater_model::{
    Actor, Clock, ErrorCode, Event, EventData, FixedClock, Problem, Trigger, TriggerEvent,
};
use headwater_store::Store;
use headwater_triggers::{
    CallPolicy, TargetExecutor, TriggerEventFilter, Triggers, TriggersOptions,
};
use serde_json::{Value, json};

/// Tables that the triggers write to. They survive the end of a process.
#[derive(Default)]
pub struct Tables {
    /// Committed events by id.
    pub commits: Mutex<BTreeMap<String, Event>>,
    /// All attempts, in order.
    pub tries: Mutex<Vec<Event>>,
    /// Errors of the next attempts, in order.
    pub problems: Mutex<VecDeque<Problem>>,
    /// Policies of asynchronous calls, by function.
    pub policies: Mutex<BTreeMap<String, CallPolicy>>,
    /// Budgets of functions.
    pub budgets: Mutex<BTreeMap<String, CallBudget>>,
    /// The error of reading a budget, if any.
    pub budget_problem: Mutex<Option<Problem>>,
    /// The user that deployed the triggers, if any.
    pub deployer: Mutex<Option<String>>,
    /// Reason why the identities of events have no rights, if any.
    pub denied: Mutex<Option<String>>,
    /// Reason why sources may not be polled, if any.
    pub denied_sources: Mutex<Option<String>>,
}

impl Tables {
    /// The files of all commits, in order of events.
    pub fn files(&self) -> Vec<String> {
        let commits = self.commits.lock().expect("commits");
        commits.values().flat_map(Event::files).map(|file| file.path.clone()).collect()
    }

    /// Returns the number of attempts.
    pub fn tries(&self) -> usize {
        self.tries.lock().expect("tries").len()
    }

    /// Makes the next `times` attempts fail with this code.
    pub fn fail(&self, code: ErrorCode, times: usize) {
        let problem = Problem::new(code, "not now");
        self.problems.lock().expect("problems").extend(std::iter::repeat_n(problem, times));
    }
}

#[async_trait]
impl TargetExecutor for Tables {
    async fn execute(
        &self,
        _trigger: &Trigger,
        event: &Event,
        _actor: Option<&Actor>,
        context: JobContext,
    ) -> Result<Value, Problem> {
        assert_eq!(context.event(), Some(event.id.as_str()));
        self.tries.lock().expect("tries").push(event.clone());
        tokio::task::yield_now().await;
        let problem = self.problems.lock().expect("problems").pop_front();
        if let Some(problem) = problem {
            assert!(problem.code != ErrorCode::Internal, "a panic was asked for");
            return Err(problem);
        }
        let mut commits = self.commits.lock().expect("commits");
        if commits.contains_key(&event.id) {
            let mut problem = Problem::new(ErrorCode::AlreadyExists, "committed before");
            problem.context.insert("event".into(), json!(event.id));
            return Err(problem);
        }
        commits.insert(event.id.clone(), event.clone());
        Ok(json!({"function": {"done": true}}))
    }

    async fn authorize(
        &self,
        _trigger: &Trigger,
        _event: &Event,
        _actor: Option<&Actor>,
    ) -> Result<(), Problem> {
        match self.denied.lock().expect("denied").clone() {
            Some(reason) => Err(Problem::new(ErrorCode::Forbidden, reason)),
            None => Ok(()),
        }
    }

    fn authorize_source(&self, _trigger: &Trigger) -> Result<(), Problem> {
        match self.denied_sources.lock().expect("denied").clone() {
            Some(reason) => Err(Problem::new(ErrorCode::Forbidden, reason)),
            None => Ok(()),
        }
    }

    /// Hides jobs of the author `hidden`, and tables of the namespace `hidden`.
    fn visible(&self, _trigger: &str, mut data: EventData) -> Option<EventData> {
        if let EventData::TableChanged { tables, .. } = &mut data {
            tables.retain(|table| !table.starts_with("hidden."));
        }
        let is_hidden = matches!(&data, EventData::JobEnded { job } if job.author == "hidden");
        (!is_hidden).then_some(data)
    }

    fn budget(&self, function: &str) -> Result<Option<CallBudget>, Problem> {
        match self.budget_problem.lock().expect("a problem").clone() {
            Some(problem) => Err(problem),
            None => Ok(self.budgets.lock().expect("budgets").get(function).cloned()),
        }
    }

    fn user(&self, _trigger: &Trigger) -> Option<String> {
        self.deployer.lock().expect("a user").clone()
    }

    async fn call_policy(&self, function: &str) -> Result<CallPolicy, Problem> {
        Ok(self.policies.lock().expect("policies").get(function).cloned().unwrap_or_default())
    }
}

/// A trigger from its definition, with an import.
pub fn trigger(definition: Value) -> Trigger {
    let mut definition = definition;
    definition["import"] = json!({"table": "t"});
    serde_json::from_value(definition).expect("a trigger")
}

/// Opens triggers that only `tick` advances.
pub async fn by_hand(
    store: &Arc<dyn Store>,
    clock: &Arc<FixedClock>,
    jobs: &Jobs,
    project: &Path,
    tables: &Arc<Tables>,
) -> headwater_triggers::Result<Triggers> {
    let clock: Arc<dyn Clock> = clock.clone();
    let options = TriggersOptions {
        manual: true,
        ..TriggersOptions::new(store.clone(), clock, jobs.clone(), project)
    };
    Triggers::start(options, tables.clone()).await
}

/// Returns the records for the address of a destination, newest first.
pub async fn sent_records(triggers: &Triggers, address: &str) -> Vec<Value> {
    let trigger = Some(format!("/destinations/{address}"));
    let filter = TriggerEventFilter { trigger, ..TriggerEventFilter::default() };
    let records = triggers.events(&filter).await.expect("events");
    let record = |found: &TriggerEvent| json!(found.event)["data"]["arguments"]["event"].clone();
    records.iter().map(record).collect()
}

/// Creates a file and its parent folders.
pub fn file(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}
