//! Limits of users: concurrent jobs, and bytes and money per day, in UTC. `function_budget.rs` adds
//! the budgets of functions.
//!
//! Each job of a user holds a [`JobPermit`] from its admission to its end. At the end, the usage of
//! the job is added to the user's sum for the day on which the job was recorded. A changed sum is
//! stored a tenth of a second later, so that calls do not wait for the write. A flush or a close of
//! the jobs stores all changed sums. A normal stop loses no usage; `kill -9` loses the usage of
//! about the last tenth of a second. While a stored sum cannot be read, usage is collected in a
//! separate sum, and is added to the stored sum later. The sums are in this journal:
//!
//! | journal | key | value |
//! |---|---|---|
//! | `user_days` | day `/` user | [`DailyUsage`] |
//!
//! Some jobs report their usage while they run. Such a job is stopped if the usage of its user,
//! including running jobs, exceeds a daily limit. The usage of other jobs is known only at their
//! end, so they end normally, and the user's next job is rejected.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{Days, NaiveDate, NaiveTime};
use headwater_model::{Limits, Timestamp, ToProblem};
use headwater_store::{JournalAppend, KeyRange, Store};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::active_job::ActiveJob;
use crate::function_budget::{Reservations, is_budget_key};
use crate::record::{decode, encode};
use crate::writer::JobsState;
use crate::{Error, Jobs, Result};

const USER_DAYS: &str = "user_days";

/// A function that returns the limits of a user.
pub type LimitLookup = Arc<dyn Fn(&str) -> Limits + Send + Sync>;

/// The usage of a user or of a function on one day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct DailyUsage {
    /// Number of bytes read.
    pub bytes: u64,
    /// Cost, in the currency of the rate card.
    pub money: f64,
    /// Number of calls; for functions only.
    #[serde(default)]
    pub calls: u64,
    /// Billed time in milliseconds; for functions only.
    #[serde(default)]
    pub billed_ms: u64,
}

impl DailyUsage {
    pub(crate) fn add(&mut self, other: DailyUsage) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.money += other.money;
        self.calls = self.calls.saturating_add(other.calls);
        self.billed_ms = self.billed_ms.saturating_add(other.billed_ms);
    }

    pub(crate) fn subtract(&mut self, other: DailyUsage) {
        self.bytes = self.bytes.saturating_sub(other.bytes);
        self.money -= other.money;
        self.calls = self.calls.saturating_sub(other.calls);
        self.billed_ms = self.billed_ms.saturating_sub(other.billed_ms);
    }
}

/// The current usage of a user.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UserUsage {
    /// Number of jobs that have not ended.
    pub jobs: u32,
    /// The usage of the current day.
    pub today: DailyUsage,
    /// The time at which the current day ends.
    pub day_ends: Timestamp,
}

/// The usage of users, and their limits.
#[derive(Default)]
pub(crate) struct Quotas {
    limits_of: RwLock<Option<LimitLookup>>,
    jobs: Arc<Mutex<HashMap<String, u32>>>,
    /// The reservations of running calls. Locked before `days`.
    pub(crate) reservations: Reservations,
    days: Mutex<BTreeMap<DayKey, DailyUsage>>,
    /// Usage to add to stored sums that could not be read yet. Locked after `days` and before
    /// `dirty`.
    unread: Mutex<BTreeMap<DayKey, DailyUsage>>,
    /// The sums that changed since they were last stored, with the time of the first change.
    dirty: Mutex<BTreeMap<DayKey, Instant>>,
}

/// A day, and the name of a user, or of a function as returned by
/// [`budget_key`](crate::function_budget::budget_key).
type DayKey = (NaiveDate, String);

/// Daily sums to store, with the time of their first change.
#[derive(Default)]
pub(crate) struct UnsavedDays(Vec<(DayKey, Instant)>);

