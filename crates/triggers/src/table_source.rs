//! Detection of table changes on a branch.
//!
//! The source follows the branch commit by commit. The journal `trigger_branch_positions` stores
//! the last examined commit, with the trigger as the key. One batch stores the event and the
//! position, so that each commit belongs to exactly one event. Commits caused by the trigger's own
//! events are skipped. While the event queue is full, no commits are examined. Changes whose cause
//! is unknown are subject to the [rate limit](crate::rate_limit).

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use async_trait::async_trait;
use headwater_model::{CommitId, ErrorCode, EventData, Problem, TableName, Timestamp};
use headwater_store::{JournalAppend, UniqueKey};
use serde::{Deserialize, Serialize};
use tokio_util::sync::DropGuard;

use crate::branch_commits::{BranchCommit, CommitSource, caused_by};
use crate::definition::WatchedTables;
use crate::event_queue::OPEN_MAX;
use crate::event_source::{
    DetectedEvents, EventSource, NewEvent, POLL_PAUSE_MIN, PollResult, SourceContext,
};
use crate::journal_codec::{encode, read};
use crate::{Error, Result};

pub(crate) const POSITIONS: &str = "trigger_branch_positions";

/// Maximum number of commits that are examined in one poll, and that one event may contain.
const COMMITS_MAX: usize = 500;

/// Maximum number of commits that are listed in advance.
const AHEAD_MAX: usize = 100_000;

/// Number of commits without a change of the watched tables after which the position is stored. If
/// the process ends before that, these commits are examined again.
const SKIPPED_MAX: usize = 100;

/// Maximum delay of an event while further commits arrive, as a multiple of the debounce time.
const DEBOUNCE_FACTOR_MAX: u32 = 10;

/// The position of a trigger on a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    branch: String,
    /// All commits up to this commit were recorded in events or skipped.
    commit: CommitId,
    /// Unique id of the sequence of steps. A new first position gets a new id.
    id: String,
    /// Number of steps (recorded batches). The store rejects a step that is already recorded.
    step: u64,
}

/// The event source for tables of a branch.
pub(crate) struct TableSource {
    tables: WatchedTables,
    /// The stored position; `None` until it has been read.
    position: Option<Position>,
    /// True if the branch did not exist at the last poll.
    is_awaited: bool,
    /// The last examined commit; `None` if it equals the stored position.
    examined: Option<CommitId>,
    /// The commits after the last examined commit, oldest first.
    ahead: VecDeque<CommitId>,
    /// Number of commits examined since the position was stored.
    skipped: usize,
    /// Commits that are to be recorded, oldest first.
    matches: VecDeque<MatchingCommit>,
    debounced: Option<PendingCommit>,
    /// Guard of the task that requests a poll after each commit. Dropping it ends the task.
    listener: Option<DropGuard>,
}

/// A commit that changed watched tables.
#[derive(Debug)]
struct MatchingCommit {
    /// The preceding commit of the branch.
    after: CommitId,
    commit: BranchCommit,
    caused_by: BTreeSet<String>,
}

/// The last matching commit, kept while the source waits for more commits.
#[derive(Debug, Clone, Copy)]
struct PendingCommit {
    newest: CommitId,
    /// Time at which the commit `newest` was found.
    since: Timestamp,
    /// Time at which the first of the collected commits was found.
    first: Timestamp,
}

/// The reason why an attempt to examine or record commits failed.
enum PollError {
    /// The branch cannot be read.
    Fault(Box<Problem>),
    /// The event cannot be recorded.
    Record(Error),
}

impl From<Error> for PollError {
    fn from(error: Error) -> Self {
        PollError::Record(error)
    }
}

impl From<Problem> for PollError {
    fn from(problem: Problem) -> Self {
        PollError::Fault(Box::new(problem))
    }
}

#[async_trait]
impl EventSource for TableSource {
    async fn poll(&mut self, context: &SourceContext) -> Result<PollResult> {
        let Some(commits) = context.options.commits.clone() else {
            return Ok(PollResult::after(context.options.poll_interval));
        };
        if self.listener.is_none() {
            self.listener = context.listen(commits.counter());
        }
        match self.step(context, &*commits).await {
            Err(PollError::Fault(problem)) => Ok(PollResult::absent(*problem)),
            Err(PollError::Record(error)) => Err(error),
            Ok(pause) => {
                let per_minute = self.tables.max_events_per_minute;
                let fault = context.queue.rate_limit.lock().fault(per_minute, context.now());
                Ok(PollResult { pause, fault })
            }
        }
    }
}

impl TableSource {
    pub(crate) fn new(tables: WatchedTables) -> Self {
        TableSource {
            tables,
            position: None,
            is_awaited: false,
            examined: None,
            ahead: VecDeque::new(),
            skipped: 0,
            matches: VecDeque::new(),
            debounced: None,
            listener: None,
        }
    }

