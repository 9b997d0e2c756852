//! Operations on branches, tags, refs and namespaces.

use headwater_model::{RefSpec, UpdateRef};
use headwater_service::{ComparedTable, DiffOptions};
use serde_json::json;

use crate::lake::request;
use crate::matrix::{ITEMS, LISTS, Row, done, listed, reads, writes};

const MISSING: &str = "ref_not_found";

pub const ROWS: &[Row] = &[
    ("Branches::list", LISTS, |c| {
        listed(async move { c.service.branches().list(&c.by, None).await })
    }),
    ("Branches::create", writes(MISSING), |c| {
        let new = request(json!({"name": "made", "from": "none"}));
        done(async move { c.service.branches().create(&c.by, new).await })
    }),
    ("Branches::get", reads("ok"), |c| {
        done(async move { c.service.branches().get(&c.by, "main").await })
    }),
    ("Branches::update", writes(MISSING), |c| {
        let change = UpdateRef { protected: Some(true), ..UpdateRef::default() };
        done(async move { c.service.branches().update(&c.by, "none", change).await })
    }),
    ("Branches::delete", writes(MISSING), |c| {
        done(async move { c.service.branches().delete(&c.by, "none").await })
    }),
    ("Branches::merge", writes(MISSING), |c| {
        let merge = request(json!({"source": "main"}));
        done(async move { c.service.branches().merge(&c.by, "none", merge).await })
    }),
    ("Branches::cherry_pick", writes(MISSING), |c| {
        let pick = request(json!({"commit": "main"}));
        done(async move { c.service.branches().cherry_pick(&c.by, "none", pick).await })
    }),
    ("Branches::revert", writes(MISSING), |c| {
        let revert = request(json!({"commit": "main"}));
        done(async move { c.service.branches().revert(&c.by, "none", revert).await })
    }),
    ("Tags::list", LISTS, |c| listed(async move { c.service.tags().list(&c.by, None).await })),
    ("Tags::create", writes(MISSING), |c| {
        let new = request(json!({"name": "made", "from": "none"}));
        done(async move { c.service.tags().create(&c.by, new).await })
    }),
    ("Tags::get", reads("ok"), |c| done(async move { c.service.tags().get(&c.by, "v1").await })),
    ("Tags::update", writes(MISSING), |c| {
        let change = UpdateRef { name: Some("made".to_owned()), ..UpdateRef::default() };
        done(async move { c.service.tags().update(&c.by, "none", change).await })
    }),
    ("Tags::delete", writes(MISSING), |c| {
        done(async move { c.service.tags().delete(&c.by, "none").await })
    }),
    ("Refs::resolve", reads("ok"), |c| {
        done(async move { c.service.refs().resolve(&c.by, &RefSpec::main()).await })
    }),
    ("Refs::log", reads("ok"), |c| {
        done(async move { c.service.refs().log(&c.by, &RefSpec::main(), 9, None).await })
    }),
    ("Refs::diff", reads("ok"), |c| {
        let (from, to) = (RefSpec::main(), RefSpec::main());
        let options = DiffOptions::default();
        done(async move { c.service.refs().diff(&c.by, from, to, options).await })
    }),
    ("Refs::diff_table", reads("ok"), |c| {
        let (table, options) = (orders(), DiffOptions::default());
        done(async move { c.service.refs().diff_table(&c.by, table.clone(), table, options).await })
    }),
    ("Namespaces::list", reads(ITEMS), |c| {
        listed(async move { c.service.namespaces().list(&c.by, &RefSpec::main()).await })
    }),
    ("Namespaces::create", writes(MISSING), |c| {
        done(async move { c.service.namespaces().create(&c.by, "none", "made".to_owned()).await })
    }),
    ("Namespaces::delete", writes(MISSING), |c| {
        done(async move { c.service.namespaces().delete(&c.by, "none", "made").await })
    }),
];

fn orders() -> ComparedTable {
    let table = "sales.orders".parse().expect("a name");
    ComparedTable { reference: RefSpec::main(), table, snapshot: None }
}
