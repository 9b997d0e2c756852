//! The handle: define triggers, list them and their events, play an event again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use headwater_model::{Trigger, TriggerEvent, TriggerEventStatus, TriggerStatus, nearest};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::book::Book;
use super::definition::{Definition, Source};
use super::ledger::{DONE, EVENTS, Ledger};
use super::watch::{Context, Watch};
use super::{TriggerActions, TriggerEventFilter, TriggersOptions};
use crate::list::Backwards;
use crate::lookup::digits;
use crate::record::decode;
use crate::{Error, Result};

/// The triggers of a lake. Clones are handles to the same.
#[derive(Clone)]
pub struct Triggers {
    inner: Arc<Inner>,
}

struct Inner {
    context: Arc<Context>,
    watches: Mutex<BTreeMap<String, Arc<Watch>>>,
    books: Mutex<BTreeMap<String, Arc<Book>>>,
    stop: CancellationToken,
    reload: tokio::sync::Mutex<()>,
}

impl Triggers {
    /// Takes up the events of the last process. Nothing is watched before [`Triggers::reload`].
    ///
    /// Events that were being acted on when the last process ended are pending again; that try does
    /// not count.
    pub async fn start(
        options: TriggersOptions,
        actions: Arc<dyn TriggerActions>,
    ) -> Result<Triggers> {
        let shared = options.jobs.inner.shared.clone();
        let ledger = Ledger { shared, store: options.store.clone() };
        let context = Arc::new(Context { options, ledger, actions });
        let triggers = Triggers {
            inner: Arc::new(Inner {
                context,
                watches: Mutex::default(),
                books: Mutex::default(),
                stop: CancellationToken::new(),
                reload: tokio::sync::Mutex::default(),
            }),
        };
        triggers.take_up().await?;
        Ok(triggers)
    }

    async fn take_up(&self) -> Result<()> {
        let context = &self.inner.context;
        let mut again = Vec::new();
        for mut event in context.ledger.unfinished().await? {
            if event.status == TriggerEventStatus::Running {
                event.status = TriggerEventStatus::Pending;
                event.due = context.options.clock.now();
                again.push(event.clone());
            }
            self.book(&event.trigger).await?.enter(event);
        }
        // What follows only tidies up, and a full disk must not keep a lake from opening.
        if let Err(error) = context.ledger.store_events(&again).await {
            tracing::warn!(%error, "interrupted trigger events cannot be recorded yet");
        }
        if let Err(error) = context.ledger.trim(context.options.done_kept).await {
            tracing::warn!(%error, "old trigger events cannot be trimmed");
        }
        Ok(())
    }

    async fn book(&self, trigger: &str) -> Result<Arc<Book>> {
        if let Some(book) = self.inner.books.lock().get(trigger) {
            return Ok(book.clone());
        }
        let done = self.inner.context.ledger.done(trigger).await?;
        let mut books = self.inner.books.lock();
        let book = books.entry(trigger.to_owned()).or_insert_with(|| Arc::new(Book::new(done)));
        Ok(book.clone())
    }

    /// Makes these the triggers. Those that have not changed go on undisturbed; the events of those
    /// that are gone wait until they are back.
    ///
    /// Error: `invalid_project`, and then everything stays as it was.
    pub async fn reload(&self, triggers: Vec<Trigger>) -> Result<()> {
        let _turn = self.inner.reload.lock().await;
        let context = &self.inner.context;
        let mut definitions = BTreeMap::new();
        for trigger in &triggers {
            let definition = Definition::new(trigger, &context.options.project)?;
            if definitions.insert(trigger.name.clone(), definition).is_some() {
                return Err(Error::InvalidTrigger {
                    trigger: trigger.name.clone(),
                    reason: "its name is given twice".into(),
                    hint: "Give every trigger a name of its own.".into(),
                });
            }
        }
        let named = |is: fn(&Source) -> bool| {
            let named = definitions.iter().filter(|(_, definition)| is(&definition.source));
            named.map(|(name, _)| name.as_str()).collect::<Vec<&str>>()
        };
        let schedules = named(|source| matches!(source, Source::Schedule(_)));
        let followers = named(|source| matches!(source, Source::Tables(_)));
        if let Err(error) = context.ledger.keep_marks(&schedules, &followers).await {
            tracing::warn!(%error, "marks of removed triggers cannot be forgotten");
        }
        let mut books = BTreeMap::new();
        for name in definitions.keys() {
            books.insert(name.clone(), self.book(name).await?);
        }
        let new = self.replace(definitions, &books);
        if !context.options.manual {
            // What is committed from now on is a change.
            join_all(new.iter().filter(|watch| watch.is_follower()).map(|watch| watch.observe()))
                .await;
        }
        Ok(())
    }