    async fn step(
        &mut self,
        context: &SourceContext,
        commits: &dyn CommitSource,
    ) -> Result<Duration, PollError> {
        let position = self.position(context, commits).await?;
        let poll_interval = context.options.poll_interval;
        if context.queue.open_count() >= OPEN_MAX {
            return Ok(poll_interval);
        }
        let after = self.examined.unwrap_or(position.commit);
        let more = self.examine(context, commits, after).await?;
        let again = if more { Duration::ZERO } else { poll_interval };
        if self.matches.is_empty() {
            self.skip(context, &position).await?;
            return Ok(again);
        }
        if let Some(pause) = self.debounce(context.now()) {
            return Ok(again.min(pause.max(POLL_PAUSE_MIN)));
        }
        if let Some(pause) = self.throttle(context) {
            let is_full = self.matches.len() >= self.batch();
            return Ok(if is_full { pause } else { again.min(pause) });
        }
        self.record_matches(context, &position).await?;
        Ok(Duration::ZERO)
    }

    /// Reads the position. Without a stored position, the source starts at the current commit of an
    /// existing branch, or at the first commit of a future branch.
    async fn position(
        &mut self,
        context: &SourceContext,
        commits: &dyn CommitSource,
    ) -> Result<Position, PollError> {
        if let Some(position) = &self.position {
            return Ok(position.clone());
        }
        context.catch_up().await?;
        let stored = read::<Position>(context.store(), POSITIONS, &context.trigger).await?;
        let position = match stored.filter(|stored| stored.branch == self.tables.branch) {
            Some(stored) => stored,
            None => self.first_position(context, commits).await?,
        };
        self.position = Some(position.clone());
        Ok(position)
    }

    async fn first_position(
        &mut self,
        context: &SourceContext,
        commits: &dyn CommitSource,
    ) -> Result<Position, PollError> {
        let branch = &self.tables.branch;
        let start = if self.is_awaited { commits.start(branch).await? } else { None };
        let found = match start {
            None => commits.head(branch).await?,
            start => start,
        };
        self.is_awaited = found.is_none();
        let commit = found.ok_or_else(|| no_branch(branch))?;
        let id = context.log.jobs.new_id().to_string();
        let position = Position { branch: branch.clone(), commit, id, step: 0 };
        context.record(position.detected(context, None)?).await?;
        Ok(position)
    }

    /// Examines the commits after `after` until enough commits match for one event. Returns true if
    /// more commits may follow.
    async fn examine(
        &mut self,
        context: &SourceContext,
        commits: &dyn CommitSource,
        mut after: CommitId,
    ) -> Result<bool, PollError> {
        if self.matches.len() >= self.batch() {
            return Ok(true);
        }
        let branch = &self.tables.branch;
        let is_known = !self.ahead.is_empty();
        if !is_known {
            let found = commits.since(branch, after, AHEAD_MAX).await?;
            self.ahead = found.ok_or_else(|| no_branch(branch))?.into();
        }
        let enough = self.ahead.len().min(COMMITS_MAX);
        for id in self.ahead.range(..enough).copied().collect::<Vec<_>>() {
            let found = commits.change(after, id).await;
            let commit = found.inspect_err(|_| self.ahead.clear())?;
            if let Some(found) = self.matching(context, after, commit).await? {
                self.matches.push_back(found);
            }
            self.ahead.pop_front();
            self.examined = Some(id);
            self.skipped += 1;
            after = id;
            if self.matches.len() >= self.batch() {
                break;
            }
        }
        Ok(is_known || !self.ahead.is_empty())
    }

    /// Returns a commit reduced to the watched tables that the identity of the trigger may see;
    /// `None` if the commit changed none of these tables, or if the trigger itself caused it.
    async fn matching(
        &self,
        context: &SourceContext,
        after: CommitId,
        mut commit: BranchCommit,
    ) -> Result<Option<MatchingCommit>> {
        commit.tables.retain(|table| self.tables.is_watched(table));
        let visible = self.visible(context, &commit);
        commit.tables.retain(|table| visible.contains(&table.qualified()));
        if commit.tables.is_empty() {
            return Ok(None);
        }
        let caused_by = caused_by(&context.log, &commit.properties).await?;
        let is_own = caused_by.contains(&context.trigger);
        Ok((!is_own).then_some(MatchingCommit { after, commit, caused_by }))
    }

    /// Returns the qualified names of the changed tables that the identity of the trigger may see.
    fn visible(&self, context: &SourceContext, commit: &BranchCommit) -> Vec<String> {
        if commit.tables.is_empty() {
            return Vec::new();
        }
        let (branch, commit_id) = (self.tables.branch.clone(), commit.id);
        let tables = commit.tables.iter().map(TableName::qualified).collect();
        let changed = EventData::TableChanged { branch, tables, commit: commit_id };
        match context.targets.visible(&context.trigger, changed) {
            Some(EventData::TableChanged { tables, .. }) => tables,
            _ => Vec::new(),
        }
    }

