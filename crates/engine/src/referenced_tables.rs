//! Lists the tables that a query refers to, without a catalog.

use headwater_sql::TableRef;

use crate::error::Result;
use crate::planner;

/// Returns the tables that a query refers to, as [`headwater_sql::parents`] does.
pub fn parents(sql: &str) -> Result<Vec<TableRef>> {
    Ok(headwater_sql::parents(sql, &planner::version_constant)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expected: &[&str]) {
        let shown: Vec<String> = match parents(sql) {
            Ok(tables) => tables
                .iter()
                .map(|table| {
                    let namespace = table.namespace.as_ref().map(|n| format!("{n}."));
                    let reference = table.reference.as_ref().map(|r| format!("@{r}"));
                    let (before, after) =
                        (namespace.unwrap_or_default(), reference.unwrap_or_default());
                    format!("{before}{}{after}:{}", table.name, table.line)
                })
                .collect(),
            Err(error) => vec![error.to_string()],
        };
        assert_eq!(shown, expected, "`{sql}`");
    }

    #[test]
    fn every_table_of_a_query_is_found_wherever_it_stands() {
        check("SELECT 1", &[]);
        check("SELECT * FROM a, ns.b JOIN \"c@dev\" ON true", &["a:1", "ns.b:1", "c@dev:1"]);
        check(
            "SELECT (SELECT max(x) FROM a)\nFROM b\nWHERE y IN (SELECT y FROM c)\n\
             AND EXISTS (SELECT 1 FROM d) ORDER BY (SELECT 1 FROM e)",
            &["a:1", "b:2", "c:3", "d:4", "e:4"],
        );
        check("SELECT * FROM a UNION ALL SELECT * FROM b", &["a:1", "b:1"]);
        check("SELECT * FROM generate_series(1, 3), unnest([1, 2])", &[]);
        check("FROM a", &["a:1"]);
        check("FROM a AT BRANCH dev, \"b~1\", c FOR VERSION AS OF 7", &["a@dev:1"]);
    }

    #[test]
    fn common_table_expressions_are_left_out_where_they_are_visible() {
        check("WITH a AS (SELECT * FROM a) SELECT * FROM A", &["a:1"]);
        check("WITH x AS (SELECT * FROM t), y AS (SELECT * FROM x) SELECT * FROM y", &["t:1"]);
        check("SELECT * FROM (WITH x AS (SELECT 1) SELECT * FROM x) JOIN x ON true", &["x:1"]);
        check(
            "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3)\n\
             SELECT * FROM n, t",
            &["t:2"],
        );
    }

    #[test]
    fn what_is_no_query_is_refused_by_name() {
        check("DROP TABLE a", &["DROP TABLE here is not supported"]);
        check("DELETE FROM a", &["DELETE here is not supported"]);
    }
}
