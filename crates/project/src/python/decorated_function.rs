//! Decorated functions as steps: settings from decorators, inputs from default arguments.

use headwater_model::{FunctionArgument, TableName, ToProblem};
use headwater_sandbox::LimitSource;
use ruff_python_ast::{ParameterWithDefault, StmtFunctionDef};
use ruff_text_size::Ranged;

use super::decorator_checks::without_parentheses;
use super::decorator_settings::{self, quantity};
use super::decorator_triggers::triggers;
use super::imported_names::ImportedNames;
use super::lineage_argument::lineage;
use super::literal_arguments::LiteralArguments;
use crate::callable::check_name;
use crate::source_location::SourceText;
use crate::{
    CallDestinations, Callable, Error, Location, ParameterInput, PythonFunction, Result, Retries,
    Step, StepCode, StepInput, StepKind, description, quantities, unknown_name_hints,
};

const DECORATORS: [&str; 4] = ["model", "python", "expectation", "function"];
const INPUTS: [&str; 2] = ["Model", "Parameter"];
const MODEL: [&str; 24] = [
    "name",
    "materialization",
    "keys",
    "columns",
    "partition_by",
    "allow_takeover",
    "reuse",
    "network",
    "memory",
    "timeout",
    "cpus",
    "tmp",
    "env",
    "secrets",
    "priority",
    "overwrite_filter",
    "tags",
    "retries",
    "backoff",
    "outputs",
    "expect",
    "expect_or_warn",
    "expect_or_quarantine",
    "lineage",
];

const EXPECTATION: [&str; 4] = ["name", "reuse", "tags", "severity"];
const FUNCTION: [&str; 19] = [
    "name",
    "reuse",
    "network",
    "memory",
    "timeout",
    "cpus",
    "tmp",
    "env",
    "secrets",
    "priority",
    "reserved_concurrency",
    "provisioned_concurrency",
    "on_success",
    "on_failure",
    "outputs",
    "calls_per_day",
    "time_per_day",
    "money_per_day",
    "on",
];

/// The definition created by a decorated function.
pub(super) enum ParsedDefinition {
    /// A model or an expectation.
    Step(Box<Step>),
    /// A function that is called by name.
    Callable(Box<Callable>),
}

/// Reader of the functions of one file.
pub(super) struct FunctionReader<'a> {
    pub source: &'a SourceText<'a>,
    pub names: &'a ImportedNames,
    pub namespace: &'a str,
}

/// The decorators of one function.
#[derive(Default)]
struct FunctionDecorators<'a> {
    /// `model` or `expectation`, with its arguments.
    step: Option<(StepKind, LiteralArguments<'a>)>,
    /// `function`, with its arguments.
    function: Option<LiteralArguments<'a>>,
    python: Option<LiteralArguments<'a>>,
}

impl<'a> FunctionReader<'a> {
    /// Returns the definition created by a function, if it is decorated.
    pub fn read(&self, function: &StmtFunctionDef) -> Result<Option<ParsedDefinition>> {
        let at = self.at(&function.name);
        let name = function.name.as_str();
        let decorated = self.decorators(function, &at)?;
        if let Some(values) = &decorated.function {
            let callable = self.callable(function, values, decorated.python.as_ref(), &at)?;
            return Ok(Some(ParsedDefinition::Callable(Box::new(callable))));
        }
        let Some((kind, values)) = decorated.step else {
            if decorated.python.is_none() {
                return Ok(None);
            }
            let message =
                format!("`{name}` declares packages, but is neither a model nor an expectation");
            let hint =
                "Add `@headwater.model()`, `@headwater.expectation()` or `@headwater.function()`.";
            return Err(Error::invalid(at, message, hint));
        };
        decorator_settings::refuse_async(function, &at)?;
        let table = self.table(&values, "name", name, &at)?;
        let (inputs, mut parameters) = self.inputs(function)?;
        let filter = values.text("overwrite_filter")?;
        let filter_at = values.location_of("overwrite_filter", &at);
        let used = filter.as_deref();
        parameters.extend(decorator_settings::condition_parameters(
            "overwrite_filter",
            used,
            &filter_at,
        )?);
        let (row_expectations, used) = decorator_settings::row_expectations(&values, &at)?;
        parameters.extend(used);
        let columns = decorator_settings::columns(&values, &at)?;
        let (columns, contract) = columns.map(|one| (one.names, one.contract)).unzip();
        let contract = contract.unwrap_or_default();
        let declared = columns.as_deref().unwrap_or_default();
        let lineage = lineage(&values, declared, &inputs, &at)?;
        let body = self.body(name, &values, decorated.python.as_ref(), &at)?;
        Ok(Some(ParsedDefinition::Step(Box::new(Step {
            name: table.to_string(),
            table,
            kind,
            description: description::of_function(function),
            materialization: decorator_settings::materialization(&values)?,
            keys: values.texts("keys")?.unwrap_or_default(),
            partition_by: decorator_settings::partition_by(&values)?,
            partition_at: values.location_of("partition_by", &at),
            allow_takeover: values.flag("allow_takeover")?.unwrap_or_default(),
            columns,
            lenient_columns: false,
            contract,
            lineage,
            overwrite_filter: filter,
            always_runs: false,
            tags: decorator_settings::tags(&values, &at)?,
            outputs: values.texts("outputs")?.unwrap_or_default(),
            severity: decorator_settings::severity(&values, &at)?,
            row_expectations,
            memory_bytes: quantity(&values, "memory", quantities::bytes, "\"512MiB\"")?,
            timeout: quantity(&values, "timeout", quantities::duration, "\"30s\"")?,
            retries: Retries::default(),
            inputs,
            calls: Vec::new(),
            parameters,
            body: StepCode::Python(Box::new(body)),
            at,
        }))))
    }

