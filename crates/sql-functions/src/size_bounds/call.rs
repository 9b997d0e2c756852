//! The arguments of a function call, from which the size of its result is estimated.

use std::ops::Range;

use arrow::datatypes::DataType;
use datafusion::logical_expr::ColumnarValue;

use super::argument::{Argument, IntegerValues};

/// The arguments of a function call, and the type of its result.
pub(super) struct CallArguments<'a> {
    arguments: Vec<Argument<'a>>,
    /// Type of the call's result.
    pub to: &'a DataType,
}

impl<'a> CallArguments<'a> {
    pub(super) fn new(arguments: &'a [ColumnarValue], to: &'a DataType) -> Self {
        CallArguments { arguments: arguments.iter().map(Argument::new).collect(), to }
    }

    pub(super) fn is_constant(&self) -> bool {
        self.arguments.iter().all(Argument::is_constant)
    }

    pub(super) fn len(&self) -> usize {
        self.arguments.len()
    }

    pub(super) fn argument(&self, index: usize) -> Option<&Argument<'a>> {
        self.arguments.get(index)
    }

    /// Returns the bytes of one argument's value in a row; zero if the argument does not exist.
    pub(super) fn bytes(&self, index: usize, row: usize) -> u64 {
        self.arguments.get(index).map_or(0, |argument| argument.bytes(row))
    }

    /// Returns the number of list elements of an argument in a row; zero if the argument does not
    /// exist.
    pub(super) fn elements(&self, index: usize, row: usize) -> u64 {
        self.arguments.get(index).map_or(0, |argument| argument.elements(row))
    }

    pub(super) fn text(&self, index: usize, row: usize) -> Option<&str> {
        self.arguments.get(index).and_then(|argument| argument.text(row))
    }

    pub(super) fn integers(&self, index: usize) -> IntegerValues {
        self.arguments.get(index).map_or(IntegerValues::Constant(None), Argument::integers)
    }

    /// Returns the bytes of all arguments' values in a row.
    pub(super) fn all_bytes(&self, row: usize) -> u64 {
        self.arguments.iter().map(|one| one.bytes(row)).fold(0, u64::saturating_add)
    }

    /// Returns the bytes of all arguments' values in a range of rows.
    pub(super) fn total(&self, rows: &Range<usize>) -> u64 {
        self.arguments.iter().map(|one| one.total(rows.clone())).fold(0, u64::saturating_add)
    }
}

/// Function that returns, for a row, an upper bound of the bytes of the call's result.
pub(super) type RowSizeBound<'a> = Box<dyn Fn(usize) -> u64 + 'a>;
