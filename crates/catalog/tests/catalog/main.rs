//! What the catalog promises: to a person, to a machine that compares it with a plain map, to writers that
//! come at once, and after a store that failed at any call.

mod crosswise;
mod faults;
mod history;
mod machine;
mod merging;
mod refs;
mod size;
mod support;
mod writers;
