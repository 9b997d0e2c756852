//! Decorated functions as steps: settings from decorators and the return type.

use headwater_model::{PartitionField, TableName, ToProblem};
use headwater_sandbox::{EnvironmentVariables, NetworkAccess};
use ruff_python_ast::{Decorator, Expr, StmtFunctionDef};
use ruff_text_size::Ranged;

use super::input::FunctionInputs;
use super::schema::{Schema, SchemaWithLineage, Schemas, annotated};
use crate::bauplan::materialization;
use crate::python::decorator_checks::without_parentheses;
use crate::python::decorator_settings::{self, quantity};
use crate::python::imported_names::{BAUPLAN, ImportedNames};
use crate::python::literal::Literal;
use crate::python::literal_arguments::LiteralArguments;
use crate::source_location::SourceText;
use crate::{
    Error, Location, Materialization, PythonFunction, Result, Retries, Severity, Step, StepCode,
    StepKind, description, quantities, unknown_name_hints,
};

const DECORATORS: [&str; 4] = ["model", "expectation", "python", "resources"];

/// Decorators of earlier Bauplan versions, which are rejected, each with a hint.
const REMOVED: [(&str, &str); 2] = [
    ("extras", "Name the packages in `@bauplan.python(pip={...})`."),
    ("pyspark", "Use `@bauplan.python(pip={...})` with polars, pandas or duckdb."),
];

/// Arguments of `@bauplan.model`. Bauplan itself does not have `retries` and `backoff`.
const MODEL: [&str; 10] = [
    "name",
    "columns",
    "partitioned_by",
    "materialization_strategy",
    "overwrite_filter",
    "cache_strategy",
    "internet_access",
    "materialize",
    "retries",
    "backoff",
];
const PYTHON: [&str; 2] = ["version", "pip"];
const RESOURCES: [&str; 4] = ["cpus", "memory", "memory_swap", "timeout"];

/// Reader of the functions of one file.
pub(in crate::python) struct BauplanReader<'a> {
    pub source: &'a SourceText<'a>,
    pub names: &'a ImportedNames,
    pub namespace: &'a str,
    pub schemas: &'a Schemas,
}

/// The decorators of one function.
#[derive(Default)]
struct BauplanDecorators<'a> {
    step: Option<(StepKind, LiteralArguments<'a>)>,
    python: Option<LiteralArguments<'a>>,
    resources: Option<LiteralArguments<'a>>,
}

impl<'a> BauplanReader<'a> {
    /// Returns the model or expectation of a function, if it is decorated.
    pub fn read(&self, function: &StmtFunctionDef) -> Result<Option<Step>> {
        let at = self.at(&function.name);
        let decorated = self.decorators(function, &at)?;
        let Some((kind, values)) = &decorated.step else {
            if decorated.python.is_none() && decorated.resources.is_none() {
                return Ok(None);
            }
            let message = format!(
                "`{}` declares packages, but is neither a model nor an expectation",
                function.name
            );
            let hint = "Add `@bauplan.model()` or `@bauplan.expectation()`.";
            return Err(Error::invalid(at, message, hint));
        };
        decorator_settings::refuse_async(function, &at)?;
        let body = self.body(function, values, &decorated, &at)?;
        let FunctionInputs { inputs, mut parameters, schemas } = self.inputs(function)?;
        let name = values.text("name")?.unwrap_or_else(|| function.name.to_string());
        let table = self.table(values, &name, &at)?;
        let materialization = strategy(values, &at)?;
        let partition_by = partition_by(values)?;
        let filter = values.text("overwrite_filter")?;
        let filter_at = values.location_of("overwrite_filter", &at);
        let used = decorator_settings::condition_parameters(
            "overwrite_filter",
            filter.as_deref(),
            &filter_at,
        );
        parameters.extend(used?);
        let typed = self.contract(function, *kind)?;
        let lineage = typed.map(|schema| schema.lineage(&schemas)).unwrap_or_default();
        let contract = typed.map(|schema| schema.columns.clone()).unwrap_or_default();
        let resources = decorated.resources.as_ref();
        Ok(Some(Step {
            name: table.to_string(),
            table,
            kind: *kind,
            description: description::of_function(function),
            materialization,
            keys: Vec::new(),
            partition_by,
            partition_at: values.location_of("partitioned_by", &at),
            allow_takeover: true,
            columns: declared(values, &contract, &at)?,
            lenient_columns: contract.is_empty(),
            contract,
            lineage,
            overwrite_filter: filter,
            always_runs: runs_always(values)?,
            tags: Vec::new(),
            outputs: Vec::new(),
            severity: Severity::default(),
            row_expectations: Vec::new(),
            memory_bytes: limit(resources, "memory", quantities::bytes, "\"4GiB\"")?,
            timeout: limit(resources, "timeout", quantities::duration, "300")?,
            retries: Retries::default(),
            inputs,
            calls: Vec::new(),
            parameters,
            body: StepCode::Python(Box::new(body)),
            at,
        }))
    }

