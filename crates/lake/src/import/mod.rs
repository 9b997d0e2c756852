//! Brings files into tables: CSV, JSON, Parquet and Arrow, plain or packed, from folders and from buckets.
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
mod class;
mod column;
mod compression;
mod csv;
mod delimiter;
mod encoding;
mod evidence;
mod execute;
mod gather;
mod header;
mod infer;
mod json_array;
mod json_evidence;
mod json_value;
mod lines;
mod meter;
mod natural;
mod ndjson;
mod object;
mod parquet;
mod plan;
mod reading;
mod records;
mod rejected;
mod request;
mod rows;
mod scan;
mod source;
mod state;
mod temporal;
mod text;
mod widen;
mod window;

pub use bad_row::BadRow;
pub use meter::{ImportProgress, ImportStage, Progress};

pub(crate) use state::{IMPORTS_KEY, Imported, ImportedFiles};
