//! The system tables `system.models` and `system.lineage`: the models that wrote the tables of a
//! ref, and the inputs of these models. A reader sees only the rows about tables that the reader
//! may read.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use headwater_engine::system::{batch, schema, timestamp_column, timestamp_type};
use headwater_engine::{Engine, SessionRights, SystemTable};
use headwater_lake::{CommitView, PROPERTY_PROJECT};
use headwater_model::{AccessObject, Action, Problem, ResultExt, TableName, Timestamp};
use headwater_tables::{SqlView, Table};

use crate::build_record::{BUILD, BuildRecord, snapshot_property};
use crate::model_description::{InputName, ModelDescription};
use crate::profiles_table::ProfilesTable;

/// Number of tables that are loaded concurrently.
pub(crate) const OPEN_AT_ONCE: usize = 32;

/// Adds the tables to the engine.
pub fn register_system_tables(engine: &Engine) {
    engine.add_system_table(Arc::new(ModelsTable));
    engine.add_system_table(Arc::new(LineageTable));
    engine.add_system_table(Arc::new(ProfilesTable));
}

struct ModelsTable;

struct LineageTable;

#[async_trait]
impl SystemTable for ModelsTable {
    fn name(&self) -> &'static str {
        "models"
    }

    fn filters_by_permission(&self) -> bool {
        true
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("namespace", DataType::Utf8, true),
            ("name", DataType::Utf8, true),
            ("project", DataType::Utf8, true),
            ("kind", DataType::Utf8, true),
            ("materialization", DataType::Utf8, true),
            ("file", DataType::Utf8, true),
            ("line", DataType::Int64, true),
            ("tags", DataType::Utf8, true),
            ("updated", timestamp_type(), true),
            ("description", DataType::Utf8, true),
        ])
    }

    async fn visible_batches(
        &self,
        view: &CommitView,
        access: Option<&dyn SessionRights>,
    ) -> Result<Vec<RecordBatch>, Problem> {
        let built = built_tables(view, access).await?;
        let mut rows = Vec::new();
        let mut seen = BTreeSet::new();
        for BuiltTable { record, model, project, updated } in &built {
            let stored = std::iter::once((model, *updated));
            for (model, updated) in stored.chain(record.models.values().map(|one| (one, None))) {
                if seen.insert((project.clone(), model.namespace.clone(), model.name.clone())) {
                    rows.push((project.clone(), model, updated));
                }
            }
        }
        let text = |value: fn(&ModelDescription) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, model, _)| value(model))))
        };
        let projects: StringArray = rows.iter().map(|(project, ..)| project.as_deref()).collect();
        let lines = rows.iter().map(|(_, model, _)| i64::from(model.line));
        let described = rows.iter().map(|(_, model, _)| Some(&*model.description));
        let descriptions: StringArray =
            described.map(|text| text.filter(|text| !text.is_empty())).collect();
        let columns = vec![
            text(|model| model.namespace.clone()),
            text(|model| model.name.clone()),
            Arc::new(projects),
            text(|model| model.kind.clone()),
            text(|model| model.materialization.clone()),
            text(|model| model.file.clone()),
            Arc::new(Int64Array::from_iter_values(lines)),
            text(|model| model.tags.join(", ")),
            timestamp_column(rows.iter().map(|(.., updated)| *updated)),
            Arc::new(descriptions),
        ];
        batch(self.schema(), columns)
    }
}

#[async_trait]
impl SystemTable for LineageTable {
    fn name(&self) -> &'static str {
        "lineage"
    }

    fn filters_by_permission(&self) -> bool {
        true
    }

    fn schema(&self) -> SchemaRef {
        let text = |name| (name, DataType::Utf8, true);
        schema(&[
            text("namespace"),
            text("name"),
            text("column"),
            text("input_namespace"),
            text("input_name"),
            text("input_ref"),
            text("input_column"),
            ("exact", DataType::Boolean, true),
        ])
    }

    async fn visible_batches(
        &self,
        view: &CommitView,
        access: Option<&dyn SessionRights>,
    ) -> Result<Vec<RecordBatch>, Problem> {
        let mut rows: BTreeSet<LineageRow> = BTreeSet::new();
        let mut readable = view.state().entries(None).await.or_problem()?;
        readable.retain(|(name, entry)| may_read_object(access, &entry.object(name)));
        let readable: BTreeSet<TableName> = readable.into_iter().map(|(name, _)| name).collect();
        for BuiltTable { record, model, .. } in built_tables(view, access).await? {
            for reader in std::iter::once(&model).chain(record.models.values()) {
                let is_visible = |input: &InputName| {
                    is_intermediate(&record, input)
                        || (input.reference.is_none() && readable.contains(&input.table()))
                        || may_read(access, &input.table())
                };
                add_rows(reader, is_visible, &mut rows);
            }
        }
        let column = |index: usize| -> ArrayRef {
            Arc::new(rows.iter().map(|row| row.names[index].as_deref()).collect::<StringArray>())
        };
        let exact: BooleanArray = rows.iter().map(|row| row.exact).collect();
        let exact: ArrayRef = Arc::new(exact);
        batch(self.schema(), (0..NAMES).map(column).chain([exact]).collect())
    }
}

