//! The parts of the suite.

use super::{edit, flights, many, packages, shop, tasks};
use crate::Outcome;
use crate::report::Report;

/// The parts, in the order they are measured.
pub const PARTS: [&str; 6] = ["many", "edit", "tasks", "packages", "shop", "flights"];

/// Measures the requested parts, and adds the results to the report. The part `many` has `models`
/// models.
pub fn measure(report: &mut Report, models: usize, wanted: impl Fn(&str) -> bool) -> Outcome<()> {
    for part in PARTS.into_iter().filter(|part| wanted(part)) {
        match part {
            "many" => many::measure(report, models)?,
            "edit" => edit::measure(report)?,
            "tasks" => tasks::measure(report)?,
            "packages" => packages::measure(report)?,
            "shop" => shop::measure(report)?,
            _ => flights::measure(report)?,
        }
    }
    Ok(())
}
