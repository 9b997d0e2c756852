//! Every kind of statement of the PostgreSQL protocol, and every way to log in, with every kind of
//! credential. The test fails if a kind of statement is missing in the table.

use std::process::Command;

use headwater_model::{CredentialSettings, Principal};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::access::{Users, permission};
use crate::access_matrix::{self, ALL, READ};
use crate::declared_operations::{self, Mismatches};
use crate::life_cycle::ENDLESS;
use crate::postgres::{address, python, started, token};
use crate::trial;
use crate::{clients, signed};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("postgres_matrix::every_statement_is_decided", statements),
        trial("postgres_matrix::every_login_is_decided", logins),
    ]
}

/// A kind of statement, its text, and the expected SQLSTATEs. The users have no grants, grants to
/// read, and all grants except administration; the last user is the owner. For each user, the rows
/// are executed in order, in the simple and in the extended protocol. The text may contain several
/// statements.
type Row = (&'static str, &'static str, States);

type States = [&'static str; 4];

const OK: &str = "00000";
const NO: &str = "42501";
/// The SQLSTATE of a statement that is not supported.
const NONE: &str = "0A000";
const ALWAYS: States = [OK; 4];
const READS: States = [NO, OK, OK, OK];
const WRITES: States = [NO, NO, OK, OK];
const ADMINISTERS: States = [NO, NO, NO, OK];

/// The statements of SQL, by the variant that the parser returns.
const STATEMENTS: [Row; 21] = [
    ("Query", "SELECT id FROM shop.items", READS),
    ("Explain", "EXPLAIN SELECT id FROM shop.items", READS),
    ("ExplainCost", "EXPLAIN COST SELECT id FROM shop.items", READS),
    // Lists omit objects that the user may not see.
    ("ShowTables", "SHOW TABLES", ALWAYS),
    ("Describe", "DESCRIBE shop.items", READS),
    ("DescribeQuery", "DESCRIBE SELECT id FROM shop.items", READS),
    ("Summarize", "SUMMARIZE shop.items", READS),
    ("CreateTable", "CREATE TABLE IF NOT EXISTS shop.made (id BIGINT)", WRITES),
    ("Alter", "ALTER TABLE shop.scratch SET TBLPROPERTIES ('a' = 'b')", WRITES),
    ("Comment", "COMMENT ON TABLE shop.scratch IS 'text'", WRITES),
    ("Insert", "INSERT INTO shop.scratch (id) VALUES (1)", WRITES),
    ("Delete", "DELETE FROM shop.scratch WHERE id = 1", WRITES),
    ("Update", "UPDATE shop.scratch SET name = 'x' WHERE id = 2", WRITES),
    ("Merge", MERGE, WRITES),
    ("Truncate", "TRUNCATE shop.scratch", WRITES),
    ("CreateView", "CREATE OR REPLACE VIEW shop.seen AS SELECT id FROM shop.items", WRITES),
    ("DropViews", "DROP VIEW IF EXISTS shop.seen", WRITES),
    ("ShowViews", "SHOW VIEWS", ALWAYS),
    ("DropTables", "DROP TABLE IF EXISTS shop.made", WRITES),
    ("CreateNamespace", "CREATE SCHEMA IF NOT EXISTS made", WRITES),
    ("DropNamespaces", "DROP SCHEMA IF EXISTS made", WRITES),
];

const MERGE: &str = "MERGE INTO shop.scratch USING (SELECT 1 AS id) AS s ON scratch.id = s.id \
    WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)";

/// The changes of ALTER TABLE, after `ALTER TABLE shop.changed`.
const CHANGES: [(&str, &str); 16] = [
    ("Add", "ADD COLUMN IF NOT EXISTS more BIGINT"),
    ("Drop", "DROP COLUMN IF EXISTS more"),
    ("Rename", "RENAME COLUMN name TO label; ALTER TABLE shop.changed RENAME COLUMN label TO name"),
    ("Retype", "ALTER COLUMN n TYPE BIGINT"),
    ("AllowNulls", "ALTER COLUMN id DROP NOT NULL"),
    ("RequireValues", "ALTER COLUMN id SET NOT NULL"),
    ("Comment", "ALTER COLUMN id COMMENT 'text'"),
    ("Default", "ALTER COLUMN id SET DEFAULT 7"),
    ("Move", "ALTER COLUMN name FIRST"),
    ("AddPart", "ADD PARTITION FIELD n; ALTER TABLE shop.changed DROP PARTITION FIELD n"),
    ("DropPart", "ADD PARTITION FIELD n; ALTER TABLE shop.changed DROP PARTITION FIELD n"),
    ("ReplacePart", REPLACE_PART),
    ("SortBy", "WRITE ORDERED BY id"),
    ("PrimaryKey", "ADD PRIMARY KEY (id); ALTER TABLE shop.changed DROP PRIMARY KEY"),
    ("Properties", "SET TBLPROPERTIES ('a' = 'b')"),
    ("RenameTable", "RENAME TO shop.other; ALTER TABLE shop.other RENAME TO shop.changed"),
];

const REPLACE_PART: &str = "ADD PARTITION FIELD n; \
    ALTER TABLE shop.changed REPLACE PARTITION FIELD n WITH bucket(4, id) AS b; \
    ALTER TABLE shop.changed DROP PARTITION FIELD b";

/// The statements on roles and grants.
const ACCESS: [Row; 6] = [
    ("CreateRole", "CREATE ROLE IF NOT EXISTS made", ADMINISTERS),
    ("DropRoles", "DROP ROLE IF EXISTS made", ADMINISTERS),
    ("Roles", "GRANT analyst TO other; REVOKE analyst FROM other", ADMINISTERS),
    (
        "Permissions",
        "GRANT SELECT ON TABLE shop.items TO other; REVOKE SELECT ON TABLE shop.items FROM other",
        ADMINISTERS,
    ),
    ("ShowRoles", "SHOW ROLES", ADMINISTERS),
    // A user sees its own grants.
    ("ShowGrants", "SHOW GRANTS", ALWAYS),
];

/// The statements on functions in Python.
const FUNCTIONS: [Row; 3] = [
    ("Create", NEW_FUNCTION, WRITES),
    ("Drop", "DROP FUNCTION IF EXISTS shop.made", WRITES),
    // The list omits functions that the user may not call.
    ("Show", "SHOW FUNCTIONS", ALWAYS),
];

const NEW_FUNCTION: &str = "CREATE OR REPLACE FUNCTION shop.made(a BIGINT) RETURNS BIGINT \
    LANGUAGE python AS 'def made(a): return a'";

/// The statements on row filters and column masks.
const RESTRICTIONS: [Row; 3] = [
    ("Create", "CREATE OR REPLACE ROW FILTER made ON shop.changed USING (true)", ADMINISTERS),
    ("Drop", "DROP ROW FILTER IF EXISTS made", ADMINISTERS),
    ("Show", "SHOW ROW FILTERS", ADMINISTERS),
];

/// The statements that a session executes itself.
const SESSION: [Row; 25] = [
    ("Set", "SET application_name = 'a'", ALWAYS),
    ("SetLocal", "BEGIN; SET LOCAL application_name = 'a'; COMMIT", ALWAYS),
    ("Show", "SHOW application_name", ALWAYS),
    ("ShowAll", "SHOW ALL", ALWAYS),
    ("Reset", "RESET application_name", ALWAYS),
    ("Begin", "BEGIN; COMMIT", ALWAYS),
    ("SetTransaction", "BEGIN; SET TRANSACTION READ ONLY; COMMIT", ALWAYS),
    ("Commit", "BEGIN; INSERT INTO shop.changed (id) VALUES (1); COMMIT", WRITES),
    ("Rollback", "BEGIN; SELECT id FROM shop.items; ROLLBACK", READS),
    ("Savepoint", "BEGIN; SAVEPOINT s; INSERT INTO shop.changed (id) VALUES (1)", WRITES),
    ("Release", "BEGIN; SAVEPOINT s; RELEASE s; COMMIT", ALWAYS),
    ("RollbackTo", "BEGIN; SAVEPOINT s; ROLLBACK TO s; COMMIT", ALWAYS),
    ("Discard", "DISCARD ALL", ALWAYS),
    ("Prepare", "PREPARE p AS SELECT id FROM shop.items; DEALLOCATE p", READS),
    ("Execute", "PREPARE p AS SELECT id FROM shop.items; EXECUTE p; DEALLOCATE p", READS),
    ("Deallocate", "DEALLOCATE ALL", ALWAYS),
    ("Declare", "BEGIN; DECLARE c CURSOR FOR SELECT id FROM shop.items; COMMIT", READS),
    ("Fetch", "BEGIN; DECLARE c CURSOR FOR SELECT id FROM shop.items; FETCH c; COMMIT", READS),
    ("Close", "BEGIN; DECLARE c CURSOR FOR SELECT 1; CLOSE c; COMMIT", ALWAYS),
    // A temporary table is a table on the branch of the transaction, so the statement needs the
    // right to create tables.
    (
        "CreateTemporary",
        "BEGIN; CREATE TEMPORARY TABLE t AS SELECT id FROM shop.items; ROLLBACK",
        WRITES,
    ),
    ("SetConfig", "SELECT set_config('application_name', 'a', false)", ALWAYS),
    ("AdvisoryLocks", "SELECT pg_try_advisory_lock(1), pg_advisory_unlock(1)", ALWAYS),
    ("Sleep", "SELECT pg_sleep(0)", ALWAYS),
    ("Vacuum", "VACUUM", ALWAYS),
    ("Nothing", "SET CONSTRAINTS ALL DEFERRED", ALWAYS),
];

/// Other kinds of requests.
const OTHERS: [Row; 16] = [
    ("COPY FROM STDIN", "COPY shop.changed (id) FROM STDIN", WRITES),
    ("COPY TO STDOUT", "COPY shop.items TO STDOUT", READS),
    ("COPY of a query TO STDOUT", "COPY (SELECT id FROM shop.items) TO STDOUT", READS),
    ("COPY TO a file", "COPY (SELECT 1 AS n) TO 'made.csv'", ADMINISTERS),
    ("read_csv", "SELECT * FROM read_csv('read.csv')", WRITES),
    ("COPY FROM a file", "COPY shop.items FROM '/etc/passwd'", [NONE; 4]),
    // Rights to read tables do not include the right to call functions. Without this right, the
    // function does not exist for the user.
    ("function in Python", "EXPLAIN SELECT shop.tax(id) FROM shop.items", [NO, "42883", OK, OK]),
    (
        "missing function",
        "EXPLAIN SELECT shop.none(id) FROM shop.items",
        [NO, "42883", "42883", "42883"],
    ),
    ("pg_catalog", "SELECT relname FROM pg_catalog.pg_class", ALWAYS),
    // A user sees and signals only its own connections. The process id 0 belongs to no connection.
    ("pg_stat_activity", "SELECT pid FROM pg_stat_activity", ALWAYS),
    ("pg_cancel_backend", "SELECT pg_cancel_backend(0)", ALWAYS),
    ("pg_terminate_backend", "SELECT pg_terminate_backend(0)", ALWAYS),
    ("information_schema", "SELECT table_name FROM information_schema.tables", ALWAYS),
    ("system tables", "SELECT * FROM system.files LIMIT 1", [NO, NO, NO, OK]),
    ("SET ROLE", "SET ROLE administrator", ["22023"; 4]),
    ("cancel", "", ["57014"; 4]),
];

/// Returns all rows of the matrix. The name of a row contains its kind of statement.
fn rows() -> Vec<(String, String, States)> {
    let kinds = [
        ("SupportedStatement", &STATEMENTS[..]),
        ("AccessStatement", &ACCESS),
        ("RestrictionStatement", &RESTRICTIONS),
        ("FunctionStatement", &FUNCTIONS),
        ("SessionCommand", &SESSION),
        ("other", &OTHERS),
    ];
    let named = |kind: &str, row: &Row| (format!("{kind}::{}", row.0), row.1.to_owned(), row.2);
    let rows = kinds.iter().flat_map(|(kind, rows)| rows.iter().map(move |row| named(kind, row)));
    let changes = CHANGES.iter().map(|(name, change)| {
        let sql = format!("ALTER TABLE shop.changed {change}");
        (format!("ParsedAlteration::{name}"), sql, WRITES)
    });
    changes.chain(rows).collect()
}

/// Returns the kinds of statements that the code declares.
fn kinds() -> Vec<String> {
    let kinds = [
        ("sql/src/statement.rs", "SupportedStatement"),
        ("sql/src/alter_table.rs", "ParsedAlteration"),
        ("sql/src/access_statement.rs", "AccessStatement"),
        ("sql/src/restriction_statement.rs", "RestrictionStatement"),
        ("sql/src/function_statement.rs", "FunctionStatement"),
        ("postgres/src/session_command.rs", "SessionCommand"),
    ];
    let named = |(file, kind): (&str, &str)| {
        let variants = declared_operations::variants(file, kind).into_iter();
        variants.map(|name| format!("{kind}::{name}")).collect::<Vec<_>>()
    };
    let groups = ["AccessStatement::Restrictions", "SupportedStatement::Function"];
    let is_one = |name: &String| !groups.contains(&name.as_str());
    kinds.into_iter().flat_map(named).filter(is_one).collect()
}

async fn statements() {
    let rows = rows();
    let named: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
    let listed: Vec<&str> =
        named.iter().copied().filter(|name| !name.starts_with("other::")).collect();
    declared_operations::assert_complete(kinds(), &listed);
    let users = Users::on(started().await).await;
    prepare(&users).await;
    let connects = ["read on branch:main"];
    let mut logins = Vec::new();
    for (name, grants) in [("connects", &connects[..]), ("reads", &READ[..]), ("full", &ALL[..])] {
        logins.push((name, users.user(name, grants).await, logins.len()));
    }
    let scopes = Some(vec![permission("read on branch:main"), permission("select on table:a.b")]);
    let scoped =
        users.token("full", CredentialSettings { scopes, ..CredentialSettings::default() }).await;
    logins.insert(0, ("full", scoped, 0));
    logins.push(("owner", token(&users.server), 3));
    let mut mismatches = Mismatches::default();
    for (user, password, column) in logins {
        let found = states(&users, &rows, user, &password).await;
        for (name, _, expected) in &rows {
            let of = |form| format!("{name} in the {form} protocol as {user} (column {column})");
            for (index, form) in ["simple", "extended"].into_iter().enumerate() {
                let state = found[name][index].as_str().unwrap_or("no SQLSTATE");
                mismatches.check(&of(form), state, expected[column]);
            }
        }
    }
    mismatches.assert_none();
}

/// Creates the objects that the statements use, as the owner.
async fn prepare(users: &Users) {
    for sql in [
        "CREATE TABLE shop.scratch (id BIGINT, name VARCHAR)",
        "CREATE TABLE shop.changed (id BIGINT, name VARCHAR, n INTEGER) \
         TBLPROPERTIES ('format-version' = '3')",
        "CREATE TABLE shop.made (id BIGINT)",
        "CREATE VIEW shop.seen AS SELECT id FROM shop.items",
        "CREATE SCHEMA made",
        "CREATE FUNCTION shop.tax(a BIGINT) RETURNS BIGINT LANGUAGE python \
         AS 'def tax(a): return a'",
        "COPY (SELECT 1 AS n) TO 'read.csv'",
        "CREATE ROLE analyst",
    ] {
        let answer = users.server.rows(sql).await;
        assert!(answer.get("code").is_none(), "{sql}: {answer}");
    }
    users.user("other", &[]).await;
}

/// Executes all statements as a user. Returns the SQLSTATEs of each statement in both protocols.
async fn states(
    users: &Users,
    rows: &[(String, String, States)],
    user: &str,
    password: &str,
) -> Value {
    let statements = rows.iter().filter(|row| !row.1.is_empty());
    let statements: Vec<_> = statements.map(|(name, sql, _)| json!([name, sql])).collect();
    let cases = json!({"users": [[user, password]], "rows": statements, "endless": ENDLESS});
    let address = address(&users.server);
    let mut command = Command::new(tokio::task::spawn_blocking(python).await.expect("Python"));
    command.arg(clients::client("postgres_matrix.py"));
    command.args([address.ip().to_string(), address.port().to_string()]);
    let printed = signed::piped(command, cases.to_string()).await;
    let mut found: Value = serde_json::from_str(&printed).expect("SQLSTATEs");
    found[user].take()
}

async fn logins() {
    let users = Users::on(started().await).await;
    let reader = users.user("reader", &READ).await;
    let full = users.user("full", &ALL).await;
    let limited = users.user("limited", &[]).await;
    let disabled = users.user("disabled", &ALL).await;
    users.access.disable_user(&Principal::owner(), "disabled", true).await.expect("disabled");
    let none = CredentialSettings { scopes: Some(Vec::new()), ..CredentialSettings::default() };
    let unscoped = users.token("full", none).await;
    let scopes = Some(vec![permission("select on table:*")]);
    let misscoped =
        users.token("full", CredentialSettings { scopes, ..CredentialSettings::default() }).await;
    let revoked = access_matrix::revoked(&users).await;
    let expired = access_matrix::expired(&users).await;
    let owner = token(&users.server);
    let mut mismatches = Mismatches::default();
    let forged = access_matrix::forged(&full);
    for (name, user, password, expected) in [
        ("all grants", "full", Some(full.as_str()), OK),
        ("grants to read", "reader", Some(reader.as_str()), OK),
        ("the token of the server", "anyone", Some(owner.as_str()), OK),
        ("no grant", "limited", Some(limited.as_str()), NO),
        ("a token without scopes", "full", Some(unscoped.as_str()), NO),
        ("a token without the scope of the branch", "full", Some(misscoped.as_str()), NO),
        ("no password", "full", None, "28P01"),
        ("an empty password", "full", Some(""), "28P01"),
        ("a wrong password", "full", Some("wrong"), "28P01"),
        ("a forged token", "full", Some(forged.as_str()), "28P01"),
        ("an expired token", "full", Some(expired.as_str()), "28P01"),
        ("a revoked token", "full", Some(revoked.as_str()), "28P01"),
        ("a disabled user", "disabled", Some(disabled.as_str()), "28P01"),
        ("the token of another user", "full", Some(reader.as_str()), "28P01"),
        ("an unknown user", "unknown", Some("wrong"), "28P01"),
    ] {
        mismatches.check(name, &log_in(&users, user, password).await, expected);
    }
    mismatches.assert_none();
}

/// Sends the messages of a login and returns the SQLSTATE of the reply, which drivers do not report
/// for a failed login. If there is no password, sends a query instead of the password.
async fn log_in(users: &Users, user: &str, password: Option<&str>) -> String {
    let mut stream = TcpStream::connect(address(&users.server)).await.expect("a connection");
    let startup = format!("\0\x03\0\0user\0{user}\0database\0main\0\0");
    let (kind, text) = password.map_or((b'Q', "SELECT 1"), |password| (b'p', password));
    let mut bytes = length(startup.len() + 4);
    bytes.extend(startup.as_bytes());
    bytes.push(kind);
    bytes.extend(length(text.len() + 5));
    bytes.extend(text.as_bytes());
    bytes.push(0);
    stream.write_all(&bytes).await.expect("sent");
    // When the client closes its side, the server closes the connection.
    stream.shutdown().await.expect("an end");
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.expect("a reply");
    sqlstate(&reply)
}

fn length(bytes: usize) -> Vec<u8> {
    u32::try_from(bytes).expect("a length").to_be_bytes().to_vec()
}

/// Returns the SQLSTATE of the error message in a reply; `00000` if the reply has no error.
fn sqlstate(mut reply: &[u8]) -> String {
    while let [kind, a, b, c, d, rest @ ..] = reply {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4;
        let (content, next) = rest.split_at(length);
        if *kind == b'E' {
            let mut fields = content.split(|byte| *byte == 0);
            let code = fields.find_map(|field| field.strip_prefix(b"C"));
            return String::from_utf8(code.expect("a code").to_vec()).expect("text");
        }
        reply = next;
    }
    OK.to_owned()
}
