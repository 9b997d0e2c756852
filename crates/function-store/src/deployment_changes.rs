//! The changes of a deployment by the HTTP API. A deployment changes only the settings that it
//! names, so that new code does not reset a limit or an environment variable.

use headwater_model::{DeployFunction, FunctionSetting, FunctionSettings};
use serde_json::json;

use crate::function::LATEST;
use crate::{Error, FunctionChange, LAYERS, QualifierChange, Result, StoredFunction, UsedLayer};

/// Returns the changes of a deployment request, except new files. `exists` is the stored function;
/// `None` if the request creates it. `layers` are the layers of the request; `None` if the request
/// does not change the layers.
///
/// Errors: `invalid_argument` if the function cannot have the provisioned instances that it
/// requests.
pub fn deployment_changes(
    name: &str,
    request: &DeployFunction,
    exists: Option<&StoredFunction>,
    layers: Option<&[UsedLayer]>,
) -> Result<Vec<FunctionChange>> {
    let latest = exists.map(|function| &function.latest);
    let mut settings = latest.map(|it| it.settings.clone()).unwrap_or_default();
    let mut attributes = latest.map(|it| it.attributes.clone()).unwrap_or_default();
    for setting in &request.reset {
        settings.reset(*setting);
    }
    settings.update(request.settings.clone());
    let stored = exists.and_then(|function| function.settings_of(None)?.provisioned.as_ref());
    let provisioned =
        request.provisioned_concurrency.or(stored.map(|config| config.count)).unwrap_or_default();
    if provisioned > 0 {
        check_provisioned(name, &settings)?;
    }
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
    Ok(changes)
}

/// Checks that a function can have provisioned instances. Without this check, the server would
/// accept the setting of other functions, but never start an instance.
fn check_provisioned(name: &str, settings: &FunctionSettings) -> Result<()> {
    let reason = if !settings.network.is_empty() {
        "the function has network access, so each call needs a new instance"
    } else if !settings.secrets.is_empty() {
        "the function has secrets, which are read at each call"
    } else {
        return Ok(());
    };
    let message = format!("function `{name}` cannot have provisioned instances: {reason}");
    let hint = "Deploy the function with `--provisioned-concurrency 0`, or without network access \
                and secrets";
    Err(Error::invalid(message, hint))
}
