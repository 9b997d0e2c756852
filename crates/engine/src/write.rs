//! Statements that write: each is one lake transaction, and so one commit or nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::{Field, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, TableSource};
use datafusion::sql::sqlparser::ast::{
    self as ast, Ident, Insert, ObjectName, ObjectNamePart, Query, SetExpr, Statement, TableObject,
};
use futures::StreamExt;
use headwater_catalog::TableEntry;
use headwater_lake::{Transaction, View};
use headwater_model::{Commit, Fault, RefSpec, SYSTEM_NAMESPACE, TableName, name, nearest};
use headwater_tables::{Alteration, OWN, unsaying, without_nanoseconds};
use parking_lot::Mutex;

use crate::answer::{Answer, Metrics};
use crate::create;
use crate::defaults::{NewRowsTable, defaults_of, written};
use crate::drive::Running;
use crate::error::{Error, Result, SqlError};
use crate::into_column::marked;
use crate::output;
use crate::planner::{self, Sources};
use crate::planning_error::Limits;
use crate::relations::Lookup;
use crate::scan::{bare_schema, plain_batch, plain_schema};
use crate::session::{Session, plan_statement};
use headwater_sql::alter::WrittenKey;
use headwater_sql::change::is_default;
use headwater_sql::clauses::spell;
use headwater_sql::names::{Match, find};
use headwater_sql::new_rows::NewRows;
use headwater_sql::new_table::NewTable;
use headwater_sql::resolve::{FoundTable, resolve};
use headwater_sql::scope::column;
use headwater_sql::table_name::{WrittenTable, namespace_of, position, span_start};
use headwater_sql::tables::Mention;
use headwater_sql::values::parts;

/// The first error of a stream of rows, kept while it goes through the rooms below.
pub(crate) type Kept = Arc<Mutex<Option<Error>>>;

impl Session {
    /// CREATE TABLE, with columns or AS a query.
    pub(crate) async fn create_table(&self, new: NewTable) -> Result<Answer> {
        let NewTable { name, or_replace, if_not_exists, columns, partition, source, .. } = new;
        let NewTable { sort, properties, .. } = new;
        let mut transaction = self.transaction().await?;
        let view = self.view_to_read(&transaction);
        let (table, entry) = self.view_target(&name, &view).await?;
        let exists = entry.is_some();
        let run = self.run();
        let metrics = Arc::clone(&run.metrics);
        if entry.is_some_and(|entry| entry.is_view()) {
            return Err(Error::AlreadyExists { what: "view", name: table.to_string() });
        }
        if exists && if_not_exists {
            return output::of_write(0, None, metrics);
        }
        if exists && !or_replace {
            return Err(Error::AlreadyExists { what: "table", name: table.to_string() });
        }
        let limits = run.limits;
        if let Some(source) = source {
            let query = source.query().clone();
            let (plan, names) = self.plan(&run, source, &view).await?;
            let mut fine = create::gives_nanoseconds(&query, &plan);
            let running = self.start(run, plan).await?;
            let mut schema = nullable(&output::renamed(&names, &plain_schema(&running.schema)));
            distinct_names(&schema)?;
            if fine {
                let known = if exists { Some(transaction.table(&table).await?) } else { None };
                let known = known.map(|table| table.format_version().to_string());
                let version = properties.get("format-version").or(known.as_ref());
                fine = version.is_some_and(|version| version == "3");
            }
            if !fine {
                schema = without_nanoseconds(&schema).into();
            }
            let partition = create::partition(partition, &schema)?;
            let (rows, kept) = rows(running, SchemaRef::clone(&schema), limits);
            let layout = layout(sort);
            let written = if exists {
                // What columns may be depends on the version of the format, which is a property.
                match lay_out(&mut transaction, &table, set(&properties)).await {
                    Ok(()) => match transaction.replace(&table, schema, partition, rows).await {
                        Ok(()) => lay_out(&mut transaction, &table, layout).await,
                        Err(error) => Err(error),
                    },
                    Err(error) => Err(error),
                }
            } else {
                let made = match transaction.create(&table, schema, partition, properties).await {
                    Ok(()) => lay_out(&mut transaction, &table, layout).await,
                    Err(error) => Err(error),
                };
                match made {
                    Ok(()) => transaction.append(&table, rows).await,
                    Err(error) => Err(error),
                }
            };
            written.map_err(|error| first(&kept, error))?;
        } else {
            let layout = layout(sort);
            let schema = create::schema(&run.state, columns, limits)?;
            let partition = create::partition(partition, &schema)?;
            if exists {
                let none = futures::stream::empty().boxed();
                lay_out(&mut transaction, &table, set(&properties)).await?;
                transaction.replace(&table, schema, partition, none).await?;
            } else {
                transaction.create(&table, schema, partition, properties).await?;
            }
            lay_out(&mut transaction, &table, layout).await?;
        }
        let verb = if exists { "replace" } else { "create" };
        self.finish(transaction, &format!("{verb} table {table}"), &metrics).await
    }

