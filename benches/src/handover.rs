//! What goes from function to function: a table of a gigabyte, from the moment that one function returns it
//! to the moment that the next has looked at all of it; beside the ways in which people do that today.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use headwater_functions::{
    Argument, ArgumentValue, Environment, FunctionEvent, Functions, Invocation, Limits, Returned,
    SharedTable,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Outcome;
use crate::functions::invocation;
use crate::report::{Report, duration};
use crate::sample::median;

/// The size of the table, and how often it is handed over.
const BYTES: usize = 1 << 30;
const TIMES: usize = 9;

/// How often each function of the arena's works.
const WORKS: usize = 20;

const REFERENCES: &str = include_str!("references/handover.py");

/// Says when it returns; says when it has looked at everything.
const SOURCE: &str = "
import time
import numpy, pyarrow as pa, pyarrow.compute as pc

def f(size):
    rows = size // 64
    table = pa.table({f'c{n}': numpy.arange(rows) + n for n in range(8)})
    print(time.monotonic_ns())
    return table
";
const CHILD: &str = "
import time
import numpy, pyarrow.compute as pc

def f(data):
    total = sum(pc.sum(column).as_py() for column in data.columns)
    print(time.monotonic_ns())
    return total > 0
";

/// Says when it was called, with its table open.
const LOOKS: &str = "
import time
def f(data):
    print(time.monotonic_ns())
    return data.num_rows >= 0
";

const WORK: &str = include_str!("references/workloads.py");

/// Functions of those.
const WORKLOADS: [&str; 7] = [
    "arrow_numbers",
    "arrow_texts",
    "numpy_numbers",
    "polars_numbers",
    "polars_texts",
    "pandas_numbers",
    "pandas_texts",
];

/// Adds the figures to the report. Not every machine has an environment with Ray.
pub async fn measure(
    report: &mut Report,
    functions: &Functions,
    packed: &Arc<Environment>,
    with_ray: Option<&Arc<Environment>>,
) -> Outcome<()> {
    let mut taken = Vec::new();
    // The first makes what is made once.
    for number in 0..=TIMES {
        let took = hand_over(functions, packed).await?;
        if number > 0 {
            taken.push(took);
        }
    }
    let reference = |environment: &Environment, way: &str, times: usize| {
        tokio::task::block_in_place(|| referred(environment, way, times))
    };
    let copied = reference(packed, "copy", TIMES)?;
    let what = "1 GB from function to function, read";
    let name = "two threads copy it into huge pages";
    report.ratio(what, median(taken.clone()), (name, median(copied)), 2.0);
    let mut others =
        vec![("a Parquet file", packed, "parquet"), ("Arrow Flight", packed, "flight")];
    others.extend(with_ray.map(|environment| ("Ray", environment, "ray")));
    for (name, environment, way) in others {
        match reference(environment, way, 3) {
            Ok(took) => report.beside(what, median(taken.clone()), (name, median(took))),
            Err(error) => eprintln!("{name}: {error}"),
        }
    }
    taken.sort();
    let (least, most) = (taken.first().copied(), taken.last().copied());
    eprintln!(
        "from {} to {}",
        duration(least.unwrap_or_default()),
        duration(most.unwrap_or_default())
    );
    Ok(())
}

/// The same without a copy, and what that does to the functions themselves.
pub async fn measure_arena(
    report: &mut Report,
    functions: &Functions,
    environment: &Arc<Environment>,
) -> Outcome<()> {
    for which in WORKLOADS {
        let size = BYTES / 100 * 95;
        let (mut handed, mut taken, mut copied) = (Vec::new(), Vec::new(), 0.0);
        let (plain, _, _) = worked(functions, environment, (which, size, false)).await?;
        for number in 0..WORKS {
            let (table, took, ended) = worked(functions, environment, (which, size, true)).await?;
            taken.push(took);
            copied = table.bytes_copied() as f64 / table.bytes() as f64 * 100.0;
            if number < TIMES {
                let (_, began) =
                    said(functions, environment, LOOKS, vec![given(table.clone())]).await?;
                handed.push(Duration::from_nanos(began.saturating_sub(ended)));
            }
            if number == 0 && !same(&plain, &table).await? {
                return Err(format!("{which}: other rows than without the arena").into());
            }
        }
        let beside = format!("{copied:.2} % of its bytes copied (under 1 %), the same rows");
        let what = format!("handed over by the arena, {}", which.replace('_', ", "));
        report.time(&what, median(handed), &beside, Duration::from_millis(50));
        let alone = |huge: bool| {
            tokio::task::block_in_place(|| alone(environment, (which, size), WORKS, huge))
        };
        let (small, huge) = (alone(false)?, alone(true)?);
        let what = format!("its own time with it, {}", which.replace('_', ", "));
        report.effect(&what, &taken, &[("private", small), ("private, huge pages", huge)]);
    }
    Ok(())
}

