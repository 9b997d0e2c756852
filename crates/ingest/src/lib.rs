//! Imports files into tables: CSV, JSON, Parquet and Arrow, compressed or not, from folders and
//! object storage. [`Importer`] is the handle.
//!
//! An import streams every file twice: once to determine columns and types, which apply to all
//! files, and once to import the rows. The first pass is skipped if the types are known. One thread
//! reads and others write. One commit at the end makes all rows visible and records the list of
//! imported files. An import that fails, is cancelled or is killed leaves nothing visible.
//! [`FileRows`] are the rows of files for a query, which imports nothing.
//!
//! Memory is bounded by the maximum row length and a few batches, independent of file sizes.

mod arrow_file;
mod bad_row;
mod column;
mod column_types;
mod compression;
mod csv;
mod delimiter;
mod disk_file;
mod encoding;
mod error;
mod file_columns;
mod file_rows;
mod header;
mod importer;
mod inference;
mod json_array;
mod json_statistics;
mod json_value;
mod lines;
mod natural_sort;
mod ndjson;
mod object;
mod parquet;
mod plan;
mod private_files;
mod progress;
mod read_buffer;
mod record_scan;
mod records;
mod rejected_rows;
mod request;
mod rows;
mod source;
mod table_check;
mod temporal;
mod text;
mod type_widening;
mod value_class;
mod value_formats;

pub use bad_row::BadRow;
pub use error::{Error, Result};
pub use file_rows::FileRows;
pub use importer::Importer;
pub use object::BucketStores;
pub use private_files::{PrivateFiles, ResolvedPrivateFiles};
pub use progress::{ByteCounter, ImportProgress, ImportStage, Progress};
pub use table_check::TableCheck;
