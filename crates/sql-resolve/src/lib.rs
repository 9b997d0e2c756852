//! Name resolution: the second pass over a parsed query, which resolves every name.
//!
//! Tables become the two-part names of the planner, each with an alias that qualifies its columns.
//! Columns, aliases, windows and common table expressions get the spelling of their definition.
//! Unknown names are rejected with their position, unless only the planner can resolve them. After
//! this pass, all names match exactly. [`resolve`] is the entry point. This crate plans nothing.

mod asof_join_rewrite;
mod from_clause;
mod generated_names;
pub mod name_scope;
mod named_windows;
mod ordered_casts;
mod output_names;
mod pivot;
mod repeated_names;
mod resolver;
mod select_aliases;
mod select_list;
mod series;
mod tuple_in;
mod using_clause;
mod whole_rows;
mod wildcards;

pub use self::output_names::OutputNames;
pub use self::resolver::{FunctionProperties, ResolvedTable, resolve};
use self::resolver::{Resolver, function_name};
pub use self::select_aliases::SelectAlias;
