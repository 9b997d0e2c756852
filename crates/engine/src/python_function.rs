//! SQL functions in Python: CREATE FUNCTION, DROP FUNCTION and SHOW FUNCTIONS, and the lookup of
//! the functions that a query calls.
//!
//! A function is an object of the catalog, stored like a view, with its CREATE FUNCTION statement
//! as the text. A name without a namespace refers to a built-in function, or otherwise to a
//! function in the session's namespace. The functions in a view are looked up at the view's commit.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::execution::SessionState;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::sql::sqlparser::ast::{ObjectName, Query};
use headwater_catalog::TableEntry;
use headwater_lake::CommitView;
use headwater_model::{AccessObject, Action, ErrorCode, Problem, TableName, nearest};
use headwater_sql::function_statement::{CreateFunctionStatement, FunctionStatement};
use headwater_sql::name_match::equals_ignoring_case;
use headwater_sql::parse::parse;
use headwater_sql::statement::SupportedStatement;
use headwater_sql::table_name::{ParsedTableName, position};
use headwater_sql::{CalledFunction, called_functions};
use headwater_sql_functions::is_rewritten;
use headwater_sql_python::{FunctionDefinition, PythonRuntime, PythonUdf};
use headwater_table_scan::plain_schema;
use headwater_tables::ViewDefinition;

use crate::column_definitions;
use crate::error::{Error, Result, SqlError};
use crate::namespace::spelled_namespace;
use crate::plan_output;
use crate::planner;
use crate::session::{Session, StatementContext};
use crate::statement_result::StatementResult;
use crate::view::DIALECT;

impl Session {
    /// Runs CREATE FUNCTION, DROP FUNCTION or SHOW FUNCTIONS.
    pub(crate) async fn function_statement(
        &self,
        statement: FunctionStatement,
    ) -> Result<StatementResult> {
        match statement {
            FunctionStatement::Create(new) => self.create_function(*new).await,
            FunctionStatement::Drop { names, if_exists } => {
                self.drop_functions(&names, if_exists).await
            }
            FunctionStatement::Show(namespace) => self.show_functions(namespace).await,
        }
    }

