//! Following a branch: which of its commits changed tables that a trigger watches, and when they are whole
//! enough to act on.
//!
//! How far the branch was looked at is stored with the event that it led to, so that a commit is in one event
//! and in no other. A commit that the trigger's own events led to, by whatever way, is passed over. Each
//! commit is looked at once: what was found waits here until it is recorded, and while there is no room for
//! events nothing is looked at. Where nobody knows what led to a commit, and there are very many, they wait
//! as well, see [`super::pace`].

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use headwater_model::{CommitId, ErrorCode, Problem, Timestamp};

use super::book::OPEN_MAX;
use super::commits::{Changes, Commits, MadeCommit};
use super::definition::Tables;
use super::ledger::Position;
use super::observe::{LOOK_FOR, LOOK_LEAST, Observer, catch_up};
use super::watch::Watch;
use crate::{Error, Result};

/// How many commits are looked at in one go, and how many that are to be recorded wait here at most.
const COMMITS: usize = 500;

/// How many commits are known here that were not looked at yet.
const AHEAD: usize = 100_000;

/// After how many commits that changed nothing that is watched this is stored. A process that ends before
/// looks at them again.
const UNSTORED: usize = 100;

/// Commits are taken after so many times the pause that is to be between them, however many follow.
const SETTLE_TIMES: u32 = 10;

/// How far a trigger has followed its branch.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    /// As it is stored; none until it was read, or where there is nothing to follow.
    position: Option<Position>,
    /// The branch was looked for, and not there.
    is_awaited: bool,
    /// The last commit that was looked at, where that is none that is stored.
    looked: Option<CommitId>,
    /// The commits after it, oldest first.
    ahead: VecDeque<CommitId>,
    /// How many were looked at since something was stored.
    passed: usize,
    /// Those that are to be recorded, oldest first.
    matches: VecDeque<Match>,
    /// The last commit that waits for others, when it was seen, and when the first was.
    waiting: Option<(CommitId, Timestamp, Timestamp)>,
}

/// A commit that changed tables that are watched.
#[derive(Debug)]
struct Match {
    /// The commit before it.
    after: CommitId,
    commit: MadeCommit,
    led_by: BTreeSet<String>,
}

impl Observer {
    /// Looks at what was committed; answers when to look again.
    pub(crate) async fn follow(&mut self, watch: &Watch, tables: &Tables) -> Result<Duration> {
        self.remark = None;
        let options = &watch.context.options;
        let Some(commits) = options.commits.clone() else { return Ok(options.look_every) };
        match self.follower.step(watch, tables, &*commits).await {
            Err(Stop::Remark(problem)) => {
                self.remark = Some(*problem);
                Ok(LOOK_FOR)
            }
            Err(Stop::Error(error)) => Err(error),
            Ok(wait) => {
                let now = options.clock.now();
                self.remark = watch.book.pace.lock().remark(tables.max_events_per_minute, now);
                Ok(wait)
            }
        }
    }
}

/// Why a step was not made.
enum Stop {
    /// What keeps the trigger from seeing the branch.
    Remark(Box<Problem>),
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Error(error)
    }
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Stop::Remark(Box::new(problem))
    }
}

impl Follower {
    async fn step(
        &mut self,
        watch: &Watch,
        tables: &Tables,
        commits: &dyn Commits,
    ) -> Result<Duration, Stop> {
        let options = &watch.context.options;
        let position = self.position(watch, tables, commits).await?;
        if watch.book.open_count() >= OPEN_MAX {
            return Ok(options.look_every);
        }
        let after = self.looked.unwrap_or(position.commit);
        let more = self.look(watch, tables, commits, after).await?;
        let again = if more { Duration::ZERO } else { options.look_every };
        if self.matches.is_empty() {
            self.pass(watch, &position).await?;
            return Ok(again);
        }
        if let Some(wait) = self.settling(tables, options.clock.now()) {
            return Ok(again.min(wait.max(LOOK_LEAST)));
        }
        if let Some(wait) = self.held_back(watch, tables) {
            let is_full = self.matches.len() >= batch(tables);
            return Ok(if is_full { wait } else { again.min(wait) });
        }
        self.take(watch, &position, batch(tables)).await?;
        Ok(Duration::ZERO)
    }

    /// How far the branch was looked at. One that is followed for the first time is followed from where it
    /// is, or from where it began if it was awaited.
    async fn position(
        &mut self,
        watch: &Watch,
        tables: &Tables,
        commits: &dyn Commits,
    ) -> Result<Position, Stop> {
        if let Some(position) = &self.position {
            return Ok(position.clone());
        }
        catch_up(watch).await?;
        let stored = watch.context.ledger.position(watch.name()).await?;
        let stored = stored.filter(|stored| stored.branch == tables.branch);
        let position = match stored {
            Some(stored) => stored,
            None => self.first_position(watch, tables, commits).await?,
        };
        self.position = Some(position.clone());
        Ok(position)
    }

    async fn first_position(
        &mut self,
        watch: &Watch,
        tables: &Tables,
        commits: &dyn Commits,
    ) -> Result<Position, Stop> {
        let begun = if self.is_awaited { commits.start(&tables.branch).await? } else { None };
        let found = match begun {
            None => commits.head(&tables.branch).await?,
            begun => begun,
        };
        self.is_awaited = found.is_none();
        let commit = found.ok_or_else(|| no_branch(&tables.branch))?;
        let ledger = &watch.context.ledger;
        let id = ledger.shared.ids.next().to_string();
        let position = Position { branch: tables.branch.clone(), commit, id, step: 0 };
        let now = watch.context.options.clock.now();
        ledger.record_commits(watch.name(), None, &position, now).await?;
        Ok(position)
    }

