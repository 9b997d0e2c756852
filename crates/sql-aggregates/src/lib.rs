//! SQL aggregates for DataFusion: corrections of its own aggregates whose results deviate from the
//! SQL standard, `max_by` and `min_by`, and profiles (statistics of columns).
//!
//! Each function returns one or more aggregates; the crate `sql-functions` registers them in a
//! session. This crate parses no SQL and accesses no tables.

mod average;
mod groups_accumulator_wrapper;
mod min_max;
mod min_max_by;
mod percentile_cont;
mod profile;
mod sliding_window;
mod sum;
mod window_frame;

pub use self::average::function as average;
pub use self::min_max::functions as extremes;
pub use self::min_max_by::functions as by_key;
pub use self::percentile_cont::function as percentile_cont;
pub use self::profile::{ColumnProfile, DataProfile, DataProfiler};
pub use self::sliding_window::register as register_sliding;
pub use self::sum::checked_sum;
