//! Functions that return `BIGINT` instead of DataFusion's unsigned numbers.
//!
//! Iceberg has no unsigned types: an unsigned 64-bit column becomes `decimal(20, 0)`, and text in
//! JSON. [`register`] wraps each function of DataFusion that returns unsigned numbers for signed
//! arguments. A test checks the registry for functions that are not wrapped.
//!
//! Upstream: no issue found (November 2026)

mod aggregate;
mod register;
mod scalar;
mod window;

pub(crate) use self::register::register;
use self::register::{signed, signed_field};
