//! The changes of a deployment by the HTTP API. A deployment changes only the settings that it
//! names, so that new code does not reset a limit or an environment variable.

use headwater_model::{DeployFunction, FunctionSetting};
use serde_json::json;

use crate::function::LATEST;
use crate::{FunctionChange, LAYERS, QualifierChange, StoredFunction, UsedLayer};

/// Returns the changes of a request, without its files. `exists` is the function, unless the
/// request creates it. `layers` are the layers of the request; `None` if it names none.
pub fn deployment_changes(
    request: &DeployFunction,
    exists: Option<&StoredFunction>,
    layers: Option<&[UsedLayer]>,
) -> Vec<FunctionChange> {
    let latest = exists.map(|function| &function.latest);
    let mut settings = latest.map(|it| it.settings.clone()).unwrap_or_default();
    let mut attributes = latest.map(|it| it.attributes.clone()).unwrap_or_default();
    for setting in &request.reset {
        settings.reset(*setting);
    }
    settings.update(request.settings.clone());
    if layers.is_some() || request.reset.contains(&FunctionSetting::Layers) {
        attributes.remove(LAYERS);
    }
    if let Some(layers) = layers.filter(|layers| !layers.is_empty()) {
        attributes.insert(LAYERS.to_owned(), json!(layers));
    }
    let mut changes = vec![
        FunctionChange::Settings(Box::new(settings), attributes),
        FunctionChange::Publish(None),
    ];
    if request.reset.contains(&FunctionSetting::ReservedConcurrency) {
        changes.push(FunctionChange::Concurrency(None));
    }
    let reserved = request.reserved_concurrency;
    changes.extend(reserved.map(|limit| FunctionChange::Concurrency(Some(limit))));
    changes.extend(request.provisioned_concurrency.map(|count| {
        FunctionChange::Qualifier(LATEST.to_owned(), QualifierChange::PutProvisioned(count))
    }));
    changes
}
