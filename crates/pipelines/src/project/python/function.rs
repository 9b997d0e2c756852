//! Decorated functions as steps: settings from decorators, inputs from default arguments.

use std::collections::BTreeMap;

use headwater_functions::{Network, Variables};
use headwater_model::{Fault, FunctionArgument, PartitionField, Priority, TableName};
use ruff_python_ast::{Arguments, Decorator, Expr, ParameterWithDefault, StmtFunctionDef};
use ruff_text_size::Ranged;

use super::arguments::Values;
use super::literal::Literal;
use super::names::Names;
use crate::source::SourceText;
use crate::{
    Body, Callable, Error, Function, Input, Location, Materialization, ParameterInput, Result,
    Step, StepKind, suggest, units,
};

const DECORATORS: [&str; 4] = ["model", "python", "expectation", "function"];
const INPUTS: [&str; 2] = ["Model", "Parameter"];
const MODEL: [&str; 14] = [
    "name",
    "materialization",
    "keys",
    "columns",
    "partition_by",
    "allow_takeover",
    "network",
    "memory",
    "timeout",
    "cpus",
    "tmp",
    "env",
    "secrets",
    "priority",
];

/// Range of CPU limits.
const CPUS: std::ops::RangeInclusive<f64> = 0.01..=1024.0;
const EXPECTATION: [&str; 1] = ["name"];
const FUNCTION: [&str; 10] =
    ["name", "reuse", "network", "memory", "timeout", "cpus", "tmp", "env", "secrets", "priority"];

/// Kind of a decorated function.
pub(super) enum Defined {
    /// A model or an expectation.
    Step(Box<Step>),
    /// A function that is called by name.
    Callable(Box<Callable>),
}

/// Reader of the functions of one file.
pub(super) struct Reader<'a> {
    pub source: &'a SourceText<'a>,
    pub names: &'a Names,
    pub namespace: &'a str,
}

/// The decorators of one function.
#[derive(Default)]
struct Decorated<'a> {
    /// `model` or `expectation`, with its arguments.
    step: Option<(StepKind, Values<'a>)>,
    /// `function`, with its arguments.
    function: Option<Values<'a>>,
    python: Option<Values<'a>>,
}

impl<'a> Reader<'a> {
    /// Returns the definition of a function, if it is decorated.
    pub fn read(&self, function: &StmtFunctionDef) -> Result<Option<Defined>> {
        let at = self.at(&function.name);
        let name = function.name.as_str();
        let decorated = self.decorators(function, &at)?;
        if let Some(values) = &decorated.function {
            let callable = self.callable(function, values, decorated.python.as_ref(), &at)?;
            return Ok(Some(Defined::Callable(Box::new(callable))));
        }
        let Some((kind, values)) = decorated.step else {
            if decorated.python.is_none() {
                return Ok(None);
            }
            let message = format!("`{name}` has packages, but is no model and no expectation");
            let hint =
                "Add `@headwater.model()`, `@headwater.expectation()` or `@headwater.function()`.";
            return Err(Error::invalid(at, message, hint));
        };
        refuse_async(function, &at)?;
        let table = self.table(&values, "name", name, &at)?;
        let (inputs, parameters) = self.inputs(function)?;
        let body = self.body(name, &values, decorated.python.as_ref(), &at)?;
        Ok(Some(Defined::Step(Box::new(Step {
            name: table.to_string(),
            table,
            kind,
            materialization: materialization(&values)?,
            keys: values.texts("keys")?.unwrap_or_default(),
            partition_by: partition_by(&values)?,
            partition_at: values.place("partition_by", &at),
            allow_takeover: values.flag("allow_takeover")?.unwrap_or_default(),
            columns: values.texts("columns")?.filter(|columns| columns != &["*"]),
            memory_bytes: quantity(&values, "memory", units::bytes, "\"512MiB\"")?,
            timeout: quantity(&values, "timeout", units::duration, "\"30s\"")?,
            inputs,
            parameters,
            body: Body::Python(Box::new(body)),
            at,
        }))))
    }

