//! The body of a response, as a whole, or in parts while the function runs.

use std::io;

use bytes::Bytes;
use futures::stream::BoxStream;

/// The body of a response.
pub enum LambdaResponseBody {
    /// The whole response.
    Whole(Bytes),
    /// Parts of the response. After an error, the response is incomplete, and the connection must
    /// be reset so that the client notices.
    Parts(BoxStream<'static, io::Result<Bytes>>),
}

impl From<Bytes> for LambdaResponseBody {
    fn from(bytes: Bytes) -> Self {
        LambdaResponseBody::Whole(bytes)
    }
}
