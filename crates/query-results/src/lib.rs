//! Results of asynchronous queries, kept on disk for a limited time.
//!
//! A [`QueryResults`] has one folder per query, with its record and its rows. The caller runs the
//! query and passes its batches to a [`ResultWriter`]. Rows can be read from any position, in any
//! order. A result survives a restart of the server; a query that was running at that time ends
//! with an error. The crate executes no SQL and checks no rights.

mod error;
mod record;
mod result_rows;
mod result_writer;
mod results;

pub use error::{Error, Result};
pub use result_rows::ResultRows;
pub use result_writer::{ResultWriter, interrupted};
pub use results::{QueryResults, ResultLimits};
