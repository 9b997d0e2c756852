//! Computes the sort keys of rows: bytes whose order is the order of the rows.
//!
//! For a z-order, each value is replaced by its rank in a sample, so that columns of any type and
//! distribution have equal weight. Then the bits of the ranks are interleaved.

use arrow::array::{ArrayRef, FixedSizeBinaryArray, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

use super::sorted_read::RowOrder;

/// Number of bits of the rank of a column's value in a z-order.
const RANK_BITS: usize = 16;

/// Number of bytes of a z-order key, sufficient for eight columns.
const Z_KEY_BYTES: usize = 16;

/// An encoder of sort keys.
pub(crate) struct SortKeyEncoder {
    columns: Vec<usize>,
    converter: RowConverter,
    /// Only for a z-order: each column's value encoder, and its sorted values in the sample.
    ranks: Vec<(RowConverter, Vec<Vec<u8>>)>,
}

impl SortKeyEncoder {
    /// Creates an encoder for rows of a schema. For a z-order, call
    /// [`SortKeyEncoder::add_sample`] before computing the first key.
    pub fn new(order: &RowOrder, schema: &SchemaRef) -> Result<Self, ArrowError> {
        let names = order.columns();
        let columns = names.iter().map(|name| schema.index_of(name));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let types = columns.iter().map(|at| schema.field(*at).data_type().clone());
        match order {
            RowOrder::Sort(by) => {
                let fields = types.zip(by).map(|(data_type, column)| {
                    let options = SortOptions {
                        descending: column.descending,
                        nulls_first: column.nulls_first,
                    };
                    SortField::new_with_options(data_type, options)
                });
                let converter = RowConverter::new(fields.collect())?;
                Ok(SortKeyEncoder { columns, converter, ranks: Vec::new() })
            }
            RowOrder::ZOrder(_) => {
                let z_key = SortField::new(DataType::FixedSizeBinary(Z_KEY_BYTES as i32));
                let ranks = types.map(|data_type| {
                    Ok((RowConverter::new(vec![SortField::new(data_type)])?, Vec::new()))
                });
                let ranks = ranks.collect::<Result<Vec<_>, ArrowError>>()?;
                Ok(SortKeyEncoder { columns, converter: RowConverter::new(vec![z_key])?, ranks })
            }
        }
    }

    /// Adds the values of a sample of the rows. A value's rank is its position among them.
    pub fn add_sample(&mut self, sample: &[RecordBatch]) -> Result<(), ArrowError> {
        for (at, (converter, values)) in self.columns.iter().zip(&mut self.ranks) {
            for batch in sample {
                let rows = converter.convert_columns(&[batch.column(*at).clone()])?;
                values.extend(rows.iter().map(|row| row.data().to_vec()));
            }
            values.sort_unstable();
            values.dedup();
        }
        Ok(())
    }

    /// Returns the keys of a batch's rows.
    pub fn of(&self, batch: &RecordBatch) -> Result<Rows, ArrowError> {
        let columns = self.columns.iter().map(|at| batch.column(*at).clone());
        let columns: Vec<ArrayRef> = columns.collect();
        if self.ranks.is_empty() {
            return self.converter.convert_columns(&columns);
        }
        let mut z_keys = vec![[0_u8; Z_KEY_BYTES]; batch.num_rows()];
        let count = columns.len();
        for (number, (column, (converter, values))) in columns.iter().zip(&self.ranks).enumerate() {
            let rows = converter.convert_columns(std::slice::from_ref(column))?;
            for (z_key, row) in z_keys.iter_mut().zip(rows.iter()) {
                let rank = values.partition_point(|value| value.as_slice() < row.data());
                interleave(z_key, scaled(rank, values.len()), number, count);
            }
        }
        let values = z_keys.iter().map(<[u8; Z_KEY_BYTES]>::as_slice);
        let array = FixedSizeBinaryArray::try_from_iter(values);
        let array = match array {
            Ok(array) => array,
            // Without keys, the constructor fails, because it cannot determine their width.
            Err(_) if z_keys.is_empty() => FixedSizeBinaryArray::new_null(Z_KEY_BYTES as i32, 0),
            Err(error) => return Err(error),
        };
        self.converter.convert_columns(&[std::sync::Arc::new(array)])
    }
}

/// Scales a rank to the range of [`RANK_BITS`] bits.
fn scaled(rank: usize, of: usize) -> u16 {
    let last = (1_u64 << RANK_BITS) - 1;
    u16::try_from(rank as u64 * last / of.max(1) as u64).unwrap_or(u16::MAX)
}

/// Adds the bits of one column's rank to a z-order key, the most significant bit first.
fn interleave(z_key: &mut [u8; Z_KEY_BYTES], rank: u16, column: usize, columns: usize) {
    for bit in 0..RANK_BITS {
        let to = bit * columns + column;
        if to / 8 < Z_KEY_BYTES && rank & (1 << (RANK_BITS - 1 - bit)) != 0 {
            z_key[to / 8] |= 0x80 >> (to % 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_ranks_are_interleaved() {
        let mut z_key = [0; Z_KEY_BYTES];
        interleave(&mut z_key, 0b1100_0000_0000_0001, 0, 2);
        interleave(&mut z_key, 0b1010_0000_0000_0000, 1, 2);
        assert_eq!(z_key[..4], [0b1110_0100, 0, 0, 0b0000_0010]);
    }

    #[test]
    fn ranks_are_scaled() {
        assert_eq!((scaled(0, 4), scaled(2, 4), scaled(4, 4)), (0, 32_767, 65_535));
        assert_eq!(scaled(0, 0), 0);
    }
}
