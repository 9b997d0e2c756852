//! Observing: what a folder holds that was not taken, and which strikes are due.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use headwater_model::{CatchupPolicy, Problem, Timestamp};

use super::book::OPEN_MAX;
use super::definition::Folder;
use super::files::{Listing, Settling, Version, look};
use super::follow::Follower;
use super::ledger::{Mark, Seen};
use super::notice::{Notice, Renamed};
use super::schedule::Schedule;
use super::watch::Watch;
use crate::Result;

/// How often a folder that is not there is looked for, and the least pause between two looks.
pub(crate) const LOOK_FOR: Duration = Duration::from_secs(1);
pub(crate) const LOOK_LEAST: Duration = Duration::from_millis(20);
/// A folder that takes long to look at is looked at seldom: at most a twentieth of the time.
const LOOK_SHARE: u32 = 20;
/// How many strikes are recorded in one batch.
const STRIKES: usize = 100;

/// What a watch knows of what it watches.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    /// The files that were taken; none until they were read from the store.
    seen: Option<HashMap<String, Seen>>,
    settling: Settling,
    /// Up to when strikes are recorded; none until it was read from the store.
    mark: Option<Timestamp>,
    notice: Option<Notice>,
    renamed: Renamed,
    /// How far a branch was followed.
    pub follower: Follower,
    /// What keeps the trigger from seeing everything.
    pub remark: Option<Problem>,
}

impl Observer {
    /// Looks at a folder and records the files that have landed; answers when to look again.
    pub(crate) async fn look(&mut self, watch: &Watch, folder: &Folder) -> Result<Duration> {
        self.remark = None;
        self.watch_for_notices(watch, folder);
        let renamed = std::mem::take(&mut *self.renamed.lock());
        let began = Instant::now();
        let listing = match listing(folder).await {
            Ok(listing) => listing,
            Err(problem) => {
                self.remark = Some(problem);
                self.notice = None;
                return Ok(LOOK_FOR);
            }
        };
        let took = began.elapsed();
        self.remark = listing.remark;
        let seen = match &mut self.seen {
            Some(seen) => seen,
            none => none.insert(catch_up(watch).await?),
        };
        let is_new = |path: &String, version: &Version| {
            seen.get(path).is_none_or(|seen| seen.version != *version)
        };
        let mut new: BTreeMap<String, Version> = listing.files;
        new.retain(|path, version| is_new(path, version));
        let options = &watch.context.options;
        let settle = folder.debounce;
        let whole = self.settling.watch(new, &renamed, options.clock.now(), settle);
        for files in whole.chunks(folder.batch) {
            if watch.book.open_count() >= OPEN_MAX {
                self.renamed.lock().extend(renamed);
                return Ok(options.look_every);
            }
            let now = options.clock.now();
            let ledger = &watch.context.ledger;
            let recorded = ledger.record_files(watch.name(), files, seen, now).await;
            let (event, taken) = recorded?;
            for (path, _) in &taken {
                self.settling.take(path);
            }
            seen.extend(taken);
            watch.book.enter(event);
        }
        let idle = options.look_every.max(took * LOOK_SHARE);
        let next = self.settling.next(options.clock.now(), settle);
        Ok(next.map_or(idle, |next| next.max(LOOK_LEAST).max(took * 2).min(idle)))
    }

    fn watch_for_notices(&mut self, watch: &Watch, folder: &Folder) {
        if watch.context.options.manual || self.notice.is_some() {
            return;
        }
        let (wake, renamed) = (watch.wake.clone(), self.renamed.clone());
        match Notice::new(&folder.path, folder.recursive, wake, renamed) {
            Ok(notice) => self.notice = Some(notice),
            // The folder is looked at all the same, only later.
            Err(error) => tracing::debug!(trigger = watch.name(), %error, "no notices"),
        }
    }

    /// Records the strikes that are due; answers when the next one is.
    pub(crate) async fn strike(&mut self, watch: &Watch, schedule: &Schedule) -> Result<Duration> {
        let now = watch.context.options.clock.now();
        let mut at = match self.mark {
            Some(mark) => mark,
            None => self.take_up(watch, schedule, now).await?,
        };
        let room = OPEN_MAX.saturating_sub(watch.book.open_count());
        let mut due = Vec::new();
        while let Some(next) = schedule.next_after(at).filter(|next| *next <= now)
            && due.len() < room.min(STRIKES)
        {
            due.push(next);
            at = next;
        }
        if !due.is_empty() {
            self.record(watch, schedule, &due, at).await?;
        }
        if room == 0 {
            return Ok(watch.context.options.look_every);
        }
        let next = schedule.next_after(at);
        Ok(next.map_or(Duration::MAX, |next| (next - now).to_std().unwrap_or_default()))
    }

    /// Up to when strikes are recorded, once those that were missed are made up for or forgotten.
    async fn take_up(
        &mut self,
        watch: &Watch,
        schedule: &Schedule,
        now: Timestamp,
    ) -> Result<Timestamp> {
        catch_up(watch).await?;
        let stored = watch.context.ledger.mark(watch.name()).await?;
        let stored = stored.filter(|mark| mark.schedule == schedule.identity());
        let missed = |mark: &Mark| schedule.last_until(now).filter(|strike| *strike > mark.at);
        let at = match (stored, schedule.definition().catchup) {
            (None, _) => self.record(watch, schedule, &[], now).await?,
            (Some(mark), CatchupPolicy::Skip)
                if watch.book.is_fresh() && missed(&mark).is_some() =>
            {
                self.record(watch, schedule, &[], now).await?
            }
            (Some(mark), CatchupPolicy::Once) if watch.book.is_fresh() => match missed(&mark) {
                Some(strike) => self.record(watch, schedule, &[strike], strike).await?,
                None => mark.at,
            },
            (Some(mark), _) => mark.at,
        };
        watch.book.set_looked_at();
        self.mark = Some(at);
        Ok(at)
    }

    /// Records strikes, and that there is nothing else to record up to `at`.
    async fn record(
        &mut self,
        watch: &Watch,
        schedule: &Schedule,
        strikes: &[Timestamp],
        at: Timestamp,
    ) -> Result<Timestamp> {
        let now = watch.context.options.clock.now();
        let mark = Mark { at, schedule: schedule.identity() };
        let ledger = &watch.context.ledger;
        let events = ledger.record_strikes(watch.name(), strikes, &mark, now).await?;
        for event in events {
            watch.book.enter(event);
        }
        self.mark = Some(at);
        Ok(at)
    }
}

async fn listing(folder: &Folder) -> Result<Listing, Problem> {
    let folder = folder.clone();
    let looked = tokio::task::spawn_blocking(move || look(&folder)).await;
    looked.unwrap_or_else(|error| {
        let code = headwater_model::ErrorCode::Internal;
        Err(Problem::new(code, format!("the folder cannot be looked at: {error}")))
    })
}

/// Reads what is known of a trigger from the store: events that this process does not have, because
/// it could not tell whether they were stored, and the files that were taken.
pub(crate) async fn catch_up(watch: &Watch) -> Result<HashMap<String, Seen>> {
    let ledger = &watch.context.ledger;
    for event in ledger.unfinished().await? {
        if event.trigger == watch.name() {
            watch.book.enter(event);
        }
    }
    match watch.folder() {
        Some(_) => ledger.seen(watch.name()).await,
        None => Ok(HashMap::new()),
    }
}
