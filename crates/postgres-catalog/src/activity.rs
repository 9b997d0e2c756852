//! Rows of `pg_stat_activity`: the connections that a user may see.

use headwater_connections::ConnectionState;
use serde_json::{Value, json};

use crate::pg_catalog::role_oid;
use crate::visible_objects::{VisibleObjects, oid_of};

/// The columns of `pg_stat_activity`. Columns for which Headwater has no value, such as wait
/// events, are null.
pub(crate) const COLUMNS: &str = "datid:o datname pid:n leader_pid:n usesysid:o usename \
     application_name client_addr client_hostname client_port:n backend_start:z xact_start:z \
     query_start:z state_change:z wait_event_type wait_event state backend_xid:o backend_xmin:o \
     query_id:o query backend_type";

/// Returns the rows of `pg_stat_activity`.
pub(crate) fn rows(contents: &VisibleObjects) -> Vec<Value> {
    contents.connections.iter().map(|connection| row(contents, connection)).collect()
}

fn row(contents: &VisibleObjects, connection: &ConnectionState) -> Value {
    let (client, user) = (&connection.client, connection.principal.author());
    json!({
        "datid": oid_of(&client.database),
        "datname": client.database,
        "pid": connection.process,
        "usesysid": role_oid(contents, user),
        "usename": user,
        "application_name": client.application,
        "client_addr": client.address.map(|address| address.ip().to_string()),
        "client_port": client.address.map(|address| address.port()),
        "backend_start": connection.started,
        "xact_start": connection.transaction_started,
        "query_start": connection.statement_started,
        "state_change": connection.changed,
        "state": connection.name(),
        "query": connection.statement,
        "backend_type": "client backend",
    })
}

#[cfg(test)]
mod tests {
    use headwater_connections::{ClientProperties, Connections};
    use headwater_model::Principal;

    use super::*;

    #[test]
    fn a_connection_is_a_row_with_its_client_and_its_statement() {
        let connections = Connections::default();
        let client = ClientProperties {
            database: "main".into(),
            application: "psql".into(),
            address: Some("127.0.0.1:4000".parse().expect("an address")),
        };
        let principal = Principal::owner().with_author(Some("ann".into()));
        let handle = connections.open(principal, client);
        handle.show_statement("SELECT 1");
        let contents = VisibleObjects {
            database: "main".into(),
            databases: vec!["main".into()],
            user: "ann".into(),
            namespaces: Vec::new(),
            relations: Vec::new(),
            connections: connections.list(),
        };
        let (schema, batches) =
            contents.table("pg_catalog", "pg_stat_activity").expect("rows").expect("a table");
        assert_eq!((schema.fields().len(), batches[0].num_rows()), (22, 1));
        let row = &rows(&contents)[0];
        let shown = [&row["usename"], &row["state"], &row["query"], &row["client_addr"]];
        assert_eq!(shown, ["ann", "active", "SELECT 1", "127.0.0.1"]);
    }
}
