//! Settings in the arguments of decorators and inputs: packages, network, limits, partitions.

use std::collections::BTreeMap;

use headwater_model::{DailyBudget, PartitionField, Priority, ToProblem};
use headwater_sandbox::{EnvironmentVariables, NetworkAccess};
use ruff_python_ast::StmtFunctionDef;
use ruff_text_size::Ranged;

use super::literal::Literal;
use super::literal_arguments::LiteralArguments;
use crate::callable::is_money;
use crate::declared_columns::DeclaredColumns;
use crate::source_location::SourceText;
use crate::{
    CallConcurrency, Error, Location, Materialization, ParameterInput, Result, Retries,
    RowExpectation, Severity, quantities, row_expectation,
};

/// Range of CPU limits.
const CPUS: std::ops::RangeInclusive<f64> = 0.01..=1024.0;

/// Rejects arguments that cannot be passed by name.
pub(super) fn refuse_unnamed(source: &SourceText<'_>, function: &StmtFunctionDef) -> Result<()> {
    let parameters = &function.parameters;
    let star = parameters.vararg.as_ref().or(parameters.kwarg.as_ref());
    if let Some(star) = star {
        let message =
            format!("`{}` accepts arbitrary arguments with `*{}`", function.name, star.name);
        let hint = "Name every input as an argument.";
        let at = source.at(star.range().start().to_usize());
        return Err(Error::invalid(at, message, hint));
    }
    if let Some(argument) = parameters.posonlyargs.first() {
        let message =
            format!("`{}` has the positional-only argument `{}`", function.name, argument.name());
        let at = source.at(argument.range().start().to_usize());
        return Err(Error::invalid(at, message, "Leave out the `/`."));
    }
    Ok(())
}

pub(super) fn refuse_async(function: &StmtFunctionDef, at: &Location) -> Result<()> {
    if !function.is_async {
        return Ok(());
    }
    let message = format!("`{}` is asynchronous, which is not supported", function.name);
    Err(Error::invalid(at.clone(), message, "Write `def` without `async`."))
}

/// Returns the parameters used in a condition. `name` is the argument that contains the condition.
pub(super) fn condition_parameters(
    name: &str,
    condition: Option<&str>,
    at: &Location,
) -> Result<Vec<ParameterInput>> {
    let Some(condition) = condition else { return Ok(Vec::new()) };
    let checked = headwater_sql::check_condition(condition);
    let used = checked.and_then(|()| headwater_sql::placeholders(condition));
    let used = used.map_err(|error| {
        let hint = error.hint();
        let hint = hint.unwrap_or_else(|| "Write a condition in SQL, as after WHERE.".to_owned());
        Error::invalid(at.clone(), format!("`{name}` cannot be used: {error}"), hint)
    })?;
    let parameter = |name| ParameterInput { argument: None, name, at: at.clone() };
    Ok(used.into_iter().map(|(name, _)| parameter(name)).collect())
}

/// Returns the first name that occurs more than once in a list.
pub(super) fn repeated(names: &[String]) -> Option<&String> {
    names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)).map(|(_, name)| name)
}

pub(super) type Packages = BTreeMap<String, String>;

