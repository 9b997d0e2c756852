//! Following a branch: which of its commits changed tables that a trigger watches, and when they are whole
//! enough to act on.
//!
//! How far the branch was looked at is stored with the event that it led to, so that a commit is in one event
//! and in no other. A commit that the trigger's own events led to, by whatever way, is passed over.

use std::collections::BTreeSet;
use std::time::Duration;

use headwater_model::{CommitId, ErrorCode, Problem, Timestamp};

use super::book::OPEN_MAX;
use super::commits::{Changes, Commits, MadeCommit};
use super::definition::Tables;
use super::ledger::Position;
use super::observe::{LOOK_FOR, LOOK_LEAST, Observer, catch_up};
use super::watch::Watch;
use crate::{Error, Result};

/// How many commits are looked at in one go.
const COMMITS: usize = 500;

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
    /// Commits after it that need not be recorded, up to this one.
    passed: Option<(CommitId, usize)>,
    /// The last commit that waits for others, when it was seen, and when the first was.
    waiting: Option<(CommitId, Timestamp, Timestamp)>,
}

/// A commit that changed tables that are watched.
struct Match {
    /// Where it stands among those that were looked at.
    at: usize,
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
            Ok(wait) => Ok(wait),
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
        let after = self.passed.map_or(position.commit, |(commit, _)| commit);
        let found = commits.since(&tables.branch, after, COMMITS).await?;
        let found = found.ok_or_else(|| no_branch(&tables.branch))?;
        let Some(last) = found.last().map(|commit| commit.id) else {
            return Ok(options.look_every);
        };
        let more = if found.len() == COMMITS { Duration::ZERO } else { options.look_every };
        let count = found.len();
        let ids: Vec<CommitId> = found.iter().map(|commit| commit.id).collect();
        let matches = matching(watch, tables, found).await?;
        if matches.is_empty() {
            self.pass(watch, &position, last, count).await?;
            return Ok(more);
        }
        if let Some(wait) = self.settling(tables, &matches, options.clock.now()) {
            return Ok(wait.max(LOOK_LEAST));
        }
        if watch.book.open_count() >= OPEN_MAX {
            return Ok(options.look_every);
        }
        // Commits that others led to are events of their own, so that it is known of each what led to it.
        let alike = matches.iter().take_while(|one| one.led_by == matches[0].led_by);
        let taken = alike.count().min(tables.batch);
        let until = matches.get(taken).map_or(last, |next| ids[next.at - 1]);
        self.take(watch, &position, &matches[..taken], until).await?;
        Ok(Duration::ZERO)
    }

    /// How far the branch was looked at. One that is followed for the first time is followed from where it
    /// is.
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
            None => first_position(watch, tables, commits).await?,
        };
        self.position = Some(position.clone());
        Ok(position)
    }

    /// Commits need not be recorded; once they are many, that is stored.
    async fn pass(
        &mut self,
        watch: &Watch,
        position: &Position,
        last: CommitId,
        count: usize,
    ) -> Result<()> {
        let count = self.passed.map_or(0, |(_, count)| count) + count;
        self.waiting = None;
        if count < UNSTORED {
            self.passed = Some((last, count));
            return Ok(());
        }
        let position = Position { commit: last, ..position.clone() };
        let now = watch.context.options.clock.now();
        watch.context.ledger.record_commits(watch.name(), None, &position, now).await?;
        (self.position, self.passed) = (Some(position), None);
        Ok(())
    }

    /// How long to wait for further commits; not at all where these are to be taken.
    fn settling(&mut self, tables: &Tables, matches: &[Match], now: Timestamp) -> Option<Duration> {
        let newest = matches.last()?.commit.id;
        let (since, first) = match self.waiting {
            // A clock that was set back begins anew.
            Some((_, _, first)) if first > now => (now, now),
            Some((commit, since, first)) if commit == newest => (since, first),
            Some((_, _, first)) => (now, first),
            None => (now, now),
        };
        self.waiting = Some((newest, since, first));
        let settle = Duration::from_millis(tables.settle_ms);
        let age = |since: Timestamp| (now - since).to_std().unwrap_or_default();
        let whole = matches.len() >= tables.batch || age(first) >= settle * SETTLE_TIMES;
        settle.checked_sub(age(since)).filter(|left| !whole && !left.is_zero())
    }

    /// Records an event of some commits, and that the branch was looked at up to another.
    async fn take(
        &mut self,
        watch: &Watch,
        position: &Position,
        taken: &[Match],
        until: CommitId,
    ) -> Result<()> {
        let tables = taken.iter().flat_map(|one| &one.commit.tables);
        let changes = taken.last().map(|last| Changes {
            tables: tables.map(headwater_model::TableName::qualified).collect(),
            commit: last.commit.id,
            led_by: last.led_by.clone(),
        });
        let position = Position { commit: until, step: position.step + 1, ..position.clone() };
        let now = watch.context.options.clock.now();
        let ledger = &watch.context.ledger;
        let event = ledger.record_commits(watch.name(), changes, &position, now).await?;
        *self = Follower { position: Some(position), ..Follower::default() };
        if let Some(event) = event {
            watch.book.enter(event);
        }
        Ok(())
    }
}

/// Follows a branch from where it is.
async fn first_position(
    watch: &Watch,
    tables: &Tables,
    commits: &dyn Commits,
) -> Result<Position, Stop> {
    let head = commits.head(&tables.branch).await?;
    let commit = head.ok_or_else(|| no_branch(&tables.branch))?;
    let ledger = &watch.context.ledger;
    let id = ledger.shared.ids.next().to_string();
    let position = Position { branch: tables.branch.clone(), commit, id, step: 0 };
    let now = watch.context.options.clock.now();
    ledger.record_commits(watch.name(), None, &position, now).await?;
    Ok(position)
}

/// The commits that changed tables which are watched, each with these alone, and that the trigger did not
/// lead to itself.
async fn matching(watch: &Watch, tables: &Tables, found: Vec<MadeCommit>) -> Result<Vec<Match>> {
    let mut matches = Vec::new();
    for (at, mut commit) in found.into_iter().enumerate() {
        commit.tables.retain(|table| tables.is_watched(table));
        if commit.tables.is_empty() {
            continue;
        }
        let led_by = watch.led_by(&commit).await?;
        if !led_by.contains(watch.name()) {
            matches.push(Match { at, commit, led_by });
        }
    }
    Ok(matches)
}

fn no_branch(branch: &str) -> Problem {
    Problem::new(ErrorCode::RefNotFound, format!("there is no branch `{branch}` to follow"))
        .with_hint("Make the branch; it is followed as soon as it is there.")
}
