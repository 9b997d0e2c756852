//! SQL models: one query, with settings in comments above the query.

use std::collections::BTreeMap;

use headwater_model::{PartitionField, TableName, ToProblem};
use headwater_sql::TableRef;
use headwater_sql::time_travel::ConstantEvaluatorFn;

use super::bauplan;
use crate::declared_columns::DeclaredColumns;
use crate::source_location::SourceText;
use crate::step::{
    Materialization, ParameterInput, Retries, Severity, Step, StepCode, StepInput, StepKind,
};
use crate::{
    Error, Location, Result, RowExpectation, description, quantities, row_expectation,
    unknown_name_hints,
};

const SETTINGS: [&str; 17] = [
    "name",
    "materialization",
    "keys",
    "incremental",
    "partition_by",
    "overwrite_filter",
    "columns",
    "allow_takeover",
    "memory",
    "timeout",
    "retries",
    "backoff",
    "tags",
    "outputs",
    "expect",
    "expect_or_warn",
    "expect_or_quarantine",
];

/// Parses a SQL file as a model.
pub(super) fn parse(
    source: &SourceText<'_>,
    namespace: &str,
    files: &BTreeMap<String, String>,
    constants: ConstantEvaluatorFn,
) -> Result<Step> {
    let at = source.line(1);
    let mut step = Step {
        name: file_name(source),
        table: TableName { namespace: namespace.to_owned(), name: String::new() },
        kind: StepKind::Sql,
        at: at.clone(),
        description: description::of_comments(source.text),
        materialization: Materialization::default(),
        keys: Vec::new(),
        partition_by: Vec::new(),
        partition_at: at.clone(),
        allow_takeover: false,
        columns: None,
        lenient_columns: false,
        contract: Vec::new(),
        lineage: BTreeMap::new(),
        overwrite_filter: None,
        always_runs: false,
        tags: Vec::new(),
        outputs: Vec::new(),
        severity: Severity::default(),
        row_expectations: Vec::new(),
        memory_bytes: None,
        timeout: None,
        retries: Retries::default(),
        inputs: Vec::new(),
        calls: Vec::new(),
        parameters: Vec::new(),
        body: StepCode::Sql(source.text.into()),
    };
    let mut incremental = Vec::new();
    for (line, setting) in settings(source)? {
        match setting {
            SqlSetting::Headwater(text) => apply(&mut step, &mut incremental, text, &line)?,
            SqlSetting::Bauplan(text) => {
                bauplan::sql_settings::apply(&mut step, text, &line, files)?;
            }
        }
    }
    step.table = TableName::parse_in(namespace, &step.name).map_err(|error| {
        let hint = "Rename the file, or set `-- headwater: name = …`.";
        Error::invalid(at.clone(), error.to_string(), hint)
    })?;
    let sql = |error: headwater_sql::Error| Error::Sql {
        step: step.name.clone(),
        at: located(source, &error),
        problem: Box::new(error.to_problem().with_file_excerpt(&source.path, source.text)),
    };
    let references = headwater_sql::references(source.text, &constants);
    let references = references.map_err(|error| jinja(source).unwrap_or_else(|| sql(error)))?;
    let placeholders = headwater_sql::placeholders(source.text).map_err(sql)?;
    step.calls = references.functions;
    for parent in references.tables {
        step.inputs.push(input(source, namespace, parent)?);
    }
    for (name, line) in incremental {
        mark_incremental(&mut step, namespace, &name, &line)?;
    }
    step.parameters.extend(placeholders.into_iter().map(|(name, position)| ParameterInput {
        argument: None,
        name,
        at: source.line(u32::try_from(position.line).unwrap_or(1)),
    }));
    let used = overwrite_parameters(&step)?;
    step.parameters.extend(used);
    Ok(step)
}

/// Returns the parameters of the overwrite filter.
fn overwrite_parameters(step: &Step) -> Result<Vec<ParameterInput>> {
    let Some(filter) = &step.overwrite_filter else { return Ok(Vec::new()) };
    let checked = headwater_sql::check_condition(filter);
    let used = checked.and_then(|()| headwater_sql::placeholders(filter));
    let used = used.map_err(|error| Error::Invalid {
        at: step.at.clone(),
        message: format!("`overwrite_filter` cannot be used: {error}"),
        hint: error.hint(),
    })?;
    let parameter = |name| ParameterInput { argument: None, name, at: step.at.clone() };
    Ok(used.into_iter().map(|(name, _)| parameter(name)).collect())
}

