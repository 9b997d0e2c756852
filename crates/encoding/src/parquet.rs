//! Rows as a Parquet file, compressed by zstd.
//!
//! Rows are collected into row groups, so most calls return no bytes. The last bytes are the
//! footer, without which the file is invalid.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::shared_buffer::SharedBuffer;

/// Target size of an encoded row group, in bytes. The response holds one row group in memory.
const ROW_GROUP_BYTES: usize = 16 << 20;

/// A writer of a Parquet file.
pub struct ParquetWriter {
    /// The writer of the file; `None` after [`ParquetWriter::end`].
    writer: Option<ArrowWriter<SharedBuffer>>,
    output: SharedBuffer,
}

impl ParquetWriter {
    /// Creates a writer. Fails for types that Parquet does not support.
    pub fn new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        let compression = Compression::ZSTD(ZstdLevel::default());
        let properties = WriterProperties::builder().set_compression(compression).build();
        let output = SharedBuffer::default();
        let writer = ArrowWriter::try_new(output.clone(), schema.clone(), Some(properties))?;
        Ok(ParquetWriter { writer: Some(writer), output })
    }

    /// Encodes a batch. Returns the bytes of the row groups that are complete.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, ArrowError> {
        if let Some(writer) = &mut self.writer {
            writer.write(batch)?;
            if writer.in_progress_size() > ROW_GROUP_BYTES {
                writer.flush()?;
            }
        }
        Ok(self.output.take())
    }

    /// Returns the remaining bytes: the last row group and the footer.
    pub fn end(&mut self) -> Result<Bytes, ArrowError> {
        if let Some(writer) = self.writer.take() {
            writer.close()?;
        }
        Ok(self.output.take())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn written(batches: &[RecordBatch], schema: &SchemaRef) -> Bytes {
        let mut writer = ParquetWriter::new(schema).expect("a writer");
        let mut file = Vec::new();
        for batch in batches {
            file.extend(writer.batch(batch).expect("bytes"));
        }
        file.extend(writer.end().expect("bytes"));
        file.into()
    }

    #[test]
    fn a_reader_returns_the_same_rows() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", ""]));
        let batch = RecordBatch::try_from_iter([("n", numbers), ("t", texts)]).expect("a batch");
        let file = written(&[batch.clone(), batch.clone()], &batch.schema());
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a file");
        let rows: Vec<_> = reader.build().expect("a reader").collect();
        let first = rows[0].as_ref().expect("rows");
        assert_eq!(first.num_rows(), 4);
        assert_eq!(first.slice(2, 2).columns(), batch.columns());

        let empty = written(&[], &batch.schema());
        let reader = ParquetRecordBatchReaderBuilder::try_new(empty).expect("a file");
        assert_eq!(reader.schema().fields(), batch.schema().fields());
    }
}
