//! SQL functions, operators and casts: additional functions, rules that correct DataFusion's
//! results, and limits on the size of results.
//!
//! [`register`] and [`limit_results`] prepare a session's state. This crate does not access tables.

mod bounds;
mod cancellation;
mod error;
pub mod error_text;
mod formats;
mod hint;
mod json;
mod json_values;
mod memory;
mod panic;
mod printf;
mod register;
mod resident_memory;
mod rules;
mod signal;
mod signed;
mod similar_to;
mod slice;
mod statement_memory_pool;
pub mod summary;
mod text_casts;
mod timestamps;
mod unique_key_check;

pub use bounds::{FunctionMemory, StatementBudget};
pub use cancellation::{CancellationFlag, cancellable};
pub use error::{Error, format_bytes};
pub use headwater_sql_library::{
    is_parsed, is_rewritten, parse_cast, parse_texts, parse_value, respelled,
};
pub use hint::hint;
pub use memory::TotalMemory;
pub use panic::panic_error;
pub use register::{limit_results, register, register_for_constants};
pub use resident_memory::{LimitedStatement, ResidentMemoryLimit, RunningTask};
pub use rules::{optimizer as optimizer_rules, round_cast};
pub use signal::{SignalCallback, signal_function, with_functions};
pub use statement_memory_pool::{ENGINE_LIMIT_REACHED, StatementMemoryPool};
pub use timestamps::{check_zones, with_seconds};