/// Removes the quotes around a whole value.
pub(super) fn unquoted(value: &str) -> &str {
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

/// Returns an error if a query contains dbt's Jinja syntax.
fn jinja(source: &SourceText<'_>) -> Option<Error> {
    let start = source.text.find("{{").or_else(|| source.text.find("{%"))?;
    let rest = &source.text[start..];
    let end = rest.find("}}").or_else(|| rest.find("%}")).map_or(2, |end| end + 2);
    let written = rest[..end].lines().next().unwrap_or_default();
    let message = format!("`{written}` is Jinja, which is not supported");
    let inner = written.trim_matches(['{', '}', ' ']);
    let name = inner.strip_prefix("ref(").and_then(|inner| inner.strip_suffix(')'));
    let name = name.map(|name| name.trim().trim_matches(['"', '\'']));
    let hint = match name {
        Some(name) => format!("Write the table's name: `{name}`."),
        None => "Write SQL: a table's name, or `$NAME` for a parameter.".to_owned(),
    };
    Some(Error::invalid(source.at(start), message, hint))
}

/// Returns the location of an error in a SQL file. An error without a line is located at the first
/// line of the file.
pub fn located(source: &SourceText<'_>, error: &dyn ToProblem) -> Location {
    let line = error.to_problem().context.get("line").and_then(serde_json::Value::as_u64);
    source.line(line.and_then(|line| u32::try_from(line).ok()).unwrap_or(1).max(1))
}

fn file_name(source: &SourceText<'_>) -> String {
    let file = source.path.rsplit('/').next().unwrap_or_default();
    file.strip_suffix(".sql").unwrap_or(file).to_owned()
}

fn input(source: &SourceText<'_>, namespace: &str, parent: TableRef) -> Result<StepInput> {
    let at = source.line(u32::try_from(parent.line).unwrap_or(1).max(1));
    let namespace = parent.namespace.unwrap_or_else(|| namespace.to_owned());
    let table = TableName::new(namespace, parent.name).map_err(|error| {
        let hint = error.hint();
        Error::Invalid { at: at.clone(), message: error.to_string(), hint }
    })?;
    Ok(StepInput {
        argument: None,
        table,
        reference: parent.reference,
        columns: None,
        contract: Vec::new(),
        filter: None,
        incremental: false,
        batches: false,
        at,
    })
}

/// Marks a table of the query as an incremental input.
fn mark_incremental(step: &mut Step, namespace: &str, name: &str, at: &Location) -> Result<()> {
    let same = |input: &StepInput| {
        let full = format!("{}.{}", input.table.namespace, input.table.name);
        let bare =
            input.table.namespace == namespace && input.table.name.eq_ignore_ascii_case(name);
        bare || full.eq_ignore_ascii_case(name)
    };
    let mut found = false;
    for input in step.inputs.iter_mut().filter(|input| same(input)) {
        input.incremental = true;
        found = true;
    }
    if found {
        return Ok(());
    }
    let names: Vec<String> = step.inputs.iter().map(|input| input.table.to_string()).collect();
    let message = format!("`{}` does not read `{name}`", step.name);
    let hint = unknown_name_hints::hint(name, names.iter().map(String::as_str), "tables");
    Err(Error::invalid(at.clone(), message, hint))
}

/// A setting above the query, `key = value`.
enum SqlSetting<'a> {
    Headwater(&'a str),
    Bauplan(&'a str),
}

/// Returns the settings above the query, with their locations; a setting after the query is an
/// error.
fn settings<'a>(source: &SourceText<'a>) -> Result<Vec<(Location, SqlSetting<'a>)>> {
    let mut found = Vec::new();
    let mut begun = false;
    for (index, line) in source.text.lines().enumerate() {
        let line = line.trim();
        let comment = line.strip_prefix("--");
        begun |= comment.is_none() && !line.is_empty();
        let at = source.line(u32::try_from(index).unwrap_or(u32::MAX - 1) + 1);
        let Some(setting) = comment.map(|comment| setting(comment, &at)).transpose()?.flatten()
        else {
            continue;
        };
        if begun {
            let (SqlSetting::Headwater(text) | SqlSetting::Bauplan(text)) = setting;
            let message = format!("the setting `{text}` is below the first line of the query");
            return Err(Error::invalid(at, message, "Move the setting above the query."));
        }
        found.push((at, setting));
    }
    Ok(found)
}

fn setting<'a>(comment: &'a str, at: &Location) -> Result<Option<SqlSetting<'a>>> {
    let comment = comment.trim();
    if let Some(rest) = comment.strip_prefix("bauplan") {
        return Ok(rest.strip_prefix(':').map(|text| SqlSetting::Bauplan(text.trim())));
    }
    let Some(rest) = comment.strip_prefix("headwater") else { return Ok(None) };
    match rest.strip_prefix(':') {
        Some(text) => Ok(Some(SqlSetting::Headwater(text.trim()))),
        None => refuse_without_colon(rest.trim(), at).map(|()| None),
    }
}

/// Rejects a comment that looks like a setting but lacks the colon.
fn refuse_without_colon(written: &str, at: &Location) -> Result<()> {
    let key = written.split_once('=').map(|(key, _)| key.trim().replace('-', "_"));
    if !key.is_some_and(|key| SETTINGS.contains(&&*key)) {
        return Ok(());
    }
    let message = format!("the setting `{written}` has no colon after `headwater`");
    let hint = format!("Write `-- headwater: {written}`.");
    Err(Error::invalid(at.clone(), message, hint))
}

