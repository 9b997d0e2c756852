//! The server's life: lock, parts, doors, and the way back.

use std::path::Path;
use std::sync::Arc;

use crate::doors::{Bound, Doors, HttpDoor};
use crate::lock::{LakeLock, ServerInfo};
use crate::parts::Parts;
use crate::{Error, Result, Running, ServerConfig, http};

/// Starts servers.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Opens the lake and the doors that the configuration names, and returns when requests are
    /// answered.
    ///
    /// Errors: [`Error::LakeHeld`] where another server holds the lake and goes on holding it.
    pub async fn start(config: ServerConfig) -> Result<Running> {
        Self::start_behind(config, None).await
    }

    /// The same behind a door that is bound already, whatever address the configuration names.
    pub async fn start_behind(mut config: ServerConfig, door: Option<HttpDoor>) -> Result<Running> {
        config.lake_dir = make_folder(&config.lake_dir)?;
        let lock = LakeLock::take(&config.lake_dir, config.lock_wait).await?;
        let bound = Bound::bind(&config, door).await?;
        let info = ServerInfo {
            pid: std::process::id(),
            version: config.version.clone(),
            socket: config.socket.clone(),
            http: bound.http_addr(),
            token_file: bound.token_file(),
            background: config.idle.is_some(),
            started: chrono::Utc::now(),
        };
        let parts = Arc::new(Parts::start(config).await?);
        let router = http::router(&parts);
        let doors = bound.open(&router);
        lock.publish(&info)?;
        #[cfg(target_os = "linux")]
        crate::startup::give_back();
        tracing::info!(lake = %parts.config.lake_dir.display(), http = ?info.http, "serving");
        let life = tokio::spawn(live(parts.clone(), doors, lock));
        Ok(Running::new(parts, router, info, life))
    }
}

fn make_folder(folder: &Path) -> Result<std::path::PathBuf> {
    let failed = |source| Error::Folder { path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    folder.canonicalize().map_err(failed)
}

/// Serves until it is told to end or nobody wants it any more, then puts everything away.
async fn live(parts: Arc<Parts>, doors: Doors, lock: LakeLock) {
    let finish = Finish(parts.clone());
    tokio::select! {
        _ = parts.ending.requested(None) => {}
        () = parts.idle() => parts.end(parts.config.grace),
        () = parts.watch() => {}
    }
    tracing::info!("ending");
    if let Some(triggers) = &parts.triggers {
        triggers.stop();
    }
    if let Some(upkeep) = &parts.upkeep {
        upkeep.cancel();
    }
    drain(&parts).await;
    doors.close().await;
    drop(lock);
    drop(finish);
}

/// Lets jobs end; whoever asks for the end again with less patience shortens that.
async fn drain(parts: &Parts) {
    let mut patience = parts.ending.requested(None).await;
    loop {
        tokio::select! {
            () = parts.jobs.drain(patience) => return,
            shorter = parts.ending.requested(Some(patience)) => patience = shorter,
        }
    }
}

/// Says that the server has ended, however it did.
struct Finish(Arc<Parts>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.ending.finish();
    }
}
