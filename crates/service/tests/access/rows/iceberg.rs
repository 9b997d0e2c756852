//! Operations of Iceberg clients that read.

use headwater_model::RefSpec;
use headwater_service::iceberg::ScanTarget;

use super::name;
use crate::matrix::{ITEMS, Row, done, every, listed, reads};

const EXPIRED: &str = "route_not_found";

pub const ROWS: &[Row] = &[
    ("Iceberg::check_ref", reads("ok"), |c| {
        done(async move { c.iceberg().check_ref(&c.by, &RefSpec::main()).await })
    }),
    // Only administrators get credentials, and only if the server is configured to grant them.
    ("Iceberg::storage_access", every("ok"), |c| {
        done(async move { c.iceberg().storage_access(&c.by, true) })
    }),
    ("Iceberg::list_namespaces", reads(ITEMS), |c| {
        listed(async move { c.iceberg().list_namespaces(&c.by, &RefSpec::main(), None).await })
    }),
    ("Iceberg::namespace", reads("ok"), |c| {
        done(async move { c.iceberg().namespace(&c.by, &RefSpec::main(), "shop").await })
    }),
    ("Iceberg::list_tables", reads(ITEMS), |c| {
        listed(async move { c.iceberg().list_tables(&c.by, &RefSpec::main(), "shop").await })
    }),
    ("Iceberg::load_table", reads("ok"), |c| {
        let table = name("shop.items");
        done(async move { c.iceberg().load_table(&c.by, &RefSpec::main(), &table).await })
    }),
    ("Iceberg::table_id", reads("ok"), |c| {
        let table = name("shop.items");
        done(async move { c.iceberg().table_id(&c.by, &RefSpec::main(), &table).await })
    }),
    ("Iceberg::list_views", reads(ITEMS), |c| {
        listed(async move { c.iceberg().list_views(&c.by, &RefSpec::main(), "shop").await })
    }),
    ("Iceberg::load_view", reads("ok"), |c| {
        let view = name("shop.best");
        done(async move { c.iceberg().load_view(&c.by, &RefSpec::main(), &view).await })
    }),
    ("Iceberg::plan_scan", reads("ok"), |c| {
        done(async move { c.iceberg().plan_scan(&c.by, items(), b"{}").await })
    }),
    ("Iceberg::scan", reads(EXPIRED), |c| {
        done(async move { c.iceberg().scan(&c.by, &items(), "none").await })
    }),
    ("Iceberg::cancel_scan", reads(EXPIRED), |c| {
        done(async move { c.iceberg().cancel_scan(&c.by, &items(), "none").await })
    }),
    ("Iceberg::scan_page", reads(EXPIRED), |c| {
        done(async move { c.iceberg().scan_page(&c.by, &items(), "none.0").await })
    }),
];

fn items() -> ScanTarget {
    ScanTarget { reference: RefSpec::main(), table: name("shop.items") }
}
