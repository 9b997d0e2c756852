//! `headwater profile`: lists the user's server profiles, and selects the default profile.

use serde_json::json;

use crate::api_output;
use crate::arguments::Profile as ProfileCommand;
use crate::context::Context;
use crate::error::{self, Result};
use crate::output::Grid;
use crate::profiles::{self, Profile, ProfileFile};

/// Runs `headwater profile`.
pub fn profile(context: &Context, arguments: ProfileCommand) -> Result<()> {
    match arguments {
        ProfileCommand::Ls => list(context),
        ProfileCommand::Use { name } => {
            let file = file(context)?;
            let mut all = file.read()?;
            if !all.profiles.contains_key(&name) {
                return Err(profiles::missing(&name));
            }
            all.default = Some(name.clone());
            file.write(&all)?;
            context.style.say(format!("{name} is the default profile"));
            Ok(())
        }
    }
}

fn list(context: &Context) -> Result<()> {
    let all = file(context)?.read()?;
    let is_default = |name: &String| all.default.as_ref() == Some(name);
    let row = |(name, profile): (&String, &Profile)| {
        let default = is_default(name);
        json!({ "name": name, "url": profile.url, "default": default })
    };
    if api_output::is_printed(context, &all.profiles.iter().map(row).collect::<Vec<_>>()) {
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

/// Returns the file of the user's server profiles.
pub(super) fn file(context: &Context) -> Result<&ProfileFile> {
    context.profiles.as_ref().ok_or_else(|| {
        error::invalid("the folder for profiles cannot be determined")
            .with_hint("Set HOME or XDG_CONFIG_HOME.")
    })
}
