//! Quarantine tables: the rows of a model that failed an expectation.

use std::collections::BTreeMap;

use headwater_functions::SharedTable;
use headwater_lake::{PROPERTY_PROJECT, Transaction, new_columns, nullable};
use headwater_model::Action;

use super::Run;
use crate::Result;

impl Run {
    /// Adds the rows in quarantine to a transaction. If the model's table keeps rows of earlier
    /// runs, so does its quarantine table. Otherwise the rows replace the rows of the last run.
    /// Without rows, no quarantine table is created.
    pub(super) async fn add_quarantine(
        &self,
        index: usize,
        transaction: &mut Transaction,
        rows: &SharedTable,
    ) -> Result<()> {
        let step = &self.plan.project.steps[index];
        let Some(table) = step.quarantine_table() else { return Ok(()) };
        let failed = |error: headwater_lake::Error| Self::failed(step, None, &error);
        let found = transaction.view().find(&table.namespace, &table.name).await;
        let existing = found.map_err(failed)?;
        let known = existing.as_ref().map(|(_, table)| table.schema());
        let schema = nullable(&rows.schema(), known.as_deref());
        let adds = step.materialization.accumulates() && !self.plan.is_rebuilt(index);
        match existing {
            None if rows.rows() == 0 => return Ok(()),
            None => {
                let actions = [Action::Create, Action::Insert];
                self.check_change(&actions, &table, transaction.view()).await?;
                let project = self.plan.project.name.clone();
                let properties = BTreeMap::from([(PROPERTY_PROJECT.to_owned(), project)]);
                let made = transaction.create(&table, schema, Vec::new(), properties).await;
                made.map_err(failed)?;
                transaction.append(&table, rows.stream()).await.map_err(failed)?;
            }
            Some(_) if adds && rows.rows() == 0 => {}
            Some((name, table)) if adds => {
                self.check_change(&[Action::Insert], &name, transaction.view()).await?;
                let new = new_columns(&schema, &table.schema());
                if !new.is_empty() {
                    self.check_change(&[Action::Alter], &name, transaction.view()).await?;
                    transaction.add_columns(&name, new).await.map_err(failed)?;
                }
                transaction.append(&name, rows.stream()).await.map_err(failed)?;
            }
            Some((name, _)) => {
                let actions = [Action::Insert, Action::Delete];
                self.check_change(&actions, &name, transaction.view()).await?;
                let replaced = transaction.replace(&name, schema, Vec::new(), rows.stream()).await;
                replaced.map_err(failed)?;
            }
        }
        Ok(())
    }
}
