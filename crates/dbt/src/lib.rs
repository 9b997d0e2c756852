//! Converts a dbt project to the files of a Headwater project.
//!
//! [`convert`] renders the templates of the models, and writes their settings and tests in
//! Headwater's form. Every part that cannot be converted is a [`ConversionNote`] with file and
//! reason. This crate runs nothing.

mod convert;
mod materialization;
mod project_file;
mod project_folder;
mod properties;
mod template;
mod test_conversion;

pub use convert::{ConversionNote, ConvertError, ConvertedProject, Seed, convert};
pub use project_folder::read;
