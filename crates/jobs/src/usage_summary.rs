//! Aggregation of the usage and cost of jobs.

use std::collections::BTreeMap;

use headwater_model::{Job, Timestamp, Usage, UsageLine};
use serde::{Deserialize, Serialize};

use crate::list::JobFilter;
use crate::record::JobRecord;
use crate::retention::UsageDimension;
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
    /// A job. The newest job is first. Queries and calls whose records were removed are left out.
    Job,
    /// A model or expectation: the sum of all its runs.
    Model,
    /// A function: the sum of its calls by clients and triggers. Calls whose records were removed
    /// have only totals by day, so they count for the whole day.
    Function,
    /// A trigger: the sum of the jobs that delivered its events. Calls whose records were removed
    /// have only totals by day, so they count for the whole day.
    Trigger,
    /// The ref that a job read or changed, for jobs whose records are kept. Jobs without a ref are
    /// left out.
    Branch,
    /// The author, for jobs whose records are kept.
    Author,
}

/// The one or two properties by which a usage summary groups jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageGrouping {
    /// The first property.
    pub first: UsageGroup,
    /// The second property, which differs from the first.
    pub second: Option<UsageGroup>,
}

impl From<UsageGroup> for UsageGrouping {
    fn from(first: UsageGroup) -> Self {
        UsageGrouping { first, second: None }
    }
}

impl UsageGrouping {
    fn has(self, group: UsageGroup) -> bool {
        self.first == group || self.second == Some(group)
    }

    /// Returns the properties other than the day.
    fn without_day(self) -> Vec<UsageGroup> {
        let groups = std::iter::once(self.first).chain(self.second);
        groups.filter(|group| *group != UsageGroup::Day).collect()
    }
}

/// The names of a group: the values of the first and of the second property.
type GroupKey = (String, Option<String>);

/// The aggregated usage of one group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct UsageSum {
    pub jobs: u64,
    pub usage: Usage,
    /// Memory usage in GiB-seconds. Sums that older versions stored do not have this field.
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

    pub(crate) fn of(record: &JobRecord) -> Self {
        UsageSum::new(record.job.usage, record.job.cost)
    }

    fn new(usage: Usage, cost: f64) -> Self {
        UsageSum { jobs: 1, usage, gib_seconds: usage.gib_seconds(), cost }
    }
}

impl Jobs {
    /// Returns the usage of ended jobs that were recorded in `since..until`, in the order of the
    /// group names. If the first property is the job, the newest job is first.
    ///
    /// For queries and calls whose records were removed, only totals by day exist: a day that
    /// overlaps the range counts completely. These totals are included only in a grouping by the
    /// day, the kind, the function or the trigger, or by the day and one of the others.
    pub async fn usage(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        by: UsageGrouping,
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
        by: UsageGrouping,
        is_wanted: impl Fn(&Job) -> bool + Send,
    ) -> Result<Vec<UsageLine>> {
        let filter = JobFilter { since, until, limit: usize::MAX, ..JobFilter::default() };
        self.sum_up(BTreeMap::new(), &filter, by, is_wanted).await
    }

    async fn sum_up(
        &self,
        mut sums: BTreeMap<GroupKey, UsageSum>,
        filter: &JobFilter,
        by: UsageGrouping,
        is_wanted: impl Fn(&Job) -> bool + Send,
    ) -> Result<Vec<UsageLine>> {
        let mut records = self.inner.shared.records(filter);
        while let Some(record) = records.next().await? {
            if record.job.status.is_final() && is_wanted(&record.job) {
                add_record(&mut sums, &record, by);
            }
        }
        let currency = self.rate_card().currency;
        let line = |((group, subgroup), sum): (GroupKey, UsageSum)| UsageLine {
            group,
            subgroup,
            jobs: sum.jobs,
            usage: sum.usage,
            gib_seconds: sum.gib_seconds,
            cost: sum.cost,
            currency: currency.clone(),
        };
        let mut lines: Vec<UsageLine> = sums.into_iter().map(line).collect();
        if by.first == UsageGroup::Job {
            lines.reverse();
        }
        Ok(lines)
    }

    async fn retired(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        by: UsageGrouping,
    ) -> Result<BTreeMap<GroupKey, UsageSum>> {
        let since = since.map(day_of);
        let until = until.map(|until| day_of(until - chrono::TimeDelta::nanoseconds(1)));
        let mut sums: BTreeMap<GroupKey, UsageSum> = BTreeMap::new();
        for (name, day, sum) in self.retired_sums(by).await? {
            let early = since.as_ref().is_some_and(|since| day < *since);
            let late = until.as_ref().is_some_and(|until| day > *until);
            if !early && !late {
                let part = |group: UsageGroup| match group {
                    UsageGroup::Day => day.clone(),
                    _ => name.clone(),
                };
                sums.entry((part(by.first), by.second.map(part))).or_default().add(&sum);
            }
        }
        Ok(sums)
    }

    /// Returns the totals of removed records, each as the name of the kind, function or trigger,
    /// the day and the usage. Returns none for a grouping by other properties, which the totals do
    /// not contain.
    async fn retired_sums(&self, by: UsageGrouping) -> Result<Vec<(String, String, UsageSum)>> {
        let shared = &self.inner.shared;
        match by.without_day().as_slice() {
            [] | [UsageGroup::Kind] => {
                let days = shared.retired_days().await?.into_iter();
                Ok(days.map(|((kind, day), sum)| (kind.as_str().to_owned(), day, sum)).collect())
            }
            [UsageGroup::Function] => shared.retired_groups(UsageDimension::Function).await,
            [UsageGroup::Trigger] => shared.retired_groups(UsageDimension::Trigger).await,
            _ => Ok(Vec::new()),
        }
    }
}

fn add_record(sums: &mut BTreeMap<GroupKey, UsageSum>, record: &JobRecord, by: UsageGrouping) {
    if by.has(UsageGroup::Model) {
        for step in &record.steps {
            if let Some(key) = group_key(record, by, Some(step.step.as_str())) {
                sums.entry(key).or_default().add(&UsageSum::new(step.usage, step.cost));
            }
        }
    } else if let Some(key) = group_key(record, by, None) {
        sums.entry(key).or_default().add(&UsageSum::of(record));
    }
}

/// Returns the key of the group to which a record, or one step of the record, belongs; `None` if it
/// belongs to no group.
fn group_key(record: &JobRecord, by: UsageGrouping, step: Option<&str>) -> Option<GroupKey> {
    let first = group_name(record, by.first, step)?;
    match by.second {
        Some(second) => Some((first, Some(group_name(record, second, step)?))),
        None => Some((first, None)),
    }
}

/// Returns the value of a property for a record or one of its steps; `None` if there is no value.
fn group_name(record: &JobRecord, by: UsageGroup, step: Option<&str>) -> Option<String> {
    let job = &record.job;
    match by {
        UsageGroup::Day => Some(day_of(job.created)),
        UsageGroup::Kind => Some(job.kind.as_str().to_owned()),
        UsageGroup::Job => Some(job.id.to_string()),
        UsageGroup::Model => step.map(str::to_owned),
        UsageGroup::Function => record.function().map(str::to_owned),
        UsageGroup::Trigger => record.trigger.clone(),
        UsageGroup::Branch => job.reference.clone(),
        UsageGroup::Author => Some(job.author.clone()),
    }
}

/// Returns the day that contains a time, in UTC: `2026-03-01`.
pub(crate) fn day_of(time: Timestamp) -> String {
    time.date_naive().to_string()
}
