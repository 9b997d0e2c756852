//! Projects written for Bauplan.

mod rules;
mod runs;
mod strategies;