    /// INSERT INTO.
    pub(crate) async fn insert(&self, new: NewRows) -> Result<Answer> {
        let NewRows { table, mut columns, overwrite, source, statement } = new;
        let (mut query, mentions) = source.into_parts(&planner::version_constant)?;
        let mut transaction = self.transaction().await?;
        let view = self.view_to_read(&transaction);
        let written = self.written(&table)?;
        let run = self.run();
        let metrics = Arc::clone(&run.metrics);
        let limits = run.limits;
        // The target is a table of the lake on the branch, whatever is registered or pinned.
        let head = transaction.view().clone();
        let mut target = Lookup::of_lake(self, &head);
        target.add(&Mention { table: written.clone(), position: position(&table) }).await?;
        let (found, target_sources) = target.finish();
        let Some(found) = found.get(&written).cloned() else {
            return Err(Error::Internal { message: format!("`{written}` was not looked up") });
        };
        spell_columns(&mut columns, &found)?;
        let mut lookup = Lookup::new(self, &view);
        lookup.add_all(&mentions).await?;
        metrics.reads(lookup.held());
        let (tables, mut sources) = lookup.finish();
        let into = NewRowsInto::of(&found, target_sources, columns)?;
        into.shape(&mut query)?;
        let state = run.state.clone();
        let plan = self
            .compute(move || {
                let (key, source) = into.source();
                sources.insert(key, source);
                let plan = |query: Query| {
                    into.plan(
                        query.into(),
                        statement.clone(),
                        (&tables, &sources),
                        (&state, limits),
                    )
                };
                let plans = parts(*query)?.into_iter().map(plan).collect::<Result<Vec<_>>>()?;
                planner::all_of(plans).map_err(|error| limits.explain(&error))
            })
            .await?;
        let running = self.start(run, plan).await?;
        let schema = plain_schema(&running.schema);
        let (rows, kept) = rows(running, schema, limits);
        let table = TableName { namespace: found.namespace, name: found.name };
        let (written, message) = if overwrite {
            let whole = !transaction.table(&table).await?.is_partitioned();
            let written = if whole {
                transaction.overwrite(&table, rows).await
            } else {
                transaction.overwrite_partitions(&table, rows).await
            };
            (written, format!("insert overwrite {table}"))
        } else {
            (transaction.append_rows(&table, rows).await, format!("insert into {table}"))
        };
        written.map_err(|error| first(&kept, error))?;
        self.finish(transaction, &message, &metrics).await
    }

    /// DROP TABLE.
    pub(crate) async fn drop_tables(
        &self,
        names: &[ObjectName],
        if_exists: bool,
    ) -> Result<Answer> {
        let mut transaction = self.transaction().await?;
        let view = transaction.view().clone();
        let mut dropped = Vec::new();
        for name in names {
            let (table, exists) = self.target(name, &view).await.map_err(drop_it_as_view)?;
            if exists {
                transaction.drop(&table, if_exists).await?;
                dropped.push(table.to_string());
            } else if !if_exists {
                return Err(self.no_such_table(name, &table, &view).await?);
            }
        }
        let metrics = self.run().metrics;
        self.finish(transaction, &format!("drop table {}", dropped.join(", ")), &metrics).await
    }

