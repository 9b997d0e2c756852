//! Daily budgets of the functions of a project.

use headwater_jobs::CallBudget;
use headwater_model::Usage;
use headwater_pipelines::{Callable, Defaults};

/// Returns the budget for a call of a function; `None` for a function without a budget. `defaults`
/// are the default settings of the function's project.
///
/// The limits of the function on time, memory and processors determine the maximum usage of a call.
/// If processors have no limit, one processor is assumed.
pub fn call_budget(callable: &Callable, defaults: &Defaults) -> Option<CallBudget> {
    if callable.budget.is_empty() {
        return None;
    }
    let limits = callable.limits(defaults);
    let processors = f64::from(limits.cpu_millis.unwrap_or(1_000)) / 1_000.0;
    let usage_max = Usage {
        wall_ms: u64::try_from(limits.timeout.as_millis()).unwrap_or(u64::MAX),
        cpu_us: (limits.timeout.as_micros() as f64 * processors) as u64,
        memory_bytes_peak: limits.memory_bytes,
        ..Usage::default()
    };
    Some(CallBudget { function: callable.name.clone(), budget: callable.budget, usage_max })
}