    fn body(
        &self,
        function: &StmtFunctionDef,
        values: &LiteralArguments,
        decorated: &BauplanDecorators,
        at: &Location,
    ) -> Result<PythonFunction> {
        let asked = decorated.python.as_ref();
        let (python, mut packages) = decorator_settings::python(asked)?;
        if let Some(packages) = &mut packages {
            packages.remove(BAUPLAN); // Every environment contains this package.
        }
        let python_at = python.as_ref().and(asked);
        let network = values.flag("internet_access")?.unwrap_or_default();
        Ok(PythonFunction {
            file: self.source.path.clone(),
            name: function.name.to_string(),
            python,
            python_at: python_at.map(|values| values.location_of("version", at)),
            packages,
            system: None,
            network: if network { NetworkAccess::On } else { NetworkAccess::Off },
            temp_bytes: None,
            cpu_millis: limit(decorated.resources.as_ref(), "cpus", decorator_settings::cpus, "2")?,
            secrets: Vec::new(),
            variables: EnvironmentVariables::default(),
            priority: None,
            reuse: false,
            starts_runtime: false,
            code: "".into(),
            modules: Vec::new(),
            retries: decorator_settings::retries(values)?,
        })
    }

    fn decorators(
        &self,
        function: &StmtFunctionDef,
        at: &Location,
    ) -> Result<BauplanDecorators<'a>> {
        let mut decorated = BauplanDecorators::default();
        for decorator in &function.decorator_list {
            let Some((member, arguments)) = self.names.resolve_decorator(decorator) else {
                continue;
            };
            let read = |call, names| LiteralArguments::read(self.source, call, arguments, names, 1);
            let twice = match member {
                _ if arguments.is_none() && DECORATORS.contains(&member) => {
                    return Err(without_parentheses(self.source, member, decorator));
                }
                "model" => {
                    let values = read("model", &MODEL)?;
                    decorated.step.replace((StepKind::Python, values)).is_some()
                }
                "expectation" => {
                    let values = read("expectation", &["name"])?;
                    decorated.step.replace((StepKind::Expectation, values)).is_some()
                }
                "python" => decorated.python.replace(read("python", &PYTHON)?).is_some(),
                "resources" => {
                    decorated.resources.replace(read("resources", &RESOURCES)?).is_some()
                }
                other => return Err(self.unknown(other, decorator)),
            };
            if twice {
                let message = format!("`{}` is decorated twice", function.name);
                let hint = "Use one of `@bauplan.model` and `@bauplan.expectation`, and use no \
                            decorator twice.";
                return Err(Error::invalid(at.clone(), message, hint));
            }
        }
        Ok(decorated)
    }

    fn unknown(&self, member: &str, decorator: &Decorator) -> Error {
        let at = self.at(decorator);
        if let Some((name, hint)) = REMOVED.iter().find(|(name, _)| *name == member) {
            let message = format!("`@bauplan.{name}` is not supported; Bauplan removed it");
            return Error::invalid(at, message, *hint);
        }
        let hint = unknown_name_hints::hint(member, DECORATORS, "decorators");
        Error::invalid(at, format!("`bauplan` has no decorator `{member}`"), hint)
    }

    /// Returns the schema of the return type `Annotated[pyarrow.Table, Schema]`.
    fn contract(
        &self,
        function: &StmtFunctionDef,
        kind: StepKind,
    ) -> Result<Option<&SchemaWithLineage>> {
        let returned = function.returns.as_deref().filter(|_| kind == StepKind::Python);
        let metadata = returned.and_then(annotated).map_or(&[][..], |(_, metadata)| metadata);
        metadata.first().map(|name| self.schema(name)).transpose()
    }

    /// Returns the schema that an expression names.
    pub(super) fn schema(&self, expression: &Expr) -> Result<&SchemaWithLineage> {
        let name = expression.as_name_expr().map(|name| name.id.as_str());
        name.and_then(|name| self.schemas.typed(name)).ok_or_else(|| {
            let written = &self.source.text[expression.range()];
            let message = format!("`{written}` is not a class with the base `bauplan.TableSchema`");
            let hint =
                unknown_name_hints::hint(written, self.schemas.names(), "schemas of this file");
            Error::invalid(self.at(expression), message, hint)
        })
    }

    pub(super) fn table(
        &self,
        values: &LiteralArguments,
        name: &str,
        at: &Location,
    ) -> Result<TableName> {
        TableName::parse_in(self.namespace, name).map_err(|error| Error::Invalid {
            at: values.location_of("name", at),
            message: error.to_string(),
            hint: error.hint(),
        })
    }

    pub(super) fn at(&self, node: &impl Ranged) -> Location {
        self.source.at(node.range().start().to_usize())
    }
}