    /// CREATE SCHEMA.
    pub(crate) async fn create_namespace(
        &self,
        name: &ObjectName,
        if_not_exists: bool,
    ) -> Result<Answer> {
        let mut transaction = self.transaction().await?;
        let metrics = self.run().metrics;
        let name = namespace_of(name)?;
        let known = spelled_namespace(transaction.view(), &name).await?;
        match known {
            Some(_) if if_not_exists => return output::of_write(0, None, metrics),
            Some(name) => return Err(Error::AlreadyExists { what: "namespace", name }),
            None => {
                let name = new_namespace(transaction.view(), name.clone()).await?;
                transaction.create_namespace(&name, BTreeMap::new());
            }
        }
        self.finish(transaction, &format!("create schema {name}"), &metrics).await
    }

    /// DROP SCHEMA.
    pub(crate) async fn drop_namespaces(
        &self,
        names: &[ObjectName],
        if_exists: bool,
    ) -> Result<Answer> {
        let mut transaction = self.transaction().await?;
        let mut dropped = Vec::new();
        for written in names {
            let name = namespace_of(written)?;
            match spelled_namespace(transaction.view(), &name).await? {
                Some(spelled) => {
                    transaction.drop_namespace(&spelled);
                    dropped.push(spelled);
                }
                None if if_exists => {}
                None => {
                    let namespaces = transaction.view().namespaces().await?;
                    return Err(Error::NamespaceNotFound {
                        near: nearest(&name, namespaces.iter().map(|known| known.name.as_str())),
                        namespace: name,
                        reference: self.options.reference.to_string(),
                        position: position(written),
                    });
                }
            }
        }
        let metrics = self.run().metrics;
        self.finish(transaction, &format!("drop schema {}", dropped.join(", ")), &metrics).await
    }

    /// Begins a change of the session's branch; refused where the ref is none, or is protected.
    pub(crate) async fn transaction(&self) -> Result<Transaction> {
        let reference = &self.options.reference;
        let not_a_branch = || Error::NotABranch { reference: reference.to_string() };
        let lake = self.engine.lake();
        let RefSpec::Name(_) = reference else {
            return Err(not_a_branch());
        };
        let resolved = lake.catalog().resolve(reference).await?;
        let branch = resolved.branch.ok_or_else(not_a_branch)?;
        if lake.catalog().branch(&branch).await?.protected {
            return Err(Error::Protected { branch });
        }
        let mut transaction = lake.transaction(&branch, &self.options.author).await?;
        for (key, value) in &self.options.properties {
            transaction.property(key, value);
        }
        for (key, value) in &self.options.snapshot_properties {
            transaction.snapshot_property(key, value);
        }
        Ok(transaction)
    }

    /// What the statement's query reads: the pinned state, or the branch as the transaction began.
    pub(crate) fn view_to_read(&self, transaction: &Transaction) -> View {
        self.options.view.clone().unwrap_or_else(|| transaction.view().clone())
    }

    async fn finish(
        &self,
        transaction: Transaction,
        message: &str,
        metrics: &Arc<Metrics>,
    ) -> Result<Answer> {
        let rows = transaction.written().rows_written;
        self.finish_with(transaction, message, rows, metrics).await
    }

    /// Commits a change that concerns this many rows.
    pub(crate) async fn finish_with(
        &self,
        transaction: Transaction,
        message: &str,
        rows: u64,
        metrics: &Arc<Metrics>,
    ) -> Result<Answer> {
        let written = transaction.written();
        metrics.wrote(written.rows_written, written.bytes_written);
        let commit: Option<Commit> = transaction.commit(message).await?;
        output::of_write(rows, commit, Arc::clone(metrics))
    }

