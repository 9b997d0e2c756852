//! The example that `headwater demo` runs, on its real data, and a minimal project.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_ingest::Importer;
use headwater_model::{ErrorCode, ImportRequest, ProjectFiles, RefSpec, StepStatus};
use tokio_util::sync::CancellationToken;

use crate::support::World;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

/// Returns the example's files, as the command line sends them.
fn code(folder: &Path) -> ProjectFiles {
    let mut files = ProjectFiles::new();
    for (folder, prefix) in [(folder.to_owned(), ""), (folder.join("models"), "models/")] {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if [".toml", ".sql", ".py"].iter().any(|ending| name.ends_with(ending)) {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                files.insert(format!("{prefix}{name}"), text.into());
            }
        }
    }
    files
}

async fn import(world: &World, folder: &Path, table: &str, file: &str) -> u64 {
    let request = ImportRequest {
        table: table.to_owned(),
        sources: vec![folder.join("data").join(file).to_string_lossy().into_owned()],
        nulls: vec!["NA".to_owned()],
        ..ImportRequest::default()
    };
    let told = Arc::new(|_| ());
    Importer::new(world.lake.clone())
        .import(&request, told, CancellationToken::new())
        .await
        .unwrap()
        .rows
}

#[tokio::test]
async fn the_flights_become_a_scorecard() {
    let (world, folder) = (World::new().await, example("flights"));
    let rows = import(&world, &folder, "flights", "flights.csv.zst").await;
    assert_eq!(rows, 336_776);
    for table in ["airlines", "airports", "planes", "weather"] {
        import(&world, &folder, table, &format!("{table}.csv.zst")).await;
    }
    world.branch("dev").await;
    let project = code(&folder);
    let on_dev = |parameters: &[(&str, &str)]| {
        let parameters: BTreeMap<String, String> =
            parameters.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let (world, project) = (&world, &project);
        async move {
            let change = |request: &mut headwater_model::RunRequest| {
                request.reference = Some(RefSpec::Name("dev".to_owned()));
                request.parameters = parameters;
            };
            world.run_with(project, change).await
        }
    };
    let late = on_dev(&[("worst_delay_allowed", "5")]).await;
    assert_eq!(late.outcome.as_ref().unwrap_err().code, ErrorCode::ExpectationFailed);
    let printed = late.printed().join("\n");
    assert!(printed.contains("minutes late on average"), "{printed}");

    let ran = on_dev(&[]).await;
    assert!(ran.all(StepStatus::Succeeded), "{}", ran.steps());
    let scorecard = "SELECT rank, airline, flights FROM airline_scorecard ORDER BY rank LIMIT 3";
    insta::assert_snapshot!(world.sql("dev", &[scorecard]).await, @r"
    +------+------------------------+---------+
    | rank | airline                | flights |
    +------+------------------------+---------+
    | 1    | Alaska Airlines Inc.   | 709     |
    | 2    | Hawaiian Airlines Inc. | 342     |
    | 3    | American Airlines Inc. | 31947   |
    +------+------------------------+---------+
    ");
    let pandas: Vec<String> =
        ran.printed().into_iter().filter(|line| line.contains("pandas")).collect();
    assert!(pandas.iter().any(|line| line.contains("2.2.3")), "{pandas:?}");
    assert!(pandas.iter().any(|line| line.contains("2.3.3")), "{pandas:?}");
    assert!(world.sql("main", &["SELECT * FROM airline_scorecard"]).await.contains("not"));

    let again = on_dev(&[]).await;
    assert!(again.all(StepStatus::Unchanged), "{}", again.steps());
}

#[tokio::test]
async fn the_smallest_example_runs() {
    let (world, folder) = (World::new().await, example("hello"));
    import(&world, &folder, "people", "people.csv").await;
    world.run(&code(&folder)).await.report();
    insta::assert_snapshot!(world.sql("main", &["SELECT * FROM greetings"]).await, @r"
    +----------------+-----------+
    | greeting       | languages |
    +----------------+-----------+
    | hello, Ada     | 1         |
    | hello, Barbara | 2         |
    | hello, Grace   | 3         |
    +----------------+-----------+
    ");
}
