//! The wiring: which part is made of which, in which order they start, and in which they end.

use crate::{Result, Running, ServerConfig};

/// Starts servers.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Opens the lake and the doors that the configuration names.
    pub async fn start(config: ServerConfig) -> Result<Running> {
        let lock = crate::lock::LakeLock::take(&config.lake_dir, config.lock_wait).await?;
        drop(lock);
        Err(crate::Error::room(&headwater_model::Problem::new(
            headwater_model::ErrorCode::Unavailable,
            "the server is being written",
        )))
    }
}
