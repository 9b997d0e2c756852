//! Selects the steps of a run by dbt's selection syntax.

mod selectors;

pub(crate) use selectors::{Selection, SelectionContext, Selectors, StepState};
