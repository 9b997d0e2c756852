//! `headwater console`: opens the console in a browser, logged in.
//!
//! The address contains a code after `#`, so that browsers do not send the code to the server. The
//! code is valid once, for one minute. The command line of a process is visible to other users, so
//! the browser does not get the address as an argument. The browser gets the path of a private file
//! that redirects to the address.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use headwater_model::{ErrorCode, Problem, SessionCode};

use crate::api_output;
use crate::arguments::Console;
use crate::commands::serve;
use crate::connect;
use crate::context::Context;
use crate::error::{self, Result};
use crate::lake_folder::LakeFolder;

/// The name of the file in the lake's folder that redirects the browser to the address.
const REDIRECT_FILE: &str = "console.html";

/// Opens the console of the running server. If no server listens for HTTP, starts a server in the
/// foreground.
pub async fn console(context: &Context, arguments: &Console) -> Result<()> {
    let lake = context.lake_folder()?;
    let is_serving =
        connect::connect_if_running(context, &lake).await.is_some_and(|(_, it)| it.http.is_some());
    if is_serving {
        return open(context, arguments, &lake).await;
    }
    let opened = async || open(context, arguments, &lake).await;
    serve::serve_then(context, &arguments.serve, opened).await
}

/// Prints the console's address with a new code, and opens the address.
async fn open(context: &Context, arguments: &Console, lake: &LakeFolder) -> Result<()> {
    let running = connect::connect_if_running(context, lake).await;
    let Some((api, Some(url))) = running.map(|(api, record)| (api, record.url())) else {
        return Err(Problem::new(ErrorCode::Unavailable, "the lake's server has stopped")
            .with_hint("Run `headwater console` again."));
    };
    let code: SessionCode = api.post("/v1/session/codes", &serde_json::Value::Null).await?;
    let address = format!("{url}/#code={}", code.code);
    let text = "open the console with this link, which is valid once, for one minute";
    let value = serde_json::json!({ "address": address, "expires": code.expires });
    api_output::print(context, &value, format!("{text}:\n  {address}"));
    if !arguments.no_browser {
        open_browser(context, &redirect_file(&lake.path, &address)?);
    }
    Ok(())
}

/// Writes a page that redirects the browser to the address. Only the file's owner can read it.
fn redirect_file(folder: &Path, address: &str) -> Result<PathBuf> {
    let path = folder.join(REDIRECT_FILE);
    let page =
        format!("<!doctype html><meta http-equiv=\"refresh\" content=\"0;url={address}\">\n");
    let _ = std::fs::remove_file(&path);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(page.as_bytes()))
        .map_err(error::from_io("write the file that opens the console"))?;
    Ok(path)
}

/// Opens a file with the desktop's browser.
fn open_browser(context: &Context, path: &Path) {
    let mut command = Command::new("xdg-open");
    command.arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if command.spawn().is_err() {
        context.style.say("no browser was found: open the address yourself");
    }
}
