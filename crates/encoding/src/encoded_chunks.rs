//! Encodes rows as a stream of bytes while the rows are computed.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use headwater_model::{ErrorCode, Problem};

use crate::format::Format;
use crate::row_encoder::RowEncoder;

/// Rows that are computed or read batch by batch.
pub trait RowSource: Send + 'static {
    /// Returns the schema of the rows.
    fn schema(&self) -> &SchemaRef;

    /// Returns the next batch; `None` after the last one.
    fn next(&mut self) -> impl Future<Output = Result<Option<RecordBatch>, Problem>> + Send;

    /// Records that the rows cannot be encoded, with the error `problem`. Returns the error to
    /// report to the client.
    fn fail(&mut self, problem: Problem) -> Problem;
}

/// Encodes rows to a stream of chunks of bytes. Returns as soon as the first chunk or an error is
/// available.
pub async fn encode_rows<R: RowSource>(
    mut rows: R,
    format: Format,
) -> Result<impl Stream<Item = Result<Bytes, Problem>> + Send + 'static, Problem> {
    let encoder = match RowEncoder::new(format, rows.schema()) {
        Ok(encoder) => encoder,
        Err(error) => return Err(rows.fail(not_encoded(&error))),
    };
    let mut chunks = ChunkEncoder { rows, encoder: Some(encoder) };
    let first = chunks.next().await?;
    let rest = stream::try_unfold(chunks, |mut chunks| async {
        Ok(chunks.next().await?.map(|bytes| (bytes, chunks)))
    });
    Ok(stream::iter(first.map(Ok)).chain(rest))
}

/// The rows that are not encoded yet, and their encoder.
struct ChunkEncoder<R> {
    rows: R,
    /// The encoder; `None` after the last chunk.
    encoder: Option<RowEncoder>,
}

impl<R: RowSource> ChunkEncoder<R> {
    /// Returns the next non-empty chunk; `None` after the last one.
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        while let Some(encoder) = &mut self.encoder {
            let bytes = if let Some(batch) = self.rows.next().await? {
                encoder.batch(&batch)
            } else {
                let bytes = encoder.end();
                self.encoder = None;
                bytes
            };
            let bytes = bytes.map_err(|error| self.rows.fail(not_encoded(&error)))?;
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

fn not_encoded(error: &arrow::error::ArrowError) -> Problem {
    Problem::new(ErrorCode::Internal, format!("the rows cannot be encoded: {error}"))
}
