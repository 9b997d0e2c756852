//! The graph of a project's steps: who reads whom, parents before children.

use std::collections::{BTreeMap, BTreeSet};

use headwater_model::TableName;

use crate::{Error, Location, Project, Result, Step};

/// Which steps read which, with an order in which every parent comes before its children.
#[derive(Debug, Clone)]
pub(crate) struct Graph {
    /// For each step, the steps it reads.
    pub parents: Vec<BTreeSet<usize>>,
    /// For each step, the steps that read it.
    pub children: Vec<BTreeSet<usize>>,
    /// Every step, parents first, otherwise in the project's order.
    pub order: Vec<usize>,
    models: BTreeMap<TableName, usize>,
}

impl Graph {
    /// The graph of a project; `Cycle` where there is no order.
    pub fn new(project: &Project) -> Result<Graph> {
        let models: BTreeMap<TableName, usize> = project
            .steps
            .iter()
            .enumerate()
            .filter(|(_, step)| !step.is_expectation())
            .map(|(index, step)| (folded(&step.table), index))
            .collect();
        let steps = project.steps.len();
        let mut graph = Graph {
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

    /// The model that an input means; none where it is a lake table.
    pub fn model(&self, input: &crate::Input) -> Option<usize> {
        if input.reference.is_some() {
            return None;
        }
        self.models.get(&folded(&input.table)).copied()
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

    /// A cycle among the steps that no order reached.
    fn cycle(&self, steps: &[Step]) -> Error {
        let done: BTreeSet<usize> = self.order.iter().copied().collect();
        let mut path: Vec<usize> = Vec::new();
        // Upwards from any step left over, every parent left over leads on, and at last round.
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

    /// Where a step names one of these others.
    fn reads_at(&self, step: &Step, others: &[usize]) -> Location {
        let input = step
            .inputs
            .iter()
            .find(|input| self.model(input).is_some_and(|parent| others.contains(&parent)));
        input.map_or_else(|| step.at.clone(), |input| input.at.clone())
    }
}

/// Names of models match without case, as SQL reads them.
fn folded(table: &TableName) -> TableName {
    TableName { namespace: table.namespace.to_lowercase(), name: table.name.to_lowercase() }
}
