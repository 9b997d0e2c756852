//! `headwater table`: list, show, import, drop.

use std::path::Path;

use headwater_model::{
    Column, ErrorCode, FileFormat, ImportColumn, ImportPlan, ImportReport, ImportRequest, Job,
    OnError, PartitionField, Table as TableRow, Upload,
};

use crate::api::{ApiClient, segment};
use crate::api_output::{self, fetch};
use crate::arguments::{
    FormatArgument, OnErrorArgument, OutputFormat, Table, TableGet, TableImport, TableLs, TableRm,
};
use crate::commands::branch::removed_if_exists;
use crate::commands::{diff, maintenance, reference, run, with_other_noun_hint};
use crate::context::{Context, current_folder};
use crate::error::{self, Result};
use crate::job_events;
use crate::output::{self, Grid};
use crate::terminal::Tone;

/// Runs `headwater table`.
pub async fn table(context: &Context, api: &ApiClient, arguments: Table) -> Result<()> {
    match arguments {
        Table::Ls(arguments) => list(context, api, arguments).await,
        Table::Get(arguments) => get(context, api, arguments).await,
        Table::Diff(arguments) => diff::table(context, api, arguments).await,
        Table::Import(arguments) => import(context, api, *arguments).await,
        Table::Maintain(arguments) => maintenance::maintain(context, api, arguments).await,
        Table::Rm(arguments) => remove(context, api, arguments).await,
    }
}

async fn list(context: &Context, api: &ApiClient, arguments: TableLs) -> Result<()> {
    let at = reference(context, arguments.at.reference)?;
    let mut path = format!("/v1/refs/{}/tables", segment(&at));
    if let Some(namespace) = &arguments.namespace {
        path.push_str(&format!("?namespace={}", segment(namespace)));
    }
    let Some(tables) = fetch::<Vec<TableRow>>(context, api, path).await? else { return Ok(()) };
    let mut grid =
        Grid::new(context.answer_style, &["TABLE", ">ROWS", ">FILES", ">SIZE", "UPDATED"]);
    for table in tables {
        let shown = |text: String| if table.restricted { "-".to_owned() } else { text };
        grid.row([
            table.name.to_string(),
            shown(output::count(table.rows)),
            shown(output::count(table.files)),
            shown(output::bytes(table.bytes)),
            table.updated.map_or(String::new(), output::format_time),
        ]);
    }
    grid.print(&format!("no tables on {at}; create one with `headwater table import NAME FILES`"));
    Ok(())
}

async fn get(context: &Context, api: &ApiClient, arguments: TableGet) -> Result<()> {
    let at = reference(context, arguments.at.reference)?;
    let path = format!("/v1/refs/{}/tables/{}", segment(&at), segment(&arguments.table));
    let table: TableRow = api.get(path).await.map_err(with_other_noun_hint("view", "get"))?;
    if api_output::is_printed(context, &table) {
        return Ok(());
    }
    output::line(context.answer_style.paint(Tone::Strong, &table.name));
    print_facts(context, &table);
    print_columns(context, &table);
    Ok(())
}

/// Prints the properties of a table, except its columns.
fn print_facts(context: &Context, table: &TableRow) {
    let style = context.answer_style;
    let fact = |label: &str, value: String| {
        output::line(format!("  {} {value}", style.paint(Tone::Faint, format!("{label:<10}"))));
    };
    if table.restricted {
        fact("rows", "limited by a row filter or column mask".to_owned());
    } else {
        fact("rows", output::count(table.rows));
        let (files, bytes) = (output::count(table.files), output::bytes(table.bytes));
        fact("files", format!("{files}, {bytes}"));
    }
    fact("partition", listed(&table.partition).unwrap_or("none".into()));
    if let Some(sort) = listed(&table.sort) {
        fact("sorted by", sort);
    }
    if let Some(identifier) = listed(&table.identifier) {
        fact("key", identifier);
    }
    fact("updated", table.updated.map_or("never".into(), output::format_time));
    fact("format", format!("Iceberg v{}", table.format_version));
    fact("metadata", table.metadata_location.clone());
    if let Some(maintenance) = &table.maintenance {
        let (time, files) = (output::format_time(maintenance.time), maintenance.files_rewritten);
        let (files, freed) =
            (output::plural(files, "file"), output::bytes(maintenance.bytes_freed));
        fact(
            "maintenance",
            format!("{time}, {files} → {}, {freed} freed", maintenance.files_written),
        );
    }
    for (at, (name, value)) in table.properties.iter().enumerate() {
        fact(if at == 0 { "properties" } else { "" }, format!("{name} = {value}"));
    }
}

