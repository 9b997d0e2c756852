//! Selectors: dbt's syntax for sets of models and expectations.
//!
//! [`parse`] does no I/O. [`Selectors`] are resolved against the graph of a project, the last build
//! of its models and its last run.

mod attribute;
mod parsed_selector;
mod parser;
mod selection;

pub use attribute::Attribute;
pub use parsed_selector::{GraphDepth, LastStepResult, ModelState, Selector, SelectorMethod};
pub use parser::{invalid, parse};
pub use selection::{Selection, SelectionContext, Selectors, StepState};
