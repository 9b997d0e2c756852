//! The JSON protocol of SQS: requests with the header `x-amz-target`, signed for the service `sqs`.

mod error;
mod message;
mod protocol;
mod queue;

pub use protocol::{SqsApi, TARGET_PREFIX};
pub(crate) use queue::arn;
