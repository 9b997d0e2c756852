//! What rows are put in order by, as bytes that compare as the rows do.
//!
//! For a z-order each column's value is replaced by its rank among a sample, so that columns of any type
//! and of any spread count alike, and the bits of the ranks are interleaved.

use arrow::array::{ArrayRef, FixedSizeBinaryArray, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

use super::order::Order;

/// Bits of a column's rank in a z-order.
const RANK_BITS: usize = 16;

/// Bytes of a row's place in a z-order: of eight columns at most.
const PLACE_BYTES: usize = 16;

/// Makes the keys of rows.
pub(crate) struct Keys {
    columns: Vec<usize>,
    converter: RowConverter,
    /// Of a z-order: how values compare, and what values a sample has, for each column.
    ranks: Vec<(RowConverter, Vec<Vec<u8>>)>,
}

impl Keys {
    /// Keys of rows of a schema. A z-order needs a sample of the rows to be made before any key is.
    pub fn new(order: &Order, schema: &SchemaRef) -> Result<Self, ArrowError> {
        let names = order.columns();
        let columns = names.iter().map(|name| schema.index_of(name));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let types = columns.iter().map(|at| schema.field(*at).data_type().clone());
        match order {
            Order::Sort(by) => {
                let fields = types.zip(by).map(|(data_type, column)| {
                    let options = SortOptions {
                        descending: column.descending,
                        nulls_first: column.nulls_first,
                    };
                    SortField::new_with_options(data_type, options)
                });
                let converter = RowConverter::new(fields.collect())?;
                Ok(Keys { columns, converter, ranks: Vec::new() })
            }
            Order::ZOrder(_) => {
                let place = SortField::new(DataType::FixedSizeBinary(PLACE_BYTES as i32));
                let ranks = types.map(|data_type| {
                    Ok((RowConverter::new(vec![SortField::new(data_type)])?, Vec::new()))
                });
                let ranks = ranks.collect::<Result<Vec<_>, ArrowError>>()?;
                Ok(Keys { columns, converter: RowConverter::new(vec![place])?, ranks })
            }
        }
    }

    /// Takes over what values a sample of the rows has.
    pub fn learn(&mut self, sample: &[RecordBatch]) -> Result<(), ArrowError> {
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

    /// The keys of a batch's rows, in order.
    pub fn of(&self, batch: &RecordBatch) -> Result<Rows, ArrowError> {
        let columns = self.columns.iter().map(|at| batch.column(*at).clone());
        let columns: Vec<ArrayRef> = columns.collect();
        if self.ranks.is_empty() {
            return self.converter.convert_columns(&columns);
        }
        let mut places = vec![[0_u8; PLACE_BYTES]; batch.num_rows()];
        let count = columns.len();
        for (number, (column, (converter, values))) in columns.iter().zip(&self.ranks).enumerate() {
            let rows = converter.convert_columns(std::slice::from_ref(column))?;
            for (place, row) in places.iter_mut().zip(rows.iter()) {
                let rank = values.partition_point(|value| value.as_slice() < row.data());
                interleave(place, scaled(rank, values.len()), number, count);
            }
        }
        let values = places.iter().map(<[u8; PLACE_BYTES]>::as_slice);
        let array = FixedSizeBinaryArray::try_from_iter(values);
        let array = match array {
            Ok(array) => array,
            // There are no rows to tell the width by.
            Err(_) if places.is_empty() => FixedSizeBinaryArray::new_null(PLACE_BYTES as i32, 0),
            Err(error) => return Err(error),
        };
        self.converter.convert_columns(&[std::sync::Arc::new(array)])
    }
}

/// A rank spread over all that the bits can say.
fn scaled(rank: usize, of: usize) -> u16 {
    let last = (1_u64 << RANK_BITS) - 1;
    u16::try_from(rank as u64 * last / of.max(1) as u64).unwrap_or(u16::MAX)
}

/// Puts the bits of one column's rank into a row's place, the most significant first.
fn interleave(place: &mut [u8; PLACE_BYTES], rank: u16, column: usize, columns: usize) {
    for bit in 0..RANK_BITS {
        let to = bit * columns + column;
        if to / 8 < PLACE_BYTES && rank & (1 << (RANK_BITS - 1 - bit)) != 0 {
            place[to / 8] |= 0x80 >> (to % 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_ranks_take_turns() {
        let mut place = [0; PLACE_BYTES];
        interleave(&mut place, 0b1100_0000_0000_0001, 0, 2);
        interleave(&mut place, 0b1010_0000_0000_0000, 1, 2);
        assert_eq!(place[..4], [0b1110_0100, 0, 0, 0b0000_0010]);
    }

    #[test]
    fn ranks_are_spread() {
        assert_eq!((scaled(0, 4), scaled(2, 4), scaled(4, 4)), (0, 32_767, 65_535));
        assert_eq!(scaled(0, 0), 0);
    }
}
