//! The rules of projects. Each file in `tests/projects`, and in `tests/bauplan` for projects of
//! Bauplan, contains one project that runs and one that is rejected.

use std::collections::BTreeMap;
use std::path::Path;

use headwater_model::{ProjectFiles, RefSpec, RunRequest};
use headwater_pipelines::register_system_tables;
use serde::Deserialize;

use crate::bauplan::runs::{DEFAULTS, world};
use crate::support::{Ran, World};

/// A format of projects.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Headwater,
    Bauplan,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// The rule as a sentence, for readers of the file.
    #[serde(rename = "rule")]
    _rule: String,
    good: Good,
    bad: Bad,
    /// A project that runs before the good and the bad project.
    #[serde(default)]
    before: BTreeMap<String, String>,
    /// Statements that run before the good and the bad project.
    #[serde(default)]
    sql: Vec<String>,
}

/// A project that runs, and the expected results of the run.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Good {
    files: BTreeMap<String, String>,
    manifest: Option<String>,
    project_file: Option<String>,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
    strict: Option<bool>,
    /// The selected steps; all steps if the list is empty.
    #[serde(default)]
    select: Vec<String>,
    /// The tables that the run changes.
    tables: Option<Vec<String>>,
    /// A part of a printed line.
    printed: Option<String>,
    query: String,
    rows: Vec<String>,
}

/// A project that is rejected, and a part of its error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bad {
    files: BTreeMap<String, String>,
    manifest: Option<String>,
    project_file: Option<String>,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
    #[serde(default)]
    select: Vec<String>,
    error: String,
}

fn project(
    format: Format,
    files: &BTreeMap<String, String>,
    manifest: Option<&String>,
    project_file: Option<&String>,
) -> ProjectFiles {
    let manifest = manifest.map_or("", |manifest| manifest);
    let (name, text) = match format {
        Format::Headwater => {
            let project = "[project]\nname = \"rules\"\n[defaults]\npython = \"3.11\"\n";
            ("headwater.toml", format!("{project}{manifest}"))
        }
        Format::Bauplan => {
            let id = "project: {id: 6f1f0a52-7c2e-4f0e-9a35-0d5f5f2b7c11, name: rules}\n";
            let defaults = if manifest.contains("defaults:") { "" } else { DEFAULTS };
            ("bauplan_project.yml", format!("{id}{manifest}{defaults}"))
        }
    };
    let name = project_file.map_or(name, |file| file).to_owned();
    let files = files.iter().map(|(path, text)| (path.clone(), text.clone().into()));
    files.chain([(name, text.into())]).collect()
}

/// Returns the rows of a result in the form of `world.sql`, with commas between the values.
fn rows(shown: &str) -> Vec<String> {
    let lines = shown.lines().filter(|line| line.starts_with('|')).skip(1);
    let values = |line: &str| {
        let line = line.strip_prefix('|').and_then(|line| line.strip_suffix('|'));
        line.unwrap_or_default().split('|').map(str::trim).collect::<Vec<_>>().join(",")
    };
    lines.map(values).collect()
}

/// Returns the difference between the result of a rule's valid project and its expected result.
async fn check_good(world: &World, branch: &str, good: &Good, ran: &Ran) -> Option<String> {
    let Ok(report) = &ran.outcome else { return Some(format!("it fails: {}", ran.refusal())) };
    if good.tables.as_ref().is_some_and(|tables| *tables != report.tables) {
        return Some(format!("it writes {:?}", report.tables));
    }
    let printed = ran.printed();
    let is_printed = |text: &String| printed.iter().any(|line| line.contains(text));
    if good.printed.as_ref().is_some_and(|text| !is_printed(text)) {
        return Some(format!("it prints {printed:?}"));
    }
    let found = rows(&world.sql(branch, &[&good.query]).await);
    (found != good.rows).then(|| format!("it leaves {found:?}, not {:?}", good.rows))
}

/// Runs both projects of a rule on the rule's own branch.
async fn check(world: &World, format: Format, name: &str, rule: &Rule) -> Vec<String> {
    world.branch(name).await;
    let request = |files: ProjectFiles| {
        let reference = Some(RefSpec::Name(name.to_owned()));
        RunRequest { files, reference, ..RunRequest::default() }
    };
    let run = async |wanted: RunRequest| {
        let files = wanted.files.clone();
        world.run_with(&files, |request| *request = wanted).await
    };
    let Rule { good, bad, before, sql, .. } = rule;
    let mut wrong = Vec::new();
    if !before.is_empty() {
        let ran = run(request(project(format, before, None, None))).await;
        wrong.extend(ran.outcome.err().map(|problem| format!("{name}: before: {problem}")));
    }
    let statements: Vec<&str> = sql.iter().map(String::as_str).collect();
    world.sql(name, &statements).await;
    let files = project(format, &good.files, good.manifest.as_ref(), good.project_file.as_ref());
    let wanted = RunRequest {
        parameters: good.parameters.clone(),
        select: good.select.clone(),
        strict: good.strict,
        ..request(files)
    };
    let ran = run(wanted).await;
    wrong.extend(check_good(world, name, good, &ran).await.map(|why| format!("{name}: {why}")));
    let files = project(format, &bad.files, bad.manifest.as_ref(), bad.project_file.as_ref());
    let wanted = RunRequest {
        parameters: bad.parameters.clone(),
        select: bad.select.clone(),
        ..request(files)
    };
    let refused = run(wanted).await.refusal();
    if refused == "it went well" || !refused.contains(&bad.error) {
        wrong.push(format!("{name}: the bad project: {refused}\n  expected: {}", bad.error));
    }
    wrong
}

/// Checks the rules in a folder. `rules` is the number of rules, so that a missing file causes a
/// failure. The expected error of an invalid project is a complete sentence, which no other error
/// contains.
async fn check_all(world: &World, format: Format, folder: &str, rules: usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(folder);
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let rule: Rule = serde_saphyr::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if !rule.bad.error.trim().contains(' ') {
            wrong.push(format!("{name}: the expected error is one word: {}", rule.bad.error));
        }
        wrong.extend(check(world, format, &name, &rule).await);
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(count, rules, "rules in {folder}");
}

#[tokio::test]
async fn every_rule_of_bauplan_has_a_project_that_runs_and_one_that_is_refused() {
    check_all(&world().await, Format::Bauplan, "bauplan", 91).await;
}

#[tokio::test]
async fn every_rule_has_a_project_that_runs_and_one_that_is_refused() {
    let world = World::new().await;
    register_system_tables(&world.engine);
    let values = "VALUES (1, 12.5, 'a'), (2, 0.5, 'b'), (3, 7.0, NULL)";
    let table = format!("CREATE TABLE trips AS SELECT * FROM ({values}) AS t(id, miles, zone)");
    world.sql("main", &[&table]).await;
    check_all(&world, Format::Headwater, "projects", 60).await;
}
