//! Writes a model's rows to its table, as one commit on the run branch.

use std::collections::BTreeMap;

use arrow::datatypes::{Schema, SchemaRef};
use headwater_build_records::{BUILD, profiled};
use headwater_functions::SharedTable;
use headwater_lake::{
    BatchStream, CommitView, PROPERTY_PROJECT, Transaction, new_columns, nullable, set_creator,
};
use headwater_model::name::quoted;
use headwater_model::{Action, PROPERTY_JOB, TableName, Usage};
use headwater_project::{Materialization, Step};
use headwater_tables::{KEYS_PROPERTY, PROFILE};

use super::row_expectation_check::CheckedRows;
use super::step_output::{self, StepOutput};
use super::{Run, StepProgress};
use crate::Result;
use crate::declared_columns::with_docs;
use crate::environment_packages::{PACKAGES, PackageVersions};
use crate::plan::{FINGERPRINT, FINGERPRINT_CODE};
use headwater_engine::PreparedStatement;

/// Read positions and quarantined rows that a model writes together with its rows.
pub(super) struct WriteAdditions<'a> {
    /// Snapshot properties with the read positions of incremental inputs.
    pub read: &'a BTreeMap<String, String>,
    /// Rows for the quarantine table.
    pub quarantine: Option<&'a SharedTable>,
}

impl Run {
    /// Logs a hint if a model seems to append the same rows in each run.
    fn hint_at_repetition(&self, step: &Step) {
        let appends = step.materialization == Materialization::Append;
        if !appends || step.is_incremental() || step.inputs.is_empty() {
            return;
        }
        let text = format!(
            "hint: `{}` appends all of its rows again on each run; read only new rows with \
             `incremental`, or use `materialization = replace`",
            step.name
        );
        self.log(step, text);
    }

    /// Returns true if a model's rows are written to its table while the query computes them. Rows
    /// to merge are collected first.
    pub(super) fn writes_while_computing(&self, index: usize) -> bool {
        let step = &self.plan.project.steps[index];
        step.is_materialized() && step.materialization != Materialization::Merge
    }

    /// Checks stored rows of a model. Writes the rows to the table, or keeps them for the steps
    /// that read them.
    pub(super) async fn store(
        &self,
        index: usize,
        rows: SharedTable,
        done: &mut StepProgress,
    ) -> Result<()> {
        let step = &self.plan.project.steps[index];
        let CheckedRows { rows, quarantine } = self.check_rows(step, rows, done).await?;
        self.collect_stored_preview(&rows, done).await?;
        done.rows = Some(rows.rows());
        done.usage.rows_written = rows.rows();
        done.output = Some(if self.writes_while_computing(index) {
            let (read, quarantine) = (&done.increments.read, quarantine.as_ref());
            let options = WriteAdditions { read, quarantine };
            let written = self.write(index, rows.schema(), rows.stream(), options).await?;
            done.usage.bytes_written = written.bytes_written;
            step_output::written(step, rows)
        } else if step.is_materialized() {
            Box::pin(self.merge(index, &rows, quarantine.as_ref(), done)).await?;
            StepOutput::Table
        } else {
            StepOutput::Rows(rows)
        });
        Ok(())
    }

    /// Writes the rows as one commit, and returns the usage of the write.
    pub(super) async fn write(
        &self,
        index: usize,
        schema: SchemaRef,
        rows: BatchStream,
        options: WriteAdditions<'_>,
    ) -> Result<Usage> {
        let WriteAdditions { read, quarantine } = options;
        let step = &self.plan.project.steps[index];
        let failed = |error: headwater_lake::Error| Self::failed(step, None, &error);
        let transaction = self.transaction(index, read).await?;
        let mut transaction = self.delete_overwritten(index, transaction).await?;
        let rewritten = transaction.written().rows_written;
        let (namespace, name) = (&step.table.namespace, &step.table.name);
        let existing = transaction.view().find(namespace, name).await.map_err(failed)?;
        let known = existing.as_ref().map(|(_, table)| table.schema());
        let (rows, profile) = profiled(&schema, rows);
        let schema = with_docs(&step.contract, nullable(&schema, known.as_deref()));
        let partition = step.partition_by.clone();
        let adds = match step.materialization {
            Materialization::Append => !self.plan.is_rebuilt(index),
            materialization => materialization == Materialization::OverwritePartitions,
        };
        match existing {
            None => {
                let actions = [Action::Create, Action::Insert];
                self.check_change(&actions, &step.table, transaction.view()).await?;
                let properties =
                    [(PROPERTY_PROJECT.to_owned(), self.plan.project.name.clone())].into();
                let table = &step.table;
                let made = transaction.create(table, schema, partition, properties).await;
                made.map_err(failed)?;
                transaction.append(table, rows).await.map_err(failed)?;
            }
            Some((name, table)) if adds => {
                self.check_change(&[Action::Insert], &name, transaction.view()).await?;
                let new = new_columns(&schema, &table.schema());
                if !new.is_empty() {
                    self.check_change(&[Action::Alter], &name, transaction.view()).await?;
                    transaction.add_columns(&name, new).await.map_err(failed)?;
                }
                let added = if overwrites_by_rows(step) {
                    transaction.overwrite_partitions(&name, rows).await
                } else {
                    transaction.append(&name, rows).await
                };
                added.map_err(failed)?;
                self.hint_at_repetition(step);
            }
            Some((name, table)) => {
                let actions = [Action::Insert, Action::Delete];
                self.check_change(&actions, &name, transaction.view()).await?;
                if !has_same_columns(&schema, &table.schema()) {
                    self.check_change(&[Action::Alter], &name, transaction.view()).await?;
                }
                transaction.replace(&name, schema, partition, rows).await.map_err(failed)?;
            }
        }
        transaction.snapshot_property(PROFILE, profile.to_property());
        if let Some(quarantine) = quarantine {
            self.add_quarantine(index, &mut transaction, quarantine).await?;
        }
        let mut written = transaction.written();
        // Do not count the existing rows that the deletion copied to new files.
        written.rows_written -= rewritten;
        self.commit(step, transaction).await?;
        Ok(written)
    }

