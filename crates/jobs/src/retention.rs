//! Retention of query and function call records. Old records are aggregated by day, so that their
//! number is limited and no usage is lost.
//!
//! One batch writes the totals, and the key up to which the totals include all records. Then the
//! records are deleted. Readers ignore records below this key, so no record is counted twice, even
//! after a crash between the batch and the deletion.
//!
//! Calls are also aggregated by day and function, and by day and trigger. The number of names per
//! day is limited, so that the totals do not grow with the number of functions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use headwater_model::JobKind;
use headwater_store::{JournalAppend, KeyRange, ReverseScan, WriteBatch};

use crate::Result;
use crate::record::{self, JobRecord, QUERIES, events_journal};
use crate::usage_summary::{UsageSum, day_of};
use crate::writer::JobsState;

const SUMS: &str = "query_sums";
/// The key under which the end of the aggregated range is stored.
const THROUGH: &str = "through";
/// Key prefixes of the daily totals, for each kind of job whose records are kept only for a short
/// time.
const DAYS: [(JobKind, &str); 8] = [
    (JobKind::Query, "day/"),
    (JobKind::Function, "function-day/"),
    (JobKind::Merge, "merge-day/"),
    (JobKind::CherryPick, "cherry-pick-day/"),
    (JobKind::Revert, "revert-day/"),
    (JobKind::Diff, "diff-day/"),
    (JobKind::Commit, "commit-day/"),
    (JobKind::Queue, "queue-day/"),
];
const PAGE: usize = 1_000;

/// Maximum number of functions, and of triggers, with a total of their own for a day. The usage of
/// all other functions or triggers is added to the total [`OTHERS`].
const NAMES_MAX: usize = 200;
/// The name of the total for all functions, or all triggers, of a day that have no total of their
/// own. No function or trigger can have this name.
const OTHERS: &str = "(other)";

/// The property by which the usage of calls is aggregated, in addition to the day: the function or
/// the trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum UsageDimension {
    Function,
    Trigger,
}

impl UsageDimension {
    const ALL: [UsageDimension; 2] = [UsageDimension::Function, UsageDimension::Trigger];

    /// Returns the key prefix of the totals. The day, `/` and the name of the function or trigger
    /// follow the prefix.
    fn prefix(self) -> &'static str {
        match self {
            UsageDimension::Function => "by-function/",
            UsageDimension::Trigger => "by-trigger/",
        }
    }

    fn name_of(self, record: &JobRecord) -> Option<&str> {
        match self {
            UsageDimension::Function => record.function(),
            UsageDimension::Trigger => record.trigger.as_deref(),
        }
    }
}

/// Totals of records that are removed next.
#[derive(Default)]
struct RemovedTotals {
    /// Totals of all removed records, by kind and day.
    days: BTreeMap<(JobKind, String), UsageSum>,
    /// Totals by function and by trigger: the outer key has the property and the day, the inner key
    /// is the name.
    names: BTreeMap<(UsageDimension, String), BTreeMap<String, UsageSum>>,
}

impl RemovedTotals {
    fn add(&mut self, record: &JobRecord) {
        let (day, sum) = (day_of(record.job.created), UsageSum::of(record));
        for group in UsageDimension::ALL {
            if let Some(name) = group.name_of(record) {
                let names = self.names.entry((group, day.clone())).or_default();
                names.entry(name.to_owned()).or_default().add(&sum);
            }
        }
        self.days.entry((record.job.kind, day)).or_default().add(&sum);
    }
}

/// Number of records that are removed in one batch. A pause follows each batch, so that other
/// writes wait for at most one batch.
const TRIMMED: usize = 16;
const PAUSE: Duration = Duration::from_millis(5);

impl JobsState {
    /// Reads the key up to which records of queries and calls are aggregated.
    pub(crate) async fn load_queries_from(&self) -> Result<()> {
        if let Some(entry) = self.store.latest(SUMS, THROUGH).await? {
            *self.queries_from.write() = record::decode(SUMS, THROUGH, &entry.value)?;
        }
        Ok(())
    }

    /// Returns the totals of removed queries and calls, by kind and day.
    pub(crate) async fn retired_days(&self) -> Result<BTreeMap<(JobKind, String), UsageSum>> {
        let mut days = BTreeMap::new();
        for (kind, prefix) in DAYS {
            let sums = self.named_sums(prefix).await?;
            days.extend(sums.into_iter().map(|(day, sum)| ((kind, day), sum)));
        }
        Ok(days)
    }

    /// Returns the totals of removed calls by function or by trigger. A total is the name of the
    /// function or trigger, the day and the usage.
    pub(crate) async fn retired_groups(
        &self,
        group: UsageDimension,
    ) -> Result<Vec<(String, String, UsageSum)>> {
        let found = self.named_sums(group.prefix()).await?;
        let parts = |(rest, sum): (String, UsageSum)| {
            let (day, name) = rest.split_once('/')?;
            Some((name.to_owned(), day.to_owned(), sum))
        };
        Ok(found.into_iter().filter_map(parts).collect())
    }

    /// Returns the totals whose keys have this prefix, by the part of the key after the prefix.
    async fn named_sums(&self, prefix: &str) -> Result<BTreeMap<String, UsageSum>> {
        let range = KeyRange { prefix: prefix.into(), limit: usize::MAX, ..KeyRange::default() };
        let mut sums = BTreeMap::new();
        for entry in self.store.scan(SUMS, &range).await? {
            let sum = record::decode(SUMS, &entry.key, &entry.value)?;
            sums.insert(entry.key[prefix.len()..].to_owned(), sum);
        }
        Ok(sums)
    }

