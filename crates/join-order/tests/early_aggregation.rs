//! Aggregation before a join: the plans that change, and rows that do not depend on the change.

mod tables;

use self::tables::{plan, rows};

/// Returns the number of aggregates in the optimized plan of a query.
async fn aggregates(sql: &str) -> usize {
    plan(sql).await.matches("Aggregate: ").count()
}

#[tokio::test]
async fn many_rows_of_few_keys_are_aggregated_before_the_join() {
    let changed = [
        "SELECT c1, count(*) FROM b JOIN c ON b0 = c0 GROUP BY c1",
        "SELECT c1, sum(b1) FROM c JOIN b ON b0 = c0 GROUP BY c1",
        "SELECT c1, min(b1), max(b2), avg(b1), count(b2) FROM b, c WHERE b0 = c0 GROUP BY c1",
        "SELECT c1, c2, avg(b1) FROM b JOIN c ON b0 = c0 GROUP BY ROLLUP (c1, c2)",
        // These arguments cannot fail.
        "SELECT c1, avg(CAST(b1 AS DOUBLE) + b2) FROM b JOIN c ON b0 = c0 GROUP BY c1",
        "SELECT c1, max(CASE WHEN b1 > 2 THEN b2 END) FROM b JOIN c ON b0 = c0 GROUP BY c1",
        "SELECT c1, sum(TRY_CAST(b1 AS INT)) FROM b JOIN c ON b0 = c0 GROUP BY c1",
        "SELECT c1, sum(TRY_CAST(b1 AS DECIMAL(7, 2)) / 2) FROM b JOIN c ON b0 = c0 GROUP BY c1",
    ];
    for sql in changed {
        assert_eq!(aggregates(sql).await, 2, "{}", plan(sql).await);
    }
}

#[tokio::test]
async fn other_aggregates_stay_after_the_join() {
    let kept = [
        // Nearly each row has its own key.
        "SELECT c1, count(*) FROM a JOIN c ON a0 = c0 GROUP BY c1, a1, a2",
        // The join removes most rows.
        "SELECT c1, count(*) FROM b JOIN c ON b0 = c0 WHERE c2 = 4 GROUP BY c1",
        // The results would differ.
        "SELECT c1, count(DISTINCT b1) FROM b JOIN c ON b0 = c0 GROUP BY c1",
        "SELECT c1, count(*) FILTER (WHERE b1 > 2) FROM b JOIN c ON b0 = c0 GROUP BY c1",
        "SELECT c1, array_agg(b1) FROM b JOIN c ON b0 = c0 GROUP BY c1",
        "SELECT c1, sum(b1 * 1000000000000) FROM b JOIN c ON b0 = c0 GROUP BY c1",
        "SELECT c1, sum(b1 + c2) FROM b JOIN c ON b0 = c0 GROUP BY c1",
        "SELECT c1, avg(random() * b1) FROM b JOIN c ON b0 = c0 GROUP BY c1",
        // A function that is evaluated for each joined row.
        "SELECT a1, count(*) FROM b JOIN a ON b0 = a1 AND random() < b1 + a2 GROUP BY a1",
        // An argument could fail for a row that the join removes.
        "SELECT c1, avg(b1 + b2) FROM b JOIN c ON b0 = c0 GROUP BY c1",
        "SELECT c1, max(CAST(b1 AS SMALLINT)) FROM b JOIN c ON b0 = c0 GROUP BY c1",
        "SELECT c1, max(TRY_CAST(b1 AS DECIMAL(7, 2)) / b2) FROM b JOIN c ON b0 = c0 GROUP BY c1",
        "SELECT c1, count(*) FROM b LEFT JOIN c ON b0 = c0 GROUP BY c1",
        // A small table.
        "SELECT c.c1, count(*) FROM c JOIN c AS d ON c.c0 = d.c0 GROUP BY c.c1",
    ];
    for sql in kept {
        let plan = plan(sql).await;
        assert!(!plan.contains("__partial"), "{sql}\n{plan}");
    }
}

