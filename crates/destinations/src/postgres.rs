//! Tables of PostgreSQL as destinations: rows are appended, or inserted and updated by a key.
//!
//! The server converts the values to the types of its columns (`json_populate_recordset`). All rows
//! of one payload are written in one transaction. Without a key, this transaction also inserts the
//! id of the payload into the table `headwater_outputs`, so that no payload is appended twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use headwater_function_lake::json_rows as rows;
use headwater_functions::FunctionResult;
use headwater_model::Problem;
use headwater_triggers::{ConnectionPolicy, ServerAddress};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::address_parts::{self, AddressOptions, decoded, invalid};
use crate::invocation_record::InvocationRecord;
use crate::payload::{IdentifiedPayload, Payload};
use crate::send_failure::{chain, excerpt, rejected, temporary, unsuitable};

const EXAMPLE: &str = "postgres://writer@db.example.com/shop?table=orders#secret=PASSWORD";

const TIMEOUT: Duration = Duration::from_secs(30);
const CLOSE_MAX: Duration = Duration::from_secs(1);
const PORT: u16 = 5432;

/// Maximum number of rows in one statement.
const ROWS_MAX: usize = 10_000;

/// Maximum number of columns in a PostgreSQL table.
const COLUMNS_MAX: usize = 1_600;

/// The PostgreSQL table with the ids of appended payloads, in the schema of the target table.
const LOG: &str = "headwater_outputs";

/// The modes of TLS, as in libpq.
const MODES: [(&str, PgSslMode); 6] = [
    ("disable", PgSslMode::Disable),
    ("allow", PgSslMode::Allow),
    ("prefer", PgSslMode::Prefer),
    ("require", PgSslMode::Require),
    ("verify-ca", PgSslMode::VerifyCa),
    ("verify-full", PgSslMode::VerifyFull),
];

/// A table of PostgreSQL that receives rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresTable {
    host: String,
    port: u16,
    user: String,
    database: String,
    /// The TLS mode: a name in [`MODES`].
    mode: &'static str,
    /// The schema, if any, and the name of the table.
    table: Vec<String>,
    /// The columns of the key; empty to append rows.
    keys: Vec<String>,
    secret: Option<String>,
    timeout: Duration,
}

impl PostgresTable {
    /// Parses a URL. Its query names the table, and its fragment contains the other options.
    pub(crate) fn parse(address: &str) -> Result<Self, Problem> {
        let url = address_parts::url(address, EXAMPLE)?;
        let hint = format!("Write an address such as `{EXAMPLE}`.");
        let user = decoded(url.username());
        let database = decoded(url.path().trim_start_matches('/'));
        if user.is_empty() || database.is_empty() {
            return Err(invalid("the user name or the database name is missing", &hint));
        }
        if [&user, &database].into_iter().any(|text| text.contains(char::is_control)) {
            return Err(invalid(
                "the user name or the database name contains control characters",
                &hint,
            ));
        }
        let mut of_table = AddressOptions::parse(url.query(), &["table", "key", "sslmode"])?;
        let Some(table) = of_table.one("table")? else {
            return Err(invalid("the option `table` is missing", &hint));
        };
        let table: Vec<String> = table.split('.').map(str::to_owned).collect();
        if table.len() > 2 || table.iter().any(String::is_empty) {
            return Err(invalid("the option `table` must be `NAME` or `SCHEMA.NAME`", &hint));
        }
        let mode = of_table.one("sslmode")?.unwrap_or_else(|| "prefer".to_owned());
        let Some((mode, _)) = MODES.into_iter().find(|(name, _)| *name == mode) else {
            return Err(invalid(format_args!("`sslmode={mode}` is not supported"), &hint));
        };
        let mut options = AddressOptions::parse(url.fragment(), &["secret", "timeout"])?;
        Ok(PostgresTable {
            host: address_parts::host(&url),
            port: url.port().unwrap_or(PORT),
            user,
            database,
            mode,
            table,
            keys: of_table.all("key"),
            secret: options.secret()?,
            timeout: options.timeout(TIMEOUT)?,
        })
    }

