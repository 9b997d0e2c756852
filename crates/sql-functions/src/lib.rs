//! SQL functions, operators and casts: additional functions, rules that correct DataFusion's
//! results, and limits on the size of results.
//!
//! [`register`] and [`limit_results`] prepare a session's state. This crate does not access tables.

mod casts_to_text;
mod error;
pub mod error_text;
mod formats;
mod function_hints;
mod json_extract;
mod json_values;
mod notify_client;
mod panic;
mod plan_cancellation;
mod printf;
mod register;
mod resident_memory;
mod rules;
mod signed_results;
mod similar_to;
mod size_bounds;
mod slice_and_integer_division;
mod statement_memory_pool;
pub mod summarize;
mod text_hash;
mod timestamps;
mod total_memory;
mod unique_key_check;

pub use error::{Error, format_bytes};
pub use function_hints::hint;
pub use headwater_sql_library::{
    is_parsed, is_rewritten, parse_cast, parse_texts, parse_value, respelled,
};
pub use notify_client::{NotifyCallback, signal_function, with_functions};
pub use panic::panic_error;
pub use plan_cancellation::{CancellationFlag, cancellable};
pub use register::{limit_results, register, register_for_constants};
pub use resident_memory::{CancellationHandles, MonitoringGuard, ResidentMemoryMonitor};
pub use rules::{optimizer as optimizer_rules, round_cast};
pub use size_bounds::{FunctionMemory, FunctionMemoryExtension};
pub use statement_memory_pool::{ENGINE_LIMIT_REACHED, StatementMemoryPool};
pub use timestamps::{check_zones, with_seconds};
pub use total_memory::{ShrinkCache, TotalMemory};
