//! SQL views, as defined by Iceberg's view specification.
//!
//! An [`SqlView`] is one immutable state of one view, identified by the location of its metadata
//! file. A view has versions, each of which has columns, and a query in one or more SQL dialects.
//! This crate does not parse SQL: the caller provides a query's columns and executes the query.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use headwater_model::{TableName, Timestamp, ViewQuery, name};
use iceberg::NamespaceIdent;
use iceberg::spec::{
    Schema, ViewFormatVersion, ViewMetadata, ViewMetadataBuilder, ViewRepresentation,
    ViewRepresentations, ViewVersion, ViewVersionRef,
};
use serde_json::{Value, json};

use crate::commit::create_and_evolve::iceberg_schema;
use crate::table::described;
use crate::types::schema::{FieldIdAllocator, arrow_schema};
use crate::{Error, Result, Tables, metadata, normalise_schema, without_nanoseconds};

/// Approximate size of a view version without its query, in bytes.
const VERSION_BYTES: usize = 512;

/// Approximate size of a column, in bytes.
const COLUMN_BYTES: usize = 512;

/// One state of a view. Clones share the state.
#[derive(Debug, Clone)]
pub struct SqlView(Arc<SqlViewInner>);

#[derive(Debug)]
struct SqlViewInner {
    location: String,
    metadata: ViewMetadata,
}

/// The definition of a view.
#[derive(Debug, Clone)]
pub struct ViewDefinition {
    /// The columns of the query's result.
    pub schema: SchemaRef,
    /// The text of the query.
    pub sql: String,
    /// The SQL dialect of the query.
    pub dialect: String,
    /// The namespace of table names in the query that have no namespace.
    pub namespace: String,
    /// The name and version of the engine that creates the view.
    pub engine: (String, String),
}

/// The result of merging two changes of a view.
#[derive(Debug)]
pub enum ViewMergeResult {
    /// The target side already contains all changes.
    Ours,
    /// The changes of both sides are compatible and can be merged.
    Both(Box<ViewMerge>),
    /// The changes conflict: both sides changed the query, or set a property to different values.
    Conflicts {
        /// True if both sides changed the query.
        query: bool,
        /// The properties that the sides set to different values.
        properties: Vec<String>,
    },
}

/// A merge of a view that was computed, but is not applied yet.
#[derive(Debug)]
pub struct ViewMerge {
    ours: SqlView,
    metadata: ViewMetadata,
}

impl SqlView {
    pub(crate) fn new(location: String, metadata: ViewMetadata) -> Self {
        SqlView(Arc::new(SqlViewInner { location, metadata }))
    }

    /// Returns the decoded metadata file.
    pub fn metadata(&self) -> &ViewMetadata {
        &self.0.metadata
    }

