//! Statements that write. Each is one lake transaction, so it makes one commit or none.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::sql::sqlparser::ast::ObjectName;
use futures::StreamExt;
use headwater_catalog::TableEntry;
use headwater_lake::{CommitView, Transaction, set_creator};
use headwater_model::{
    AccessObject, Action, Commit, RefSpec, SYSTEM_NAMESPACE, TableName, ToProblem, name, nearest,
};
use headwater_sql::table_name::{ParsedTableName, position};
use headwater_table_scan::plain_batch;
use parking_lot::Mutex;

use crate::caller_transaction::in_use;
use crate::datafusion_error::ResourceLimits;
use crate::error::{Error, Result, SqlError};
use crate::namespace::spelled_namespace;
use crate::plan_executor::RunningPlan;
use crate::plan_output;
use crate::session::Session;
use crate::session_rights::name_as_written;
use crate::statement_result::{ExecutionMetrics, StatementResult};

/// First error of the stream of rows that a statement writes. Stored separately, because the code
/// that writes the rows returns only an Arrow error.
pub(crate) type FirstStreamError = Arc<Mutex<Option<Error>>>;

impl Session {
    /// Begins a transaction on the session's branch. Fails for other refs and protected branches.
    pub(crate) async fn transaction(&self) -> Result<Transaction> {
        let reference = &self.options.reference;
        let not_a_branch = || Error::NotABranch { reference: reference.to_string() };
        let lake = self.engine.lake();
        let RefSpec::Name(_) = reference else {
            return Err(not_a_branch());
        };
        let resolved = lake.catalog().resolve(reference).await?;
        let branch = resolved.branch.ok_or_else(not_a_branch)?;
        self.authorize(Action::Write, &AccessObject::branch(&branch))?;
        if lake.catalog().branch(&branch).await?.protected {
            return Err(Error::Protected { branch });
        }
        if self.shared.is_open() {
            return self.shared.take().ok_or_else(in_use);
        }
        let mut transaction = lake.transaction(&branch, &self.options.author).await?;
        set_creator(&mut transaction, self.creator());
        for (key, value) in &self.options.properties {
            transaction.property(key, value);
        }
        for (key, value) in &self.options.snapshot_properties {
            transaction.snapshot_property(key, value);
        }
        Ok(transaction)
    }

    /// Returns the catalog state that the query of a write reads: the session's pinned state, or
    /// else the state at the start of the transaction.
    pub(crate) fn view_to_read(&self, transaction: &Transaction) -> CommitView {
        self.options.view.clone().unwrap_or_else(|| transaction.view().clone())
    }

    pub(crate) async fn finish(
        &self,
        transaction: Transaction,
        message: &str,
        metrics: &Arc<ExecutionMetrics>,
    ) -> Result<StatementResult> {
        let rows = transaction.written().rows_written;
        self.finish_with(transaction, message, rows, metrics).await
    }

    /// Commits a transaction and returns a result with `rows` as the affected row count.
    pub(crate) async fn finish_with(
        &self,
        transaction: Transaction,
        message: &str,
        rows: u64,
        metrics: &Arc<ExecutionMetrics>,
    ) -> Result<StatementResult> {
        let written = transaction.written();
        if self.shared.is_open() {
            self.shared.put(transaction);
            return plan_output::of_write(rows, None, Arc::clone(metrics));
        }
        metrics.record_write(written.rows_written, written.bytes_written);
        let commit: Option<Commit> = transaction.commit(message).await?;
        plan_output::of_write(rows, commit, Arc::clone(metrics))
    }

    /// Returns the name of a table to write, with its namespace. Rejects a name with a ref or
    /// version, and a name in the namespace `system`.
    pub(crate) fn written(&self, name: &ObjectName) -> Result<ParsedTableName> {
        let mut written = ParsedTableName::of(name)?;
        if !written.is_here() {
            return Err(Error::Sql(SqlError::Unsupported {
                what: format!("writing to `{written}`"),
                hint: Some(
                    "Write the name without a ref or snapshot, and run the statement on the branch \
                     to change."
                        .to_owned(),
                ),
                position: position(name),
            }));
        }
        let namespace = written.namespace.take();
        let namespace = namespace.unwrap_or_else(|| self.options.namespace.clone());
        if name::is_system(&namespace) {
            return Err(Error::Sql(SqlError::Unsupported {
                what: format!("writing to the namespace `{SYSTEM_NAMESPACE}`"),
                hint: None,
                position: position(name),
            }));
        }
        written.namespace = Some(namespace);
        Ok(written)
    }

