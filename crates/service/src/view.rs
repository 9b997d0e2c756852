//! SQL views: list, get, drop.

use std::sync::Arc;

use futures::FutureExt;
use headwater_lake::Transaction;
use headwater_model::{
    AccessObject, Action, ErrorCode, Principal, Problem, RefSpec, ResultExt, SqlView, TableName,
    ToProblem,
};

use crate::service::Components;

/// Operations on SQL views.
#[derive(Clone)]
pub struct Views(pub(crate) Arc<Components>);

impl Views {
    /// Lists views by name, optionally only the views of a namespace.
    pub async fn list(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        namespace: Option<&str>,
    ) -> Result<Vec<SqlView>, Problem> {
        self.0.check_listed(principal, reference, namespace).await?;
        let is_visible = |object: &AccessObject| self.0.allows(principal, Action::Select, object);
        let listed = self.0.lake.list_views(reference, namespace, is_visible).await.or_problem();
        listed.map_err(|problem| self.0.conceal(principal, problem))
    }

    /// Returns the description of a view. Prefers an exact match of the name to a case-insensitive
    /// match.
    pub async fn get(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        name: &TableName,
    ) -> Result<SqlView, Problem> {
        self.0.check_named(principal, reference, Action::Select, name).await?;
        let found = self.0.lake.describe_view(reference, name).await.or_problem();
        found.map_err(|problem| self.0.conceal(principal, problem))
    }

    /// Drops a view from a branch, as a job. Other commits and branches keep the view.
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
            // The view does not exist, so no job is recorded.
            if if_exists {
                return Ok(());
            }
            let missing = view.no_view(name).await.or_problem()?;
            return Err(self.0.conceal(principal, missing.to_problem()));
        }
        let change = format!("drop view {name}");
        let name = name.clone();
        self.0
            .commit_as_job(principal, branch, change, move |transaction| {
                async move {
                    stored.check_same(transaction.view()).await?;
                    drop_view(transaction, name, if_exists).await
                }
                .boxed()
            })
            .await
    }
}

async fn drop_view(
    transaction: &mut Transaction,
    name: TableName,
    if_exists: bool,
) -> Result<(), Problem> {
    let state = transaction.view().state().clone();
    let found = state.find(&name.namespace, &name.name).await.or_problem()?;
    let name = found.filter(|(_, entry)| entry.is_view()).map_or(name, |(name, _)| name);
    match transaction.views().drop(&name).await {
        Err(error) if error.code() == ErrorCode::TableNotFound && if_exists => Ok(()),
        dropped => dropped.or_problem(),
    }
}
