//! Aggregation of the usage and cost of jobs.

use std::collections::BTreeMap;

use headwater_model::{Job, JobKind, Timestamp, Usage, UsageLine};
use serde::{Deserialize, Serialize};

use crate::list::JobFilter;
use crate::record::Record;
use crate::retention::NamedGroup;
use crate::{Jobs, Result};

/// The grouping of a usage summary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageGroup {
    /// A day, in UTC, on which jobs were recorded.
    #[default]
    Day,
    /// A kind of job.
    Kind,
    /// A job. The newest job is first. Queries and calls whose records were removed have no line.
    Job,
    /// A model or expectation, over all its runs.
    Model,
    /// A function, over its calls by clients and triggers. Calls whose records were removed are
    /// counted in whole days.
    Function,
    /// A trigger, over the jobs that delivered its events. Calls whose records were removed are
    /// counted in whole days.
    Trigger,
    /// The ref that a job read or changed, for jobs whose records are kept. Jobs without a ref have
    /// no line.
    Branch,
    /// The author, for jobs whose records are kept.
    Author,
}

/// The aggregated usage of one group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct UsageSum {
    pub jobs: u64,
    pub usage: Usage,
    /// Absent in sums that older versions stored.
    #[serde(default)]
    pub gib_seconds: f64,
    pub cost: f64,
}

impl UsageSum {
    pub(crate) fn add(&mut self, other: &UsageSum) {
        self.jobs += other.jobs;
        self.usage.add(&other.usage);
        self.gib_seconds += other.gib_seconds;
        self.cost += other.cost;
    }

    pub(crate) fn of(record: &Record) -> Self {
        UsageSum::new(record.job.usage, record.job.cost)
    }

    fn new(usage: Usage, cost: f64) -> Self {
        UsageSum { jobs: 1, usage, gib_seconds: usage.gib_seconds(), cost }
    }
}

impl Jobs {
    /// Returns the usage of ended jobs that were recorded in `since..until`, by group name. The
    /// newest group is first when grouped by job.
    ///
    /// Removed queries and calls are counted only in whole days.
    pub async fn usage(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        by: UsageGroup,
    ) -> Result<Vec<UsageLine>> {
        let sums = self.retired(since, until, by).await?;
        let filter = JobFilter { since, until, limit: usize::MAX, ..JobFilter::default() };
        self.sum_up(sums, &filter, by, |_| true).await
    }

    /// Aggregates usage like [`Jobs::usage`], over the jobs of some authors. Queries and calls
    /// whose records were removed are not included, because their authors are no longer known.
    pub async fn usage_of(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        by: UsageGroup,
        is_wanted: impl Fn(&Job) -> bool + Send,
    ) -> Result<Vec<UsageLine>> {
        let filter = JobFilter { since, until, limit: usize::MAX, ..JobFilter::default() };
        self.sum_up(BTreeMap::new(), &filter, by, is_wanted).await
    }

    async fn sum_up(
        &self,
        mut sums: BTreeMap<String, UsageSum>,
        filter: &JobFilter,
        by: UsageGroup,
        is_wanted: impl Fn(&Job) -> bool + Send,
    ) -> Result<Vec<UsageLine>> {
        let mut records = self.inner.shared.records(filter);
        while let Some(record) = records.next().await? {
            if record.job.status.is_final() && is_wanted(&record.job) {
                add_record(&mut sums, &record, by);
            }
        }
        let currency = self.rate_card().currency;
        let line = |(group, sum): (String, UsageSum)| UsageLine {
            group,
            jobs: sum.jobs,
            usage: sum.usage,
            gib_seconds: sum.gib_seconds,
            cost: sum.cost,
            currency: currency.clone(),
        };
        let mut lines: Vec<UsageLine> = sums.into_iter().map(line).collect();
        if by == UsageGroup::Job {
            lines.reverse();
        }
        Ok(lines)
    }

    async fn retired(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        by: UsageGroup,
    ) -> Result<BTreeMap<String, UsageSum>> {
        let shared = &self.inner.shared;
        let retired: Vec<(String, String, UsageSum)> = match by {
            UsageGroup::Day | UsageGroup::Kind => {
                let group = |kind: JobKind, day: &str| match by {
                    UsageGroup::Day => day.to_owned(),
                    _ => kind.as_str().to_owned(),
                };
                let days = shared.retired_days().await?;
                days.into_iter().map(|((kind, day), sum)| (group(kind, &day), day, sum)).collect()
            }
            UsageGroup::Function => shared.retired_groups(NamedGroup::Function).await?,
            UsageGroup::Trigger => shared.retired_groups(NamedGroup::Trigger).await?,
            _ => Vec::new(),
        };
        let since = since.map(day_of);
        let until = until.map(|until| day_of(until - chrono::TimeDelta::nanoseconds(1)));
        let mut sums: BTreeMap<String, UsageSum> = BTreeMap::new();
        for (group, day, sum) in retired {
            let early = since.as_ref().is_some_and(|since| day < *since);
            let late = until.as_ref().is_some_and(|until| day > *until);
            if !early && !late {
                sums.entry(group).or_default().add(&sum);
            }
        }
        Ok(sums)
    }
}

fn add_record(sums: &mut BTreeMap<String, UsageSum>, record: &Record, by: UsageGroup) {
    let job = &record.job;
    let group = match by {
        UsageGroup::Day => day_of(job.created),
        UsageGroup::Kind => job.kind.as_str().to_owned(),
        UsageGroup::Job => job.id.to_string(),
        UsageGroup::Model => {
            for step in &record.steps {
                let sum = UsageSum::new(step.usage, step.cost);
                sums.entry(step.step.clone()).or_default().add(&sum);
            }
            return;
        }
        UsageGroup::Function => match record.function() {
            Some(function) => function.to_owned(),
            None => return,
        },
        UsageGroup::Trigger => match &record.trigger {
            Some(trigger) => trigger.clone(),
            None => return,
        },
        UsageGroup::Branch => match &job.reference {
            Some(reference) => reference.clone(),
            None => return,
        },
        UsageGroup::Author => job.author.clone(),
    };
    sums.entry(group).or_default().add(&UsageSum::of(record));
}

/// Returns the day that contains a time, in UTC: `2026-03-01`.
pub(crate) fn day_of(time: Timestamp) -> String {
    time.date_naive().to_string()
}
