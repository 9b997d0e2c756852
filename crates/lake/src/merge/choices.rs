//! The choices of a merge request: the side that is used for a table in conflict.

use std::collections::BTreeMap;

use headwater_model::{MergeChoice, MergeRequest, RefSpec, TableName};

use crate::error::{Error, Result};
use crate::lake::Lake;

impl Lake {
    /// Resolves the table names of the choices in the request. Fails if a table exists on neither
    /// side, or has two different choices.
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
            let found = match ours.state().find(&name.namespace, &name.name).await? {
                None => theirs.state().find(&name.namespace, &name.name).await?,
                found => found,
            };
            let Some((table, _)) = found else { return Err(ours.not_found(name).await?) };
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
