//! Old records of queries, and of calls of functions, become sums by day, so that their number has a
//! bound and no usage is lost.
//!
//! The sums and the key up to which they count are written in one batch; only then are the records
//! trimmed. Records below that key are gone for every reader from the batch on, so a crash between
//! the two counts nothing twice.

use std::collections::BTreeMap;

use headwater_model::JobKind;
use headwater_store::{Batch, KeyRange};

use crate::Result;
use crate::list::Backwards;
use crate::record::{self, QUERIES, Record, events_journal};
use crate::usage::{Sum, day_of};
use crate::writer::Shared;

const SUMS: &str = "query_sums";
/// The key of the entry that says up to which key records are summed up.
const THROUGH: &str = "through";
/// The beginning of the keys of each kind's sums.
const DAYS: [(JobKind, &str); 2] = [(JobKind::Query, "day/"), (JobKind::Function, "function-day/")];
const PAGE: usize = 1_000;

impl Shared {
    /// Reads up to where queries are summed up.
    pub(crate) async fn load_queries_from(&self) -> Result<()> {
        if let Some(entry) = self.store.latest(SUMS, THROUGH).await? {
            *self.queries_from.write() = record::decode(SUMS, THROUGH, &entry.value)?;
        }
        Ok(())
    }

    /// The sums of queries and calls that are no longer kept, by kind and day.
    pub(crate) async fn retired_days(&self) -> Result<BTreeMap<(JobKind, String), Sum>> {
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

    /// Sums up and removes all but the newest records of queries.
    pub(crate) async fn retire_queries(&self) -> Result<()> {
        let Some(keep_from) = self.oldest_kept().await? else { return Ok(()) };
        let from = self.queries_from.read().clone();
        let mut sums: BTreeMap<(JobKind, String), Sum> = BTreeMap::new();
        let mut next = from.clone();
        loop {
            let page = self.queries(&next, &keep_from).await?;
            let Some(last) = page.last() else { break };
            next = format!("{}\0", last.job.id);
            for record in &page {
                let key = (record.job.kind, day_of(record.job.created));
                sums.entry(key).or_default().add(&Sum::of(record));
            }
        }
        if !sums.is_empty() {
            self.store_sums(sums, &keep_from).await?;
        }
        let range = KeyRange { until: Some(keep_from), ..KeyRange::default() };
        self.store.trim(QUERIES, &range).await?;
        self.store.trim(events_journal(JobKind::Query), &range).await?;
        Ok(())
    }

    /// The key of the oldest query to keep; none where all can stay. What is in memory stays.
    async fn oldest_kept(&self) -> Result<Option<String>> {
        let mut queries = Backwards::new(QUERIES, Some(self.queries_from.read().clone()), None);
        let mut oldest = String::new();
        for _ in 0..self.options.queries_kept {
            if queries.head(&*self.store).await?.is_none() {
                return Ok(None);
            }
            oldest = queries.pop().map_or(oldest, |entry| entry.key);
        }
        let living = {
            let live = self.live.lock();
            let query = live.values().find(|live| live.kind.is_brief());
            query.map(|query| query.id.to_string())
        };
        let oldest = living.map_or(oldest.clone(), |living| living.min(oldest));
        Ok((oldest > *self.queries_from.read()).then_some(oldest))
    }

    async fn queries(&self, from: &str, until: &str) -> Result<Vec<Record>> {
        let range = KeyRange {
            from: Some(from.to_owned()),
            until: Some(until.to_owned()),
            limit: PAGE,
            ..KeyRange::default()
        };
        let entries = self.store.scan(QUERIES, &range).await?;
        let decode =
            |entry: &headwater_store::Entry| record::decode(QUERIES, &entry.key, &entry.value);
        entries.iter().map(decode).collect()
    }

    async fn store_sums(&self, new: BTreeMap<(JobKind, String), Sum>, through: &str) -> Result<()> {
        let mut days = self.retired_days().await?;
        let mut batch = Batch { relaxed: true, ..Batch::default() };
        for ((kind, day), sum) in new {
            let prefix = DAYS.iter().find(|(known, _)| *known == kind).map_or("", |(_, key)| key);
            let key = format!("{prefix}{day}");
            let total = days.entry((kind, day)).or_default();
            total.add(&sum);
            batch.entries.push(record::entry(SUMS, key, record::encode(total)?));
        }
        let through = through.to_owned();
        batch.entries.push(record::entry(SUMS, THROUGH.into(), record::encode(&through)?));
        self.store.apply(batch).await?;
        *self.queries_from.write() = through;
        Ok(())
    }
}
