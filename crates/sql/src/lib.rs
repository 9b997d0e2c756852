//! Converts SQL text to checked statements: one dialect, parameters, rejection of unsupported
//! clauses, and resolution of names against the caller's tables.
//!
//! [`PreparedStatement`] is a parsed statement, and [`statement::SupportedStatement`] is a checked
//! statement. The error for an unsupported clause contains the name of the clause. This crate does
//! not read the lake and does not plan.

mod access_statement;
pub mod alter_table;
mod array_text;
pub mod ast_builders;
mod called_functions;
pub mod change;
mod condition_text;
mod copy_to;
pub mod create_table;
pub mod create_view;
pub mod data_type;
pub mod debug_text_detection;
mod dialect;
mod error;
pub mod explain;
pub mod expression;
pub mod expression_rewrite;
mod file_functions;
mod foreign_clauses;
mod foreign_operators;
pub mod function_statement;
pub mod insert;
mod interval_product;
mod interval_text;
pub mod name_match;
pub mod number_literal;
mod parameters;
pub mod parse;
pub mod partition_field;
mod prepared_statement;
mod radix_literal;
mod referenced_tables;
mod restriction_statement;
mod sequence_column;
pub mod statement;
mod syntax_hint;
pub mod table_name;
pub mod table_references;
pub mod time_travel;
pub mod unsupported_clauses;
mod upsert;
pub mod values_subqueries;

pub use access_statement::AccessStatement;
pub use array_text::array_elements;
pub use called_functions::{CalledFunction, called_functions};
pub use condition_text::check_condition;
pub use copy_to::CopyToStatement;
pub use error::{Error, Position, PositionSuffix, Result};
pub use file_functions::FileCall;
pub use headwater_sql_tokens::is_keyword;
pub use parameters::{Parameter, Parameters, placeholders};
pub use prepared_statement::{IntoStatement, PreparedStatement, split_script};
pub use referenced_tables::{QueryReferences, TableRef, parents, references};
pub use restriction_statement::RestrictionStatement;
pub use upsert::name_new_rows;