pub(super) fn python(
    values: Option<&LiteralArguments>,
) -> Result<(Option<String>, Option<Packages>)> {
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
pub(super) fn network(values: &LiteralArguments) -> Result<NetworkAccess> {
    let read = |literal: &Literal| match literal {
        Literal::Bool(true) => Some(NetworkAccess::On),
        Literal::Bool(false) => Some(NetworkAccess::Off),
        Literal::Text(_) => None,
        list => {
            let hosts = list.as_texts()?.iter().map(|host| host.parse().ok()).collect();
            Option::<Vec<_>>::map(hosts, NetworkAccess::Hosts)
        }
    };
    let form = "`network=True` or `network=[\"api.example.com:443\"]`";
    Ok(values.get("network", read, form)?.unwrap_or_default())
}

/// Parses `reuse`: true if one process may execute several calls. Not allowed with network access.
pub(super) fn reuse(
    name: &str,
    values: &LiteralArguments,
    network: &NetworkAccess,
    at: &Location,
) -> Result<bool> {
    let reuse = values.flag("reuse")?.unwrap_or_default();
    if reuse && !network.denies_all() {
        let message = format!("`{name}` has network access, so its process cannot be reused");
        let hint = "Leave out `reuse` or `network`.";
        return Err(Error::invalid(values.location_of("reuse", at), message, hint));
    }
    Ok(reuse)
}

/// Parses a CPU limit. Returns it in thousandths of a CPU.
pub(super) fn cpus(text: &str) -> Option<u32> {
    let processors: f64 = text.trim().parse().ok()?;
    CPUS.contains(&processors).then_some((processors * 1000.0).round() as u32)
}

/// Returns the daily budget of a function.
pub(super) fn budget(values: &LiteralArguments) -> Result<DailyBudget> {
    let calls = |text: &str| text.parse::<u64>().ok();
    let money = |text: &str| text.parse::<f64>().ok().filter(|number| is_money(*number));
    let budget = DailyBudget {
        calls_per_day: quantity(values, "calls_per_day", calls, "1000")?,
        money_per_day: quantity(values, "money_per_day", money, "2.5")?,
        ..DailyBudget::default()
    };
    Ok(budget.with_time(quantity(values, "time_per_day", quantities::duration, "\"2h\"")?))
}

pub(super) fn priority(values: &LiteralArguments) -> Result<Option<Priority>> {
    let read = |literal: &Literal| match literal {
        Literal::Text(text) => Priority::parse(text),
        _ => None,
    };
    values.get("priority", read, "`\"low\"`, `\"normal\"` or `\"high\"`")
}

/// Parses environment variables. Errors never show a value.
pub(super) fn variables(values: &LiteralArguments) -> Result<EnvironmentVariables> {
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

/// Parses the names of secrets. A secret is passed as an environment variable, so the same name in
/// `env` is an error.
pub(super) fn secrets(
    values: &LiteralArguments,
    variables: &EnvironmentVariables,
    at: &Location,
) -> Result<Vec<String>> {
    let names = values.texts("secrets")?.unwrap_or_default();
    let at = || values.location_of("secrets", at);
    for name in &names {
        headwater_secrets::check_name(name).map_err(|error| Error::Invalid {
            at: at(),
            message: error.to_string(),
            hint: error.hint(),
        })?;
        if variables.names().any(|variable| variable == name) {
            let message = format!("`{name}` is both in `env` and in `secrets`");
            return Err(Error::invalid(at(), message, "Remove the name from `env`."));
        }
    }
    Ok(names)
}

pub(super) fn materialization(values: &LiteralArguments) -> Result<Materialization> {
    let read = |literal: &Literal| match literal {
        Literal::Text(text) => Materialization::parse(text),
        _ => None,
    };
    let form = "`\"none\"`, `\"replace\"`, `\"append\"`, `\"merge\"` or `\"overwrite_partitions\"`";
    Ok(values.get("materialization", read, form)?.unwrap_or_default())
}

pub(super) fn retries(values: &LiteralArguments) -> Result<Retries> {
    let count = |text: &str| text.parse().ok().filter(|count| *count <= Retries::COUNT_MAX);
    let standard = Retries::default();
    Ok(Retries {
        count: quantity(values, "retries", count, "2")?.unwrap_or(standard.count),
        backoff: quantity(values, "backoff", quantities::duration, "\"5s\"")?
            .unwrap_or(standard.backoff),
    })
}

/// Parses the concurrency of a function that is called by name.
pub(super) fn concurrency(values: &LiteralArguments, at: &Location) -> Result<CallConcurrency> {
    let number = |name: &str| quantity(values, name, |text| text.parse().ok(), "4");
    let concurrency = CallConcurrency {
        reserved: number("reserved_concurrency")?,
        provisioned: number("provisioned_concurrency")?.unwrap_or_default(),
    };
    concurrency.check(at)
}

pub(super) fn severity(values: &LiteralArguments, at: &Location) -> Result<Severity> {
    let read = |literal: &Literal| match literal {
        Literal::Text(text) => Severity::parse(text),
        _ => None,
    };
    let severity = values.get("severity", read, "`\"fail\"` or `\"warn\"`")?.unwrap_or_default();
    if severity != Severity::Quarantine {
        return Ok(severity);
    }
    let message = "a Python expectation checks whole tables and cannot quarantine rows";
    let hint = "Write a condition for rows in the model: \
                `@headwater.model(expect_or_quarantine=\"amount >= 0\")`.";
    Err(Error::invalid(values.location_of("severity", at), message, hint))
}

/// Parses the row expectations of a model. Also returns the parameters that they use.
pub(super) fn row_expectations(
    values: &LiteralArguments,
    at: &Location,
) -> Result<(Vec<RowExpectation>, Vec<ParameterInput>)> {
    let (mut expectations, mut parameters) = (Vec::new(), Vec::new());
    for setting in row_expectation::KINDS {
        let place = values.location_of(setting.name, at);
        for condition in values.texts(setting.name)?.unwrap_or_default() {
            let (expectation, used) = RowExpectation::parse(setting, &condition, &place)?;
            expectations.push(expectation);
            parameters.extend(used);
        }
    }
    Ok((expectations, parameters))
}

/// Parses the declared columns of a model: a list of names, or a mapping of names to types. `["*"]`
/// declares nothing.
pub(super) fn columns(values: &LiteralArguments, at: &Location) -> Result<Option<DeclaredColumns>> {
    let entry = |(name, declaration): &(String, Literal)| match declaration {
        Literal::Text(text) => Some((name.clone(), text.clone())),
        _ => None,
    };
    let pairs = |literal: &Literal| match literal {
        Literal::Map(entries) => entries.iter().map(entry).collect::<Option<Vec<_>>>(),
        names => {
            let names = names.as_texts()?.into_iter();
            Some(names.map(|name| (name, String::new())).collect())
        }
    };
    let form = "`columns=[\"id\", \"zone\"]` or `columns={\"id\": \"bigint not null\"}`";
    let Some(pairs) = values.get("columns", pairs, form)? else { return Ok(None) };
    if matches!(pairs.as_slice(), [(name, declaration)] if name == "*" && declaration.is_empty()) {
        return Ok(None);
    }
    DeclaredColumns::parse_pairs(&pairs, &values.location_of("columns", at)).map(Some)
}

pub(super) fn tags(values: &LiteralArguments, at: &Location) -> Result<Vec<String>> {
    let tags = values.texts("tags")?.unwrap_or_default();
    crate::sql_model::tags(tags, &values.location_of("tags", at))
}

pub(super) fn partition_by(values: &LiteralArguments) -> Result<Vec<PartitionField>> {
    let read = |literal: &Literal| -> Option<Vec<PartitionField>> {
        let fields = literal.as_texts()?;
        let fields = fields.iter().flat_map(|text| PartitionField::split(text));
        fields.map(|field| field.parse().ok()).collect()
    };
    Ok(values.get("partition_by", read, "`[\"day(time_hour)\", \"origin\"]`")?.unwrap_or_default())
}

pub(super) fn quantity<T>(
    values: &LiteralArguments,
    name: &str,
    parse: impl Fn(&str) -> Option<T>,
    form: &str,
) -> Result<Option<T>> {
    let read = |literal: &Literal| literal.as_quantity().and_then(|text| parse(&text));
    values.get(name, read, &format!("`{name}={form}`"))
}
