//! The rules of Bauplan's projects: each file of `tests/bauplan` contains a project that runs and a
//! project that is rejected.

use std::collections::BTreeMap;
use std::path::Path;

use headwater_model::{ProjectFiles, RefSpec, RunRequest};
use serde::Deserialize;

use super::runs::{DEFAULTS, world};
use crate::support::{Ran, World};

/// Minimum number of rules, so that a wrong folder is noticed.
const RULES_MIN: usize = 40;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// The rule for readers.
    #[serde(rename = "rule")]
    _rule: String,
    good: Good,
    bad: Bad,
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
    error: String,
}

fn project(
    files: &BTreeMap<String, String>,
    manifest: Option<&String>,
    project_file: Option<&String>,
) -> ProjectFiles {
    let id = "project: {id: 6f1f0a52-7c2e-4f0e-9a35-0d5f5f2b7c11, name: rules}\n";
    let manifest = manifest.map_or("", |manifest| manifest);
    let defaults = if manifest.contains("defaults:") { "" } else { DEFAULTS };
    let file = project_file.map_or("bauplan_project.yml", |file| file).to_owned();
    let files = files.iter().map(|(path, text)| (path.clone(), text.clone().into()));
    files.chain([(file, format!("{id}{manifest}{defaults}").into())]).collect()
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

/// Returns the difference between the result of a rule's good project and its expected result.
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
async fn check(world: &World, name: &str, rule: &Rule) -> Vec<String> {
    world.branch(name).await;
    let run = async |files: &ProjectFiles, parameters: &BTreeMap<String, String>, strict| {
        let request = |request: &mut RunRequest| {
            request.reference = Some(RefSpec::Name(name.to_owned()));
            request.parameters = parameters.clone();
            request.strict = strict;
        };
        world.run_with(files, request).await
    };
    let Rule { good, bad, .. } = rule;
    let mut wrong = Vec::new();
    let files = project(&good.files, good.manifest.as_ref(), good.project_file.as_ref());
    let ran = run(&files, &good.parameters, good.strict).await;
    wrong.extend(check_good(world, name, good, &ran).await.map(|why| format!("{name}: {why}")));
    let files = project(&bad.files, bad.manifest.as_ref(), bad.project_file.as_ref());
    let refused = run(&files, &bad.parameters, None).await.refusal();
    if refused == "it went well" || !refused.contains(&bad.error) {
        wrong.push(format!("{name}: the bad project: {refused}\n  expected: {}", bad.error));
    }
    wrong
}

#[tokio::test]
async fn every_rule_has_a_project_that_runs_and_one_that_is_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/bauplan");
    let world = world().await;
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let rule: Rule =
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        wrong.extend(check(&world, &name, &rule).await);
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= RULES_MIN, "{count} rules");
}
