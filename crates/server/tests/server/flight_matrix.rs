//! Every request of Arrow Flight SQL with every kind of credential. A request that the table lacks
//! fails the test.

use std::process::Command;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::access::Users;
use crate::access_matrix::{ALL, READ, expired, forged, revoked, tokens_without_scope};
use crate::declared_operations::{self, Mismatches};
use crate::trial;
use crate::{clients, flight, signed};

pub fn trials() -> Vec<Trial> {
    vec![trial("flight_matrix::every_request_is_decided", matrix)]
}

/// A request, by its method of the trait, and the statuses without a grant, with grants to read,
/// and with all grants except administration. `flight_matrix.py` sends the requests in this order,
/// for one client after the other.
type Row = (&'static str, [&'static str; 3]);

const OK: &str = "OK";
const NO: &str = "PERMISSION_DENIED";
/// The client could not create the statement.
const NONE: &str = "NOT_FOUND";
/// The client has no transaction.
const ENDED: &str = "FAILED_PRECONDITION";
const ALWAYS: [&str; 3] = [OK; 3];
const READS: [&str; 3] = [NO, OK, OK];
const WRITES: [&str; 3] = [NO, NO, OK];
const USES: [&str; 3] = [NONE, OK, OK];
const UNSUPPORTED: [&str; 3] = ["UNIMPLEMENTED"; 3];

const REQUESTS: [Row; 47] = [
    ("do_handshake", ALWAYS),
    // This request only returns a ticket, which a client can also write itself.
    ("get_flight_info_statement", ALWAYS),
    ("do_get_statement", READS),
    ("get_flight_info_substrait_plan", UNSUPPORTED),
    ("do_put_substrait_plan", UNSUPPORTED),
    ("do_action_create_prepared_substrait_plan", UNSUPPORTED),
    ("do_action_create_prepared_statement", READS),
    ("do_put_prepared_statement_query", USES),
    ("get_flight_info_prepared_statement", USES),
    ("do_get_prepared_statement", USES),
    ("do_put_prepared_statement_update", [NONE, NO, OK]),
    ("do_action_close_prepared_statement", USES),
    ("do_put_statement_update", WRITES),
    ("do_put_statement_ingest", WRITES),
    ("do_action_begin_transaction", READS),
    ("do_action_begin_savepoint", [ENDED, OK, OK]),
    ("do_action_end_savepoint", ["INVALID_ARGUMENT", OK, OK]),
    ("do_action_end_transaction", [ENDED, OK, OK]),
    // No statement is running, so there is nothing to cancel.
    ("do_action_cancel_query", ALWAYS),
    ("do_action_fallback", ALWAYS),
    // The clients have no session.
    ("other::close_session", ALWAYS),
    // Lists need the right to read the ref, and omit objects that the client may not see.
    ("get_flight_info_catalogs", ALWAYS),
    ("do_get_catalogs", READS),
    ("get_flight_info_schemas", ALWAYS),
    ("do_get_schemas", READS),
    ("get_flight_info_tables", ALWAYS),
    ("do_get_tables", READS),
    ("get_flight_info_table_types", ALWAYS),
    ("do_get_table_types", ALWAYS),
    ("get_flight_info_sql_info", ALWAYS),
    ("do_get_sql_info", ALWAYS),
    ("get_flight_info_xdbc_type_info", ALWAYS),
    ("do_get_xdbc_type_info", ALWAYS),
    // A table that the client may not see has no key.
    ("get_flight_info_primary_keys", ALWAYS),
    ("do_get_primary_keys", ALWAYS),
    ("get_flight_info_exported_keys", ALWAYS),
    ("do_get_exported_keys", ALWAYS),
    ("get_flight_info_imported_keys", ALWAYS),
    ("do_get_imported_keys", ALWAYS),
    ("get_flight_info_cross_reference", ALWAYS),
    ("do_get_cross_reference", ALWAYS),
    ("other::list_actions", ALWAYS),
    ("other::list_flights", UNSUPPORTED),
    ("other::get_schema", UNSUPPORTED),
    ("other::poll_flight_info", UNSUPPORTED),
    ("other::do_exchange", UNSUPPORTED),
    ("other::do_action", UNSUPPORTED),
];

/// Requests with the statement and the transaction of another client.
const FOREIGN: [(&str, &str); 3] = [
    ("do_get_prepared_statement", NONE),
    ("do_action_close_prepared_statement", NONE),
    ("do_action_end_transaction", ENDED),
];

async fn matrix() {
    let methods =
        declared_operations::methods("flight/src/service.rs", "FlightSqlService").into_iter();
    // These methods configure the server; no request calls them.
    let added = ["register_sql_info", "list_custom_actions"];
    let methods = methods.filter(|name| !added.contains(&name.as_str())).collect();
    let rows = REQUESTS.iter().map(|row| row.0).filter(|name| !name.starts_with("other::"));
    declared_operations::assert_complete(methods, &rows.collect::<Vec<_>>());
    let users = Users::start().await;
    let answer = users.server.rows("CREATE TABLE shop.scratch (id BIGINT)").await;
    assert!(answer.get("code").is_none(), "{answer}");
    let limited = users.user("limited", &[]).await;
    let reader = users.user("reader", &READ).await;
    let full = users.user("full", &ALL).await;
    let [unscoped, misscoped] = tokens_without_scope(&users).await;
    let tokens = json!({
        "none": null,
        "forged": forged(&full),
        "revoked": revoked(&users).await,
        "expired": expired(&users).await,
        "limited": limited,
        "unscoped": unscoped,
        "misscoped": misscoped,
        "reader": reader,
        "full": full,
    });
    let found = statuses(&users, tokens).await;
    let mut mismatches = Mismatches::default();
    for (method, expected) in REQUESTS {
        for invalid in ["none", "forged", "revoked", "expired"] {
            let status = found[invalid][method].as_str().unwrap_or("no status");
            // Many failed logins lock out the address.
            let is_rejected = matches!(status, "UNAUTHENTICATED" | "RESOURCE_EXHAUSTED");
            assert!(is_rejected, "{method} with the credential `{invalid}`: {status}");
        }
        for (name, column) in
            [("limited", 0), ("unscoped", 0), ("misscoped", 0), ("reader", 1), ("full", 2)]
        {
            let status = found[name][method].as_str().unwrap_or("no status");
            mismatches.check(&format!("{method} as {name}"), status, expected[column]);
        }
    }
    for (method, expected) in FOREIGN {
        let status = found["foreign"][method].as_str().unwrap_or("no status");
        mismatches.check(&format!("{method} of another client"), status, expected);
    }
    mismatches.assert_none();
}

/// Sends all requests with each token. Returns the names of the statuses.
async fn statuses(users: &Users, tokens: Value) -> Value {
    let address = users.server.running.http_addr().expect("an address");
    let mut command = Command::new(tokio::task::spawn_blocking(flight::python).await.expect("it"));
    command.arg(clients::client("flight_matrix.py")).arg(address.to_string());
    serde_json::from_str(&signed::piped(command, tokens.to_string()).await).expect("statuses")
}
