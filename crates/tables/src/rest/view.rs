//! Views as other engines make and change them.

use std::collections::HashMap;

use headwater_model::TableName;
use iceberg::ViewUpdate;
use iceberg::spec::{
    Schema, ViewFormatVersion, ViewMetadata, ViewMetadataBuilder, ViewVersion, ViewVersionLog,
};
use serde::Deserialize;
use uuid::Uuid;

use super::apply::is_other;
use crate::view::{build, refused};
use crate::{Error, Result, SqlView, Tables};

/// The longest metadata file of a view, in bytes.
const METADATA_BYTES_MAX: usize = 16 << 20;

/// By how much the clocks of others may be ahead; the `iceberg` crate allows as much between versions.
const AHEAD_MS_MAX: i64 = 60_000;

/// Asks for a new view.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NewView {
    /// Its name, without its namespace.
    pub name: String,
    location: Option<String>,
    schema: Schema,
    view_version: ViewVersion,
    #[serde(default)]
    properties: HashMap<String, String>,
}

/// Asks for a change of a view.
#[derive(Debug, Clone, Deserialize)]
pub struct ViewCommit {
    #[serde(default)]
    requirements: Vec<ViewRequirement>,
    updates: Vec<ViewUpdate>,
}

/// What a view must be for a change.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type")]
enum ViewRequirement {
    #[serde(rename = "assert-view-uuid")]
    Uuid { uuid: Uuid },
}

impl ViewCommit {
    /// Whether it has a view lie elsewhere than where it lies.
    fn is_placed(&self, before: &str) -> bool {
        self.updates.iter().any(|update| match update {
            ViewUpdate::SetLocation { location } => is_other(location, before),
            _ => false,
        })
    }

    /// Whether a view is of the identity that the change requires.
    pub fn check_on(&self, view: &SqlView) -> Result<()> {
        for ViewRequirement::Uuid { uuid } in &self.requirements {
            if *uuid != view.metadata().uuid() {
                let reason = format!("its UUID is `{}`, and not `{uuid}`", view.id());
                return Err(Error::Unmet { reason });
            }
        }
        Ok(())
    }
}

impl Tables {
    /// Makes the view that is asked for.
    pub async fn create_new_view(&self, name: &TableName, new: NewView) -> Result<SqlView> {
        let _placing = self.hold_place(new.location.is_some()).await;
        let location = match &new.location {
            Some(location) => self.free_location(location).await?,
            None => self.new_location(name),
        };
        let (schema, version, format) = (new.schema, new.view_version, ViewFormatVersion::V1);
        self.check_time(&version)?;
        let version = version.with_version_id(1);
        let built = ViewMetadataBuilder::new(location, schema, version, format, new.properties);
        let builder = built.map_err(|error| refused(&error))?.assign_uuid(Uuid::new_v4());
        let metadata = build(builder)?;
        check(&metadata)?;
        self.store_view(metadata, None).await
    }

    /// Makes a change of a view; the same state where it changes nothing.
    pub async fn apply_view(&self, view: &SqlView, commit: &ViewCommit) -> Result<SqlView> {
        commit.check_on(view)?;
        let _placing = self.hold_place(commit.is_placed(view.metadata().location())).await;
        let mut builder = view.metadata().clone().into_builder();
        for update in &commit.updates {
            builder = self.update_view(view, builder, update.clone()).await?;
        }
        let metadata = build(builder)?;
        check(&metadata)?;
        self.store_next_view(view, metadata).await
    }

    async fn update_view(
        &self,
        view: &SqlView,
        builder: ViewMetadataBuilder,
        update: ViewUpdate,
    ) -> Result<ViewMetadataBuilder> {
        let updated = match update {
            ViewUpdate::AssignUuid { uuid } if uuid != view.metadata().uuid() => {
                let reason = "a view keeps its UUID".to_owned();
                return Err(Error::Refused { reason });
            }
            ViewUpdate::AssignUuid { .. } => Ok(builder),
            ViewUpdate::UpgradeFormatVersion { format_version } => {
                builder.upgrade_format_version(format_version)
            }
            ViewUpdate::AddSchema { schema, last_column_id: _ } => Ok(builder.add_schema(schema)),
            ViewUpdate::SetLocation { location } => {
                if !is_other(&location, view.metadata().location()) {
                    return Ok(builder);
                }
                Ok(builder.set_location(self.free_location(&location).await?))
            }
            ViewUpdate::SetProperties { updates } => builder.set_properties(updates),
            ViewUpdate::RemoveProperties { removals } => Ok(builder.remove_properties(&removals)),
            ViewUpdate::AddViewVersion { view_version } => {
                self.check_time(&view_version)?;
                builder.add_version(view_version)
            }
            ViewUpdate::SetCurrentViewVersion { view_version_id } => {
                builder.set_current_version_id(view_version_id)
            }
        };
        updated.map_err(|error| refused(&error))
    }

    /// Fails for a version of a time that is still to come: until then, no other could follow it.
    fn check_time(&self, version: &ViewVersion) -> Result<()> {
        self.check_ms(version.timestamp_ms())
    }

    fn check_ms(&self, time_ms: i64) -> Result<()> {
        let ahead = time_ms.saturating_sub(self.now_ms());
        if ahead <= AHEAD_MS_MAX {
            return Ok(());
        }
        let seconds = ahead / 1000;
        let reason =
            format!("its version is of a time that comes in {seconds} seconds: see to the clocks");
        Err(Error::Refused { reason })
    }

    /// Takes over a view whose metadata file another engine, or an earlier state of this lake, left in the
    /// warehouse.
    pub async fn register_view(&self, location: &str) -> Result<SqlView> {
        let content = self.given_metadata(location, METADATA_BYTES_MAX as u64).await?;
        let metadata: ViewMetadata = serde_json::from_slice(&content)
            .map_err(|error| Error::Refused { reason: format!("`{location}`: {error}") })?;
        self.check_location(metadata.location())?;
        check(&metadata)?;
        metadata.versions().try_for_each(|version| self.check_time(version))?;
        let latest = metadata.history().iter().map(ViewVersionLog::timestamp_ms).max();
        self.check_ms(latest.unwrap_or_default())?;
        self.storage().sync(std::iter::once(location)).await?;
        self.load_view(location).await
    }
}

/// Refuses what no reader could make anything of.
fn check(metadata: &ViewMetadata) -> Result<()> {
    let refused = |reason: &str| Err(Error::Refused { reason: reason.to_owned() });
    let version = metadata.current_version();
    if version.representations().is_empty() {
        return refused("a view has a query");
    }
    if metadata.current_schema().as_struct().fields().is_empty() {
        return refused("a view has columns");
    }
    Ok(())
}
