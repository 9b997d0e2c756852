//! `headwater login`, `headwater logout` and `headwater profile`: the servers of the user.

use headwater_model::Whoami;
use serde_json::json;

use crate::api::Api;
use crate::arguments::{Login, Logout, OutputFormat, Profile as ProfileCommand};
use crate::context::{Context, current_folder};
use crate::endpoint::{Endpoint, UrlEndpoint};
use crate::error::{self, Result};
use crate::output::{self, Grid};
use crate::profiles::{self, Profile, ProfileFile};
use crate::secret_input;

/// Checks a token with the server and stores both as the default profile.
pub async fn login(context: &Context, arguments: &Login) -> Result<()> {
    let file = file(context)?;
    let mut profile = Profile {
        url: arguments.url.trim_end_matches('/').to_owned(),
        token: String::new(),
        certificate: arguments
            .certificate
            .as_ref()
            .map(std::path::absolute)
            .transpose()
            .map_err(error::from_io("find the certificate"))?,
        branch: None,
    };
    // A wrong URL is reported before the token is typed.
    UrlEndpoint::new(&profile)?;
    profile.token = secret_input::read("token")?;
    let endpoint = Endpoint::Url(Box::new(UrlEndpoint::new(&profile)?));
    let user: Whoami = Api::new(endpoint, &context.author).get("/v1/whoami").await?;
    let name = arguments.name.clone().unwrap_or_else(|| host(&profile.url));
    let mut all = file.read()?;
    all.profiles.insert(name.clone(), profile);
    all.default = Some(name.clone());
    file.write(&all)?;
    if context.output == OutputFormat::Json {
        output::print_json(&json!({ "profile": name, "user": user.name }));
        return Ok(());
    }
    context.style.say(format!("logged in to {} as {}; profile {name}", arguments.url, user.name));
    if let Ok(lake) = crate::lake_folder::nearest(&current_folder()?) {
        context.style.say(format!(
            "commands in this folder use the lake `{}`; use `--profile {name}` for the server",
            lake.path.display()
        ));
    }
    Ok(())
}

/// Removes a profile with its token.
pub fn logout(context: &Context, arguments: &Logout) -> Result<()> {
    let file = file(context)?;
    let mut all = file.read()?;
    let Some(name) = arguments.name.clone().or_else(|| all.default.clone()) else {
        return Err(error::invalid("you are not logged in to a server")
            .with_hint("Run `headwater login URL` first."));
    };
    if all.profiles.remove(&name).is_none() {
        return Err(profiles::missing(&name));
    }
    if all.default.as_ref() == Some(&name) {
        all.default = None;
    }
    file.write(&all)?;
    if context.output == OutputFormat::Json {
        output::print_json(&json!({ "removed": name }));
    } else {
        context.style.say(format!(
            "removed profile {name}; its token remains valid until `headwater token revoke`"
        ));
    }
    Ok(())
}

/// Runs `headwater profile`.
pub fn profile(context: &Context, arguments: ProfileCommand) -> Result<()> {
    match arguments {
        ProfileCommand::Ls => list(context),
        ProfileCommand::Use(arguments) => {
            let file = file(context)?;
            let mut all = file.read()?;
            if !all.profiles.contains_key(&arguments.name) {
                return Err(profiles::missing(&arguments.name));
            }
            all.default = Some(arguments.name.clone());
            file.write(&all)?;
            context.style.say(format!("{} is the default profile", arguments.name));
            Ok(())
        }
    }
}

fn list(context: &Context) -> Result<()> {
    let all = file(context)?.read()?;
    let is_default = |name: &String| all.default.as_ref() == Some(name);
    if context.output == OutputFormat::Json {
        let rows = all.profiles.iter().map(|(name, profile)| {
            json!({ "name": name, "url": profile.url, "default": is_default(name) })
        });
        output::print_json(&rows.collect::<Vec<_>>());
        return Ok(());
    }
    let mut grid = Grid::new(context.answer_style, &["", "PROFILE", "URL", "BRANCH"]);
    for (name, profile) in &all.profiles {
        let mark = if is_default(name) { "*" } else { "" };
        let branch = profile.branch.as_deref().unwrap_or_default();
        grid.row([mark, name.as_str(), profile.url.as_str(), branch]);
    }
    grid.print("no profiles; run `headwater login URL`");
    Ok(())
}

fn file(context: &Context) -> Result<&ProfileFile> {
    context.profiles.as_ref().ok_or_else(|| {
        error::invalid("there is no folder for profiles").with_hint("Set HOME or XDG_CONFIG_HOME.")
    })
}

/// Returns the host in a URL.
fn host(url: &str) -> String {
    let uri: Option<hyper::Uri> = url.parse().ok();
    uri.and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_else(|| url.to_owned())
}
