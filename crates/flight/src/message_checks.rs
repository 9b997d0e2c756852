//! Checks of messages from clients, before Arrow decodes them, because the decoder allocates the
//! sizes that a message declares.

use arrow::ipc::{FieldNode, MessageHeader, RecordBatch as BatchHeader, root_as_message};
use arrow_flight::FlightData;
use headwater_model::{ErrorCode, Problem};
use tonic::Status;

use crate::grpc_status::to_status;

/// Maximum number of rows of a batch, and maximum number of values of a nested column.
const ROWS_MAX: i64 = 1 << 26;

/// Maximum size of the dictionaries of one stream, in bytes. The decoder keeps all dictionaries.
const DICTIONARY_BYTES_MAX: usize = 64 << 20;

/// The state of the checks of one stream.
#[derive(Default)]
pub struct MessageChecks {
    dictionary_bytes: usize,
}

impl MessageChecks {
    /// Checks the next message of the stream.
    ///
    /// Errors: `invalid_argument` for a damaged or compressed message, or one with too many rows.
    pub fn check(&mut self, data: &FlightData) -> Result<(), Status> {
        if data.data_header.is_empty() {
            return Ok(());
        }
        let message = root_as_message(&data.data_header)
            .map_err(|error| invalid(format!("a message of the stream is damaged: {error}"), ""))?;
        match message.header_type() {
            MessageHeader::RecordBatch => check_batch(message.header_as_record_batch()),
            MessageHeader::DictionaryBatch => {
                self.dictionary_bytes += data.data_body.len();
                if self.dictionary_bytes > DICTIONARY_BYTES_MAX {
                    let what = format!("dictionaries have more than {DICTIONARY_BYTES_MAX} bytes");
                    return Err(invalid(what, "Send the columns without dictionaries."));
                }
                let dictionary = message.header_as_dictionary_batch();
                check_batch(dictionary.and_then(|dictionary| dictionary.data()))
            }
            _ => Ok(()),
        }
    }
}

fn check_batch(batch: Option<BatchHeader<'_>>) -> Result<(), Status> {
    let Some(batch) = batch else { return Ok(()) };
    if batch.compression().is_some() {
        let what = "a record batch is compressed, which is not supported";
        return Err(invalid(what.to_owned(), "Send record batches without compression."));
    }
    let mut lengths = batch.nodes().into_iter().flatten().map(FieldNode::length);
    if batch.length() > ROWS_MAX || lengths.any(|length| length > ROWS_MAX) {
        let what = format!("a record batch has more than {ROWS_MAX} rows or values of a column");
        return Err(invalid(what, "Send smaller record batches."));
    }
    Ok(())
}

fn invalid(message: String, hint: &str) -> Status {
    let problem = Problem::new(ErrorCode::InvalidArgument, message);
    to_status(if hint.is_empty() { problem } else { problem.with_hint(hint) })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::IpcWriteOptions;
    use arrow_flight::encode::FlightDataEncoderBuilder;
    use arrow_flight::error::FlightError;
    use futures::{StreamExt, TryStreamExt};

    use super::MessageChecks;

    async fn checked(options: IpcWriteOptions) -> Result<(), String> {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![1; 1000]));
        let batch = RecordBatch::try_from_iter([("a", values)]).expect("a batch");
        let rows = futures::stream::iter([Ok::<_, FlightError>(batch)]).boxed();
        let encoder = FlightDataEncoderBuilder::new().with_options(options);
        let messages: Vec<_> = encoder.build(rows).try_collect().await.expect("messages");
        let mut checks = MessageChecks::default();
        messages
            .iter()
            .try_for_each(|message| checks.check(message))
            .map_err(|status| status.message().to_owned())
    }

    #[tokio::test]
    async fn compressed_and_damaged_messages_are_rejected() {
        assert_eq!(checked(IpcWriteOptions::default()).await, Ok(()));
        let lz4 = IpcWriteOptions::default()
            .try_with_compression(Some(CompressionType::LZ4_FRAME))
            .expect("options");
        let refused = checked(lz4).await.expect_err("a compressed batch");
        assert!(refused.contains("compressed"), "{refused}");
        let damaged = arrow_flight::FlightData::new().with_data_header(vec![1_u8; 8]);
        assert!(MessageChecks::default().check(&damaged).is_err());
    }
}
