//! Selectors: dbt's syntax for sets of models and expectations.
//!
//! [`parse`] does no I/O. Runs compare the parsed selectors with the graph of a project, with the
//! last build of its models and with its last run.

mod attribute;
mod method;
mod parser;

pub use attribute::Attribute;
pub use method::{GraphDepth, Method, RunResult, Selector, State};
pub use parser::{invalid, parse};