fn print_columns(context: &Context, table: &TableRow) {
    let any = |of: fn(&Column) -> bool| table.columns.iter().any(of);
    let (defaults, comments) =
        (any(|column| column.default.is_some()), any(|column| column.comment.is_some()));
    let mut titles = vec!["COLUMN", "TYPE", "NULLS"];
    titles.extend(defaults.then_some("DEFAULT"));
    titles.extend(comments.then_some("COMMENT"));
    let mut grid = Grid::new(context.answer_style, &titles);
    for column in &table.columns {
        let nulls = if column.nullable { "yes" } else { "no" };
        let mut row = vec![column.name.as_str(), &column.data_type, nulls];
        row.extend(defaults.then(|| column.default.as_deref().unwrap_or_default()));
        row.extend(comments.then(|| column.comment.as_deref().unwrap_or_default()));
        grid.row(row);
    }
    grid.print("no columns");
}

/// Joins values with commas; `None` if there are no values.
fn listed(all: &[impl ToString]) -> Option<String> {
    let all: Vec<_> = all.iter().map(ToString::to_string).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

async fn remove(context: &Context, api: &ApiClient, arguments: TableRm) -> Result<()> {
    let branch = reference(context, arguments.on.reference)?;
    let name = &arguments.table;
    let path = format!("/v1/branches/{}/tables/{}", segment(&branch), segment(name));
    let deletion = api.delete(path).await.map_err(with_other_noun_hint("view", "rm"));
    let missing = arguments.if_exists.then_some(ErrorCode::TableNotFound);
    removed_if_exists(context, "table", name, missing, deletion)
}

async fn import(context: &Context, api: &ApiClient, arguments: TableImport) -> Result<()> {
    let mut request = import_request(context, &arguments)?;
    let mut uploads = Vec::new();
    let mut imported = Ok(());
    if context.lake()?.is_remote() {
        imported = send_sources(context, api, &mut request.sources, &mut uploads).await;
    }
    if imported.is_ok() {
        imported = import_sources(context, api, &request, &mut uploads, arguments.detach).await;
    }
    for upload in uploads {
        // Ignore errors: uploads expire after a day.
        let _ = api.delete(format!("/v1/uploads?path={}", segment(&upload))).await;
    }
    imported
}

/// Imports the sources of a request. If the import job may still be running on return, clears
/// `uploads`, so that the caller does not delete the files that the job reads.
async fn import_sources(
    context: &Context,
    api: &ApiClient,
    request: &ImportRequest,
    uploads: &mut Vec<String>,
    is_detached: bool,
) -> Result<()> {
    if request.dry_run {
        let plan: ImportPlan = api.post("/v1/imports", request).await?;
        print_plan(context, &plan);
        return Ok(());
    }
    let job: Job = api.post("/v1/imports", request).await?;
    if is_detached {
        uploads.clear();
        run::started(context, &job);
        return Ok(());
    }
    let followed = job_events::follow(context, api, &job).await;
    if followed.is_err()
        && !api.job(&job.id.to_string()).await.is_ok_and(|job| job.status.is_final())
    {
        uploads.clear();
    }
    let job = followed?;
    if api_output::is_printed(context, &job.result) {
        return Ok(());
    }
    let report = serde_json::from_value(job.result).map_err(error::unexpected)?;
    print_report(context, &report);
    Ok(())
}

/// Uploads local files to a server on another machine. Replaces each local path in the sources by
/// the path of its upload, and adds this path to `uploads`. URLs are unchanged.
async fn send_sources(
    context: &Context,
    api: &ApiClient,
    sources: &mut [String],
    uploads: &mut Vec<String>,
) -> Result<()> {
    for source in sources {
        if source.contains("://") {
            continue;
        }
        let path = Path::new(source.as_str());
        let name = path.file_name().filter(|_| path.is_file()).ok_or_else(|| {
            error::invalid(format!("`{source}` is not a file on this machine"))
                .with_hint("Name files; the shell expands a pattern such as `data/*.csv`.")
        })?;
        context.style.say(format!("sending {source}"));
        let file = tokio::fs::File::open(path).await.map_err(error::from_io("read the file"))?;
        let path = format!("/v1/uploads?name={}", segment(&name.to_string_lossy()));
        let upload: Upload = api.upload(path, file).await?;
        uploads.push(upload.path.clone());
        *source = upload.path;
    }
    Ok(())
}

fn import_request(context: &Context, arguments: &TableImport) -> Result<ImportRequest> {
    let current = current_folder()?;
    let branch = reference(context, arguments.on.reference.clone())?;
    let partition = arguments.partition.iter().map(|field| field.parse::<PartitionField>());
    Ok(ImportRequest {
        table: arguments.table.clone(),
        sources: arguments.sources.iter().map(|source| absolute(&current, source)).collect(),
        reference: Some(branch.parse().map_err(error::from_error)?),
        format: arguments.format.map(|format| match format {
            FormatArgument::Csv => FileFormat::Csv,
            FormatArgument::Ndjson => FileFormat::Ndjson,
            FormatArgument::Parquet => FileFormat::Parquet,
            FormatArgument::Arrow => FileFormat::Arrow,
        }),
        delimiter: arguments.delimiter,
        header: arguments.no_header.then_some(false),
        encoding: arguments.encoding.clone(),
        nulls: arguments.nulls.clone(),
        date_format: arguments.date_format.clone(),
        decimal_comma: arguments.decimal_comma,
        types: run::pairs(&arguments.types, "type")?,
        partition: partition.collect::<std::result::Result<_, _>>().map_err(error::from_error)?,
        on_error: match arguments.on_error {
            OnErrorArgument::Stop => OnError::Stop,
            OnErrorArgument::Reject => OnError::Reject,
        },
        again: arguments.again,
        dry_run: arguments.dry_run,
        author: None,
        event: None,
    })
}

/// Makes a path or glob absolute, because the server has a different working folder. URLs are
/// unchanged.
pub fn absolute(current: &Path, source: &str) -> String {
    if source.contains("://") {
        return source.to_owned();
    }
    let plain = source.strip_prefix("./").unwrap_or(source);
    current.join(plain).to_string_lossy().into_owned()
}

fn print_plan(context: &Context, plan: &ImportPlan) {
    if context.output == OutputFormat::Json {
        return output::print_json(plan);
    }
    let verb = if plan.creates_table { "create" } else { "append to" };
    let bytes = plan.files.iter().map(|file| file.bytes).sum();
    let files = output::plural(plan.files.len() as u64, "file");
    output::line(format!("would {verb} {} from {files}, {}", plan.table, output::bytes(bytes)));
    if !plan.skipped.is_empty() {
        let skipped = output::plural(plan.skipped.len() as u64, "file");
        output::line(format!(
            "would skip {skipped}, already imported; `--again` imports these files again"
        ));
    }
    let mut grid = Grid::new(context.answer_style, &["COLUMN", "TYPE", "", "REASON"]);
    for column in &plan.columns {
        let state = if column.exists { "" } else { "new" };
        grid.row([column.name.as_str(), &column.data_type, state, &column.reason]);
    }
    grid.print("no columns");
    for column in &plan.columns {
        print_hint(column, output::line);
        print_similar(column, output::line);
    }
}

/// Prints the type of a column, the reason for the type, and the hint; nothing without a hint.
fn print_hint(column: &ImportColumn, print: impl Fn(String)) {
    if let Some(hint) = &column.hint {
        print(format!("column `{}` is {}: {}", column.name, column.data_type, column.reason));
        print(format!("  hint: {hint}"));
    }
}

/// Prints the table's column whose name a new column probably misspells, if there is one.
fn print_similar(column: &ImportColumn, print: impl Fn(String)) {
    if let Some(similar) = &column.similar_to {
        print(format!(
            "column `{}` is not in the table; did you mean the table's column `{similar}`, which \
             is not in the files?",
            column.name
        ));
    }
}

/// Prints the result of an import.
fn print_report(context: &Context, report: &ImportReport) {
    let style = context.style;
    if report.commit.is_none() {
        let files = output::plural(report.files_skipped, "file");
        return style.say(format!(
            "nothing to do: {files} already imported, perhaps with other options; `--again` \
             imports them again"
        ));
    }
    let rows = output::plural(report.rows, "row");
    let files = output::plural(report.files, "file");
    let verb = if report.created_table { "created" } else { "appended to" };
    let sizes =
        format!("{} → {}", output::bytes(report.bytes_read), output::bytes(report.bytes_written));
    style.say(format!(
        "{} {verb} {}: {rows} from {files}  {}",
        style.paint(Tone::Good, "✓"),
        report.table,
        style.paint(Tone::Faint, sizes),
    ));
    if report.files_skipped > 0 {
        let skipped = output::plural(report.files_skipped, "file");
        style.say(format!("  skipped {skipped}, already imported; `--again` imports again"));
    }
    if !report.columns_added.is_empty() {
        style.say(format!("  new columns: {}", report.columns_added.join(", ")));
    }
    for column in &report.columns_as_text {
        print_hint(column, |line| style.say(style.paint(Tone::Warn, format!("  {line}"))));
    }
    for column in &report.columns_misspelt {
        print_similar(column, |line| style.say(style.paint(Tone::Warn, format!("  {line}"))));
    }
    if report.rows_rejected > 0 {
        let rows = output::plural(report.rows_rejected, "row");
        let text = format!("  {rows} rejected; see {}__rejected", report.table);
        style.say(style.paint(Tone::Warn, text));
    }
}