    fn body(
        &self,
        name: &str,
        values: &Values,
        asked: Option<&Values>,
        at: &Location,
    ) -> Result<Function> {
        let (python, packages) = python(asked)?;
        let system = asked.map(|asked| asked.texts("system")).transpose()?.flatten();
        let python_at = python.as_ref().and(asked);
        let python_at = python_at.map(|values| values.place("version", at));
        let variables = variables(values)?;
        Ok(Function {
            file: self.source.path.clone(),
            name: name.to_owned(),
            python,
            python_at,
            packages,
            system,
            network: network(values)?,
            temp_bytes: quantity(values, "tmp", units::bytes, "\"2GiB\"")?,
            cpu_millis: quantity(values, "cpus", cpus, "1.5")?,
            secrets: secrets(values, &variables, at)?,
            variables,
            priority: priority(values)?,
            code: "".into(),
        })
    }

    /// Returns a function that is called by name.
    fn callable(
        &self,
        function: &StmtFunctionDef,
        values: &Values,
        asked: Option<&Values>,
        at: &Location,
    ) -> Result<Callable> {
        refuse_async(function, at)?;
        let own = function.name.as_str();
        let name = values.text("name")?.unwrap_or_else(|| own.to_owned());
        let usable = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if name.is_empty() || name.len() > 200 || !name.chars().all(usable) {
            let message = format!("`{name}` is not a usable name of a function");
            let hint = "Use letters, digits, `_`, `-` and `.`.";
            return Err(Error::invalid(values.place("name", at), message, hint));
        }
        let body = self.body(own, values, asked, at)?;
        let reuse = values.flag("reuse")?.unwrap_or_default();
        if reuse && !body.network.is_off() {
            let message =
                format!("`{name}` has the network, so that its process is not used again");
            let hint = "Leave out `reuse` or `network`.";
            return Err(Error::invalid(values.place("reuse", at), message, hint));
        }
        Ok(Callable {
            name,
            at: at.clone(),
            arguments: self.arguments_of(function)?,
            memory_bytes: quantity(values, "memory", units::bytes, "\"512MiB\"")?,
            timeout: quantity(values, "timeout", units::duration, "\"30s\"")?,
            reuse,
            function: body,
        })
    }

