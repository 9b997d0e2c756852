//! Python files: decorated functions become steps, by reading the syntax tree.

use std::collections::BTreeMap;

use headwater_model::TableName;
use ruff_python_ast::{Expr, ExprCall, ParameterWithDefault, Stmt, StmtFunctionDef};
use ruff_text_size::Ranged;

use super::literal::Literal;
use super::{python_code, sql};
use crate::source::SourceText;
use crate::step::{Body, Function, Input, Materialization, ParameterInput, Step, StepKind};
use crate::{Error, Location, Result, suggest, units};

/// What the SDK offers that is read here.
const NAMES: [&str; 5] = ["model", "python", "expectation", "Model", "Parameter"];

/// How the SDK is known in a file: by module aliases and by names imported from it.
#[derive(Default)]
struct Imports {
    modules: Vec<String>,
    names: BTreeMap<String, String>,
}

/// Reads a Python file as the steps it defines; often none.
pub(super) fn parse(
    source: &SourceText<'_>,
    namespace: &str,
    files: &BTreeMap<String, String>,
) -> Result<Vec<Step>> {
    let parsed = ruff_python_parser::parse_module(source.text).map_err(|error| {
        let at = source.at(error.location.start().to_usize());
        Error::invalid(at, format!("this is no Python: {}", error.error), "Mend the syntax.")
    })?;
    let body = &parsed.syntax().body;
    let imports = Imports::of(body);
    let functions: Vec<&StmtFunctionDef> = body
        .iter()
        .filter_map(|statement| match statement {
            Stmt::FunctionDef(function) => Some(function),
            _ => None,
        })
        .filter(|function| imports.decorates(function))
        .collect();
    let reader = Reader { source, namespace, imports: &imports };
    let mut steps = Vec::new();
    for function in &functions {
        let mut step = reader.step(function)?;
        if let Body::Python(body) = &mut step.body {
            body.code = python_code::of(source, function, &functions, files).into();
        }
        steps.push(step);
    }
    Ok(steps)
}

impl Imports {
    fn of(body: &[Stmt]) -> Self {
        let mut imports = Imports::default();
        for statement in body {
            match statement {
                Stmt::Import(import) => {
                    for alias in import.names.iter().filter(|alias| &alias.name == "headwater") {
                        let name = alias.asname.as_ref().unwrap_or(&alias.name);
                        imports.modules.push(name.to_string());
                    }
                }
                Stmt::ImportFrom(import) if import.module.as_deref() == Some("headwater") => {
                    for alias in &import.names {
                        let name = alias.asname.as_ref().unwrap_or(&alias.name);
                        imports.names.insert(name.to_string(), alias.name.to_string());
                    }
                }
                _ => {}
            }
        }
        imports
    }

    /// The SDK's name for an expression such as `headwater.model` or `model`.
    fn resolve<'a>(&'a self, expression: &'a Expr) -> Option<&'a str> {
        let name = match expression {
            Expr::Attribute(attribute) => match attribute.value.as_ref() {
                Expr::Name(module) if self.modules.iter().any(|known| module.id == *known) => {
                    attribute.attr.as_str()
                }
                _ => return None,
            },
            Expr::Name(name) => self.names.get(name.id.as_str())?,
            _ => return None,
        };
        Some(name)
    }

    /// As `resolve`, for a call or a bare name.
    fn resolve_call<'a>(&'a self, expression: &'a Expr) -> Option<(&'a str, Option<&'a ExprCall>)> {
        match expression {
            Expr::Call(call) => Some((self.resolve(&call.func)?, Some(call))),
            other => Some((self.resolve(other)?, None)),
        }
    }

    fn decorates(&self, function: &StmtFunctionDef) -> bool {
        function.decorator_list.iter().any(|decorator| {
            let name = self.resolve_call(&decorator.expression).map(|(name, _)| name);
            name.is_some_and(|name| name == "model" || name == "expectation")
        })
    }
}

struct Reader<'a> {
    source: &'a SourceText<'a>,
    namespace: &'a str,
    imports: &'a Imports,
}

