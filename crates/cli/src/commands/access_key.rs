//! `headwater key`.

use headwater_model::{AccessKey, CreateAccessKey, CreateToken, CreatedAccessKey};

use crate::api::{ApiClient, segment};
use crate::api_output::{self, fetch};
use crate::arguments::Key;
use crate::commands::token::request;
use crate::context::Context;
use crate::error::Result;
use crate::output::{self, Grid};

/// Runs `headwater key`.
pub async fn key(context: &Context, api: &ApiClient, arguments: Key) -> Result<()> {
    match arguments {
        Key::Ls { user } => list(context, api, user.as_deref()).await,
        Key::Create(arguments) => {
            let CreateToken { user, label, scopes, expires } = request(arguments)?;
            let new = CreateAccessKey { user, label, scopes, expires };
            let created: CreatedAccessKey = api.post("/v1/access-keys", &new).await?;
            show(context, &created);
            Ok(())
        }
        Key::Revoke { id } => {
            api.delete(format!("/v1/access-keys/{}", segment(&id))).await?;
            crate::commands::branch::removed(context, "access key", &id);
            Ok(())
        }
    }
}

async fn list(context: &Context, api: &ApiClient, user: Option<&str>) -> Result<()> {
    let query = user.map(|user| format!("?user={}", segment(user))).unwrap_or_default();
    let Some(keys) =
        fetch::<Vec<AccessKey>>(context, api, format!("/v1/access-keys{query}")).await?
    else {
        return Ok(());
    };
    let columns = ["ACCESS KEY", "USER", "LABEL", "SCOPES", "EXPIRES", "LAST USED", "STATE"];
    let mut grid = Grid::new(context.answer_style, &columns);
    for key in keys {
        let scopes: Vec<_> = key.scopes.iter().flatten().map(ToString::to_string).collect();
        let state = if key.revoked.is_some() { "revoked" } else { "valid" };
        let (expires, used) = (
            output::format_time_or_never(key.expires),
            output::format_time_or_never(key.last_used),
        );
        let (user, scopes) = (key.user.unwrap_or_else(|| "owner".to_owned()), scopes.join("; "));
        grid.row([key.id, user, key.label, scopes, expires, used, state.to_owned()]);
    }
    grid.print("no access keys; create one with `headwater key create`");
    Ok(())
}

/// Prints the id and the secret as the environment variables of S3 clients.
fn show(context: &Context, created: &CreatedAccessKey) {
    if api_output::is_printed(context, created) {
        return;
    }
    let user =
        created.key.user.as_deref().map_or("the owner".to_owned(), |it| format!("user {it}"));
    context.style.say(format!("created an access key of {user}; the secret is not shown again:"));
    output::line(format!("AWS_ACCESS_KEY_ID={}", created.key.id));
    output::line(format!("AWS_SECRET_ACCESS_KEY={}", created.secret));
}