    /// Answers those that were not there before, or not so.
    fn replace(
        &self,
        definitions: BTreeMap<String, Definition>,
        books: &BTreeMap<String, Arc<Book>>,
    ) -> Vec<Arc<Watch>> {
        let mut new = Vec::new();
        let context = &self.inner.context;
        let mut watches = self.inner.watches.lock();
        let mut before = std::mem::take(&mut *watches);
        for (name, definition) in definitions {
            let same = |watch: &Arc<Watch>| watch.definition.trigger == definition.trigger;
            let Some(book) = books.get(&name) else { continue };
            let watch = match before.remove(&name) {
                Some(watch) if same(&watch) => watch,
                old => {
                    if let Some(old) = &old {
                        old.stop.cancel();
                    }
                    let stop = self.inner.stop.child_token();
                    let watch = Watch::new(context.clone(), definition, book.clone(), stop, old);
                    if !context.options.manual {
                        watch.spawn();
                    }
                    new.push(watch.clone());
                    watch
                }
            };
            watches.insert(name, watch);
        }
        for gone in before.values() {
            gone.stop.cancel();
        }
        new
    }

    /// The triggers, by name.
    pub fn list(&self) -> Vec<TriggerStatus> {
        self.watches().iter().map(|watch| watch.status()).collect()
    }

    fn watches(&self) -> Vec<Arc<Watch>> {
        self.inner.watches.lock().values().cloned().collect()
    }

    /// Looks once at everything, records what has happened, and acts on everything that is due.
    pub async fn tick(&self) -> Result<()> {
        let watches = self.watches();
        let ticks = watches.iter().map(async |watch| {
            loop {
                let wait = watch.observe().await;
                watch.act_on_all().await?;
                if wait > Duration::ZERO {
                    return Ok(());
                }
            }
        });
        join_all(ticks).await.into_iter().collect()
    }

    /// Events, newest first.
    pub async fn events(&self, filter: &TriggerEventFilter) -> Result<Vec<TriggerEvent>> {
        let store = &*self.inner.context.ledger.store;
        let mut sources = vec![Backwards::new(EVENTS, None, None)];
        if filter.statuses.is_empty() || filter.statuses.contains(&TriggerEventStatus::Done) {
            sources.push(Backwards::new(DONE, None, None));
        }
        let mut events = Vec::new();
        while events.len() < filter.limit {
            let mut newest = None;
            for source in &mut sources {
                newest = newest.max(source.head(store).await?.map(|entry| entry.key.clone()));
            }
            let Some(newest) = newest else { break };
            let entry = sources.iter_mut().filter_map(|source| source.take(&newest)).last();
            let Some(entry) = entry else { break };
            match decode(EVENTS, &entry.key, &entry.value) {
                Ok(event) => {
                    let event = self.as_it_stands(event);
                    if filter.admits(&event) {
                        events.push(self.with_files(event).await?);
                    }
                }
                Err(error) => tracing::warn!(%error, "a trigger event is left out"),
            }
        }
        match &filter.trigger {
            Some(name) if events.is_empty() && !self.inner.watches.lock().contains_key(name) => {
                Err(self.no_trigger(name))
            }
            _ => Ok(events),
        }
    }