    /// Returns the table with this name in its stored spelling, and true if it exists. Checks that
    /// the session may perform the actions on the table. Fails for a view.
    pub(crate) async fn target(
        &self,
        name: &ObjectName,
        view: &CommitView,
        actions: &[Action],
    ) -> Result<(TableName, bool)> {
        match self.view_target(name, view, actions).await? {
            (view, Some(entry)) if entry.is_view() => {
                Err(headwater_lake::Error::IsView { view }.into())
            }
            (table, entry) => Ok((table, entry.is_some())),
        }
    }

    /// Returns the table or view with this name in its stored spelling, with its entry if it
    /// exists. Checks that the session may perform the actions on the table or view. A name that
    /// does not exist is checked as a table.
    pub(crate) async fn view_target(
        &self,
        name: &ObjectName,
        view: &CommitView,
        actions: &[Action],
    ) -> Result<(TableName, Option<TableEntry>)> {
        let written = self.written(name)?;
        let as_written = name_as_written(&written, &self.options.namespace);
        let namespace = written.namespace.unwrap_or_default();
        let Some(namespace) = spelled_namespace(view, &namespace).await? else {
            for action in actions {
                self.authorize(*action, &AccessObject::table(&as_written))?;
            }
            let namespaces = view.namespaces().await?;
            return Err(Error::NamespaceNotFound {
                near: self
                    .suggests()
                    .then(|| namespaces.iter().map(|known| known.name.as_str()))
                    .and_then(|names| nearest(&namespace, names)),
                namespace,
                reference: view.spec().to_string(),
                position: position(name),
            });
        };
        let (table, entry) = match view.state().find(&namespace, &written.name).await? {
            Some((table, entry)) => (table, Some(entry)),
            None => (TableName::new(namespace, written.name)?, None),
        };
        let found = match &entry {
            Some(entry) => entry.object(&table),
            None => view.new_object(AccessObject::table(&table)).await?,
        };
        for action in actions {
            // Check only actions that exist for this type of object. Any other action fails later,
            // with an error that names the type.
            if found.kind().actions().contains(action) {
                self.authorize_found(*action, &found, &as_written)?;
            } else {
                self.authorize(*action, &AccessObject::table(&as_written))?;
            }
        }
        if let Some(entry) = &entry {
            self.check_change(actions, &table, entry)?;
        }
        Ok((table, entry))
    }

    pub(crate) async fn no_such_table(
        &self,
        name: &ObjectName,
        table: &TableName,
        view: &CommitView,
    ) -> Result<Error> {
        let tables = view.list(Some(&table.namespace)).await?;
        let names = tables.iter().map(|(name, _)| name.name.as_str());
        Ok(Error::TableNotFound {
            table: table.to_string(),
            reference: view.spec().to_string(),
            near: nearest(&table.name, names).filter(|_| self.suggests()).map(|near| {
                let namespace = table.namespace.clone();
                if namespace == self.options.namespace {
                    near
                } else {
                    format!("{namespace}.{near}")
                }
            }),
            position: position(name),
        })
    }
}

/// Converts a running plan to a stream of rows to write. Stores the plan's first error unchanged.
pub(crate) fn rows(
    running: RunningPlan,
    schema: SchemaRef,
    limits: ResourceLimits,
) -> (headwater_lake::BatchStream, FirstStreamError) {
    let kept = FirstStreamError::default();
    let keep = Arc::clone(&kept);
    let rows = running.stream.map(move |batch| {
        let batch = batch.and_then(|batch| Ok(plain_batch(&batch, &schema)?));
        batch.map_err(|error| {
            let error = limits.explain(&error);
            let problem = error.to_problem();
            keep.lock().get_or_insert(error);
            ArrowError::ExternalError(Box::new(problem))
        })
    });
    (rows.boxed(), kept)
}

/// Returns the error `kept` that the stream of rows caused, because it is more specific than the
/// error of the write. Returns the error of the write if `kept` is empty.
pub(crate) fn first(kept: &FirstStreamError, error: headwater_lake::Error) -> Error {
    kept.lock().take().unwrap_or(Error::Lake(error))
}