    pub(crate) fn secret(&self) -> Option<&str> {
        self.secret.as_deref()
    }

    pub(crate) fn server(&self) -> ServerAddress {
        ServerAddress { scheme: "postgres", host: self.host.clone(), port: self.port }
    }

    /// Writes the rows of a payload. Rows that an earlier attempt wrote are not written again.
    pub(crate) async fn write(
        &self,
        content: &IdentifiedPayload<'_>,
        policy: &ConnectionPolicy,
        password: Option<&str>,
    ) -> Result<Value, Problem> {
        let rows = Rows::of(content).await?;
        if rows.texts.is_empty() {
            return Ok(json!({"rows": 0}));
        }
        let statement = self.statement(&rows.columns)?;
        let work = async {
            let mut connection = self.connect(policy, password).await?;
            let written = self.insert(&mut connection, &statement, &rows.texts, content.id).await;
            let written = written.map_err(|error| self.problem(&error, password))?;
            // The rows are committed, so a failed or slow disconnection does not matter.
            let _ = tokio::time::timeout(CLOSE_MAX, connection.close()).await;
            let count = if written { rows.texts.len() } else { 0 };
            Ok(json!({"rows": count}))
        };
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| {
            let (server, limit) = (self.server(), self.timeout.as_secs_f64());
            Err(temporary(format!("{server} does not respond within {limit}s")))
        })
    }

    async fn connect(
        &self,
        policy: &ConnectionPolicy,
        password: Option<&str>,
    ) -> Result<PgConnection, Problem> {
        let server = self.server();
        let mode = MODES.into_iter().find(|(name, _)| *name == self.mode);
        let mode = mode.map_or(PgSslMode::VerifyFull, |(_, mode)| mode);
        let mut last = format!("{server} has no address");
        for address in policy.resolve(&server).await? {
            // `VerifyFull` compares the certificate with the host's name. The name may resolve to
            // another address than the checked one, but a server without the certificate receives
            // no password.
            let host = match mode {
                PgSslMode::VerifyFull => self.host.clone(),
                _ => address.ip().to_string(),
            };
            let options = PgConnectOptions::new_without_pgpass()
                .host(&host)
                .port(self.port)
                .username(&self.user)
                .password(password.unwrap_or_default())
                .database(&self.database)
                .ssl_mode(mode)
                .application_name("headwater")
                .disable_statement_logging();
            match PgConnection::connect_with(&options).await {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    let reason = excerpt(&chain(&error), password);
                    last = format!("{server} cannot be reached: {reason}");
                }
            }
        }
        Err(temporary(last))
    }

    /// Inserts rows in one transaction. Returns false if an earlier attempt has appended the rows.
    async fn insert(
        &self,
        connection: &mut PgConnection,
        statement: &str,
        rows: &[Box<RawValue>],
        id: &str,
    ) -> Result<bool, sqlx::Error> {
        let appends = self.keys.is_empty();
        if appends {
            self.create_log(connection).await?;
        }
        let mut transaction = connection.begin().await?;
        if appends {
            let sql = format!("INSERT INTO {} (id) VALUES ($1) ON CONFLICT DO NOTHING", self.log());
            let logged = sqlx::query(AssertSqlSafe(sql)).bind(id.to_owned());
            if logged.execute(&mut *transaction).await?.rows_affected() == 0 {
                transaction.rollback().await?;
                return Ok(false);
            }
        }
        for rows in rows.chunks(ROWS_MAX) {
            let texts: Vec<&str> = rows.iter().map(|row| row.get()).collect();
            let array = format!("[{}]", texts.join(","));
            let insert = sqlx::query(AssertSqlSafe(statement.to_owned())).bind(array);
            insert.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Creates the table of payload ids, if it is missing.
    async fn create_log(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let find = sqlx::query_scalar::<_, bool>("SELECT to_regclass($1::text) IS NULL");
        if !find.bind(self.log()).fetch_one(&mut *connection).await? {
            return Ok(());
        }
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {} (id text PRIMARY KEY, \
             written timestamptz NOT NULL DEFAULT now())",
            self.log()
        );
        match sqlx::query(AssertSqlSafe(sql)).execute(&mut *connection).await {
            // Another call created the table at the same time.
            Err(sqlx::Error::Database(error))
                if matches!(error.code().as_deref(), Some("23505" | "42P07")) =>
            {
                Ok(())
            }
            created => created.map(drop),
        }
    }

    /// Returns the statement that inserts a JSON array of rows with these columns.
    fn statement(&self, columns: &[String]) -> Result<String, Problem> {
        if let Some(key) = self.keys.iter().find(|key| !columns.contains(key)) {
            let message = format!("the rows of the result have no column `{key}`");
            return Err(unsuitable(message, "Return the columns of the key in each row."));
        }
        if columns.is_empty() {
            let message = "the rows of the result have no columns".to_owned();
            return Err(unsuitable(message, "Return rows with at least one column."));
        }
        let listed =
            |names: &[String]| names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let (table, names) = (self.quoted_table(), listed(columns));
        let mut sql = format!(
            "INSERT INTO {table} ({names}) SELECT {names} \
             FROM json_populate_recordset(NULL::{table}, $1::text::json)"
        );
        if !self.keys.is_empty() {
            let others = columns.iter().filter(|name| !self.keys.contains(name));
            let set: Vec<String> = others
                .map(|name| quoted(name))
                .map(|name| format!("{name} = EXCLUDED.{name}"))
                .collect();
            let action = if set.is_empty() {
                "NOTHING".to_owned()
            } else {
                format!("UPDATE SET {}", set.join(", "))
            };
            sql = format!("{sql} ON CONFLICT ({}) DO {action}", listed(&self.keys));
        }
        Ok(sql)
    }

    fn quoted_table(&self) -> String {
        self.table.iter().map(|part| quoted(part)).collect::<Vec<_>>().join(".")
    }

    fn log(&self) -> String {
        match self.table.as_slice() {
            [schema, _] => format!("{}.{LOG}", quoted(schema)),
            _ => LOG.to_owned(),
        }
    }

    /// Converts an error to a problem. The server controls the message, so it is truncated.
    fn problem(&self, error: &sqlx::Error, password: Option<&str>) -> Problem {
        let server = self.server();
        let sqlx::Error::Database(error) = error else {
            return temporary(format!("{server}: {}", excerpt(&chain(error), password)));
        };
        let message = format!("{server}: {}", excerpt(error.message(), password));
        // SQLSTATE classes of errors that the rows cause: cardinality, data and constraints.
        let code = error.code().unwrap_or_default();
        if ["21", "22", "23"].iter().any(|class| code.starts_with(class)) {
            rejected(message)
        } else if code.starts_with("42") {
            // Class 42: a missing table, column or right, for example, which a user can correct.
            temporary(message).with_hint(
                "Correct the table and the rights of the user in PostgreSQL: the table and its \
                 columns must exist.",
            )
        } else {
            temporary(message)
        }
    }
}