    /// Returns the approximate size in memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let metadata = self.metadata();
        let sql = |one: &ViewRepresentation| {
            let ViewRepresentation::Sql(sql) = one;
            sql.sql.len() + sql.dialect.len()
        };
        let query = |version: &ViewVersionRef| {
            VERSION_BYTES + version.representations().iter().map(sql).sum::<usize>()
        };
        let queries: usize = metadata.versions().map(query).sum();
        let columns = metadata.schemas_iter().map(|one| one.field_id_to_fields().len());
        let properties = metadata.properties().iter().map(|(key, value)| key.len() + value.len());
        queries + columns.sum::<usize>() * COLUMN_BYTES + properties.sum::<usize>()
    }

    /// Returns the location of the metadata file.
    pub fn metadata_location(&self) -> &str {
        &self.0.location
    }

    /// Returns the Iceberg view UUID.
    pub fn id(&self) -> String {
        self.metadata().uuid().to_string()
    }

    /// Returns the columns that the result had when the view was created, in order.
    pub fn schema(&self) -> SchemaRef {
        arrow_schema(self.metadata().current_schema().as_struct().fields())
    }

    /// Returns the SQL dialects of the query and the text in each dialect, in the stored order.
    pub fn representations(&self) -> Vec<(String, String)> {
        let all = self.metadata().current_version().representations().iter();
        let pair = |one: &ViewRepresentation| {
            let ViewRepresentation::Sql(sql) = one;
            (sql.dialect.clone(), sql.sql.clone())
        };
        all.map(pair).collect()
    }

    /// Returns the levels of the default namespace, which unqualified table names refer to.
    pub fn default_namespace(&self) -> Vec<String> {
        self.metadata().current_version().default_namespace().clone().inner()
    }

    /// Returns the view properties.
    pub fn properties(&self) -> BTreeMap<String, String> {
        self.metadata().properties().clone().into_iter().collect()
    }

    /// Returns the id of the view's current version.
    pub fn version(&self) -> i32 {
        self.metadata().current_version_id()
    }

    /// Returns the time at which the view's current version was created.
    pub fn updated(&self) -> Option<Timestamp> {
        Timestamp::from_timestamp_millis(self.metadata().current_version().timestamp_ms())
    }

    /// Returns the metadata in the JSON format of Iceberg's view specification.
    pub fn metadata_json(&self) -> Result<Value> {
        let mut value = serde_json::to_value(self.metadata())
            .map_err(|error| Error::internal("encoded", error))?;
        for (list, number) in [("schemas", "schema-id"), ("versions", "version-id")] {
            if let Some(Value::Array(items)) = value.get_mut(list) {
                items.sort_by_key(|item| item[number].as_i64());
            }
        }
        Ok(value)
    }

    /// Returns the API's description of the view. `name` is the name in the description.
    pub fn describe(&self, name: &TableName) -> headwater_model::SqlView {
        let queries = self.representations().into_iter();
        headwater_model::SqlView {
            name: name.clone(),
            namespace: name.namespace.clone(),
            id: self.id(),
            columns: described(&self.schema()),
            queries: queries.map(|(dialect, sql)| ViewQuery { dialect, sql }).collect(),
            default_namespace: self.default_namespace().join("."),
            version: self.version(),
            updated: self.updated(),
            metadata_location: self.metadata_location().to_owned(),
            properties: self.properties(),
        }
    }

    /// Returns true if both views have the same query, dialects, default namespace and columns.
    fn has_same_query(&self, other: &SqlView) -> bool {
        let (one, two) = (self.metadata().current_version(), other.metadata().current_version());
        one.representations() == two.representations()
            && one.default_namespace() == two.default_namespace()
            && one.default_catalog() == two.default_catalog()
            && self.metadata().current_schema().as_struct()
                == other.metadata().current_schema().as_struct()
    }
}

/// The properties that the other side of a merge changed, which must be applied to our side.
#[derive(Default)]
struct ChangedProperties {
    set: HashMap<String, String>,
    removed: Vec<String>,
    /// The properties that the sides set to different values.
    conflicts: Vec<String>,
}

impl ChangedProperties {
    fn merge(base: Option<&SqlView>, ours: &SqlView, theirs: &SqlView) -> Self {
        let of = |view: &SqlView| view.metadata().properties().clone();
        let (was, ours, theirs) = (base.map(of).unwrap_or_default(), of(ours), of(theirs));
        let mut merged = ChangedProperties::default();
        let keys = was.keys().chain(ours.keys()).chain(theirs.keys());
        for key in keys.collect::<std::collections::BTreeSet<_>>() {
            let (was, ours, theirs) = (was.get(key), ours.get(key), theirs.get(key));
            match theirs {
                _ if ours == theirs || was == theirs => {}
                _ if was != ours => merged.conflicts.push(key.clone()),
                Some(value) => drop(merged.set.insert(key.clone(), value.clone())),
                None => merged.removed.push(key.clone()),
            }
        }
        merged
    }
}

/// The view property that permits a new query to drop existing dialects.
const DROP_DIALECT_ALLOWED: &str = "replace.drop-dialect.allowed";

