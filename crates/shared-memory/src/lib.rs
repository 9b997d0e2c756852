//! Arrow data in memory files: written once, sealed, and mapped by every process that reads it.
//!
//! [`MemoryFile`] is the file, [`SharedTable`] the Arrow IPC file in it. No process can change a
//! sealed file, so its mapping is immutable memory. Data from another process is checked before an
//! array is created over it.
//!
//! Results of functions are in files of [`HugePageFs`] if the host supports them, and may refer to
//! the files of the inputs. An [`Extent`] locates a part of a table in one of these files. Rows
//! that are streamed to a function are in a few [`ReusableFile`]s, which only the server writes
//! and reuses.
//!
//! A [`TableQuota`] limits the memory of tables. Beyond the limit, tables are stored in unnamed
//! files on disk, which functions map into memory and the server reads block by block.

mod batch_validation;
mod blocking_io;
mod decode_limits;
mod disk_file;
mod error;
mod extents;
mod huge_page_fs;
mod ipc;
mod ipc_encoder;
mod ipc_stream;
mod memory_file;
mod message_validation;
mod quota;
mod read_only_mapping;
mod reusable_file;
mod spill_writer;
mod table;
mod table_receiver;
mod table_writer;
mod write_check;

pub use blocking_io::run_blocking;
pub use disk_file::DiskFile;
pub use error::{Error, Result};
pub use extents::{Extent, WorkerFile};
pub use huge_page_fs::{HugePageFs, ResultFile};
pub use ipc_encoder::{IpcMessage, bytes_of, is_encodable};
pub use memory_file::MemoryFile;
pub use quota::{QuotaReservation, TableQuota};
pub use reusable_file::ReusableFile;
pub use table::SharedTable;
pub use table_receiver::TableReceiver;
