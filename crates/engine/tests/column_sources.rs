//! Column lineage of queries.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::Field;
use headwater_engine::{ColumnSource, Engine, EngineOptions, SessionOptions};
use headwater_lake::Lake;

#[tokio::test]
async fn the_columns_of_a_query_have_their_sources() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open_local(&folder.path().join(".headwater")).await.unwrap();
    let spill_dir = folder.path().join("spill");
    let options = EngineOptions { spill_dir, threads: 2, ..EngineOptions::default() };
    let engine = Engine::new(lake, options).unwrap();
    let session = engine.session(SessionOptions::default()).unwrap();
    session.execute("CREATE TABLE t AS SELECT 1 AS a, 2 AS b, 'x' AS \"C d\"").await.unwrap();
    session.execute("CREATE TABLE u AS SELECT 1 AS a, 3 AS e").await.unwrap();
    session.execute("CREATE VIEW w AS SELECT a + b AS sum FROM t").await.unwrap();
    for (sql, expected) in [
        (
            "SELECT a, a + b AS s, 1 AS one FROM t WHERE \"C d\" = 'x' ORDER BY b",
            "a<public.t.a s<public.t.a,public.t.b one<",
        ),
        (
            "SELECT x.*, e FROM t AS x JOIN u ON x.a = u.a",
            "a<public.t.a b<public.t.b C d<public.t.C d e<public.u.e",
        ),
        ("SELECT a, sum(b) AS n, count(*) AS c FROM t GROUP BY a", "a<public.t.a n<public.t.b c<"),
        ("SELECT a FROM t UNION ALL SELECT e FROM u", "a<public.t.a,public.u.e"),
        (
            "WITH q AS (SELECT b AS z FROM t) SELECT z, (SELECT max(e) FROM u) AS m FROM q",
            "z<public.t.b m<public.u.e",
        ),
        (
            "SELECT row_number() OVER (PARTITION BY a ORDER BY b) AS r, b FROM t",
            "r<public.t.a,public.t.b b<public.t.b",
        ),
        ("SELECT sum FROM w", "sum<public.t.a,public.t.b"),
        ("SELECT unnest([a, b]) AS x FROM t", "unknown"),
    ] {
        let columns = session.columns_of(sql).await.unwrap();
        let shown = match columns.sources {
            None => "unknown".to_owned(),
            Some(sources) => {
                let column = |(field, sources): (&Arc<Field>, _)| {
                    let sources: &BTreeSet<ColumnSource> = sources;
                    let names = sources.iter().map(|(table, column)| format!("{table}.{column}"));
                    format!("{}<{}", field.name(), names.collect::<Vec<_>>().join(","))
                };
                let columns = columns.schema.fields().iter().zip(&sources).map(column);
                columns.collect::<Vec<_>>().join(" ")
            }
        };
        assert_eq!(shown, expected, "{sql}");
    }
}