    /// Stores the position if enough commits were skipped since it was last stored.
    async fn skip(&mut self, context: &SourceContext, position: &Position) -> Result<()> {
        self.debounced = None;
        let commit = self.examined.filter(|_| self.skipped >= SKIPPED_MAX);
        let Some(commit) = commit else { return Ok(()) };
        self.record(context, None, Position { commit, ..position.clone() }).await
    }

    /// Returns the remaining time to wait for more commits; `None` if the event is complete.
    fn debounce(&mut self, now: Timestamp) -> Option<Duration> {
        let newest = self.matches.back()?.commit.id;
        let (since, first) = match self.debounced {
            // The clock was set back, so start the debounce time again.
            Some(PendingCommit { first, .. }) if first > now => (now, now),
            Some(last) if last.newest == newest => (last.since, last.first),
            Some(last) => (now, last.first),
            None => (now, now),
        };
        self.debounced = Some(PendingCommit { newest, since, first });
        let debounce = self.tables.debounce;
        let age = |since: Timestamp| (now - since).to_std().unwrap_or_default();
        let is_complete =
            self.matches.len() >= self.batch() || age(first) >= debounce * DEBOUNCE_FACTOR_MAX;
        debounce.checked_sub(age(since)).filter(|left| !is_complete && !left.is_zero())
    }

    /// Returns the pause that the rate limit requires before the next event. `None` if no pause is
    /// needed, or if the cause of the first change is known.
    fn throttle(&self, context: &SourceContext) -> Option<Duration> {
        let first = self.matches.front()?;
        if !first.caused_by.is_empty() {
            return None;
        }
        let per_minute = self.tables.max_events_per_minute;
        let pause = context.queue.rate_limit.lock().pause(per_minute, context.now());
        pause.map(|pause| pause.max(POLL_PAUSE_MIN))
    }

    /// Records one event for the first commits that have the same causes.
    async fn record_matches(&mut self, context: &SourceContext, position: &Position) -> Result<()> {
        let caused_by = self.matches.front().map(|first| first.caused_by.clone());
        let caused_by = caused_by.unwrap_or_default();
        let alike = self.matches.iter().take_while(|one| one.caused_by == caused_by);
        let count = alike.count().min(self.batch());
        let recorded = || self.matches.range(..count);
        let Some(last) = recorded().last().map(|last| last.commit.id) else { return Ok(()) };
        let changed: BTreeSet<String> =
            recorded().flat_map(|one| &one.commit.tables).map(TableName::qualified).collect();
        let is_counted = caused_by.is_empty();
        let event = self.event(changed, last, caused_by, context.now());
        let until = self.matches.get(count).map(|next| next.after).or(self.examined);
        let commit = until.unwrap_or(position.commit);
        self.record(context, Some(event), Position { commit, ..position.clone() }).await?;
        if is_counted {
            context.queue.rate_limit.lock().fired();
        }
        self.matches.drain(..count);
        self.debounced = None;
        Ok(())
    }

    fn event(
        &self,
        changed: BTreeSet<String>,
        commit: CommitId,
        caused_by: BTreeSet<String>,
        time: Timestamp,
    ) -> NewEvent {
        let branch = self.tables.branch.clone();
        let tables: Vec<String> = changed.into_iter().collect();
        let subject = match tables.as_slice() {
            [table] => Some(table.clone()),
            _ => None,
        };
        NewEvent {
            source: format!("/branches/{branch}"),
            subject,
            time,
            data: EventData::TableChanged { branch, tables, commit },
            caused_by: caused_by.into_iter().collect(),
            trace: None,
        }
    }

    /// Records the next step: the position and an event, if there is one.
    async fn record(
        &mut self,
        context: &SourceContext,
        event: Option<NewEvent>,
        position: Position,
    ) -> Result<()> {
        let position = Position { step: position.step + 1, ..position };
        context.record(position.detected(context, event)?).await?;
        self.position = Some(position);
        self.skipped = 0;
        Ok(())
    }

    /// Returns the maximum number of commits in one event.
    fn batch(&self) -> usize {
        self.tables.batch.min(COMMITS_MAX)
    }
}

impl Position {
    /// Returns the position and an optional event, to be recorded. The batch is rejected if another
    /// process has recorded the same step.
    fn detected(&self, context: &SourceContext, event: Option<NewEvent>) -> Result<DetectedEvents> {
        let step = UniqueKey {
            scope: format!("{POSITIONS}/{}", context.trigger),
            key: format!("{}\n{}", self.id, self.step),
        };
        Ok(DetectedEvents {
            events: event.into_iter().collect(),
            entries: vec![JournalAppend::put(POSITIONS, &context.trigger, encode(self)?)],
            unique: vec![step],
            is_durable: false,
        })
    }
}

fn no_branch(branch: &str) -> Problem {
    Problem::new(ErrorCode::RefNotFound, format!("the watched branch `{branch}` does not exist"))
        .with_hint("Create the branch; the trigger watches it as soon as it exists.")
}
