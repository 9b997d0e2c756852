//! Reordered joins: the chosen order, and rows that do not depend on it.

mod tables;

use self::tables::{plan, rows};

#[tokio::test]
async fn a_selective_table_is_joined_before_a_large_one() {
    let sql = "SELECT a1, b1, c2 FROM a JOIN b ON a0 = b0 JOIN c ON a1 = c1 WHERE c0 = 4";
    let plan = plan(sql).await;
    let position = |table: &str| plan.find(&format!("TableScan: {table} ")).expect("a scan");
    let joins: Vec<&str> = plan.lines().filter(|line| line.contains("Inner Join")).collect();
    assert_eq!(joins.len(), 2, "{plan}");
    assert!(joins[1].contains("a1 = c.c1") || joins[1].contains("c1 = a.a1"), "{plan}");
    assert!(position("c").max(position("a")) < position("b") || joins[0].contains("b0"), "{plan}");
}

#[tokio::test]
async fn a_condition_without_columns_does_not_change_the_order() {
    let constants = "'r' AS r, 's' AS s, 't' AS t";
    let branch = format!("SELECT a2, {constants} FROM d, a, c WHERE d0 = a0 AND a1 = c1");
    let sql = format!(
        "SELECT a2 FROM ({branch} UNION ALL {branch}) WHERE r = 'r' AND s = 's' AND t = 't'"
    );
    let joins = |plan: &str| {
        let lines = plan.lines().map(str::trim).filter(|line| line.starts_with("Inner Join"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let (filtered, plain) = (plan(&sql).await, plan(&format!("{branch} UNION ALL {branch}")).await);
    assert_eq!(joins(&filtered), joins(&plain), "{filtered}");
}

#[tokio::test]
async fn a_good_join_order_is_kept() {
    let sql = "SELECT a2 FROM c JOIN a ON a1 = c1 JOIN b ON a0 = b0 WHERE c0 = 4";
    let plan = plan(sql).await;
    let scans: Vec<&str> =
        plan.lines().filter_map(|line| line.trim().strip_prefix("TableScan: ")).collect();
    let names: Vec<&str> = scans.iter().filter_map(|scan| scan.get(..1)).collect();
    assert_eq!(names, ["c", "a", "b"], "{plan}");
}

#[tokio::test]
async fn rows_do_not_depend_on_the_order() {
    let queries = [
        "SELECT * FROM a JOIN b ON a0 = b0 JOIN c ON a1 = c1",
        "SELECT * FROM a, b, c WHERE a0 = b0 AND a1 = c1 AND c0 = 4",
        "SELECT * FROM a, b, c, d WHERE a0 = b0 AND b1 = c1 AND c2 = d0 AND a2 < d1",
        "SELECT a0, d2 FROM a, b, c, d WHERE a0 = b0 AND b1 = c1 + 1 AND c2 = d0 AND a1 + b1 > d1",
        "SELECT count(*) FROM a, b, c WHERE a0 = b0 AND c0 > 3",
        "SELECT * FROM a JOIN b ON a0 = b0 AND a1 = b1 JOIN c ON c0 = b2 AND c0 <> a2",
        "SELECT x.a0, y.a1 FROM a x, a y, b, c WHERE x.a0 = y.a1 AND y.a2 = b0 AND b1 = c0",
        "SELECT * FROM a JOIN b ON a0 = b0 JOIN c ON a1 = c1 LEFT JOIN d ON d0 = c0 WHERE c1 < 5",
        "SELECT * FROM (SELECT a0, b1 FROM a, b, c WHERE a0 = b0 AND b1 = c0) s, d, c
         WHERE s.a0 = d0 AND s.b1 = c1",
        "SELECT * FROM a, b, c WHERE a0 = b0 AND b1 = c1 AND a0 IN (SELECT d0 FROM d WHERE d1 > 2)",
        "SELECT a0 FROM a, b, c WHERE a0 = b0 AND b1 = c1 AND NOT EXISTS
         (SELECT 1 FROM d WHERE d0 = a1 AND d1 = c0)",
        "SELECT a0, sum(b1) FROM a, b, c WHERE a0 = b0 AND b1 = c1 GROUP BY a0 HAVING sum(b1) > 3",
        "SELECT * FROM a, b, c, d WHERE a0 = b0 AND (c0 = 1 OR d0 = b1) AND c1 = d1",
        "SELECT * FROM a, b, c WHERE b1 = c1 AND a1 = c0 AND (a0 IS NOT DISTINCT FROM b0)",
    ];
    for sql in queries {
        let (expected, found) = (rows(sql, false).await, rows(sql, true).await);
        assert!(expected.lines().count() > 4, "no rows to compare: {sql}");
        assert_eq!(expected, found, "{sql}");
    }
}
