//! Aggregates that replace DataFusion's, whose results differ from SQL.

mod by_key;
mod extreme;
mod frame;
mod percentile;
mod sliding;
mod sum;

pub(crate) use self::by_key::functions as by_key;
pub(crate) use self::extreme::functions as extremes;
pub(crate) use self::percentile::function as percentile;
pub(crate) use self::sliding::register as register_sliding;
pub(crate) use self::sum::checked_sum;
