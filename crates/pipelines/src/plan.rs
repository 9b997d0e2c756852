//! The plan of a run: what each step reads, whether all of that is there, and whether it has anything new
//! to do. Nothing is computed; a mistake is found here, with its file and line.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::{Schema, SchemaRef};
use headwater_engine::{Engine, Session, SessionOptions, substitute};
use headwater_lake::View;
use headwater_model::{Fault, PlannedStep, RefSpec, RunPlan, SYSTEM_NAMESPACE, TableName};
use serde_json::Value;

use crate::graph::Graph;
use crate::source::SourceText;
use crate::step::{Body, Input, Step};
use crate::{Error, Project, Result, checks, fingerprint, suggest};

/// The snapshot property that holds the whole fingerprint of the model that wrote it.
pub(crate) const FINGERPRINT: &str = "headwater.fingerprint";

/// The snapshot property that holds the fingerprint of the model's code alone.
pub(crate) const FINGERPRINT_CODE: &str = "headwater.fingerprint.code";

/// Everything a run needs to know before it begins.
pub(crate) struct Plan {
    pub project: Project,
    pub graph: Graph,
    pub view: View,
    pub values: BTreeMap<String, Value>,
    /// By step.
    pub steps: Vec<StepPlan>,
}

/// What is planned for one step.
#[derive(Debug, Clone, Default)]
pub(crate) struct StepPlan {
    /// The hash of its code.
    pub code: String,
    /// The hash of its code and inputs.
    pub fingerprint: String,
    /// Why it runs; none where nothing changed.
    pub reason: Option<&'static str>,
    /// The lake tables it reads, by input.
    pub tables: Vec<TableName>,
    /// Its columns, where they are known before it runs.
    pub schema: Option<SchemaRef>,
}

/// How a plan is made.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PlanOptions {
    /// Run every step.
    pub no_cache: bool,
}

impl Plan {
    /// Plans a project at a view of the lake.
    pub async fn new(
        engine: &Engine,
        project: Project,
        view: View,
        values: BTreeMap<String, Value>,
        options: PlanOptions,
    ) -> Result<Plan> {
        let graph = Graph::new(&project)?;
        let steps = vec![StepPlan::default(); project.steps.len()];
        let mut plan = Plan { project, graph, view, values, steps };
        for index in plan.graph.order.clone() {
            plan.steps[index] = plan.step(engine, index).await?;
        }
        plan.decide(options).await?;
        Ok(plan)
    }

    async fn step(&self, engine: &Engine, index: usize) -> Result<StepPlan> {
        let step = &self.project.steps[index];
        let code = fingerprint::code(&self.project, step, &self.values);
        let mut found = StepPlan { code, ..StepPlan::default() };
        let mut states = Vec::new();
        let mut schemas = Vec::new();
        for input in &step.inputs {
            let (state, schema) = match self.graph.model(input) {
                Some(parent) => {
                    let parent = &self.steps[parent];
                    (parent.fingerprint.clone(), parent.schema.clone())
                }
                None => self.lake_table(step, input, &mut found.tables).await?,
            };
            states.push((input.table.to_string(), state));
            schemas.push(schema);
        }
        found.fingerprint = fingerprint::whole(&found.code, &states);
        found.schema = self.schema(engine, step, &schemas).await?;
        Ok(found)
    }

    /// A lake table's state and columns; `TableMissing` where there is none.
    async fn lake_table(
        &self,
        step: &Step,
        input: &Input,
        tables: &mut Vec<TableName>,
    ) -> Result<(String, Option<SchemaRef>)> {
        if input.table.namespace == SYSTEM_NAMESPACE {
            // Headwater's own tables change all the time: a step that reads one always runs.
            return Ok((uuid::Uuid::new_v4().to_string(), None));
        }
        let other = match &input.reference {
            Some(reference) => {
                let lake = self.view.lake();
                Some(lake.view(reference).await.map_err(|error| Error::other(&error))?)
            }
            None => None,
        };
        let view = other.as_ref().unwrap_or(&self.view);
        let (namespace, name) = (&input.table.namespace, &input.table.name);
        let found = view.find(namespace, name).await.map_err(|error| Error::other(&error))?;
        let Some((name, table)) = found else {
            return Err(self.missing(view, step, input).await?);
        };
        tables.push(name);
        Ok((table.metadata_location().to_owned(), Some(table.schema())))
    }

