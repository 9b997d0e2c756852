//! One defined trigger at work: a task that observes, and a task that acts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use headwater_model::{Fault, Problem, TriggerStatus};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::act::Acted;
use super::book::Book;
use super::definition::{Definition, Source};
use super::ledger::Ledger;
use super::observe::Observer;
use super::{TriggerActions, TriggersOptions};

/// The longest sleep: a machine that was suspended, or whose clock was set, is found out by then.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// The pause after something could not be stored.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How long a folder must be quiet before it is looked at, and the longest wait for that.
const QUIET: Duration = Duration::from_millis(50);
const QUIET_MAX: Duration = Duration::from_millis(500);

/// What every trigger shares.
pub(crate) struct Context {
    pub options: TriggersOptions,
    pub ledger: Ledger,
    pub actions: Arc<dyn TriggerActions>,
}

/// One defined trigger.
pub(crate) struct Watch {
    pub context: Arc<Context>,
    pub definition: Definition,
    pub book: Arc<Book>,
    pub stop: CancellationToken,
    pub observer: tokio::sync::Mutex<Observer>,
    /// The watch in whose place this one is, until this one observes.
    before: Mutex<Option<Arc<Watch>>>,
    /// What keeps the trigger from seeing what happens.
    pub fault: Mutex<Option<Problem>>,
    /// Something may have happened.
    pub wake: Arc<Notify>,
}

impl Watch {
    pub(crate) fn new(
        context: Arc<Context>,
        definition: Definition,
        book: Arc<Book>,
        stop: CancellationToken,
        before: Option<Arc<Watch>>,
    ) -> Arc<Self> {
        Arc::new(Watch {
            context,
            definition,
            book,
            stop,
            observer: tokio::sync::Mutex::default(),
            before: Mutex::new(before),
            fault: Mutex::default(),
            wake: Arc::default(),
        })
    }

    /// Begins to observe and to act.
    pub(crate) fn spawn(self: &Arc<Self>) {
        if let (Source::Tables(_), Some(commits)) =
            (&self.definition.source, &self.context.options.commits)
        {
            tokio::spawn(self.clone().listen_always(commits.made()));
        }
        tokio::spawn(self.clone().observe_always());
        tokio::spawn(self.clone().act_always());
    }

    /// How the trigger stands.
    pub(crate) fn status(&self) -> TriggerStatus {
        let now = self.context.options.clock.now();
        let next = match &self.definition.source {
            Source::Schedule(schedule) => schedule.next_after(now),
            Source::Files(_) | Source::Tables(_) => None,
        };
        TriggerStatus {
            trigger: self.definition.trigger.clone(),
            next,
            pending: self.book.open_count() as u64,
            done: self.book.done(),
            failed: self.book.failed_count() as u64,
            error: self.fault.lock().clone(),
        }
    }

    async fn observe_always(self: Arc<Self>) {
        while !self.stop.is_cancelled() {
            let wait = self.observe().await.min(SLEEP_MAX);
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = self.wake.notified() => self.until_quiet().await,
                () = self.book.room.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Wakes the task that observes whenever something was committed.
    async fn listen_always(self: Arc<Self>, mut made: tokio::sync::watch::Receiver<u64>) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                heard = made.changed() => match heard {
                    Ok(()) => self.wake.notify_one(),
                    Err(_) => return,
                },
            }
        }
    }

    /// Waits until no more notices come, for a little while.
    async fn until_quiet(&self) {
        let quiet =
            async { while tokio::time::timeout(QUIET, self.wake.notified()).await.is_ok() {} };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = quiet => {}
            () = tokio::time::sleep(QUIET_MAX) => {}
        }
    }

    /// Looks once at what has happened, and records it; answers when to look again.
    pub(crate) async fn observe(&self) -> Duration {
        let mut observer = self.observer.lock().await;
        let mut before = self.before.lock().take();
        while let Some(watch) = before {
            // What it is about to record is recorded before this one reads what is.
            drop(watch.observer.lock().await);
            before = watch.before.lock().take();
        }
        if self.stop.is_cancelled() {
            return SLEEP_MAX;
        }
        let looked = match &self.definition.source {
            Source::Files(folder) => observer.look(self, folder).await,
            Source::Schedule(schedule) => observer.strike(self, schedule).await,
            Source::Tables(tables) => observer.follow(self, tables).await,
        };
        let (fault, wait) = match looked {
            Ok(wait) => (observer.remark.clone(), wait),
            Err(error) => {
                // Whether it was stored is not known, so what is known is read again.
                *observer = Observer::default();
                tracing::warn!(trigger = self.name(), %error, "events cannot be recorded");
                (Some(error.to_problem()), STORE_PAUSE)
            }
        };
        *self.fault.lock() = fault;
        wait
    }

    async fn act_always(self: Arc<Self>) {
        while !self.stop.is_cancelled() {
            let wait = match self.act().await {
                Ok(Acted::Yes) => continue,
                Ok(Acted::NotYet(wait)) => wait.min(SLEEP_MAX),
                Ok(Acted::Nothing) => SLEEP_MAX,
                Err(error) => {
                    tracing::warn!(trigger = self.name(), %error, "an event has to wait");
                    STORE_PAUSE
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = self.book.due.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Acts on everything that is due.
    pub(crate) async fn act_on_all(&self) -> crate::Result<()> {
        while self.act().await? == Acted::Yes {}
        Ok(())
    }

    pub(crate) fn name(&self) -> &str {
        &self.definition.trigger.name
    }

    /// Whether it follows a branch.
    pub(crate) fn is_follower(&self) -> bool {
        matches!(self.definition.source, Source::Tables(_))
    }

    /// The folder that is watched.
    pub(crate) fn folder(&self) -> Option<&PathBuf> {
        match &self.definition.source {
            Source::Files(folder) => Some(&folder.path),
            Source::Schedule(_) | Source::Tables(_) => None,
        }
    }
}
