//! Tables: list, get, drop, write rows.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use headwater_functions::SharedTable;
use headwater_jobs::NewJob;
use headwater_lake::RowsToWrite;
use headwater_model::{
    AccessObject, Action, ErrorCode, JobKind, Principal, Problem, RefSpec, ResultExt, Table,
    TableName, ToProblem, Usage, WriteMode, WriteReport,
};
use serde_json::json;

use crate::operation_job::EndedJob;
use crate::service::Components;

/// Operations on tables.
#[derive(Clone)]
pub struct Tables(pub(crate) Arc<Components>);

/// The target of a write.
#[derive(Debug, Clone)]
pub struct WriteTarget {
    /// The branch to write to.
    pub branch: String,
    /// The table; created if missing.
    pub table: TableName,
    /// The mode: append the rows, or replace the table's rows.
    pub mode: WriteMode,
}

impl Tables {
    /// Lists tables by name, optionally only the tables of a namespace.
    pub async fn list(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        namespace: Option<&str>,
    ) -> Result<Vec<Table>, Problem> {
        self.0.check_listed(principal, reference, namespace).await?;
        let is_visible = |object: &AccessObject| self.0.allows(principal, Action::Select, object);
        let listed = self.0.lake.list(reference, namespace, is_visible).await.or_problem();
        let tables = listed.map_err(|problem| self.0.conceal(principal, problem))?;
        Ok(tables.into_iter().map(|table| self.0.visible_table(principal, table)).collect())
    }

    /// Returns the description of a table. Prefers an exact match of the name to a case-insensitive
    /// match.
    pub async fn get(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        name: &TableName,
    ) -> Result<Table, Problem> {
        let stored = self.0.check_named(principal, reference, Action::Select, name).await?;
        let view = self.0.lake.view(reference).await.or_problem()?;
        stored.check_same(&view).await?;
        let found = view.find(&name.namespace, &name.name).await.or_problem()?;
        let Some((name, table)) = found else {
            let table = view.table(name).await.or_problem();
            let table = table.map_err(|problem| self.0.conceal(principal, problem))?;
            return Ok(self.0.visible_table(principal, table.describe(name)));
        };
        let mut described = table.describe(&name);
        if let Some(branch) = view.branch() {
            let record = self.0.lake.maintenance().record(branch, &name).await.or_problem()?;
            described.maintenance = record.map(Box::new);
        }
        Ok(self.0.visible_table(principal, described))
    }

    /// Drops a table from a branch, as a job. Other commits and branches keep the table.
    pub async fn drop(
        &self,
        principal: &Principal,
        branch: &str,
        name: &TableName,
        if_exists: bool,
    ) -> Result<(), Problem> {
        self.0.authorize(principal, Action::Write, &AccessObject::branch(branch))?;
        let reference = RefSpec::Name(branch.to_owned());
        let stored = self.0.check_named(principal, &reference, Action::Drop, name).await?;
        let view = self.0.lake.view(&reference).await.or_problem()?;
        if view.state().find(&name.namespace, &name.name).await.or_problem()?.is_none() {
            // The table does not exist, so no job is recorded.
            if if_exists {
                return Ok(());
            }
            let missing = view.not_found(name).await.or_problem()?;
            return Err(self.0.conceal(principal, missing.to_problem()));
        }
        let change = format!("drop table {name}");
        let name = name.clone();
        self.0
            .commit_as_job(principal, branch, change, move |transaction| {
                async move {
                    stored.check_same(transaction.view()).await?;
                    transaction.drop(&name, if_exists).await.or_problem()
                }
                .boxed()
            })
            .await
    }

    /// Reads rows from an uncompressed Arrow IPC stream into memory, and charges the memory to the
    /// quota for rows of runs.
    pub async fn read_arrow(
        &self,
        principal: &Principal,
        stream: Bytes,
    ) -> Result<SharedTable, Problem> {
        self.0.authenticated(principal)?;
        let quota = self.0.runner.table_quota().clone();
        let unreadable = |error: &dyn std::fmt::Display| {
            let message = format!("the table cannot be read: {error}");
            let hint = "Send an Arrow IPC stream that is not compressed.";
            Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint)
        };
        let read = tokio::task::spawn_blocking(move || SharedTable::read_stream(stream, &quota));
        let read = read.await.map_err(|error| unreadable(&error))?;
        read.map_err(|error| match error.code() {
            ErrorCode::DiskFull => error.to_problem(),
            _ => unreadable(&error),
        })
    }

    /// Writes rows as a job, in one commit that is durable on return. A disconnect of the caller
    /// does not interrupt the write.
    pub async fn write_rows(
        &self,
        principal: &Principal,
        target: WriteTarget,
        rows: SharedTable,
    ) -> Result<EndedJob<WriteReport>, Problem> {
        self.0.authorize(principal, Action::Write, &AccessObject::branch(&target.branch))?;
        let reference = RefSpec::Name(target.branch.clone());
        let mut stored =
            self.0.check_named(principal, &reference, Action::Insert, &target.table).await?;
        let creates = (!stored.exists).then_some(Action::Create);
        let deletes = (target.mode != WriteMode::Append).then_some(Action::Delete);
        for action in [creates, deletes].into_iter().flatten() {
            let checked = self.0.check_named(principal, &reference, action, &target.table).await?;
            stored.owned_id = stored.owned_id.or(checked.owned_id);
            stored.in_own_namespace |= checked.in_own_namespace;
        }
        let branch = self.0.branch_to_write(Some(&RefSpec::Name(target.branch))).await?;
        let author = principal.author().to_owned();
        let summary = format!("{} rows to {}", rows.rows(), target.table);
        let new = NewJob::of(JobKind::Import, summary, principal);
        let new = NewJob { reference: Some(branch.clone()), ..new };
        let (context, guard) = self.0.jobs.record(new).await.or_problem()?;
        let job = context.id();
        let write = RowsToWrite {
            branch,
            table: target.table,
            mode: target.mode,
            schema: rows.schema(),
            author,
            creator: principal.as_object_owner(),
            owned_id: stored.owned_id,
            must_create: stored.in_own_namespace,
            job: job.to_string(),
        };
        let components = self.0.clone();
        let written = tokio::spawn(async move {
            let written = components.lake.write(&write, || rows.stream()).await.or_problem();
            if let Ok(report) = &written {
                let (rows_written, bytes_written) = (report.rows, report.bytes_written);
                context.add_usage(&Usage { rows_written, bytes_written, ..Usage::default() });
            }
            let outcome = written.as_ref().map(|report| json!(report)).map_err(Clone::clone);
            match guard.finish_stored(outcome).await {
                Some(problem) => Err(problem),
                None => written,
            }
        });
        let result = written.await.unwrap_or_else(|error| {
            let message = format!("the write stopped before it finished: {error}");
            Err(Problem::new(ErrorCode::Internal, message))
        });
        Ok(EndedJob { job, result })
    }
}
