//! Tests of the PostgreSQL protocol: with `psql`, with drivers, and with invalid bytes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use headwater_server::{CertificateSource, ServerConfig};
use hyper::Method;
use libtest_mimic::Trial;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::clients;
use crate::life_cycle::ENDLESS;
use crate::support::{TestServer, bearer, config, request, start};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("postgres::psql_prints_rows_and_errors", psql),
        trial("postgres::statements_of_a_script_run_until_one_fails", scripts),
        trial("postgres::the_database_is_a_ref", databases),
        trial("postgres::the_password_is_that_of_the_user_or_a_token", passwords),
        trial("postgres::a_user_over_its_limit_gets_an_error_and_keeps_its_connection", limits),
        trial("postgres::connections_are_encrypted_on_a_server_with_tls", encryption),
        trial("postgres::a_killed_client_cancels_its_statement", disconnect),
        trial("postgres::a_killed_client_undoes_its_transaction", undone),
        trial("postgres::a_transaction_needs_the_rights_on_its_target", transaction_rights),
        trial("postgres::psql_describes_tables_that_the_user_may_read", descriptions),
        trial("postgres::sqlalchemy_and_savepoints_of_psycopg", sqlalchemy),
        trial("postgres::psql_copies_files", copies),
        trial("postgres::copy_to_a_client_shows_visible_rows_and_masked_values", restricted_copies),
        trial("postgres::pgbench_runs_scripts_and_tpc_b_in_every_mode", pgbench),
        trial("postgres::malformed_messages_end_the_connection_only", malformed),
        trial("postgres::drivers_write_and_read_every_type", drivers),
        trial("postgres::sessions_have_the_settings_and_errors_of_postgresql", sessions),
        trial("postgres::catalog_queries_of_tools_are_answered", tool_queries),
    ]
}

/// The packages of the scripts.
const PACKAGES: [&str; 3] = ["psycopg[binary]==3.3.9", "asyncpg==0.32.0", "sqlalchemy==2.0.58"];

/// The password of a user.
const PASSWORD: &str = "correct horse battery";

/// Starts a server with a PostgreSQL listener.
pub async fn started() -> TestServer {
    started_with(|_| {}).await
}

async fn started_with(change: impl FnOnce(&mut ServerConfig)) -> TestServer {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = config(folder.path());
    config.postgres = Some("127.0.0.1:0".parse().expect("an address"));
    change(&mut config);
    TestServer { running: start(config).await, folder }
}

/// Returns the server's token.
pub fn token(server: &TestServer) -> String {
    let header = bearer(&server.running);
    header.to_str().expect("text").trim_start_matches("Bearer ").to_owned()
}

pub fn address(server: &TestServer) -> SocketAddr {
    server.running.postgres_addr().expect("an address")
}

/// Returns the command that runs `psql` on a database.
fn psql_command(server: &TestServer, database: &str, sql: &str) -> Command {
    let address = address(server);
    let mut command = Command::new("psql");
    command.env("PGPASSWORD", token(server)).env("PGCONNECT_TIMEOUT", "20");
    command.args(["-X", "-A", "-t", "-h", &address.ip().to_string()]);
    command.args(["-p", &address.port().to_string(), "-U", "ann", "-d", database, "-c", sql]);
    command
}

/// Runs a command. Returns its standard output and standard error.
async fn run(mut command: Command) -> (String, String) {
    let work = move || command.output().expect("psql, of the package postgresql-client");
    let output: Output = tokio::task::spawn_blocking(work).await.expect("psql");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(output.stdout), text(output.stderr))
}