/// The rows of a payload. They remain JSON text, so that numbers keep all digits.
#[derive(Debug)]
struct Rows {
    texts: Vec<Box<RawValue>>,
    /// The columns of all rows, sorted.
    columns: Vec<String>,
}

impl Rows {
    async fn of(content: &IdentifiedPayload<'_>) -> Result<Self, Problem> {
        let json = match content.payload {
            Payload::Record(json) => Bytes::from(row(InvocationRecord { json }).to_string()),
            Payload::Result(call) => {
                if let FunctionResult::Table(table) = call.value {
                    rows::check_exact(table).await?;
                }
                content.body().await?.bytes
            }
        };
        rows::blocking(move || Rows::parse(&json)).await
    }

    fn parse(json: &[u8]) -> Result<Self, Problem> {
        let texts = rows::texts(json)?;
        let mut columns = BTreeSet::new();
        for text in &texts {
            let row: BTreeMap<String, &RawValue> =
                serde_json::from_str(text.get()).map_err(|error| rows::not_json(&error))?;
            columns.extend(row.into_keys());
            if columns.len() > COLUMNS_MAX {
                let message = format!("the rows have more than {COLUMNS_MAX} columns");
                return Err(unsuitable(message, "Return rows with fewer columns."));
            }
        }
        // A null character would end the statement.
        if columns.iter().any(|name| name.is_empty() || name.contains('\0')) {
            let message = "the name of a column is empty or contains a null character".to_owned();
            return Err(unsuitable(message, "Rename the columns of the returned rows."));
        }
        Ok(Rows { texts, columns: columns.into_iter().collect() })
    }
}

