//! Costs of the function runtime: interference between callers, idle processes, metering, packages
//! from the store, and a whole run compared with a script.

mod environment_creation;
mod idle;
mod neighbours;
mod pandas_model;
mod usage;

use crate::Outcome;
use crate::report::Report;

/// Measures the requested parts with `samples` samples each, and adds the results to the report.
pub async fn measure(
    report: &mut Report,
    samples: usize,
    wanted: impl Fn(&str) -> bool,
) -> Outcome<()> {
    if wanted("usage") {
        usage::measure(report).await?;
    }
    if wanted("hot") {
        environment_creation::measure(report).await?;
    }
    if wanted("neighbours") {
        tokio::task::block_in_place(|| neighbours::measure(report, 5 * samples))?;
    }
    if wanted("local") {
        tokio::task::block_in_place(|| pandas_model::measure(report))?;
    }
    if wanted("idle") {
        tokio::task::block_in_place(|| idle::measure(report))?;
    }
    Ok(())
}