impl Reader<'_> {
    fn at(&self, node: &impl Ranged) -> Location {
        self.source.at(node.range().start().to_usize())
    }

    fn step(&self, function: &StmtFunctionDef) -> Result<Step> {
        let name = function.name.to_string();
        let at = self.at(&function.name);
        let body = Function {
            file: self.source.path.clone(),
            name: name.clone(),
            python: None,
            packages: None,
            network: false,
            code: "".into(),
        };
        let mut step = Step {
            name,
            table: TableName { namespace: self.namespace.to_owned(), name: String::new() },
            kind: StepKind::Python,
            at: at.clone(),
            materialization: Materialization::default(),
            partition_by: Vec::new(),
            columns: None,
            memory_bytes: None,
            timeout: None,
            inputs: Vec::new(),
            parameters: Vec::new(),
            body: Body::Python(Box::new(body)),
        };
        for decorator in &function.decorator_list {
            if let Some((name, call)) = self.imports.resolve_call(&decorator.expression) {
                self.decorate(&mut step, name, call, &self.at(decorator))?;
            }
        }
        for parameter in function.parameters.iter_non_variadic_params() {
            self.argument(&mut step, parameter)?;
        }
        step.table = TableName::parse_in(self.namespace, &step.name).map_err(|error| {
            Error::invalid(at, error.to_string(), "Choose another name with `name=`.")
        })?;
        Ok(step)
    }

    fn decorate(
        &self,
        step: &mut Step,
        name: &str,
        call: Option<&ExprCall>,
        at: &Location,
    ) -> Result<()> {
        match name {
            "model" => self.keywords(call, at, &[], |key, value, at| model(step, key, value, at)),
            "expectation" => {
                step.kind = StepKind::Expectation;
                self.keywords(call, at, &[], |key, value, at| expectation(step, key, value, at))
            }
            "python" => {
                self.keywords(call, at, &["version"], |key, value, at| python(step, key, value, at))
            }
            other => {
                let message = format!("`headwater.{other}` is no decorator");
                Err(Error::invalid(at.clone(), message, suggest::hint(other, NAMES, "decorators")))
            }
        }
    }

    /// Reads the arguments of a call as literals, and hands each on by its keyword; positional ones have
    /// the keywords of `positions`.
    fn keywords(
        &self,
        call: Option<&ExprCall>,
        at: &Location,
        positions: &[&str],
        mut take: impl FnMut(&str, Literal, &Location) -> Result<()>,
    ) -> Result<()> {
        let Some(call) = call else { return Ok(()) };
        for (index, value) in call.arguments.args.iter().enumerate() {
            let Some(key) = positions.get(index) else {
                let message = "an argument here has no name";
                return Err(Error::invalid(self.at(value), message, "Write `name=value`."));
            };
            take(key, self.literal(value)?, &self.at(value))?;
        }
        for keyword in &call.arguments.keywords {
            let Some(key) = &keyword.arg else {
                let message = "`**` cannot be read here";
                return Err(Error::invalid(at.clone(), message, "Write each `name=value`."));
            };
            take(key.as_str(), self.literal(&keyword.value)?, &self.at(&keyword.value))?;
        }
        Ok(())
    }

    fn literal(&self, value: &Expr) -> Result<Literal> {
        Literal::of(value).ok_or_else(|| {
            let message = "this must be a literal, since a project is read and not run";
            let hint = "Write the value itself: a text, a number, a list or a dictionary of those.";
            Error::invalid(self.at(value), message, hint)
        })
    }

    /// An argument of the function: an input, a parameter, or something with a default of its own.
    fn argument(&self, step: &mut Step, parameter: &ParameterWithDefault) -> Result<()> {
        let name = parameter.parameter.name.to_string();
        let at = self.at(parameter);
        let Some(default) = &parameter.default else {
            let message = format!("argument `{name}` of `{}` has no default", step.name);
            let hint = format!("Write `{name}=headwater.Model(\"…\")` or a parameter.");
            return Err(Error::invalid(at, message, hint));
        };
        match self.imports.resolve_call(default) {
            Some(("Model", Some(call))) => self.input(step, name, call, &at),
            Some(("Parameter", Some(call))) => self.parameter(step, name, call, &at),
            _ => Ok(()),
        }
    }

    fn input(&self, step: &mut Step, name: String, call: &ExprCall, at: &Location) -> Result<()> {
        let mut table = None;
        let mut input = Input {
            argument: Some(name),
            table: TableName { namespace: String::new(), name: String::new() },
            reference: None,
            columns: None,
            filter: None,
            at: at.clone(),
        };
        self.keywords(Some(call), at, &["name"], |key, value, at| {
            match key {
                "name" => table = value.text(),
                "columns" => input.columns = optional(value, Literal::texts, key, at)?,
                "filter" => input.filter = optional(value, Literal::text, key, at)?,
                "ref" => {
                    let text = optional(value, Literal::text, key, at)?;
                    let spec = text.map(|text| text.parse()).transpose();
                    input.reference = spec.map_err(|error: headwater_model::NameError| {
                        Error::invalid(at.clone(), error.to_string(), "Name a branch or tag.")
                    })?;
                }
                other => return Err(unknown(other, "Model", &["columns", "filter", "ref"], at)),
            }
            Ok(())
        })?;
        let table = table.ok_or_else(|| {
            Error::invalid(at.clone(), "`Model` names no table", "Write `headwater.Model(\"…\")`.")
        })?;
        input.table = TableName::parse_in(self.namespace, &table)
            .map_err(|error| Error::invalid(at.clone(), error.to_string(), "Name a table."))?;
        if let Some(filter) = &input.filter {
            let sql = format!("SELECT 1 WHERE {filter}");
            let used = headwater_engine::placeholders(&sql).map_err(|error| {
                Error::invalid(at.clone(), error.to_string(), "Write the filter as SQL.")
            })?;
            for (name, _) in used {
                step.parameters.push(ParameterInput { argument: None, name, at: at.clone() });
            }
        }
        step.inputs.push(input);
        Ok(())
    }

    fn parameter(
        &self,
        step: &mut Step,
        argument: String,
        call: &ExprCall,
        at: &Location,
    ) -> Result<()> {
        let mut named = None;
        self.keywords(Some(call), at, &["name"], |key, value, at| match key {
            "name" => {
                named = value.text();
                Ok(())
            }
            other => Err(unknown(other, "Parameter", &["name"], at)),
        })?;
        let name = named.ok_or_else(|| {
            let hint = "Write `headwater.Parameter(\"…\")`.";
            Error::invalid(at.clone(), "`Parameter` has no name", hint)
        })?;
        step.parameters.push(ParameterInput { argument: Some(argument), name, at: at.clone() });
        Ok(())
    }
}

