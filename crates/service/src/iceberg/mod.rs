//! Operations of the Iceberg REST catalog. A ref selects the state of the lake that a client sees.

mod catalog;
mod change;
mod commit;
mod namespace;
mod scan;
mod table;
mod view;

pub use catalog::{Iceberg, StorageAccess};
pub use change::{ChangeError, ChangeRequest, ChangeResult};
pub use commit::NamedTableCommit;
pub use headwater_lake::{NewTable, NewView, TableCommit, ViewCommit};
pub use headwater_table_rest::ScanPage;
pub use namespace::{PropertyUpdate, PropertyUpdateResult};
pub use scan::{PlannedScan, ScanTarget};
pub use table::{LoadedTable, RegisterTableRequest};
pub use view::LoadedView;

pub(crate) use change::ActiveChanges;
pub(crate) use scan::ScanCache;
