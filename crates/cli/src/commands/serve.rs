//! `headwater serve` and `headwater stop`.

use std::net::SocketAddr;
use std::path::Path;

use headwater_model::{ErrorCode, Problem};
use headwater_server::{
    CertificateSource, HttpListener, Isolation, NetworkConfig, OidcConfig, ServerConfig, Telemetry,
    TelemetryOptions,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::api_output;
use crate::arguments::{IsolationArgument, Serve, ServeNetwork};
use crate::connect;
use crate::context::Context;
use crate::error::{self, Result};
use crate::lake_folder::LakeFolder;
use crate::log_writer::LogWriter;
use crate::output;

/// Serves until a signal, a shutdown request or, in the background, the idle timeout.
pub async fn serve(context: &Context, arguments: &Serve) -> Result<()> {
    serve_then(context, arguments, async || Ok(())).await
}

/// Serves like [`serve`], and calls `started` when the server accepts requests.
pub async fn serve_then(
    context: &Context,
    arguments: &Serve,
    started: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let log = start_log(arguments.background);
    let lake = context.lake_folder()?;
    let outcome = serve_lake(context, arguments, &lake, started).await;
    log.flush();
    if let (true, Err(problem)) = (arguments.background, &outcome) {
        write_failure_file(&lake, problem);
    }
    outcome
}

/// Stores the error of a background server in a file for the command that started it. Writes
/// another file and renames it, because that command may read the file at any time.
fn write_failure_file(lake: &LakeFolder, problem: &Problem) {
    let Ok(text) = serde_json::to_vec(problem) else { return };
    let unfinished = lake.path.join("server.failed.new");
    if std::fs::write(&unfinished, text).is_ok() {
        let _ = std::fs::rename(unfinished, lake.path.join("server.failed"));
    }
}

/// Starts the export of traces, if an endpoint is given. An empty environment variable counts as
/// not set, as the OpenTelemetry standard requires.
fn telemetry(arguments: &Serve) -> Result<Telemetry> {
    let Some(endpoint) = arguments.otlp.clone().filter(|endpoint| !endpoint.is_empty()) else {
        return Ok(Telemetry::default());
    };
    let service = Some(&arguments.otlp_service).filter(|name| !name.is_empty());
    let options = TelemetryOptions {
        endpoint,
        service: service.cloned().unwrap_or_else(|| "headwater".to_owned()),
        headers: arguments.otlp_headers.clone().unwrap_or_default(),
        attributes: arguments.otlp_attributes.clone().unwrap_or_default(),
    };
    Telemetry::start(&options).map_err(error::from_error)
}

async fn serve_lake(
    context: &Context,
    arguments: &Serve,
    lake: &LakeFolder,
    started: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let telemetry = telemetry(arguments)?;
    let mut listener = None;
    let mut config = if arguments.background {
        connect::background_config(context, lake)?
    } else {
        let mut config = connect::config(context, lake)?;
        config.network = network_config(&arguments.network)?;
        config.socket = Some(lake.path.join("server.sock"));
        config.auth = !arguments.no_auth;
        config.service.audit_kept = arguments.keep_audit;
        config.service.oidc = arguments.oidc.as_deref().map(read_oidc).transpose()?;
        config.service.maintenance = !arguments.no_maintenance;
        config.postgres = arguments.postgres;
        config.s3 = arguments.s3;
        config.service.remove_orphans = arguments.remove_orphans;
        config.service.vend_credentials = arguments.vend_credentials;
        config.lock_wait = connect::DRAIN_PATIENCE;
        listener = Some(replace_background(context, arguments.http, &config).await?);
        config
    };
    config.service.telemetry = telemetry;
    config.service.runs_concurrency = usize::from(arguments.runs);
    if let Some(bytes) = arguments.memory {
        config.service.memory_bytes = bytes;
    }
    config.service.decoded_cache_bytes = arguments.decoded_cache;
    if arguments.isolation == IsolationArgument::Process {
        config.service.isolation = Isolation::Process;
        context.style.say(
            "warning: functions run as plain processes: they can read what you can read, \
             reach the network, and see each other",
        );
    }
    let server = connect::start(config, listener).await?;
    if !arguments.background {
        announce(context, lake, &server);
    }
    started().await?;
    let mut terminate =
        signal(SignalKind::terminate()).map_err(error::from_io("listen for signals"))?;
    tokio::select! {
        () = server.wait() => {}
        _ = tokio::signal::ctrl_c() => server.shutdown().await,
        _ = terminate.recv() => server.shutdown().await,
    }
    Ok(())
}

/// Returns the network settings of the HTTP listener.
fn network_config(arguments: &ServeNetwork) -> Result<NetworkConfig> {
    let tls = match (&arguments.tls_certificate, &arguments.tls_key) {
        (Some(certificate), Some(key)) => {
            Some(CertificateSource::Files { certificate: certificate.clone(), key: key.clone() })
        }
        _ => arguments.tls_self_signed.then_some(CertificateSource::SelfSigned),
    };
    let origins = arguments.origins.iter().map(|origin| origin.parse());
    Ok(NetworkConfig {
        tls,
        behind_proxy: arguments.behind_proxy,
        hosts: arguments.hosts.clone(),
        origins: origins.collect::<Result<_>>()?,
    })
}

/// Reads the description of an OpenID provider.
fn read_oidc(path: &Path) -> Result<OidcConfig> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(error::from_io(&format!("read `{}`", path.display())))?;
    OidcConfig::parse(&text).map_err(error::from_error)
}

