//! `headwater demo`: everything once, on real data. Each step is an ordinary command's work, so that
//! what a person sees is what they can type.

use std::path::{Path, PathBuf};

use headwater_model::{
    Branch, CreateRef, Diff, ImportReport, ImportRequest, Job, MergeReport, MergeRequest, RefSpec,
    RunRequest, Table, UpdateRef,
};
use hyper::Method;
use include_dir::{Dir, include_dir};

use crate::api::Api;
use crate::arguments::{Demo, Query, RefArgument};
use crate::commands::{branch, diff, init, log, query, run, table};
use crate::connect;
use crate::context::Context;
use crate::error::{self, Result};
use crate::events;
use crate::lake_folder::{self, LAKE_FOLDER};
use crate::output;
use crate::terminal::Tone;

/// The example project, data included.
static FLIGHTS: Dir = include_dir!("$CARGO_MANIFEST_DIR/../../examples/flights");

const BRANCH: &str = "demo";

/// Carries out the demo; a second time finds everything done and says so.
pub async fn demo(context: &Context, arguments: &Demo) -> Result<()> {
    let folder = &arguments.folder;
    step(context, &format!("headwater init {}", folder.display()));
    let folder = write_project(folder)?;
    let lake = folder.join(LAKE_FOLDER);
    let context = context.for_lake(lake.clone());
    init::make_lake(&context, &lake).await?;
    let api = connect::connect(&context).await?;
    let outcome = steps(&context, &api, &folder).await;
    api.close().await;
    outcome?;
    step(&context, "your turn");
    context.style.say(format!(
        "  cd {}\n  headwater query \"SELECT * FROM airline_scorecard\"\n  headwater branch ls",
        arguments.folder.display()
    ));
    Ok(())
}

fn step(context: &Context, text: &str) {
    context.style.say(format!("\n{}", context.style.paint(Tone::Strong, format!("$ {text}"))));
}

fn write_project(folder: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(folder)
        .and_then(|()| FLIGHTS.extract(folder))
        .and_then(|()| folder.canonicalize())
        .map_err(error::from_io(&format!("write the example to `{}`", folder.display())))
}

async fn steps(context: &Context, api: &Api, folder: &Path) -> Result<()> {
    import_all(context, api, folder).await?;
    step(context, "headwater branch protect main");
    let change = UpdateRef { protected: Some(true), ..UpdateRef::default() };
    let _: Branch = api.call(Method::PATCH, "/v1/branches/main", &change).await?;

    step(context, &format!("headwater checkout -b {BRANCH}"));
    let from = Some(RefSpec::main());
    let request = CreateRef { name: BRANCH.to_owned(), from, if_not_exists: true };
    let _: Branch = api.post("/v1/branches", &request).await?;
    lake_folder::at(folder)?.set_active_branch(BRANCH)?;

    step(context, "headwater run");
    let report = run_project(context, api, folder).await?;

    step(context, &format!("headwater branch diff main {BRANCH}"));
    let diff: Diff = api.get(format!("/v1/refs/main/diff/{BRANCH}?rows=1")).await?;
    diff::print_diff(context.answer_style, "main", BRANCH, &diff);

    step(context, &format!("headwater branch merge {BRANCH} --into main"));
    let request = MergeRequest::new(RefSpec::Name(BRANCH.to_owned()));
    let merged: MergeReport = api.post("/v1/branches/main/merge", &request).await?;
    branch::print_merge(context, BRANCH, "main", false, &merged);

    let sql = "SELECT * FROM airline_scorecard ORDER BY 1 LIMIT 20";
    step(context, &format!("headwater query \"{sql}\" --ref main"));
    query::query(context, api, scorecard(sql)).await?;

    step(context, "headwater log main --graph");
    let commits = log::commits(api, "main", 20).await?;
    log::print_graph(context.answer_style, &commits, &log::names(api).await?);

    step(context, "what each function took and cost");
    run::print_costs(context, &report);
    Ok(())
}

fn scorecard(sql: &str) -> Query {
    Query {
        sql: Some(sql.to_owned()),
        file: None,
        at: RefArgument { reference: Some("main".to_owned()) },
        parameters: Vec::new(),
        namespace: None,
        limit: None,
        memory: None,
    }
}

async fn import_all(context: &Context, api: &Api, folder: &Path) -> Result<()> {
    let present: Vec<Table> = api.get("/v1/refs/main/tables").await?;
    for (name, file) in data_files(folder)? {
        step(context, &format!("headwater table import {name} data/{}", file_name(&file)));
        if present.iter().any(|table| table.name.name == name) {
            context.style.say("  imported before");
            continue;
        }
        let request = ImportRequest {
            table: name,
            sources: vec![file.to_string_lossy().into_owned()],
            reference: Some(RefSpec::main()),
            nulls: vec!["NA".to_owned()],
            ..ImportRequest::default()
        };
        let job: Job = api.post("/v1/imports", &request).await?;
        let job = events::follow(api, context.style, &job).await?;
        let report: ImportReport = serde_json::from_value(job.result).map_err(error::unexpected)?;
        table::print_report(context, &report);
    }
    Ok(())
}

/// The example's data files by the name of their table.
fn data_files(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = std::fs::read_dir(folder.join("data"))
        .map_err(error::from_io("read the example's data"))?;
    let mut files: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            let name = file_name(&path);
            let (table, ending) = name.split_once('.')?;
            ending.starts_with("csv").then(|| (table.to_owned(), path.clone()))
        })
        .collect();
    files.sort();
    Ok(files)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

async fn run_project(
    context: &Context,
    api: &Api,
    folder: &Path,
) -> Result<headwater_model::RunReport> {
    let request = RunRequest {
        files: headwater_server::read_project(folder)?,
        reference: Some(RefSpec::Name(BRANCH.to_owned())),
        ..RunRequest::default()
    };
    let job: Job = api.post("/v1/runs", &request).await?;
    let job = events::follow(api, context.style, &job).await?;
    let report = run::report(&job)?;
    let sum = output::milliseconds(report.usage.wall_ms);
    context.style.say(context.style.paint(Tone::Faint, format!("  {sum} of work")));
    Ok(report)
}