impl UnsavedDays {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A permit for one job of a user; released when dropped.
pub(crate) struct JobPermit {
    jobs: Arc<Mutex<HashMap<String, u32>>>,
    user: String,
}

impl Drop for JobPermit {
    fn drop(&mut self) {
        let mut jobs = self.jobs.lock();
        if let Some(own) = jobs.get_mut(&self.user) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                jobs.remove(&self.user);
            }
        }
    }
}

impl Quotas {
    /// Returns a permit for a job that a user starts at the time `now`; `None` for a job without a
    /// user.
    ///
    /// Errors: `quota_exceeded`.
    pub(crate) async fn admit(
        &self,
        store: &dyn Store,
        user: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<JobPermit>> {
        let Some(user) = user else { return Ok(None) };
        let today = self.today(store, user, now).await?;
        let limits = self.limits(user);
        check_day(user, &limits, today, now, Ordering::is_ge)?;
        let mut jobs = self.jobs.lock();
        let own = jobs.entry(user.to_owned()).or_default();
        if let Some(limit) = limits.jobs.filter(|limit| *own >= *limit) {
            return Err(Error::JobQuota { user: user.to_owned(), jobs: *own, limit });
        }
        *own += 1;
        Ok(Some(JobPermit { jobs: self.jobs.clone(), user: user.to_owned() }))
    }

    fn limits(&self, user: &str) -> Limits {
        self.limits_of.read().clone().map(|of| of(user)).unwrap_or_default()
    }

    /// Returns a permit for a job that was admitted before a restart, and loads the user's usage on
    /// the day of the job.
    pub(crate) async fn restore_permit(
        &self,
        store: &dyn Store,
        user: Option<&str>,
        created: Timestamp,
    ) -> Result<Option<JobPermit>> {
        let Some(user) = user else { return Ok(None) };
        self.today(store, user, created).await?;
        *self.jobs.lock().entry(user.to_owned()).or_default() += 1;
        Ok(Some(JobPermit { jobs: self.jobs.clone(), user: user.to_owned() }))
    }

    /// Returns the usage of a user on the day that contains `now`. Reads the usage from the store
    /// if it is not in memory.
    async fn today(&self, store: &dyn Store, user: &str, now: Timestamp) -> Result<DailyUsage> {
        self.of_day(store, user, now.date_naive()).await
    }

    /// Returns the usage of a day if [`Quotas::of_day`] has read this day before, otherwise 0.
    pub(crate) fn known(&self, user: &str, day: NaiveDate) -> DailyUsage {
        self.days.lock().get(&(day, user.to_owned())).copied().unwrap_or_default()
    }

    pub(crate) async fn of_day(
        &self,
        store: &dyn Store,
        user: &str,
        day: NaiveDate,
    ) -> Result<DailyUsage> {
        let key = (day, user.to_owned());
        if let Some(sum) = self.days.lock().get(&key) {
            return Ok(*sum);
        }
        let stored_key = day_key(day, user);
        let entry = store.latest(USER_DAYS, &stored_key).await?;
        let stored = entry.map(|entry| decode(USER_DAYS, &entry.key, &entry.value));
        // Count an unreadable sum as 0, because it must not prevent the lake from opening.
        let stored = stored.and_then(|stored| {
            let unreadable = |error: &_| {
                tracing::warn!(%error, user, "cannot decode the user's daily usage; counting \
                                              restarts at 0");
            };
            stored.inspect_err(unreadable).ok()
        });
        let (sum, is_new_day) = {
            let mut days = self.days.lock();
            let is_new_day = !days.keys().any(|(known, _)| *known == day);
            // Keep an existing sum: while this task read the store, another task may have loaded
            // the same sum, and jobs may have added their usage to it.
            let sum = days.entry(key.clone()).or_insert_with(|| stored.unwrap_or_default());
            let mut unread = self.unread.lock();
            if let Some(usage) = unread.remove(&key) {
                sum.add(usage);
                self.dirty.lock().entry(key).or_insert_with(Instant::now);
            }
            let sum = *sum;
            if let Some(oldest) = oldest_kept_day(day).filter(|_| is_new_day) {
                days.retain(|(known, _), _| *known >= oldest);
                unread.retain(|(known, _), _| *known >= oldest);
            }
            (sum, is_new_day)
        };
        if let Some(oldest) = oldest_kept_day(day).filter(|_| is_new_day) {
            let range = KeyRange::all().until(oldest.to_string());
            if let Err(error) = store.trim(USER_DAYS, &range).await {
                tracing::warn!(%error, "the usage of earlier days cannot be removed");
            }
        }
        Ok(sum)
    }

    /// Adds the usage of an ended job to the day on which it was recorded.
    pub(crate) fn charge(&self, user: &str, created: Timestamp, charged: DailyUsage) {
        if charged == DailyUsage::default() {
            return;
        }
        let key = (created.date_naive(), user.to_owned());
        let mut days = self.days.lock();
        if let Some(sum) = days.get_mut(&key) {
            sum.add(charged);
            self.dirty.lock().entry(key).or_insert_with(Instant::now);
        } else {
            self.unread.lock().entry(key).or_default().add(charged);
        }
    }

    /// Reads the stored sums to which usage must be added and that could not be read before.
    pub(crate) async fn read_unread(&self, store: &dyn Store, now: Timestamp) -> Result<()> {
        loop {
            let next = self.unread.lock().keys().next().cloned();
            let Some((day, user)) = next else { return Ok(()) };
            if oldest_kept_day(now.date_naive()).is_some_and(|oldest| day < oldest) {
                // Daily limits no longer apply to this day, so drop the usage of the day.
                self.unread.lock().remove(&(day, user));
                continue;
            }
            self.of_day(store, &user, day).await?;
        }
    }

    /// Returns true if a changed sum is not stored yet.
    pub(crate) fn is_dirty(&self) -> bool {
        let is_unread = !self.unread.lock().is_empty();
        is_unread || !self.dirty.lock().is_empty()
    }

    /// Removes and returns the changed sums to store: sums that changed at least `for_at_least`
    /// ago, and all sums of functions.
    pub(crate) fn take_dirty(&self, for_at_least: Duration) -> UnsavedDays {
        let mut dirty = self.dirty.lock();
        let is_due = |key: &DayKey, since: &Instant| {
            is_budget_key(&key.1) || since.elapsed() >= for_at_least
        };
        UnsavedDays(dirty.extract_if(.., |key, since| is_due(key, since)).collect())
    }

    /// Marks sums that could not be stored as changed again, for the next attempt.
    pub(crate) fn restore_dirty(&self, days: UnsavedDays) {
        let mut dirty = self.dirty.lock();
        for (key, since) in days.0 {
            let first = dirty.entry(key).or_insert(since);
            *first = since.min(*first);
        }
    }

    /// Returns the journal entries that store the sums of the days `dirty`.
    pub(crate) fn entries(&self, dirty: &UnsavedDays) -> Result<Vec<JournalAppend>> {
        let days = self.days.lock();
        let sums = dirty.0.iter().filter_map(|(key, _)| Some((key, days.get(key)?)));
        let put = |((day, user), sum): (&DayKey, &DailyUsage)| {
            Ok(JournalAppend::put(USER_DAYS, day_key(*day, user), encode(sum)?))
        };
        sums.map(put).collect()
    }
}

impl Jobs {
    /// Sets the function that returns the limits of users. Without this function, users have no
    /// limits.
    pub fn set_limits_of(&self, limits_of: LimitLookup) {
        *self.inner.shared.quotas.limits_of.write() = Some(limits_of);
    }

