//! `headwater user`.

use headwater_model::{CreateUser, UpdateUser, User as UserRow, UserKind};
use hyper::Method;

use crate::api::{ApiClient, segment};
use crate::api_output::{self, fetch};
use crate::arguments::{User, UserCreate, UserRm};
use crate::commands::remove_if_exists::{self, RemovalTarget};
use crate::context::Context;
use crate::error::Result;
use crate::output::{self, Grid};
use crate::secret_input;

/// Runs `headwater user`.
pub async fn user(context: &Context, api: &ApiClient, arguments: User) -> Result<()> {
    let changed = |verb: &str, user: UserRow| {
        api_output::print(context, &user, format!("{verb} user {}", user.name));
    };
    match arguments {
        User::Ls => list(context, api).await?,
        User::Create(arguments) => {
            changed("created", create(api, arguments).await?);
        }
        User::Passwd(user) => {
            let password = Some(secret_input::read("password")?);
            let change = UpdateUser { password, disabled: None };
            changed("changed the password of", update(api, &user.name, &change).await?);
        }
        User::Disable(user) => {
            let change = UpdateUser { disabled: Some(true), ..UpdateUser::default() };
            changed("disabled", update(api, &user.name, &change).await?);
        }
        User::Enable(user) => {
            let change = UpdateUser { disabled: Some(false), ..UpdateUser::default() };
            changed("enabled", update(api, &user.name, &change).await?);
        }
        User::Rm(UserRm { name, if_exists }) => {
            let removal = RemovalTarget { what: "user", name: &name, list: "/v1/users", if_exists };
            remove_if_exists::remove(context, api, removal).await?;
        }
    }
    Ok(())
}

fn path(name: &str) -> String {
    format!("/v1/users/{}", segment(name))
}

async fn create(api: &ApiClient, arguments: UserCreate) -> Result<UserRow> {
    let UserCreate { name, service, password } = arguments;
    let password = password.then(|| secret_input::read("password")).transpose()?;
    let kind = if service { UserKind::Service } else { UserKind::Person };
    api.post("/v1/users", &CreateUser { name, kind, password }).await
}

async fn update(api: &ApiClient, name: &str, change: &UpdateUser) -> Result<UserRow> {
    api.call(Method::PATCH, path(name), change).await
}

async fn list(context: &Context, api: &ApiClient) -> Result<()> {
    let Some(users) = fetch::<Vec<UserRow>>(context, api, "/v1/users").await? else {
        return Ok(());
    };
    let mut grid = Grid::new(context.answer_style, &["USER", "KIND", "ROLES", "STATE", "CREATED"]);
    for user in users {
        let kind = if user.kind == UserKind::Service { "service" } else { "person" };
        let state = if user.disabled { "disabled" } else { "enabled" };
        let (roles, created) = (user.roles.join(", "), output::format_time(user.created));
        grid.row([user.name, kind.to_owned(), roles, state.to_owned(), created]);
    }
    grid.print("no users; create one with `headwater user create NAME`");
    Ok(())
}
