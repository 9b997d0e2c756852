//! Records of the builds of models, as properties of table snapshots and of views.
//!
//! A [`BuildRecord`] has the inputs and the code of a model, and the sources of its columns. A
//! profile has statistics of the rows that the model wrote. The tables `system.models`,
//! `system.lineage` and `system.profiles` show both. This crate plans and runs nothing.

mod build_record;
mod model_description;
mod model_system_tables;
mod profile;
mod profiles_table;

pub use build_record::{BUILD, BuildRecord, InputRecord, snapshot_property};
pub use model_description::{InputName, ModelDescription, SourceColumn};
pub use model_system_tables::register_system_tables;
pub use profile::{PendingProfile, profile_of, profiled};