/// Binds the HTTP address. Then drains the lake's background server, if one is running.
async fn replace_background(
    context: &Context,
    address: SocketAddr,
    config: &ServerConfig,
) -> Result<HttpListener> {
    let lake = context.lake_folder()?;
    let bind = async || HttpListener::bind(address, config).await.map_err(error::from_error);
    let Some((api, record)) = connect::connect_if_running(context, &lake).await else {
        return bind().await;
    };
    if !record.background {
        let message = format!("the lake already has a server: {}", record.describe());
        return Err(Problem::new(ErrorCode::AlreadyExists, message)
            .with_hint("Use the running server, or run `headwater stop`."));
    }
    let listener = bind().await?;
    context.style.say("waiting for the jobs of the background server");
    connect::stop_server(&api, &lake).await?;
    Ok(listener)
}

/// Prints the server's address and an example request.
fn announce(context: &Context, lake: &LakeFolder, server: &headwater_server::ServerHandle) {
    let style = context.style;
    let Some(address) = server.http_addr() else { return };
    let scheme = if server.has_tls() { "https" } else { "http" };
    let url = format!("{scheme}://{address}");
    style.say(format!("serving {} on {url}; press Ctrl-C to stop", lake.path.display()));
    if let Some(fingerprint) = server.fingerprint() {
        style.say(format!("certificate, SHA-256 {fingerprint}"));
    }
    let trust = server.self_signed().map(|file| format!("--cacert '{}' ", file.display()));
    let trust = trust.unwrap_or_default();
    if let Some(address) = server.postgres_addr() {
        announce_postgres(context, address, server.token_file());
    }
    if let Some(address) = server.s3_addr() {
        announce_s3(context, address, scheme);
    }
    match server.token_file() {
        Some(file) => style.say(format!(
            "commands and `headwater.Client()` in this folder find the token; other programs must \
             send the token:\n  curl {trust}-H \"Authorization: Bearer $(cat '{}')\" \
             {url}/v1/branches",
            file.display()
        )),
        None => style.say(
            "warning: HTTP requires no token: every user and program of this machine can read and \
             change the lake",
        ),
    }
}

/// Prints the PostgreSQL address and an example command.
fn announce_postgres(context: &Context, address: SocketAddr, token_file: Option<&Path>) {
    let (host, port) = (address.ip(), address.port());
    let password = token_file.map(|file| format!("PGPASSWORD=$(cat '{}') ", file.display()));
    context.style.say(format!(
        "PostgreSQL clients connect to {address}, with a branch as the database:\n  \
         {}psql -h {host} -p {port} -d main",
        password.unwrap_or_default()
    ));
}

/// Prints the S3 address and example commands.
fn announce_s3(context: &Context, address: SocketAddr, scheme: &str) {
    context.style.say(format!(
        "S3 clients connect to {scheme}://{address}, with an access key:\n  \
         export $(headwater key create) AWS_DEFAULT_REGION=us-east-1\n  \
         aws --endpoint-url {scheme}://{address} s3 mb s3://landing"
    ));
}

/// Log levels of a background server. It does not log jobs and events, because its log file is
/// never truncated, and jobs and events are also stored.
const BACKGROUND_LEVELS: &str = "warn,s3s=off,headwater=info,headwater_jobs::job_logging=off,\
     headwater_triggers::event_logging=off";

/// Starts logging to standard error. A foreground server also logs each job and trigger event.
fn start_log(background: bool) -> LogWriter {
    let levels = if background {
        BACKGROUND_LEVELS
    } else {
        // `s3s=off`: the crate `s3s` logs each rejected S3 request as an error.
        "warn,s3s=off,headwater=info"
    };
    let filter =
        EnvFilter::try_from_env("HEADWATER_LOG").unwrap_or_else(|_| EnvFilter::new(levels));
    let writer = LogWriter::start();
    // Ignore the error if this process already has a log subscriber.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer.clone())
        .with_target(false)
        .try_init();
    writer
}

/// Stops the lake's server after its jobs have ended.
pub async fn stop(context: &Context) -> Result<()> {
    let lake = context.lake_folder()?;
    let Some((api, record)) = connect::connect_if_running(context, &lake).await else {
        print_stopped(context, None, &format!("no server is running for {}", lake.path.display()));
        return Ok(());
    };
    let jobs = connect::health(&api).await?.jobs_running.unwrap_or_default();
    if jobs > 0 {
        let jobs = output::plural(jobs, "job");
        context.style.say(format!("waiting for {jobs}; press Ctrl-C to stop waiting"));
    }
    connect::stop_server(&api, &lake).await?;
    let text = format!("stopped the server of {}, {}", lake.path.display(), record.describe());
    print_stopped(context, Some(record.pid), &text);
    Ok(())
}

fn print_stopped(context: &Context, pid: Option<u32>, text: &str) {
    api_output::print(context, &serde_json::json!({ "stopped": pid.is_some(), "pid": pid }), text);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::BACKGROUND_LEVELS;

    #[test]
    fn the_modules_whose_logs_a_background_server_omits_exist() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut modules = 0;
        for level in BACKGROUND_LEVELS.split(',') {
            let Some((package, module)) =
                level.strip_suffix("=off").and_then(|target| target.split_once("::"))
            else {
                continue;
            };
            let package = package.trim_start_matches("headwater_").replace('_', "-");
            let file = crates.join(package).join("src").join(module).with_extension("rs");
            assert!(file.exists(), "{} does not exist", file.display());
            modules += 1;
        }
        assert_eq!(modules, 2);
    }
}