    fn body(
        &self,
        name: &str,
        values: &LiteralArguments,
        asked: Option<&LiteralArguments>,
        at: &Location,
    ) -> Result<PythonFunction> {
        let (python, packages) = decorator_settings::python(asked)?;
        let system = asked.map(|asked| asked.texts("system")).transpose()?.flatten();
        let python_at = python.as_ref().and(asked);
        let python_at = python_at.map(|values| values.location_of("version", at));
        let variables = decorator_settings::variables(values)?;
        let network = decorator_settings::network(values)?;
        Ok(PythonFunction {
            file: self.source.path.clone(),
            name: name.to_owned(),
            python,
            python_at,
            packages,
            system,
            reuse: decorator_settings::reuse(name, values, &network, at)?,
            network,
            temp_bytes: quantity(values, "tmp", quantities::bytes, "\"2GiB\"")?,
            cpu_millis: quantity(values, "cpus", decorator_settings::cpus, "1.5")?,
            secrets: decorator_settings::secrets(values, &variables, at)?,
            variables,
            priority: decorator_settings::priority(values)?,
            starts_runtime: false,
            code: "".into(),
            modules: Vec::new(),
            retries: decorator_settings::retries(values)?,
        })
    }

    /// Converts a function with the decorator `function`, which is called by name.
    fn callable(
        &self,
        function: &StmtFunctionDef,
        values: &LiteralArguments,
        asked: Option<&LiteralArguments>,
        at: &Location,
    ) -> Result<Callable> {
        decorator_settings::refuse_async(function, at)?;
        let own = function.name.as_str();
        let name = values.text("name")?.unwrap_or_else(|| own.to_owned());
        check_name(&name, &values.location_of("name", at))?;
        let body = self.body(own, values, asked, at)?;
        let triggers = triggers(self.source, values, &name)?;
        Ok(Callable {
            name,
            at: at.clone(),
            arguments: self.arguments_of(function)?,
            memory_bytes: quantity(values, "memory", quantities::bytes, "\"512MiB\"")?,
            timeout: quantity(values, "timeout", quantities::duration, "\"30s\"")?,
            settings: LimitSource::Decorator,
            function: body,
            destinations: CallDestinations {
                on_success: values.text("on_success")?,
                on_failure: values.text("on_failure")?,
            },
            concurrency: decorator_settings::concurrency(values, at)?,
            outputs: values.texts("outputs")?.unwrap_or_default(),
            budget: decorator_settings::budget(values)?,
            files: vec![at.file.to_string()],
            handler_files: Vec::new(),
            triggers,
        })
    }

    fn arguments_of(&self, function: &StmtFunctionDef) -> Result<Vec<FunctionArgument>> {
        decorator_settings::refuse_unnamed(self.source, function)?;
        let parameters = &function.parameters;
        let mut arguments = Vec::new();
        for argument in parameters.args.iter().chain(&parameters.kwonlyargs) {
            let default = argument.default();
            let target = default.map(|one| one.as_call_expr().map_or(one, |call| &*call.func));
            if target.is_some_and(|target| self.names.resolve(target).is_some()) {
                let name = argument.name();
                let message = format!(
                    "the argument `{name}` of function `{}` is declared as an input, which only \
                     models and expectations have",
                    function.name
                );
                let hint =
                    "Remove the default of the argument, and pass the argument in each call.";
                return Err(Error::invalid(self.at(argument), message, hint));
            }
            let (name, required) = (argument.name().to_string(), default.is_none());
            arguments.push(FunctionArgument { name, required });
        }
        Ok(arguments)
    }

    fn at(&self, node: &impl Ranged) -> Location {
        self.source.at(node.range().start().to_usize())
    }

    fn table(
        &self,
        values: &LiteralArguments,
        key: &str,
        name: &str,
        at: &Location,
    ) -> Result<TableName> {
        let name = values.text(key)?.unwrap_or_else(|| name.to_owned());
        TableName::parse_in(self.namespace, &name).map_err(|error| Error::Invalid {
            at: values.location_of(key, at),
            message: error.to_string(),
            hint: error.hint(),
        })
    }

