//! Numbers of bytes as text: `format_bytes` of DuckDB and `pg_size_pretty` of PostgreSQL.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::logical_expr::ScalarUDF;

use crate::scalar_function::function;

/// Returns the functions `format_bytes` and `pg_size_pretty`.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let arguments = || vec![DataType::Int64];
    vec![
        function("format_bytes", arguments(), DataType::Utf8, |values| Ok(texts(values, duckdb))),
        function("pg_size_pretty", arguments(), DataType::Utf8, |values| {
            Ok(texts(values, postgres))
        }),
    ]
}

fn texts(values: &[ArrayRef], text: fn(i64) -> String) -> ArrayRef {
    let values = values[0].as_primitive::<Int64Type>().iter();
    Arc::new(values.map(|bytes| bytes.map(text)).collect::<StringArray>())
}

/// Formats a size as DuckDB does: one decimal place, rounded down, in powers of 1024.
fn duckdb(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let size = bytes.unsigned_abs();
    let sign = if bytes < 0 { "-" } else { "" };
    if size < 1024 {
        return format!("{sign}{size} {}", if size == 1 { "byte" } else { "bytes" });
    }
    let power = (size.ilog2() / 10) as usize;
    // Compute the tenths with 128 bits, because ten times the size may exceed 64 bits.
    let unit = 1_u64 << (10 * power);
    let tenths = u128::from(size) * 10 / u128::from(unit);
    format!("{sign}{}.{} {}", tenths / 10, tenths % 10, UNITS[power - 1])
}

/// Formats a size as PostgreSQL does: a whole number below 10,240 with a unit, rounded half away
/// from zero.
fn postgres(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let (mut size, mut unit) = (bytes.unsigned_abs(), 0);
    let sign = if bytes < 0 { "-" } else { "" };
    if size < 10_240 {
        return format!("{sign}{size} {}", UNITS[0]);
    }
    // Divide by 512 instead of 1024. The additional binary digit is used to round the result.
    size >>= 9;
    unit += 1;
    while size >= 2 * 10_240 - 1 && unit < UNITS.len() - 1 {
        size >>= 10;
        unit += 1;
    }
    format!("{sign}{} {}", size.div_ceil(2), UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_units_of_their_system() {
        for (bytes, text) in [(0, "0 bytes"), (1, "1 byte"), (1_234_567, "1.1 MiB")] {
            assert_eq!(duckdb(bytes), text);
        }
        for (bytes, text) in [
            (10_239, "10239 bytes"),
            (10_240, "10 kB"),
            (1_234_567, "1206 kB"),
            (-123_456_789, "-118 MB"),
        ] {
            assert_eq!(postgres(bytes), text);
        }
    }
}
