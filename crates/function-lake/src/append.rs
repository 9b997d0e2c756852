//! Commits the writes of a call to all tables in one commit, and only once per event.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use futures::StreamExt;
use headwater_engine::change_forbidden;
use headwater_functions::SharedTable;
use headwater_lake::{
    TemporaryBranch, Transaction, add_entry, check_append, check_values, new_columns, nullable,
    set_creator,
};
use headwater_model::{
    AccessObject, Action, ErrorCode, PROPERTY_EVENT, PROPERTY_JOB, Problem, ResultExt, TableName,
    ToProblem,
};

use crate::FunctionLakeAccess;
use crate::function_lake::CommitJournalEntry;
use crate::json_rows::{blocking, mismatch};

/// Maximum number of attempts if the tables change concurrently.
const ATTEMPTS_MAX: usize = 10;

/// The result of a commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AppendResult {
    /// The number of rows written.
    pub rows: u64,
    /// The size of the data files written, in bytes.
    pub bytes: u64,
    /// True if an earlier delivery of the event already committed its changes. The changes of this
    /// delivery are discarded.
    pub is_repeated: bool,
}

/// The rows for one table.
struct TableRows<'a> {
    table: &'a TableName,
    parts: Vec<&'a SharedTable>,
}

impl TableRows<'_> {
    /// Returns the columns of all parts. The first part that contains a column defines its type.
    fn schema(&self) -> SchemaRef {
        let mut fields: Vec<Arc<Field>> = Vec::new();
        for part in &self.parts {
            for field in part.schema().fields() {
                if fields.iter().all(|known| known.name() != field.name()) {
                    fields.push(field.clone());
                }
            }
        }
        Arc::new(Schema::new(fields))
    }
}

/// The branch of a commit, and the event whose id the commit contains.
#[derive(Clone, Copy)]
struct CommitTarget<'a> {
    branch: &'a str,
    event: Option<&'a str>,
}

impl FunctionLakeAccess {
    /// Checks the types and values of rows that the call appends, and the right to append to the
    /// existing table. This check is made at each append, because an error at the end of the call
    /// could not show the line of the user's code that appends.
    ///
    /// Errors: `forbidden`; `bad_row`, with the table, the column and both types.
    pub(crate) async fn check_rows(
        &self,
        table: &TableName,
        rows: &SharedTable,
    ) -> Result<(), Problem> {
        let view = self.current_view().await?;
        let found = view.state().find_table(&table.namespace, &table.name).await.or_problem()?;
        let existing = match &found {
            Some((name, entry)) => {
                self.check(Action::Insert, &entry.object(name))?;
                Some(view.load(entry).await.or_problem()?.schema())
            }
            None => None,
        };
        let earlier = {
            let appends = self.appends.lock();
            let parts = appends.iter().filter(|(name, _)| name == table);
            TableRows { table, parts: parts.map(|(_, rows)| rows).collect() }.schema()
        };
        let rejected = |problem| not_appended(table, problem);
        let columns = check_append(&rows.schema(), existing.as_ref(), &earlier).or_problem();
        let columns = Arc::new(columns.map_err(rejected)?);
        let mut batches = rows.stream();
        while let Some(batch) = batches.next().await {
            let (batch, columns) = (batch.map_err(mismatch)?, Arc::clone(&columns));
            let checked = blocking(move || check_values(&batch, &columns).or_problem()).await;
            checked.map_err(rejected)?;
        }
        Ok(())
    }

    /// Commits the appended rows and the changes of statements, in one commit. Must be called only
    /// after the function has succeeded.
    ///
    /// Errors: `forbidden`, `merge_conflict` if another commit changed the same rows, and the
    /// errors of a write.
    pub async fn commit(&self) -> Result<AppendResult, Problem> {
        let branch = self.state.lock().branch.clone();
        if let Some(branch) = branch {
            let merged = match self.flush(&branch).await {
                Ok(()) => self.merge(&branch).await,
                Err(problem) => Err(problem),
            };
            let merged = merged.map_err(|problem| self.described(problem, Some(&branch)));
            branch.delete().await;
            return merged;
        }
        let appends = std::mem::take(&mut *self.appends.lock());
        let scope = &self.scope;
        let target = CommitTarget { branch: &scope.branch, event: scope.event.as_deref() };
        self.write(&appends, target).await
    }

    /// Writes the appended rows to the branch of the call. After an error, the rows are kept, so
    /// that the commit at the end of the call writes them again and fails, too.
    pub(crate) async fn flush(&self, branch: &TemporaryBranch) -> Result<(), Problem> {
        let appends = std::mem::take(&mut *self.appends.lock());
        if appends.is_empty() {
            return Ok(());
        }
        let target = CommitTarget { branch: branch.name(), event: None };
        match self.write(&appends, target).await {
            Ok(AppendResult { rows, bytes, .. }) => {
                self.record(message(&tables_of(&appends)), rows, bytes);
                Ok(())
            }
            Err(problem) => {
                *self.appends.lock() = appends;
                Err(problem)
            }
        }
    }

    /// Returns true if an earlier delivery of the call's event has committed its changes recently.
    pub async fn is_committed(&self) -> bool {
        let Some(event) = &self.scope.event else { return false };
        let requests = self.parts.lake.iceberg_rest_requests();
        let found = requests.is_committed(&self.scope.branch, PROPERTY_EVENT, event).await;
        found.unwrap_or_default()
    }