    /// Returns the current usage of a user.
    pub async fn usage_today(&self, user: &str) -> Result<UserUsage> {
        let shared = &self.inner.shared;
        let now = shared.clock.now();
        let today = shared.quotas.today(&*shared.store, user, now).await?;
        let jobs = shared.quotas.jobs.lock().get(user).copied().unwrap_or_default();
        Ok(UserUsage { jobs, today, day_ends: end_of_day(now) })
    }

    /// Checks that a user may currently start a job.
    ///
    /// Errors: `quota_exceeded`.
    pub async fn check_quota(&self, user: &str) -> Result<()> {
        let shared = &self.inner.shared;
        let now = shared.clock.now();
        shared.quotas.admit(&*shared.store, Some(user), now).await.map(drop)
    }

    /// Checks that a user has not reached a daily limit.
    ///
    /// Errors: `quota_exceeded`.
    pub async fn check_day_quota(&self, user: &str) -> Result<()> {
        let shared = &self.inner.shared;
        let now = shared.clock.now();
        let today = shared.quotas.today(&*shared.store, user, now).await?;
        check_day(user, &shared.quotas.limits(user), today, now, Ordering::is_ge)
    }
}

impl JobsState {
    /// Returns the limits of a job's user if they include a daily limit.
    pub(crate) fn day_limits(&self, job: &ActiveJob) -> Option<Limits> {
        let limits = self.quotas.limits(job.user.as_deref()?);
        let has_one = limits.bytes_per_day.is_some() || limits.money_per_day.is_some();
        has_one.then_some(limits)
    }

