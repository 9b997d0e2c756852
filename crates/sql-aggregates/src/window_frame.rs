//! The accumulator of a sliding window frame: holds the rows of the frame and computes the
//! aggregate from them.
//!
//! The rows are divided into parts, which are small at both ends of the frame and large in the
//! middle. If the state of an aggregate has a fixed size, the state of each large part is computed
//! once. For a frame of `n` rows, the cost of each row is then amortized `O(log n)`; otherwise it
//! is `O(n)`.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use arrow::datatypes::{FieldRef, Schema};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl};
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_plan::PhysicalExpr;

/// A part with at most this number of rows is small: its state is not stored.
const SMALL: usize = 128;

/// The arguments from which accumulators are created, with ownership.
#[derive(Debug)]
pub(crate) struct AccumulatorArguments {
    return_field: FieldRef,
    schema: Schema,
    ignore_nulls: bool,
    order_bys: Vec<PhysicalSortExpr>,
    is_reversed: bool,
    name: String,
    is_distinct: bool,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    expr_fields: Vec<FieldRef>,
}

impl AccumulatorArguments {
    pub(crate) fn of(arguments: &AccumulatorArgs<'_>) -> Self {
        AccumulatorArguments {
            return_field: Arc::clone(&arguments.return_field),
            schema: arguments.schema.clone(),
            ignore_nulls: arguments.ignore_nulls,
            order_bys: arguments.order_bys.to_vec(),
            is_reversed: arguments.is_reversed,
            name: arguments.name.to_owned(),
            is_distinct: arguments.is_distinct,
            exprs: arguments.exprs.to_vec(),
            expr_fields: arguments.expr_fields.to_vec(),
        }
    }

    pub(crate) fn borrowed(&self) -> AccumulatorArgs<'_> {
        AccumulatorArgs {
            return_field: Arc::clone(&self.return_field),
            schema: &self.schema,
            ignore_nulls: self.ignore_nulls,
            order_bys: &self.order_bys,
            is_reversed: self.is_reversed,
            name: &self.name,
            is_distinct: self.is_distinct,
            exprs: &self.exprs,
            expr_fields: &self.expr_fields,
        }
    }

    pub(crate) fn is_distinct(&self) -> bool {
        self.is_distinct
    }

    /// Returns true if an argument or the result is a floating-point number.
    pub(crate) fn have_floats(&self) -> bool {
        let mut fields = self.expr_fields.iter().chain([&self.return_field]);
        fields.any(|field| field.data_type().is_floating())
    }
}

/// The rows of a window frame, in parts.
#[derive(Debug)]
pub(crate) struct FrameRows {
    function: Arc<dyn AggregateUDFImpl>,
    arguments: AccumulatorArguments,
    parts: VecDeque<RowChunk>,
    /// True if the state of the aggregate has a fixed size.
    is_fixed: bool,
}

/// A part of the frame: consecutive rows, with one column for each argument of the aggregate.
#[derive(Debug)]
struct RowChunk {
    columns: Vec<ArrayRef>,
    /// The state of the aggregate for the rows of this part; `None` until it is computed.
    state: Option<Vec<ArrayRef>>,
}

impl RowChunk {
    fn new(columns: Vec<ArrayRef>) -> Self {
        RowChunk { columns, state: None }
    }

    fn rows(&self) -> usize {
        self.columns.first().map_or(0, Array::len)
    }

    fn slice(&self, start: usize, rows: usize) -> RowChunk {
        RowChunk::new(self.columns.iter().map(|column| column.slice(start, rows)).collect())
    }

    fn followed_by(&self, next: &RowChunk) -> Result<RowChunk> {
        let pairs = self.columns.iter().zip(&next.columns);
        let columns = pairs.map(|(one, other)| concat(&[one.as_ref(), other.as_ref()]));
        Ok(RowChunk::new(columns.collect::<Result<_, _>>()?))
    }
}

impl FrameRows {
    pub(crate) fn new(
        function: Arc<dyn AggregateUDFImpl>,
        arguments: AccumulatorArguments,
        is_fixed: bool,
    ) -> Self {
        FrameRows { function, arguments, parts: VecDeque::new(), is_fixed }
    }

    /// Adds the rows that remain of a part after its first rows have left the frame. Halves them
    /// repeatedly into smaller parts, so that the states of most parts stay valid when further rows
    /// leave.
    fn push_rest(&mut self, mut rest: RowChunk) {
        while self.is_fixed && rest.rows() > SMALL {
            let half = rest.rows() / 2;
            let first = rest.rows() - half;
            self.parts.push_front(rest.slice(first, half));
            rest = rest.slice(0, first);
        }
        self.parts.push_front(rest);
    }

    /// Returns an accumulator that contains all rows of the frame.
    fn computed(&mut self) -> Result<Box<dyn Accumulator>> {
        let mut all = self.function.accumulator(self.arguments.borrowed())?;
        for part in &mut self.parts {
            if !self.is_fixed || part.rows() <= SMALL {
                all.update_batch(&part.columns)?;
                continue;
            }
            if part.state.is_none() {
                let mut one = self.function.accumulator(self.arguments.borrowed())?;
                one.update_batch(&part.columns)?;
                let state = one.state()?;
                part.state = Some(state.iter().map(ScalarValue::to_array).collect::<Result<_>>()?);
            }
            if let Some(state) = &part.state {
                all.merge_batch(state)?;
            }
        }
        Ok(all)
    }
}

impl Accumulator for FrameRows {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let mut last = RowChunk::new(values.to_vec());
        if last.rows() == 0 {
            return Ok(());
        }
        while let Some(before) = self.parts.pop_back_if(|before| before.rows() <= last.rows()) {
            last = before.followed_by(&last)?;
        }
        self.parts.push_back(last);
        Ok(())
    }

    /// Removes the oldest rows. DataFusion removes rows in the order in which they were added.
    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let mut rows = values.first().map_or(0, Array::len);
        while rows > 0 {
            let Some(first) = self.parts.pop_front() else {
                return internal_err!("a row leaves a window frame that does not contain it");
            };
            if first.rows() > rows {
                self.push_rest(first.slice(rows, first.rows() - rows));
            }
            rows = rows.saturating_sub(first.rows());
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.computed()?.evaluate()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.computed()?.state()
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        internal_err!("states are not merged in a window")
    }

    fn size(&self) -> usize {
        let bytes =
            |part: &RowChunk| part.columns.iter().map(Array::get_array_memory_size).sum::<usize>();
        size_of_val(self) + self.parts.iter().map(bytes).sum::<usize>()
    }
}