    async fn create_function(&self, new: CreateFunctionStatement) -> Result<StatementResult> {
        let mut transaction = self.transaction().await?;
        let view = transaction.view().clone();
        let name = self.function_name(&new.name, &view).await?;
        let known = view.state().function(&name).await?;
        self.authorize(Action::Deploy, &object(&name, known.as_ref()))?;
        let exists = known.is_some();
        let metrics = self.run().metrics;
        let (or_replace, sql) = (new.or_replace, new.sql.clone());
        if exists && new.if_not_exists {
            return plan_output::of_write(0, None, metrics);
        }
        if exists && !or_replace {
            let name = display_name(&name);
            return Err(Error::AlreadyExists { what: "function", name });
        }
        let own = name.function().unwrap_or_default();
        if is_built_in(self.engine.template(), own) {
            return Err(Error::Sql(SqlError::Invalid {
                message: format!("`{own}` is the name of a built-in function"),
                hint: Some("Choose another name.".to_owned()),
                position: position(&new.name),
            }));
        }
        let function = self.definition(&name, new)?;
        self.python_runtime()?.check(&function).await?;
        let result = Field::new("value", function.returns.clone(), true);
        let definition = ViewDefinition {
            schema: Schema::new(vec![result]).into(),
            sql,
            dialect: DIALECT.to_owned(),
            namespace: name.namespace.clone(),
            engine: ("headwater".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        };
        transaction.views().create_function(&name, &definition, or_replace).await?;
        let verb = if exists { "replace" } else { "create" };
        let message = format!("{verb} function {}", display_name(&name));
        self.finish_with(transaction, &message, 0, &metrics).await
    }

    async fn drop_functions(
        &self,
        names: &[ObjectName],
        if_exists: bool,
    ) -> Result<StatementResult> {
        let mut transaction = self.transaction().await?;
        let view = transaction.view().clone();
        let mut dropped = Vec::new();
        for written in names {
            let name = self.function_name(written, &view).await?;
            let known = view.state().function(&name).await?;
            self.authorize(Action::Deploy, &object(&name, known.as_ref()))?;
            if transaction.views().drop_function(&name).await? {
                dropped.push(display_name(&name));
            } else if !if_exists {
                return Err(self.no_function(&name, &view).await?);
            }
        }
        let metrics = self.run().metrics;
        let message = format!("drop function {}", dropped.join(", "));
        self.finish_with(transaction, &message, 0, &metrics).await
    }

    async fn show_functions(&self, namespace: Option<String>) -> Result<StatementResult> {
        let view = self.view().await?;
        let mut rows: [Vec<Option<String>>; 4] = Default::default();
        for (name, entry) in view.state().functions().await? {
            let is_wanted = namespace
                .as_ref()
                .is_none_or(|wanted| equals_ignoring_case(wanted, &name.namespace));
            if !is_wanted || !self.lists(Action::Invoke, &entry.object(&name)) {
                continue;
            }
            // If this version of Headwater cannot parse the stored statement of the function, show
            // the function without types.
            let function = parsed(&name, &stored_text(&view, &entry).await?).ok();
            let parameters = function.as_ref().map(|function| {
                function.parameters.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            });
            rows[2].push(parameters);
            rows[3].push(function.map(|function| function.returns.data_type.to_string()));
            rows[1].push(name.function().map(str::to_owned));
            rows[0].push(Some(name.namespace));
        }
        let columns = ["namespace", "function", "parameters", "returns"];
        let fields = columns.map(|column| Field::new(column, DataType::Utf8, true));
        let values = rows.map(|values| Arc::new(StringArray::from(values)) as ArrayRef);
        let batch = RecordBatch::try_new(Schema::new(fields.to_vec()).into(), values.to_vec());
        let batch = batch.map_err(headwater_lake::Error::from)?;
        Ok(plan_output::of_batch(batch, self.run().metrics))
    }

    /// Returns the catalog name of the function that a CREATE or DROP statement names.
    async fn function_name(&self, written: &ObjectName, view: &CommitView) -> Result<TableName> {
        let ParsedTableName { namespace, name, .. } = self.written(written)?;
        let is_quoted = written.0.last().and_then(|part| part.as_ident());
        let is_quoted = is_quoted.is_some_and(|ident| ident.quote_style.is_some());
        let name = if is_quoted { name } else { name.to_lowercase() };
        let is_plain = name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if !is_plain || name.starts_with(|c: char| c.is_numeric()) {
            return Err(Error::Sql(SqlError::Invalid {
                message: format!("`{name}` is not a usable function name"),
                hint: Some("Use letters, digits and `_`; do not begin with a digit.".to_owned()),
                position: position(written),
            }));
        }
        let namespace = namespace.unwrap_or_default();
        let spelled = spelled_namespace(view, &namespace).await?;
        Ok(TableName::of_function(spelled.unwrap_or(namespace), &name)?)
    }

    async fn no_function(&self, name: &TableName, view: &CommitView) -> Result<Error> {
        let known = view.state().functions().await?;
        let names = known.iter().filter_map(|(known, _)| known.function());
        let own = name.function().unwrap_or_default();
        let near = nearest(own, names).filter(|_| self.suggests());
        let message = format!("function `{}` is not in `{}`", display_name(name), view.spec());
        let problem = Problem::new(ErrorCode::FunctionNotFound, message);
        Ok(Error::Problem(match near {
            Some(near) => problem.with_hint(format!("Did you mean `{near}`?")),
            None => problem.with_hint("List the functions with `SHOW FUNCTIONS`."),
        }))
    }

    fn python_runtime(&self) -> Result<&Arc<dyn PythonRuntime>> {
        let none = || Error::unsupported("a function in Python on this server");
        self.engine.python_runtime().ok_or_else(none)
    }

    /// Returns the definition of a function, with its SQL types converted to Arrow types.
    fn definition(
        &self,
        name: &TableName,
        mut new: CreateFunctionStatement,
    ) -> Result<FunctionDefinition> {
        let (state, limits) = (self.engine.template(), self.engine.limits(None));
        let parameters = std::mem::take(&mut new.parameters);
        let parameters = column_definitions::schema(state, parameters, limits)?;
        let returns = column_definitions::schema(state, vec![new.returns.clone()], limits)?;
        let returns = plain_schema(&returns).field(0).data_type().clone();
        Ok(FunctionDefinition::new(name, new, plain_schema(&parameters), returns))
    }

    /// Returns the session state for planning a query: the state of the statement, with the
    /// functions in Python that the query calls. Checks the right to call each function.
    pub(crate) async fn with_functions(
        &self,
        run: &StatementContext,
        query: &Query,
        view: &CommitView,
        namespace: &str,
    ) -> Result<Arc<SessionState>> {
        let mut state = Arc::clone(&run.state);
        for called in called_functions(query) {
            if called.namespace.is_none() && is_built_in(&state, &called.name) {
                continue;
            }
            let Some((name, entry)) = find(&called, view, namespace).await? else { continue };
            match self.authorize(Action::Invoke, &entry.object(&name)) {
                Ok(()) => {}
                Err(error) if self.suggests() => return Err(error),
                // Leave the function out: the planner then reports it as unknown, and the error
                // does not reveal that it exists.
                Err(_) => continue,
            }
            if !self.options.calls_functions {
                return Err(not_callable(&name));
            }
            let statement = stored(view, &name, &entry).await?;
            let function = Arc::new(self.definition(&name, statement)?);
            let (runtime, calls) = (self.python_runtime()?, run.metrics.calls());
            let udf =
                PythonUdf::create(&called.key, function, Arc::clone(runtime), Arc::clone(calls));
            let registered =
                udf.and_then(|udf| Arc::make_mut(&mut state).register_udf(Arc::new(udf)).map(drop));
            registered.map_err(|error| run.limits.explain(&error))?;
        }
        Ok(state)
    }
}

/// Returns the parsed statement that created a function.
async fn stored(
    view: &CommitView,
    name: &TableName,
    entry: &TableEntry,
) -> Result<CreateFunctionStatement> {
    parsed(name, &stored_text(view, entry).await?)
}

/// Returns the text of the statement that created a function.
async fn stored_text(view: &CommitView, entry: &TableEntry) -> Result<String> {
    let stored = view.load_view(entry).await?;
    let text = stored.representations().into_iter().next().map(|(_, sql)| sql);
    Ok(text.unwrap_or_default())
}

fn parsed(name: &TableName, text: &str) -> Result<CreateFunctionStatement> {
    match parse(text)? {
        SupportedStatement::Function(FunctionStatement::Create(new)) => Ok(*new),
        other => {
            let message = format!(
                "the stored definition of function `{name}` is a {} statement",
                other.name()
            );
            Err(Error::Internal { message })
        }
    }
}

/// Returns the error of a call in a session that may not call functions in Python.
fn not_callable(name: &TableName) -> Error {
    Error::Sql(SqlError::Unsupported {
        what: format!(
            "a call of the function `{}` in a query of another function",
            display_name(name)
        ),
        hint: Some("Call its code in Python, or write its results to a table first.".to_owned()),
        position: None,
    })
}

/// Returns the object on which the rights to a function are granted, such as `function:sales.tax`,
/// with the owner of the function if the function exists.
fn object(name: &TableName, known: Option<&TableEntry>) -> AccessObject {
    let own = name.function().unwrap_or(&name.name);
    let owner = known.and_then(|entry| entry.owner.as_ref());
    AccessObject::function(&format!("{}.{own}", name.namespace)).with_owner(owner)
}

/// Returns the name of a function as users write it.
fn display_name(name: &TableName) -> String {
    let own = name.function().unwrap_or(&name.name).to_owned();
    TableName { name: own, ..name.clone() }.to_string()
}

/// Names of built-in functions that the parser or a rewrite replaces. They are not registered, so a
/// lookup does not find them.
const SYNTAX: [&str; 14] = [
    "array",
    "cast",
    "columns",
    "convert",
    "exists",
    "extract",
    "overlay",
    "position",
    "row",
    "struct",
    "struct_pack",
    "substring",
    "try_cast",
    "unnest",
];

/// Returns true if a built-in function has this name. A Python function with this name could not be
/// called, because the built-in function has precedence.
fn is_built_in(state: &SessionState, name: &str) -> bool {
    SYNTAX.contains(&name)
        || is_rewritten(name)
        || planner::is_scalar(state, name)
        || state.aggregate_functions().contains_key(name)
        || state.window_functions().contains_key(name)
        || state.table_functions().contains_key(name)
}

/// Looks up a function that a query calls in the catalog.
async fn find(
    called: &CalledFunction,
    view: &CommitView,
    namespace: &str,
) -> Result<Option<(TableName, TableEntry)>> {
    let written = called.namespace.as_deref().unwrap_or(namespace);
    let Some(namespace) = spelled_namespace(view, written).await? else { return Ok(None) };
    let Ok(name) = TableName::of_function(namespace, &called.name) else { return Ok(None) };
    let entry = view.state().function(&name).await?;
    Ok(entry.map(|entry| (name, entry)))
}

/// Returns the Python functions that a query calls, with their catalog entries; none if the query
/// cannot be parsed.
pub async fn functions_below(
    view: &CommitView,
    namespace: &str,
    sql: &str,
) -> Result<Vec<(TableName, TableEntry)>> {
    let Ok(source) = parse(sql).and_then(SupportedStatement::into_query) else {
        return Ok(Vec::new());
    };
    python_functions(view, namespace, &called_functions(source.query())).await
}

/// Returns the functions in Python that a query calls, with their catalog entries.
pub async fn python_functions(
    view: &CommitView,
    namespace: &str,
    called: &[CalledFunction],
) -> Result<Vec<(TableName, TableEntry)>> {
    let mut found = Vec::new();
    for called in called {
        if called.namespace.is_some() || !is_built_in(planner::template(), &called.name) {
            found.extend(find(called, view, namespace).await?);
        }
    }
    Ok(found)
}
