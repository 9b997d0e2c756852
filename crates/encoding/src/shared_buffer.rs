//! A buffer that passes bytes from a writer, which owns its output, to the response.

use std::sync::Arc;

use bytes::Bytes;

/// A shared buffer: a writer appends bytes, and the caller drains them.
#[derive(Debug, Clone, Default)]
pub struct SharedBuffer(Arc<parking_lot::Mutex<Vec<u8>>>);

impl SharedBuffer {
    /// Removes and returns the bytes written since the last call.
    pub fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock()).into()
    }
}

impl std::io::Write for SharedBuffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
