//! Lists the tables that a query refers to, without a catalog.

use headwater_model::RefSpec;

use crate::error::Result;
use crate::planner;
use headwater_sql::parse::parse;
use headwater_sql::table_name::WrittenTable;

/// A table reference in a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRef {
    /// Namespace, if one was written.
    pub namespace: Option<String>,
    /// Table name.
    pub name: String,
    /// Ref, if one was written: `"flights@dev"`.
    pub reference: Option<RefSpec>,
    /// Line of the first reference, from 1.
    pub line: u64,
    /// Column of the first reference, from 1.
    pub column: u64,
}

/// Returns the tables that a query refers to, without duplicates, in the order of the text. Common
/// table expressions are excluded, and so are tables at an earlier time or snapshot, because runs
/// cannot change them. Statements other than queries and unsupported clauses are errors.
pub fn parents(sql: &str) -> Result<Vec<TableRef>> {
    let source = parse(sql)?.into_query()?;
    let mut tables: Vec<TableRef> = Vec::new();
    let earlier = |table: &WrittenTable| table.back.is_some() || table.snapshot.is_some();
    let (_, mentions) = source.into_parts(&planner::version_constant)?;
    for mention in mentions.into_iter().filter(|mention| !earlier(&mention.table)) {
        let table = TableRef {
            namespace: mention.table.namespace,
            name: mention.table.name,
            reference: mention.table.reference,
            line: mention.position.map_or(1, |position| position.line),
            column: mention.position.map_or(1, |position| position.column),
        };
        let same = |other: &TableRef| {
            (&other.namespace, &other.name, &other.reference)
                == (&table.namespace, &table.name, &table.reference)
        };
        if !tables.iter().any(same) {
            tables.push(table);
        }
    }
    tables.sort_by_key(|table| (table.line, table.column));
    Ok(tables)
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
