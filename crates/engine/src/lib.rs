//! The `engine` room: SQL over the lake, and the only room that knows DataFusion.
//!
//! An [`Engine`] serves one lake; a [`Session`] answers statements at one ref, for one author.
//! Reads go through native Parquet scans that the tables' manifests plan; writes go through one
//! lake transaction per statement. A statement or clause that is not honoured is refused by name,
//! never ignored.
//!
//! Names match as written first, then without case. `"flights@dev"` reads one table at another ref.

mod aggregates;
mod alter;
mod answer;
mod bounds;
mod change;
mod constant_position;
mod create;
mod defaults;
mod diff;
mod drive;
mod engine;
mod error;
mod formats;
mod functions_hint;
mod into_column;
mod listing;
mod memory;
mod options;
mod output;
mod parents;
mod plain_words;
mod planner;
mod planning_error;
mod relations;
mod resident;
mod rules;
mod scan;
mod session;
mod signed;
mod similar;
mod stop;
mod stored;
mod system;
mod timestamps;
mod view;
mod write;

pub use answer::{Answer, BatchStream, Batches, Metrics};
pub use diff::{DiffOptions, KEYS_PROPERTY, TableAt};
pub use engine::Engine;
pub use error::{Error, Position, Result, SqlError};
pub use options::{EngineOptions, SessionOptions};
pub use parents::{TableRef, parents};
pub use session::{Description, ParameterType, Session};
pub use headwater_sql::{
    IntoStatement, Parameter, Parameters, Prepared, StatementText, check_condition,
    parse_statements, placeholders,
};
pub use stored::StoredRows;
pub use system::SystemTable;
pub use view::{Below, tables_below};
