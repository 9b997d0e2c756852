//! The `pipelines` room.
