//! Grants of several objects or roles in one statement.

use headwater_store::{SqliteStore, Store};
use libtest_mimic::Trial;

use crate::lake::{Lake, execute};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![trial("grants::a_statement_on_several_objects_or_roles_is_one_stored_change", one_change)]
}

/// Returns the number of stored changes of rights.
async fn changes(store: &SqliteStore) -> u64 {
    let version = store.reference("access/version").await.expect("a read").expect("a version");
    String::from_utf8_lossy(&version).parse().expect("a number")
}

async fn one_change() {
    let lake = Lake::start().await;
    lake.user("ana", &[]).await;
    let store = lake.store().await;
    let before = changes(&store).await;
    let tables: Vec<String> = (0..100).map(|number| format!("sales.t{number}")).collect();
    let tables = tables.join(", ");
    execute(lake.service(), &format!("GRANT SELECT, INSERT ON {tables} TO ana, masked")).await;
    assert_eq!(changes(&store).await, before + 1);
    assert_eq!(lake.access().grants(Some("ana")).len(), 100);
    assert_eq!(lake.access().grants(Some("masked")).len(), 100);
    execute(lake.service(), &format!("REVOKE SELECT ON {tables} FROM ana, masked")).await;
    assert_eq!(changes(&store).await, before + 2);
    execute(lake.service(), "CREATE ROLE one").await;
    execute(lake.service(), "CREATE ROLE two").await;
    let before = changes(&store).await;
    execute(lake.service(), "GRANT one, two TO ana, masked").await;
    assert_eq!(changes(&store).await, before + 1);
    assert_eq!(lake.access().user("ana").expect("a user").roles, ["one", "two"]);
    execute(lake.service(), "REVOKE two, one FROM ana, masked").await;
    assert_eq!(changes(&store).await, before + 2);
    assert_eq!(lake.access().user("ana").expect("a user").roles, Vec::<String>::new());
    lake.stop().await;
}
