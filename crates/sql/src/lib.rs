//! SQL text to a checked statement: one dialect, parameters, refusals, and the resolution of names
//! against tables that the caller gives.
//!
//! [`Prepared`] is a parsed statement; [`statement::Command`] is what it asks for. Every clause that is
//! not supported is refused by name. Nothing here reads the lake or plans.

pub mod alter;
mod chain;
pub mod change;
pub mod clauses;
mod condition;
pub mod data_type;
pub mod debug_text;
pub mod dialect;
mod error;
pub mod expression;
mod integer;
mod layout;
pub mod names;
pub mod new_rows;
pub mod new_table;
pub mod new_view;
pub mod number;
mod parameters;
pub mod parse;
pub mod partition;
mod prepared;
pub mod resolve;
pub mod respell;
pub mod scope;
mod slip;
pub mod statement;
pub mod table_name;
pub mod tables;
pub mod values;
pub mod version;

pub use condition::check_condition;
pub use error::{At, Error, Position, Result};
pub use parameters::{Parameter, Parameters, placeholders};
pub use prepared::{IntoStatement, Prepared, StatementText, parse_statements};
