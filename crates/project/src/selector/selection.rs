//! Resolves selectors to the steps of a run.
//!
//! A [`Selection`] contains the selected steps, the intermediate models that these steps read, and
//! the expectations that check these steps. Other models are not planned and do not run; steps read
//! their existing tables.

use std::collections::{BTreeMap, BTreeSet};

use globset::{GlobBuilder, GlobMatcher};
use headwater_model::{Problem, StepStatus};

use super::{Attribute, ModelState, Selector, SelectorMethod, invalid, parse};
use crate::{Project, Step, StepGraph, unknown_name_hints};

/// The steps of a run.
#[derive(Debug, Clone)]
pub struct Selection {
    /// For each step, true if the selectors select it.
    pub chosen: Vec<bool>,
    /// For each step, true if the run plans it.
    pub planned: Vec<bool>,
}

/// The project and the states that selectors are resolved against.
pub struct SelectionContext<'a> {
    /// The project whose steps are selected.
    pub project: &'a Project,
    /// The graph of the project.
    pub graph: &'a StepGraph,
    /// For each step, the comparison with its last build. Empty if no selector needs it.
    pub states: &'a [StepState],
    /// For each step, true if its table exists.
    pub tables: &'a [bool],
    /// The results of the last run by step. Empty if no selector needs them.
    pub results: &'a BTreeMap<String, StepStatus>,
}

/// Comparison of a step with its last build.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StepState {
    /// Nothing that the step depends on has changed.
    #[default]
    Same,
    /// The step has changed since its last build.
    Modified,
    /// The step has not been built.
    New,
}

/// The parsed selectors of a request.
pub struct Selectors {
    select: Vec<Vec<Selector>>,
    exclude: Vec<Vec<Selector>>,
    /// True if the request has no selectors.
    all: bool,
}

impl Selectors {
    /// Parses the selectors of a request. Errors: `invalid_argument`.
    pub fn parse(select: &[String], exclude: &[String]) -> Result<Selectors, Problem> {
        let all = select.is_empty();
        Ok(Selectors { select: parse(select)?, exclude: parse(exclude)?, all })
    }

    /// Returns true if a selector compares steps with their last build.
    pub fn needs_states(&self) -> bool {
        self.methods().any(|method| matches!(method, SelectorMethod::State(_)))
    }

    /// Returns true if a selector refers to the results of the last run.
    pub fn needs_results(&self) -> bool {
        self.methods().any(|method| matches!(method, SelectorMethod::Result(_)))
    }

    fn methods(&self) -> impl Iterator<Item = &SelectorMethod> {
        self.select.iter().chain(&self.exclude).flatten().map(|one| &one.method)
    }

    /// Resolves the selectors. Errors: `invalid_argument` if a selector matches no step.
    pub fn resolve(&self, candidates: &SelectionContext<'_>) -> Result<Selection, Problem> {
        let count = candidates.project.steps.len();
        let mut chosen =
            if self.all { (0..count).collect() } else { candidates.union(&self.select)? };
        let excluded = candidates.union(&self.exclude)?;
        chosen.retain(|step| !excluded.contains(step));
        let mut planned = candidates.with_intermediate(&chosen);
        if self.all {
            // Without selectors, an expectation of an excluded model runs only if the model's table
            // exists.
            let steps = &candidates.project.steps;
            let runs = |step: &usize| {
                !steps[*step].is_expectation() || candidates.is_checkable(*step, &planned)
            };
            chosen.retain(runs);
            planned = candidates.with_intermediate(&chosen);
        }
        let checks = candidates.checks(&planned).difference(&excluded).copied().collect();
        planned.extend(candidates.with_intermediate(&checks));
        chosen.extend(checks);
        let flags = |steps: &BTreeSet<usize>| (0..count).map(|one| steps.contains(&one)).collect();
        Ok(Selection { chosen: flags(&chosen), planned: flags(&planned) })
    }
}

