//! `headwater login` and `headwater logout`: create and remove the user's server profiles.

use std::io::IsTerminal;

use headwater_model::{CreateToken, CreatedToken, LoginMethods, OidcLogin, Whoami};
use headwater_oidc::DeviceLogin;
use serde_json::json;

use super::profile::file;
use crate::api::ApiClient;
use crate::api_output;
use crate::arguments::{Login, Logout};
use crate::context::{Context, current_folder};
use crate::endpoint::{Endpoint, UrlEndpoint};
use crate::error::{self, Result};
use crate::profiles::{self, Profile};
use crate::secret_input;

/// Logs in to a server: checks a token with the server, and stores the server and the token as the
/// default profile.
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
    profile.token = credential(context, arguments, &profile).await?;
    let user: Whoami = api(context, &profile)?.get("/v1/whoami").await?;
    let name = arguments.name.clone().unwrap_or_else(|| host(&profile.url));
    let mut all = file.read()?;
    all.profiles.insert(name.clone(), profile);
    all.default = Some(name.clone());
    file.write(&all)?;
    if api_output::is_printed(context, &json!({ "profile": name, "user": user.name })) {
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

/// Returns a client of a profile's server.
fn api(context: &Context, profile: &Profile) -> Result<ApiClient> {
    let endpoint = Endpoint::Url(Box::new(UrlEndpoint::new(profile)?));
    Ok(ApiClient::new(endpoint, &context.author))
}

/// Returns an access token, from a login at the server's OpenID provider, a prompt or standard
/// input.
async fn credential(context: &Context, arguments: &Login, profile: &Profile) -> Result<String> {
    // Report a wrong URL before prompting for the token.
    let api = api(context, profile)?;
    if arguments.token || !(arguments.device || std::io::stdin().is_terminal()) {
        return secret_input::read("token");
    }
    let methods: LoginMethods = api.get("/v1/login").await?;
    match methods.oidc {
        Some(oidc) => confirmed_in_browser(context, profile, &oidc).await,
        None if arguments.device => Err(error::invalid("the server has no OpenID provider")
            .with_hint("Log in with an access token: `headwater login URL --token`.")),
        None => secret_input::read("token"),
    }
}

/// Waits for the confirmation of the login in a browser. Returns a new access token.
async fn confirmed_in_browser(
    context: &Context,
    profile: &Profile,
    oidc: &OidcLogin,
) -> Result<String> {
    let login = DeviceLogin::begin(oidc).await.map_err(error::from_error)?;
    let (address, code) = (login.address(), login.user_code());
    context.style.say(format!("open {address} in a browser and confirm the code {code}"));
    let token = login.wait().await.map_err(error::from_error)?.id_token;
    let lifetime = i64::try_from(oidc.token_lifetime_s).unwrap_or(0);
    // Request less than the server's maximum lifetime, because the server's clock may be behind.
    let lifetime = chrono::TimeDelta::seconds(lifetime - (lifetime / 2).min(60));
    let request = CreateToken {
        label: "headwater login".to_owned(),
        expires: Some(chrono::Utc::now() + lifetime),
        ..CreateToken::default()
    };
    let api = api(context, &Profile { token, ..profile.clone() })?;
    Ok(api.post::<CreatedToken>("/v1/tokens", &request).await?.secret)
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
    let text = "its token is still valid; `headwater token revoke` revokes it";
    api_output::print(
        context,
        &json!({ "removed": name }),
        format!("removed profile {name}; {text}"),
    );
    Ok(())
}

/// Returns the host in a URL.
fn host(url: &str) -> String {
    let uri: Option<hyper::Uri> = url.parse().ok();
    uri.and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_else(|| url.to_owned())
}
