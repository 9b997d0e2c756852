//! Aggregates that replace DataFusion's, whose results differ from SQL.

mod extreme;
mod sum;

pub(crate) use self::extreme::functions as extremes;
pub(crate) use self::sum::checked_sum;