/// Returns the row of a record, with the same columns as in a table of the lake.
fn row(record: InvocationRecord<'_>) -> Value {
    json!({
        "id": record.call(),
        "time": record.time(),
        "function": record.function(),
        "status": record.status(),
        "request": record.request().to_string(),
        "response": record.response().map(ToString::to_string),
        "error": record.error(),
    })
}

/// Returns an identifier in quotes.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(options: &str, columns: &[&str]) -> Result<String, Problem> {
        let table = PostgresTable::parse(&format!("postgres://u@h/d?{options}")).expect("valid");
        table.statement(&columns.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn rows_are_appended_or_updated_by_their_key() {
        let found = statement("table=orders", &["id", "a\"b"]).expect("a statement");
        let expected = "INSERT INTO \"orders\" (\"id\", \"a\"\"b\") SELECT \"id\", \"a\"\"b\" \
                        FROM json_populate_recordset(NULL::\"orders\", $1::text::json)";
        assert_eq!(found, expected);
        let found = statement("table=s.orders&key=id", &["id", "n"]).expect("a statement");
        let expected = " ON CONFLICT (\"id\") DO UPDATE SET \"n\" = EXCLUDED.\"n\"";
        assert!(found.ends_with(expected), "{found}");
        let found = statement("table=orders&key=id&key=n", &["id", "n"]).expect("a statement");
        assert!(found.ends_with(" ON CONFLICT (\"id\", \"n\") DO NOTHING"), "{found}");
        let problem = statement("table=orders&key=id", &["n"]).expect_err("no key");
        assert!(problem.message.contains("have no column `id`"), "{problem}");
    }

    #[test]
    fn the_log_is_in_the_schema_of_the_table() {
        for (name, log) in [("orders", LOG), ("s.orders", "\"s\".headwater_outputs")] {
            let address = format!("postgres://u%40b@h/d?table={name}#secret=PG");
            let table = PostgresTable::parse(&address).expect("valid");
            assert_eq!((table.log().as_str(), table.user.as_str()), (log, "u@b"));
            assert_eq!(table.server().to_string(), "postgres://h:5432");
        }
    }

    #[test]
    fn columns_are_those_of_all_rows() {
        let rows = Rows::parse(br#" [{"b": 1, "a": 2}, {"a": 1, "c": null}]"#).expect("rows");
        assert_eq!(rows.columns, ["a", "b", "c"]);
        let rows = Rows::parse(br#"{"n": 12345678901234567890123.50}"#).expect("a row");
        assert_eq!(rows.texts[0].get(), r#"{"n": 12345678901234567890123.50}"#);
        assert!(Rows::parse(b"[]").expect("no rows").texts.is_empty());
        for (json, message) in [
            ("[{}, 1]", "item 2 of the list is not a dict"),
            ("[{]", "not valid JSON"),
            (r#"{"a\u0000b": 1}"#, "a null character"),
        ] {
            let problem = Rows::parse(json.as_bytes()).expect_err(json);
            assert!(problem.message.contains(message), "{problem}");
        }
        let wide: BTreeMap<String, u8> = (0..2_000).map(|at| (at.to_string(), 0)).collect();
        Rows::parse(json!(wide).to_string().as_bytes()).expect_err("too many columns");
    }
}
