//! Unit tests of models and expectations: given rows, the code, and the expected rows.

mod compare;
mod definition;
mod rows;
mod test_runner;
