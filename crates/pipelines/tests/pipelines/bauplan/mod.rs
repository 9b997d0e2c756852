//! Projects written for Bauplan.

mod runs;
mod strategies;
