//! Aggregates that are not what SQL says in DataFusion, in place of its own.

mod extreme;
mod sum;

pub(crate) use self::extreme::functions as extremes;
pub(crate) use self::sum::checked_sum;
