//! `headwater grant`, `headwater revoke` and `headwater access`.

use headwater_model::{AccessExplanation, Action, Grant as GrantRow, GrantRequest, ObjectPattern};

use crate::api::{ApiClient, segment};
use crate::api_output::{self, fetch};
use crate::arguments::{Access, AccessExplain, Grant, Revoke};
use crate::context::Context;
use crate::error::{self, Result};
use crate::output::{self, Grid};

/// Runs `headwater grant`.
pub async fn grant(context: &Context, api: &ApiClient, arguments: Grant) -> Result<()> {
    let Grant { actions, on, to } = arguments;
    let (actions, object) = parse(&actions, &on)?;
    let request = GrantRequest { grantee: to, actions, object };
    let granted: GrantRow = api.post("/v1/grants", &request).await?;
    let text = format!("{} now has {}", granted.grantee, granted.permission);
    api_output::print(context, &granted, text);
    Ok(())
}

/// Runs `headwater revoke`.
pub async fn revoke(context: &Context, api: &ApiClient, arguments: Revoke) -> Result<()> {
    let Revoke { actions, on, from } = arguments;
    let (parsed, object) = parse(&actions, &on)?;
    let names: Vec<_> = parsed.iter().map(|action| action.as_str()).collect();
    let names = names.join(",");
    let (grantee, object) = (segment(&from), segment(&object.to_string()));
    let query = format!("grantee={grantee}&actions={}&object={object}", segment(&names));
    api.delete(format!("/v1/grants?{query}")).await?;
    let answer = serde_json::json!({"grantee": from, "actions": parsed, "object": on});
    api_output::print(context, &answer, format!("revoked {names} on {on} from {from}"));
    Ok(())
}

/// Runs `headwater access`.
pub async fn access(context: &Context, api: &ApiClient, arguments: Access) -> Result<()> {
    match arguments {
        Access::Ls(arguments) => list(context, api, arguments.of.as_deref()).await,
        Access::Explain(question) => explain(context, api, question).await,
    }
}

fn parse(actions: &[String], object: &str) -> Result<(Vec<Action>, ObjectPattern)> {
    let parse = |word: &String| word.trim().parse::<Action>().map_err(error::from_error);
    let actions: Result<Vec<_>> = actions.iter().map(parse).collect();
    Ok((actions?, object.parse().map_err(error::from_error)?))
}

async fn list(context: &Context, api: &ApiClient, grantee: Option<&str>) -> Result<()> {
    let query = grantee.map(|name| format!("?grantee={}", segment(name))).unwrap_or_default();
    let Some(grants) = fetch::<Vec<GrantRow>>(context, api, format!("/v1/grants{query}")).await?
    else {
        return Ok(());
    };
    let columns = ["GRANTEE", "ACTIONS", "OBJECT", "BY", "GRANTED"];
    let mut grid = Grid::new(context.answer_style, &columns);
    for grant in grants {
        let actions: Vec<_> = grant.permission.actions.iter().map(|it| it.as_str()).collect();
        let (actions, object) = (actions.join(", "), grant.permission.object.to_string());
        grid.row([grant.grantee, actions, object, grant.by, output::format_time(grant.granted)]);
    }
    grid.print("no grants; add one with `headwater grant ACTIONS --on OBJECT --to NAME`");
    Ok(())
}

async fn explain(context: &Context, api: &ApiClient, question: AccessExplain) -> Result<()> {
    let AccessExplain { user, action, object } = question;
    let (user, action, object) = (segment(&user), segment(&action), segment(&object));
    let path = format!("/v1/access/explain?user={user}&action={action}&object={object}");
    let Some(found) = fetch::<AccessExplanation>(context, api, path).await? else { return Ok(()) };
    let verb = if found.allowed { "may" } else { "may not" };
    let AccessExplanation { user, action, object, reason, restrictions, .. } = found;
    output::line(format!("{user} {verb} {action} {object}: {reason}"));
    // A denied principal reads no rows, so print its row filters and column masks only if access is
    // allowed.
    for restriction in restrictions.into_iter().filter(|_| found.allowed) {
        output::line(format!("  with {restriction}"));
    }
    Ok(())
}