    /// Deletes the rows that match the overwrite filter, as part of the transaction that adds the
    /// new rows.
    async fn delete_overwritten(
        &self,
        index: usize,
        transaction: Transaction,
    ) -> Result<Transaction> {
        let step = &self.plan.project.steps[index];
        let Some(filter) = &step.overwrite_filter else { return Ok(transaction) };
        let (namespace, name) = (&step.table.namespace, &step.table.name);
        let found = transaction.view().find(namespace, name).await;
        let found = found.map_err(|error| Self::failed(step, None, &error))?;
        let Some((name, _)) = found else { return Ok(transaction) };
        let statement = format!("DELETE FROM {} WHERE {filter}", quoted(&name.to_string()));
        let failed = |error: headwater_engine::Error| Self::failed(step, None, &error);
        let session = self.engine_session(step, BTreeMap::new())?;
        let statement = PreparedStatement::parse(&statement)
            .and_then(|statement| statement.bind(&self.plan.values))
            .map_err(|error| failed(error.into()))?;
        let deleted = Box::pin(session.execute_in(transaction, statement)).await;
        Ok(deleted.map_err(failed)?.0)
    }

    /// Checks that the run may perform actions on a table, as it is in `view`.
    pub(super) async fn check_change(
        &self,
        actions: &[Action],
        table: &TableName,
        view: &CommitView,
    ) -> Result<()> {
        let object = self.runner.table_object(table, view).await?;
        actions.iter().try_for_each(|action| self.runner.authorize(*action, &object))
    }

    /// Starts a transaction on the run branch, with the model as its author.
    pub(super) async fn transaction(
        &self,
        index: usize,
        read: &BTreeMap<String, String>,
    ) -> Result<Transaction> {
        let (lake, author) = (self.runner.engine.lake(), self.context.author());
        let transaction = lake.transaction(&self.branch, author).await;
        let step = &self.plan.project.steps[index];
        let mut transaction = transaction.map_err(|error| Self::failed(step, None, &error))?;
        set_creator(&mut transaction, self.runner.creator());
        for (key, value) in self.snapshot_properties(index, read) {
            transaction.snapshot_property(key, value);
        }
        transaction.property(PROPERTY_JOB, self.context.id().to_string());
        Ok(transaction)
    }

    /// Returns the snapshot properties that a model sets.
    pub(super) fn snapshot_properties(
        &self,
        index: usize,
        read: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let plan = &self.plan.steps[index];
        let mut properties = read.clone();
        properties.insert(FINGERPRINT.to_owned(), plan.fingerprint.clone());
        properties.insert(FINGERPRINT_CODE.to_owned(), plan.code.clone());
        properties.insert(BUILD.to_owned(), plan.record.to_property());
        properties.insert(PROPERTY_PROJECT.to_owned(), self.plan.project.name.clone());
        let packages = self.packages_of(index);
        if !packages.is_empty() {
            properties.insert(PACKAGES.to_owned(), serde_json::json!(packages).to_string());
        }
        let keys = &self.plan.project.steps[index].keys;
        if !keys.is_empty() {
            properties.insert(KEYS_PROPERTY.to_owned(), serde_json::json!(keys).to_string());
        }
        properties
    }

    /// Returns the packages of the functions that compute a model, by step.
    fn packages_of(&self, index: usize) -> BTreeMap<String, PackageVersions> {
        let (known, steps) = (self.packages.lock(), self.plan.functions_of(index).into_iter());
        let names = steps.map(|step| &self.plan.project.steps[step].name);
        names.filter_map(|name| Some((name.clone(), known.get(name)?.clone()))).collect()
    }

    pub(super) async fn commit(&self, step: &Step, transaction: Transaction) -> Result<()> {
        self.committing.lock().insert(step.name.clone());
        let commit = transaction.commit(&format!("Model {}", step.name)).await;
        let commit = commit.map_err(|error| Self::failed(step, None, &error))?;
        self.note_commit(commit.map(|commit| commit.id));
        Ok(())
    }
}

/// Returns true if the model replaces the partitions that its new rows belong to.
fn overwrites_by_rows(step: &Step) -> bool {
    step.materialization == Materialization::OverwritePartitions && step.overwrite_filter.is_none()
}

/// Returns true if two schemas have the same columns in the same order.
fn has_same_columns(one: &Schema, other: &Schema) -> bool {
    let columns = |schema: &Schema| {
        let fields = schema.fields().iter();
        fields.map(|field| (field.name().clone(), field.data_type().clone())).collect::<Vec<_>>()
    };
    columns(one) == columns(other)
}
