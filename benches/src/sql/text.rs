//! Changes to the text of queries, so that all engines accept them.

/// Returns a query without its last LIMIT and OFFSET.
pub fn without_limit(sql: &str) -> &str {
    sql.rfind(" limit ").map_or(sql, |at| &sql[..at])
}

/// Returns SQL with lower-case names; quoted texts stay as they are.
pub fn lower_case(sql: &str) -> String {
    let part = |(index, part): (usize, &str)| {
        if index % 2 == 0 { part.to_lowercase() } else { part.to_owned() }
    };
    sql.split('\'').enumerate().map(part).collect::<Vec<_>>().join("'")
}

/// Returns a query without a final semicolon.
pub fn without_semicolon(sql: &str) -> String {
    sql.trim().trim_end_matches(';').to_owned()
}