    /// The name of a table to write to, checked.
    fn written(&self, name: &ObjectName) -> Result<WrittenTable> {
        let mut written = WrittenTable::of(name)?;
        if !written.is_here() {
            return Err(Error::Sql(SqlError::Unsupported {
                what: format!("writing to `{written}`"),
                hint: Some("Run the statement on that branch instead.".to_owned()),
                position: position(name),
            }));
        }
        let namespace = written.namespace.take();
        let namespace = namespace.unwrap_or_else(|| self.options.namespace.clone());
        if name::is_system(&namespace) {
            return Err(Error::Sql(SqlError::Unsupported {
                what: format!("writing to the namespace `{SYSTEM_NAMESPACE}`"),
                hint: None,
                position: position(name),
            }));
        }
        written.namespace = Some(namespace);
        Ok(written)
    }

    /// The table that a name to write to means, spelled as it is where it exists.
    pub(crate) async fn target(&self, name: &ObjectName, view: &View) -> Result<(TableName, bool)> {
        match self.view_target(name, view).await? {
            (view, Some(entry)) if entry.is_view() => {
                Err(headwater_lake::Error::IsView { view }.into())
            }
            (table, entry) => Ok((table, entry.is_some())),
        }
    }

    /// The table, or view, that a name to write to means, spelled as it is where it exists.
    pub(crate) async fn view_target(
        &self,
        name: &ObjectName,
        view: &View,
    ) -> Result<(TableName, Option<TableEntry>)> {
        let written = self.written(name)?;
        let namespace = written.namespace.unwrap_or_default();
        let Some(namespace) = spelled_namespace(view, &namespace).await? else {
            let namespaces = view.namespaces().await?;
            return Err(Error::NamespaceNotFound {
                near: nearest(&namespace, namespaces.iter().map(|known| known.name.as_str())),
                namespace,
                reference: view.spec().to_string(),
                position: position(name),
            });
        };
        match view.state().find(&namespace, &written.name).await? {
            Some((table, entry)) => Ok((table, Some(entry))),
            None => Ok((TableName::new(namespace, written.name)?, None)),
        }
    }

    pub(crate) async fn no_such_table(
        &self,
        name: &ObjectName,
        table: &TableName,
        view: &View,
    ) -> Result<Error> {
        let tables = view.list(Some(&table.namespace)).await?;
        let names = tables.iter().map(|(name, _)| name.name.as_str());
        Ok(Error::TableNotFound {
            table: table.to_string(),
            reference: view.spec().to_string(),
            near: nearest(&table.name, names).map(|near| {
                let namespace = table.namespace.clone();
                if namespace == self.options.namespace {
                    near
                } else {
                    format!("{namespace}.{near}")
                }
            }),
            position: position(name),
        })
    }
}

/// The columns that new rows go to.
struct NewRowsInto {
    name: [String; 2],
    /// The table as it is spelled.
    table: String,
    schema: SchemaRef,
    /// The columns that are listed, spelled as they are; none where they are not.
    listed: Vec<String>,
    /// What columns are that are not, where that is not null.
    defaults: HashMap<String, Expr>,
}

impl NewRowsInto {
    fn of(found: &FoundTable, sources: Sources, columns: Vec<Ident>) -> Result<Self> {
        let lost = || Error::Internal { message: format!("`{}` was lost", found.name) };
        let source = sources.into_values().next().ok_or_else(lost)?;
        let listed: Vec<String> = columns.iter().map(|column| column.value.clone()).collect();
        for (index, column) in columns.iter().enumerate() {
            if listed[..index].contains(&column.value) {
                return Err(Error::Sql(SqlError::Invalid {
                    message: format!("there are two columns named `{}`", column.value),
                    hint: None,
                    position: span_start(column.span),
                }));
            }
        }
        let name = [["into ", &found.namespace].concat(), found.label.clone()];
        let defaults = defaults_of(&source.schema())?;
        let (table, schema) = (found.name.clone(), bare_schema(&source.schema()));
        Ok(NewRowsInto { name, table, schema, listed, defaults })
    }

