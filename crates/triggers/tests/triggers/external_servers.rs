//! Triggers whose sources are servers outside the lake, and the state that survives the end of a
//! process with such triggers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use headwater_jobs::{Jobs, JobsOptions};
use headwater_model::{Clock, ErrorCode, Event, FixedClock, Problem, Trigger};
use headwater_secrets::{KeySource, SecretStore};
use headwater_store::Store;
use headwater_triggers::{ConnectionPolicy, RemoteBuckets, Triggers, TriggersOptions};

use crate::support::{clock, memory, until};
use crate::targets::Tables;

/// A `time_scale` with which an hour takes 3.6 s.
pub const HOUR_SCALE: u32 = 1_000;

const MINUTE: Duration = Duration::from_secs(60);

/// State that survives the end of a process.
pub struct Outside {
    pub store: Arc<dyn Store>,
    pub clock: Arc<FixedClock>,
    pub tables: Arc<Tables>,
    pub folder: tempfile::TempDir,
    /// Divisor of the pauses between attempts to connect.
    pub time_scale: u32,
    /// The buckets of other object stores, if any.
    pub remote: Option<Arc<dyn RemoteBuckets>>,
}

impl Outside {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Outside {
            store: memory(),
            clock: clock(),
            tables: Arc::default(),
            folder,
            time_scale: 1,
            remote: None,
        }
    }

    pub fn secrets(&self) -> SecretStore {
        let key = KeySource::File(self.folder.path().join("secret.key"));
        SecretStore::new(self.store.clone(), self.clock.clone(), key)
    }

    /// Starts a process whose sources are polled by `tick`.
    pub async fn open(
        &self,
        store: &Arc<dyn Store>,
        triggers: Vec<Trigger>,
    ) -> headwater_triggers::Result<Triggers> {
        self.open_for(store, triggers, ConnectionPolicy::default()).await
    }

    /// Starts a process like [`Outside::open`], with the triggers of a user with this policy.
    pub async fn open_for(
        &self,
        store: &Arc<dyn Store>,
        triggers: Vec<Trigger>,
        policy: ConnectionPolicy,
    ) -> headwater_triggers::Result<Triggers> {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let jobs = Jobs::open(store.clone(), clock.clone(), JobsOptions::default()).await?;
        let defaults = TriggersOptions::new(store.clone(), clock, jobs, Path::new("/none"));
        let options = TriggersOptions {
            manual: true,
            secrets: Some(self.secrets()),
            remote: self.remote.clone(),
            poll_interval: Duration::from_millis(300),
            reconnect_pause: defaults.reconnect_pause / self.time_scale,
            reconnect_pause_max: defaults.reconnect_pause_max / self.time_scale,
            ..defaults
        };
        let opened = Triggers::start(options, self.tables.clone()).await?;
        opened.reload_for(triggers, &|_| policy.clone()).await?;
        opened.tick().await?;
        Ok(opened)
    }

    /// Starts a process with one trigger.
    pub async fn start(&self, trigger: Trigger) -> Triggers {
        self.open(&self.store, vec![trigger]).await.expect("triggers")
    }

    /// Waits an hour of the scaled time, in which the server of the first trigger cannot be
    /// reached. Checks each minute that the trigger shows the fault.
    pub async fn wait_an_hour(&self, triggers: &Triggers) {
        for minute in 0..60 {
            self.clock.advance(MINUTE);
            tokio::time::sleep(MINUTE / HOUR_SCALE).await;
            triggers.tick().await.expect("a tick");
            let fault = triggers.list()[0].error.clone();
            let fault = fault.unwrap_or_else(|| panic!("no fault is shown after {minute} min"));
            assert_eq!(fault.code, ErrorCode::Unavailable, "{fault}");
            let hint = fault.hint.as_deref().unwrap_or_default();
            assert!(hint.contains("connects again by itself"), "after {minute} min: {fault}");
        }
    }

    /// The committed events, by id.
    pub fn events(&self) -> Vec<Event> {
        self.tables.commits.lock().expect("commits").values().cloned().collect()
    }
}

/// Polls until the first trigger has a fault with this text, and returns the fault.
pub async fn until_fault(triggers: &Triggers, expected: &str) -> Problem {
    let fault = || triggers.list()[0].error.clone();
    until(expected, async || {
        triggers.tick().await.expect("a tick");
        fault().is_some_and(|fault| fault.message.contains(expected))
    })
    .await;
    fault().expect("a fault")
}
