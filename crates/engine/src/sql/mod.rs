//! SQL as text and as a tree, before any table is known: what is parsed, what is refused, which
//! tables are named, and how names are matched.
//!
//! Nothing here reads the lake or plans; `session` joins this with the tables that are found.

pub(crate) mod alter;
mod chain;
pub(crate) mod change;
pub(crate) mod clauses;
mod condition;
pub(crate) mod constants;
pub(crate) mod data_type;
pub(crate) mod dialect;
pub(crate) mod expression;
pub(crate) mod integer;
mod layout;
pub(crate) mod names;
pub(crate) mod new_rows;
pub(crate) mod new_table;
pub(crate) mod new_view;
pub(crate) mod number;
pub(crate) mod parameters;
pub(crate) mod parse;
pub(crate) mod partition;
pub(crate) mod prepared;
pub(crate) mod resolve;
pub(crate) mod respell;
pub(crate) mod scope;
mod slip;
pub(crate) mod statement;
pub(crate) mod table_name;
pub(crate) mod tables;
pub(crate) mod values;
pub(crate) mod version;

pub use condition::check_condition;