/// Returns a builder of our view with the query of the other side. A dialect that the other side
/// lacks is dropped, because that side removed it.
fn take_query(ours: &SqlView, theirs: &SqlView, now_ms: i64) -> Result<ViewMetadataBuilder> {
    let version = theirs.metadata().current_version();
    let version = ViewVersion::builder()
        .with_schema_id(0)
        .with_timestamp_ms(now_ms)
        .with_summary(version.summary().clone())
        .with_representations(version.representations().clone())
        .with_default_catalog(version.default_catalog().cloned())
        .with_default_namespace(version.default_namespace().clone())
        .build();
    let schema = Schema::clone(theirs.metadata().current_schema());
    let allowed = HashMap::from([(DROP_DIALECT_ALLOWED.to_owned(), "true".to_owned())]);
    let builder = ours.metadata().clone().into_builder().set_properties(allowed);
    let builder = builder.and_then(|builder| builder.set_current_version(version, schema));
    let builder = build(builder.map_err(|error| rejected(&error))?)?.into_builder();
    let before = ours.metadata().properties().get(DROP_DIALECT_ALLOWED).cloned();
    match before.map(|before| HashMap::from([(DROP_DIALECT_ALLOWED.to_owned(), before)])) {
        Some(before) => builder.set_properties(before).map_err(|error| rejected(&error)),
        None => Ok(builder.remove_properties(&[DROP_DIALECT_ALLOWED.to_owned()])),
    }
}

/// Builds the metadata of a view. Errors: `DialectLost`, or `Refused` with the reason of the
/// builder.
pub fn build(builder: ViewMetadataBuilder) -> Result<ViewMetadata> {
    Ok(builder.build().map_err(|error| rejected(&error))?.metadata)
}

/// Converts an error of the metadata builder.
fn rejected(error: &iceberg::Error) -> Error {
    let message = error.message();
    if message.contains("loss of view dialects") {
        return Error::DialectLost;
    }
    let mut characters = message.chars();
    let first = characters.next().map(|first| first.to_lowercase().to_string());
    Error::Refused { reason: first.unwrap_or_default() + characters.as_str() }
}

impl ViewDefinition {
    fn schema(&self) -> Result<Schema> {
        // Some clients cannot read timestamps in nanoseconds. Such a client recognizes a table with
        // them by its format version 3, but the metadata of a view has no such version.
        let normal = without_nanoseconds(&normalise_schema(&self.schema)?);
        iceberg_schema(FieldIdAllocator::after(0).assign(normal.fields(), None)?)
    }

    fn version(&self, id: i32, now_ms: i64) -> Result<ViewVersion> {
        let sql = json!([{"type": "sql", "sql": self.sql, "dialect": self.dialect}]);
        let sql: ViewRepresentations =
            serde_json::from_value(sql).map_err(|error| Error::internal("created", error))?;
        let (engine, version) = self.engine.clone();
        let summary = [("engine-name".to_owned(), engine), ("engine-version".to_owned(), version)];
        Ok(ViewVersion::builder()
            .with_version_id(id)
            .with_schema_id(0)
            .with_timestamp_ms(now_ms)
            .with_summary(HashMap::from(summary))
            .with_representations(sql)
            .with_default_namespace(levels_of(&self.namespace)?)
            .build())
    }
}

/// Converts a namespace to the form in which metadata files contain it.
fn levels_of(namespace: &str) -> Result<NamespaceIdent> {
    let levels = name::levels(namespace).map(str::to_owned).collect();
    NamespaceIdent::from_vec(levels).map_err(|error| rejected(&error))
}

/// Operations on the views of a warehouse. [`Tables::views`] returns this type.
#[derive(Debug, Clone, Copy)]
pub struct Views<'a> {
    pub(crate) tables: &'a Tables,
}