#[tokio::test]
async fn rows_do_not_depend_on_the_order_of_aggregation() {
    let queries = [
        "SELECT c1, count(*), count(b2), sum(b1), min(b1), max(b2), avg(b1) FROM b, c
         WHERE b0 = c0 GROUP BY c1",
        "SELECT count(*) AS n, c1 FROM c JOIN b ON b0 = c0 GROUP BY c1 HAVING count(*) > 0",
        "SELECT c1, c2, avg(b1), count(*) FROM b JOIN c ON b0 = c0 GROUP BY ROLLUP (c1, c2)",
        "SELECT c1, c2, sum(b1), grouping(c1) FROM b JOIN c ON b0 = c0 GROUP BY CUBE (c1, c2)",
        "SELECT c1, b1, count(b2) FROM b JOIN c ON b0 = c0 GROUP BY GROUPING SETS ((c1), (b1), ())",
        "SELECT c1 + b1, count(*) FROM b JOIN c ON b0 = c0 AND b2 < c2 GROUP BY c1 + b1",
        "SELECT s.c1, s.n + 1 FROM (SELECT c1, count(*) AS n FROM b JOIN c ON b0 = c0 GROUP BY c1) s
         JOIN d ON s.c1 = d0 ORDER BY 1",
        "SELECT c1, sum(TRY_CAST(b1 AS INT)), sum(TRY_CAST(b2 AS DECIMAL(9, 2)) / 4) FROM b, c, d
         WHERE b0 = c0 AND b1 = d0 GROUP BY c1",
        "SELECT x.b1, avg(y.b2), min(y.b1) FROM b x JOIN b y ON x.b0 = y.b0 GROUP BY x.b1",
        "SELECT c1, count(b1), sum(b1) FROM b JOIN c ON b0 = c0 WHERE b1 IS NULL GROUP BY c1",
        "SELECT c1, count(*) FROM b JOIN c ON b0 = c0 AND b1 = c1 GROUP BY c1",
        "SELECT c1, avg(b1 + b2), max(b1 * 2) FROM b JOIN c ON b0 = c0 GROUP BY c1",
        // No row with `b1 = 0` is joined.
        "SELECT c1, max(10 / b1) FROM b JOIN c ON b1 = c1 GROUP BY c1",
        // Columns with names that the rule uses.
        "SELECT s.__partial_0, count(*) FROM b
         JOIN (SELECT c0, c1 AS __partial_0 FROM c) s ON b0 = c0 GROUP BY s.__partial_0",
        "SELECT s.__whole_0, count(*) FROM b
         JOIN (SELECT c0, c1 AS __whole_0 FROM c) s ON b0 = c0 GROUP BY s.__whole_0",
        // Aggregates that DataFusion itself replaces by two.
        "SELECT c1, count(DISTINCT b1) FROM b JOIN c ON b0 = c0 GROUP BY c1",
        "SELECT DISTINCT c1, b1 FROM b JOIN c ON b0 = c0",
        // The rule applies to both parts of a query.
        "SELECT x.c1, x.n, y.n FROM
         (SELECT c1, count(*) AS n FROM b JOIN c ON b0 = c0 GROUP BY c1) x JOIN
         (SELECT c1, max(b1) AS n FROM b JOIN c ON b0 = c0 GROUP BY c1) y ON x.c1 = y.c1",
        "SELECT c1, count(*) FROM b JOIN c ON b0 = c0 GROUP BY c1
         UNION ALL SELECT c2, sum(b1) FROM b JOIN c ON b0 = c0 GROUP BY c2",
        "SELECT d1, sum(n) FROM d
         JOIN (SELECT c1, count(*) AS n FROM b JOIN c ON b0 = c0 GROUP BY c1) s ON d0 = s.c1
         GROUP BY d1",
    ];
    for sql in queries {
        let (expected, found) = (rows(sql, false).await, rows(sql, true).await);
        assert!(expected.lines().count() > 4, "no rows to compare: {sql}");
        assert_eq!(expected, found, "{sql}");
    }
}