    async fn missing(&self, view: &View, step: &Step, input: &Input) -> Result<Error> {
        let tables = view.list(None).await.map_err(|error| Error::other(&error))?;
        let mut names: Vec<String> = tables.iter().map(|(name, _)| name.to_string()).collect();
        names.extend(self.project.steps.iter().map(|step| step.table.to_string()));
        let name = input.table.to_string();
        let nearest = suggest::nearest(&name, names.iter().map(String::as_str));
        Ok(Error::TableMissing {
            step: step.name.clone(),
            reference: view.spec().to_string(),
            at: input.at.clone(),
            nearest: nearest.map(str::to_owned),
            table: name,
        })
    }

    /// The columns of a step's output, where those of all its inputs are known; columns it asks for that
    /// are not there are an error.
    async fn schema(
        &self,
        engine: &Engine,
        step: &Step,
        inputs: &[Option<SchemaRef>],
    ) -> Result<Option<SchemaRef>> {
        for (input, schema) in step.inputs.iter().zip(inputs) {
            if let Some(schema) = schema {
                check_columns(step, input, schema)?;
            }
        }
        let Body::Sql(sql) = &step.body else { return Ok(None) };
        let session = self.session(engine)?;
        for (input, schema) in step.inputs.iter().zip(inputs) {
            match (self.graph.model(input), schema) {
                (Some(_), Some(schema)) => {
                    let registered =
                        session.register_empty(&input.table.to_string(), schema.clone());
                    registered.map_err(|error| Error::other(&error))?;
                }
                // The columns of a Python model are known once it ran.
                (Some(_), None) => return Ok(None),
                (None, _) => {}
            }
        }
        let planned = match substitute(sql, &self.values) {
            Ok(sql) => session.schema_of(&sql).await,
            Err(error) => Err(error),
        };
        planned.map(Some).map_err(|error| sql_error(step, sql, &error))
    }

    fn session(&self, engine: &Engine) -> Result<Session> {
        let options = SessionOptions {
            reference: self.view.spec().clone(),
            namespace: self.project.defaults.namespace.clone(),
            view: Some(self.view.clone()),
            ..SessionOptions::default()
        };
        engine.session(options).map_err(|error| Error::other(&error))
    }

    /// Which steps run: those whose table is not what they would write, expectations that have not passed
    /// on just this, and what these need that is not kept.
    async fn decide(&mut self, options: PlanOptions) -> Result<()> {
        for index in self.graph.order.clone() {
            self.steps[index].reason = self.own_reason(index, options).await?;
        }
        for index in self.graph.order.clone().into_iter().rev() {
            let needed =
                self.graph.children[index].iter().any(|child| self.steps[*child].reason.is_some());
            let step = &self.project.steps[index];
            if needed && !step.is_materialized() && self.steps[index].reason.is_none() {
                self.steps[index].reason = Some("its child runs");
            }
        }
        Ok(())
    }

