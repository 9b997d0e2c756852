//! Dependency graph of a project's steps.

use std::collections::{BTreeMap, BTreeSet};

use headwater_model::TableName;

use crate::{Error, Location, Project, Result, Step, StepInput};

/// Dependencies between steps, with a topological order.
#[derive(Debug, Clone)]
pub struct StepGraph {
    /// Indexes of the steps that each step reads (its parents).
    pub parents: Vec<BTreeSet<usize>>,
    /// Indexes of the steps that read each step (its children).
    pub children: Vec<BTreeSet<usize>>,
    /// A topological order. Where dependencies leave the order open, steps are in project order.
    pub order: Vec<usize>,
    models: BTreeMap<TableName, usize>,
}

impl StepGraph {
    /// Builds the graph of a project; fails with `Cycle`.
    pub fn new(project: &Project) -> Result<StepGraph> {
        let models: BTreeMap<TableName, usize> = project
            .steps
            .iter()
            .enumerate()
            .filter(|(_, step)| !step.is_expectation())
            .map(|(index, step)| (folded(&step.table), index))
            .collect();
        let steps = project.steps.len();
        let mut graph = StepGraph {
            parents: vec![BTreeSet::new(); steps],
            children: vec![BTreeSet::new(); steps],
            order: Vec::with_capacity(steps),
            models,
        };
        for (child, step) in project.steps.iter().enumerate() {
            for input in &step.inputs {
                if let Some(parent) = graph.model(input) {
                    graph.parents[child].insert(parent);
                    graph.children[parent].insert(child);
                }
            }
        }
        graph.sort();
        if graph.order.len() < steps {
            return Err(graph.cycle(&project.steps));
        }
        Ok(graph)
    }

    /// Returns the model that an input names; `None` for a lake table.
    pub fn model(&self, input: &StepInput) -> Option<usize> {
        if input.reference.is_some() {
            return None;
        }
        self.models.get(&folded(&input.table)).copied()
    }

    /// Returns the steps in levels: the parents of a step are in earlier levels. Within a level,
    /// steps are in topological order.
    pub fn levels(&self) -> Vec<Vec<usize>> {
        let mut level_of = vec![0; self.parents.len()];
        let mut levels: Vec<Vec<usize>> = Vec::new();
        for step in self.order.iter().copied() {
            let level = self.parents[step].iter().map(|parent| level_of[*parent] + 1).max();
            level_of[step] = level.unwrap_or_default();
            levels.resize_with(levels.len().max(level_of[step] + 1), Vec::new);
            levels[level_of[step]].push(step);
        }
        levels
    }

    fn sort(&mut self) {
        let mut waiting: Vec<usize> = self.parents.iter().map(BTreeSet::len).collect();
        let mut ready: BTreeSet<usize> =
            (0..waiting.len()).filter(|step| waiting[*step] == 0).collect();
        while let Some(step) = ready.pop_first() {
            self.order.push(step);
            for child in &self.children[step] {
                waiting[*child] -= 1;
                if waiting[*child] == 0 {
                    ready.insert(*child);
                }
            }
        }
    }

    /// Returns the error for a cycle. The steps of the cycle, and all steps that read them, are
    /// missing in the topological order.
    fn cycle(&self, steps: &[Step]) -> Error {
        let done: BTreeSet<usize> = self.order.iter().copied().collect();
        let mut path: Vec<usize> = Vec::new();
        // Each missing step reads another missing step, so a path from input to input reaches a
        // cycle.
        let mut next = (0..steps.len()).find(|step| !done.contains(step));
        while let Some(step) = next {
            if let Some(start) = path.iter().position(|seen| *seen == step) {
                path.drain(..start);
                break;
            }
            path.push(step);
            next = self.parents[step].iter().copied().find(|parent| !done.contains(parent));
        }
        let names = path
            .iter()
            .map(|step| (steps[*step].name.clone(), self.reads_at(&steps[*step], &path)));
        Error::Cycle { path: names.collect() }
    }

    /// Returns the location where a step reads one of the steps `others`.
    fn reads_at(&self, step: &Step, others: &[usize]) -> Location {
        let input = step
            .inputs
            .iter()
            .find(|input| self.model(input).is_some_and(|parent| others.contains(&parent)));
        input.map_or_else(|| step.at.clone(), |input| input.at.clone())
    }
}

/// Lowercases a model name: model names match case-insensitively, as in SQL.
fn folded(table: &TableName) -> TableName {
    TableName { namespace: table.namespace.to_lowercase(), name: table.name.to_lowercase() }
}
