//! Connects to the lake's server. Starts a background server if none is running.
//!
//! `server.json` holds the server's process, version and socket. A background server of another
//! version is drained and replaced. A foreground server is never replaced.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use headwater_model::{ErrorCode, Health, Problem};
use headwater_server::{
    HttpListener, Isolation, Server, ServerConfig, ServerHandle, SpawnerCommand,
};
use serde::Deserialize;

use crate::api::{ApiClient, ApiRequest};
use crate::context::Context;
use crate::endpoint::{Endpoint, UrlEndpoint};
use crate::error::{self, Result};
use crate::lake::{Lake, RemoteLake};
use crate::lake_folder::LakeFolder;

/// The hidden first argument that runs this program as a spawner.
pub const SPAWNER_ARGUMENT: &str = "__spawner";

/// The idle time after which a background server exits.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// The time limit of a server start, including the recovery of a large lake.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Maximum number of times that a server is started again because another server holds the lake's
/// lock.
const RESTARTS_MAX: u32 = 10;

/// The time limit for connecting again after the server has stopped.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(60);

/// The longest pause between two attempts to connect again.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Minimum free disk space, in bytes. A disk with less free space counts as full.
const DISK_LEAST: u64 = 16 * 1024;

/// The time limit for draining another server.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(600);

/// The content of `server.json`.
#[derive(Debug, Deserialize)]
pub struct ServerRecord {
    /// The process id.
    pub pid: u32,
    /// The server's version.
    pub version: String,
    /// The Unix socket.
    pub socket: Option<PathBuf>,
    /// The HTTP address.
    pub http: Option<String>,
    /// True if HTTP requires TLS.
    #[serde(default)]
    pub tls: bool,
    /// The PostgreSQL address.
    #[serde(default)]
    pub postgres: Option<String>,
    /// The S3 address.
    #[serde(default)]
    pub s3: Option<String>,
    /// True if a command started the server in the background.
    #[serde(default)]
    pub background: bool,
}

impl ServerRecord {
    /// Returns the URL of the HTTP listener, if there is one.
    pub fn url(&self) -> Option<String> {
        let scheme = if self.tls { "https" } else { "http" };
        self.http.as_deref().map(|http| format!("{scheme}://{http}"))
    }

    /// Describes the server by its process id and address.
    pub fn describe(&self) -> String {
        let http = self.url().map(|url| format!(" on {url}"));
        format!("process {}{}", self.pid, http.unwrap_or_default())
    }
}

/// Connects to the context's lake. Starts or replaces the server if needed.
pub async fn connect(context: &Context) -> Result<ApiClient> {
    let lake = match context.lake()? {
        Lake::Folder(lake) => lake,
        Lake::Remote(remote) => return remote_api(context, &remote),
    };
    if context.in_process {
        return start_inside(context, &lake).await;
    }
    if let Some((api, _)) = running(context, &lake).await? {
        return Ok(api);
    }
    let server = start_background(context, &lake)?;
    await_start(context, &lake, server).await
}

/// Connects again after the server has stopped. Starts a server on this machine, or waits until the
/// server of a profile answers. Fails with `Unavailable` at the time limit.
pub async fn reconnect(context: &Context) -> Result<ApiClient> {
    let deadline = Instant::now() + RECONNECT_PATIENCE;
    let mut pause = Duration::from_millis(50);
    loop {
        // Also send a request: the socket of a killed server accepts connections until the server's
        // last thread has ended.
        let connected = match connect(context).await {
            Ok(api) => health(&api).await.map(|_| api),
            Err(problem) => Err(problem),
        };
        match connected {
            Err(problem) if problem.code == ErrorCode::Unavailable && Instant::now() < deadline => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
            }
            connected => return connected,
        }
    }
}

/// Returns a client of the server of a profile.
pub fn remote_api(context: &Context, lake: &RemoteLake) -> Result<ApiClient> {
    let endpoint = UrlEndpoint::new(&lake.profile)?;
    Ok(ApiClient::new(Endpoint::Url(Box::new(endpoint)), &context.author))
}