/// Number of text columns in `system.lineage`.
const NAMES: usize = 7;

/// A row of `system.lineage`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct LineageRow {
    /// The values of the text columns, in the order of the table.
    names: [Option<String>; NAMES],
    /// False if the model's column may instead be computed from other input columns; `None` in a
    /// row that describes an input as a whole.
    exact: Option<bool>,
}

/// A column of a model, and an input column from which it is, or may be, computed.
struct LineageEdge<'a> {
    column: &'a str,
    source: &'a str,
    exact: bool,
}

impl LineageRow {
    fn of(model: &ModelDescription, input: &InputName, pair: Option<&LineageEdge<'_>>) -> Self {
        let names = [
            Some(model.namespace.clone()),
            Some(model.name.clone()),
            pair.map(|pair| pair.column.to_owned()),
            Some(input.namespace.clone()),
            Some(input.name.clone()),
            input.reference.clone(),
            pair.map(|pair| pair.source.to_owned()),
        ];
        LineageRow { names, exact: pair.map(|pair| pair.exact) }
    }
}

/// Adds a row for each input of a model, and for each source of its columns.
fn add_rows(
    model: &ModelDescription,
    is_visible: impl Fn(&InputName) -> bool,
    rows: &mut BTreeSet<LineageRow>,
) {
    for input in model.inputs.iter().filter(|input| is_visible(input)) {
        rows.insert(LineageRow::of(model, input, None));
    }
    for (column, source, exact) in model.column_sources() {
        let input = model.inputs.get(source.input).filter(|input| is_visible(input));
        if let Some(input) = input {
            let pair = LineageEdge { column, source: &source.column, exact };
            rows.insert(LineageRow::of(model, input, Some(&pair)));
        }
    }
}

/// A table that a model wrote.
struct BuiltTable {
    record: BuildRecord,
    model: ModelDescription,
    project: Option<String>,
    /// Time of the table's last change.
    updated: Option<Timestamp>,
}

/// Returns the tables at a ref that models wrote and that a reader may read.
async fn built_tables(
    view: &CommitView,
    access: Option<&dyn SessionRights>,
) -> Result<Vec<BuiltTable>, Problem> {
    let listed = view.list(None).await.or_problem()?;
    let visible =
        listed.into_iter().filter(|(name, entry)| may_read_object(access, &entry.object(name)));
    let built = stream::iter(visible.collect::<Vec<_>>())
        .map(|(name, entry)| async move {
            let table = view.lake().tables().load(&entry.metadata_location).await?;
            Ok::<_, headwater_tables::Error>(built(view, &name, &table).await)
        })
        .buffered(OPEN_AT_ONCE)
        .try_filter_map(|built| async move { Ok(built) });
    let mut built: Vec<BuiltTable> = built.try_collect().await.or_problem()?;
    for (name, entry) in view.state().views(None).await.or_problem()? {
        if may_read_object(access, &entry.object(&name)) {
            let loaded = view.load_view(&entry).await.or_problem()?;
            built.extend(built_view(&loaded));
        }
    }
    Ok(built)
}

/// Returns the view of a model; `None` for other views.
fn built_view(view: &SqlView) -> Option<BuiltTable> {
    let mut properties = view.properties();
    let record: BuildRecord = serde_json::from_str(&properties.remove(BUILD)?).ok()?;
    let model = record.model.clone()?;
    let project = properties.remove(PROPERTY_PROJECT);
    Some(BuiltTable { record, model, project, updated: view.updated() })
}

async fn built(view: &CommitView, name: &TableName, table: &Table) -> Option<BuiltTable> {
    let record = match snapshot_property(table, BUILD) {
        Some(record) => record.clone(),
        None => view.lake().tables().history().find(table, BUILD, |_| true).await?,
    };
    let record: BuildRecord = serde_json::from_str(&record).ok()?;
    // Exclude quarantine tables, which have the record of their model.
    let model = record.model.clone().filter(|model| !is_quarantine(model, name))?;
    let project = view.lake().project_of(table).await;
    Some(BuiltTable { record, model, project, updated: table.updated() })
}

pub(crate) fn is_quarantine(model: &ModelDescription, table: &TableName) -> bool {
    table.namespace == model.namespace
        && table.name.eq_ignore_ascii_case(&headwater_project::quarantine_name(&model.name))
}

fn is_intermediate(record: &BuildRecord, input: &InputName) -> bool {
    let same =
        |model: &ModelDescription| model.namespace == input.namespace && model.name == input.name;
    input.reference.is_none() && record.models.values().any(same)
}

/// Returns true if a grant allows a reader to read the table or view with this name.
fn may_read(access: Option<&dyn SessionRights>, name: &TableName) -> bool {
    may_read_object(access, &AccessObject::table(name))
        || may_read_object(access, &AccessObject::view(name))
}

pub(crate) fn may_read_object(access: Option<&dyn SessionRights>, object: &AccessObject) -> bool {
    access.is_none_or(|access| access.allows(Action::Select, object))
}
