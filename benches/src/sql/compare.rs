//! The comparison of a suite of queries: first the rows, then the times.

use std::path::Path;
use std::time::Duration;

use super::engines::Engines;
use super::text::without_limit;
use crate::Outcome;
use crate::report::{Report, duration};

/// A query and its name.
pub struct Query {
    pub name: String,
    pub sql: String,
}

/// A suite of queries with its bounds.
pub struct Suite {
    pub name: String,
    pub queries: Vec<Query>,
    /// Bounds of the geometric means: a prefix of the reference's name, and the maximum ratio.
    pub bounds: &'static [(&'static str, f64)],
    pub rounds: usize,
    /// True if the ORDER BY of a query may leave ties. Rows are then compared without LIMIT.
    pub has_ties: bool,
}

/// Times of one query in Headwater and in a reference, as a ratio; `None` if the reference rejects
/// the query.
type Ratio = Option<f64>;

/// Runs every query in each engine. For each reference, reports the geometric mean of the ratios of
/// Headwater's best times to the reference's best times. Rows that differ from DuckDB's are an
/// error.
pub async fn compare(
    engines: &mut Engines,
    suite: &Suite,
    folder: &Path,
    report: &mut Report,
) -> Outcome<()> {
    let mut ratios: Vec<Vec<(&str, Ratio)>> = vec![Vec::new(); engines.references.len()];
    for query in &suite.queries {
        let failed = |error| format!("{} {}: {error}", suite.name, query.name);
        let answered = check_rows(engines, suite, query, folder).await.map_err(failed)?;
        let times = best_times(engines, &answered, suite, query).await.map_err(failed)?;
        print(query, engines, &times);
        for (list, time) in ratios.iter_mut().zip(&times.references) {
            let ratio = time.map(|time| times.headwater.as_secs_f64() / time.as_secs_f64());
            list.push((&query.name, ratio));
        }
    }
    for (reference, ratios) in engines.references.iter().zip(&ratios) {
        add_mean(report, suite, reference.name, ratios);
    }
    Ok(())
}

/// Compares Headwater's rows with the rows of each reference. Returns the references that accept
/// the query.
async fn check_rows(
    engines: &mut Engines,
    suite: &Suite,
    query: &Query,
    folder: &Path,
) -> Outcome<Vec<bool>> {
    let sql = if suite.has_ties { without_limit(&query.sql) } else { &query.sql };
    let answer = engines.headwater.write_answer(sql, folder).await?;
    let mut answered = Vec::new();
    for reference in &mut engines.references {
        match reference.difference(sql, &answer) {
            Ok(None) => answered.push(true),
            Ok(Some(difference)) => {
                eprintln!("{}: {difference} in {}", query.name, reference.name);
                if reference.name.starts_with("DuckDB") {
                    return Err(format!("rows differ from {}", reference.name).into());
                }
                answered.push(false);
            }
            Err(error) => {
                let first = error.to_string().lines().next().unwrap_or_default().to_owned();
                eprintln!("{}: {} rejects it: {first}", query.name, reference.name);
                answered.push(false);
            }
        }
    }
    Ok(answered)
}

/// Best times of one query.
struct Times {
    headwater: Duration,
    references: Vec<Option<Duration>>,
}

/// Runs a query in all engines that accept it. Rotates the order of engines, because later engines
/// find warmer caches.
async fn best_times(
    engines: &mut Engines,
    answered: &[bool],
    suite: &Suite,
    query: &Query,
) -> Outcome<Times> {
    let count = engines.references.len() + 1;
    let mut best: Vec<Option<Duration>> = vec![None; count];
    for round in 0..suite.rounds {
        for turn in 0..count {
            let engine = (round + turn) % count;
            let time = match engine.checked_sub(1) {
                None => engines.headwater.run(&query.sql).await?.0,
                Some(index) if answered[index] => {
                    engines.references[index].run(&query.sql).await?.0
                }
                Some(_) => continue,
            };
            best[engine] = Some(best[engine].map_or(time, |best| best.min(time)));
        }
    }
    let references = best.split_off(1);
    let headwater = best[0].ok_or("no rounds")?;
    Ok(Times { headwater, references })
}

fn print(query: &Query, engines: &Engines, times: &Times) {
    let mut line = format!("{:<4} headwater {:>10}", query.name, duration(times.headwater));
    for (reference, time) in engines.references.iter().zip(&times.references) {
        let name = reference.name.split(',').next().unwrap_or_default();
        let time = time.map_or_else(|| "-".to_owned(), duration);
        line.push_str(&format!("  {name} {time:>10}"));
    }
    eprintln!("{line}");
}

fn add_mean(report: &mut Report, suite: &Suite, reference: &str, ratios: &[(&str, Ratio)]) {
    let accepted: Vec<f64> = ratios.iter().filter_map(|(_, ratio)| *ratio).collect();
    if accepted.is_empty() {
        return;
    }
    let bound = suite.bounds.iter().find(|(name, _)| reference.starts_with(name));
    let what = format!("{}, {} of {} queries", suite.name, accepted.len(), ratios.len());
    report.mean(&what, reference, &accepted, bound.map(|(_, bound)| *bound));
    let mut slowest: Vec<(&str, f64)> =
        ratios.iter().filter_map(|(name, ratio)| Some((*name, (*ratio)?))).collect();
    slowest.sort_by(|a, b| b.1.total_cmp(&a.1));
    let slowest: Vec<String> =
        slowest.iter().take(5).map(|(name, ratio)| format!("{name} {ratio:.1} ×")).collect();
    report.plain("  slowest", &slowest.join(", "), "", "");
}
