//! Creation of an environment of 300 MB whose packages are in the store.

use std::time::Duration;

use headwater_functions::Functions;

use crate::Outcome;
use crate::functions::Bench;
use crate::report::{Report, duration};
use crate::sample::median;

const PACKAGES: [(&str, &str); 5] = [
    ("numpy", "2.3"),
    ("pandas", "2.3"),
    ("pyarrow", "21.0.0"),
    ("scipy", "1.16"),
    ("polars", "1.38.1"),
];

/// Measures the creation of the environment, and adds the result to the report.
pub async fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let bench = Bench { folder: folder.path().to_owned(), samples: 3 };
    let functions = Functions::start(bench.options("first")).await?;
    let first = bench.environment(&functions, &PACKAGES).await?;
    let bytes = functions.environments().await.first().map_or(0, |environment| environment.bytes);
    let mut taken = Vec::new();
    for name in ["second", "third", "fourth"] {
        let functions = Functions::start(bench.options(name)).await?;
        let environment = bench.environment(&functions, &PACKAGES).await?;
        taken.push(Duration::from_millis(environment.created_ms));
    }
    let what = format!("environment of {} MB from the package store", bytes / 1_000_000);
    let reference = format!("fetched {}", duration(Duration::from_millis(first.created_ms)));
    report.time(&what, median(taken), &reference, Duration::from_millis(1_500));
    Ok(())
}