impl Views<'_> {
    /// Creates a view in a new folder with a unique name, so that a view's name can be used again.
    pub async fn create(self, name: &TableName, definition: &ViewDefinition) -> Result<SqlView> {
        let version = definition.version(1, self.tables.now_ms())?;
        let location = self.tables.metadata_files().new_location(name);
        let format = ViewFormatVersion::V1;
        let schema = definition.schema()?;
        let builder = ViewMetadataBuilder::new(location, schema, version, format, HashMap::new());
        let builder = builder.map_err(|error| rejected(&error))?;
        self.store(build(builder.assign_uuid(uuid::Uuid::new_v4()))?, None).await
    }

    /// Replaces a view's query. Fails if a dialect would be dropped, unless the view's property
    /// `replace.drop-dialect.allowed` permits this. Returns the same state if nothing changes.
    pub async fn replace(self, view: &SqlView, definition: &ViewDefinition) -> Result<SqlView> {
        let version = definition.version(view.version() + 1, self.next_version_ms(view))?;
        let builder = view.metadata().clone().into_builder();
        let builder = builder.set_current_version(version, definition.schema()?);
        let metadata = build(builder.map_err(|error| rejected(&error))?)?;
        self.store_next(view, metadata).await
    }

    /// Merges two changes of a view. If the base is `None`, both sides created the view.
    pub fn merge(
        self,
        base: Option<&SqlView>,
        ours: &SqlView,
        theirs: &SqlView,
    ) -> Result<ViewMergeResult> {
        let changed = |side: &SqlView| !base.is_some_and(|base| base.has_same_query(side));
        let takes = changed(theirs) && !ours.has_same_query(theirs);
        let query = takes && changed(ours);
        let properties = ChangedProperties::merge(base, ours, theirs);
        if query || !properties.conflicts.is_empty() {
            return Ok(ViewMergeResult::Conflicts { query, properties: properties.conflicts });
        }
        if !takes && properties.set.is_empty() && properties.removed.is_empty() {
            return Ok(ViewMergeResult::Ours);
        }
        let builder = if takes {
            take_query(ours, theirs, self.next_version_ms(ours))?
        } else {
            ours.metadata().clone().into_builder()
        };
        let builder = builder.set_properties(properties.set).map_err(|error| rejected(&error))?;
        let metadata = build(builder.remove_properties(&properties.removed))?;
        Ok(ViewMergeResult::Both(Box::new(ViewMerge { ours: ours.clone(), metadata })))
    }

    /// Applies a merge, and returns the merged view.
    pub async fn apply_merge(self, merge: &ViewMerge) -> Result<SqlView> {
        self.store_next(&merge.ours, merge.metadata.clone()).await
    }

    /// Loads a view's state from a metadata file. Uses a cache, because metadata files are
    /// immutable.
    pub async fn load(self, metadata_location: &str) -> Result<SqlView> {
        if let Some(view) = self.tables.caches().views.get(metadata_location) {
            return Ok(view);
        }
        let content = self.tables.storage().read(metadata_location).await?;
        let metadata: ViewMetadata = serde_json::from_slice(&content)
            .map_err(|error| Error::corrupt(metadata_location, error))?;
        let view = SqlView::new(metadata_location.to_owned(), metadata);
        self.tables.caches().views.insert(metadata_location.to_owned(), view.clone());
        Ok(view)
    }

    /// Deletes the metadata file of a state to which no commit ever referred. `before` is the
    /// preceding state.
    pub async fn discard(self, view: &SqlView, before: Option<&SqlView>) -> Result<()> {
        if before.is_some_and(|before| before.metadata_location() == view.metadata_location()) {
            return Ok(());
        }
        self.tables.caches().views.invalidate(view.metadata_location());
        self.tables.storage().delete(&[view.metadata_location().to_owned()]).await
    }

    /// Writes the next state of a view. Returns the same state if nothing changes.
    pub async fn store_next(self, before: &SqlView, metadata: ViewMetadata) -> Result<SqlView> {
        if metadata == *before.metadata() {
            return Ok(before.clone());
        }
        self.store(metadata, Some(before.metadata_location())).await
    }

    /// Writes the metadata of a view to a file, and makes the file durable.
    pub async fn store(self, metadata: ViewMetadata, previous: Option<&str>) -> Result<SqlView> {
        let location = metadata::next_location(metadata.location(), previous);
        let content =
            serde_json::to_vec(&metadata).map_err(|error| Error::internal("written", error))?;
        let files = [(location.clone(), Bytes::from(content))];
        self.tables.storage().write_all(&files, std::iter::empty()).await?;
        let view = SqlView::new(location.clone(), metadata);
        self.tables.caches().views.insert(location, view.clone());
        Ok(view)
    }

    /// Returns the time of a view's next version. This time is not before the time of the last
    /// version, even if the clock was set back.
    fn next_version_ms(self, view: &SqlView) -> i64 {
        let last =
            view.metadata().history().last().map(iceberg::spec::ViewVersionLog::timestamp_ms);
        self.tables.now_ms().max(last.unwrap_or_default())
    }
}

impl Tables {
    pub(crate) fn now_ms(&self) -> i64 {
        self.options().clock.now().timestamp_millis()
    }
}
