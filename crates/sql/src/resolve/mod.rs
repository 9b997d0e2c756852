//! The second pass over a query: every name becomes what it stands for.
//!
//! Tables become the two-part names under which the planner finds them, each with an alias that
//! labels its columns; columns, aliases, windows and common table expressions become the spelling
//! of their definition. What cannot be found is refused here, with its place in the text, unless
//! only the planner can know the name. After this pass names match exactly.

mod from;
mod output;
mod projection;
mod resolver;
mod tuple_in;
mod using;
mod windows;

pub use self::output::OutputNames;
pub use self::resolver::{FoundTable, Functions, resolve};
use self::resolver::{Resolver, function_name};
