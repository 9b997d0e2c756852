//! Commits to one table, or to several atomically.
//!
//! A client that receives no response repeats a commit, with or without an idempotency key. The
//! commit is applied once: a repeated request returns the state after the first request.

use std::collections::BTreeMap;

use futures::FutureExt;
use headwater_executors::CheckedEntry;
use headwater_lake::{CommitView, Transaction};
use headwater_model::{
    AccessObject, Action, ErrorCode, Principal, Problem, RefSpec, ResultExt, TableName, ToProblem,
};
use headwater_table_rest::CommitConstraints;

use super::change::is_inconclusive;
use super::table::view_is_no_table;
use super::{ChangeError, ChangeRequest, ChangeResult, Iceberg, LoadedTable, TableCommit};
use crate::restriction::TableAtRef;
use crate::service::Components;

/// States of tables, by name.
pub(super) type TableMap = BTreeMap<TableName, headwater_tables::Table>;

/// Updates of one table.
#[derive(Debug, Clone)]
pub struct NamedTableCommit {
    /// The table to update.
    pub table: TableName,
    /// The requirements and updates of the commit.
    pub commit: TableCommit,
}

impl Iceberg {
    /// Commits updates of several tables together. Returns the tables' states after the commit. For
    /// a repeated request, returns only the states that the principal may read.
    pub async fn commit(
        &self,
        principal: &Principal,
        request: &ChangeRequest,
        updates: Vec<NamedTableCommit>,
    ) -> ChangeResult<BTreeMap<TableName, LoadedTable>> {
        let (updates, stored) =
            self.0.authorize_updates(principal, &request.reference, updates).await?;
        for update in &updates {
            let at = TableAtRef { reference: &request.reference, table: &update.table };
            self.0.check_unrestricted_at(principal, Action::Alter, at).await?;
        }
        let description = describe(&updates);
        let (applied, checked) = (updates.clone(), stored.clone());
        let committed = self.change_tables(principal, request, description, |transaction| {
            async move {
                for table in &checked {
                    table.check_same(transaction.view()).await?;
                }
                apply(transaction, applied).await
            }
            .boxed()
        });
        let states = match committed.await {
            Ok(Some(states)) => states,
            Ok(None) => {
                let states = self.0.states(&request.reference, &updates).await?;
                self.0.readable(principal, &stored, states.unwrap_or_default())
            }
            Err(error) if may_be_repeated(error.problem()) => {
                match self.0.states(&request.reference, &updates).await {
                    Ok(Some(states))
                        if self.0.readable(principal, &stored, states.clone()).len()
                            == updates.len()
                            && contains(&states, &updates) =>
                    {
                        states
                    }
                    _ => return Err(unknown_if_inconclusive(error)),
                }
            }
            Err(error) => return Err(error),
        };
        let mut loaded = BTreeMap::new();
        for (name, table) in states {
            loaded.insert(name, LoadedTable::after_commit(&self.0.lake, table).await);
        }
        Ok(loaded)
    }
}

async fn apply(
    transaction: &mut Transaction,
    updates: Vec<NamedTableCommit>,
) -> Result<TableMap, Problem> {
    let mut states = TableMap::new();
    for NamedTableCommit { table, commit } in updates {
        transaction.iceberg_rest().apply(&table, commit).await.map_err(|error| match error {
            headwater_lake::Error::IsView { view } => view_is_no_table(&view),
            other => other.to_problem(),
        })?;
        let state = transaction.table(&table).await.or_problem()?;
        states.insert(table, state);
    }
    Ok(states)
}

impl Components {
    /// Checks the rights on the tables, and limits the commits: without all rights, to files of the
    /// same table; without the rights to update and delete, to appends.
    async fn authorize_updates(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        updates: Vec<NamedTableCommit>,
    ) -> Result<(Vec<NamedTableCommit>, Vec<CheckedEntry>), Problem> {
        let is_unlimited = self.is_unlimited(principal);
        let (mut limited, mut checked) = (Vec::new(), Vec::new());
        for NamedTableCommit { table, commit } in updates {
            let (actions, object) = (commit.actions(), AccessObject::table(&table));
            let stored = self.authorize_at(principal, reference, actions, object).await?;
            let may = |action| self.allows(principal, action, &stored.object);
            let only_appends = !(may(Action::Update) && may(Action::Delete));
            let constraints = CommitConstraints { own_files: !is_unlimited, only_appends };
            limited.push(NamedTableCommit { table, commit: commit.with_constraints(constraints) });
            checked.push(stored);
        }
        Ok((limited, checked))
    }

    /// Filters the states of tables by the principal's right to read. A user that may create a
    /// table need not have the right to read it, for example after a change by another user.
    fn readable(
        &self,
        principal: &Principal,
        stored: &[CheckedEntry],
        mut states: TableMap,
    ) -> TableMap {
        states.retain(|name, table| {
            let owned = stored.iter().find(|it| it.owned_id.as_ref() == Some(&table.id()));
            let object = owned.map_or_else(|| AccessObject::table(name), |it| it.object.clone());
            self.allows(principal, Action::Select, &object)
        });
        states
    }

    /// Returns the current states of the updated tables; `None` if one of the tables is missing on
    /// the branch.
    async fn states(
        &self,
        reference: &RefSpec,
        updates: &[NamedTableCommit],
    ) -> Result<Option<TableMap>, Problem> {
        let branch = self.branch_to_write(Some(reference)).await?;
        let view: CommitView = self.lake.view(&RefSpec::Name(branch)).await.or_problem()?;
        let mut states = TableMap::new();
        for NamedTableCommit { table, .. } in updates {
            let entry = view.state().table(table).await.or_problem()?;
            let Some(entry) = entry else { return Ok(None) };
            let state = self.lake.tables().load(&entry.metadata_location).await.or_problem()?;
            states.insert(table.clone(), state);
        }
        Ok(Some(states))
    }
}

/// Returns true if the tables show the effect of every update that has a recognizable effect.
/// Updates are atomic, so the others were then applied, too. Returns false if no update has a
/// recognizable effect.
fn contains(states: &TableMap, updates: &[NamedTableCommit]) -> bool {
    let recognisable =
        updates.iter().filter(|update| update.commit.adds() || update.commit.creates());
    let is_applied = |update: &NamedTableCommit| {
        states.get(&update.table).is_some_and(|table| update.commit.is_in(table))
    };
    recognisable.map(is_applied).reduce(|all, one| all && one).unwrap_or(false)
}

/// Returns true if this error can be the result of repeating a commit that has succeeded.
fn may_be_repeated(problem: &Problem) -> bool {
    let is_conclusive = matches!(
        problem.code,
        ErrorCode::CommitConflict | ErrorCode::AlreadyExists | ErrorCode::InvalidArgument
    );
    is_conclusive || is_inconclusive(problem)
}

fn unknown_if_inconclusive(error: ChangeError) -> ChangeError {
    match error {
        ChangeError::Rejected(problem) if is_inconclusive(&problem) => {
            ChangeError::Unknown(problem)
        }
        error => error,
    }
}

fn describe(updates: &[NamedTableCommit]) -> String {
    match updates {
        [NamedTableCommit { table, commit }] if commit.creates() => format!("create table {table}"),
        [NamedTableCommit { table, commit }] if commit.appends() == Some(true) => {
            format!("append to {table}")
        }
        [NamedTableCommit { table, .. }] => format!("change {table}"),
        many => {
            let names: Vec<String> = many.iter().map(|update| update.table.to_string()).collect();
            format!("change {}", names.join(", "))
        }
    }
}
