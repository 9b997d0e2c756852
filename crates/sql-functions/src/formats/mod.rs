//! `to_char` and `date_format`: times as text.
//!
//! DataFusion's functions support only chrono's patterns and copy all other letters. In this
//! module, a format with a `%` is a chrono pattern. In all other formats, `to_char` supports
//! PostgreSQL's template patterns, and `date_format` Spark's pattern letters. Any other letter is
//! an error.
//!
//! [`DateTimeFormat`] is a compiled format, [`DateTimeValue`] a value to format.
//!
//! Upstream: no issue found (November 2026)

mod field;
mod format;
mod function;
mod postgres;
mod spark;

pub(crate) use self::format::functions;
use self::format::{DateTimeFormat, DateTimeValue, FormatPart, FormatStyle, cased};
