//! Where what DataFusion makes of a query is not what SQL says: rules that put it right.
//!
//! Functions are rewritten while the types of a plan are found, the analyzer's rules come once they
//! are known, and the optimizer's are DataFusion's own, some of them guarded.

mod date_diff;
mod interval;
mod map_value;
mod membership;
mod normalize_comparison;
mod not_in_list;
mod overflow;
mod overridden_rules;
mod rewrite;
mod round;
mod scalar_subquery;
mod whole;

pub use self::overridden_rules::rules as optimizer;
pub(crate) use self::rewrite::{analyzer, functions};
use self::rewrite::{rewrite_parts, rewrite_values};
pub use self::whole::round_cast;
