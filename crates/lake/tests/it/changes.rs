//! Changes of tables as data, which scenarios and generators provide, and their execution on a
//! lake.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema, SchemaRef};
use futures::TryStreamExt;
use headwater_lake::{Transaction, json_rows};
use headwater_model::{MergeChoice, MergeRequest, RevertRequest, TableName};
use headwater_tables::{
    Alteration, DataFile, INITIAL_DEFAULT, PartitionFieldRef, Positions, RowRewrite, SortColumn,
    Table, WRITE_DEFAULT, parse_type,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::support::{Fixture, name, rows_of};

/// The columns of a table, in order, with their types.
pub type Columns = Vec<BTreeMap<String, String>>;

/// Rows: each is a list of values in the order of the columns, or a map.
pub type Rows = Vec<Value>;

/// The table before the first change.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTable {
    pub columns: Columns,
    #[serde(default)]
    pub partition: Vec<String>,
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// The rows of each data file.
    #[serde(default)]
    pub files: Vec<Rows>,
}

/// One change, which is made in one commit.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    Create(NewTable),
    Append(Rows),
    Overwrite(Rows),
    OverwritePartitions(Rows),
    /// Deletes the rows with these column values.
    Delete(Map<String, Value>),
    /// Updates rows, and adds rows in the same commit.
    Update {
        rows: Map<String, Value>,
        set: Map<String, Value>,
        #[serde(default)]
        add: Rows,
    },
    /// Adds columns. In this and the following variants, a name with dots refers to a nested
    /// column.
    AddColumns(Columns),
    /// Renames columns.
    Rename(BTreeMap<String, String>),
    DropColumn(String),
    /// Widens the types of columns.
    Widen(BTreeMap<String, String>),
    Set(BTreeMap<String, String>),
    /// Changes the partition spec, for rows that are written later.
    Partition(Vec<String>),
    /// Changes the sort order, for rows that are written later.
    Sort(Vec<String>),
    /// Compacts each partition into one file without delete files.
    Compact,
    Replace(NewTable),
    Drop,
    /// Renames the table.
    RenameTable(String),
    /// Imports a file with this name and content.
    Import {
        file: String,
        text: String,
    },
    /// Merges the other branch into this branch.
    Merge,
    /// Merges the other branch into this branch, and resolves conflicts by taking the table of the
    /// given side.
    MergeTaking(MergeChoice),
    /// Cherry-picks a commit of the other branch, given by the number of commits between it and the
    /// head.
    Pick(usize),
    /// Reverts a commit of this branch, given by the number of commits between it and the head.
    Undo(usize),
    /// Merges each branch into the other. Both merges use the heads before the step (a criss-cross
    /// merge).
    Crosswise,
    /// Executes steps on the other branch.
    Other(Vec<Step>),
    /// Repeats steps.
    Repeat(usize, Vec<Step>),
}

