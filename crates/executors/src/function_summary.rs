//! Descriptions of functions without a project, with the state of their provisioned instances.

use std::collections::BTreeMap;

use headwater_function_store::StoredFunction;
use headwater_functions::{Functions, Limits, ProvisionedStatus};
use headwater_model::{FunctionArgument, FunctionSummary, Priority, ProvisionedInstances};

use crate::provisioner::provisioned_status;

/// Returns the description of a function for the list of all functions.
pub fn function_summary(functions: &Functions, function: &StoredFunction) -> FunctionSummary {
    let settings = &function.latest.settings;
    let limits = Limits::default();
    let timeout_ms = u64::try_from(limits.timeout.as_millis()).unwrap_or(u64::MAX);
    let event = FunctionArgument { name: "event".to_owned(), required: false };
    let published = function.published.map(|version| format!("version {version}"));
    FunctionSummary {
        name: function.name.clone(),
        defined_at: published.unwrap_or_else(|| "$LATEST".to_owned()),
        arguments: vec![event],
        reuse: settings.network.is_empty(),
        memory_bytes: settings.memory_bytes.unwrap_or(limits.memory_bytes),
        timeout_ms: settings.timeout_ms.unwrap_or(timeout_ms),
        priority: Priority::default(),
        secrets: settings.secrets.clone(),
        budget: None,
        provisioned: ProvisionedInstances::sum(
            provisioned_instances(functions, function).into_values(),
        ),
    }
}

/// Returns the states of the provisioned instances of a function, by version or alias.
pub fn provisioned_instances(
    functions: &Functions,
    function: &StoredFunction,
) -> BTreeMap<String, ProvisionedInstances> {
    let status = |qualifier: &String| {
        let status = provisioned_status(functions, function, qualifier)?;
        Some((qualifier.clone(), instance_state(status)))
    };
    function.qualifiers.keys().filter_map(status).collect()
}

/// Converts the state of provisioned instances for the API.
pub fn instance_state(status: ProvisionedStatus) -> ProvisionedInstances {
    ProvisionedInstances {
        requested: status.requested as u64,
        ready: status.ready as u64,
        problem: status.problem,
    }
}
