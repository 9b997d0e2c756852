//! Creates and changes views for clients of Iceberg's REST catalog.

use std::collections::HashMap;

use headwater_model::TableName;
use headwater_tables::{SqlView, build_view};
use iceberg::ViewUpdate;
use iceberg::spec::{
    Schema, ViewFormatVersion, ViewMetadata, ViewMetadataBuilder, ViewVersion, ViewVersionLog,
};
use serde::Deserialize;
use uuid::Uuid;

use crate::apply_updates::is_different_location;
use crate::table_checks::rejected;
use crate::{Error, RestTables, Result};

/// Maximum size of a view's metadata file, in bytes.
const METADATA_BYTES_MAX: usize = 16 << 20;

/// Maximum time in milliseconds by which the clock of a client may be ahead of the server's. The
/// `iceberg` crate tolerates the same difference between two versions of a view.
const AHEAD_MS_MAX: i64 = 60_000;

/// A request to create a view.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NewView {
    /// The name, without the namespace.
    pub name: String,
    location: Option<String>,
    schema: Schema,
    view_version: ViewVersion,
    #[serde(default)]
    properties: HashMap<String, String>,
}

/// A request to change a view.
#[derive(Debug, Clone, Deserialize)]
pub struct ViewCommit {
    #[serde(default)]
    requirements: Vec<ViewRequirement>,
    updates: Vec<ViewUpdate>,
}

/// A requirement of a commit that changes a view.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type")]
enum ViewRequirement {
    #[serde(rename = "assert-view-uuid")]
    Uuid { uuid: Uuid },
}

impl ViewCommit {
    /// Returns true if the commit moves the view to another location.
    fn sets_location(&self, before: &str) -> bool {
        self.updates.iter().any(|update| match update {
            ViewUpdate::SetLocation { location } => is_different_location(location, before),
            _ => false,
        })
    }

    /// Checks the commit's requirements.
    pub fn check_on(&self, view: &SqlView) -> Result<()> {
        for ViewRequirement::Uuid { uuid } in &self.requirements {
            if *uuid != view.metadata().uuid() {
                let reason = format!("the view's UUID is `{}`, not `{uuid}`", view.id());
                return Err(Error::Unmet { reason });
            }
        }
        Ok(())
    }
}

impl RestTables<'_> {
    /// Creates a view.
    pub async fn create_view(self, name: &TableName, new: NewView) -> Result<SqlView> {
        let _location_lock = self.lock_location(new.location.is_some()).await;
        let location = match &new.location {
            Some(location) => self.unused_location(location).await?,
            None => self.tables.metadata_files().new_location(name),
        };
        let (schema, version, format) = (new.schema, new.view_version, ViewFormatVersion::V1);
        self.check_time(&version)?;
        let version = version.with_version_id(1);
        let built = ViewMetadataBuilder::new(location, schema, version, format, new.properties);
        let builder = built.map_err(|error| rejected(&error))?.assign_uuid(Uuid::new_v4());
        let metadata = build_view(builder)?;
        check(&metadata)?;
        self.tables.views().store(metadata, None).await
    }

    /// Applies a commit to a view. If the commit changes nothing, returns the same state.
    pub async fn apply_view(self, view: &SqlView, commit: &ViewCommit) -> Result<SqlView> {
        commit.check_on(view)?;
        let _location_lock =
            self.lock_location(commit.sets_location(view.metadata().location())).await;
        let mut builder = view.metadata().clone().into_builder();
        for update in &commit.updates {
            builder = self.update_view(view, builder, update.clone()).await?;
        }
        let metadata = build_view(builder)?;
        check(&metadata)?;
        self.tables.views().store_next(view, metadata).await
    }

    async fn update_view(
        self,
        view: &SqlView,
        builder: ViewMetadataBuilder,
        update: ViewUpdate,
    ) -> Result<ViewMetadataBuilder> {
        let updated = match update {
            ViewUpdate::AssignUuid { uuid } if uuid != view.metadata().uuid() => {
                let reason = "a view's UUID cannot be changed".to_owned();
                return Err(Error::Refused { reason });
            }
            ViewUpdate::AssignUuid { .. } => Ok(builder),
            ViewUpdate::UpgradeFormatVersion { format_version } => {
                builder.upgrade_format_version(format_version)
            }
            ViewUpdate::AddSchema { schema, last_column_id: _ } => Ok(builder.add_schema(schema)),
            ViewUpdate::SetLocation { location } => {
                if !is_different_location(&location, view.metadata().location()) {
                    return Ok(builder);
                }
                Ok(builder.set_location(self.unused_location(&location).await?))
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
        updated.map_err(|error| rejected(&error))
    }

    /// Rejects a view version whose timestamp is in the future, because later versions could not be
    /// created until that time.
    fn check_time(self, version: &ViewVersion) -> Result<()> {
        self.check_ms(version.timestamp_ms())
    }

    fn check_ms(self, time_ms: i64) -> Result<()> {
        let ahead = time_ms.saturating_sub(self.tables.options().clock.now().timestamp_millis());
        if ahead <= AHEAD_MS_MAX {
            return Ok(());
        }
        let seconds = ahead / 1000;
        let reason = format!(
            "the timestamp of the view version is {seconds} seconds in the future: check the \
             client's clock"
        );
        Err(Error::Refused { reason })
    }

    /// Registers a view by its metadata file in the warehouse, written by another engine, or by
    /// this lake at an earlier time.
    pub async fn register_view(self, location: &str) -> Result<SqlView> {
        let content = self.read_client_metadata(location, METADATA_BYTES_MAX as u64).await?;
        let metadata: ViewMetadata = serde_json::from_slice(&content)
            .map_err(|error| Error::Refused { reason: format!("`{location}`: {error}") })?;
        self.check_location(metadata.location())?;
        check(&metadata)?;
        metadata.versions().try_for_each(|version| self.check_time(version))?;
        let latest = metadata.history().iter().map(ViewVersionLog::timestamp_ms).max();
        self.check_ms(latest.unwrap_or_default())?;
        self.tables.storage().sync(std::iter::once(location)).await?;
        self.tables.views().load(location).await
    }
}

/// Rejects a view that has no query or no columns.
fn check(metadata: &ViewMetadata) -> Result<()> {
    let rejected = |reason: &str| Err(Error::Refused { reason: reason.to_owned() });
    let version = metadata.current_version();
    if version.representations().is_empty() {
        return rejected("a view requires a query");
    }
    if metadata.current_schema().as_struct().fields().is_empty() {
        return rejected("a view requires columns");
    }
    Ok(())
}
