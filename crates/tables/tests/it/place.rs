//! Locations that are given: one table, or view, lies at each.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_tables::{NewTable, NewView, Operation, TableCommit, ViewCommit};
use serde_json::{Value, json};

use crate::fixture::Warehouse;

fn schema() -> Value {
    let fields = json!([{"id": 1, "name": "id", "required": false, "type": "long"}]);
    json!({"type": "struct", "schema-id": 0, "fields": fields})
}

fn new_view(location: Option<&str>) -> NewView {
    let version = json!({
        "version-id": 1, "schema-id": 0, "timestamp-ms": 0, "summary": {},
        "default-namespace": ["public"],
        "representations": [{"type": "sql", "sql": "SELECT 1 AS id", "dialect": "headwater"}],
    });
    let view = json!({
        "name": "v", "location": location, "schema": schema(), "view-version": version,
        "properties": {},
    });
    serde_json::from_value(view).unwrap()
}

#[tokio::test]
async fn a_location_is_one_tables_whoever_asks_for_it_at_the_same_time() {
    let warehouse = Warehouse::new();
    let tables = &warehouse.tables;
    let name = "t".parse().unwrap();
    for number in 0..5 {
        let one = warehouse.create(&[("id", "long")], &[]).await;
        let other = warehouse.create(&[("id", "long")], &[]).await;
        let view = tables.create_new_view(&name, new_view(None)).await.unwrap();
        let place = format!("{}/given/{number}", tables.root_url());
        let set = json!({"action": "set-location", "location": place});
        let set = json!({"requirements": [], "updates": [set]});
        let commit: TableCommit = serde_json::from_value(set.clone()).unwrap();
        let apply = || Operation::Apply(Arc::new(commit.clone()));
        let of_view: ViewCommit = serde_json::from_value(set).unwrap();
        let new = json!({"name": "t", "location": place, "schema": schema()});
        let new: NewTable = serde_json::from_value(new).unwrap();
        let asked = tokio::join!(
            tables.commit(&one, apply(), BTreeMap::new()),
            tables.commit(&other, apply(), BTreeMap::new()),
            tables.create_new(&name, new),
            tables.apply_view(&view, &of_view),
            tables.create_new_view(&name, new_view(Some(&place))),
        );
        let made =
            [asked.0.is_ok(), asked.1.is_ok(), asked.2.is_ok(), asked.3.is_ok(), asked.4.is_ok()];
        assert_eq!(made.iter().filter(|made| **made).count(), 1, "{made:?}");
    }
}
