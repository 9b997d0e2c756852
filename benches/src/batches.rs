//! A model over a table larger than its memory limit, read as record batches: a whole run, compared
//! with a plain script that scans the same Parquet files.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::commands::{headwater, python, run};
use crate::report::{Report, duration};

const PROJECT: &str = "[project]\nname = \"bench\"\n\n[defaults]\npython = \"3.11\"\n";

/// Bytes per row: eight columns of eight bytes.
const ROW_BYTES: u64 = 64;

const SCAN: &str = "
import sys, time
import pyarrow.compute as pc, pyarrow.dataset

def read_all(batches):
    total, rows = 0.0, 0
    for batch in batches:
        total += sum(pc.sum(column).as_py() for column in batch.columns)
        rows += len(batch)
    return total, rows

if __name__ == '__main__':
    files = sys.argv[1:]
    began = time.monotonic()
    total, rows = read_all(pyarrow.dataset.dataset(files).to_batches())
    print(rows, time.monotonic() - began)
";

/// Measures the run with a table of `gigabytes` GiB, and adds the result to the report.
pub fn measure(report: &mut Report, gigabytes: u64) -> Outcome<()> {
    let folder = tempfile::tempdir_in(std::env::current_dir()?.join("target"))
        .or_else(|_| tempfile::tempdir())?;
    let outcome = in_lake(report, folder.path(), gigabytes);
    let _ = headwater(folder.path()).arg("stop").output();
    outcome
}

fn in_lake(report: &mut Report, folder: &Path, gigabytes: u64) -> Outcome<()> {
    run(headwater(folder).arg("init").arg(folder))?;
    std::fs::write(folder.join("headwater.toml"), PROJECT)?;
    let rows = gigabytes * (1 << 30) / ROW_BYTES;
    for (table, rows) in [("small", 1_000), ("large", rows)] {
        let columns = (0..8).map(|n| format!("sin(value * {n} + 1) AS c{n}"));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let create = format!(
            "CREATE TABLE {table} AS SELECT {columns} FROM generate_series(1, {rows}) AS s(value)"
        );
        run(headwater(folder).args(["query", &create]))?;
    }
    // The first run creates the environment and the zygote.
    model(folder, "small")?;
    run(headwater(folder).arg("run"))?;
    model(folder, "large")?;
    let began = Instant::now();
    run(headwater(folder).arg("run"))?;
    let took = began.elapsed();
    let files: Vec<PathBuf> = parquet(&folder.join(".headwater"));
    let mut scan = Command::new(python(folder)?);
    let scanned = scan.args(["-c", SCAN]).args(files).output()?;
    let output = String::from_utf8(scanned.stdout)?;
    let seconds = output.trim().split(' ').next_back().unwrap_or_default().parse()?;
    let scanned = Duration::from_secs_f64(seconds);
    let what = format!("model over {gigabytes} GiB as batches, 1 GiB memory");
    let rate = |took: Duration| gigabytes as f64 / took.as_secs_f64();
    let name = format!(
        "{:.2} GB/s; scan of its Parquet files by pyarrow {:.2} GB/s,",
        rate(took),
        rate(scanned)
    );
    eprintln!("{output} {}", duration(took));
    report.ratio(&what, took, (&name, scanned), 1.25);
    Ok(())
}

/// Writes a model that reads every batch of a table.
fn model(folder: &Path, table: &str) -> Outcome<()> {
    let function = SCAN.split("if __name__").next().unwrap_or_default();
    let source = format!(
        "import headwater\n{function}\n\n\
         @headwater.model(memory=\"1GiB\")\n\
         @headwater.python(\"3.11\", pip={{\"pyarrow\": \"21.0.0\"}})\n\
         def scanned(data=headwater.Model(\"{table}\", batches=True)):\n    \
             total, rows = read_all(data.to_batches())\n    \
             return [{{'total': total, 'rows': rows}}]\n"
    );
    std::fs::write(folder.join("scanned.py"), source)?;
    Ok(())
}

/// Lists the Parquet files of a lake that exceed 1 MiB, which excludes the files of the small
/// table.
fn parquet(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(parquet(&path));
        } else if path.extension().is_some_and(|end| end == "parquet")
            && entry.metadata().is_ok_and(|found| found.len() > 1 << 20)
        {
            found.push(path);
        }
    }
    found
}
