//! Conversion of a run's job events.

use std::collections::BTreeMap;

use chrono::SecondsFormat;
use headwater_model::{
    JobEvent, JobEventKind, JobId, PlannedStep, StepReport, StepStatus, Timestamp,
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Schema of events.
const SCHEMA: &str = "https://openlineage.io/spec/1-0-5/OpenLineage.json#/definitions/RunEvent";

/// Schema of the facet with the run that contains a model's run.
const PARENT: &str = "https://openlineage.io/spec/facets/1-0-0/ParentRunFacet.json";

/// Schema of the facet with the error.
const ERROR: &str = "https://openlineage.io/spec/facets/1-0-0/ErrorMessageRunFacet.json";

/// Schema of the facet with the number of rows.
const STATISTICS: &str =
    "https://openlineage.io/spec/facets/1-0-0/OutputStatisticsOutputDatasetFacet.json";

/// Schema of the facet with the file of a model.
const LOCATION: &str = "https://openlineage.io/spec/facets/1-0-0/SourceCodeLocationJobFacet.json";

const PRODUCER: &str = concat!(
    "https://github.com/headwater-data/headwater/releases/tag/v",
    env!("CARGO_PKG_VERSION")
);

/// The run to describe.
#[derive(Debug, Clone)]
pub struct RunIdentity {
    /// Job of the run.
    pub job: JobId,
    /// Namespace of jobs and datasets, which identifies the lake.
    pub namespace: String,
    /// The project.
    pub project: String,
    /// The branch.
    pub branch: String,
}

/// A step with its position in the plan.
struct NumberedStep<'a> {
    number: usize,
    step: &'a PlannedStep,
}

/// Returns the events of a run: one when each model starts, and one when it ends. Models that did
/// not run have no events. Expectations are jobs without outputs.
pub fn events(run: &RunIdentity, job_events: &[JobEvent]) -> Vec<Value> {
    let mut planned: BTreeMap<&str, NumberedStep<'_>> = BTreeMap::new();
    let mut found = Vec::new();
    for JobEvent { time, event, .. } in job_events {
        match event {
            JobEventKind::Planned { steps } => {
                let steps = steps.iter().enumerate();
                let numbered = steps.map(|(number, step)| NumberedStep { number, step });
                planned.extend(numbered.map(|one| (one.step.name.as_str(), one)));
            }
            JobEventKind::StepStarted { step } => {
                if let Some(planned) = planned.get(step.as_str()) {
                    found.push(event_of(run, "START", *time, planned, None));
                }
            }
            JobEventKind::StepEnded { report } => {
                let kind = match report.status {
                    StepStatus::Succeeded | StepStatus::Warned => "COMPLETE",
                    StepStatus::Failed => "FAIL",
                    StepStatus::Unchanged | StepStatus::Reused | StepStatus::Skipped => {
                        continue;
                    }
                };
                if let Some(planned) = planned.get(report.step.as_str()) {
                    found.push(event_of(run, kind, *time, planned, Some(report)));
                }
            }
            _ => {}
        }
    }
    found
}

fn event_of(
    run: &RunIdentity,
    kind: &str,
    time: Timestamp,
    step: &NumberedStep<'_>,
    report: Option<&StepReport>,
) -> Value {
    let NumberedStep { number, step } = *step;
    let job = |name: String| json!({"namespace": run.namespace, "name": name});
    let mut run_facets = Map::new();
    run_facets.insert(
        "parent".to_owned(),
        json!({
            "_producer": PRODUCER,
            "_schemaURL": PARENT,
            "run": {"runId": run.job.0},
            "job": job(run.project.clone()),
        }),
    );
    if let Some(error) = report.and_then(|report| report.error.as_ref()) {
        let facet = json!({
            "_producer": PRODUCER,
            "_schemaURL": ERROR,
            "message": error.message,
            "programmingLanguage": if step.kind == "sql" { "SQL" } else { "Python" },
        });
        run_facets.insert("errorMessage".to_owned(), facet);
    }
    let mut job = job(format!("{}.{}", run.project, step.name));
    job["facets"] = json!({"sourceCodeLocation": {
        "_producer": PRODUCER,
        "_schemaURL": LOCATION,
        "type": "file",
        "url": format!("file:{}", step.file),
    }});
    json!({
        "eventType": kind,
        "eventTime": time.to_rfc3339_opts(SecondsFormat::Micros, true),
        "producer": PRODUCER,
        "schemaURL": SCHEMA,
        "run": {"runId": run_id(run.job, number), "facets": run_facets},
        "job": job,
        "inputs": step.parents.iter().map(|table| dataset(run, table)).collect::<Vec<_>>(),
        "outputs": outputs(run, step, report),
    })
}

/// Returns the id of a model's run, which is the same in each conversion.
fn run_id(job: JobId, number: usize) -> Uuid {
    Uuid::from_u128(job.0.as_u128() ^ (number as u128 + 1))
}

/// Returns the table of a stored model. It is written to the branch when the run is merged.
fn outputs(run: &RunIdentity, step: &PlannedStep, report: Option<&StepReport>) -> Vec<Value> {
    if step.materialization.as_deref().is_none_or(|one| one == "none") {
        return Vec::new();
    }
    let mut output = dataset(run, &step.name);
    if let Some(rows) = report.and_then(|report| report.rows) {
        output["outputFacets"] = json!({"outputStatistics": {
            "_producer": PRODUCER,
            "_schemaURL": STATISTICS,
            "rowCount": rows,
        }});
    }
    vec![output]
}

fn dataset(run: &RunIdentity, table: &str) -> Value {
    let name = if table.contains('.') { table.to_owned() } else { format!("public.{table}") };
    json!({"namespace": run.namespace, "name": format!("{name}@{}", run.branch)})
}
