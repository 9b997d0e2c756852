//! Unit tests of models and expectations: a test gives the input rows and the expected rows.

mod compare;
mod given_rows;
mod test_runner;
