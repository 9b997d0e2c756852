//! Checks of the rights to see or change tables, views and namespaces. The checks use the stored
//! spelling of names.

use headwater_executors::{CheckedEntry, EntryRights};
use headwater_lake::CommitView;
use headwater_model::{AccessObject, Action, Principal, Problem, RefSpec, ResultExt, TableName};

use crate::service::Components;

impl Components {
    /// Checks that a principal may act on a table or view at a ref; see [`EntryRights`].
    pub(crate) async fn check_named(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        action: Action,
        name: &TableName,
    ) -> Result<CheckedEntry, Problem> {
        let view = self.view_for(principal, reference).await?;
        self.entry_rights(principal).check_named(&view, action, name).await
    }

    /// Returns the rights of a principal to stored tables and views.
    pub(crate) fn entry_rights<'a>(&'a self, principal: &'a Principal) -> EntryRights<'a> {
        EntryRights { access: &self.access, lake: &self.lake, principal }
    }

    /// Checks that a principal may act on the table or view with exactly this name at a ref.
    pub(crate) async fn authorize_at(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        actions: impl IntoIterator<Item = Action> + Send,
        object: AccessObject,
    ) -> Result<CheckedEntry, Problem> {
        let stored = self.entry_rights(principal).stored(reference, object).await;
        for action in actions {
            self.authorize(principal, action, &stored.object)?;
        }
        Ok(stored)
    }

    /// Checks that a principal may list objects at a ref, optionally only those of one namespace.
    pub(crate) async fn check_listed(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        namespace: Option<&str>,
    ) -> Result<(), Problem> {
        let view = self.view_for(principal, reference).await?;
        match namespace.filter(|_| !self.is_unlimited(principal)) {
            Some(namespace) => self.entry_rights(principal).check_namespace(&view, namespace).await,
            None => Ok(()),
        }
    }

    /// Returns the catalog state at a ref, after checking that the principal may read it.
    pub(crate) async fn view_for(
        &self,
        principal: &Principal,
        reference: &RefSpec,
    ) -> Result<CommitView, Problem> {
        self.check_ref(principal, reference).await?;
        let view = self.lake.view(reference).await.or_problem();
        view.map_err(|problem| self.conceal(principal, problem))
    }
}
