//! Projects written for Bauplan.

pub mod runs;
mod strategies;