    /// Commits rows to all tables, in one commit.
    async fn write(
        &self,
        appends: &[(TableName, SharedTable)],
        target: CommitTarget<'_>,
    ) -> Result<AppendResult, Problem> {
        let tables = tables_of(appends);
        if tables.is_empty() {
            return Ok(AppendResult::default());
        }
        let mut attempt = 1;
        loop {
            match Box::pin(self.commit_once(&tables, target)).await {
                // A concurrent commit may have created a table or changed its columns, so try
                // again.
                Err(CommitFailure::Lake(error)) if error.is_stale() && attempt < ATTEMPTS_MAX => {
                    attempt += 1;
                }
                Err(CommitFailure::Lake(error)) => return self.failed(error.to_problem()),
                Err(CommitFailure::Rejected(problem)) => return Err(problem),
                Ok(appended) => return Ok(appended),
            }
        }
    }

    /// Converts the error of a failed commit. If an earlier delivery of the event has committed its
    /// rows, the result is success.
    pub(crate) fn failed(&self, problem: Problem) -> Result<AppendResult, Problem> {
        let committed = problem.context.get("event").and_then(serde_json::Value::as_str);
        let is_own = committed.is_some() && committed == self.scope.event.as_deref();
        if problem.code == ErrorCode::AlreadyExists && is_own {
            return Ok(AppendResult { is_repeated: true, ..AppendResult::default() });
        }
        Err(problem)
    }

    async fn commit_once(
        &self,
        tables: &[TableRows<'_>],
        target: CommitTarget<'_>,
    ) -> Result<AppendResult, CommitFailure> {
        let scope = &self.scope;
        let mut transaction = self.parts.lake.transaction(target.branch, &scope.author).await?;
        let creator = scope.access.as_ref().and_then(|access| access.creator());
        set_creator(&mut transaction, creator);
        transaction.property(PROPERTY_JOB, scope.job.to_string());
        if let Some(event) = target.event {
            transaction.event(event);
        }
        let entry = self.entry.lock().clone();
        // Only the final commit has an event. Any other commit goes to the branch of the call, and
        // the later merge of the branch stores the entry.
        if let Some(CommitJournalEntry { journal, key, value }) = entry
            && target.event.is_some()
        {
            add_entry(&mut transaction, &journal, &key, value);
        }
        for rows in tables {
            self.add(&mut transaction, rows).await?;
        }
        let written = transaction.written();
        transaction.commit(&message(tables)).await?;
        let (rows, bytes) = (written.rows_written, written.bytes_written);
        Ok(AppendResult { rows, bytes, is_repeated: false })
    }

    async fn add(
        &self,
        transaction: &mut Transaction,
        rows: &TableRows<'_>,
    ) -> Result<(), CommitFailure> {
        let wanted = rows.table;
        let existing = transaction.view().find(&wanted.namespace, &wanted.name).await?;
        let known = existing.as_ref().map(|(_, table)| table.schema());
        let schema = nullable(&rows.schema(), known.as_deref());
        let name = match existing {
            None => {
                let object = transaction.view().new_object(AccessObject::table(wanted)).await?;
                self.allow(Action::Create, &object)?;
                transaction.create(wanted, schema, Vec::new(), BTreeMap::new()).await?;
                wanted.clone()
            }
            Some((name, table)) => {
                let entry = transaction.view().state().table(&name).await;
                let entry = entry.map_err(headwater_lake::Error::from)?;
                let owner = entry.as_ref().and_then(|entry| entry.owner.as_ref());
                let object = AccessObject::table(&name).with_owner(owner);
                self.allow(Action::Insert, &object)?;
                let new = new_columns(&schema, &table.schema());
                if !new.is_empty() {
                    self.allow(Action::Alter, &object)?;
                    self.check_unrestricted(&name, &table.id())?;
                    transaction.add_columns(&name, new).await?;
                }
                name
            }
        };
        for part in &rows.parts {
            let appended = transaction.append(&name, part.stream()).await;
            appended.map_err(|error| {
                if error.is_stale() {
                    CommitFailure::Lake(error)
                } else {
                    CommitFailure::Rejected(not_appended(wanted, error.to_problem()))
                }
            })?;
        }
        Ok(())
    }

    fn allow(&self, action: Action, table: &AccessObject) -> Result<(), CommitFailure> {
        self.check(action, table).map_err(CommitFailure::Rejected)
    }

    /// Checks that no row filter or column mask forbids new columns of a table.
    fn check_unrestricted(&self, table: &TableName, id: &str) -> Result<(), CommitFailure> {
        let Some(access) = &self.scope.access else { return Ok(()) };
        let Some(found) = access.change_restrictions(table, id) else { return Ok(()) };
        Err(CommitFailure::Rejected(change_forbidden(Action::Alter, table, &found)))
    }
}

/// Groups rows by table.
fn tables_of(appends: &[(TableName, SharedTable)]) -> Vec<TableRows<'_>> {
    let mut tables: Vec<TableRows<'_>> = Vec::new();
    for (table, rows) in appends {
        match tables.iter_mut().find(|one| one.table == table) {
            Some(one) => one.parts.push(rows),
            None => tables.push(TableRows { table, parts: vec![rows] }),
        }
    }
    tables
}

/// Adds the table to the error of rows that cannot be appended.
pub(crate) fn not_appended(table: &TableName, problem: Problem) -> Problem {
    Problem { message: format!("cannot append to `{table}`: {}", problem.message), ..problem }
}

/// Returns the message of a commit that appends to tables.
fn message(tables: &[TableRows<'_>]) -> String {
    let names: Vec<String> = tables.iter().map(|rows| rows.table.to_string()).collect();
    format!("append to {}", names.join(", "))
}

/// The reason why a commit failed.
enum CommitFailure {
    Lake(headwater_lake::Error),
    /// The rows or the rights of the call do not allow the commit.
    Rejected(Problem),
}

impl From<headwater_lake::Error> for CommitFailure {
    fn from(error: headwater_lake::Error) -> Self {
        CommitFailure::Lake(error)
    }
}