/// Connects to a running server of this version, if there is one. A background server of another
/// version is drained so that it can be replaced.
async fn running(
    context: &Context,
    lake: &LakeFolder,
) -> Result<Option<(ApiClient, ServerRecord)>> {
    let Some((api, record)) = connect_if_running(context, lake).await else { return Ok(None) };
    let own = env!("CARGO_PKG_VERSION");
    if record.version == own {
        return Ok(Some((api, record)));
    }
    if !record.background {
        let (version, place) = (&record.version, record.describe());
        let message = format!(
            "the lake's server ({place}) has version `{version}`, this command has `{own}`"
        );
        return Err(Problem::new(ErrorCode::Unavailable, message)
            .with_hint("Run `headwater stop`, then start the server again."));
    }
    stop_server(&api, lake).await?;
    Ok(None)
}

/// Connects to a running server of any version.
pub async fn connect_if_running(
    context: &Context,
    lake: &LakeFolder,
) -> Option<(ApiClient, ServerRecord)> {
    let text = std::fs::read(lake.path.join("server.json")).ok()?;
    let record: ServerRecord = serde_json::from_slice(&text).ok()?;
    let socket = record.socket.clone()?;
    headwater_server::connect_socket(&socket).await.ok()?;
    Some((ApiClient::new(Endpoint::Socket(socket), &context.author), record))
}

