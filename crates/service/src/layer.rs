//! Layers: sets of files that several functions use. Access to a layer is checked like access to a
//! function named `layer/NAME`. The owner of a layer is stored with it.

use std::sync::Arc;

use headwater_access::depends_on_owner;
use headwater_executors::layer_object;
use headwater_function_store::{
    LayerChange, LayerUser, StoredLayer, UsedLayer, parse_layer_version,
};
use headwater_model::{
    Action, ErrorCode, LayerVersion, Principal, Problem, PublishLayer, ResultExt,
};

use crate::service::Components;
use crate::standalone_function::StandaloneFunctions;

/// Maximum number of layers of a function, as in Lambda.
const LAYERS_MAX: usize = 5;

/// The part of a layer's ARN before the name.
const ARN_START: &str = "arn:aws:lambda:us-east-1:000000000000:layer:";

/// Operations on layers.
#[derive(Clone)]
pub struct Layers(pub(crate) Arc<Components>);

impl Layers {
    /// Lists the layers that the principal may use.
    pub async fn list(&self, principal: &Principal) -> Result<Vec<StoredLayer>, Problem> {
        self.0.authenticated(principal)?;
        let mut layers = self.0.catalog.store().layers().await.or_problem()?;
        let object = |layer: &StoredLayer| layer_object(&layer.name, Some(layer));
        layers.retain(|layer| self.0.allows(principal, Action::Invoke, &object(layer)));
        Ok(layers)
    }

    /// Returns a layer that the principal may use.
    pub async fn get(&self, principal: &Principal, name: &str) -> Result<StoredLayer, Problem> {
        let layer = self.0.catalog.store().layer(name).await;
        self.0.authorize(principal, Action::Invoke, &layer_object(name, layer.as_ref().ok()))?;
        layer.or_problem()
    }

    /// Returns the versions of layers with these names, such as `deps:3`, for a function. The
    /// principal must have the right to use them.
    ///
    /// Errors: `invalid_argument`, `function_not_found`.
    pub(crate) async fn used(
        &self,
        principal: &Principal,
        versions: &[String],
    ) -> Result<Vec<UsedLayer>, Problem> {
        if versions.len() > LAYERS_MAX {
            let message =
                format!("the function has {} layers (limit {LAYERS_MAX})", versions.len());
            return Err(Problem::new(ErrorCode::InvalidArgument, message));
        }
        let mut used = Vec::with_capacity(versions.len());
        for version in versions {
            let (name, number) = parse_layer_version(version).or_problem()?;
            let layer = self.get(principal, name).await?;
            let code = layer.version(number).or_problem()?.code.clone();
            used.push(UsedLayer { arn: format!("{ARN_START}{name}:{number}"), code });
        }
        Ok(used)
    }

    /// Publishes a version of a layer. The first version creates the layer. The version is durable
    /// on return.
    ///
    /// Errors: `invalid_argument`, `disk_full`, `storage`.
    pub async fn publish(
        &self,
        principal: &Principal,
        name: &str,
        request: PublishLayer,
    ) -> Result<LayerVersion, Problem> {
        self.check_change(principal, name).await?;
        let PublishLayer { description, files, archive, upload, .. } = request;
        let functions = StandaloneFunctions(self.0.clone());
        let files = functions.request_files(principal, files, archive, upload.as_deref()).await?;
        let change = LayerChange::publish(files.code, principal.author(), description);
        let layer = self.change(principal, name, &change.or_problem()?).await?;
        if let Some(upload) = upload {
            let _ = self.0.import_rights.delete_upload(principal, &upload).await;
        }
        layer.newest().or_problem()
    }

    /// Checks that the principal may change a layer. The layer may be missing.
    pub async fn check_change(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        self.authorize_change(principal, name).await.map(drop)
    }

    async fn authorize_change(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<LayerUser, Problem> {
        let layer = self.0.catalog.store().layer(name).await;
        let object = layer_object(name, layer.as_ref().ok());
        self.0.authorize(principal, Action::Deploy, &object)?;
        let depends_on_owner = depends_on_owner(&self.0.access, principal, &object);
        let expected_owner = object.owner().filter(|_| depends_on_owner).cloned();
        Ok(LayerUser { user: principal.as_object_owner(), expected_owner })
    }

    /// Changes a layer. Publishing the first version creates the layer, which the principal then
    /// owns. The change is durable on return.
    pub async fn change(
        &self,
        principal: &Principal,
        name: &str,
        change: &LayerChange,
    ) -> Result<StoredLayer, Problem> {
        let by = self.authorize_change(principal, name).await?;
        self.0.catalog.store().change_layer(name, change, &by).await.or_problem()
    }
}