    /// Looks at the commits that follow one, until there are enough that are to be recorded; answers whether
    /// more may follow.
    async fn look(
        &mut self,
        watch: &Watch,
        tables: &Tables,
        commits: &dyn Commits,
        mut after: CommitId,
    ) -> Result<bool, Stop> {
        if self.matches.len() >= batch(tables) {
            return Ok(true);
        }
        let is_known = !self.ahead.is_empty();
        if !is_known {
            let found = commits.since(&tables.branch, after, AHEAD).await?;
            self.ahead = found.ok_or_else(|| no_branch(&tables.branch))?.into();
        }
        let enough = self.ahead.len().min(COMMITS);
        for id in self.ahead.range(..enough).copied().collect::<Vec<_>>() {
            let found = commits.change(after, id).await;
            let commit = found.inspect_err(|_| self.ahead.clear())?;
            if let Some(found) = matching(watch, tables, after, commit).await? {
                self.matches.push_back(found);
            }
            self.ahead.pop_front();
            self.looked = Some(id);
            self.passed += 1;
            after = id;
            if self.matches.len() >= batch(tables) {
                break;
            }
        }
        Ok(is_known || !self.ahead.is_empty())
    }

    /// Commits need not be recorded; once they are many, that is stored.
    async fn pass(&mut self, watch: &Watch, position: &Position) -> Result<()> {
        self.waiting = None;
        let Some(commit) = self.looked.filter(|_| self.passed >= UNSTORED) else { return Ok(()) };
        self.record(watch, None, Position { commit, ..position.clone() }).await
    }

    /// How long to wait for further commits; not at all where these are to be taken.
    fn settling(&mut self, tables: &Tables, now: Timestamp) -> Option<Duration> {
        let newest = self.matches.back()?.commit.id;
        let (since, first) = match self.waiting {
            // A clock that was set back begins anew.
            Some((_, _, first)) if first > now => (now, now),
            Some((commit, since, first)) if commit == newest => (since, first),
            Some((_, _, first)) => (now, first),
            None => (now, now),
        };
        self.waiting = Some((newest, since, first));
        let settle = tables.debounce;
        let age = |since: Timestamp| (now - since).to_std().unwrap_or_default();
        let whole = self.matches.len() >= batch(tables) || age(first) >= settle * SETTLE_TIMES;
        settle.checked_sub(age(since)).filter(|left| !whole && !left.is_zero())
    }

    /// How long to wait since the trigger fired too often, for changes of which nobody knows what led to
    /// them; not at all where they are to be taken.
    fn held_back(&self, watch: &Watch, tables: &Tables) -> Option<Duration> {
        let first = self.matches.front()?;
        let now = watch.context.options.clock.now();
        let wait = || watch.book.pace.lock().wait(tables.max_events_per_minute, now);
        if first.led_by.is_empty() { wait().map(|wait| wait.max(LOOK_LEAST)) } else { None }
    }

    /// Records an event of some commits, and that the branch was looked at up to another.
    async fn take(&mut self, watch: &Watch, position: &Position, batch: usize) -> Result<()> {
        // Commits that others led to are events of their own, so that it is known of each what led to it.
        let led_by = self.matches.front().map(|first| first.led_by.clone()).unwrap_or_default();
        let alike = self.matches.iter().take_while(|one| one.led_by == led_by);
        let taken = alike.count().min(batch);
        let tables = self.matches.range(..taken).flat_map(|one| &one.commit.tables);
        let tables = tables.map(headwater_model::TableName::qualified).collect();
        let last = taken.checked_sub(1).and_then(|last| self.matches.get(last));
        let changes = last.map(|last| Changes { tables, commit: last.commit.id, led_by });
        let until = self.matches.get(taken).map(|next| next.after).or(self.looked);
        let commit = until.unwrap_or(position.commit);
        let is_counted = changes.as_ref().is_some_and(|changes| changes.led_by.is_empty());
        self.record(watch, changes, Position { commit, ..position.clone() }).await?;
        if is_counted {
            watch.book.pace.lock().fired();
        }
        self.matches.drain(..taken);
        self.waiting = None;
        Ok(())
    }

    /// Records an event, where there is one, and how far the branch was looked at.
    async fn record(
        &mut self,
        watch: &Watch,
        changes: Option<Changes>,
        position: Position,
    ) -> Result<()> {
        let position = Position { step: position.step + 1, ..position };
        let now = watch.context.options.clock.now();
        let ledger = &watch.context.ledger;
        let event = ledger.record_commits(watch.name(), changes, &position, now).await?;
        self.position = Some(position);
        self.passed = 0;
        if let Some(event) = event {
            watch.book.enter(event);
        }
        Ok(())
    }
}

/// How many commits are an event at most.
fn batch(tables: &Tables) -> usize {
    tables.batch.min(COMMITS)
}

/// A commit that changed tables which are watched, with these alone, unless the trigger led to it itself.
async fn matching(
    watch: &Watch,
    tables: &Tables,
    after: CommitId,
    mut commit: MadeCommit,
) -> Result<Option<Match>> {
    commit.tables.retain(|table| tables.is_watched(table));
    if commit.tables.is_empty() {
        return Ok(None);
    }
    let led_by = watch.led_by(&commit).await?;
    let is_own = led_by.contains(watch.name());
    Ok((!is_own).then_some(Match { after, commit, led_by }))
}

fn no_branch(branch: &str) -> Problem {
    Problem::new(ErrorCode::RefNotFound, format!("there is no branch `{branch}` to follow"))
        .with_hint("Make the branch; it is followed as soon as it is there.")
}
