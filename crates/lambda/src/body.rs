//! The body of a response: as a whole, or in parts while the function runs.

use std::io;

use bytes::Bytes;
use futures::stream::BoxStream;

/// The body of a response.
pub enum LambdaBody {
    /// All bytes.
    Whole(Bytes),
    /// Parts. An error means that the answer is incomplete, so that its connection must be reset.
    Parts(BoxStream<'static, io::Result<Bytes>>),
}

impl From<Bytes> for LambdaBody {
    fn from(bytes: Bytes) -> Self {
        LambdaBody::Whole(bytes)
    }
}
