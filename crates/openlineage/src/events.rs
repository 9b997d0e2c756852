//! Converts the job events of a project's run to events of OpenLineage.

use std::collections::BTreeMap;

use chrono::SecondsFormat;
use headwater_model::{
    JobEvent, JobEventKind, JobId, PlannedStep, StepReport, StepStatus, Timestamp,
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// URL of the schema of an event.
const SCHEMA: &str = "https://openlineage.io/spec/1-0-5/OpenLineage.json#/definitions/RunEvent";

/// Schema of the facet with the parent run: a model's run is part of a project's run.
const PARENT: &str = "https://openlineage.io/spec/facets/1-0-0/ParentRunFacet.json";

/// Schema of the facet with the error.
const ERROR: &str = "https://openlineage.io/spec/facets/1-0-0/ErrorMessageRunFacet.json";

/// Schema of the facet with the number of rows.
const STATISTICS: &str =
    "https://openlineage.io/spec/facets/1-0-0/OutputStatisticsOutputDatasetFacet.json";

/// Schema of the facet with the file of a model.
const LOCATION: &str = "https://openlineage.io/spec/facets/1-0-0/SourceCodeLocationJobFacet.json";

/// Schema of the facet with the sources of columns.
const COLUMN_LINEAGE: &str =
    "https://openlineage.io/spec/facets/1-2-0/ColumnLineageDatasetFacet.json";

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
    /// The name of the project.
    pub project: String,
    /// The branch on which the project was run.
    pub branch: String,
}

/// A column of a model, and an input column from which it is, or may be, computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnLineage {
    /// The model's table, with its namespace.
    pub table: String,
    /// Column of the model.
    pub column: String,
    /// The input, with its namespace.
    pub input: String,
    /// The ref of the input; `None` for the branch of the run.
    pub reference: Option<String>,
    /// Column of the input.
    pub input_column: String,
    /// True if the column is certainly computed from the input column; false if this is only
    /// possible.
    pub exact: bool,
}

impl ColumnLineage {
    /// Returns the source in a row of `system.lineage`; `None` for a row without columns.
    pub fn from_row(row: &Value) -> Option<Self> {
        let text = |name: &str| row[name].as_str().map(str::to_owned);
        let table = |namespace: &str, name: &str| {
            Some(format!("{}.{}", row[namespace].as_str()?, row[name].as_str()?))
        };
        Some(ColumnLineage {
            table: table("namespace", "name")?,
            column: text("column")?,
            input: table("input_namespace", "input_name")?,
            reference: text("input_ref"),
            input_column: text("input_column")?,
            exact: row["exact"].as_bool().unwrap_or(false),
        })
    }
}

/// The described run, and the source columns of its models' columns.
#[derive(Clone, Copy)]
struct EventContext<'a> {
    run: &'a RunIdentity,
    columns: &'a [ColumnLineage],
}

/// A step with its position in the plan.
struct NumberedStep<'a> {
    number: usize,
    step: &'a PlannedStep,
}

/// Returns the events of a run: one at the start of each model, and one at its end. Models that did
/// not run have no events. Expectations are jobs without outputs. `columns` contains the source
/// columns of the models' columns, as known after the run.
pub fn events(run: &RunIdentity, job_events: &[JobEvent], columns: &[ColumnLineage]) -> Vec<Value> {
    let context = EventContext { run, columns };
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
                    found.push(event_of(context, "START", *time, planned, None));
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
                    found.push(event_of(context, kind, *time, planned, Some(report)));
                }
            }
            _ => {}
        }
    }
    found
}

fn event_of(
    context: EventContext<'_>,
    kind: &str,
    time: Timestamp,
    step: &NumberedStep<'_>,
    report: Option<&StepReport>,
) -> Value {
    let NumberedStep { number, step } = *step;
    let run = context.run;
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
        "outputs": outputs(context, step, report),
    })
}

/// Returns the id of a model's run; `number` is the model's position in the plan. Each conversion
/// of the same run returns the same id.
fn run_id(job: JobId, number: usize) -> Uuid {
    Uuid::from_u128(job.0.as_u128() ^ (number as u128 + 1))
}

/// Returns the table of a stored model as an output; empty for other steps. The table is written to
/// the branch when the run is merged.
fn outputs(
    context: EventContext<'_>,
    step: &PlannedStep,
    report: Option<&StepReport>,
) -> Vec<Value> {
    if step.materialization.as_deref().is_none_or(|one| one == "none") {
        return Vec::new();
    }
    let mut output = dataset(context.run, &step.name);
    if let (Some(facet), Some(_)) = (column_lineage(context, &step.name), report) {
        output["facets"] = json!({"columnLineage": facet});
    }
    if let Some(rows) = report.and_then(|report| report.rows) {
        output["outputFacets"] = json!({"outputStatistics": {
            "_producer": PRODUCER,
            "_schemaURL": STATISTICS,
            "rowCount": rows,
        }});
    }
    vec![output]
}

/// Returns the facet that lists the source columns of each column of a table; `None` if no source
/// is known. If it is uncertain whether a column is computed from a source column, the source
/// column has no transformation in the facet.
fn column_lineage(context: EventContext<'_>, table: &str) -> Option<Value> {
    let table = full_name(table);
    let mut fields: Map<String, Value> = Map::new();
    for source in context.columns.iter().filter(|source| source.table == table) {
        let reference = source.reference.as_ref().unwrap_or(&context.run.branch);
        let mut input = json!({
            "namespace": context.run.namespace,
            "name": format!("{}@{reference}", source.input),
            "field": source.input_column,
        });
        if source.exact {
            input["transformations"] = json!([{"type": "DIRECT"}]);
        }
        let field = fields.entry(source.column.clone());
        let field = field.or_insert_with(|| json!({"inputFields": []}));
        if let Some(inputs) = field["inputFields"].as_array_mut() {
            inputs.push(input);
        }
    }
    if fields.is_empty() {
        return None;
    }
    Some(json!({"_producer": PRODUCER, "_schemaURL": COLUMN_LINEAGE, "fields": fields}))
}

fn dataset(run: &RunIdentity, table: &str) -> Value {
    let name = format!("{}@{}", full_name(table), run.branch);
    json!({"namespace": run.namespace, "name": name})
}

/// Returns the name of a table with its namespace.
fn full_name(table: &str) -> String {
    if table.contains('.') { table.to_owned() } else { format!("public.{table}") }
}
