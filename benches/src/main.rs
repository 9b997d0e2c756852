//! Benchmarks, each compared with a reference in the same run: `cargo xtask bench SUITE`.
//!
//! Results are reported relative to a reference measured at the same time on the same machine.
//! Bounds are printed, not asserted.

mod access;
mod batches;
mod call_throughput;
mod commands;
mod durable_writes;
mod events;
mod functions;
mod invoke;
mod pipelines;
mod python_engine;
mod report;
mod rest_server;
mod runtime;
mod sample;
mod sql;
mod table_transfer;
mod tables;

use std::process::ExitCode;

use report::Report;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "Usage: cargo xtask bench first-light [tpch] [durable] [commands]
       cargo xtask bench access [SAMPLES]
       cargo xtask bench events [FILES] [invoke] [callers] [put] [accept] [burst] [delays]
       cargo xtask bench sql [first] [tpch[=SCALE]] [tpcds[=SCALE]] [clickbench[=MILLIONS]]
                             [memory[=SCALE]]
       cargo xtask bench pipelines [MODELS] [many] [edit] [tasks] [shop] [flights]
       cargo xtask bench tables [commits] [branches] [inserts] [planning] [changes] [equality]
       cargo xtask bench functions [SAMPLES] [warm] [callers] [starts] [first] [handover]
                                   [usage] [hot] [neighbours] [local] [idle] [batches [GIGABYTES]]";

/// Default size of the table that one function reads as batches.
const GIGABYTES: u64 = 10;

/// Default number of files of a burst.
const FILES: usize = 10_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["first-light", parts @ ..] => first_light(parts),
        ["access"] => measure_access(2_000),
        ["access", samples] => match samples.parse() {
            Ok(samples) => measure_access(samples),
            Err(_) => Err(USAGE.into()),
        },
        ["events", rest @ ..] => match rest.first().map(|first| first.parse()) {
            Some(Ok(files)) => measure_events(files, &rest[1..]),
            _ => measure_events(FILES, rest),
        },
        ["sql", suites @ ..] => measure_sql(suites),
        ["pipelines", parts @ ..] if parts.iter().all(|part| pipelines::PARTS.contains(part)) => {
            measure_pipelines(1_000, parts)
        }
        ["pipelines", models] => match models.parse() {
            Ok(models) if models > 0 => measure_pipelines(models, &["many"]),
            _ => Err(USAGE.into()),
        },
        ["tables", parts @ ..] => measure_tables(parts),
        ["functions", rest @ ..] => match rest.first().map(|first| first.parse()) {
            Some(Ok(samples)) => measure_functions(samples, &rest[1..]),
            _ => measure_functions(200, rest),
        },
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Result of a benchmark; errors are printed.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn first_light(parts: &[&str]) -> Outcome<()> {
    let wanted = |part| parts.is_empty() || parts.contains(&part);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::new("first-light");
    if wanted("durable") {
        runtime.block_on(durable_writes::measure(&mut report))?;
    }
    if wanted("commands") {
        commands::measure(&mut report)?;
    }
    if wanted("tpch") {
        runtime.block_on(sql::tpch::measure(&mut report))?;
    }
    report.print();
    Ok(())
}

fn measure_access(samples: usize) -> Outcome<()> {
    let mut report = Report::new("access");
    access::measure(&mut report, samples)?;
    report.print();
    Ok(())
}

/// Measures the requested parts of the `events` suite, with a burst of `files` files.
fn measure_events(files: usize, parts: &[&str]) -> Outcome<()> {
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    let mut report = Report::new("events");
    events::measure(&mut report, files, wanted)?;
    report.print();
    Ok(())
}

fn measure_sql(suites: &[&str]) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::new("sql");
    runtime.block_on(sql::measure(&mut report, suites))?;
    report.print();
    Ok(())
}

/// Measures the requested parts of the `pipelines` suite.
fn measure_pipelines(models: usize, parts: &[&str]) -> Outcome<()> {
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    let mut report = Report::new("pipelines");
    pipelines::measure(&mut report, models, wanted)?;
    report.print();
    Ok(())
}

fn measure_tables(parts: &[&str]) -> Outcome<()> {
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::new("tables");
    runtime.block_on(tables::measure(&mut report, wanted))?;
    report.print();
    Ok(())
}

/// Measures the requested parts of the `functions` suite, with `samples` starts of each kind.
fn measure_functions(samples: usize, parts: &[&str]) -> Outcome<()> {
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::new("functions");
    runtime.block_on(async {
        functions::measure(&mut report, samples, wanted).await?;
        runtime::measure(&mut report, samples, wanted).await
    })?;
    drop(runtime);
    if wanted("batches") {
        let size = parts.iter().skip_while(|part| **part != "batches").nth(1);
        let size = size.and_then(|size| size.parse().ok());
        batches::measure(&mut report, size.unwrap_or(GIGABYTES))?;
    }
    report.print();
    Ok(())
}
