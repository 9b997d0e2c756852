//! Properties of the server, which clients read before they use the server.

use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity,
    SqlSupportedGroupBy, SqlSupportedSubqueries, SqlSupportedTransaction, SqlSupportedUnions,
};
use tonic::Status;

use crate::grpc_status::internal;
use crate::jdbc_info;

/// Version of the Arrow columnar format and libraries.
const ARROW_VERSION: &str = arrow::ARROW_VERSION;

/// Names of functions, by the property that lists them.
const FUNCTIONS: [(SqlInfo, &[&str]); 4] = [
    (
        SqlInfo::SqlNumericFunctions,
        &["ABS", "CEIL", "EXP", "FLOOR", "LN", "LOG10", "MOD", "PI", "POWER", "ROUND", "SQRT"],
    ),
    (
        SqlInfo::SqlStringFunctions,
        &["ASCII", "CONCAT", "LEFT", "LENGTH", "LOWER", "LTRIM", "REPLACE", "RIGHT", "UPPER"],
    ),
    (SqlInfo::SqlSystemFunctions, &["COALESCE", "CURRENT_USER", "IFNULL", "VERSION"]),
    (
        SqlInfo::SqlDatetimeFunctions,
        &["CURRENT_DATE", "CURRENT_TIMESTAMP", "DATE_TRUNC", "EXTRACT", "NOW"],
    ),
];

/// Properties that are true or false.
const FLAGS: [(SqlInfo, bool); 18] = [
    (SqlInfo::FlightSqlServerReadOnly, false),
    (SqlInfo::FlightSqlServerSql, true),
    (SqlInfo::FlightSqlServerSubstrait, false),
    (SqlInfo::FlightSqlServerCancel, true),
    (SqlInfo::FlightSqlServerBulkIngestion, true),
    (SqlInfo::FlightSqlServerIngestTransactionsSupported, true),
    (SqlInfo::SqlDdlCatalog, false),
    (SqlInfo::SqlDdlSchema, true),
    (SqlInfo::SqlDdlTable, true),
    (SqlInfo::SqlAllTablesAreSelectable, true),
    (SqlInfo::SqlSupportsColumnAliasing, true),
    (SqlInfo::SqlNullPlusNullIsNull, true),
    (SqlInfo::SqlSupportsTableCorrelationNames, true),
    (SqlInfo::SqlSupportsDifferentTableCorrelationNames, false),
    (SqlInfo::SqlSupportsExpressionsInOrderBy, true),
    (SqlInfo::SqlSupportsNonNullableColumns, true),
    (SqlInfo::SqlSupportsLikeEscapeClause, true),
    (SqlInfo::SqlCorrelatedSubqueriesSupported, true),
];

/// Returns the properties of this server.
pub fn sql_info() -> Result<SqlInfoData, Status> {
    let mut builder = SqlInfoDataBuilder::new();
    builder.append(SqlInfo::FlightSqlServerName, "Headwater");
    builder.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    builder.append(SqlInfo::FlightSqlServerArrowVersion, ARROW_VERSION);
    builder.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::Savepoint as i32);
    // 0 means that there is no time limit for statements and transactions in use.
    builder.append(SqlInfo::FlightSqlServerStatementTimeout, 0);
    builder.append(SqlInfo::FlightSqlServerTransactionTimeout, 0);
    builder.append(
        SqlInfo::SqlIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32,
    );
    builder.append(
        SqlInfo::SqlQuotedIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32,
    );
    builder.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    builder.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
    builder.append(SqlInfo::SqlSearchStringEscape, "\\");
    builder.append(SqlInfo::SqlExtraNameCharacters, "");
    builder.append(SqlInfo::SqlSchemaTerm, "namespace");
    builder.append(SqlInfo::SqlCatalogTerm, "branch");
    builder.append(SqlInfo::SqlCatalogAtStart, true);
    builder.append(
        SqlInfo::SqlOuterJoinsSupportLevel,
        mask(&[SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32]),
    );
    builder.append(
        SqlInfo::SqlSupportedGroupBy,
        mask(&[
            SqlSupportedGroupBy::SqlGroupByUnrelated as i32,
            SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32,
        ]),
    );
    builder.append(
        SqlInfo::SqlSupportedSubqueries,
        mask(&[
            SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
            SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
            SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
            SqlSupportedSubqueries::SqlSubqueriesInQuantifieds as i32,
        ]),
    );
    builder.append(
        SqlInfo::SqlSupportedUnions,
        mask(&[SqlSupportedUnions::SqlUnion as i32, SqlSupportedUnions::SqlUnionAll as i32]),
    );
    for (name, functions) in FUNCTIONS {
        builder.append(name, functions);
    }
    for (name, flag) in FLAGS {
        builder.append(name, flag);
    }
    jdbc_info::append(&mut builder);
    builder.build().map_err(internal)
}

/// Returns the bit mask in which the bits with these numbers are set.
pub fn mask(bits: &[i32]) -> i32 {
    bits.iter().fold(0, |mask, bit| mask | (1 << bit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_encoded() {
        let info = sql_info().expect("properties");
        let one = info.record_batch([SqlInfo::FlightSqlServerName as u32]).expect("rows");
        assert_eq!(one.num_rows(), 1);
        let all = info.record_batch([]).expect("rows");
        assert!(all.num_rows() > 75, "{}", all.num_rows());
    }
}
