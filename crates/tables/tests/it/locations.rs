//! Locations set by clients. At most one table or view uses each location.

use headwater_table_rest::{NewTable, NewView, RestTables, TableCommit, ViewCommit};
use headwater_tables::Table;
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
async fn concurrent_requests_cannot_share_a_location() {
    let warehouse = Warehouse::new();
    let tables = &warehouse.tables;
    let name = "t".parse().unwrap();
    for number in 0..5 {
        let one = warehouse.create(&[("id", "long")], &[]).await;
        let other = warehouse.create(&[("id", "long")], &[]).await;
        let view = RestTables::new(tables).create_view(&name, new_view(None)).await.unwrap();
        let place = format!("{}/given/{number}", tables.root_url());
        let set = json!({"action": "set-location", "location": place});
        let set = json!({"requirements": [], "updates": [set]});
        let commit: TableCommit = serde_json::from_value(set.clone()).unwrap();
        let rest = RestTables::new(tables);
        let of_view: ViewCommit = serde_json::from_value(set).unwrap();
        let new = json!({"name": "t", "location": place, "schema": schema()});
        let new: NewTable = serde_json::from_value(new).unwrap();
        let asked = tokio::join!(
            warehouse.apply(&one, &commit),
            warehouse.apply(&other, &commit),
            rest.create_new(&name, new),
            rest.apply_view(&view, &of_view),
            rest.create_view(&name, new_view(Some(&place))),
        );
        let made =
            [asked.0.is_ok(), asked.1.is_ok(), asked.2.is_ok(), asked.3.is_ok(), asked.4.is_ok()];
        assert_eq!(made.iter().filter(|made| **made).count(), 1, "{made:?}");
    }
}

#[tokio::test]
async fn a_table_can_be_moved_again_after_a_failed_move() {
    let warehouse = Warehouse::new();
    let tables = &warehouse.tables;
    let table = warehouse.create(&[("id", "long")], &[]).await;
    let other = warehouse.create(&[("id", "long")], &[]).await;
    let before = table.location().to_owned();
    let place = format!("{}/given/1", tables.root_url());
    let moved_to = |place: &str| {
        let set = json!({"action": "set-location", "location": place});
        let set = json!({"requirements": [], "updates": [set]});
        serde_json::from_value::<TableCommit>(set).unwrap()
    };
    let made = async |table: &Table, place: &str| warehouse.apply(table, &moved_to(place)).await;
    // The client repeats the request, because the response to its first attempt was lost.
    made(&table, &place).await.unwrap();
    let again = made(&table, &place).await.unwrap();
    assert_eq!(again.location(), place);
    // The table can be moved to the new location again, and back to its first location.
    let grown = warehouse.append(&table, json!([{"id": 1}])).await;
    let moved = made(&grown, &place).await.unwrap();
    assert_eq!(made(&moved, &before).await.unwrap().location(), before);
    // Another table cannot be moved to a location of this table. This table cannot be moved to the
    // location of another table, or to a folder that contains several tables.
    for (table, place) in [(&other, place.as_str()), (&table, other.location())] {
        assert!(made(table, place).await.unwrap_err().to_string().contains("another table"));
    }
    let folder = before.rsplit_once('/').unwrap().0;
    assert!(made(&table, folder).await.unwrap_err().to_string().contains("another table"));
    // A client has copied the metadata file of another table to an earlier location of this table.
    let back = made(&moved, &before).await.unwrap();
    let copied = warehouse.file(&place).join("metadata/zzz.metadata.json");
    std::fs::copy(warehouse.file(other.metadata_location()), copied).unwrap();
    assert!(made(&back, &place).await.unwrap_err().to_string().contains("another table"));
}