/// Shuts a server down and waits until it has exited.
pub async fn stop_server(api: &ApiClient, lake: &LakeFolder) -> Result<()> {
    api.send(ApiRequest::get("/v1/shutdown").method(hyper::Method::POST)).await?;
    let deadline = Instant::now() + DRAIN_PATIENCE;
    let record = lake.path.join("server.json");
    while record.exists() {
        if Instant::now() > deadline {
            return Err(Problem::new(ErrorCode::TooBusy, "the server still has running jobs")
                .with_hint("List the jobs with `headwater job ls --status running`."));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn start_background(context: &Context, lake: &LakeFolder) -> Result<Child> {
    let path = lake.path.join("server.log");
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    let log = log.map_err(error::from_io(&format!("write `{}`", path.display())))?;
    let program = std::env::current_exe().map_err(error::from_io("find this program"))?;
    let errors = log.try_clone().map_err(error::from_io("duplicate the server's log"))?;
    let mut command = std::process::Command::new(program);
    command.args(["serve", "--background", "--lake"]).arg(&lake.path);
    if let Some(warehouse) = &context.warehouse {
        command.args(["--warehouse", warehouse]);
    }
    command
        .env_remove("HEADWATER_LAKE")
        .env("HEADWATER_AUTHOR", &context.author)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .current_dir("/")
        // Use a separate process group, so that Ctrl-C in this terminal does not end the server.
        .process_group(0)
        .spawn()
        .map_err(error::from_io("start the lake's server"))
}

/// Waits until a server of the lake answers: the started server, or one that another command
/// started and that got the lake's lock first. In the second case, the started server exits because
/// the lock is held. A server is then started again, in case the holder of the lock is killed.
async fn await_start(context: &Context, lake: &LakeFolder, mut server: Child) -> Result<ApiClient> {
    let deadline = Instant::now() + START_PATIENCE;
    let mut restarts = 0;
    loop {
        if let Some((api, record)) = connect_if_running(context, lake).await
            && record.version == env!("CARGO_PKG_VERSION")
        {
            return Ok(api);
        }
        if Instant::now() > deadline {
            return Err(no_start(lake));
        }
        if matches!(server.try_wait(), Ok(Some(status)) if !status.success()) {
            // The started server writes its error to a file. The file is missing if another command
            // has already read and removed it.
            let reason = failed_start(lake);
            let is_held = match &reason {
                Some(problem) => problem.code == ErrorCode::Unavailable,
                None => !is_disk_full(lake),
            };
            if !is_held || restarts == RESTARTS_MAX {
                return Err(reason.unwrap_or_else(|| no_start(lake)));
            }
            restarts += 1;
            server = start_background(context, lake)?;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Returns the error for a server that did not start and reported no reason.
fn no_start(lake: &LakeFolder) -> Problem {
    if is_disk_full(lake) {
        let message = format!("no space is left in `{}` to start a server", lake.path.display());
        return Problem::new(ErrorCode::DiskFull, message)
            .with_hint("Free some space and try again.");
    }
    let log = lake.path.join("server.log");
    Problem::new(ErrorCode::Unavailable, "the lake's server does not start")
        .with_hint(format!("Read the server's log, `{}`.", log.display()))
}

fn is_disk_full(lake: &LakeFolder) -> bool {
    let found = rustix::fs::statvfs(&lake.path);
    found.is_ok_and(|found| found.f_bavail.saturating_mul(found.f_frsize) < DISK_LEAST)
}

/// Returns the error reported by a server that failed to start.
fn failed_start(lake: &LakeFolder) -> Option<Problem> {
    let path = lake.path.join("server.failed");
    let text = std::fs::read(&path).ok()?;
    let _ = std::fs::remove_file(path);
    serde_json::from_slice(&text).ok()
}

async fn start_inside(context: &Context, lake: &LakeFolder) -> Result<ApiClient> {
    let socket = lake.path.join(format!("inside-{}.sock", std::process::id()));
    let mut config = config(context, lake)?;
    config.socket = Some(socket.clone());
    let server = start(config, None).await?;
    Ok(ApiClient::new(Endpoint::Socket(socket), &context.author).with_server(server))
}

/// Returns the configuration of a background server, which listens only on the Unix socket and
/// exits when idle.
pub fn background_config(context: &Context, lake: &LakeFolder) -> Result<ServerConfig> {
    let mut config = config(context, lake)?;
    config.socket = Some(lake.path.join("server.sock"));
    config.idle = Some(IDLE);
    config.lock_wait = Duration::from_secs(5);
    Ok(config)
}

/// Returns the configuration shared by all servers of this user.
pub fn config(context: &Context, lake: &LakeFolder) -> Result<ServerConfig> {
    let program = std::env::current_exe().map_err(error::from_io("find this program"))?;
    let spawner = SpawnerCommand { program, arguments: vec![SPAWNER_ARGUMENT.to_owned()] };
    let mut config = ServerConfig::new(&lake.path, spawner);
    config.service.project_dir = lake.project();
    config.service.warehouse.url.clone_from(&context.warehouse);
    config.service.warehouse.cloud = context.cloud.clone();
    config.service.cache_dir = context.cache.choose(&lake.path);
    if let Some(key) = &context.secret_key {
        config.service.secret_key = key.clone();
    }
    // Imports and queries must not read these folders: profiles contain tokens, and the history of
    // the shell can contain passwords.
    let profiles = context.profiles.as_ref().and_then(|file| file.0.parent());
    let folders = profiles.map(Path::to_owned).into_iter().chain(context.state.clone());
    config.service.credentials.extend(folders);
    config.service.python_search = python_folders(context);
    config.service.memory_bytes = machine_memory_bytes() / 4 * 3;
    config.service.isolation = Isolation::Sandbox;
    Ok(config)
}

/// Starts a server in this process, optionally with an already bound listener.
pub async fn start(config: ServerConfig, listener: Option<HttpListener>) -> Result<ServerHandle> {
    let server = Server::start_with_listener(config, listener).await.map_err(error::from_error)?;
    #[cfg(target_os = "linux")]
    crate::release_code_memory::release_code_pages();
    Ok(server)
}

/// Returns the folders to search for interpreters and uv: `PATH`, the install folders of pyenv and
/// uv, and the folder of this binary, into which the wheel installs uv.
fn python_folders(context: &Context) -> Vec<PathBuf> {
    let mut folders = context.program_folders.clone();
    for root in &context.interpreter_folders {
        let Ok(entries) = std::fs::read_dir(root) else { continue };
        let mut found: Vec<_> = entries.flatten().map(|entry| entry.path().join("bin")).collect();
        found.sort();
        folders.extend(found.into_iter().rev());
    }
    folders.extend(context.binary_folder.clone());
    folders
}

fn machine_memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram * u64::from(info.mem_unit)
}

/// Gets the server's health.
pub async fn health(api: &ApiClient) -> Result<Health> {
    api.get("/health").await
}