fn apply(
    step: &mut Step,
    incremental: &mut Vec<(String, Location)>,
    setting: &str,
    at: &Location,
) -> Result<()> {
    let Some((key, value)) = setting.split_once('=') else {
        let message = format!("the setting `{setting}` has no `=`");
        return Err(Error::invalid(at.clone(), message, "Write `-- headwater: key = value`."));
    };
    let (key, condition) = (key.trim().replace('-', "_"), value);
    let value = unquoted(value.trim());
    if let Some(setting) = row_expectation::KINDS.iter().find(|setting| setting.name == key) {
        // Keep quotes around the value, because a condition may begin and end with quoted names.
        let (expectation, used) = RowExpectation::parse(*setting, condition, at)?;
        step.row_expectations.push(expectation);
        step.parameters.extend(used);
        return Ok(());
    }
    match key.as_str() {
        "name" => value.clone_into(&mut step.name),
        "materialization" => step.materialization = materialization(value, at)?,
        "partition_by" => {
            step.partition_by = partition(value, at)?;
            step.partition_at = at.clone();
        }
        "overwrite_filter" => step.overwrite_filter = Some(value.to_owned()),
        "allow_takeover" => step.allow_takeover = flag("allow_takeover", value, at)?,
        "keys" => step.keys = names(value),
        "incremental" => {
            incremental.extend(names(value).into_iter().map(|name| (name, at.clone())));
        }
        "columns" => {
            // The value is a list of names. Keep its outer quotes if they belong to the first and
            // last names.
            let value = if value.contains('"') { condition.trim() } else { value };
            let DeclaredColumns { names, contract } = DeclaredColumns::parse(value, at)?;
            (step.columns, step.contract) = (Some(names), contract);
        }
        "tags" => step.tags = tags(names(value), at)?,
        // An address can contain a comma, but no space, so `, ` separates addresses.
        "outputs" => {
            step.outputs.extend(value.split(", ").map(|address| address.trim().to_owned()));
        }
        "memory" => step.memory_bytes = Some(quantity(quantities::bytes, "memory", value, at)?),
        "timeout" => step.timeout = Some(quantity(quantities::duration, "timeout", value, at)?),
        "retries" => step.retries.count = retries(value, at)?,
        "backoff" => step.retries.backoff = quantity(quantities::duration, "backoff", value, at)?,
        other => {
            let message = format!("`{other}` is not a setting of a SQL model");
            return Err(Error::invalid(
                at.clone(),
                message,
                unknown_name_hints::hint(other, SETTINGS, "settings"),
            ));
        }
    }
    Ok(())
}

/// Checks tags: each must be usable in a selector.
pub(super) fn tags(tags: Vec<String>, at: &Location) -> Result<Vec<String>> {
    let usable = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    match tags.iter().find(|tag| tag.is_empty() || !tag.chars().all(usable)) {
        None => Ok(tags),
        Some(tag) => Err(Error::invalid(
            at.clone(),
            format!("`{tag}` is not a tag"),
            "Use letters, digits, `_`, `-`, `.` and `/`.",
        )),
    }
}

/// Parses comma-separated names.
fn names(text: &str) -> Vec<String> {
    text.split(',').map(|name| name.trim().to_owned()).collect()
}

fn flag(key: &str, text: &str, at: &Location) -> Result<bool> {
    text.to_ascii_lowercase().parse().map_err(|_| {
        let message = format!("`{text}` is not a value of `{key}`");
        Error::invalid(
            at.clone(),
            message,
            format!("Write `{key} = true`, or leave out the setting."),
        )
    })
}

/// Parses the maximum number of retries.
fn retries(text: &str, at: &Location) -> Result<u32> {
    let count = text.parse().ok().filter(|count| *count <= Retries::COUNT_MAX);
    count.ok_or_else(|| {
        let message = format!("`{text}` is not a valid number of retries");
        let hint = format!("Write a number from 0 to {}: `retries = 2`.", Retries::COUNT_MAX);
        Error::invalid(at.clone(), message, hint)
    })
}

fn quantity<T>(
    read: impl Fn(&str) -> Option<T>,
    key: &str,
    text: &str,
    at: &Location,
) -> Result<T> {
    read(text).ok_or_else(|| {
        let message = format!("`{text}` is not a valid {key}");
        Error::invalid(at.clone(), message, "Write a number with a unit: `512MiB`, `30s`.")
    })
}

/// Parses a materialization.
pub(super) fn materialization(text: &str, at: &Location) -> Result<Materialization> {
    Materialization::parse(text).ok_or_else(|| {
        let names = Materialization::ALL.map(Materialization::as_str);
        let message = format!("`{text}` is not a materialization");
        Error::invalid(
            at.clone(),
            message,
            unknown_name_hints::hint(text, names, "materializations"),
        )
    })
}

/// Hint with the syntax of a partition field.
pub(super) const PARTITIONS: &str = "Write `column`, `year(column)`, `month(column)`, `day(column)`, \
     `hour(column)`, `bucket(16, column)` or `truncate(4, column)`.";

pub(super) fn partition(text: &str, at: &Location) -> Result<Vec<PartitionField>> {
    let fields = PartitionField::split(text).into_iter().map(|field| {
        field
            .parse::<PartitionField>()
            .map_err(|error| Error::invalid(at.clone(), error.to_string(), PARTITIONS))
    });
    fields.collect()
}
