//! Aggregates that replace those of DataFusion whose results deviate from the SQL standard.

mod average;
mod by_key;
mod extreme;
mod frame;
mod percentile;
mod sliding;
mod sum;

pub(crate) use self::average::function as average;
pub(crate) use self::by_key::functions as by_key;
pub(crate) use self::extreme::functions as extremes;
pub(crate) use self::percentile::function as percentile;
pub(crate) use self::sliding::register as register_sliding;
pub(crate) use self::sum::checked_sum;