    /// The columns that values are given for, in their order.
    fn columns(&self) -> Vec<Field> {
        match self.listed.as_slice() {
            [] => self.schema.fields().iter().map(|field| field.as_ref().clone()).collect(),
            listed => {
                let field = |name: &String| self.schema.field_with_name(name).cloned();
                listed.iter().flat_map(field).collect()
            }
        }
    }

    /// That each of these columns has its value.
    fn check_width(&self, given: usize, who: &str) -> Result<()> {
        let listed = self.listed.len();
        let width = if listed == 0 { self.schema.fields().len() } else { listed };
        if given == width {
            return Ok(());
        }
        let count = |count, what| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let (given, width) = (count(given, "value"), count(width, "column"));
        let message = if listed == 0 {
            format!("{who} {given} for the {width} of `{}`", self.table)
        } else {
            format!("{who} {given} for the {width} that the statement lists")
        };
        let hint =
            "Give each row a value for each column, or list the columns: INSERT INTO t (a, b) …";
        Err(Error::Sql(SqlError::Invalid { message, hint: Some(hint.to_owned()), position: None }))
    }

    /// The table as the planner finds it. Only its columns matter, as the types of the rows.
    fn source(&self) -> ((String, String), Arc<dyn TableSource>) {
        let [namespace, label] = self.name.clone();
        let table = NewRowsTable::new(SchemaRef::clone(&self.schema), self.defaults.clone());
        ((namespace, label), provider_as_source(Arc::new(table)))
    }

    /// Bare values as the columns are to have them: one for each, and what DEFAULT is.
    fn shape(&self, query: &mut Query) -> Result<()> {
        let SetExpr::Values(values) = &mut *query.body else { return Ok(()) };
        let (columns, several) = (self.columns(), values.rows.len() > 1);
        for (index, row) in values.rows.iter_mut().enumerate() {
            let who =
                if several { format!("row {} gives", index + 1) } else { "the row gives".into() };
            self.check_width(row.content.len(), &who)?;
            for (value, column) in row.content.iter_mut().zip(&columns) {
                let given = std::mem::replace(value, ast::Expr::value(ast::Value::Null));
                *value = match self.defaults.get(column.name()) {
                    Some(default) if is_default(&given) => written(default)?,
                    None if is_default(&given) => continue,
                    _ => marked(given, column.data_type()),
                };
            }
        }
        Ok(())
    }

    /// Plans rows, with all columns of the table in its types.
    fn plan(
        &self,
        mut query: Box<Query>,
        mut insert: Insert,
        (tables, sources): (&HashMap<WrittenTable, FoundTable>, &Sources),
        (state, limits): (&SessionState, Limits),
    ) -> Result<LogicalPlan> {
        resolve(&mut query, tables, &|name| planner::is_scalar(state, name))?;
        let plan = if matches!(*query.body, SetExpr::Values(_)) {
            // DataFusion types bare values by the columns that they go to. It does the same to VALUES deep
            // inside a query, where that is wrong.
            self.complete(&mut insert, query);
            let plan = plan_statement(state, sources, Statement::Insert(insert), limits)?;
            planner::rows_of(plan, &self.columns(), &self.table)
        } else {
            let plan = plan_statement(state, sources, Statement::Query(query), limits)?;
            self.check_width(plan.schema().fields().len(), "the query gives")?;
            let to = (self.table.as_str(), self.schema.as_ref());
            planner::cast_rows(plan, to, &self.listed, &self.defaults)
        };
        plan.map_err(|error| limits.explain(&error))
    }

    /// Makes a whole INSERT of bare values.
    fn complete(&self, insert: &mut Insert, query: Box<Query>) {
        let quoted = |value: &String| Ident::with_quote('"', value);
        let name = ObjectName::from(self.name.iter().map(quoted).collect::<Vec<_>>());
        insert.table = TableObject::TableName(name);
        let column = |name: &String| ObjectName(vec![ObjectNamePart::Identifier(quoted(name))]);
        insert.columns = self.listed.iter().map(column).collect();
        insert.source = Some(query);
    }
}

