//! `headwater role`.

use headwater_model::{CreateRole, Role as RoleRow};
use hyper::Method;

use crate::api::{ApiClient, ApiRequest, segment};
use crate::api_output::{self, fetch};
use crate::arguments::{Role, RoleMember, RoleRm};
use crate::commands::remove_if_exists::{self, RemovalTarget};
use crate::context::Context;
use crate::error::Result;
use crate::output::{self, Grid};

/// Runs `headwater role`.
pub async fn role(context: &Context, api: &ApiClient, arguments: Role) -> Result<()> {
    match arguments {
        Role::Ls => list(context, api).await?,
        Role::Create(role) => {
            let created: RoleRow = api.post("/v1/roles", &CreateRole { name: role.name }).await?;
            api_output::print(context, &created, format!("created role {}", created.name));
        }
        Role::Rm(RoleRm { name, if_exists }) => {
            let removal = RemovalTarget { what: "role", name: &name, list: "/v1/roles", if_exists };
            remove_if_exists::remove(context, api, removal).await?;
        }
        Role::Grant(RoleMember { role, member }) => {
            api.send(ApiRequest::get(path(&role, &member)).method(Method::PUT)).await?;
            let answer = serde_json::json!({"role": role, "member": member, "granted": true});
            api_output::print(context, &answer, format!("granted role {role} to {member}"));
        }
        Role::Revoke(RoleMember { role, member }) => {
            api.delete(path(&role, &member)).await?;
            let answer = serde_json::json!({"role": role, "member": member, "granted": false});
            api_output::print(context, &answer, format!("revoked role {role} from {member}"));
        }
    }
    Ok(())
}

fn path(role: &str, member: &str) -> String {
    format!("/v1/roles/{}/members/{}", segment(role), segment(member))
}

async fn list(context: &Context, api: &ApiClient) -> Result<()> {
    let Some(roles) = fetch::<Vec<RoleRow>>(context, api, "/v1/roles").await? else {
        return Ok(());
    };
    let mut grid = Grid::new(context.answer_style, &["ROLE", "ROLES", "CREATED"]);
    for role in roles {
        grid.row([role.name, role.roles.join(", "), output::format_time(role.created)]);
    }
    grid.print("no roles; create one with `headwater role create NAME`");
    Ok(())
}
