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
mod cloud_object;
mod column_builder;
mod column_types;
mod compression;
mod csv;
mod csv_header;
mod csv_record_scan;
mod csv_records;
mod delimiter_detection;
mod disk_file;
mod error;
mod file_columns;
mod file_rows;
mod import_plan;
mod importer;
mod json_array;
mod json_statistics;
mod json_value;
mod line_reader;
mod natural_sort;
mod ndjson;
mod parquet;
mod private_files;
mod progress;
mod read_buffer;
mod rejected_rows;
mod request_validation;
mod row_builder;
mod source;
mod table_authorizer;
mod temporal_text;
mod text_encoding;
mod text_file;
mod type_inference;
mod type_widening;
mod value_class;
mod value_formats;

pub use bad_row::BadRow;
pub use cloud_object::BucketStores;
pub use error::{Error, Result};
pub use file_rows::FileRows;
pub use importer::Importer;
pub use private_files::{PrivateFiles, ResolvedPrivateFiles};
pub use progress::{ByteCounter, ImportProgress, ImportStage, ProgressCallback};
pub use table_authorizer::TableCheck;