    async fn own_reason(&self, index: usize, options: PlanOptions) -> Result<Option<&'static str>> {
        let (step, plan) = (&self.project.steps[index], &self.steps[index]);
        let parent_runs = self.graph.parents[index].iter().any(|parent| {
            self.steps[*parent].reason.is_some_and(|reason| reason != "its child runs")
        });
        if options.no_cache {
            return Ok(Some("no cache"));
        }
        if parent_runs {
            return Ok(Some("changed input"));
        }
        if step.reads_network() {
            return Ok(Some("it reads the network"));
        }
        if step.is_expectation() {
            let passed =
                checks::passed(self.view.lake().store().as_ref(), &plan.fingerprint).await?;
            return Ok((!passed).then_some("not checked yet"));
        }
        if !step.is_materialized() {
            // It runs when a child does; one that nobody reads runs whenever the project does.
            let unread = self.graph.children[index].is_empty();
            return Ok(unread.then_some("nothing keeps it"));
        }
        let (namespace, name) = (&step.table.namespace, &step.table.name);
        let found = self.view.find(namespace, name).await.map_err(|error| Error::other(&error))?;
        let summary = found.map(|(_, table)| table.summary()).unwrap_or_default();
        let reason = match (summary.get(FINGERPRINT), summary.get(FINGERPRINT_CODE)) {
            (Some(whole), _) if *whole == plan.fingerprint => None,
            (None, _) => Some("first run"),
            (_, Some(code)) if *code == plan.code => Some("changed input"),
            _ => Some("changed code"),
        };
        Ok(reason)
    }

    /// Whether anything runs at all.
    pub fn has_work(&self) -> bool {
        self.steps.iter().any(|step| step.reason.is_some())
    }

    /// The plan as it is shown.
    pub fn listed(&self) -> RunPlan {
        let steps = self.graph.order.iter().map(|index| self.listed_step(*index));
        RunPlan { project: self.project.name.clone(), steps: steps.collect() }
    }

    fn listed_step(&self, index: usize) -> PlannedStep {
        let (step, plan) = (&self.project.steps[index], &self.steps[index]);
        let parents: BTreeSet<String> =
            step.inputs.iter().map(|input| input.table.to_string()).collect();
        let materialization =
            (!step.is_expectation()).then(|| step.materialization.as_str().to_owned());
        let environment = match &step.body {
            Body::Sql(_) => None,
            Body::Python(function) => {
                let (python, packages) = fingerprint::environment(&self.project.defaults, function);
                let python =
                    python.map_or("python".to_owned(), |version| format!("python {version}"));
                let packages = packages.iter().map(|(name, version)| format!("{name} {version}"));
                Some(std::iter::once(python).chain(packages).collect::<Vec<_>>().join(", "))
            }
        };
        PlannedStep {
            name: step.name.clone(),
            kind: step.kind.as_str().to_owned(),
            file: step.at.file.to_string(),
            line: step.at.line,
            parents: parents.into_iter().collect(),
            tables: plan.tables.iter().map(ToString::to_string).collect(),
            materialization,
            environment,
            reason: plan.reason.map(str::to_owned),
        }
    }
}

/// A SQL model's error at its place in the file.
pub(crate) fn sql_error(step: &Step, sql: &str, error: &headwater_engine::Error) -> Error {
    let source = SourceText::new(&step.at.file, sql);
    let at = crate::project::located(&source, error);
    Error::Sql { step: step.name.clone(), at, problem: Box::new(error.to_problem()) }
}

/// The columns that a Python step asks for must be there.
fn check_columns(step: &Step, input: &Input, schema: &Schema) -> Result<()> {
    for column in input.columns.iter().flatten() {
        let known = |name: &str| name == column || name.eq_ignore_ascii_case(column);
        if !schema.fields().iter().any(|field| known(field.name())) {
            let names: Vec<&str> =
                schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Error::ColumnMissing {
                step: step.name.clone(),
                table: input.table.to_string(),
                column: column.clone(),
                at: input.at.clone(),
                hint: suggest::hint(column, names, "columns"),
            });
        }
    }
    Ok(())
}

/// The branch that a request means.
pub(crate) fn branch_of(view: &View, reference: &RefSpec) -> Result<String> {
    view.branch()
        .map(str::to_owned)
        .ok_or_else(|| Error::NotABranch { reference: reference.to_string() })
}
