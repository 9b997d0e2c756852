//! SQL engines from PyPI as references: child processes that run timed statements.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::Outcome;

const PROGRAM: &str = include_str!("references/sql.py");

/// A release of DuckDB on PyPI.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum DuckDbRelease {
    /// The last release whose extensions are on PyPI.
    V1_5_5,
    V2_0_1,
}

impl DuckDbRelease {
    fn number(self) -> &'static str {
        match self {
            DuckDbRelease::V1_5_5 => "1.5.5",
            DuckDbRelease::V2_0_1 => "2.0.1",
        }
    }
}

/// A process of a SQL engine.
pub struct PythonEngine {
    python: PathBuf,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// The answer to a request: seconds, number of rows, the first column as text, and the first
/// difference from the compared answer.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Rows(f64, usize, Vec<String>, String),
    Failed { error: String },
}

impl PythonEngine {
    /// Installs DuckDB into `folder` and starts it with `threads` threads.
    pub fn duckdb(folder: &Path, release: DuckDbRelease, threads: usize) -> Outcome<Self> {
        let number = release.number();
        let environment = folder.join(format!("duckdb-{number}"));
        let python = environment_with(&environment, &[&format!("duckdb=={number}"), "pyarrow"])?;
        Self::start(python, "duckdb", threads)
    }

    /// Installs polars into `folder` and starts it with `threads` threads.
    pub fn polars(folder: &Path, threads: usize) -> Outcome<Self> {
        let python = environment_with(&folder.join("polars"), &["polars", "pyarrow"])?;
        Self::start(python, "polars", threads)
    }

    fn start(python: PathBuf, engine: &str, threads: usize) -> Outcome<Self> {
        let mut child = Command::new(&python)
            .args(["-c", PROGRAM, engine, &threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or("no input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(PythonEngine { python, child, input, output })
    }

    /// Installs and loads DuckDB's extensions for an Iceberg REST catalog.
    pub fn load_iceberg(&mut self) -> Outcome<()> {
        self.load_extensions(&["avro", "httpfs", "iceberg"])
    }

    /// Installs extensions of DuckDB 1.5.5 from PyPI and loads them.
    pub fn load_extensions(&mut self, names: &[&str]) -> Outcome<()> {
        for name in names {
            install(&self.python, &[&format!("duckdb-extension-{name}==1.5.5")])?;
            let code = format!(
                "import pathlib, duckdb_extension_{name} as e; \
                 print(next(pathlib.Path(e.__file__).parent.rglob('{name}.duckdb_extension')))"
            );
            let found = Command::new(&self.python).args(["-c", &code]).output()?;
            let file = String::from_utf8(found.stdout)?;
            self.query(&format!("LOAD '{}'", file.trim()))?;
        }
        Ok(())
    }

    /// Makes Parquet files available as tables.
    pub fn open(&mut self, tables: &BTreeMap<String, Vec<String>>) -> Outcome<()> {
        self.send(&json!({ "tables": tables }))?;
        Ok(())
    }

    /// Runs one statement. Returns its time within the engine and the number of its rows.
    pub fn query(&mut self, sql: &str) -> Outcome<(Duration, usize)> {
        let (seconds, rows, _, _) = self.send(&json!({ "sql": sql }))?;
        Ok((Duration::from_secs_f64(seconds), rows))
    }

    /// Runs one statement. Returns the values of its first column as text.
    pub fn texts(&mut self, sql: &str) -> Outcome<Vec<String>> {
        Ok(self.send(&json!({ "sql": sql, "texts": true }))?.2)
    }

    /// Runs one query. Returns the first difference between its rows and those of an Arrow file.
    pub fn difference(&mut self, sql: &str, answer: &Path) -> Outcome<Option<String>> {
        let found = self.send(&json!({ "sql": sql, "answer": answer }))?.3;
        Ok((!found.is_empty()).then_some(found))
    }

    fn send(&mut self, request: &Value) -> Outcome<(f64, usize, Vec<String>, String)> {
        writeln!(self.input, "{request}")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            return Err(format!("the reference engine ended at: {request}").into());
        }
        match serde_json::from_str(&line)? {
            Answer::Rows(seconds, rows, texts, difference) => {
                Ok((seconds, rows, texts, difference))
            }
            Answer::Failed { error } => Err(error.into()),
        }
    }
}

impl Drop for PythonEngine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Creates a Python environment with packages from PyPI and returns its interpreter.
pub fn environment_with(folder: &Path, packages: &[&str]) -> Outcome<PathBuf> {
    run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    let python = folder.join("bin/python");
    install(&python, packages)?;
    Ok(python)
}

fn install(python: &Path, packages: &[&str]) -> Outcome<()> {
    run(Command::new(python).args(["-m", "pip", "install", "--quiet"]).args(packages))
}

fn run(command: &mut Command) -> Outcome<()> {
    let status = command.stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} exited with {status}").into()) }
}
