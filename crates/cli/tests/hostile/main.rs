//! Malicious statements against a real server. The server stays alive with bounded memory, no error
//! is `internal`, and each response is complete.
//!
//! The tests run a few hundred pseudo-random calls with a fixed seed; `cargo xtask soak` runs
//! thousands. `HEADWATER_SEED` sets the seed.

#![expect(clippy::print_stderr, reason = "a soak test prints its statistics")]

#[path = "../support/mod.rs"]
mod support;

mod calls;
mod server;
mod volume;

use calls::Calls;
use server::{Format, MEMORY_BYTES_MAX, Reply, Server};
use support::Workspace;

/// Statements whose results exceed the memory of a server with 1 GiB.
const LARGE: &[&str] = &[
    "SELECT range(1000000000)",
    "SELECT generate_series(1, 9000000000)",
    "SELECT length(repeat('x', 2000000000))",
    "SELECT length(repeat(t.s, 100000000)) FROM rows AS t",
    "SELECT length(lpad(t.s, 2000000000, 'ab')) FROM rows AS t",
    "SELECT length(rpad(t.s, 2000000000)) FROM rows AS t",
    "SELECT length(replace(repeat(t.s, 100000), 'x', repeat('y', 100000))) FROM rows AS t",
    "SELECT array_length(array_repeat(1, 2000000000))",
    "SELECT array_length(array_repeat(array_repeat(t.id, 100000), 100000)) FROM rows AS t",
    "SELECT array_resize([1], 2000000000)",
    "SELECT length(concat_ws(repeat('x', 50000000), t.s, t.s, t.s, t.s)) FROM rows AS t",
    "SELECT encode(repeat(t.s, 90000000), 'hex') FROM rows AS t",
    "SELECT digest(repeat(t.s, 90000000), 'sha256') FROM rows AS t",
    "SELECT length(repeat(t.s, 90000000) || repeat(t.s, 90000000)) FROM rows AS t",
    "SELECT repeat('x', 90000000) FROM rows AS t",
    "SELECT arrow_cast(NULL, 'FixedSizeBinary(1000000000)') FROM rows AS t",
    "SELECT array_transform(range(50000), x -> concat(t.s, repeat('x', 50000))) FROM rows AS t",
    "SELECT range(DATE '2000-01-31', DATE '2000-01-01', INTERVAL '1' MONTH - INTERVAL '30' DAY)",
];

/// Starts a server with 1 GiB of memory, with a table of 1,000 rows and tables of extreme values.
fn start_server() -> (Workspace, Server) {
    let workspace = Workspace::new();
    workspace.ok(&["stop"]);
    let server = Server::start(&workspace, "1GiB");
    server.ok("CREATE TABLE rows AS SELECT value AS id, 'xy' AS s FROM range(1, 1001)");
    (workspace, server)
}

#[test]
fn a_statement_over_the_memory_limit_is_rejected_and_the_server_stays_alive() {
    let (_workspace, server) = start_server();
    for sql in LARGE {
        let reply = server.query(sql, Format::Json);
        assert_eq!(reply.code(), Some("memory_limit"), "{sql}\n{}", reply.shown());
        let peak = server.peak_bytes();
        assert!(peak < MEMORY_BYTES_MAX, "{sql}\ntook {} MiB", peak >> 20);
    }
    let reply = server.query("SELECT count(*) AS n FROM rows", Format::Json);
    assert_eq!(reply.body.trim(), "[{\"n\":1000}]");
}

#[test]
fn a_format_that_repeats_a_large_value_is_rejected() {
    let (_workspace, server) = start_server();
    let sql = "SELECT length(format(repeat('{0}', 1000000), repeat('x', 1000000))) AS n";
    let reply = server.query(sql, Format::Json);
    assert_eq!(reply.code(), Some("memory_limit"), "{}", reply.shown());
    assert!(server.peak_bytes() < MEMORY_BYTES_MAX);
}

#[test]
fn large_results_within_the_limit_are_returned() {
    let (_workspace, server) = start_server();
    let length = |sql: &str| server.query(sql, Format::Json).body.trim().to_owned();
    assert_eq!(length("SELECT length(repeat('xy', 1000000)) AS n"), "[{\"n\":2000000}]");
    let sql = "SELECT sum(length(repeat(s, 10000))) AS n FROM rows";
    assert_eq!(length(sql), "[{\"n\":20000000}]");
    let sql = "SELECT sum(array_length(range(id * 10))) AS n FROM rows";
    assert_eq!(length(sql), "[{\"n\":5005000}]");
    let sql = "SELECT sum(length(s || repeat('z', 1000))) AS n FROM rows";
    assert_eq!(length(sql), "[{\"n\":1002000}]");
}

