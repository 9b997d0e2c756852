//! Imports as users see them: files on disk, and the tables that hold their rows afterwards.

#[cfg(test)]
mod csv;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod formats;
#[cfg(test)]
#[path = "../../../lake/tests/it/place.rs"]
mod place;
#[cfg(test)]
mod state;
#[cfg(test)]
#[path = "../../../lake/tests/it/support.rs"]
#[expect(dead_code, reason = "what only tests of the lake use")]
mod support;