/// Returns the names of the declared output columns.
fn declared(
    values: &LiteralArguments,
    contract: &Schema,
    at: &Location,
) -> Result<Option<Vec<String>>> {
    let columns = values.texts("columns")?.filter(|columns| columns != &["*"]);
    if columns.is_some() && !contract.is_empty() {
        let message = "the model has both `columns` and a schema as its return type";
        let hint = "Leave `columns` out.";
        return Err(Error::invalid(values.location_of("columns", at), message, hint));
    }
    let typed = || contract.iter().map(|column| column.name.clone()).collect();
    Ok(columns.or_else(|| (!contract.is_empty()).then(typed)))
}

fn strategy(values: &LiteralArguments, at: &Location) -> Result<Materialization> {
    let strategy = values.text("materialization_strategy")?;
    let strategy_at = values.location_of("materialization_strategy", at);
    let strategy = strategy.map(|text| materialization::parse(&text, &strategy_at)).transpose()?;
    match (strategy, values.flag("materialize")?) {
        (Some(strategy), _) => Ok(strategy),
        // The first versions of Bauplan have the Boolean argument `materialize` instead of a
        // strategy.
        (None, Some(true)) => Ok(Materialization::Replace),
        (None, Some(false) | None) => Ok(Materialization::None),
    }
}

fn partition_by(values: &LiteralArguments) -> Result<Vec<PartitionField>> {
    let read = |literal: &Literal| -> Option<Vec<PartitionField>> {
        let fields = literal.as_texts()?;
        let fields = fields.iter().flat_map(|text| PartitionField::split(text));
        fields.filter(|field| !field.is_empty()).map(|field| field.parse().ok()).collect()
    };
    let form = "`[\"day(pickup_datetime)\", \"PULocationID\"]`";
    Ok(values.get("partitioned_by", read, form)?.unwrap_or_default())
}

/// Returns true if the decorator has the cache strategy `NONE`, with which the model always runs.
fn runs_always(values: &LiteralArguments) -> Result<bool> {
    let read = |literal: &Literal| match literal {
        Literal::Text(text) => materialization::parse_cache(text),
        _ => None,
    };
    Ok(values.get("cache_strategy", read, "`\"NONE\"` or `\"DEFAULT\"`")?.unwrap_or_default())
}

/// Returns a limit from the arguments of the decorator `resources`; `None` without this decorator.
fn limit<T>(
    resources: Option<&LiteralArguments>,
    name: &str,
    parse: impl Fn(&str) -> Option<T>,
    form: &str,
) -> Result<Option<T>> {
    resources.map_or(Ok(None), |values| quantity(values, name, parse, form))
}