#[test]
fn timestamps_beyond_the_calendar_are_written_completely_in_every_format() {
    let (_workspace, server) = start_server();
    let far = "SELECT arrow_cast(arrow_cast(2147483647, 'Int32'), 'Date32') AS d, \
               arrow_cast(9223372036854775807, 'Timestamp(s)') AS t";
    let json = "{\"d\":\"+5881580-07-11\",\"t\":\"+292277026596-12-04T15:30:07\"}";
    let reply = |format| server.query(far, format);
    assert_eq!(reply(Format::Json).body, format!("[{json}]\n"), "{}", reply(Format::Json).shown());
    assert_eq!(reply(Format::Ndjson).body, format!("{json}\n"));
    let csv = "d,t\n+5881580-07-11,+292277026596-12-04T15:30:07\n";
    assert_eq!(reply(Format::Csv).body, csv);
    assert!(reply(Format::Arrow).is_complete());
    let list = server
        .query("SELECT [arrow_cast(arrow_cast(-2147483648, 'Int32'), 'Date32')] AS l", Format::Csv);
    assert_eq!(list.body, "l\n\"[\"\"-5877641-06-23\"\"]\"\n");
}

#[test]
fn map_keys_of_other_types_are_converted_to_strings() {
    let (_workspace, server) = start_server();
    let sql = "SELECT map([1, 2], ['one', NULL]) AS m, map([[1, 2]], [true]) AS l";
    let row = r#"{"m":{"1":"one","2":null},"l":{"[1,2]":true}}"#;
    assert_eq!(server.query(sql, Format::Json).body, format!("[{row}]\n"));
    assert_eq!(server.query(sql, Format::Ndjson).body, format!("{row}\n"));
    let csv = "m,l\n\"{\"\"1\"\":\"\"one\"\",\"\"2\"\":null}\",\"{\"\"[1,2]\"\":true}\"\n";
    assert_eq!(server.query(sql, Format::Csv).body, csv);
}

#[test]
fn invalid_function_arguments_are_errors_of_the_statement() {
    let (_workspace, server) = start_server();
    for sql in [
        "SELECT id FROM rows ORDER BY md5(NULL, 1e-320)",
        "SELECT id FROM rows WHERE sha384(DATE '9999-12-31') IS NOT NULL",
        "SELECT to_char(arrow_cast(9223372036854775807, 'Date64'), 'UTC')",
        "SELECT id % 2, min([[1], NULL, []]) FROM rows GROUP BY 1",
    ] {
        let reply = server.query(sql, Format::Json);
        let code = reply.code().unwrap_or_default();
        assert!(matches!(code, "invalid_sql" | "bad_row"), "{sql}\n{}", reply.shown());
    }
}

#[test]
fn an_invalid_time_zone_is_rejected_before_the_response_starts() {
    let (_workspace, server) = start_server();
    for format in Format::ALL {
        let sql = "SELECT arrow_cast(0, 'Timestamp(us, \"../../../etc/passwd\")') AS t";
        let reply = server.query(sql, format);
        assert_eq!(reply.code(), Some("invalid_sql"), "{}", reply.shown());
        assert!(reply.body.contains("is not a time zone"), "{}", reply.shown());
    }
}

/// Runs calls. Returns the numbers of successful and rejected calls.
fn fuzz(server: &Server, calls: &mut Calls, count: usize) -> (usize, usize) {
    let (mut answered, mut refused, mut faults) = (0, 0, Vec::new());
    for number in 0..count {
        let sql = calls.next();
        let format = Format::ALL[number % Format::ALL.len()];
        let reply = server.query(&sql, format);
        faults.extend(fault(server, &sql, &reply));
        if reply.code().is_some() {
            refused += 1;
        } else {
            answered += 1;
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
    (answered, refused)
}

/// Returns the error of a response, if any. Panics if the server exited or exceeded its memory
/// limit.
fn fault(server: &Server, sql: &str, reply: &Reply) -> Option<String> {
    let peak = server.peak_bytes();
    assert!(peak < MEMORY_BYTES_MAX, "{} MiB\n{sql}", peak >> 20);
    let what = match reply.code() {
        Some("internal") => "internal",
        _ if !reply.is_complete() => "an answer that ends in the middle",
        _ => return None,
    };
    Some(format!("{what}: {sql}\n  {}", reply.shown()))
}

#[test]
fn soak_calls_with_extreme_arguments_succeed_or_are_rejected() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let soak = std::env::var_os("HEADWATER_SOAK").is_some();
    let first = number("HEADWATER_SEED").or(number("HEADWATER_SEEDS_FROM")).unwrap_or_default();
    let each = if soak { 12 } else { 1 };
    let (_workspace, server) = start_server();
    for table in calls::TABLES {
        server.ok(table);
    }
    let mut calls = Calls::new(first);
    let count = calls.functions() * each;
    let (answered, refused) = fuzz(&server, &mut calls, count);
    eprintln!("{count} calls of seed {first}: {answered} answered, {refused} refused");
    assert_eq!(server.query("SELECT 1 AS one", Format::Json).body, "[{\"one\":1}]\n");
}