    /// The event with this id, or whose id begins or ends with this text.
    pub async fn event(&self, text: &str) -> Result<TriggerEvent> {
        let id = self.event_id(text).await?;
        let event = self.inner.context.ledger.event(&id).await?;
        let event = event.ok_or(Error::EventNotFound { id, several: false })?;
        self.with_files(self.as_it_stands(event)).await
    }

    /// Has an event acted on again: one that failed begins anew, one that waits for its next try is
    /// due at once.
    ///
    /// Errors: `trigger_not_found` where there is no such event or its trigger is not defined any
    /// more; `invalid_argument` where it is being acted on, or was.
    pub async fn replay(&self, text: &str) -> Result<TriggerEvent> {
        let event = self.event(text).await?;
        let watch = self.inner.watches.lock().get(&event.trigger).cloned();
        let watch = watch.ok_or_else(|| self.no_trigger(&event.trigger))?;
        let refused = |status| Error::EventNotReplayable { id: event.id.clone(), status };
        match event.status {
            TriggerEventStatus::Running => Err(refused("being acted on")),
            TriggerEventStatus::Done => Err(refused("done")),
            TriggerEventStatus::Pending => {
                let now = self.inner.context.options.clock.now();
                let hastened = watch.book.hasten(&event.id, now);
                Ok(TriggerEvent { files: event.files.clone(), ..hastened.unwrap_or(event) })
            }
            TriggerEventStatus::Failed => {
                if watch.book.take_failed(&event.id) {
                    self.begin_anew(&watch.book, event).await
                } else {
                    Err(refused("being played again"))
                }
            }
        }
    }

    async fn begin_anew(&self, book: &Book, event: TriggerEvent) -> Result<TriggerEvent> {
        let pending = TriggerEvent {
            status: TriggerEventStatus::Pending,
            due: self.inner.context.options.clock.now(),
            attempts: 0,
            ..event.clone()
        };
        let stored = self.inner.context.ledger.store_events(std::slice::from_ref(&pending)).await;
        if let Err(error) = stored {
            book.update(event);
            return Err(error);
        }
        book.update(TriggerEvent { files: Vec::new(), ..pending.clone() });
        Ok(pending)
    }

    /// Watches nothing more and begins no more events. Events under way end with their jobs, which
    /// [`crate::Jobs::drain`] waits for.
    pub fn stop(&self) {
        self.inner.stop.cancel();
    }

    async fn event_id(&self, text: &str) -> Result<String> {
        let ledger = &self.inner.context.ledger;
        if ledger.event(text).await?.is_some() {
            return Ok(text.to_owned());
        }
        let wanted = digits(text);
        let mut found = BTreeSet::new();
        for journal in [EVENTS, DONE] {
            let mut events = Backwards::new(journal, None, None);
            while events.head(&*ledger.store).await?.is_some() {
                let key = events.pop().map(|entry| entry.key).unwrap_or_default();
                let id = digits(&key);
                if !wanted.is_empty() && (id.starts_with(&wanted) || id.ends_with(&wanted)) {
                    found.insert(key);
                }
            }
        }
        let several = found.len() > 1;
        let only = found.pop_first().filter(|_| !several);
        only.ok_or_else(|| Error::EventNotFound { id: text.to_owned(), several })
    }

    /// The event as this process has it, which may be further than the store.
    fn as_it_stands(&self, event: TriggerEvent) -> TriggerEvent {
        let book = self.inner.books.lock().get(&event.trigger).cloned();
        book.and_then(|book| book.open(&event.id)).unwrap_or(event)
    }

    async fn with_files(&self, event: TriggerEvent) -> Result<TriggerEvent> {
        let files = self.inner.context.ledger.files(&event.id).await?;
        Ok(TriggerEvent { files, ..event })
    }

    fn no_trigger(&self, name: &str) -> Error {
        let watches = self.inner.watches.lock();
        let near = nearest(name, watches.keys().map(String::as_str));
        Error::TriggerNotFound { name: name.to_owned(), near }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl std::fmt::Debug for Triggers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Triggers").field("triggers", &self.watches().len()).finish()
    }
}
