//! `headwater table maintain`.

use std::time::Duration;

use headwater_model::{Job, MaintainReport, MaintainRequest, MaintainedTable};

use crate::api::{ApiClient, segment};
use crate::arguments::{OutputFormat, TableMaintain};
use crate::commands::{reference, run};
use crate::context::Context;
use crate::error::{self, Result};
use crate::job_events;
use crate::output;
use crate::terminal::Tone;

/// Runs `headwater table maintain`.
pub async fn maintain(context: &Context, api: &ApiClient, arguments: TableMaintain) -> Result<()> {
    let branch = reference(context, arguments.on.reference.clone())?;
    let path = match &arguments.table {
        Some(table) => {
            format!("/v1/branches/{}/tables/{}/maintain", segment(&branch), segment(table))
        }
        None => format!("/v1/branches/{}/maintain", segment(&branch)),
    };
    let request = request(&arguments);
    if arguments.dry_run {
        let report: MaintainReport = api.post(path, &request).await?;
        print_report(context, &report);
        return Ok(());
    }
    let job: Job = api.post(path, &request).await?;
    if arguments.detach {
        run::started(context, &job);
        return Ok(());
    }
    let job = job_events::follow(context, api, &job).await?;
    let report = serde_json::from_value(job.result).map_err(error::unexpected)?;
    print_report(context, &report);
    Ok(())
}

fn request(arguments: &TableMaintain) -> MaintainRequest {
    let seconds = |duration: Duration| duration.as_secs_f64().ceil() as u64;
    MaintainRequest {
        compact: arguments.compact,
        sort: arguments.sort.clone(),
        zorder: arguments.zorder.clone(),
        manifests: arguments.manifests,
        expire_before_seconds: arguments.expire_before.map(seconds),
        keep: arguments.keep,
        orphans: arguments.orphans,
        deleted_refs: false,
        orphans_older_than_seconds: arguments.older_than.map(seconds),
        force: arguments.force,
        dry_run: arguments.dry_run,
        author: None,
    }
}

fn print_report(context: &Context, report: &MaintainReport) {
    if context.output == OutputFormat::Json {
        return output::print_json(report);
    }
    let style = context.style;
    let mut said = false;
    for table in &report.tables {
        for line in lines(table, report.dry_run) {
            said = true;
            style.say(format!("{}: {line}", style.paint(Tone::Strong, &table.table)));
        }
    }
    if let Some(removed) = &report.removed_files {
        let verb = if report.dry_run { "would remove" } else { "removed" };
        if removed.files_expired > 0 {
            said = true;
            let states = output::plural(removed.states_expired, "snapshot");
            let files = output::plural(removed.files_expired, "file");
            let bytes = output::bytes(removed.bytes_expired);
            style.say(format!("{verb} {files} of {states}, {bytes}"));
        }
        if removed.orphans > 0 {
            said = true;
            let files = output::plural(removed.orphans, "file");
            let bytes = output::bytes(removed.orphan_bytes);
            style.say(format!("{verb} {files} without references, {bytes}"));
        }
        if removed.too_recent > 0 {
            said = true;
            let files = output::plural(removed.too_recent, "file");
            style.say(format!("kept {files} without references: too recent"));
        }
        for skipped in &removed.skipped_tables {
            said = true;
            let table = style.paint(Tone::Strong, &skipped.table);
            style.say(format!("no files of {table} were removed: {}", skipped.reason));
        }
    }
    if !said {
        style.say("nothing to do");
    }
}

/// Describes the changes to a table.
fn lines(table: &MaintainedTable, dry_run: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let would = if dry_run { "would rewrite" } else { "rewrote" };
    if table.files_rewritten > 0 {
        let files = output::plural(table.files_rewritten, "file");
        let bytes = output::bytes(table.bytes_rewritten);
        let into = if dry_run {
            String::new()
        } else {
            let written = output::plural(table.files_written, "file");
            format!(" as {written}, {}", output::bytes(table.bytes_written))
        };
        lines.push(format!("{would} {files}, {bytes}{into}"));
    }
    if table.delete_files_removed > 0 {
        let files = output::plural(table.delete_files_removed, "delete file");
        lines.push(format!("applied {files}"));
    }
    if !dry_run && table.manifests_after > 0 && table.manifests_before > table.manifests_after + 1 {
        let before = output::plural(table.manifests_before, "manifest");
        lines.push(format!("{before} became {}", table.manifests_after));
    }
    if table.snapshots_expired > 0 {
        let verb = if dry_run { "would expire" } else { "expired" };
        lines.push(format!("{verb} {}", output::plural(table.snapshots_expired, "snapshot")));
    }
    if let Some(reason) = &table.skipped_reason {
        lines.push(format!("postponed the rest to the next maintenance: {reason}"));
    }
    lines
}
