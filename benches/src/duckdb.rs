//! DuckDB from PyPI as a reference: a child process that runs timed queries.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::Outcome;

const PROGRAM: &str = "
import json, sys, time, duckdb
connection = duckdb.connect(config={'allow_unsigned_extensions': 'true'})
connection.execute(f'SET threads = {sys.argv[1]}')
# A progress bar would be written between the answers.
connection.execute('SET enable_progress_bar = false')
for line in sys.stdin:
    request = json.loads(line)
    began = time.perf_counter()
    rows = connection.execute(request['sql']).fetchall()
    took = time.perf_counter() - began
    texts = [str(row[0]) for row in rows] if request['texts'] else []
    print(json.dumps([took, len(rows), texts]), flush=True)
";

/// A DuckDB process that accepts queries.
pub struct DuckDb {
    environment: PathBuf,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl DuckDb {
    /// Installs DuckDB into `folder` and starts it with `threads` threads.
    pub fn start(folder: &Path, threads: usize) -> Outcome<Self> {
        let environment = folder.join("duckdb");
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        let python = environment.join("bin/python");
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "duckdb==1.5.5"]))?;
        let mut child = Command::new(&python)
            .args(["-c", PROGRAM, &threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or("no input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(DuckDb { environment, child, input, output })
    }

    /// Installs and loads the extensions for an Iceberg REST catalog.
    pub fn load_iceberg(&mut self) -> Outcome<()> {
        self.load_extensions(&["avro", "httpfs", "iceberg"])
    }

    /// Installs extensions from PyPI and loads them.
    pub fn load_extensions(&mut self, names: &[&str]) -> Outcome<()> {
        let python = self.environment.join("bin/python");
        for name in names {
            let package = format!("duckdb-extension-{name}==1.5.5");
            run(Command::new(&python).args(["-m", "pip", "install", "--quiet", &package]))?;
            let code = format!(
                "import pathlib, duckdb_extension_{name} as e; \
                 print(next(pathlib.Path(e.__file__).parent.rglob('{name}.duckdb_extension')))"
            );
            let found = Command::new(&python).args(["-c", &code]).output()?;
            let file = String::from_utf8(found.stdout)?;
            self.query(&format!("LOAD '{}'", file.trim()))?;
        }
        Ok(())
    }

    /// Runs one statement. Returns its time within DuckDB and the number of its rows.
    pub fn query(&mut self, sql: &str) -> Outcome<(Duration, usize)> {
        let (seconds, rows, _) = self.send(sql, false)?;
        Ok((Duration::from_secs_f64(seconds), rows))
    }

    /// Runs one statement. Returns the values of its first column as text.
    pub fn texts(&mut self, sql: &str) -> Outcome<Vec<String>> {
        Ok(self.send(sql, true)?.2)
    }

    fn send(&mut self, sql: &str, texts: bool) -> Outcome<(f64, usize, Vec<String>)> {
        writeln!(self.input, "{}", serde_json::json!({"sql": sql, "texts": texts}))?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            return Err(format!("DuckDB failed at: {sql}").into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for DuckDb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(command: &mut Command) -> Outcome<()> {
    let status = command.stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} exited with {status}").into()) }
}
