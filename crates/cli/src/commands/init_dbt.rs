//! `headwater init --dbt`: converts a dbt project.

use std::path::Path;

use headwater_dbt::{ConversionNote, ConvertedProject};

use crate::context::Context;
use crate::error::{self, Result};
use crate::output;
use crate::terminal::Tone;

/// Reads and converts the dbt project in a folder.
pub fn convert(folder: &Path) -> Result<ConvertedProject> {
    let shown = folder.display();
    let files = headwater_dbt::read(folder)
        .map_err(error::from_io(&format!("read the dbt project `{shown}`")))?;
    headwater_dbt::convert(&files).map_err(|error| {
        let hint = "Give the folder that contains `dbt_project.yml`.";
        error::invalid(format!("`{shown}`: {error}")).with_hint(hint)
    })
}

/// Prints the numbers of converted models and tests, the notes, and the next commands.
pub fn print(context: &Context, converted: &ConvertedProject) {
    let style = context.style;
    let models = output::plural(converted.models as u64, "model");
    let tests = output::plural(converted.tests as u64, "test");
    style.say(format!("converted {models} and {tests}"));
    for ConversionNote { at, message } in &converted.notes {
        style.say(format!("  {} {at}: {message}", style.paint(Tone::Warn, "!")));
    }
    style.say("next:");
    for seed in &converted.seeds {
        style.say(format!("  {}", seed.import()));
    }
    style.say("  headwater run --plan");
}
