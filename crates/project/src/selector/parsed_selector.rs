//! Parsed selectors: methods, their fixed values, and the generations to add.

use headwater_model::StepStatus;

use super::Attribute;
use crate::{Materialization, Step, StepKind};

/// A selection method with its graph operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// Text as written, for errors.
    pub text: String,
    /// The condition that selects steps.
    pub method: SelectorMethod,
    /// Number of generations of ancestors to add to the selected steps.
    pub parents: GraphDepth,
    /// Number of generations of descendants to add to the selected steps.
    pub children: GraphDepth,
    /// True for `@`: adds the descendants, and all ancestors of the descendants.
    pub closure: bool,
}

/// Number of generations of ancestors or descendants to add to the selected steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphDepth {
    /// No generation.
    None,
    /// At most this number of generations.
    Levels(usize),
    /// All generations.
    All,
}

impl GraphDepth {
    /// Returns the maximum number of generations.
    pub fn levels(self) -> usize {
        match self {
            GraphDepth::None => 0,
            GraphDepth::Levels(levels) => levels,
            GraphDepth::All => usize::MAX,
        }
    }
}

/// A condition that selects steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelectorMethod {
    /// A pattern for an attribute of a step.
    Pattern(Attribute, String),
    /// Models and expectations of a kind.
    Kind(StepKind),
    /// All models, in SQL and in Python.
    Models,
    /// Models with one of these materializations.
    Materialized(Vec<Materialization>),
    /// Table of the lake; selects the steps that read it.
    Source(String),
    /// Models by comparison with their last build.
    State(ModelState),
    /// Steps by their result in the last run.
    Result(LastStepResult),
}

/// The state of a model, compared with the last build on the target branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelState {
    /// The model was never built, or its code changed.
    Modified,
    /// The model was never built.
    New,
    /// The model was built before.
    Old,
    /// The model was built before, and its code did not change.
    Unmodified,
}

/// The result of a step in the last run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastStepResult {
    /// The model failed.
    Error,
    /// The expectation failed.
    Fail,
    /// The expectation failed, but only caused a warning.
    Warn,
    /// The step did not run, because another step failed or the run was stopped.
    Skipped,
    /// The model ran successfully, or did not need to run.
    Success,
    /// The expectation passed, or did not need to run.
    Pass,
}

impl LastStepResult {
    /// Returns true if a step with this status has the result.
    pub fn admits(self, step: &Step, status: StepStatus) -> bool {
        let result = match (status, step.is_expectation()) {
            (StepStatus::Failed, true) => LastStepResult::Fail,
            (StepStatus::Failed, false) => LastStepResult::Error,
            (StepStatus::Warned, _) => LastStepResult::Warn,
            (StepStatus::Skipped, _) => LastStepResult::Skipped,
            (StepStatus::Succeeded | StepStatus::Unchanged | StepStatus::Reused, true) => {
                LastStepResult::Pass
            }
            (StepStatus::Succeeded | StepStatus::Unchanged | StepStatus::Reused, false) => {
                LastStepResult::Success
            }
        };
        self == result
    }
}