    /// Stops a job if its user's usage exceeds a daily limit, including the usage of running jobs.
    pub(crate) fn enforce_day_limits(&self, job: &ActiveJob) {
        let (Some(user), Some(limits)) = (job.user.as_deref(), self.day_limits(job)) else {
            return;
        };
        let day = job.created.date_naive();
        // Limits no longer apply to days before the previous day, so such days are not in memory.
        let ended = self.quotas.days.lock().get(&(day, user.to_owned())).copied();
        let Some(mut sum) = ended else { return };
        let now = self.clock.now();
        let card = self.rate_card.read().clone();
        for other in self.live.lock().values() {
            let is_counted =
                other.user.as_deref() == Some(user) && other.created.date_naive() == day;
            if let Some(usage) = is_counted.then(|| other.running_usage(now)).flatten() {
                sum.bytes = sum.bytes.saturating_add(usage.bytes_read);
                sum.money += card.cost(&usage);
            }
        }
        let checked = check_day(user, &limits, sum, job.created, Ordering::is_gt);
        if let Err(error) = checked {
            let mut problem = error.to_problem();
            problem.message = format!("the job was stopped: {}", problem.message);
            job.stop_at_limit(problem);
        }
    }
}

/// Returns an error if the usage of the day exceeds a daily limit. `over` receives the result of
/// comparing the usage with the limit, and returns true if the limit counts as exceeded.
fn check_day(
    user: &str,
    limits: &Limits,
    today: DailyUsage,
    now: Timestamp,
    over: fn(Ordering) -> bool,
) -> Result<()> {
    let exceeded = |used: String, limit: String| Error::DayQuota {
        user: user.to_owned(),
        used,
        limit,
        day_ends: end_of_day(now),
    };
    if let Some(limit) = limits.bytes_per_day.filter(|limit| over(today.bytes.cmp(limit))) {
        return Err(exceeded(format!("{} bytes read", today.bytes), limit.to_string()));
    }
    let is_spent = |limit: &f64| today.money.partial_cmp(limit).is_some_and(over);
    if let Some(limit) = limits.money_per_day.filter(is_spent) {
        return Err(exceeded(format!("a cost of {:.6}", today.money), limit.to_string()));
    }
    Ok(())
}

/// Returns the oldest day whose sums are kept in memory. This is the previous day, because a job
/// that ends after midnight counts for the day on which it was recorded.
fn oldest_kept_day(day: NaiveDate) -> Option<NaiveDate> {
    day.checked_sub_days(Days::new(1))
}

pub(crate) fn end_of_day(now: Timestamp) -> Timestamp {
    let next = now.date_naive().checked_add_days(Days::new(1)).unwrap_or(NaiveDate::MAX);
    next.and_time(NaiveTime::MIN).and_utc()
}

fn day_key(day: NaiveDate, user: &str) -> String {
    format!("{day}/{user}")
}
