//! COPY … TO a file.

use headwater_sql::PreparedStatement;

fn check(sql: &str, expected: &str) {
    let copied = PreparedStatement::parse(sql).and_then(|prepared| prepared.copy_to());
    let shown = match copied {
        Ok(Some((query, file))) => format!("{query}; {}; {:?}", file.location, file.format),
        Ok(None) => "another statement".to_owned(),
        Err(error) => error.to_string(),
    };
    assert!(shown.contains(expected), "`{sql}`: {shown}");
}

#[test]
fn the_format_is_named_or_that_of_the_suffix() {
    for (sql, expected) in [
        ("COPY (SELECT 1 AS a) TO 'a.parquet'", "SELECT 1 AS a; a.parquet; Parquet"),
        ("copy sales.orders to '/tmp/a.CSV'", "SELECT * FROM sales.orders; /tmp/a.CSV; Csv"),
        ("COPY t (a, \"B c\") TO 'a.jsonl'", "SELECT a, \"B c\" FROM t; a.jsonl; Ndjson"),
        ("COPY t TO 's3://bucket/a.arrow'", "s3://bucket/a.arrow; Arrow"),
        ("COPY t TO 'a' (FORMAT parquet)", "a; Parquet"),
        ("COPY t TO 'a.csv' WITH (FORMAT 'json')", "a.csv; Ndjson"),
        ("COPY t TO 'a.csv' (FORMAT csv, HEADER, DELIMITER ',')", "a.csv; Csv"),
        ("COPY t TO STDOUT", "another statement"),
        ("COPY t FROM 'a.csv'", "another statement"),
        ("SELECT 1", "another statement"),
        ("COPY t TO 'a'", "the file name `a` has no suffix of a known format"),
        ("COPY t TO 'a.csv.gz'", "has no suffix of a known format"),
        ("COPY t TO 'a' (FORMAT binary)", "the format `binary` of COPY is not supported"),
        ("COPY t TO 'a.csv' (HEADER FALSE)", "the option `HEADER FALSE` of COPY"),
        ("COPY t TO 'a.csv' (DELIMITER ';')", "the option `DELIMITER ';'` of COPY"),
        ("COPY t TO 'a.csv' CSV", "the option `CSV` of COPY is not supported"),
    ] {
        check(sql, expected);
    }
}
