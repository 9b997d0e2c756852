//! Operations of Iceberg clients that change the catalog.

use std::collections::BTreeMap;

use headwater_model::RefSpec;
use headwater_service::iceberg::{
    ChangeRequest, NamedTableCommit, PropertyUpdate, RegisterTableRequest,
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::name;
use crate::lake::request;
use crate::matrix::{Row, administers, changed, done, writes};

const MISSING: &str = "ref_not_found";

pub const ROWS: &[Row] = &[
    ("Iceberg::create_namespace", writes(MISSING), |c| {
        let (name, properties) = ("made".to_owned(), BTreeMap::new());
        changed(
            async move { c.iceberg().create_namespace(&c.by, &change(), name, properties).await },
        )
    }),
    ("Iceberg::delete_namespace", writes(MISSING), |c| {
        changed(
            async move { c.iceberg().delete_namespace(&c.by, &change(), "made".to_owned()).await },
        )
    }),
    ("Iceberg::update_namespace", writes(MISSING), |c| {
        let updates = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let update = PropertyUpdate { updates, removals: Vec::new() };
        changed(async move { c.iceberg().update_namespace(&c.by, &change(), "shop", update).await })
    }),
    ("Iceberg::create_table", writes(MISSING), |c| {
        let new = new_table();
        changed(
            async move { c.iceberg().create_table(&c.by, &change(), &name("shop.made"), new).await },
        )
    }),
    ("Iceberg::stage_table", writes(MISSING), |c| {
        let new = new_table();
        done(async move {
            let (reference, table) = (change().reference, name("shop.made"));
            c.iceberg().stage_table(&c.by, &reference, &table, new).await
        })
    }),
    ("Iceberg::register_table", administers(MISSING), |c| {
        let source = RegisterTableRequest { location: "file:///none".to_owned(), overwrite: false };
        changed(async move {
            c.iceberg().register_table(&c.by, &change(), &name("shop.made"), source).await
        })
    }),
    ("Iceberg::commit", writes(MISSING), |c| {
        let commit = request(json!({"requirements": [], "updates": []}));
        let updates = vec![NamedTableCommit { table: name("shop.items"), commit }];
        changed(async move { c.iceberg().commit(&c.by, &change(), updates).await })
    }),
    ("Iceberg::drop_table", writes(MISSING), |c| {
        changed(async move { c.iceberg().drop_table(&c.by, &change(), &name("shop.items")).await })
    }),
    ("Iceberg::rename_table", writes(MISSING), |c| {
        let (from, to) = (name("shop.items"), name("shop.made"));
        changed(async move { c.iceberg().rename_table(&c.by, &change(), from, to).await })
    }),
    ("Iceberg::create_view", writes(MISSING), |c| {
        let new = new_view();
        changed(
            async move { c.iceberg().create_view(&c.by, &change(), &name("shop.made"), new).await },
        )
    }),
    ("Iceberg::update_view", writes(MISSING), |c| {
        let commit = request(json!({"requirements": [], "updates": []}));
        changed(async move {
            c.iceberg().update_view(&c.by, &change(), &name("shop.best"), commit).await
        })
    }),
    ("Iceberg::register_view", administers(MISSING), |c| {
        let location = "file:///none".to_owned();
        changed(async move {
            c.iceberg().register_view(&c.by, &change(), &name("shop.made"), location).await
        })
    }),
    ("Iceberg::drop_view", writes(MISSING), |c| {
        changed(async move { c.iceberg().drop_view(&c.by, &change(), name("shop.best")).await })
    }),
    ("Iceberg::rename_view", writes(MISSING), |c| {
        let (from, to) = (name("shop.best"), name("shop.made"));
        changed(async move { c.iceberg().rename_view(&c.by, &change(), from, to).await })
    }),
];

/// Returns a change of a branch that does not exist.
fn change() -> ChangeRequest {
    ChangeRequest {
        reference: RefSpec::Name("none".to_owned()),
        digest: "none".to_owned(),
        has_key: false,
        message: None,
    }
}

fn new_table<T: DeserializeOwned>() -> T {
    request(json!({"name": "made", "schema": {"type": "struct", "schema-id": 0, "fields": []}}))
}

fn new_view<T: DeserializeOwned>() -> T {
    let sql = json!({"type": "sql", "sql": "SELECT 1 AS a", "dialect": "headwater"});
    request(json!({
        "name": "made",
        "schema": {"type": "struct", "schema-id": 0, "fields": []},
        "view-version": {
            "version-id": 1,
            "timestamp-ms": 0,
            "schema-id": 0,
            "summary": {},
            "default-namespace": ["shop"],
            "representations": [sql],
        },
        "properties": {},
    }))
}
