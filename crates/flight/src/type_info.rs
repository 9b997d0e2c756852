//! The types of columns, for drivers of JDBC and ODBC.

use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, XdbcDataType};
use tonic::Status;

use crate::grpc_status::internal;

/// A type: its name, its number, its size in digits or characters, and the quote of its literals.
type TypeInfoRow = (&'static str, XdbcDataType, Option<i32>, Option<&'static str>);

/// The types that a column can have.
const TYPES: [TypeInfoRow; 15] = [
    ("BOOLEAN", XdbcDataType::XdbcBit, Some(1), None),
    ("TINYINT", XdbcDataType::XdbcTinyint, Some(3), None),
    ("SMALLINT", XdbcDataType::XdbcSmallint, Some(5), None),
    ("INT", XdbcDataType::XdbcInteger, Some(10), None),
    ("BIGINT", XdbcDataType::XdbcBigint, Some(19), None),
    ("REAL", XdbcDataType::XdbcReal, Some(7), None),
    ("DOUBLE", XdbcDataType::XdbcDouble, Some(15), None),
    ("DECIMAL", XdbcDataType::XdbcDecimal, Some(38), None),
    ("VARCHAR", XdbcDataType::XdbcVarchar, None, Some("'")),
    ("UUID", XdbcDataType::XdbcChar, Some(36), Some("'")),
    ("BYTEA", XdbcDataType::XdbcVarbinary, None, Some("'")),
    ("DATE", XdbcDataType::XdbcDate, Some(10), Some("'")),
    ("TIME", XdbcDataType::XdbcTime, Some(15), Some("'")),
    ("TIMESTAMP", XdbcDataType::XdbcTimestamp, Some(26), Some("'")),
    ("TIMESTAMP WITH TIME ZONE", XdbcDataType::XdbcTimestamp, Some(32), Some("'")),
];

/// Returns the types.
pub fn type_info() -> Result<XdbcTypeInfoData, Status> {
    let mut builder = XdbcTypeInfoDataBuilder::new();
    for (name, data_type, size, quote) in TYPES {
        let is_decimal = data_type == XdbcDataType::XdbcDecimal;
        let is_text = data_type == XdbcDataType::XdbcVarchar;
        builder.append(XdbcTypeInfo {
            type_name: name.to_owned(),
            data_type,
            column_size: size,
            literal_prefix: quote.map(str::to_owned),
            literal_suffix: quote.map(str::to_owned),
            create_params: is_decimal.then(|| vec!["precision".to_owned(), "scale".to_owned()]),
            nullable: Nullable::NullabilityNullable,
            case_sensitive: is_text,
            searchable: Searchable::Full,
            unsigned_attribute: quote.is_none().then_some(false),
            fixed_prec_scale: false,
            auto_increment: Some(false),
            local_type_name: Some(name.to_owned()),
            minimum_scale: is_decimal.then_some(0),
            maximum_scale: is_decimal.then_some(38),
            sql_data_type: data_type,
            datetime_subcode: None,
            num_prec_radix: quote.is_none().then_some(10),
            interval_precision: None,
        });
    }
    builder.build().map_err(internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_filtered_by_their_number() {
        let info = type_info().expect("types");
        assert_eq!(info.record_batch(None::<i32>).expect("rows").num_rows(), TYPES.len());
        let timestamps = info.record_batch(XdbcDataType::XdbcTimestamp as i32).expect("rows");
        assert_eq!(timestamps.num_rows(), 2);
    }
}
