//! Transfer of a table of 1 GiB between functions, compared with common alternatives.
//!
//! The time is measured from the return of the first function until the second function has read
//! all values.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use headwater_functions::{
    Argument, ArgumentValue, Environment, FunctionEvent, FunctionResult, Functions, Invocation,
    Limits, SharedTable,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Outcome;
use crate::functions::invocation;
use crate::report::{Report, duration};
use crate::sample::median;

/// Size of the table, and number of transfers.
const BYTES: usize = 1 << 30;
const TIMES: usize = 9;

const REFERENCES: &str = include_str!("references/handover.py");

/// Functions that print the time: before the return, and after reading all values.
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

/// Measures the transfer of a table, and adds the results to the report. `with_ray` is `None` on
/// machines for which Ray has no release.
pub async fn measure(
    report: &mut Report,
    functions: &Functions,
    packed: &Arc<Environment>,
    with_ray: Option<&Arc<Environment>>,
) -> Outcome<()> {
    let mut taken = Vec::new();
    // The first round is a warm-up.
    for number in 0..=TIMES {
        let took = transfer(functions, packed).await?;
        if number > 0 {
            taken.push(took);
        }
    }
    let reference = |environment: &Environment, way: &str, times: usize| {
        tokio::task::block_in_place(|| measure_reference(environment, way, times))
    };
    let copied = reference(packed, "copy", TIMES)?;
    let what = "transfer of 1 GiB between functions";
    let name = "copy into huge pages by two threads";
    report.ratio(what, median(taken.clone()), (name, median(copied)), 2.0);
    let mut others =
        vec![("a Parquet file", packed, "parquet"), ("Arrow Flight", packed, "flight")];
    others.extend(with_ray.map(|environment| ("Ray", environment, "ray")));
    for (name, environment, way) in others {
        match reference(environment, way, 3) {
            Ok(took) => report.unbounded_ratio(what, median(taken.clone()), (name, median(took))),
            Err(error) => eprintln!("{name}: {error}"),
        }
    }
    taken.sort();
    let (least, most) = (taken.first().copied(), taken.last().copied());
    eprintln!(
        "range: {} to {}",
        duration(least.unwrap_or_default()),
        duration(most.unwrap_or_default())
    );
    Ok(())
}

/// Returns the time from the end of one function to the end of the next.
async fn transfer(functions: &Functions, environment: &Arc<Environment>) -> Outcome<Duration> {
    let size = ArgumentValue::Json(BYTES.into());
    let size = Argument { name: "size".to_owned(), value: size };
    let (returned, began) = call_timed(functions, environment, SOURCE, vec![size]).await?;
    let FunctionResult::Table(table) = returned else { return Err("no table".into()) };
    let (_, ended) = call_timed(functions, environment, CHILD, vec![table_argument(table)]).await?;
    Ok(Duration::from_nanos(ended.saturating_sub(began)))
}

fn table_argument(table: SharedTable) -> Argument {
    Argument { name: "data".to_owned(), value: ArgumentValue::Table(table) }
}

/// Calls a function that prints a time.
async fn call_timed(
    functions: &Functions,
    environment: &Arc<Environment>,
    source: &str,
    arguments: Vec<Argument>,
) -> Outcome<(FunctionResult, u64)> {
    let (returned, text) = call(functions, environment, source, arguments).await?;
    Ok((returned, text.parse()?))
}

/// Calls a function that prints one line.
async fn call(
    functions: &Functions,
    environment: &Arc<Environment>,
    source: &str,
    arguments: Vec<Argument>,
) -> Outcome<(FunctionResult, String)> {
    let (sink, mut lines) = mpsc::channel(16);
    let invocation = Invocation {
        arguments,
        kind: headwater_functions::ResultKind::Any,
        limits: Limits { memory_bytes: 6 << 30, ..Limits::default() },
        ..invocation(environment, source)
    };
    let outcome = functions.invoke(invocation, sink, CancellationToken::new()).await;
    let returned = outcome.returned?;
    match lines.recv().await {
        Some(FunctionEvent::Line { text, .. }) => Ok((returned, text)),
        None => Err("the function printed nothing".into()),
    }
}

/// Runs one of the reference methods `times` times.
fn measure_reference(environment: &Environment, way: &str, times: usize) -> Outcome<Vec<Duration>> {
    let (bytes, times) = (BYTES.to_string(), times.to_string());
    let mut command = Command::new(&environment.python);
    command.args(["-c", REFERENCES, way, &bytes, &times]);
    printed_durations(command)
}

/// Runs a script that prints durations in seconds.
fn printed_durations(mut command: Command) -> Outcome<Vec<Duration>> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let text = String::from_utf8(output.stdout)?;
    let seconds = text.lines().map(|line| Ok(Duration::from_secs_f64(line.trim().parse()?)));
    seconds.collect()
}
