//! Malformed statements: no message contains Rust's debug text or internals of the engine.
//!
//! `statements.sql` contains statements that are wrong or almost right. Each is run unchanged, and
//! once more for each word, without that word.

use futures::TryStreamExt;
use headwater_engine::{Engine, EngineOptions, Session, SessionOptions};
use headwater_lake::Lake;
use headwater_model::{ErrorCode, Problem, ToProblem};

/// Debug text of Rust's and DataFusion's types.
const DEBUG: [&str; 24] = [
    " { ",
    "Some(",
    "None",
    "Value(",
    "Word(",
    "Ident",
    "Field {",
    "metadata",
    "Span(",
    "Expr(",
    "Token",
    "Utf8",
    "Int64",
    "Int32",
    "UInt",
    "Float64",
    "Date32",
    "Box(",
    "Ok(",
    "Err(",
    "DataFusion",
    "Arrow",
    "ScalarValue",
    "is not supported is not",
];

/// Removes the quoted parts of the statement from a message.
fn without_quotes(message: &str) -> String {
    message.split('`').step_by(2).collect::<Vec<_>>().join("…")
}

async fn problem(session: &Session, sql: &str) -> Option<Problem> {
    let answer = match session.execute(sql).await {
        Ok(answer) => answer.stream.try_collect::<Vec<_>>().await.map(drop),
        Err(error) => Err(error),
    };
    answer.err().map(|error| error.to_problem())
}

/// Returns the statement, and the statement without each of its words.
fn variants(sql: &str) -> Vec<String> {
    let words: Vec<&str> = sql.split_whitespace().collect();
    let without = |index: usize| [&words[..index], &words[index + 1..]].concat().join(" ");
    let shorter = (0..words.len()).map(without);
    std::iter::once(sql.to_owned()).chain(shorter).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_shows_debug_text() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open_local(&folder.path().join(".headwater")).await.unwrap();
    let options = EngineOptions {
        memory_bytes: 256 << 20,
        query_memory_bytes: 64 << 20,
        spill_dir: folder.path().join("spill"),
        spill_bytes_max: 1 << 30,
        threads: 2,
        ..EngineOptions::default()
    };
    let engine = Engine::new(lake, options).unwrap();
    let session = engine.session(SessionOptions::default()).unwrap();
    let create = "CREATE TABLE t AS SELECT * FROM (VALUES (1, 'a', DATE '2026-01-02', 2.5)) \
                  AS v (id, name, day, x)";
    assert!(problem(&session, create).await.is_none());
    let (mut tried, mut failed, mut found) = (0, 0, Vec::new());
    for sql in include_str!("statements.sql").split(";\n").flat_map(|sql| variants(sql.trim())) {
        tried += 1;
        let Some(problem) = problem(&session, &sql).await else { continue };
        failed += 1;
        let said = [&problem.message, problem.hint.as_ref().unwrap_or(&String::new())]
            .map(|text| without_quotes(text))
            .join(" | ");
        if DEBUG.iter().any(|word| said.contains(word)) || problem.code == ErrorCode::Internal {
            found.push(format!("{sql}\n    {}: {}", problem.code, problem.message));
        }
    }
    assert!(tried > 800 && failed > 400, "{tried} tried, {failed} failed");
    assert!(found.is_empty(), "{} of {failed}:\n{}", found.len(), found.join("\n"));
}
