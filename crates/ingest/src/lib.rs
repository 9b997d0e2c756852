//! Imports files into tables: CSV, JSON, Parquet and Arrow, compressed or not, from folders and
//! object storage. [`Importer`] is the handle.
//!
//! An import reads every file twice, streaming: once for columns and types, which hold for all
//! files, and once for rows. The first reading is left out where the types are known. One thread
//! reads, others write, and one commit at the end makes all of it visible, with the list of files
//! that are now in the table. Nothing of an import that fails, is stopped or is killed can be seen.
//!
//! Memory is bounded by the longest row that is allowed and a few batches, whatever the files'
//! size.

mod arrow_file;
mod bad_row;
mod buffer;
mod column;
mod compression;
mod csv;
mod delimiter;
mod encoding;
mod error;
mod execute;
mod gather;
mod header;
mod infer;
mod inference;
mod json_array;
mod json_evidence;
mod json_value;
mod lines;
mod natural_sort;
mod ndjson;
mod object;
mod parquet;
mod plan;
mod progress;
mod reading;
mod records;
mod rejected;
mod request;
mod rows;
mod scan;
mod source;
mod temporal;
mod text;
mod value_class;
mod widen;

pub use bad_row::BadRow;
pub use error::{Error, Result};
pub use execute::Importer;
pub use progress::{ImportProgress, ImportStage, Progress};
