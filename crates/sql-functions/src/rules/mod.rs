//! Rules that correct queries for which DataFusion's results deviate from SQL.
//!
//! Function rewrites run during type resolution, analyzer rules after it. Most optimizer rules are
//! DataFusion's own. Some of these rules are wrapped, so that they are skipped for plans that they
//! would make incorrect.

mod date_subtraction;
mod decimal_division;
mod decorrelation;
mod in_and_exists;
mod integer_overflow;
mod interval_comparison;
mod map_value;
mod normalize_comparison;
mod not_in_list;
mod overridden_rules;
mod quantified_comparison;
mod round;
mod round_casts;
mod rule_lists;
mod scalar_subquery;

pub use self::overridden_rules::rules as optimizer;
pub use self::round_casts::round_cast;
pub(crate) use self::rule_lists::{analyzer, functions};
use self::rule_lists::{rewrite_parts, rewrite_values};
