//! The server's life: lock, state, doors, and the way back.

use std::path::Path;
use std::sync::Arc;

use crate::doors::{Bound, Doors, HttpDoor};
use crate::lock::{LakeLock, ServerInfo};
use crate::state::AppState;
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
        config.service.lake_dir = make_folder(&config.service.lake_dir)?;
        let lock = LakeLock::take(&config.service.lake_dir, config.lock_wait).await?;
        let bound = Bound::bind(&config, door).await?;
        let info = ServerInfo {
            pid: std::process::id(),
            version: config.service.version.clone(),
            socket: config.socket.clone(),
            http: bound.http_addr(),
            token_file: bound.token_file(),
            background: config.idle.is_some(),
            started: chrono::Utc::now(),
        };
        let state = Arc::new(AppState::start(config).await?);
        let router = http::router(&state);
        let doors = bound.open(&router);
        lock.publish(&info)?;
        #[cfg(target_os = "linux")]
        crate::startup::give_back();
        tracing::info!(lake = %state.config.service.lake_dir.display(), http = ?info.http, "serving");
        let life = tokio::spawn(live(state.clone(), doors, lock));
        Ok(Running::new(state, router, info, life))
    }
}

fn make_folder(folder: &Path) -> Result<std::path::PathBuf> {
    let failed = |source| Error::Folder { path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    folder.canonicalize().map_err(failed)
}

/// Serves until it is told to end or nobody wants it any more, then puts everything away.
async fn live(state: Arc<AppState>, doors: Doors, lock: LakeLock) {
    let finish = Finish(state.clone());
    tokio::select! {
        _ = state.ending.requested(None) => {}
        () = state.idle() => state.end(state.config.grace),
        () = state.watch() => {}
    }
    tracing::info!("ending");
    state.service.components().stop_background();
    drain(&state).await;
    doors.close().await;
    drop(lock);
    drop(finish);
}

/// Lets jobs end; whoever asks for the end again with less patience shortens that.
async fn drain(state: &AppState) {
    let mut patience = state.ending.requested(None).await;
    loop {
        tokio::select! {
            () = state.service.components().jobs.drain(patience) => return,
            shorter = state.ending.requested(Some(patience)) => patience = shorter,
        }
    }
}

/// Says that the server has ended, however it did.
struct Finish(Arc<AppState>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.ending.finish();
    }
}