pub fn schema_of(columns: &Columns) -> SchemaRef {
    let fields = columns.iter().flatten().map(|(name, text)| field_of(name, text));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Parses a column type. `!` marks a required column, and the default follows `=` as JSON.
fn field_of(name: &str, text: &str) -> Field {
    let (text, default) = match text.split_once(" = ") {
        Some((text, default)) => (text, Some(default.to_owned())),
        None => (text, None),
    };
    let nullable = !text.ends_with('!');
    let field = Field::new(name, parse_type(text.trim_end_matches('!')).unwrap(), nullable);
    let keys = [INITIAL_DEFAULT, WRITE_DEFAULT].into_iter().zip(default.iter().cycle());
    let metadata = keys.map(|(key, default)| (key.to_owned(), default.clone())).collect();
    field.with_metadata(metadata)
}

fn path_of(column: &str) -> Vec<String> {
    column.split('.').map(str::to_owned).collect()
}

/// Returns rows as maps that omit nulls.
pub fn maps(schema: &Schema, rows: &[Value]) -> Vec<Value> {
    let map = |row: &Value| {
        let pairs: Map<String, Value> = match row {
            Value::Array(values) => {
                let names = schema.fields().iter().map(|field| field.name().clone());
                names.zip(values.iter().cloned()).collect()
            }
            Value::Object(map) => map.clone(),
            other => panic!("{other} is not a row"),
        };
        Value::Object(pairs.into_iter().filter(|(_, value)| !value.is_null()).collect())
    };
    rows.iter().map(map).collect()
}

/// Returns rows as sorted strings with sorted keys at all levels, for comparison.
pub fn sorted(rows: Vec<Value>) -> Vec<String> {
    let text = |mut row: Value| {
        row.sort_all_objects();
        row.to_string()
    };
    let mut rows: Vec<String> = rows.into_iter().map(text).collect();
    rows.sort();
    rows
}

fn batch_of(schema: &SchemaRef, rows: &[Value]) -> RecordBatch {
    let rows = maps(schema, rows);
    let mut decoder = arrow::json::ReaderBuilder::new(schema.clone())
        .with_batch_size(rows.len().max(1))
        .build_decoder()
        .unwrap();
    decoder.serialize(&rows).unwrap();
    decoder.flush().unwrap().unwrap_or_else(|| RecordBatch::new_empty(schema.clone()))
}

/// Returns true if a row has these column values. For an expected list, the row must have one of
/// its elements.
fn is_among(row: &Value, wanted: &Map<String, Value>) -> bool {
    wanted.iter().all(|(column, value)| match value {
        Value::Array(values) => values.contains(&row[column]),
        value => row[column] == *value,
    })
}

/// Executes a step on a branch.
pub async fn make(lake: &Fixture, branch: &str, other: &str, table: &TableName, step: &Step) {
    match step {
        Step::Other(steps) => {
            for step in steps {
                Box::pin(make(lake, other, branch, table, step)).await;
            }
            return;
        }
        Step::Repeat(times, steps) => {
            for step in std::iter::repeat_n(steps, *times).flatten() {
                Box::pin(make(lake, branch, other, table, step)).await;
            }
            return;
        }
        Step::Crosswise => {
            let catalog = lake.lake.catalog();
            let heads = [branch, other].map(|name| catalog.branch(name));
            let heads = futures::future::try_join_all(heads).await.unwrap();
            for (target, source) in [(branch, &heads[1]), (other, &heads[0])] {
                let source = format!("@{}", source.commit).parse().unwrap();
                let report = lake.lake.merge(target, MergeRequest::new(source), "eva").await;
                assert_eq!(report.unwrap().conflicts, []);
            }
            return;
        }
        Step::Pick(before) => {
            let request = json!({"commit": format!("{other}~{before}")});
            let request = serde_json::from_value(request).unwrap();
            let report = lake.lake.cherry_pick(branch, request, "eva").await.unwrap();
            assert!(report.conflicts.is_empty(), "{report:?}");
            return;
        }
        Step::Undo(before) => {
            let commit = Some(format!("{branch}~{before}").parse().unwrap());
            let request = RevertRequest { commit, ..RevertRequest::default() };
            let report = lake.lake.revert(branch, request, "eva").await.unwrap();
            assert!(report.conflicts.is_empty(), "{report:?}");
            return;
        }
        Step::MergeTaking(choice) => {
            let choices = [(table.clone(), *choice)].into();
            let request = MergeRequest { choices, ..MergeRequest::new(other.parse().unwrap()) };
            let report = lake.lake.merge(branch, request, "eva").await.unwrap();
            assert_eq!(report.merged.len(), 1, "{report:?}");
            assert!(!report.merged[0].causes.is_empty(), "{report:?}");
            return;
        }
        Step::Import { file, text } => {
            lake.file(file, text);
            let mut request = lake.request(&table.to_string(), &[file]);
            request.reference = Some(branch.parse().unwrap());
            lake.import(&request).await.unwrap();
            return;
        }
        Step::Merge => {
            let request = MergeRequest::new(other.parse().unwrap());
            let report = lake.lake.merge(branch, request, "eva").await.unwrap();
            assert!(report.conflicts.is_empty(), "{report:?}");
            return;
        }
        _ => {}
    }
    let mut change = lake.lake.transaction(branch, "eva").await.unwrap();
    match step {
        Step::Create(new) => {
            let partition = new.partition.iter().map(|field| field.parse().unwrap()).collect();
            let schema = schema_of(&new.columns);
            let mut properties = new.properties.clone();
            properties.insert("format-version".to_owned(), lake.version.to_owned());
            change.create(table, schema.clone(), partition, properties).await.unwrap();
            for file in &new.files {
                change.append(table, rows_of(batch_of(&schema, file))).await.unwrap();
            }
        }
        Step::Replace(new) => {
            let partition = new.partition.iter().map(|field| field.parse().unwrap()).collect();
            let schema = schema_of(&new.columns);
            let rows = rows_of(batch_of(&schema, &new.files.concat()));
            change.replace(table, schema, partition, rows).await.unwrap();
        }
        Step::Append(rows) => {
            let schema = change.table(table).await.unwrap().schema();
            change.append(table, rows_of(batch_of(&schema, rows))).await.unwrap();
        }
        Step::Overwrite(rows) => {
            let schema = change.table(table).await.unwrap().schema();
            change.overwrite(table, rows_of(batch_of(&schema, rows))).await.unwrap();
        }
        Step::OverwritePartitions(rows) => {
            let schema = change.table(table).await.unwrap().schema();
            let rows = rows_of(batch_of(&schema, rows));
            change.overwrite_partitions(table, rows).await.unwrap();
        }
        Step::Delete(wanted) => rewrite(lake, &mut change, table, wanted, None, &[]).await,
        Step::Update { rows, set, add } => {
            rewrite(lake, &mut change, table, rows, Some(set), add).await;
        }
        Step::AddColumns(columns) => {
            let add = |(name, text): (&String, &String)| {
                let mut within = path_of(name);
                let column = field_of(&within.pop().unwrap(), text);
                Alteration::AddColumn { within, column, place: None, if_not_exists: false }
            };
            change.alter(table, columns.iter().flatten().map(add).collect()).await.unwrap();
        }
        Step::Rename(columns) => {
            let rename = |(column, name): (&String, &String)| Alteration::RenameColumn {
                column: path_of(column),
                name: name.clone(),
            };
            change.alter(table, columns.iter().map(rename).collect()).await.unwrap();
        }
        Step::DropColumn(column) => {
            let column = path_of(column);
            let drop = Alteration::DropColumn { column, if_exists: false };
            change.alter(table, vec![drop]).await.unwrap();
        }
        Step::Widen(columns) => {
            let widen = |(column, text): (&String, &String)| Alteration::WidenColumn {
                column: path_of(column),
                data_type: field_of(column, text),
            };
            change.alter(table, columns.iter().map(widen).collect()).await.unwrap();
        }
        Step::Set(properties) => change.set_properties(table, properties.clone()).await.unwrap(),
        Step::Partition(fields) => {
            let now = change.table(table).await.unwrap().partition();
            let drops =
                now.into_iter().map(|field| Alteration::DropPart(PartitionFieldRef::Field(field)));
            let adds = fields
                .iter()
                .map(|field| Alteration::AddPart { field: field.parse().unwrap(), name: None });
            change.alter(table, drops.chain(adds).collect()).await.unwrap();
        }
        Step::Sort(columns) => {
            let key = |name: &String| SortColumn {
                name: name.clone(),
                descending: false,
                nulls_first: true,
            };
            let by = Alteration::SortBy(columns.iter().map(key).collect());
            change.alter(table, vec![by]).await.unwrap();
        }
        Step::Compact => compact(lake, &mut change, table).await,
        Step::Drop => change.drop(table, false).await.unwrap(),
        Step::RenameTable(to) => change.rename(table, &name(to)).await.unwrap(),
        _ => unreachable!("made above"),
    }
    change.commit("a step").await.unwrap();
}

async fn read(lake: &Fixture, table: &Table, files: &[Arc<DataFile>]) -> Vec<RecordBatch> {
    let rows = lake.lake.tables().read(table, files, None, None).unwrap();
    rows.try_collect().await.unwrap()
}

/// Removes or changes rows: rewrites every file that contains such rows, or writes a delete file
/// for the file.
async fn rewrite(
    lake: &Fixture,
    change: &mut Transaction,
    name: &TableName,
    wanted: &Map<String, Value>,
    set: Option<&Map<String, Value>>,
    add: &[Value],
) {
    let table = change.table(name).await.unwrap();
    let seen = lake.lake.tables().plan(&table, None).await.unwrap();
    let (mut removed, mut deletes) = (Vec::new(), Vec::new());
    let mut written = maps(&table.schema(), add);
    for file in seen.files().iter() {
        let rows = json_rows(&read(lake, &table, std::slice::from_ref(file)).await).unwrap();
        if !rows.iter().any(|row| is_among(row, wanted)) {
            continue;
        }
        let thin = lake.on_read && !rows.iter().all(|row| is_among(row, wanted));
        if thin {
            let gone =
                lake.lake.tables().deletes().deleted(file).await.unwrap().unwrap_or_default();
            let live = (0..file.rows).filter(|row| !gone.contains(*row)).zip(&rows);
            let going = live.filter(|(_, row)| is_among(row, wanted)).map(|(place, _)| place);
            deletes.push((file.clone(), going.collect::<Positions>()));
        } else {
            removed.push(file.clone());
        }
        for mut row in rows {
            if !is_among(&row, wanted) {
                if !thin {
                    written.push(row);
                }
            } else if let Some(set) = set {
                row.as_object_mut().unwrap().extend(set.clone());
                written.push(row);
            }
        }
    }
    let rows = rows_of(batch_of(&table.schema(), &written));
    let mut staged = change.write_rows(name, rows).await.unwrap();
    if !deletes.is_empty() {
        staged = staged.and(change.write_deletes(name, deletes).await.unwrap());
    }
    let rewrite = RowRewrite { seen, removed, staged, unseen: None };
    change.rewrite(name, rewrite).await.unwrap();
}

async fn compact(lake: &Fixture, change: &mut Transaction, name: &TableName) {
    let table = change.table(name).await.unwrap();
    let plan = lake.lake.tables().plan(&table, None).await.unwrap();
    let partitions: HashSet<&str> = plan.files().iter().map(|f| f.partition.as_str()).collect();
    let mut removed = Vec::new();
    let mut batches = Vec::new();
    for partition in partitions {
        let files = plan.files().iter().filter(|file| file.partition == partition);
        let files: Vec<_> = files.cloned().collect();
        if files.len() > 1 || files.iter().any(|file| file.has_deletes()) {
            let rows = lake.lake.tables().rewrites().read(&table, &files).unwrap();
            batches.extend(rows.try_collect::<Vec<_>>().await.unwrap());
            removed.extend(files);
        }
    }
    let rows = concat_batches(&lake.lake.tables().rewrites().schema(&table), &batches).unwrap();
    change.compact(name, removed, rows_of(rows)).await.unwrap();
}
