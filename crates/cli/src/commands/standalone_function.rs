//! `headwater function deploy`, `show`, `versions` and `rm`: functions without a project.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use headwater_model::{
    DeployFunction, ErrorCode, FunctionSetting, FunctionSettingsUpdate, FunctionVersion,
    StandaloneFunction, Upload,
};
use headwater_server::FunctionSource;
use hyper::Method;

use super::branch::removed_if_exists;
use super::run;
use crate::api::{ApiClient, segment};
use crate::arguments::{FunctionDeploy, FunctionName, FunctionRm, OutputFormat};
use crate::context::Context;
use crate::error::{self, Result};
use crate::grid::Grid;
use crate::output;
use crate::terminal::Tone;

/// Deploys a function.
pub async fn deploy(context: &Context, api: &ApiClient, arguments: FunctionDeploy) -> Result<()> {
    let env = run::pairs(&arguments.env, "env")?;
    let request = send_files(api, &arguments.source).await?;
    let settings = FunctionSettingsUpdate {
        runtime: arguments.runtime,
        handler: arguments.handler,
        description: arguments.description,
        memory_bytes: arguments.memory,
        timeout_ms: arguments.timeout.and_then(|limit| limit.as_millis().try_into().ok()),
        env: (!env.is_empty()).then_some(env),
        secrets: listed(arguments.secrets),
        network: listed(arguments.network),
        system: listed(arguments.system),
    };
    let request = DeployFunction {
        settings,
        reserved_concurrency: arguments.reserved_concurrency,
        provisioned_concurrency: arguments.provisioned_concurrency,
        layers: listed(arguments.layers),
        reset: arguments.reset.into_iter().map(FunctionSetting::from).collect(),
        ..request
    };
    let path = format!("/v1/functions/{}", segment(&arguments.name));
    let deployed = api.call(Method::PUT, path, &request).await;
    let function: StandaloneFunction =
        or_delete_upload(api, request.upload.as_deref(), deployed).await?;
    if context.output == OutputFormat::Json {
        output::print_json(&function);
        return Ok(());
    }
    let files = output::plural(function.files.len() as u64, "file");
    let version = version(&function.latest);
    let (name, mark) = (&function.name, context.style.paint(Tone::Good, "✓"));
    context.style.say(format!("{mark} version {version} of {name} is deployed, {files}"));
    Ok(())
}

/// Returns the values of an option that can be repeated; `None` without the option.
fn listed(values: Vec<String>) -> Option<Vec<String>> {
    (!values.is_empty()).then_some(values)
}

/// Returns a deployment request with the files of a folder or archive. If the files are large, they
/// are uploaded first, and the request names the upload.
pub async fn send_files(api: &ApiClient, source: &Path) -> Result<DeployFunction> {
    let source = headwater_server::read_function(source).map_err(error::from_error)?;
    match source {
        FunctionSource::Request(request) => Ok(*request),
        FunctionSource::Archive(archive) => send(api, archive).await,
        FunctionSource::Folder(folder) => send_folder(api, folder).await,
    }
}

/// Uploads an archive, and returns a request that names the upload.
async fn send(api: &ApiClient, archive: File) -> Result<DeployFunction> {
    let archive = tokio::fs::File::from_std(archive);
    let upload: Upload = api.upload("/v1/uploads?name=function.zip", archive).await?;
    Ok(DeployFunction { upload: Some(upload.path), ..DeployFunction::default() })
}

/// Uploads an archive of a folder while creating it, so that the archive takes no disk space here.
async fn send_folder(api: &ApiClient, folder: PathBuf) -> Result<DeployFunction> {
    let (archive, to) = std::io::pipe().map_err(error::from_io("create a pipe"))?;
    let write = move || headwater_server::write_function_archive(&folder, to);
    let written = tokio::task::spawn_blocking(write);
    let sent = send(api, File::from(OwnedFd::from(archive))).await?;
    // Wait for the writer of the archive. If it failed, the upload is incomplete: delete it.
    let written = written.await.map_err(error::unexpected)?;
    let written = written.map_err(error::from_error);
    or_delete_upload(api, sent.upload.as_deref(), written).await?;
    Ok(sent)
}

/// Deletes an upload if the request that uses it failed. The next attempt uploads the files again.
pub async fn or_delete_upload<T>(
    api: &ApiClient,
    upload: Option<&str>,
    outcome: Result<T>,
) -> Result<T> {
    if let (Err(_), Some(path)) = (&outcome, upload) {
        // Ignore the error, because an upload expires after a day.
        let _ = api.delete(format!("/v1/uploads?path={}", segment(path))).await;
    }
    outcome
}

