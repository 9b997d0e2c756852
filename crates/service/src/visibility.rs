//! Checks of the rights to see or change tables, views and namespaces. The checks use the stored
//! spelling of names.

use headwater_executors::is_change;
use headwater_lake::CommitView;
use headwater_model::{
    Action, ErrorCode, Namespace, Object, Principal, Problem, RefSpec, ResultExt, TableName,
};
use headwater_pipelines::reading;

use crate::service::Components;

impl Components {
    /// Checks that a principal may read a table or view at a ref.
    pub(crate) async fn check_readable(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        name: &TableName,
    ) -> Result<(), Problem> {
        self.check_named(principal, reference, Action::Select, name).await
    }

    /// Checks that a principal may act on a table or view at a ref. The name matches exactly, or
    /// else case-insensitively. The error has the spelling of the request, so that it does not
    /// reveal if the table exists.
    pub(crate) async fn check_named(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        action: Action,
        name: &TableName,
    ) -> Result<(), Problem> {
        if self.is_unlimited(principal) {
            return self.authorize(principal, action, &Object::table(name));
        }
        let view = self.view_for(principal, reference).await?;
        let found = view.state().find(&name.namespace, &name.name).await.or_problem()?;
        let object = match &found {
            Some((found, entry)) if entry.is_view() => Object::view(found),
            Some((found, _)) => Object::table(found),
            None => Object::table(name),
        };
        let is_applicable = object.kind().actions().contains(&action);
        if is_applicable && self.allows(principal, action, &object) {
            self.authorize(principal, action, &object)?;
            return match &found {
                Some((found, entry)) if is_change(action) && !entry.is_view() => {
                    self.check_unrestricted(principal, action, found, Some(&entry.id))
                }
                _ => Ok(()),
            };
        }
        self.authorize(principal, action, &Object::table(name))?;
        self.authorize(principal, action, &object)
    }

    /// Checks that a namespace exists and that the principal may see it. Both failures return the
    /// same error.
    pub(crate) async fn check_namespace(
        &self,
        principal: &Principal,
        view: &CommitView,
        namespace: &str,
    ) -> Result<(), Problem> {
        if self.is_unlimited(principal) {
            return view.check_namespace(namespace).await.or_problem();
        }
        let visible = self.visible_namespaces(principal, view).await?;
        if visible.iter().any(|visible| visible.name == namespace) {
            return Ok(());
        }
        let message = format!("there is no namespace `{namespace}`");
        Err(Problem::new(ErrorCode::NamespaceNotFound, message))
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
            Some(namespace) => self.check_namespace(principal, &view, namespace).await,
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

    /// Returns true if a ref has a table of this name.
    pub(crate) async fn has_table(
        &self,
        reference: &RefSpec,
        name: &TableName,
    ) -> Result<bool, Problem> {
        let view = self.lake.view(reference).await.or_problem()?;
        let found = view.state().find(&name.namespace, &name.name).await.or_problem()?;
        Ok(found.is_some())
    }

    /// Returns the namespaces for which the principal has a grant, or that contain a table, view or
    /// function that it may read.
    pub(crate) async fn visible_namespaces(
        &self,
        principal: &Principal,
        view: &CommitView,
    ) -> Result<Vec<Namespace>, Problem> {
        let mut namespaces = view.namespaces().await.or_problem()?;
        if self.is_unlimited(principal) {
            return Ok(namespaces);
        }
        let entries = view.state().all_entries().await.or_problem()?;
        let readable: Vec<&str> = entries
            .iter()
            .filter(|(name, entry)| {
                let (action, object) = reading(name, entry.is_view());
                self.allows(principal, action, &object)
            })
            .map(|(name, _)| name.namespace.as_str())
            .collect();
        namespaces.retain(|namespace| {
            let name = namespace.name.as_str();
            let within =
                |inner: &&str| *inner == name || headwater_model::name::is_within(inner, name);
            self.access.may_see(principal, &Object::namespace(name)) || readable.iter().any(within)
        });
        Ok(namespaces)
    }
}
