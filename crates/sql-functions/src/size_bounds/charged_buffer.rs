//! Counts function results towards the statement's memory limit for as long as they are in memory.

use std::sync::Arc;

use arrow::array::ArrayData;
use arrow::array::{Array, ArrayRef, make_array};
use arrow::buffer::Buffer;
use bytes::Bytes;

use super::budget::MemoryCharge;

/// Results below this size, in bytes, are not counted.
pub(super) const UNCHARGED_BYTES: u64 = 256 << 10;

/// A buffer with its memory charge. Dropping the buffer releases the charge.
struct ChargedBuffer {
    buffer: Buffer,
    _charge: MemoryCharge,
}

impl AsRef<[u8]> for ChargedBuffer {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_slice()
    }
}

/// Attaches a memory charge to the array's largest buffer, so that it is released with this buffer.
/// If the array cannot be rebuilt, it is returned without the charge.
pub(super) fn attach_charge(array: ArrayRef, charge: MemoryCharge) -> ArrayRef {
    if (charge.bytes() as u64) < UNCHARGED_BYTES {
        return array;
    }
    let data = array.to_data();
    let largest = largest(&data);
    if largest == 0 {
        return array;
    }
    match with_charge(data, largest, &mut Some(charge)) {
        Some(data) => make_array(data),
        None => array,
    }
}

fn largest(data: &ArrayData) -> usize {
    let own = data.buffers().iter().map(Buffer::len).max().unwrap_or(0);
    data.child_data().iter().map(largest).max().unwrap_or(0).max(own)
}

fn with_charge(
    data: ArrayData,
    length: usize,
    charge: &mut Option<MemoryCharge>,
) -> Option<ArrayData> {
    let mut buffers = data.buffers().to_vec();
    if let Some(buffer) = buffers.iter_mut().find(|buffer| buffer.len() == length)
        && let Some(charge) = charge.take()
    {
        let own = ChargedBuffer { buffer: buffer.clone(), _charge: charge };
        *buffer = Buffer::from(Bytes::from_owner(own));
    }
    let mut children = Vec::with_capacity(data.child_data().len());
    for child in data.child_data() {
        let contains = charge.is_some() && largest(child) == length;
        children.push(if contains {
            with_charge(child.clone(), length, charge)?
        } else {
            child.clone()
        });
    }
    data.into_builder().buffers(buffers).child_data(children).build().ok()
}

/// Returns the bytes of an array's buffers.
pub(super) fn memory_bytes(array: &dyn Array) -> u64 {
    array.get_buffer_memory_size() as u64
}

/// Returns the bytes of several arrays' buffers.
pub(super) fn total_bytes(arrays: &[ArrayRef]) -> u64 {
    arrays.iter().map(|array| memory_bytes(Arc::as_ref(array))).fold(0, u64::saturating_add)
}
