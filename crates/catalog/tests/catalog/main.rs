//! Tests of the catalog: examples, comparison with a model, concurrent writers, and fault
//! injection.

mod criss_cross;
mod faults;
mod functions;
mod history;
mod machine;
mod merging;
mod refs;
mod size;
mod support;
mod writers;
