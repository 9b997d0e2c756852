//! Retention of query and function call records. Old records are aggregated by day, so that their
//! number is limited and no usage is lost.
//!
//! One batch writes the totals, and the key up to which the totals include all records. Then the
//! records are deleted. Readers ignore records below that key, so no record is counted twice, even
//! after a crash between the two steps.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_model::JobKind;
use headwater_store::{Append, Batch, KeyRange, ReverseScan};

use crate::Result;
use crate::record::{self, QUERIES, Record, events_journal};
use crate::usage::{UsageSum, day_of};
use crate::writer::Shared;

const SUMS: &str = "query_sums";
/// The key under which the end of the aggregated range is stored.
const THROUGH: &str = "through";
/// Key prefixes of the totals of each brief kind.
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

/// Number of records that are removed in one batch. A pause follows each batch, so that other
/// writes wait for at most one batch.
const TRIMMED: usize = 16;
const PAUSE: Duration = Duration::from_millis(5);

impl Shared {
    /// Reads the key up to which queries are aggregated.
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
            let range =
                KeyRange { prefix: prefix.into(), limit: usize::MAX, ..KeyRange::default() };
            for entry in self.store.scan(SUMS, &range).await? {
                let sum = record::decode(SUMS, &entry.key, &entry.value)?;
                days.insert((kind, entry.key[prefix.len()..].to_owned()), sum);
            }
        }
        Ok(days)
    }

    /// Adds the usage of old query records to the totals, and removes the records. `more` is the
    /// number of queries since the last call.
    pub(crate) async fn retire_queries(&self, more: usize) -> Result<()> {
        // Remove the known number of records, so that the next call counts them again if this call
        // is interrupted.
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

    /// Adds the usage of the oldest `count` records that are not in memory to the totals, and
    /// removes them. Returns the number of removed records.
    async fn retire_oldest(&self, count: usize) -> Result<usize> {
        let living = {
            let live = self.live.lock();
            live.values().find(|live| live.kind.is_brief()).map(|live| live.id)
        };
        let mut sums: BTreeMap<(JobKind, String), UsageSum> = BTreeMap::new();
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
                let key = (record.job.kind, day_of(record.job.created));
                sums.entry(key).or_default().add(&UsageSum::of(record));
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

    async fn queries(&self, from: &str, limit: usize) -> Result<Vec<Record>> {
        let range = KeyRange::all().from(from).limit(limit);
        let entries = self.store.scan(QUERIES, &range).await?;
        let decode =
            |entry: &headwater_store::Entry| record::decode(QUERIES, &entry.key, &entry.value);
        entries.iter().map(decode).collect()
    }

    async fn store_sums(
        &self,
        new: BTreeMap<(JobKind, String), UsageSum>,
        through: &str,
    ) -> Result<()> {
        let mut days = self.retired_days().await?;
        let mut batch = Batch { relaxed: true, ..Batch::default() };
        for ((kind, day), sum) in new {
            let prefix = DAYS.iter().find(|(known, _)| *known == kind).map_or("", |(_, key)| key);
            let key = format!("{prefix}{day}");
            let total = days.entry((kind, day)).or_default();
            total.add(&sum);
            batch.entries.push(Append::put(SUMS, key, record::encode(total)?));
        }
        let through = through.to_owned();
        batch.entries.push(Append::put(SUMS, THROUGH, record::encode(&through)?));
        self.store.apply(batch).await?;
        *self.queries_from.write() = through;
        Ok(())
    }
}

/// Returns the smallest key after a record's key.
fn after(record: &Record) -> String {
    format!("{}\0", record.job.id)
}