/// Runs a function of a workload: what it returned, how long it worked, and when it ended.
async fn worked(
    functions: &Functions,
    environment: &Arc<Environment>,
    (which, size, arena): (&str, usize, bool),
) -> Outcome<(SharedTable, Duration, u64)> {
    let json =
        |name: &str, value| Argument { name: name.to_owned(), value: ArgumentValue::Json(value) };
    let arguments = vec![json("which", which.into()), json("size", size.into())];
    let (returned, text) = told(functions, environment, WORK, (arguments, arena)).await?;
    let Returned::Table(table) = returned else { return Err("no table".into()) };
    let (took, ended) = text.split_once(' ').ok_or("it said something else")?;
    Ok((table, Duration::from_nanos(took.parse()?), ended.parse()?))
}

/// The same in a script of its own, with or without huge pages where its allocators can be told.
fn alone(
    environment: &Environment,
    (which, size): (&str, usize),
    times: usize,
    huge: bool,
) -> Outcome<Vec<Duration>> {
    let (size, times) = (size.to_string(), times.to_string());
    let mut command = Command::new(&environment.python);
    command.args(["-c", WORK, which, &size, &times]).env("ARROW_DEFAULT_MEMORY_POOL", "system");
    if huge {
        command.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
        command.env("_RJEM_MALLOC_CONF", "thp:always");
    }
    times_of(command)
}

/// Whether two tables have the same rows, whichever batches they come in.
async fn same(one: &SharedTable, other: &SharedTable) -> Outcome<bool> {
    let one: Vec<RecordBatch> = one.stream().try_collect().await?;
    let other: Vec<RecordBatch> = other.stream().try_collect().await?;
    let rows = |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
    if rows(&one) != rows(&other) {
        return Ok(false);
    }
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let (mut left, mut right) = (one.next(), other.next());
    while let (Some(mine), Some(theirs)) = (&left, &right) {
        let count = mine.num_rows().min(theirs.num_rows());
        if mine.slice(0, count) != theirs.slice(0, count) {
            return Ok(false);
        }
        let rest = |batch: &RecordBatch| {
            let left = batch.num_rows() - count;
            (left > 0).then(|| batch.slice(count, left))
        };
        (left, right) = (rest(mine).or_else(|| one.next()), rest(theirs).or_else(|| other.next()));
    }
    Ok(true)
}

/// From the end of one function to the end of the next.
async fn hand_over(functions: &Functions, environment: &Arc<Environment>) -> Outcome<Duration> {
    let size = ArgumentValue::Json(BYTES.into());
    let size = Argument { name: "size".to_owned(), value: size };
    let (returned, began) = said(functions, environment, SOURCE, vec![size]).await?;
    let Returned::Table(table) = returned else { return Err("no table".into()) };
    let (_, ended) = said(functions, environment, CHILD, vec![given(table)]).await?;
    Ok(Duration::from_nanos(ended.saturating_sub(began)))
}

fn given(table: SharedTable) -> Argument {
    Argument { name: "data".to_owned(), value: ArgumentValue::Table(table) }
}

/// Calls a function that prints a moment.
async fn said(
    functions: &Functions,
    environment: &Arc<Environment>,
    source: &str,
    arguments: Vec<Argument>,
) -> Outcome<(Returned, u64)> {
    let (returned, text) = told(functions, environment, source, (arguments, false)).await?;
    Ok((returned, text.parse()?))
}

/// Calls a function that prints a line.
async fn told(
    functions: &Functions,
    environment: &Arc<Environment>,
    source: &str,
    (arguments, arena): (Vec<Argument>, bool),
) -> Outcome<(Returned, String)> {
    let (sink, mut lines) = mpsc::channel(16);
    let invocation = Invocation {
        arguments,
        arena,
        kind: headwater_functions::Returns::Any,
        limits: Limits { memory_bytes: 6 << 30, ..Limits::default() },
        ..invocation(environment, source)
    };
    let outcome = functions.invoke(invocation, sink, CancellationToken::new()).await;
    let returned = outcome.returned?;
    match lines.recv().await {
        Some(FunctionEvent::Line { text, .. }) => Ok((returned, text)),
        None => Err("it said nothing".into()),
    }
}

/// What another way takes, as often as asked.
fn referred(environment: &Environment, way: &str, times: usize) -> Outcome<Vec<Duration>> {
    let (bytes, times) = (BYTES.to_string(), times.to_string());
    let mut command = Command::new(&environment.python);
    command.args(["-c", REFERENCES, way, &bytes, &times]);
    times_of(command)
}

/// The seconds that a script prints.
fn times_of(mut command: Command) -> Outcome<Vec<Duration>> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let said = String::from_utf8(output.stdout)?;
    let seconds = said.lines().map(|line| Ok(Duration::from_secs_f64(line.trim().parse()?)));
    seconds.collect()
}
