//! Properties that describe the server to applications of JDBC. The JDBC driver fails if it reads a
//! property that the server does not return.

use std::collections::BTreeMap;

use arrow_flight::sql::metadata::SqlInfoDataBuilder;
use arrow_flight::sql::{
    SqlInfo, SqlSupportedResultSetType, SqlTransactionIsolationLevel, SupportedSqlGrammar,
};

use crate::sql_info::mask;

/// Properties of the server that are true or false.
const FLAGS: [(SqlInfo, bool); 13] = [
    (SqlInfo::SqlSupportsOrderByUnrelated, true),
    (SqlInfo::SqlSupportsIntegrityEnhancementFacility, false),
    (SqlInfo::SqlSelectForUpdateSupported, false),
    (SqlInfo::SqlStoredProceduresSupported, false),
    (SqlInfo::SqlMaxRowSizeIncludesBlobs, true),
    // False, because the JDBC driver ignores COMMIT and ROLLBACK. Only this driver reads this
    // property; all other clients read `FlightSqlServerTransaction`.
    (SqlInfo::SqlTransactionsSupported, false),
    (SqlInfo::SqlSavepointsSupported, false),
    (SqlInfo::SqlDataDefinitionCausesTransactionCommit, false),
    (SqlInfo::SqlDataDefinitionsInTransactionsIgnored, false),
    (SqlInfo::SqlBatchUpdatesSupported, true),
    (SqlInfo::SqlNamedParametersSupported, false),
    (SqlInfo::SqlLocatorsUpdateCopy, false),
    (SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported, false),
];

/// Limits. The value of each is 0: the limit is unknown or absent.
const LIMITS: [SqlInfo; 20] = [
    SqlInfo::SqlMaxBinaryLiteralLength,
    SqlInfo::SqlMaxCharLiteralLength,
    SqlInfo::SqlMaxColumnNameLength,
    SqlInfo::SqlMaxColumnsInGroupBy,
    SqlInfo::SqlMaxColumnsInIndex,
    SqlInfo::SqlMaxColumnsInOrderBy,
    SqlInfo::SqlMaxColumnsInSelect,
    SqlInfo::SqlMaxColumnsInTable,
    SqlInfo::SqlMaxConnections,
    SqlInfo::SqlMaxCursorNameLength,
    SqlInfo::SqlMaxIndexLength,
    SqlInfo::SqlDbSchemaNameLength,
    SqlInfo::SqlMaxProcedureNameLength,
    SqlInfo::SqlMaxCatalogNameLength,
    SqlInfo::SqlMaxRowSize,
    SqlInfo::SqlMaxStatementLength,
    SqlInfo::SqlMaxStatements,
    SqlInfo::SqlMaxTableNameLength,
    SqlInfo::SqlMaxTablesInSelect,
    SqlInfo::SqlMaxUsernameLength,
];

/// Properties that are sets of features, none of which the server has.
const NOTHING: [SqlInfo; 3] = [
    SqlInfo::SqlSchemasSupportedActions,
    SqlInfo::SqlCatalogsSupportedActions,
    SqlInfo::SqlSupportedPositionedCommands,
];

/// The entry level of the standard SQL-92, which the crate `arrow-flight` does not export.
const ANSI92_ENTRY_SQL: i32 = 0;

/// Adds the properties in this file to the server's properties.
pub fn append(builder: &mut SqlInfoDataBuilder) {
    for (name, flag) in FLAGS {
        builder.append(name, flag);
    }
    for name in LIMITS {
        builder.append(name, 0_i64);
    }
    for name in NOTHING {
        builder.append(name, 0_i32);
    }
    builder.append(SqlInfo::SqlKeywords, Vec::<String>::new());
    builder.append(SqlInfo::SqlProcedureTerm, "function");
    builder.append(SqlInfo::SqlSupportsConvert, BTreeMap::<i32, Vec<i32>>::new());
    builder.append(
        SqlInfo::SqlSupportedGrammar,
        mask(&[
            SupportedSqlGrammar::SqlMinimumGrammar as i32,
            SupportedSqlGrammar::SqlCoreGrammar as i32,
        ]),
    );
    builder.append(SqlInfo::SqlAnsi92SupportedLevel, mask(&[ANSI92_ENTRY_SQL]));
    let repeatable_read = SqlTransactionIsolationLevel::SqlTransactionRepeatableRead as i32;
    builder.append(SqlInfo::SqlDefaultTransactionIsolation, i64::from(repeatable_read));
    builder.append(SqlInfo::SqlSupportedTransactionsIsolationLevels, mask(&[repeatable_read]));
    builder.append(
        SqlInfo::SqlSupportedResultSetTypes,
        mask(&[SqlSupportedResultSetType::SqlResultSetTypeForwardOnly as i32]),
    );
}
