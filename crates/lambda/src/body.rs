//! The body of a response: as a whole, or in parts while the function runs.

use std::io;

use bytes::Bytes;
use futures::stream::BoxStream;

/// The body of a response.
pub enum LambdaBody {
    /// The whole response.
    Whole(Bytes),
    /// Parts of the response. An error means that the response is incomplete, so the connection
    /// must be reset.
    Parts(BoxStream<'static, io::Result<Bytes>>),
}

impl From<Bytes> for LambdaBody {
    fn from(bytes: Bytes) -> Self {
        LambdaBody::Whole(bytes)
    }
}
