//! `to_char` and `date_format`: times as text.
//!
//! DataFusion's functions take the patterns of chrono alone, and copy every other letter. Here a
//! format with a `%` is one of chrono's. Otherwise `to_char` takes the template patterns of
//! PostgreSQL, and `date_format` the pattern letters of Spark. A letter that is none of them is an
//! error. [`Format`] is a compiled format; [`Moment`] is a value that it writes.
//!
//! Upstream: no issue found (November 2026)

mod field;
mod format;
mod function;
mod postgres;
mod spark;

pub(crate) use self::format::functions;
use self::format::{Format, Moment, Part, Style, cased};