    fn arguments_of(&self, function: &StmtFunctionDef) -> Result<Vec<FunctionArgument>> {
        self.refuse_unnamed(function)?;
        let parameters = &function.parameters;
        let mut arguments = Vec::new();
        for argument in parameters.args.iter().chain(&parameters.kwonlyargs) {
            let default = argument.default();
            let target = default.map(|one| one.as_call_expr().map_or(one, |call| &*call.func));
            if target.is_some_and(|target| self.names.resolve(target).is_some()) {
                let name = argument.name();
                let message = format!("the argument `{name}` of `{}` is an input", function.name);
                let hint = "Give it in each call: only models and expectations have inputs.";
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

    fn table(&self, values: &Values, key: &str, name: &str, at: &Location) -> Result<TableName> {
        let name = values.text(key)?.unwrap_or_else(|| name.to_owned());
        TableName::parse_in(self.namespace, &name).map_err(|error| Error::Invalid {
            at: values.place(key, at),
            message: error.to_string(),
            hint: error.hint(),
        })
    }

    fn decorators(&self, function: &StmtFunctionDef, at: &Location) -> Result<Decorated<'a>> {
        let mut decorated = Decorated::default();
        for decorator in &function.decorator_list {
            let Some((member, arguments)) = self.member(decorator) else { continue };
            if arguments.is_none() && DECORATORS.contains(&member) {
                return Err(self.bare(member, decorator));
            }
            let read = |call, names, positional| {
                Values::read(self.source, call, arguments, names, positional)
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

    /// Returns the member of `headwater` that a decorator names, with its arguments.
    fn member<'d>(&'d self, decorator: &'d Decorator) -> Option<(&'d str, Option<&'d Arguments>)> {
        let (target, arguments) = match &decorator.expression {
            Expr::Call(call) => (&*call.func, Some(&call.arguments)),
            bare => (bare, None),
        };
        self.names.resolve(target).map(|member| (member, arguments))
    }

    /// Rejects a decorator without parentheses.
    fn bare(&self, member: &str, decorator: &Decorator) -> Error {
        let written = &self.source.text[decorator.expression.range()];
        let message = format!("`{member}` decorates without parentheses");
        Error::invalid(self.at(decorator), message, format!("Write `@{written}()`."))
    }

    fn unknown(&self, member: &str, known: &[&str], node: &impl Ranged) -> Error {
        let hint = suggest::hint(member, known.iter().copied(), "names");
        Error::invalid(self.at(node), format!("`headwater` has no `{member}` for this place"), hint)
    }

    fn refuse_unnamed(&self, function: &StmtFunctionDef) -> Result<()> {
        let parameters = &function.parameters;
        let star = parameters.vararg.as_ref().or(parameters.kwarg.as_ref());
        if let Some(star) = star {
            let message = format!("`{}` takes any arguments by `*{}`", function.name, star.name);
            let hint = "Name every input as an argument.";
            return Err(Error::invalid(self.at(&**star), message, hint));
        }
        if let Some(argument) = parameters.posonlyargs.first() {
            let message =
                format!("`{}` takes `{}` by position only", function.name, argument.name());
            return Err(Error::invalid(self.at(argument), message, "Leave out the `/`."));
        }
        Ok(())
    }

    fn inputs(&self, function: &StmtFunctionDef) -> Result<(Vec<Input>, Vec<ParameterInput>)> {
        self.refuse_unnamed(function)?;
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
        inputs: &mut (Vec<Input>, Vec<ParameterInput>),
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
            return Ok(()); // The function's own default, which Python fills in.
        };
        let arguments = call.map(|call| &call.arguments);
        match member {
            "Model" => {
                let names = ["name", "columns", "filter", "incremental", "batches"];
                let values = Values::read(self.source, "Model", arguments, &names, 1)?;
                let input = self.model(&values, name, &at)?;
                let filter_at = values.place("filter", &at);
                inputs.1.extend(filter_parameters(&input, &filter_at)?);
                inputs.0.push(input);
            }
            "Parameter" => {
                let values = Values::read(self.source, "Parameter", arguments, &["name"], 1)?;
                let argument = Some(name.to_owned());
                let name = required(values.text("name")?, "Parameter", &at)?;
                inputs.1.push(ParameterInput { argument, name, at });
            }
            other => return Err(self.unknown(other, &INPUTS, default)),
        }
        Ok(())
    }

    fn model(&self, values: &Values, argument: &str, at: &Location) -> Result<Input> {
        let name = required(values.text("name")?, "Model", at)?;
        let columns = values.texts("columns")?.filter(|columns| columns != &["*"]);
        if let Some(column) = columns.as_deref().and_then(repeated) {
            let message = format!("`Model` asks for the column `{column}` twice");
            return Err(Error::invalid(at.clone(), message, "Name each column once."));
        }
        Ok(Input {
            argument: Some(argument.to_owned()),
            table: self.table(values, "name", &name, at)?,
            reference: None,
            columns,
            filter: values.text("filter")?.filter(|filter| !filter.trim().is_empty()),
            incremental: values.flag("incremental")?.unwrap_or_default(),
            batches: values.flag("batches")?.unwrap_or_default(),
            at: at.clone(),
        })
    }
}

fn refuse_async(function: &StmtFunctionDef, at: &Location) -> Result<()> {
    if !function.is_async {
        return Ok(());
    }
    let message = format!("`{}` is asynchronous", function.name);
    Err(Error::invalid(at.clone(), message, "Write `def` without `async`."))
}

/// Returns the parameters of an input's filter.
fn filter_parameters(input: &Input, at: &Location) -> Result<Vec<ParameterInput>> {
    let Some(filter) = &input.filter else { return Ok(Vec::new()) };
    let checked = headwater_engine::check_condition(filter);
    let used = checked.and_then(|()| headwater_engine::placeholders(filter)).map_err(|error| {
        let hint = error.hint();
        let hint = hint.unwrap_or_else(|| "Write a condition in SQL, as after WHERE.".to_owned());
        Error::invalid(at.clone(), format!("`filter` cannot be used: {error}"), hint)
    })?;
    let parameter = |name| ParameterInput { argument: None, name, at: at.clone() };
    Ok(used.into_iter().map(|(name, _)| parameter(name)).collect())
}

/// Returns a name that is in a list more than once.
fn repeated(names: &[String]) -> Option<&String> {
    names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)).map(|(_, name)| name)
}

fn required(name: Option<String>, call: &str, at: &Location) -> Result<String> {
    name.ok_or_else(|| {
        let hint = format!("Write `headwater.{call}(\"name\")`.");
        Error::invalid(at.clone(), format!("`{call}` names nothing"), hint)
    })
}

type Packages = BTreeMap<String, String>;

fn python(values: Option<&Values>) -> Result<(Option<String>, Option<Packages>)> {
    let Some(values) = values else { return Ok((None, None)) };
    let packages = |literal: &Literal| -> Option<Packages> {
        let Literal::Map(entries) = literal else { return None };
        let entry = |(name, version): &(String, Literal)| match version {
            Literal::Text(version) => Some((name.clone(), version.clone())),
            _ => None,
        };
        entries.iter().map(entry).collect()
    };
    let pip = values.get("pip", packages, "`pip={\"polars\": \"1.38.1\"}`")?;
    Ok((values.text("version")?, pip))
}

/// Parses true, false, or a list of allowed hosts.
fn network(values: &Values) -> Result<Network> {
    let read = |literal: &Literal| match literal {
        Literal::Bool(true) => Some(Network::On),
        Literal::Bool(false) => Some(Network::Off),
        Literal::Text(_) => None,
        list => {
            let hosts = list.as_texts()?.iter().map(|host| host.parse().ok()).collect();
            Option::<Vec<_>>::map(hosts, Network::Hosts)
        }
    };
    let form = "`network=True` or `network=[\"api.example.com:443\"]`";
    Ok(values.get("network", read, form)?.unwrap_or_default())
}

/// Parses a CPU limit to thousandths of a CPU.
fn cpus(text: &str) -> Option<u32> {
    let processors: f64 = text.trim().parse().ok()?;
    CPUS.contains(&processors).then_some((processors * 1000.0).round() as u32)
}

fn priority(values: &Values) -> Result<Option<Priority>> {
    let read = |literal: &Literal| match literal {
        Literal::Text(text) => Priority::parse(text),
        _ => None,
    };
    values.get("priority", read, "`\"low\"`, `\"normal\"` or `\"high\"`")
}

/// Parses environment variables. Errors never show a value.
fn variables(values: &Values) -> Result<Variables> {
    let name = |name: &str| {
        let usable = |c: char| c.is_ascii_alphanumeric() || c == '_';
        name.starts_with(|c: char| !c.is_ascii_digit()) && name.chars().all(usable)
    };
    let entry = |(key, value): &(String, Literal)| match value {
        Literal::Text(value) if name(key) && !value.contains('\0') => {
            Some((key.clone(), value.clone()))
        }
        _ => None,
    };
    let read = |literal: &Literal| match literal {
        Literal::Map(entries) => entries.iter().map(entry).collect::<Option<BTreeMap<_, _>>>(),
        _ => None,
    };
    let form = "`env={\"NAME\": \"value\"}`";
    Ok(values.secret("env", read, form)?.unwrap_or_default().into())
}

/// Parses the names of secrets. They are environment variables, so none is in `env` too.
fn secrets(values: &Values, variables: &Variables, at: &Location) -> Result<Vec<String>> {
    let names = values.texts("secrets")?.unwrap_or_default();
    let at = || values.place("secrets", at);
    for name in &names {
        headwater_secrets::check_name(name).map_err(|error| Error::Invalid {
            at: at(),
            message: error.to_string(),
            hint: error.hint(),
        })?;
        if variables.names().any(|variable| variable == name) {
            let message = format!("`{name}` is both in `env` and in `secrets`");
            return Err(Error::invalid(at(), message, "Remove it from `env`."));
        }
    }
    Ok(names)
}

fn materialization(values: &Values) -> Result<Materialization> {
    let read = |literal: &Literal| match literal {
        Literal::Text(text) => Materialization::parse(text),
        _ => None,
    };
    let form = "`\"none\"`, `\"replace\"`, `\"append\"` or `\"merge\"`";
    Ok(values.get("materialization", read, form)?.unwrap_or_default())
}

fn partition_by(values: &Values) -> Result<Vec<PartitionField>> {
    let read = |literal: &Literal| -> Option<Vec<PartitionField>> {
        let fields = literal.as_texts()?;
        let fields = fields.iter().flat_map(|text| PartitionField::split(text));
        fields.map(|field| field.parse().ok()).collect()
    };
    Ok(values.get("partition_by", read, "`[\"day(time_hour)\", \"origin\"]`")?.unwrap_or_default())
}

fn quantity<T>(
    values: &Values,
    name: &str,
    parse: impl Fn(&str) -> Option<T>,
    form: &str,
) -> Result<Option<T>> {
    let read = |literal: &Literal| literal.as_quantity().and_then(|text| parse(&text));
    values.get(name, read, &format!("`{name}={form}`"))
}
