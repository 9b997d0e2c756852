//! What users of the room rely on, over a store in memory that can die at any call.

mod actions;
mod crash;
mod kill;
mod life_cycle;
mod records;
mod support;
mod tables;
mod triggers;