async fn psql() {
    let server = started().await;
    server.rows("CREATE TABLE trips AS SELECT 1 AS id, 'Oslo' AS city, [1, 2] AS stops").await;
    let shown = run(psql_command(&server, "main", "SELECT *, NULL AS n FROM trips")).await;
    assert_eq!(shown, ("1|Oslo|{1,2}|\n".to_owned(), String::new()));
    for (sql, expected) in [
        ("SELECT * FROM tripz", "Did you mean"),
        ("SELEC 1", "Did you mean `SELECT`"),
        ("SET ROLE analyst", "`role` does not support the value `analyst`"),
        ("SET TRANSACTION READ ONLY", "`SET TRANSACTION READ ONLY` needs a transaction"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", "`SERIALIZABLE` is not supported"),
        ("BEGIN READ ONLY; CREATE TABLE u (n INT); COMMIT", "CREATE TABLE is not permitted"),
        ("SAVEPOINT s", "savepoints need a transaction"),
        ("LISTEN s", "is not supported"),
        ("SET client_encoding = 'LATIN1'", "does not support the value `LATIN1`"),
    ] {
        let (_, errors) = run(psql_command(&server, "main", sql)).await;
        assert!(errors.starts_with("ERROR:"), "{errors}");
        assert!(errors.contains(expected), "{errors}");
    }
}

async fn scripts() {
    let server = started().await;
    let script = "CREATE TABLE t (n BIGINT); INSERT INTO t VALUES (1), (2); SELECT sum(n) FROM t; \
         BEGIN; DECLARE c CURSOR FOR SELECT n FROM t ORDER BY n; FETCH 1 FROM c; COMMIT; \
         SET application_name = 'a'; SHOW application_name";
    let (shown, errors) = run(psql_command(&server, "main", script)).await;
    let expected = "CREATE TABLE\nINSERT 0 2\n3\nBEGIN\nDECLARE CURSOR\n1\nCOMMIT\nSET\na\n";
    assert_eq!((shown.as_str(), errors.as_str()), (expected, ""));
    let script = "INSERT INTO t VALUES (3); SELECT nothing FROM t; INSERT INTO t VALUES (4)";
    let (_, errors) = run(psql_command(&server, "main", script)).await;
    assert!(errors.contains("nothing"), "{errors}");
    let (shown, _) = run(psql_command(&server, "main", "SELECT max(n) FROM t")).await;
    assert_eq!(shown, "3\n");
}

async fn databases() {
    let server = started().await;
    server.post("/v1/branches", json!({"name": "dev"})).await;
    run(psql_command(&server, "dev", "CREATE TABLE only_here AS SELECT 1 AS n")).await;
    let (shown, _) = run(psql_command(&server, "dev", "SELECT n FROM only_here")).await;
    assert_eq!(shown, "1\n");
    let (_, errors) = run(psql_command(&server, "main", "SELECT n FROM only_here")).await;
    assert!(errors.contains("only_here"), "{errors}");
    let (_, errors) = run(psql_command(&server, "dve", "SELECT 1")).await;
    assert!(errors.contains("`dve`") && errors.contains("`dev`"), "{errors}");
}

async fn passwords() {
    let server = started().await;
    server.post("/v1/users", json!({"name": "eva", "password": PASSWORD})).await;
    let grant = json!({"grantee": "eva", "actions": ["read"], "object": "branch:main"});
    server.post("/v1/grants", grant).await;
    let as_user = |user: &str, password: &str| {
        let mut command = psql_command(&server, "main", "SELECT 1");
        command.env("PGPASSWORD", password).args(["-U", user]);
        command
    };
    let (_, errors) = run(as_user("eva", PASSWORD)).await;
    assert_eq!(errors, "");
    for (user, password) in [("eva", "wrong"), ("bob", PASSWORD), ("eva", "")] {
        let (shown, errors) = run(as_user(user, password)).await;
        assert!(shown.is_empty(), "{shown}");
        assert!(errors.contains("wrong") || errors.contains("no password"), "{errors}");
    }
    server.rows("CREATE TABLE private AS SELECT 1 AS n").await;
    let mut command = psql_command(&server, "main", "SELECT n FROM private");
    command.env("PGPASSWORD", PASSWORD).args(["-U", "eva"]);
    let (_, errors) = run(command).await;
    assert!(errors.contains("private"), "{errors}");
}

async fn encryption() {
    let server =
        started_with(|config| config.network.tls = Some(CertificateSource::SelfSigned)).await;
    let with_mode = |mode: &str| {
        let mut command = psql_command(&server, "main", "SELECT 7");
        command.env("PGSSLMODE", mode);
        command
    };
    assert_eq!(run(with_mode("require")).await, ("7\n".to_owned(), String::new()));
    let (_, errors) = run(with_mode("disable")).await;
    assert!(errors.contains("the connection does not use TLS"), "{errors}");
}

async fn limits() {
    let server = started().await;
    server.post("/v1/users", json!({"name": "eva", "password": PASSWORD})).await;
    let grant = json!({"grantee": "eva", "actions": ["read"], "object": "branch:main"});
    server.post("/v1/grants", grant).await;
    let limit = request(Method::PUT, "/v1/limits/eva", Some(&json!({"money_per_day": 0})));
    assert_eq!(server.send(limit).await.status(), 200);
    let as_user = |user: &str| {
        let mut command = psql_command(&server, "main", "SELECT 1");
        command.env("PGPASSWORD", PASSWORD).args(["-U", user, "-v", "VERBOSITY=verbose"]);
        command.args(["-c", "SELECT 2"]);
        command
    };
    let (shown, errors) = run(as_user("eva")).await;
    assert_eq!(shown, "", "{errors}");
    assert_eq!(errors.matches("53400").count(), 2, "{errors}");
    assert!(errors.contains("headwater limit set eva"), "{errors}");
    let removed = request(Method::DELETE, "/v1/limits/eva", None);
    assert_eq!(server.send(removed).await.status(), 204);
    assert_eq!(run(as_user("eva")).await, ("1\n2\n".to_owned(), String::new()));
}

async fn disconnect() {
    let server = started().await;
    let mut client = psql_command(&server, "main", ENDLESS).spawn().expect("psql");
    server.until("/v1/jobs?status=running", |jobs| jobs[0]["status"] == "running").await;
    client.kill().expect("a signal");
    client.wait().expect("its end");
    server.until("/v1/jobs?limit=1", |jobs| jobs[0]["status"] == "cancelled").await;
}

async fn descriptions() {
    let server = started().await;
    server.rows("CREATE TABLE orders (id BIGINT NOT NULL, price DECIMAL(10, 2), at DATE)").await;
    server.rows("CREATE VIEW prices AS SELECT price FROM orders").await;
    server.rows("CREATE TABLE private AS SELECT 1 AS n").await;
    let shown = async |sql: &str| {
        let (shown, errors) = run(psql_command(&server, "main", sql)).await;
        assert_eq!(errors, "", "{sql}");
        shown
    };
    let list = "public|orders|table|owner\npublic|prices|view|owner\npublic|private|table|owner\n";
    assert_eq!(shown("\\d").await, list);
    assert_eq!(shown("\\dv").await, "public|prices|view|owner\n");
    let columns = "id|bigint||not null|\nprice|numeric(10,2)|||\nat|date|||\n";
    assert_eq!(shown("\\d orders").await, columns);
    assert!(shown("\\sv prices").await.contains("SELECT price FROM orders"));
    assert_eq!(shown("\\dn").await, "public|owner\n");
    assert!(shown("\\l").await.starts_with("main|owner|UTF8"));
    assert!(shown("\\du").await.contains("ann"));
    for command in ["\\dt+", "\\df", "\\dp", "\\db", "\\dT", "\\d+ orders", "\\d+ prices"] {
        shown(command).await;
    }
    let constants = "SELECT version(), current_schema(), current_database(), current_user";
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!("PostgreSQL 15.0 (Headwater {version})|public|main|ann\n");
    assert_eq!(shown(constants).await, expected);
    let class = "SELECT relname FROM pg_class WHERE oid = 'orders'::regclass";
    assert_eq!(shown(class).await, "orders\n");

    server.post("/v1/users", json!({"name": "eva", "password": PASSWORD})).await;
    for (actions, object) in [("read", "branch:main"), ("select", "table:orders")] {
        let grant = json!({"grantee": "eva", "actions": [actions], "object": object});
        server.post("/v1/grants", grant).await;
    }
    let tables = "SELECT table_name FROM information_schema.tables";
    for (sql, expected) in [("\\dt", "public|orders|table|owner\n"), (tables, "orders\n")] {
        let mut command = psql_command(&server, "main", sql);
        command.env("PGPASSWORD", PASSWORD).args(["-U", "eva"]);
        assert_eq!(run(command).await, (expected.to_owned(), String::new()));
    }
}

async fn copies() {
    let server = started().await;
    server
        .rows("CREATE TABLE trips (id BIGINT, city VARCHAR, price DECIMAL(10, 2), day DATE)")
        .await;
    let path = server.folder.path().join("trips.csv");
    let text = "id,city,price,day\n1,\"Oslo, \"\"N\"\"\",3.50,2026-11-01\n2,,,\n";
    std::fs::write(&path, text).expect("a file");
    let name = path.display();
    let shown = async |sql: &str| run(psql_command(&server, "main", sql)).await;
    let (tag, errors) =
        shown(&format!("\\copy trips FROM '{name}' WITH (FORMAT csv, HEADER)")).await;
    assert_eq!((tag.as_str(), errors.as_str()), ("COPY 2\n", ""));
    let (csv, _) =
        shown("COPY (SELECT * FROM trips ORDER BY id) TO STDOUT (FORMAT csv, HEADER)").await;
    assert_eq!(csv, text);
    let (rows, _) = shown("COPY trips (id, city) TO STDOUT").await;
    assert_eq!(rows, "1\tOslo, \"N\"\n2\t\\N\n");
    std::fs::write(&path, "3,Rome,1,2026-11-02\nx,Bern,2,2026-11-03\n").expect("a file");
    let (_, errors) = shown(&format!("\\copy trips FROM '{name}' CSV")).await;
    assert!(errors.contains("row 2 of the data: ") && errors.contains("'x'"), "{errors}");
    let (_, errors) = shown("COPY trips FROM '/etc/passwd'").await;
    assert!(errors.contains("COPY FROM a file on the server is not supported"), "{errors}");
    assert!(errors.contains("\\copy") && errors.contains("table import"), "{errors}");
    let (tag, errors) = shown("COPY trips TO 'copied.csv'").await;
    assert_eq!((tag.as_str(), errors.as_str()), ("COPY 2\n", ""));
    let (rows, _) = shown("SELECT count(*) FROM trips").await;
    assert_eq!(rows, "2\n", "a failed COPY inserts nothing");
    let branches = server.get("/v1/branches").await;
    assert_eq!(branches.as_array().map(Vec::len), Some(1), "{branches}");
}

async fn restricted_copies() {
    let server = started().await;
    for sql in [
        "CREATE TABLE staff AS SELECT * FROM (VALUES (1, 'EU', 100), (2, 'US', 300)) \
         AS t (id, region, salary)",
        "CREATE ROW FILTER eu ON staff USING (region = 'EU')",
        "CREATE ROLE hr",
        "CREATE COLUMN MASK pay ON staff (salary) USING (CASE WHEN is_member('hr') THEN salary \
         END)",
    ] {
        server.rows(sql).await;
    }
    server.post("/v1/users", json!({"name": "eva", "password": PASSWORD})).await;
    for (action, object) in [("select", "table:*"), ("read", "branch:main")] {
        let grant = json!({"grantee": "eva", "actions": [action], "object": object});
        server.post("/v1/grants", grant).await;
    }
    let as_eva = async |sql: &str| {
        let mut command = psql_command(&server, "main", sql);
        command.env("PGPASSWORD", PASSWORD).args(["-U", "eva"]);
        run(command).await
    };
    for (sql, expected) in [
        ("COPY staff TO STDOUT", "1\tEU\t\\N\n"),
        ("COPY staff (salary, id) TO STDOUT", "\\N\t1\n"),
        ("COPY (SELECT * FROM staff) TO STDOUT (FORMAT csv)", "1,EU,\n"),
        ("COPY (SELECT count(*), max(salary) FROM staff) TO STDOUT", "1\t\\N\n"),
        ("COPY (SELECT id FROM staff WHERE salary > 200 OR region = 'US') TO STDOUT", ""),
    ] {
        assert_eq!(as_eva(sql).await, (expected.to_owned(), String::new()), "{sql}");
    }
}

async fn pgbench() {
    let server = started().await;
    for sql in [
        "CREATE TABLE pgbench_branches AS SELECT 1 AS bid, 0 AS bbalance",
        "CREATE TABLE pgbench_tellers AS SELECT value AS tid, 1 AS bid, 0 AS tbalance \
         FROM generate_series(1, 10)",
        "CREATE TABLE pgbench_accounts AS SELECT value AS aid, 1 AS bid, 0 AS abalance \
         FROM generate_series(1, 100000)",
        "CREATE TABLE pgbench_history (tid INT, bid INT, aid INT, delta INT, mtime TIMESTAMP)",
    ] {
        server.rows(sql).await;
    }
    let script = server.folder.path().join("script.sql");
    let text = "\\set id random(1, 10)\nSELECT tbalance FROM pgbench_tellers WHERE tid = :id;\n";
    std::fs::write(&script, text).expect("a script");
    let script = script.display().to_string();
    for mode in ["simple", "extended", "prepared"] {
        for arguments in [&["-f", script.as_str()][..], &[]] {
            let mut command = Command::new("pgbench");
            let address = address(&server);
            command.env("PGPASSWORD", token(&server)).args(["-n", "-t", "3", "-M", mode]);
            command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
            command.args(["-U", "ann"]).args(arguments).arg("main");
            let (shown, errors) = run(command).await;
            let processed = "number of transactions actually processed: 3/3";
            assert!(shown.contains(processed), "{mode}\n{shown}\n{errors}");
        }
    }
    let balances = "SELECT sum(bbalance) = (SELECT sum(delta) FROM pgbench_history), \
         (SELECT count(*) FROM pgbench_history) FROM pgbench_branches";
    assert_eq!(run(psql_command(&server, "main", balances)).await.0, "t|9\n");
}

async fn undone() {
    let server = started().await;
    server.rows("CREATE TABLE t (n BIGINT)").await;
    let script = format!("BEGIN; INSERT INTO t VALUES (1); {ENDLESS}");
    let mut client = psql_command(&server, "main", &script).spawn().expect("psql");
    let running = |jobs: &serde_json::Value| jobs[0]["status"] == "running";
    let jobs = server.until("/v1/jobs?status=running", running).await;
    let branch = jobs[0]["reference"].as_str().expect("a ref").replace('/', "%2F");
    assert!(branch.starts_with("_transaction"), "{branch}");
    let branches = server.get("/v1/branches").await;
    assert_eq!(branches.as_array().map(Vec::len), Some(1), "{branches}");
    client.kill().expect("a signal");
    client.wait().expect("its end");
    let path = format!("/v1/branches/{branch}");
    server.until(&path, |found| found["code"] == "ref_not_found").await;
    let (shown, _) = run(psql_command(&server, "main", "SELECT count(*) FROM t")).await;
    assert_eq!(shown, "0\n");
    // Errors do not contain the name of the hidden branch.
    let script = "BEGIN; INSERT INTO t VALUES (1); SELECT n FROM missing";
    let (_, errors) = run(psql_command(&server, "main", script)).await;
    assert!(errors.contains("table `missing` is not in this transaction"), "{errors}");
    assert!(!errors.contains("_transaction"), "{errors}");
}

async fn transaction_rights() {
    let server = started().await;
    server.rows("CREATE TABLE t (n BIGINT)").await;
    server.post("/v1/branches", json!({"name": "release"})).await;
    for (name, branch) in [("eva", "branch:main"), ("bob", "branch:release")] {
        server.post("/v1/users", json!({"name": name, "password": PASSWORD})).await;
        let table = json!({"grantee": name, "actions": ["select", "insert"], "object": "table:*"});
        server.post("/v1/grants", table).await;
        let reads = json!({"grantee": name, "actions": ["read"], "object": "branch:*"});
        server.post("/v1/grants", reads).await;
        let writes = json!({"grantee": name, "actions": ["write"], "object": branch});
        server.post("/v1/grants", writes).await;
    }
    let script = "BEGIN; INSERT INTO t VALUES (1); SELECT count(*) FROM t; COMMIT";
    let as_user = |user: &str, sql: &str| {
        let mut command = psql_command(&server, "main", sql);
        command.env("PGPASSWORD", PASSWORD).args(["-U", user]);
        command
    };
    let shown = run(as_user("eva", script)).await;
    assert_eq!(shown, ("BEGIN\nINSERT 0 1\n1\nCOMMIT\n".to_owned(), String::new()));
    let (_, errors) = run(as_user("bob", script)).await;
    assert!(errors.contains("write") && errors.contains("main"), "{errors}");
    let (_, errors) = run(as_user("eva", "BEGIN; DELETE FROM t; COMMIT")).await;
    assert!(errors.contains("delete"), "{errors}");
    let (shown, _) = run(psql_command(&server, "main", "SELECT count(*) FROM t")).await;
    assert_eq!(shown, "1\n");
    server.post("/v1/branches", json!({"name": "locked"})).await;
    let protect = json!({"protected": true});
    server.send(request(Method::PATCH, "/v1/branches/locked", Some(&protect))).await;
    let update = "BEGIN; UPDATE t SET n = 2";
    let (_, errors) = run(psql_command(&server, "locked", update)).await;
    assert!(errors.contains("is protected"), "{errors}");
}

async fn malformed() {
    let server = started().await;
    let startup = |content: &[u8]| {
        let mut bytes = (content.len() as u32 + 4).to_be_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes
    };
    let token = token(&server);
    let with_password = |message: &[u8]| {
        let mut bytes = startup(b"\0\x03\0\0user\0a\0database\0main\0\0");
        bytes.push(b'p');
        bytes.extend((token.len() as u32 + 5).to_be_bytes());
        bytes.extend(token.as_bytes());
        bytes.push(0);
        bytes.extend(message);
        bytes
    };
    let cases = [
        Vec::new(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"\xff\xff\xff\xff\0\0\0\0".to_vec(),
        b"\0\0\0\0\0\0\0\0".to_vec(),
        startup(b"\0\x02\0\0"),
        startup(b"\0\x03\0\0user"),
        startup(b"\x04\xd2\x16\x2e\0"),
        with_password(b"Q\x7f\xff\xff\xff"),
        with_password(b"Q\0\0\0\0"),
        with_password(b"B\0\0\0\x0b\0\0\0\0\0\xff\xff"),
        with_password(b"\xff\0\0\0\x04"),
        with_password(b"Q\0\0\0\x09SELE"),
    ];
    for bytes in cases {
        let mut stream = TcpStream::connect(address(&server)).await.expect("a connection");
        // The server may have closed the connection already.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply).await;
        assert!(reply.len() < 10_000, "{bytes:?}");
    }
    let (shown, _) = run(psql_command(&server, "main", "SELECT 3")).await;
    assert_eq!(shown, "3\n");
}

async fn drivers() {
    script("postgres.py").await;
}

async fn sessions() {
    script("postgres_session.py").await;
}

async fn tool_queries() {
    script("postgres_tool_queries.py").await;
}

async fn sqlalchemy() {
    script("postgres_sqlalchemy.py").await;
}

/// Returns the Python interpreter with the drivers.
pub fn python() -> PathBuf {
    let name = "postgres-psycopg-3.3.9-asyncpg-0.32.0-sqlalchemy-2.0.58";
    clients::environment_of(name, &PACKAGES).join("bin/python")
}

/// Runs a script of `tests/clients` with a new server.
async fn script(name: &str) {
    let server = started().await;
    let (address, token) = (address(&server), token(&server));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients").join(name);
    let work = move || {
        let mut command = Command::new(python());
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg(script);
        command.args([address.ip().to_string(), address.port().to_string(), token]);
        clients::run(&mut command);
    };
    tokio::task::spawn_blocking(work).await.expect("the script");
}
