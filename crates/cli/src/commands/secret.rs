//! `headwater secret`.

use std::io::{IsTerminal, Read};
use std::path::Path;

use headwater_model::{ErrorCode, FunctionSummary, Secret as SecretRow, SetSecret};
use hyper::Method;

use crate::api::{ApiClient, segment};
use crate::api_output::{self, fetch};
use crate::arguments::Secret;
use crate::commands::branch::removed_if_exists;
use crate::context::Context;
use crate::error::{self, Result};
use crate::output::{self, Grid};
use crate::terminal::Tone;

/// Maximum size of a secret's value to read, in bytes. The server's limit is lower.
const VALUE_BYTES_MAX: u64 = 1 << 20;

/// Runs `headwater secret`.
pub async fn secret(context: &Context, api: &ApiClient, arguments: Secret) -> Result<()> {
    match arguments {
        Secret::Ls => list(context, api).await,
        Secret::Set(arguments) => {
            let value = read_value(&arguments.name, arguments.file.as_deref())?;
            let path = format!("/v1/secrets/{}", segment(&arguments.name));
            let secret: SecretRow = api.call(Method::PUT, path, &SetSecret { value }).await?;
            let text = format!("set secret {}, version {}", secret.name, secret.version);
            api_output::print(context, &secret, text);
            Ok(())
        }
        Secret::Rm(arguments) => {
            let name = &arguments.name;
            let deletion = api.delete(format!("/v1/secrets/{}", segment(name))).await;
            let missing = arguments.if_exists.then_some(ErrorCode::SecretNotFound);
            let is_removed = deletion.is_ok();
            removed_if_exists(context, "secret", name, missing, deletion)?;
            if is_removed {
                warn_of_uses(context, api, name).await;
            }
            Ok(())
        }
    }
}

/// Prints a warning if functions use a removed secret. Functions that the user may not see are left
/// out.
async fn warn_of_uses(context: &Context, api: &ApiClient, name: &str) {
    let functions = api.get::<Vec<FunctionSummary>>("/v1/functions").await.unwrap_or_default();
    let uses = functions.iter().filter(|one| one.secrets.iter().any(|secret| secret == name));
    let names: Vec<String> = uses.map(|one| format!("`{}`", one.name)).collect();
    if !names.is_empty() {
        let (style, names) = (context.style, names.join(", "));
        let warning = style.paint(Tone::Warn, "warning");
        style.say(format!("{warning}: calls of {names} fail until the secret is set again"));
    }
}

async fn list(context: &Context, api: &ApiClient) -> Result<()> {
    let Some(secrets) = fetch::<Vec<SecretRow>>(context, api, "/v1/secrets").await? else {
        return Ok(());
    };
    let mut grid = Grid::new(context.answer_style, &["SECRET", "VERSION", "UPDATED", "BY"]);
    for secret in secrets {
        let (version, updated) = (secret.version.to_string(), output::format_time(secret.updated));
        grid.row([secret.name, version, updated, secret.author]);
    }
    grid.print("no secrets; set one with `headwater secret set NAME`");
    Ok(())
}

/// Reads the value from a file, a prompt without echo, or standard input.
fn read_value(name: &str, file: Option<&Path>) -> Result<String> {
    if let Some(path) = file {
        let opened = std::fs::File::open(path).map_err(error::from_io("open the file"))?;
        return read_text(opened);
    }
    let input = std::io::stdin();
    if input.is_terminal() {
        let prompt = format!("value of {name}: ");
        return rpassword::prompt_password(prompt).map_err(error::from_io("read the value"));
    }
    let mut value = read_text(input)?;
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    Ok(value)
}

fn read_text(input: impl Read) -> Result<String> {
    let mut value = Vec::new();
    let read = input.take(VALUE_BYTES_MAX + 1).read_to_end(&mut value);
    read.map_err(error::from_io("read the value"))?;
    String::from_utf8(value).map_err(|_| {
        error::invalid("the value is not UTF-8 text")
            .with_hint("Encode the value, for example as Base64.")
    })
}