fn model(step: &mut Step, key: &str, value: Literal, at: &Location) -> Result<()> {
    const KEYS: [&str; 7] =
        ["name", "materialization", "columns", "partition_by", "network", "memory", "timeout"];
    match key {
        "name" => {
            if let Some(name) = optional(value, Literal::text, key, at)? {
                step.name = name;
            }
        }
        "materialization" => {
            if let Some(text) = optional(value, Literal::text, key, at)? {
                step.materialization = sql::materialization(&text, at)?;
            }
        }
        "columns" => step.columns = optional(value, Literal::texts, key, at)?,
        "partition_by" => {
            if let Some(fields) = optional(value, Literal::texts, key, at)? {
                step.partition_by = sql::partition(&fields.join(","), at)?;
            }
        }
        "network" => {
            let Literal::Bool(network) = value else { return Err(wrong_type(key, at)) };
            if let Body::Python(function) = &mut step.body {
                function.network = network;
            }
        }
        "memory" | "timeout" => limits(step, key, value, at)?,
        other => return Err(unknown(other, "model", &KEYS, at)),
    }
    Ok(())
}

fn expectation(step: &mut Step, key: &str, value: Literal, at: &Location) -> Result<()> {
    match key {
        "name" => {
            if let Some(name) = optional(value, Literal::text, key, at)? {
                step.name = name;
            }
            Ok(())
        }
        "memory" | "timeout" => limits(step, key, value, at),
        other => Err(unknown(other, "expectation", &["name", "memory", "timeout"], at)),
    }
}

fn limits(step: &mut Step, key: &str, value: Literal, at: &Location) -> Result<()> {
    let Some(text) = optional(value, number_or_text, key, at)? else { return Ok(()) };
    let bad = || {
        let message = format!("`{text}` is no {key}");
        Error::invalid(at.clone(), message, "Write a number with a unit: `512MiB`, `30s`.")
    };
    if key == "memory" {
        step.memory_bytes = Some(units::bytes(&text).ok_or_else(bad)?);
    } else {
        step.timeout = Some(units::duration(&text).ok_or_else(bad)?);
    }
    Ok(())
}

fn python(step: &mut Step, key: &str, value: Literal, at: &Location) -> Result<()> {
    let Body::Python(function) = &mut step.body else { return Ok(()) };
    match key {
        "version" => function.python = optional(value, Literal::text, key, at)?,
        "pip" => {
            let Literal::Pairs(pairs) = value else { return Err(wrong_type(key, at)) };
            let texts =
                pairs.into_iter().map(|(name, version)| Some((name.text()?, version.text()?)));
            let packages = texts.collect::<Option<BTreeMap<_, _>>>();
            function.packages = Some(packages.ok_or_else(|| wrong_type(key, at))?);
        }
        other => return Err(unknown(other, "python", &["version", "pip"], at)),
    }
    Ok(())
}

fn number_or_text(value: Literal) -> Option<String> {
    match value {
        Literal::Text(text) => Some(text),
        Literal::Int(number) => Some(number.to_string()),
        Literal::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The value by its type; `None` is left as it is.
fn optional<T>(
    value: Literal,
    read: impl FnOnce(Literal) -> Option<T>,
    key: &str,
    at: &Location,
) -> Result<Option<T>> {
    if value == Literal::None {
        return Ok(None);
    }
    read(value).map(Some).ok_or_else(|| wrong_type(key, at))
}

fn wrong_type(key: &str, at: &Location) -> Error {
    let message = format!("`{key}` has a value of the wrong type");
    Error::invalid(at.clone(), message, "Look the type up in docs/projects.md.")
}

fn unknown(key: &str, of: &str, keys: &[&str], at: &Location) -> Error {
    let message = format!("`{of}` has no argument `{key}`");
    Error::invalid(at.clone(), message, suggest::hint(key, keys.iter().copied(), "arguments"))
}
