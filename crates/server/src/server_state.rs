//! State of a running server, shared by all protocols: the service, connections and requests.

use std::sync::Arc;
use std::time::Duration;

use headwater_model::{ErrorCode, Health, Principal, Problem};
use headwater_service::{LoginLimiter, Service};

use crate::console::{NewSession, PresentedSession, Sessions};
use crate::http::body::BodyQuotas;
use crate::request_activity::RequestActivity;
use crate::shutdown::Shutdown;
use crate::{Result, ServerConfig};

/// Interval between checks for changed settings and deployments.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);

/// The shared state, passed to every handler.
pub type App = Arc<AppState>;

/// State of a running server.
pub struct AppState {
    pub config: ServerConfig,
    pub service: Service,
    /// Memory quotas of request bodies.
    pub bodies: BodyQuotas,
    pub activity: RequestActivity,
    pub logins: LoginLimiter,
    /// Sessions of browsers and of Flight clients.
    pub sessions: Sessions,
    pub shutdown: Shutdown,
}

impl AppState {
    /// Starts the service.
    pub async fn start(config: ServerConfig) -> Result<Self> {
        Ok(AppState {
            service: Service::start(config.service.clone()).await?,
            bodies: BodyQuotas::new(config.service.memory_bytes / 8, config.write_timeout),
            activity: RequestActivity::new(config.service.telemetry.clone()),
            logins: LoginLimiter::default(),
            sessions: Sessions::default(),
            shutdown: Shutdown::default(),
            config,
        })
    }

    /// Creates a session of a client that has logged in.
    ///
    /// Errors: `unauthenticated` if the credential is no longer valid; `internal`.
    pub fn create_session(&self, principal: Principal) -> Result<NewSession, Problem> {
        let credential = self.service.access_control().credential_state(&principal)?;
        self.sessions.create(principal, credential).map_err(|error| {
            Problem::new(ErrorCode::Internal, format!("the session cannot be created: {error}"))
        })
    }

    /// Returns the principal of a session. Ends the session if the credential of its login is no
    /// longer valid or has changed.
    pub fn session_principal(&self, shown: PresentedSession) -> Option<Principal> {
        let (principal, credential) = self.sessions.find(shown)?;
        let current = self.service.access_control().credential_state(&principal);
        if current.is_ok_and(|current| current == credential) {
            return Some(principal);
        }
        self.sessions.remove(shown);
        None
    }

    /// Returns true if a session has not ended. Does not reset its idle time.
    pub fn is_session_open(&self, shown: PresentedSession) -> bool {
        let Some((principal, credential)) = self.sessions.peek(shown) else { return false };
        let current = self.service.access_control().credential_state(&principal);
        current.is_ok_and(|current| current == credential)
    }

    /// Begins the shutdown: rejects new jobs, and lets running jobs end within `timeout`.
    pub fn shut_down(&self, timeout: Duration) {
        self.service.close();
        self.shutdown.request(timeout);
    }

    /// Returns the server's health.
    pub fn health(&self) -> Health {
        let stopping = self.shutdown.is_requested();
        Health {
            status: if stopping { "stopping" } else { "ok" }.to_owned(),
            version: self.config.service.version.clone(),
            pid: Some(std::process::id()),
            lake: Some(self.config.service.lake_dir.display().to_string()),
            jobs_running: Some(self.service.jobs().running() as u64),
        }
    }

    /// Periodically checks for changed settings and deployments, and applies them. Never returns.
    pub async fn watch(&self) {
        loop {
            tokio::time::sleep(REFRESH_INTERVAL).await;
            self.service.refresh().await;
        }
    }

    /// Waits until the server has been idle for the configured time. Waits forever if no time is
    /// configured.
    pub async fn idle(&self) {
        let Some(timeout) = self.config.idle else { return std::future::pending().await };
        let interval = (timeout / 4).clamp(Duration::from_millis(10), Duration::from_secs(5));
        loop {
            tokio::time::sleep(interval).await;
            if !self.service.is_busy() && self.activity.idle() >= timeout {
                return;
            }
        }
    }
}