/// Shows a function.
pub async fn show(context: &Context, api: &ApiClient, arguments: &FunctionName) -> Result<()> {
    let path = format!("/v1/functions/{}", segment(&arguments.name));
    let function: StandaloneFunction = api.get(path).await?;
    if context.output == OutputFormat::Json {
        output::print_json(&function);
        return Ok(());
    }
    let (style, latest, settings) =
        (context.answer_style, &function.latest, &function.latest.settings);
    output::line(style.paint(Tone::Strong, &function.name));
    let numbers: Vec<String> = function.versions.iter().map(u64::to_string).collect();
    let list = |texts: &[String]| if texts.is_empty() { "none".into() } else { texts.join(", ") };
    let names: Vec<String> = settings.env.keys().cloned().collect();
    let aliases: Vec<String> = function.aliases.keys().cloned().collect();
    let provisioned = function.provisioned_concurrency.iter();
    let provisioned: Vec<String> =
        provisioned.map(|(qualifier, count)| format!("{qualifier}: {count}")).collect();
    let ready = function.provisioned.iter().map(|(qualifier, state)| {
        let problem = state.problem.as_ref().map(|problem| format!(" ({problem})"));
        format!("{qualifier}: {}{}", state.ready, problem.unwrap_or_default())
    });
    let ready: Vec<String> = ready.collect();
    for (name, value) in [
        ("runtime", settings.runtime.clone()),
        ("handler", settings.handler.clone().unwrap_or_default()),
        ("memory", settings.memory_bytes.map_or("default".to_owned(), output::bytes)),
        ("timeout", settings.timeout_ms.map_or("default".to_owned(), output::milliseconds)),
        ("env", list(&names)),
        ("secrets", list(&settings.secrets)),
        ("network", list(&settings.network)),
        ("code", format!("{} {}", latest.code.short(), output::bytes(latest.code_bytes))),
        ("files", list(&function.files)),
        ("layers", list(&function.layers)),
        ("versions", list(&numbers)),
        ("aliases", list(&aliases)),
        ("reserved", function.concurrency.map_or("no limit".to_owned(), |limit| limit.to_string())),
        ("provisioned", list(&provisioned)),
        ("started", list(&ready)),
        ("called by", list(&function.callers)),
        ("modified", format!("{} by {}", output::format_time(latest.modified), latest.author)),
    ] {
        output::line(format!("  {} {value}", style.paint(Tone::Faint, format!("{name:<11}"))));
    }
    Ok(())
}

/// Lists the versions of a function.
pub async fn versions(context: &Context, api: &ApiClient, arguments: &FunctionName) -> Result<()> {
    let path = format!("/v1/functions/{}/versions", segment(&arguments.name));
    let versions: Vec<FunctionVersion> = api.get(path).await?;
    if context.output == OutputFormat::Json {
        output::print_json(&versions);
        return Ok(());
    }
    let headings = [">VERSION", "RUNTIME", "HANDLER", ">SIZE", "CODE", "DEPLOYED", "AUTHOR"];
    let mut grid = Grid::new(context.answer_style, &headings);
    for one in versions {
        grid.row([
            version(&one),
            one.settings.runtime,
            one.settings.handler.unwrap_or_default(),
            output::bytes(one.code_bytes),
            one.code.short(),
            output::format_time(one.modified),
            one.author,
        ]);
    }
    grid.print("no version is published; `headwater function deploy` publishes one");
    Ok(())
}

/// Deletes a function.
pub async fn remove(context: &Context, api: &ApiClient, arguments: &FunctionRm) -> Result<()> {
    let name = &arguments.name;
    let path = format!("/v1/functions/{}", segment(name));
    let callers = api.get::<StandaloneFunction>(&path).await.map(|function| function.callers);
    let deletion = api.delete(&path).await;
    let missing = arguments.if_exists.then_some(ErrorCode::FunctionNotFound);
    let is_removed = deletion.is_ok();
    removed_if_exists(context, "function", name, missing, deletion)?;
    if let Some(callers) = callers.ok().filter(|callers| is_removed && !callers.is_empty()) {
        let warning = context.style.paint(Tone::Warn, "warning");
        let callers = callers.join(", ");
        let style = context.style;
        style.say(format!(
            "{warning}: calls by {callers} fail until the function is deployed again"
        ));
    }
    Ok(())
}

/// Returns the number of a version.
fn version(of: &FunctionVersion) -> String {
    of.version.map_or_else(|| "$LATEST".to_owned(), |version| version.to_string())
}
