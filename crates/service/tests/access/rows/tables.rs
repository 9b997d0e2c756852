//! Operations on tables, views, imports, uploads and maintenance.

use bytes::Bytes;
use headwater_model::{RefSpec, WriteMode};
use headwater_service::WriteTarget;
use serde_json::json;

use super::name;
use crate::lake::{content, request};
use crate::matrix::{ITEMS, Row, done, every, listed, reads, writes};

const MISSING: &str = "ref_not_found";

pub const ROWS: &[Row] = &[
    ("Tables::list", reads(ITEMS), |c| {
        listed(async move { c.service.tables().list(&c.by, &RefSpec::main(), None).await })
    }),
    ("Tables::get", reads("ok"), |c| {
        let table = name("sales.orders");
        done(async move { c.service.tables().get(&c.by, &RefSpec::main(), &table).await })
    }),
    ("Tables::drop", writes("table_not_found"), |c| {
        let table = name("none");
        done(async move { c.service.tables().drop(&c.by, "main", &table, false).await })
    }),
    // The caller sends the rows, so reading them requires no right.
    ("Tables::read_arrow", every("invalid_argument"), |c| {
        done(async move { c.service.tables().read_arrow(&c.by, Bytes::new()).await })
    }),
    ("Tables::write_rows", writes(MISSING), |c| {
        let (branch, table, mode) = ("none".to_owned(), name("made"), WriteMode::Append);
        let target = WriteTarget { branch, table, mode };
        let rows = c.known.rows.clone();
        done(async move { c.service.tables().write_rows(&c.by, target, rows).await })
    }),
    ("Views::list", reads(ITEMS), |c| {
        listed(async move { c.service.views().list(&c.by, &RefSpec::main(), None).await })
    }),
    ("Views::get", reads("ok"), |c| {
        let view = name("shop.best");
        done(async move { c.service.views().get(&c.by, &RefSpec::main(), &view).await })
    }),
    ("Views::drop", writes("table_not_found"), |c| {
        let view = name("none");
        done(async move { c.service.views().drop(&c.by, "main", &view, false).await })
    }),
    ("Imports::plan", writes("file_not_found"), |c| {
        let import = request(json!({"table": "made", "sources": ["/none/a.csv"]}));
        done(async move { c.service.imports().plan(&c.by, &import).await })
    }),
    ("Imports::start", writes(MISSING), |c| {
        let import = json!({"table": "made", "sources": ["/none/a.csv"], "ref": "none"});
        done(async move { c.service.imports().start(&c.by, request(import)).await })
    }),
    ("Uploads::create", writes("ok"), |c| {
        done(async move { c.service.uploads().create(&c.by, "a.csv", content("a\n1\n")).await })
    }),
    ("Uploads::delete", every("file_not_found"), |c| {
        done(async move { c.service.uploads().delete(&c.by, "/none/a.csv").await })
    }),
    ("Maintenance::plan", writes(MISSING), |c| {
        let maintain = request(json!({}));
        done(async move { c.service.maintenance().plan(&c.by, "none", None, &maintain).await })
    }),
    ("Maintenance::start", writes(MISSING), |c| {
        let maintain = request(json!({}));
        done(async move { c.service.maintenance().start(&c.by, "none", None, maintain).await })
    }),
];
