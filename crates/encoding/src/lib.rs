//! Encoding of rows: the format that a request accepts, and record batches in that format.
//!
//! A [`RowEncoder`] encodes batch by batch, so that memory never holds a whole response.

mod csv;
mod encoded_chunks;
mod format;
mod json;
mod json_field_names;
mod json_maps;
mod out_of_range_times;
mod parquet;
mod row_encoder;
mod shared_buffer;

pub use encoded_chunks::{RowSource, encode_rows};
pub use format::Format;
pub use json::json_texts;
pub use row_encoder::{RowEncoder, compact_views};
