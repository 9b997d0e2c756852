//! The selected steps of a plan, and the states that selectors compare.

use std::collections::{BTreeMap, BTreeSet};

use headwater_build_records::snapshot_property;
use headwater_jobs::JobFilter;
use headwater_model::{ErrorCode, JobEventKind, JobKind, JobStatus, Problem, StepStatus};
use headwater_project::selector::{Selection, SelectionContext, Selectors, StepState};
use headwater_project::{Step, StepInput, fingerprint};

use crate::plan::{FINGERPRINT, FINGERPRINT_CODE, Plan, PlanOptions, branch_of};
use crate::{Error, Result, Runner, passed_checks};

/// Number of recent runs that are searched for the last run of the project.
const RUNS_CONSIDERED: usize = 200;

impl Plan {
    /// Returns the steps that the run plans: the selected steps, the intermediate models that they
    /// need, and the expectations that check them.
    pub fn planned_steps(&self) -> impl Iterator<Item = &Step> {
        let steps = self.project.steps.iter().zip(&self.selection.planned);
        steps.filter(|(_, planned)| **planned).map(|(step, _)| step)
    }

    /// Resolves the selectors of a run.
    pub(crate) async fn select(
        &self,
        runner: &Runner,
        options: PlanOptions<'_>,
    ) -> Result<Selection> {
        let selectors = Selectors::parse(options.select, options.exclude)?;
        let mut states = vec![StepState::default(); self.steps.len()];
        if selectors.needs_states() {
            for (index, state) in states.iter_mut().enumerate() {
                *state = self.state(index).await?;
            }
        }
        let tables: Vec<bool> = self.steps.iter().map(|step| step.table.is_some()).collect();
        let results = if selectors.needs_results() {
            self.last_results(runner).await?
        } else {
            BTreeMap::new()
        };
        let (project, graph) = (&self.project, &self.graph);
        let (states, tables, results) = (&states, &tables, &results);
        Ok(selectors.resolve(&SelectionContext { project, graph, states, tables, results })?)
    }

    /// Returns the status of each step in the project's last run on the branch. Previews, and runs
    /// that ended before their first step, are skipped. Fails if no run is found.
    async fn last_results(&self, runner: &Runner) -> Result<BTreeMap<String, StepStatus>> {
        let filter = JobFilter {
            kinds: vec![JobKind::Run],
            statuses: JobStatus::FINAL.to_vec(),
            limit: RUNS_CONSIDERED,
            ..JobFilter::default()
        };
        let (project, branch) = (&self.project.name, branch_of(&self.view, self.view.spec())?);
        let merging = format!("{project}, merging ");
        let jobs = runner.jobs().list(&filter).await.map_err(|error| Error::other(&error))?;
        for job in jobs {
            let is_own = job.summary == *project || job.summary.starts_with(&merging);
            if !is_own || job.reference.as_deref() != Some(branch.as_str()) {
                continue;
            }
            let events = runner.jobs().events(job.id, 0).await;
            let events = events.map_err(|error| Error::other(&error))?.into_iter();
            let ended = events.filter_map(|event| match event.event {
                JobEventKind::StepEnded { report } => Some((report.step.clone(), report.status)),
                _ => None,
            });
            let results: BTreeMap<String, StepStatus> = ended.collect();
            if !results.is_empty() {
                return Ok(results);
            }
        }
        let message = format!("project `{project}` has not run on `{branch}`");
        let problem = Problem::new(ErrorCode::InvalidArgument, message);
        let hint = "Run the project on this branch first, or name the models to run.";
        Err(problem.with_hint(hint).into())
    }