    fn decorators(
        &self,
        function: &StmtFunctionDef,
        at: &Location,
    ) -> Result<FunctionDecorators<'a>> {
        let mut decorated = FunctionDecorators::default();
        for decorator in &function.decorator_list {
            let Some((member, arguments)) = self.names.resolve_decorator(decorator) else {
                continue;
            };
            if arguments.is_none() && DECORATORS.contains(&member) {
                return Err(without_parentheses(self.source, member, decorator));
            }
            let read = |call, names, positional| {
                LiteralArguments::read(self.source, call, arguments, names, positional)
            };
            let twice = match member {
                "model" => {
                    let values = read("model", &MODEL, 1)?;
                    decorated.step.replace((StepKind::Python, values)).is_some()
                }
                "expectation" => {
                    let values = read("expectation", &EXPECTATION, 1)?;
                    decorated.step.replace((StepKind::Expectation, values)).is_some()
                }
                "function" => {
                    let values = read("function", &FUNCTION, 1)?;
                    decorated.function.replace(values).is_some()
                }
                "python" => {
                    let values = read("python", &["version", "pip", "system"], 1)?;
                    decorated.python.replace(values).is_some()
                }
                other => return Err(self.unknown(other, &DECORATORS, decorator)),
            };
            if twice || (decorated.step.is_some() && decorated.function.is_some()) {
                let message = format!("`{}` is decorated twice", function.name);
                let hint = "Keep one of `@headwater.model`, `@headwater.expectation` and \
                            `@headwater.function`.";
                return Err(Error::invalid(at.clone(), message, hint));
            }
        }
        Ok(decorated)
    }

    fn unknown(&self, member: &str, known: &[&str], node: &impl Ranged) -> Error {
        let hint = unknown_name_hints::hint(member, known.iter().copied(), "names");
        Error::invalid(
            self.at(node),
            format!("`headwater` has no `{member}` that can be used here"),
            hint,
        )
    }

    fn inputs(&self, function: &StmtFunctionDef) -> Result<(Vec<StepInput>, Vec<ParameterInput>)> {
        decorator_settings::refuse_unnamed(self.source, function)?;
        let parameters = &function.parameters;
        let mut inputs = (Vec::new(), Vec::new());
        for argument in parameters.args.iter().chain(&parameters.kwonlyargs) {
            self.argument(function, argument, &mut inputs)?;
        }
        Ok(inputs)
    }

    fn argument(
        &self,
        function: &StmtFunctionDef,
        argument: &ParameterWithDefault,
        inputs: &mut (Vec<StepInput>, Vec<ParameterInput>),
    ) -> Result<()> {
        let name = argument.name().as_str();
        let at = self.at(argument);
        let Some(default) = argument.default() else {
            let message = format!("the argument `{name}` of `{}` has no input", function.name);
            let hint = format!("Write `{name}=headwater.Model(\"table\")`.");
            return Err(Error::invalid(at, message, hint));
        };
        let call = default.as_call_expr();
        let Some(member) = self.names.resolve(call.map_or(default, |call| &*call.func)) else {
            return Ok(()); // This is an ordinary default of the function, which Python sets.
        };
        let arguments = call.map(|call| &call.arguments);
        match member {
            "Model" => {
                let names = ["name", "columns", "filter", "incremental", "batches"];
                let values = LiteralArguments::read(self.source, "Model", arguments, &names, 1)?;
                let input = self.model(&values, name, &at)?;
                let filter_at = values.location_of("filter", &at);
                let filter = input.filter.as_deref();
                inputs.1.extend(decorator_settings::condition_parameters(
                    "filter", filter, &filter_at,
                )?);
                inputs.0.push(input);
            }
            "Parameter" => {
                let values =
                    LiteralArguments::read(self.source, "Parameter", arguments, &["name"], 1)?;
                let argument = Some(name.to_owned());
                let name = required(values.text("name")?, "Parameter", &at)?;
                inputs.1.push(ParameterInput { argument, name, at });
            }
            other => return Err(self.unknown(other, &INPUTS, default)),
        }
        Ok(())
    }

    fn model(&self, values: &LiteralArguments, argument: &str, at: &Location) -> Result<StepInput> {
        let name = required(values.text("name")?, "Model", at)?;
        let columns = values.texts("columns")?.filter(|columns| columns != &["*"]);
        if let Some(column) = columns.as_deref().and_then(decorator_settings::repeated) {
            let message = format!("`Model` lists the column `{column}` twice");
            return Err(Error::invalid(at.clone(), message, "Name each column once."));
        }
        Ok(StepInput {
            argument: Some(argument.to_owned()),
            table: self.table(values, "name", &name, at)?,
            reference: None,
            columns,
            contract: Vec::new(),
            filter: values.text("filter")?.filter(|filter| !filter.trim().is_empty()),
            incremental: values.flag("incremental")?.unwrap_or_default(),
            batches: values.flag("batches")?.unwrap_or_default(),
            at: at.clone(),
        })
    }
}

fn required(name: Option<String>, call: &str, at: &Location) -> Result<String> {
    name.ok_or_else(|| {
        let hint = format!("Write `headwater.{call}(\"name\")`.");
        Error::invalid(at.clone(), format!("`{call}` has no name"), hint)
    })
}
