//! Rules that correct queries for which DataFusion's results deviate from SQL.
//!
//! Function rewrites run during type resolution, analyzer rules after it. Most optimizer rules are
//! DataFusion's own. Some of these rules are wrapped, so that they are skipped for plans that they
//! would make incorrect.

mod date_diff;
mod decorrelation;
mod division;
mod interval;
mod map_value;
mod membership;
mod normalize_comparison;
mod not_in_list;
mod overflow;
mod overridden_rules;
mod quantified;
mod rewrite;
mod round;
mod round_casts;
mod scalar_subquery;

pub use self::overridden_rules::rules as optimizer;
pub(crate) use self::rewrite::{analyzer, functions};
use self::rewrite::{rewrite_parts, rewrite_values};
pub use self::round_casts::round_cast;