impl SelectionContext<'_> {
    fn steps(&self) -> &[Step] {
        &self.project.steps
    }

    fn union(&self, selectors: &[Vec<Selector>]) -> Result<BTreeSet<usize>, Problem> {
        let mut union = BTreeSet::new();
        for all in selectors {
            let mut sets = Vec::new();
            for selector in all {
                sets.push(self.set(selector)?);
            }
            let intersection = sets.into_iter().reduce(|one, other| &one & &other);
            union.extend(intersection.unwrap_or_default());
        }
        Ok(union)
    }

    /// Returns the steps selected by one selector, including its graph operators.
    fn set(&self, selector: &Selector) -> Result<BTreeSet<usize>, Problem> {
        let found = self.matches(selector)?;
        let mut children = selector.children.levels();
        if matches!(selector.method, SelectorMethod::Source(_)) {
            children -= 1; // The readers are the first generation.
        }
        let (parents_of, children_of) = (&self.graph.parents, &self.graph.children);
        if selector.closure {
            let down = reachable_within(&found, children_of, usize::MAX);
            return Ok(reachable_within(&down, parents_of, usize::MAX));
        }
        let up = reachable_within(&found, parents_of, selector.parents.levels());
        let down = reachable_within(&found, children_of, children);
        Ok(&up | &down)
    }

    fn matches(&self, selector: &Selector) -> Result<BTreeSet<usize>, Problem> {
        let text = &selector.text;
        let found = match &selector.method {
            SelectorMethod::Pattern(attribute, pattern) => {
                let matcher = glob(text, pattern, *attribute == Attribute::Path)?;
                let project = &self.project.name;
                self.filter(|_, step| {
                    attribute.texts(project, step).iter().any(|text| matcher.is_match(text))
                })
            }
            SelectorMethod::Source(table) => {
                let matcher = glob(text, table, false)?;
                self.filter(|_, step| {
                    let tables = step.inputs.iter().filter(|one| self.graph.model(one).is_none());
                    tables.into_iter().any(|one| matcher.is_match(one.table.to_string()))
                })
            }
            // The following methods have a fixed set of values. They may match no step without an
            // error.
            SelectorMethod::Kind(kind) => return Ok(self.filter(|_, step| step.kind == *kind)),
            SelectorMethod::Models => return Ok(self.filter(|_, step| !step.is_expectation())),
            SelectorMethod::Materialized(all) => {
                return Ok(self.filter(|_, step| {
                    !step.is_expectation() && all.contains(&step.materialization)
                }));
            }
            SelectorMethod::State(state) => {
                return Ok(self.filter(|index, _| match self.states[index] {
                    StepState::Same => matches!(state, ModelState::Old | ModelState::Unmodified),
                    StepState::Modified => matches!(state, ModelState::Old | ModelState::Modified),
                    StepState::New => matches!(state, ModelState::New | ModelState::Modified),
                }));
            }
            SelectorMethod::Result(result) => {
                return Ok(self.filter(|_, step| {
                    let status = self.results.get(&step.name);
                    status.is_some_and(|status| result.admits(step, *status))
                }));
            }
        };
        if found.is_empty() { Err(self.unmatched(selector)) } else { Ok(found) }
    }

    fn filter(&self, wanted: impl Fn(usize, &Step) -> bool) -> BTreeSet<usize> {
        let steps = self.steps().iter().enumerate();
        steps.filter(|(index, step)| wanted(*index, step)).map(|(index, _)| index).collect()
    }

    /// Returns the error of a selector that matches no step.
    fn unmatched(&self, selector: &Selector) -> Problem {
        let steps = self.steps();
        let hint = match &selector.method {
            SelectorMethod::Pattern(attribute, pattern) => {
                let texts = steps.iter().flat_map(|one| attribute.texts(&self.project.name, one));
                let texts: BTreeSet<String> = texts.collect();
                let texts = texts.iter().map(String::as_str);
                unknown_name_hints::hint(pattern, texts, attribute.plural())
            }
            SelectorMethod::Source(table) => {
                let inputs = steps.iter().flat_map(|step| &step.inputs);
                let inputs = inputs.filter(|one| self.graph.model(one).is_none());
                let tables: BTreeSet<String> = inputs.map(|one| one.table.to_string()).collect();
                unknown_name_hints::hint(table, tables.iter().map(String::as_str), "tables")
            }
            _ => String::new(),
        };
        invalid(&selector.text, "matches no model and no expectation", hint)
    }

    /// Adds the intermediate models that steps read. These models have no table, so they must be
    /// computed again.
    fn with_intermediate(&self, steps: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut all = steps.clone();
        let mut open: Vec<usize> = steps.iter().copied().collect();
        while let Some(step) = open.pop() {
            for parent in &self.graph.parents[step] {
                if !self.steps()[*parent].is_materialized() && all.insert(*parent) {
                    open.push(*parent);
                }
            }
        }
        all
    }

    /// Returns the expectations that read a planned model, and whose other inputs exist.
    fn checks(&self, planned: &BTreeSet<usize>) -> BTreeSet<usize> {
        self.filter(|index, step| {
            step.is_expectation()
                && self.read_by(index).any(|one| planned.contains(&one))
                && self.is_checkable(index, planned)
        })
    }

    /// Returns true if every model that an expectation reads is planned or has a table.
    fn is_checkable(&self, index: usize, planned: &BTreeSet<usize>) -> bool {
        self.read_by(index).all(|one| {
            planned.contains(&one) || self.tables[one] || !self.steps()[one].is_materialized()
        })
    }

    /// Returns the models that a step reads, directly or through intermediate models.
    fn read_by(&self, index: usize) -> impl Iterator<Item = usize> {
        let readers = self.with_intermediate(&BTreeSet::from([index]));
        readers.into_iter().flat_map(|one| self.graph.parents[one].iter().copied())
    }
}

/// Returns the steps `from`, and the steps that are reachable from them within `levels` generations
/// of `neighbours` (the parents or the children of each step).
fn reachable_within(
    from: &BTreeSet<usize>,
    neighbours: &[BTreeSet<usize>],
    levels: usize,
) -> BTreeSet<usize> {
    let mut all = from.clone();
    let mut last = from.clone();
    for _ in 0..levels {
        let next = last.iter().flat_map(|step| &neighbours[*step]).copied();
        last = next.filter(|step| !all.contains(step)).collect();
        if last.is_empty() {
            break;
        }
        all.extend(&last);
    }
    all
}

/// Compiles a pattern, case-insensitively. With `path`, `*` does not match `/`.
fn glob(text: &str, pattern: &str, path: bool) -> Result<GlobMatcher, Problem> {
    let glob = GlobBuilder::new(pattern).case_insensitive(true).literal_separator(path).build();
    let glob = glob.map_err(|error| {
        invalid(text, &format!("is not a pattern: {}", error.kind()), "Use `*`, `?` and `[abc]`.")
    })?;
    Ok(glob.compile_matcher())
}
