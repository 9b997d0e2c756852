//! Merges of branches that share files which an earlier merge brought to one of them.

use headwater_model::{CreateRef, MergeOutcome, MergeRequest};
use serde_json::{Value, json};

use crate::changes::{Step, make};
use crate::support::{Fixture, name};

fn step(text: Value) -> Step {
    serde_json::from_value(text).unwrap()
}

async fn merge(lake: &Fixture, target: &str, source: &str) {
    let request = MergeRequest::new(source.parse().unwrap());
    let report = lake.lake.merge(target, request, "eva").await.unwrap();
    assert_eq!(report.outcome, MergeOutcome::Merged, "{report:?}");
}

async fn ids(lake: &Fixture, branch: &str) -> Vec<i64> {
    let rows = lake.rows_at(branch, "t").await;
    let mut ids: Vec<i64> = rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn deletes_of_rows_in_a_merged_file_are_kept() {
    let formats = [(false, "2"), (true, "2"), (true, "3")];
    let directions = [("dev", "main"), ("main", "dev")];
    for ((on_read, version), (target, source)) in
        formats.into_iter().flat_map(|format| directions.map(|direction| (format, direction)))
    {
        let mut lake = Fixture::with(|_| ()).await;
        (lake.on_read, lake.version) = (on_read, version);
        let new = json!({"create": {"columns": [{"id": "long"}], "files": [[[1], [2]]]}});
        make(&lake, "main", "dev", &name("t"), &step(new)).await;
        let request = CreateRef { name: "dev".into(), from: None, if_not_exists: false };
        lake.lake.catalog().create_branch(request).await.unwrap();
        make(&lake, "main", "dev", &name("t"), &step(json!({"append": [[3], [4], [5]]}))).await;
        make(&lake, "dev", "main", &name("t"), &step(json!({"append": [[6]]}))).await;
        merge(&lake, "dev", "main").await;
        make(&lake, "main", "dev", &name("t"), &step(json!({"delete": {"id": 3}}))).await;
        make(&lake, "dev", "main", &name("t"), &step(json!({"delete": {"id": 4}}))).await;
        merge(&lake, target, source).await;
        let found = ids(&lake, target).await;
        assert_eq!(found, [1, 2, 5, 6], "into {target}, on read {on_read}, version {version}");
    }
}
