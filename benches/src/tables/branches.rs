//! A lake with thousands of branches: creation of another branch, reads at the end of a chain of
//! branches, and merges of a hundred changed tables.

use std::time::{Duration, Instant};

use headwater_lake::Lake;
use headwater_model::{CreateRef, MergeOutcome, MergeRequest, RefSpec, TableName};

use super::{append, create};
use crate::Outcome;
use crate::durable_writes::add_tables;
use crate::report::Report;
use crate::sample::{SyncProbe, median};

const BRANCHES: usize = 10_000;
const TABLES: usize = 5_000;
const CHAIN: usize = 1_000;
const SAMPLES: usize = 300;
const CHANGED: usize = 100;
const MERGES: usize = 9;

/// Measures the operations on branches, and adds the results to the report.
pub async fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let lake = Lake::open_local(folder.path()).await?;
    let mut probe = SyncProbe::new(folder.path())?;
    add_tables(&lake, "main", TABLES).await?;
    for index in 0..BRANCHES {
        branch(&lake, &format!("b{index}"), "main").await?;
    }
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    for index in 0..SAMPLES {
        reference.push(probe.sample()?);
        let began = Instant::now();
        branch(&lake, &format!("one-more-{index}"), "main").await?;
        ours.push(began.elapsed());
    }
    let what = "create a branch, 10,000 branches, 5,000 tables";
    report.ratio(what, median(ours), ("one fdatasync", median(reference)), 3.0);
    chain(report, &lake).await?;
    merge(report, &lake, &mut probe).await
}

async fn branch(lake: &Lake, name: &str, from: &str) -> Outcome<()> {
    let from = Some(RefSpec::Name(from.to_owned()));
    let request = CreateRef { name: name.to_owned(), from, if_not_exists: false };
    lake.catalog().create_branch(request).await?;
    Ok(())
}

/// Measures the lookup of a table at the end of a chain of 1,000 branches, each with one commit,
/// compared with the first branch. Opens the lake again for each lookup.
async fn chain(report: &mut Report, lake: &Lake) -> Outcome<()> {
    let mut last = "main".to_owned();
    for index in 0..CHAIN {
        let next = format!("deep{index}");
        branch(lake, &next, &last).await?;
        add_tables(lake, &next, 1).await?;
        last = next;
    }
    let (mut first, mut deepest) = (Vec::new(), Vec::new());
    let table: TableName = "main_4321".parse()?;
    for _ in 0..SAMPLES {
        for (name, times) in [("deep0", &mut first), (last.as_str(), &mut deepest)] {
            let began = Instant::now();
            let view = lake.view(&RefSpec::Name(name.to_owned())).await?;
            view.state().find_table(&table.namespace, &table.name).await?.ok_or("no table")?;
            times.push(began.elapsed());
        }
    }
    let what = "find a table, branch 1,000 of a chain";
    report.ratio(what, median(deepest), ("branch 1", median(first)), 1.5);
    Ok(())
}

async fn merge(report: &mut Report, lake: &Lake, probe: &mut SyncProbe) -> Outcome<()> {
    let names = |word: &'static str| {
        (0..CHANGED).map(move |index| TableName::new("public", format!("{word}{index}")))
    };
    let tables = names("merged").collect::<Result<Vec<_>, _>>()?;
    let other = names("other").take(1).collect::<Result<Vec<_>, _>>()?;
    create(lake, &tables, &[]).await?;
    create(lake, &other, &[]).await?;
    for (what, both, bound) in [
        ("merge 100 changed tables", &other, Some(20.0)),
        ("merge 100 tables changed on both sides", &tables, None),
    ] {
        let (mut ours, mut reference) = (Vec::new(), Vec::new());
        for round in 0..MERGES {
            let source = format!("{}-{round}", what.replace(' ', "-"));
            branch(lake, &source, "main").await?;
            append(lake, &source, &tables, &[1]).await?;
            append(lake, "main", both, &[2]).await?;
            reference.push(probe.sample()?);
            let began = Instant::now();
            let merged =
                lake.merge("main", MergeRequest::new(RefSpec::Name(source)), "bench").await?;
            ours.push(began.elapsed());
            if merged.outcome != MergeOutcome::Merged || merged.tables.len() != CHANGED {
                return Err(
                    format!("{:?} of {} tables", merged.outcome, merged.tables.len()).into()
                );
            }
        }
        let reference: Duration = median(reference);
        match bound {
            Some(bound) => report.ratio(what, median(ours), ("one fdatasync", reference), bound),
            None => report.unbounded_ratio(what, median(ours), ("one fdatasync", reference)),
        }
    }
    Ok(())
}
