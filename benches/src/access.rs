//! Cost of authorisation: a warm function call and a query of a user with many grants. The
//! reference is the same work in a lake without users. Both are measured alternately in one run.

use std::path::Path;
use std::time::Duration;

use crate::Outcome;
use crate::commands::{headwater, run};
use crate::invoke::{Connection, FUNCTION, INVOKE, Server};
use crate::report::{Report, duration};
use crate::sample::{median, wait_until_quiet};

/// Number of the user's grants.
const GRANTS: usize = 1_000;

/// Grants in one statement.
const GRANTS_AT_A_TIME: usize = 100;

const QUERY: &str = "/v1/query";
const STATEMENT: &str = r#"{"sql":"SELECT count(*) AS n FROM orders"}"#;

/// Measures the cost of authorisation for one call and one query, and adds it to the report.
pub fn measure(report: &mut Report, samples: usize) -> Outcome<()> {
    let (open, limited) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (without, with) = (start(open.path())?, start(limited.path())?);
    let token = create_user(limited.path(), &with)?;
    let bounds = [Duration::from_micros(50), Duration::from_micros(200)];
    let parts = [
        ("warm call, authorised with 1,000 grants", INVOKE, "{}"),
        ("query, authorised with 1,000 grants", QUERY, STATEMENT),
    ];
    for ((name, path, body), bound) in parts.into_iter().zip(bounds) {
        // Wait before the connections are opened, because servers would close idle connections
        // during this wait.
        wait_until_quiet()?;
        let mut owner = without.connect()?;
        let mut user = Connection::open(with.address(), &token)?;
        // The first requests create the environment and fill caches.
        for _ in 0..10 {
            owner.request("POST", path, body)?;
            user.request("POST", path, body)?;
        }
        let (mut references, mut taken) = (Vec::new(), Vec::new());
        for _ in 0..samples {
            references.push(owner.request("POST", path, body)?);
            taken.push(user.request("POST", path, body)?);
        }
        let (reference, taken) = (median(references), median(taken));
        let added = taken.saturating_sub(reference);
        let reference = format!("{} with users, {} without", duration(taken), duration(reference));
        report.time(&format!("added to a {name}"), added, &reference, bound);
    }
    Ok(())
}

/// Starts a server on a lake with a table and a function.
fn start(folder: &Path) -> Outcome<Server> {
    let server = Server::create(folder, &[("nothing.py", FUNCTION)])?;
    let sql = r#"{"sql":"CREATE TABLE orders AS SELECT 1 AS id"}"#;
    server.connect()?.request("POST", QUERY, sql)?;
    Ok(server)
}

/// Creates a user with many grants, the last of which allow the requests. Returns a token.
fn create_user(folder: &Path, server: &Server) -> Outcome<String> {
    run(headwater(folder).args(["user", "create", "ana"]))?;
    let mut owner = server.connect()?;
    let mut grant = |objects: &str| -> Outcome<()> {
        let body = serde_json::json!({ "sql": format!("GRANT {objects} TO ana") });
        owner.request("POST", QUERY, &body.to_string()).map(drop)
    };
    let numbers: Vec<usize> = (0..GRANTS).collect();
    for some in numbers.chunks(GRANTS_AT_A_TIME) {
        let tables = some.iter().map(|number| format!("sales.orders_{number}"));
        grant(&format!("SELECT ON {}", tables.collect::<Vec<_>>().join(", ")))?;
    }
    for objects in ["SELECT ON orders", "READ ON BRANCH 'main'", "INVOKE ON FUNCTION nothing"] {
        grant(objects)?;
    }
    let output = headwater(folder).args(["token", "create", "--user", "ana"]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