    /// Adds the usage of old records of queries and calls to the totals, and removes the records.
    /// `more` is the number of new records since this function was last called.
    pub(crate) async fn retire_queries(&self, more: usize) -> Result<()> {
        // Forget the cached number of records. If this call is interrupted, the next call then
        // counts the records again.
        let known = self.queries_stored.lock().take();
        let stored = match known {
            Some(known) => known + more,
            None => self.count_queries().await?,
        };
        let retired = self.retire_oldest(stored.saturating_sub(self.options.queries_kept)).await?;
        *self.queries_stored.lock() = Some(stored - retired);
        Ok(())
    }

    async fn count_queries(&self) -> Result<usize> {
        let mut queries = ReverseScan::new(QUERIES, Some(self.queries_from.read().clone()), None);
        let mut found = 0;
        while queries.peek(&*self.store).await?.is_some() {
            queries.pop();
            found += 1;
        }
        Ok(found)
    }

    /// Removes the oldest `count` records of queries and calls that are not in memory, and adds
    /// their usage to the totals. Returns the number of removed records.
    async fn retire_oldest(&self, count: usize) -> Result<usize> {
        let living = {
            let live = self.live.lock();
            live.values().find(|live| live.kind.is_short()).map(|live| live.id)
        };
        let mut sums = RemovedTotals::default();
        let (mut retired, mut through) = (0, self.queries_from.read().clone());
        let mut steps = Vec::new();
        while retired < count {
            let mut page = self.queries(&through, PAGE.min(count - retired)).await?;
            page.retain(|record| living.is_none_or(|living| record.job.id < living));
            let Some(last) = page.last() else { break };
            through = after(last);
            retired += page.len();
            steps.extend(page.chunks(TRIMMED).filter_map(|chunk| chunk.last().map(after)));
            for record in &page {
                sums.add(record);
            }
        }
        if retired > 0 {
            self.store_sums(sums, &through).await?;
        }
        for until in steps {
            let range = KeyRange::all().until(until);
            self.store.trim(QUERIES, &range).await?;
            self.store.trim(events_journal(JobKind::Query), &range).await?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(retired)
    }

    async fn queries(&self, from: &str, limit: usize) -> Result<Vec<JobRecord>> {
        let range = KeyRange::all().from(from).limit(limit);
        let entries = self.store.scan(QUERIES, &range).await?;
        let decode = |entry: &headwater_store::JournalEntry| {
            record::decode(QUERIES, &entry.key, &entry.value)
        };
        entries.iter().map(decode).collect()
    }

    async fn store_sums(&self, new: RemovedTotals, through: &str) -> Result<()> {
        let mut days = self.retired_days().await?;
        let mut batch = WriteBatch { relaxed: true, ..WriteBatch::default() };
        for ((kind, day), sum) in new.days {
            let prefix = DAYS.iter().find(|(known, _)| *known == kind).map_or("", |(_, key)| key);
            let key = format!("{prefix}{day}");
            let total = days.entry((kind, day)).or_default();
            total.add(&sum);
            batch.entries.push(JournalAppend::put(SUMS, key, record::encode(total)?));
        }
        for ((group, day), sums) in new.names {
            let prefix = format!("{}{day}/", group.prefix());
            let mut stored = self.named_sums(&prefix).await?;
            for name in add_limited(&mut stored, sums) {
                let Some(total) = stored.get(&name) else { continue };
                let value = record::encode(total)?;
                batch.entries.push(JournalAppend::put(SUMS, format!("{prefix}{name}"), value));
            }
        }
        let through = through.to_owned();
        batch.entries.push(JournalAppend::put(SUMS, THROUGH, record::encode(&through)?));
        self.store.apply(batch).await?;
        *self.queries_from.write() = through;
        Ok(())
    }
}

/// Adds new totals to the stored totals of a day, with at most [`NAMES_MAX`] names and [`OTHERS`].
/// Returns the names of the changed totals.
fn add_limited(
    stored: &mut BTreeMap<String, UsageSum>,
    new: BTreeMap<String, UsageSum>,
) -> BTreeSet<String> {
    let mut changed = BTreeSet::new();
    for (name, sum) in new {
        let has_own = stored.contains_key(&name) || stored.len() < NAMES_MAX;
        let name = if has_own { name } else { OTHERS.to_owned() };
        stored.entry(name.clone()).or_default().add(&sum);
        changed.insert(name);
    }
    changed
}

/// Returns the smallest key that is greater than the key of a record.
fn after(record: &JobRecord) -> String {
    format!("{}\0", record.job.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_names_of_a_day_is_limited_and_no_usage_is_lost() {
        let names = |from: usize, count: usize| -> BTreeMap<String, UsageSum> {
            let sum = UsageSum { jobs: 1, ..UsageSum::default() };
            (from..from + count).map(|at| (format!("f{at:04}"), sum.clone())).collect()
        };
        let mut stored = BTreeMap::new();
        assert_eq!(add_limited(&mut stored, names(0, NAMES_MAX)).len(), NAMES_MAX);
        let changed = add_limited(&mut stored, names(NAMES_MAX - 1, 11));
        assert_eq!(changed.len(), 2, "{changed:?}");
        assert_eq!(stored.len(), NAMES_MAX + 1);
        assert_eq!(stored[OTHERS].jobs, 10);
        assert_eq!(stored.values().map(|sum| sum.jobs).sum::<u64>(), NAMES_MAX as u64 + 11);
    }
}
