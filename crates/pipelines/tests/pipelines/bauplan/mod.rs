//! Projects written for Bauplan.

mod manifest;
