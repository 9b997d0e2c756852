//! Inputs of Bauplan's functions, from default arguments or from `Annotated` types.

use headwater_model::{RefSpec, ToProblem};
use ruff_python_ast::{Arguments, Expr, ExprCall, ParameterWithDefault, StmtFunctionDef};

use super::function::BauplanReader;
use super::schema::annotated;
use crate::python::decorator_settings;
use crate::python::literal_arguments::LiteralArguments;
use crate::{Error, Location, ParameterInput, Result, StepInput};

const MODEL: [&str; 7] = [
    "name",
    "columns",
    "filter",
    "ref",
    "connector",
    "connector_config_key",
    "connector_config_uri",
];

/// The argument of `Model` that refers to a class.
const PROJECTION: &str = "projection_schema";

/// The inputs of a function.
#[derive(Default)]
pub(super) struct FunctionInputs {
    pub inputs: Vec<StepInput>,
    pub parameters: Vec<ParameterInput>,
    /// The identity of each input's schema; `None` for an input without a schema.
    pub schemas: Vec<Option<String>>,
}

impl BauplanReader<'_> {
    /// Reads the inputs of a function.
    pub(super) fn inputs(&self, function: &StmtFunctionDef) -> Result<FunctionInputs> {
        decorator_settings::refuse_unnamed(self.source, function)?;
        let mut inputs = FunctionInputs::default();
        let parameters = &function.parameters;
        for argument in parameters.args.iter().chain(&parameters.kwonlyargs) {
            self.argument(function, argument, &mut inputs)?;
        }
        Ok(inputs)
    }

    fn argument(
        &self,
        function: &StmtFunctionDef,
        argument: &ParameterWithDefault,
        inputs: &mut FunctionInputs,
    ) -> Result<()> {
        let (name, at) = (argument.name().as_str(), self.at(argument));
        let metadata = argument.annotation().and_then(annotated).map_or(&[][..], |(_, rest)| rest);
        let written = argument.default().into_iter().chain(metadata);
        let mut found = written.filter_map(|expression| self.marker(expression));
        let Some((member, arguments)) = found.next() else {
            if argument.default().is_some() {
                return Ok(()); // This is an ordinary default of the function, which Python sets.
            }
            let message = format!("the argument `{name}` of `{}` has no input", function.name);
            let hint = format!("Write `{name}=bauplan.Model(\"table\")`.");
            return Err(Error::invalid(at, message, hint));
        };
        if found.next().is_some() {
            let message = format!("the argument `{name}` of `{}` has two inputs", function.name);
            return Err(Error::invalid(at, message, "Leave out one of the two."));
        }
        if member == "Parameter" {
            let values = LiteralArguments::read(self.source, "Parameter", arguments, &["name"], 1)?;
            let parameter = required(values.text("name")?, "Parameter", &at)?;
            let argument = Some(name.to_owned());
            inputs.parameters.push(ParameterInput { argument, name: parameter, at });
            return Ok(());
        }
        let (input, parameters) = self.model(name, arguments, &at)?;
        let projection = arguments.and_then(|arguments| arguments.find_keyword(PROJECTION));
        let schema = projection.map(|keyword| self.schema(&keyword.value)).transpose()?;
        inputs.schemas.push(schema.map(|schema| schema.origin.clone()));
        inputs.inputs.push(input);
        inputs.parameters.extend(parameters);
        Ok(())
    }

    /// Returns the name and the arguments of `Model` or `Parameter`; `None` for other expressions.
    fn marker<'e>(&self, expression: &'e Expr) -> Option<(&'static str, Option<&'e Arguments>)> {
        let call: Option<&ExprCall> = expression.as_call_expr();
        let member = self.names.resolve(call.map_or(expression, |call| &*call.func))?;
        let member = ["Model", "Parameter"].into_iter().find(|known| *known == member)?;
        Some((member, call.map(|call| &call.arguments)))
    }

    fn model(
        &self,
        argument: &str,
        arguments: Option<&Arguments>,
        at: &Location,
    ) -> Result<(StepInput, Vec<ParameterInput>)> {
        let projection = arguments.and_then(|arguments| arguments.find_keyword(PROJECTION));
        let literal = arguments.map(without_projection);
        let values = LiteralArguments::read(self.source, "Model", literal.as_ref(), &MODEL, 1)?;
        for connector in &MODEL[4..] {
            if values.text(connector)?.is_some() {
                let message = format!("`{connector}` of `Model` is not supported");
                let hint = "Import the table into the lake, and read the imported table.";
                return Err(Error::invalid(values.location_of(connector, at), message, hint));
            }
        }
        let name = required(values.text("name")?, "Model", at)?;
        let contract = projection.map(|keyword| self.schema(&keyword.value)).transpose()?;
        let contract = contract.map(|schema| schema.columns.clone()).unwrap_or_default();
        let columns = values.texts("columns")?.filter(|columns| columns != &["*"]);
        if columns.is_some() && !contract.is_empty() {
            let message = format!("`Model` has both `columns` and `{PROJECTION}`");
            return Err(Error::invalid(at.clone(), message, "Leave out one of the two."));
        }
        let declared = || contract.iter().map(|column| column.name.clone()).collect();
        let columns = columns.or_else(|| (!contract.is_empty()).then(declared));
        if let Some(column) = columns.as_deref().and_then(decorator_settings::repeated) {
            let message = format!("`Model` lists the column `{column}` twice");
            return Err(Error::invalid(at.clone(), message, "Name each column once."));
        }
        let filter = values.text("filter")?.filter(|filter| !filter.trim().is_empty());
        let filter_at = values.location_of("filter", at);
        let parameters =
            decorator_settings::condition_parameters("filter", filter.as_deref(), &filter_at)?;
        let input = StepInput {
            argument: Some(argument.to_owned()),
            table: self.table(&values, &name, at)?,
            reference: values.text("ref")?.map(|text| reference(&values, &text, at)).transpose()?,
            columns,
            contract,
            filter,
            incremental: false,
            batches: false,
            at: at.clone(),
        };
        Ok((input, parameters))
    }
}

fn required(name: Option<String>, call: &str, at: &Location) -> Result<String> {
    name.ok_or_else(|| {
        let hint = format!("Write `bauplan.{call}(\"name\")`.");
        Error::invalid(at.clone(), format!("`{call}` has no name"), hint)
    })
}

/// Returns the arguments without `projection_schema`, because that argument refers to a class and
/// is not a literal.
fn without_projection(arguments: &Arguments) -> Arguments {
    let is_literal = |name: &str| name != PROJECTION;
    let keywords = arguments
        .keywords
        .iter()
        .filter(|keyword| keyword.arg.as_ref().is_none_or(|name| is_literal(name.as_str())));
    Arguments { keywords: keywords.cloned().collect(), ..arguments.clone() }
}

fn reference(values: &LiteralArguments, text: &str, at: &Location) -> Result<RefSpec> {
    text.parse().map_err(|error: headwater_model::NameError| Error::Invalid {
        at: values.location_of("ref", at),
        message: error.to_string(),
        hint: error.hint(),
    })
}
