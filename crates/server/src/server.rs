//! The server's life cycle: lock, state, listeners, shutdown.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::lake_lock::{LakeLock, ServerRecord};
use crate::listeners::{BoundListeners, HttpListener, OpenListeners};
use crate::server_handle::ServerParts;
use crate::server_state::AppState;
use crate::tls::TlsSettings;
use crate::{CertificateSource, Error, Result, ServerConfig, ServerHandle, router};

/// Maximum time for which a shutdown waits for the export of the last trace spans.
const TRACES_PATIENCE: Duration = Duration::from_secs(2);

/// Entry point of the crate, which starts a server.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Opens the lake and the configured listeners. The server accepts requests when the method
    /// returns.
    ///
    /// Errors: [`Error::LakeHeld`] if another server still holds the lake after the configured
    /// wait.
    pub async fn start(config: ServerConfig) -> Result<ServerHandle> {
        Self::start_with_listener(config, None).await
    }

    /// Starts a server with an already bound HTTP listener instead of the configured address.
    pub async fn start_with_listener(
        mut config: ServerConfig,
        listener: Option<HttpListener>,
    ) -> Result<ServerHandle> {
        config.service.lake_dir = make_folder(&config.service.lake_dir)?;
        if let Some(CertificateSource::Files { key, .. }) = &config.network.tls {
            config.service.credentials.push(key.clone());
        }
        let lock = LakeLock::take(&config.service.lake_dir, config.lock_wait).await?;
        let bound = BoundListeners::bind(&config, listener).await?;
        let info = ServerRecord {
            pid: std::process::id(),
            version: config.service.version.clone(),
            socket: config.socket.clone(),
            http: bound.http_addr(),
            tls: bound.tls().is_some(),
            certificate_file: bound.tls().and_then(TlsSettings::self_signed).map(Path::to_owned),
            postgres: bound.postgres_addr(),
            s3: bound.s3_addr(),
            token_file: bound.token_file(),
            background: config.idle.is_some(),
            started: chrono::Utc::now(),
        };
        config.service.public_address = bound.public_address();
        let state = Arc::new(AppState::start(config).await?);
        if let Some(token) = bound.token() {
            state.service.accept_owner_token(token.as_str());
        }
        let router = router::router(&state);
        let tls = bound.tls().cloned();
        let listeners = bound.open(&router, &state);
        lock.publish(&info)?;
        tracing::info!(lake = %state.config.service.lake_dir.display(), http = ?info.http, "serving");
        let task = tokio::spawn(serve(state.clone(), listeners, lock));
        Ok(ServerHandle::new(ServerParts { state, router, info, tls }, task))
    }
}

fn make_folder(folder: &Path) -> Result<std::path::PathBuf> {
    let failed = |source| Error::Folder { path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    folder.canonicalize().map_err(failed)
}

/// Serves until a shutdown request or the idle timeout, then shuts down.
async fn serve(state: Arc<AppState>, listeners: OpenListeners, lock: LakeLock) {
    let completion = ShutdownGuard(state.clone());
    tokio::select! {
        _ = state.shutdown.requested(None) => {}
        () = state.idle() => state.shut_down(state.config.grace),
        () = state.watch() => {}
    }
    tracing::info!("shutting down");
    state.service.stop_background();
    drain(&state).await;
    state.config.service.telemetry.flush(TRACES_PATIENCE).await;
    listeners.close().await;
    drop(lock);
    drop(completion);
}

/// Waits for the end of running jobs. A second shutdown request may shorten the timeout.
async fn drain(state: &AppState) {
    let mut timeout = state.shutdown.requested(None).await;
    loop {
        tokio::select! {
            () = state.service.drain(timeout) => return,
            shorter = state.shutdown.requested(Some(timeout)) => timeout = shorter,
        }
    }
}

/// A guard that marks the shutdown as complete on drop, so that waiting callers return even after a
/// panic.
struct ShutdownGuard(Arc<AppState>);

impl Drop for ShutdownGuard {
    fn drop(&mut self) {
        self.0.shutdown.complete();
    }
}