    /// Compares a step's code with its last build. An intermediate model has no table, so its code
    /// is compared with the records in the tables of the models that read it.
    async fn state(&self, index: usize) -> Result<StepState> {
        let (step, plan) = (&self.project.steps[index], &self.steps[index]);
        let state = |same: bool| if same { StepState::Same } else { StepState::Modified };
        if step.is_materialized() {
            let Some(table) = &plan.table else { return Ok(StepState::New) };
            let history = self.view.lake().tables().history();
            let built = history.find(table, FINGERPRINT_CODE, |_| true).await;
            return Ok(state(built.as_ref() == Some(&plan.code)));
        }
        if step.is_view() {
            let Some(view) = &plan.lake_view else { return Ok(StepState::New) };
            return Ok(state(view.properties().get(FINGERPRINT_CODE) == Some(&plan.code)));
        }
        let readers = self.readers(index);
        if readers.is_empty() {
            let passed =
                passed_checks::passed(self.view.lake().store().as_ref(), &plan.code).await?;
            return Ok(if passed { StepState::Same } else { StepState::New });
        }
        let mut found = StepState::New;
        for table in readers.iter().filter_map(|reader| self.steps[*reader].table.as_ref()) {
            let built = self.last_build(table).await.unwrap_or_default();
            match built.intermediate.get(&step.name) {
                Some(code) if *code == fingerprint::short_hash(&plan.code) => {
                    found = StepState::Same;
                }
                Some(_) => return Ok(StepState::Modified),
                None => {}
            }
        }
        Ok(found)
    }

    /// Returns the stored models that read an intermediate model, directly or through other
    /// intermediate models.
    fn readers(&self, index: usize) -> BTreeSet<usize> {
        let mut readers = BTreeSet::new();
        let mut seen = BTreeSet::from([index]);
        let mut open = vec![index];
        while let Some(step) = open.pop() {
            for child in &self.graph.children[step] {
                if self.project.steps[*child].is_materialized() {
                    readers.insert(*child);
                } else if seen.insert(*child) {
                    open.push(*child);
                }
            }
        }
        readers
    }

    /// Returns the output state of a model that a step reads. For a model that is not selected,
    /// this is the state of its existing table. Fails if the model has no table.
    pub(crate) async fn parent_state(
        &self,
        step: &Step,
        input: &StepInput,
        parent: usize,
    ) -> Result<String> {
        if self.selection.planned[parent] {
            return Ok(self.output_state(parent));
        }
        let Some(table) = &self.steps[parent].table else {
            return Err(self.not_selected(step, input, parent));
        };
        if let Some(fingerprint) = snapshot_property(table, FINGERPRINT) {
            return Ok(fingerprint.clone());
        }
        let location = table.metadata_location();
        let accumulates = self.project.steps[parent].materialization.accumulates();
        let history = self.view.lake().tables().history();
        Ok(match history.find(table, FINGERPRINT, |_| true).await {
            Some(fingerprint) if accumulates => format!("{fingerprint} {location}"),
            _ => location.to_owned(),
        })
    }

    /// Returns the error for a step that reads a model which is not selected and has no table.
    fn not_selected(&self, step: &Step, input: &StepInput, parent: usize) -> Error {
        let parent = &self.project.steps[parent].name;
        let (reference, at) = (self.view.spec(), &input.at);
        let message = format!(
            "`{}` reads model `{parent}`, which is not selected and has no table at `{reference}` \
             ({at})",
            step.name
        );
        let mut problem = Problem::new(ErrorCode::TableNotFound, message)
            .with_hint(format!("Also select the parents of the model: `--select +{}`.", step.name));
        problem.context.insert("step".to_owned(), step.name.clone().into());
        problem.context.insert("file".to_owned(), at.file.to_string().into());
        problem.context.insert("line".to_owned(), at.line.into());
        problem.into()
    }

    /// Returns true if a step is an expectation that the run plans.
    pub(crate) fn is_planned_check(&self, index: usize) -> bool {
        self.project.steps[index].is_expectation() && self.selection.planned[index]
    }

    /// Returns true if a successful run implies that all expectations of the project passed.
    pub fn checks_all(&self) -> bool {
        let mut checks =
            (0..self.steps.len()).filter(|one| self.project.steps[*one].is_expectation());
        let any = self.project.steps.iter().any(Step::is_expectation);
        any && checks.all(|index| self.is_planned_check(index))
    }

    /// Returns true if a step appears in reports and lists: it is selected, or another step needs
    /// it.
    pub fn is_listed(&self, index: usize) -> bool {
        self.selection.chosen[index] || self.steps[index].reason.is_some()
    }

    /// Returns the listed steps, each after the steps that it reads.
    pub fn listed_steps(&self) -> impl Iterator<Item = usize> {
        self.graph.order.iter().copied().filter(|index| self.is_listed(*index))
    }
}