/// What to write to drop what turned out to be a view.
fn drop_it_as_view(error: Error) -> Error {
    match &error {
        Error::Lake(headwater_lake::Error::IsView { view }) => {
            Error::Problem(error.to_problem().with_hint(format!("Write DROP VIEW {view}.")))
        }
        _ => error,
    }
}

/// A namespace as it is spelled; none where it is not there.
async fn spelled_namespace(view: &View, written: &str) -> Result<Option<String>> {
    let namespaces = view.namespaces().await?;
    match find(written, namespaces.iter().map(|known| known.name.as_str())) {
        Match::One(name) => Ok(Some(name.to_owned())),
        Match::None => Ok(None),
        Match::Many(candidates) => Err(Error::Sql(SqlError::Ambiguous {
            name: written.to_owned(),
            candidates: candidates.into_iter().map(str::to_owned).collect(),
            position: None,
        })),
    }
}

/// A new namespace, with its outer ones spelled as they are where they exist.
async fn new_namespace(view: &View, written: String) -> Result<String> {
    name::check_namespace(&written)?;
    let mut outer = name::parent(&written);
    while let Some(known) = outer {
        if let Some(spelled) = spelled_namespace(view, known).await? {
            return Ok(format!("{spelled}{}", &written[known.len()..]));
        }
        outer = name::parent(known);
    }
    Ok(written)
}

fn spell_columns(columns: &mut [Ident], table: &FoundTable) -> Result<()> {
    for written in columns {
        let names = table.columns.iter().map(String::as_str);
        let at = span_start(written.span);
        let spelling = column(&written.value, names, &[&table.label], at)?;
        spell(written, spelling);
    }
    Ok(())
}

/// The columns of CREATE TABLE AS take nulls, even where this query gives none: the next may.
pub(crate) fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter();
    // What is said of a column is said of the one that it was selected from.
    let fields: Fields = fields.map(|field| unsaying(field, &OWN).with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

/// What is to be changed of a table once it is made: the order of its rows.
fn layout(sort: Vec<WrittenKey>) -> Vec<Alteration> {
    if sort.is_empty() { Vec::new() } else { vec![Alteration::SortBy(create::sort(sort))] }
}

/// What is to be changed of a table that was there before: its properties.
fn set(properties: &BTreeMap<String, String>) -> Vec<Alteration> {
    if properties.is_empty() {
        return Vec::new();
    }
    let set = properties.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
    vec![Alteration::SetProperties(set.collect())]
}

async fn lay_out(
    transaction: &mut Transaction,
    table: &TableName,
    layout: Vec<Alteration>,
) -> headwater_lake::Result<()> {
    if layout.is_empty() { Ok(()) } else { transaction.alter(table, layout).await }
}

/// Refuses columns that a table could not tell apart.
pub(crate) fn distinct_names(schema: &SchemaRef) -> Result<()> {
    for (index, field) in schema.fields().iter().enumerate() {
        if schema.fields()[..index].iter().any(|other| other.name() == field.name()) {
            return Err(Error::Sql(SqlError::Invalid {
                message: format!("there are two columns named `{}`", field.name()),
                hint: Some("Give one of them another name with AS.".to_owned()),
                position: None,
            }));
        }
    }
    Ok(())
}

/// A running plan as rows of a schema to write. What goes wrong in it is kept as it is.
pub(crate) fn rows(
    running: Running,
    schema: SchemaRef,
    limits: Limits,
) -> (headwater_lake::BatchStream, Kept) {
    let kept = Kept::default();
    let keep = Arc::clone(&kept);
    let rows = running.stream.map(move |batch| {
        let batch = batch.and_then(|batch| Ok(plain_batch(&batch, &schema)?));
        batch.map_err(|error| {
            let error = limits.explain(&error);
            let problem = error.to_problem();
            keep.lock().get_or_insert(error);
            ArrowError::ExternalError(Box::new(problem))
        })
    });
    (rows.boxed(), kept)
}

/// The error that rows were lost to, where that is why the write failed.
pub(crate) fn first(kept: &Kept, error: headwater_lake::Error) -> Error {
    kept.lock().take().unwrap_or(Error::Lake(error))
}
