//! Namespaces of the Iceberg REST catalog.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::ready;
use headwater_model::{
    AccessObject, Action, ErrorCode, Namespace, Principal, Problem, RefSpec, ResultExt,
    name as names,
};

use super::{ChangeRequest, ChangeResult, Iceberg};

/// An update of a namespace's properties.
#[derive(Debug, Clone, Default)]
pub struct PropertyUpdate {
    /// Values to set, by key.
    pub updates: BTreeMap<String, String>,
    /// Keys to remove.
    pub removals: Vec<String>,
}

/// Outcome of an update of namespace properties, as lists of keys.
#[derive(Debug, Clone, Default)]
pub struct PropertyUpdateResult {
    /// Keys that were set.
    pub updated: Vec<String>,
    /// Keys that were removed.
    pub removed: Vec<String>,
    /// Keys to remove that did not exist.
    pub missing: Vec<String>,
}

impl Iceberg {
    /// Lists the names of the direct child namespaces of `parent`, or of the top-level namespaces.
    pub async fn list_namespaces(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        parent: Option<&str>,
    ) -> Result<Vec<String>, Problem> {
        let view = self.0.view_for(principal, reference).await?;
        if let Some(parent) = parent {
            self.0.entry_rights(principal).check_namespace(&view, parent).await?;
        }
        let found = self.0.entry_rights(principal).visible_namespaces(&view).await?;
        let found = found.into_iter().map(|found| found.name);
        Ok(found.filter(|found| names::parent(found) == parent).collect())
    }

    /// Returns a namespace.
    pub async fn namespace(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        name: &str,
    ) -> Result<Namespace, Problem> {
        let view = self.0.view_for(principal, reference).await?;
        let visible = self.0.entry_rights(principal).visible_namespaces(&view).await?;
        let is_visible = visible.iter().any(|visible| visible.name == name);
        if (is_visible || self.0.is_unlimited(principal))
            && let Some(found) = view.state().namespace(name).await.or_problem()?
        {
            return Ok(found);
        }
        if self.0.is_unlimited(principal) {
            view.check_namespace(name).await.or_problem()?;
        }
        let message = format!("Namespace {name} does not exists");
        Err(Problem::new(ErrorCode::NamespaceNotFound, message))
    }

    /// Creates a namespace.
    pub async fn create_namespace(
        &self,
        principal: &Principal,
        request: &ChangeRequest,
        name: String,
        properties: BTreeMap<String, String>,
    ) -> ChangeResult<()> {
        let (create, object) = ([Action::Create], AccessObject::namespace(&name));
        self.0.authorize_at(principal, &request.reference, create, object).await?;
        let description = format!("create namespace {name}");
        self.change(principal, request, description, move |transaction| {
            transaction.create_namespace(&name, properties);
            ready(Ok(())).boxed()
        })
        .await
        .map(drop)
    }

    /// Deletes a namespace without tables.
    pub async fn delete_namespace(
        &self,
        principal: &Principal,
        request: &ChangeRequest,
        name: String,
    ) -> ChangeResult<()> {
        let (drop_it, object) = ([Action::Drop], AccessObject::namespace(&name));
        self.0.authorize_at(principal, &request.reference, drop_it, object).await?;
        let description = format!("drop namespace {name}");
        self.change(principal, request, description, move |transaction| {
            transaction.drop_namespace(&name);
            ready(Ok(())).boxed()
        })
        .await
        .map(drop)
    }

    /// Sets and removes properties of a namespace.
    pub async fn update_namespace(
        &self,
        principal: &Principal,
        request: &ChangeRequest,
        name: &str,
        update: PropertyUpdate,
    ) -> ChangeResult<PropertyUpdateResult> {
        let PropertyUpdate { updates, removals } = update;
        let (alter, object) = ([Action::Alter], AccessObject::namespace(name));
        self.0.authorize_at(principal, &request.reference, alter, object).await?;
        let found = self.namespace(principal, &request.reference, name).await?;
        let is_set = |key: &String| found.properties.contains_key(key);
        let (removed, missing) = removals.iter().cloned().partition(is_set);
        let updated: Vec<String> = updates.keys().cloned().collect();
        let changes = PropertyUpdateResult { updated, removed, missing };
        if changes.updated.is_empty() && changes.removed.is_empty() {
            return Ok(changes);
        }
        let name = found.name;
        let description = format!("change namespace {name}");
        self.change(principal, request, description, move |transaction| {
            transaction.iceberg_rest().update_namespace(&name, updates, removals);
            ready(Ok(())).boxed()
        })
        .await?;
        Ok(changes)
    }
}
