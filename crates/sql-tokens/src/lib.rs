//! Rewrites the tokens of SQL statements before they are parsed: syntax of other systems that
//! sqlparser cannot parse and has no hook for.
//!
//! [`rewrite`] rewrites tokens, and [`check_complexity`] rejects statements that are too deep to
//! plan. The constants are marker names that the rewrites insert and later steps recognize.

mod complexity_limit;
mod foreign_syntax;
mod pivot_syntax;
mod token_rewrites;

pub use complexity_limit::{ComplexityError, check_complexity};
pub use foreign_syntax::{ASOF_INNER, ASOF_LEFT, BY_NAME, EXACT, rewrite};
pub use pivot_syntax::GROUPED;
pub use token_rewrites::{EVERY_COLUMN, is_keyword};
