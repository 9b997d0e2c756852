//! `headwater usage`: usage and its cost by the rate card.

use headwater_model::UsageLine;

use crate::api::{ApiClient, segment};
use crate::api_output::fetch;
use crate::arguments::{Usage, UsageBy};
use crate::context::Context;
use crate::error::Result;
use crate::output::{self, Grid};

/// The name of the total line.
const TOTAL: &str = "total";

/// Runs `headwater usage`.
pub async fn usage(context: &Context, api: &ApiClient, arguments: &Usage) -> Result<()> {
    let groups: Vec<&str> = arguments.by.iter().copied().map(name).collect();
    let mut path = format!("/v1/usage?by={}", groups.join(","));
    if let Some(days) = arguments.days {
        let since = chrono::Utc::now() - chrono::TimeDelta::days(days as i64);
        path.push_str(&format!("&since={}", segment(&since.to_rfc3339())));
    }
    let Some(lines) = fetch::<Vec<UsageLine>>(context, api, path).await? else { return Ok(()) };
    let titles: Vec<String> = groups.iter().map(|group| group.to_uppercase()).collect();
    let mut headings: Vec<&str> = titles.iter().map(String::as_str).collect();
    headings.extend([
        ">JOBS",
        ">WALL",
        ">CPU",
        ">PEAK MEMORY",
        ">GB-S",
        ">READ",
        ">WRITTEN",
        ">COST",
    ]);
    let mut grid = Grid::new(context.answer_style, &headings).hide_first(&[
        "WRITTEN",
        "READ",
        "PEAK MEMORY",
        "GB-S",
        "CPU",
        "JOBS",
    ]);
    let total = total(&lines);
    for line in lines.into_iter().chain(total) {
        // A run is counted once for each of its models. With groups by model, the sum over the
        // groups is therefore not the number of jobs, and the line `total` shows none.
        let is_counted = !groups.contains(&"model") || line.group != TOTAL;
        let jobs = if is_counted { output::count(line.jobs) } else { String::new() };
        let subgroup = (groups.len() > 1).then(|| line.subgroup.unwrap_or_default());
        let values = [
            jobs,
            output::milliseconds(line.usage.wall_ms),
            output::milliseconds(line.usage.cpu_us.div_ceil(1000)),
            output::bytes(line.usage.memory_bytes_peak),
            format!("{:.3}", line.gib_seconds),
            output::bytes(line.usage.bytes_read),
            output::bytes(line.usage.bytes_written),
            output::money(line.cost, &line.currency),
        ];
        grid.row(std::iter::once(line.group).chain(subgroup).chain(values));
    }
    grid.print("no usage");
    Ok(())
}

fn name(by: UsageBy) -> &'static str {
    match by {
        UsageBy::Day => "day",
        UsageBy::Kind => "kind",
        UsageBy::Model => "model",
        UsageBy::Job => "job",
        UsageBy::Function => "function",
        UsageBy::Trigger => "trigger",
        UsageBy::Branch => "branch",
        UsageBy::Author => "author",
    }
}

/// Sums several lines.
fn total(lines: &[UsageLine]) -> Option<UsageLine> {
    let (first, rest) = lines.split_first()?;
    if rest.is_empty() || rest.iter().any(|line| line.currency != first.currency) {
        return None;
    }
    let mut total = UsageLine { group: TOTAL.to_owned(), subgroup: None, ..first.clone() };
    for line in rest {
        total.jobs += line.jobs;
        total.usage.add(&line.usage);
        total.gib_seconds += line.gib_seconds;
        total.cost += line.cost;
    }
    Some(total)
}
