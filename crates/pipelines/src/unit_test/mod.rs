//! Unit tests of models and expectations: a test gives the input rows and the expected rows.

mod compare;
mod rows;
mod test_runner;
