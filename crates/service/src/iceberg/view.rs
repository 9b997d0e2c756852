//! Views of the Iceberg REST catalog.

use futures::FutureExt;
use headwater_model::{AccessObject, Action, Principal, Problem, RefSpec, ResultExt, TableName};
use headwater_tables::SqlView;
use serde_json::Value;

use super::table::already_exists;
use super::{ChangeRequest, ChangeResult, Iceberg, NewView, ViewCommit};

/// A state of a view, as loaded by a client.
#[derive(Debug, Clone)]
pub struct LoadedView(SqlView);

impl LoadedView {
    /// Returns the location of the metadata file.
    pub fn metadata_location(&self) -> &str {
        self.0.metadata_location()
    }

    /// Returns the view's metadata.
    pub fn metadata_json(&self) -> Result<Value, Problem> {
        self.0.metadata_json().or_problem()
    }
}

impl Iceberg {
    /// Lists the names of a namespace's views.
    pub async fn list_views(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        namespace: &str,
    ) -> Result<Vec<String>, Problem> {
        let view = self.0.view_for(principal, reference).await?;
        self.0.entry_rights(principal).check_namespace(&view, namespace).await?;
        let mut views = view.state().views(Some(namespace)).await.or_problem()?;
        views.retain(|(name, entry)| self.0.allows(principal, Action::Select, &entry.object(name)));
        Ok(views.into_iter().map(|(name, _)| name.name).collect())
    }

    /// Loads a view.
    pub async fn load_view(
        &self,
        principal: &Principal,
        reference: &RefSpec,
        name: &TableName,
    ) -> Result<LoadedView, Problem> {
        let object = AccessObject::view(name);
        let stored = self.0.authorize_at(principal, reference, [Action::Select], object).await?;
        let view = self.0.view_for(principal, reference).await?;
        stored.check_same(&view).await?;
        view.sql_view(name).await.map(LoadedView).or_problem()
    }

    /// Creates a view.
    pub async fn create_view(
        &self,
        principal: &Principal,
        request: &ChangeRequest,
        name: &TableName,
        new: NewView,
    ) -> ChangeResult<LoadedView> {
        let (create, object) = ([Action::Create], AccessObject::view(name));
        self.0.authorize_at(principal, &request.reference, create, object).await?;
        let created = name.clone();
        let description = format!("create view {name}");
        let view = self.change(principal, request, description, move |transaction| {
            async move { transaction.views().create_new(&created, new).await.or_problem() }.boxed()
        });
        let view = view.await.map_err(|error| already_exists(error, name))?;
        self.loaded_view(principal, request, view, name).await
    }

    /// Updates a view: its query in one or several dialects, or its properties.
    pub async fn update_view(
        &self,
        principal: &Principal,
        request: &ChangeRequest,
        name: &TableName,
        commit: ViewCommit,
    ) -> ChangeResult<LoadedView> {
        let (alter, object) = ([Action::Alter], AccessObject::view(name));
        let stored = self.0.authorize_at(principal, &request.reference, alter, object).await?;
        let updated = name.clone();
        let description = format!("replace view {name}");
        let view = self.change(principal, request, description, move |transaction| {
            async move {
                stored.check_same(transaction.view()).await?;
                transaction.views().apply(&updated, &commit).await.or_problem()
            }
            .boxed()
        });
        let view = view.await?;
        self.loaded_view(principal, request, view, name).await
    }

    /// Creates a view from a metadata file in the warehouse.
    pub async fn register_view(
        &self,
        principal: &Principal,
        request: &ChangeRequest,
        name: &TableName,
        metadata_location: String,
    ) -> ChangeResult<LoadedView> {
        self.0.administer(principal)?;
        let registered = name.clone();
        let description = format!("register view {name}");
        let view = self.change(principal, request, description, move |transaction| {
            async move {
                let view = transaction.views().register(&registered, &metadata_location).await;
                view.or_problem()
            }
            .boxed()
        });
        let view = view.await.map_err(|error| already_exists(error, name))?;
        self.loaded_view(principal, request, view, name).await
    }

    /// Drops a view from the branch.
    pub async fn drop_view(
        &self,
        principal: &Principal,
        request: &ChangeRequest,
        name: TableName,
    ) -> ChangeResult<()> {
        let (drop_it, object) = ([Action::Drop], AccessObject::view(&name));
        let stored = self.0.authorize_at(principal, &request.reference, drop_it, object).await?;
        let description = format!("drop view {name}");
        self.change(principal, request, description, move |transaction| {
            async move {
                stored.check_same(transaction.view()).await?;
                transaction.views().drop(&name).await.or_problem()
            }
            .boxed()
        })
        .await
        .map(drop)
    }

    /// Renames a view.
    pub async fn rename_view(
        &self,
        principal: &Principal,
        request: &ChangeRequest,
        from: TableName,
        to: TableName,
    ) -> ChangeResult<()> {
        let (rename, object) = ([Action::Select, Action::Alter], AccessObject::view(&from));
        let stored = self.0.authorize_at(principal, &request.reference, rename, object).await?;
        let (create, object) = ([Action::Create], AccessObject::view(&to));
        self.0.authorize_at(principal, &request.reference, create, object).await?;
        let description = format!("rename view {from} to {to}");
        let target = to.clone();
        let renamed = self.change(principal, request, description, move |transaction| {
            async move {
                stored.check_same(transaction.view()).await?;
                transaction.views().rename(&from, &to).await.or_problem()
            }
            .boxed()
        });
        renamed.await.map(drop).map_err(|error| already_exists(error, &target))
    }

    /// Returns the view that a request created. If an earlier attempt created it, returns its
    /// current state.
    async fn loaded_view(
        &self,
        principal: &Principal,
        request: &ChangeRequest,
        view: Option<SqlView>,
        name: &TableName,
    ) -> ChangeResult<LoadedView> {
        match view {
            Some(view) => Ok(LoadedView(view)),
            None => Ok(self.load_view(principal, &request.reference, name).await?),
        }
    }
}
