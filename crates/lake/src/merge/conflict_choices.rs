//! The choices of a merge request: the side to use for each table in conflict.

use std::collections::BTreeMap;

use headwater_catalog::DivergedTable;
use headwater_model::{
    ConflictCause, MergeChoice, MergeRequest, MergeResolution, MergedTable, RefSpec, TableName,
};

use super::OngoingMerge;
use crate::commit_view::CommitView;
use crate::error::{Error, Result};
use crate::lake::Lake;

impl Lake {
    /// Returns the choices of the request, with resolved names. Fails if a name exists on neither
    /// side, or if the request has two different choices for it.
    pub(super) async fn checked_choices(
        &self,
        target: &str,
        request: &MergeRequest,
    ) -> Result<BTreeMap<TableName, MergeChoice>> {
        let mut choices = BTreeMap::new();
        if request.choices.is_empty() {
            return Ok(choices);
        }
        let ours = self.view(&RefSpec::Name(target.to_owned())).await?;
        let theirs = self.view(&request.source).await?;
        for (name, choice) in &request.choices {
            let found = match find(&ours, name).await? {
                None => find(&theirs, name).await?,
                found => found,
            };
            let Some(table) = found else { return Err(ours.not_found(name).await?) };
            if choices.insert(table.clone(), *choice).is_some_and(|other| other != *choice) {
                return Err(Error::InvalidRequest {
                    message: format!("`ours` and `theirs` both name table `{table}`"),
                    hint: "Name the table in only one of the two options.",
                });
            }
        }
        Ok(choices)
    }
}

/// Returns the name of a table, view or function, in the spelling of the given side.
async fn find(side: &CommitView, name: &TableName) -> Result<Option<TableName>> {
    if name.function().is_some() {
        let found = side.state().function(name).await?;
        return Ok(found.map(|_| name.clone()));
    }
    let found = side.state().find(&name.namespace, &name.name).await?;
    Ok(found.map(|(name, _)| name))
}

impl OngoingMerge<'_> {
    /// Returns the report of a table that is in conflict and for which the request chose a side.
    pub(super) fn chosen(
        &self,
        contested: &DivergedTable,
        causes: &[ConflictCause],
    ) -> MergedTable {
        let table = &contested.table;
        let how = match self.request.choice(contested.names()) {
            MergeChoice::Theirs => MergeResolution::Theirs,
            MergeChoice::Ours | MergeChoice::Fail => MergeResolution::Ours,
        };
        MergedTable {
            table: table.clone(),
            how,
            rows_added: 0,
            rows_removed: 0,
            whole_files: false,
            files_added: 0,
            files_removed: 0,
            schema_changed: false,
            causes: causes.to_vec(),
        }
    }
}
