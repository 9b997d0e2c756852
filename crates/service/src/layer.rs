//! Layers: sets of files that several functions use. Access to a layer is checked like access to a
//! function named `layer/NAME`.

use std::sync::Arc;

use headwater_function_store::{LayerChange, StoredLayer};
use headwater_model::{Action, ErrorCode, Object, Principal, Problem, ResultExt};

use crate::service::Components;

/// Operations on layers.
#[derive(Clone)]
pub struct Layers(pub(crate) Arc<Components>);

fn object(name: &str) -> Object {
    Object::function(&format!("layer/{name}"))
}

impl Layers {
    /// Lists the layers that the principal may use.
    pub async fn list(&self, principal: &Principal) -> Result<Vec<StoredLayer>, Problem> {
        self.0.authenticated(principal)?;
        let mut layers = self.0.catalog.store().layers().await.or_problem()?;
        layers.retain(|layer| self.0.allows(principal, Action::Invoke, &object(&layer.name)));
        Ok(layers)
    }

    /// Returns a layer that the principal may use.
    pub async fn get(&self, principal: &Principal, name: &str) -> Result<StoredLayer, Problem> {
        self.0.authorize(principal, Action::Invoke, &object(name))?;
        let layer = self.0.catalog.store().layer(name).await.or_problem()?;
        layer.ok_or_else(|| {
            let message = format!("layer `{name}` does not exist");
            Problem::new(ErrorCode::FunctionNotFound, message)
        })
    }

    /// Checks that the principal may change a layer. The layer may be missing.
    pub fn check_change(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        self.0.authorize(principal, Action::Deploy, &object(name))
    }

    /// Changes a layer. Its first version creates the layer. The change is durable on return.
    pub async fn change(
        &self,
        principal: &Principal,
        name: &str,
        change: &LayerChange,
    ) -> Result<StoredLayer, Problem> {
        self.0.authorize(principal, Action::Deploy, &object(name))?;
        self.0.catalog.store().change_layer(name, change).await.or_problem()
    }
}
