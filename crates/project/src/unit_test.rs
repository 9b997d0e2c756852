//! Definitions of unit tests in YAML, in the folder `tests` of a project.

use std::collections::BTreeMap;

use headwater_model::ProjectFiles;
use serde::Deserialize;
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use crate::{Error, Location, Project, Result, SourceText, Step, StepInput, unknown_name_hints};

/// A row: value by column name.
pub type TestRow = Map<String, Value>;

/// A unit test.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitTest {
    /// Name of the test.
    pub name: String,
    /// Model or expectation to test.
    pub model: Spanned<String>,
    /// Parameter values.
    #[serde(default)]
    pub parameters: BTreeMap<String, Value>,
    /// The rows given for each table that the model reads.
    #[serde(default)]
    pub given: BTreeMap<String, GivenRows>,
    /// The expected result.
    pub expect: ExpectedResult,
    /// File of the definition.
    #[serde(skip)]
    pub file: String,
    /// 1-based line at which the definition starts.
    #[serde(skip)]
    pub line: u32,
}

/// Rows of a table.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum GivenRows {
    /// Rows whose types are inferred.
    Rows(Vec<TestRow>),
    /// Rows with declared types.
    Typed {
        /// SQL types by column.
        types: BTreeMap<String, String>,
        /// The rows.
        rows: Vec<TestRow>,
    },
}

impl GivenRows {
    /// Returns the rows.
    pub fn rows(&self) -> &[TestRow] {
        match self {
            GivenRows::Rows(rows) | GivenRows::Typed { rows, .. } => rows,
        }
    }

    /// Returns the declared SQL types by column; `None` if no types are declared.
    pub fn types(&self) -> Option<&BTreeMap<String, String>> {
        match self {
            GivenRows::Rows(_) => None,
            GivenRows::Typed { types, .. } => Some(types),
        }
    }
}

/// Expected result of a unit test.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum ExpectedResult {
    /// The expected result of an expectation.
    Passes(bool),
    /// The expected rows of a model, in any order.
    Rows(Vec<TestRow>),
}

/// Returns the tests in the folder `tests` of a project.
pub fn read(files: &ProjectFiles) -> Result<Vec<UnitTest>> {
    let mut tests: Vec<UnitTest> = Vec::new();
    for (path, file) in files.iter().filter(|(path, _)| is_test_file(path)) {
        let text = file.text();
        let parsed: Vec<Spanned<UnitTest>> = serde_saphyr::from_str(text).map_err(|error| {
            let error = error.without_snippet();
            let line = error.location().map_or(1, |location| line_number(location.line()));
            let at = SourceText::new(path, text).line(line);
            let hint = "Write a list of tests with `name`, `model`, `given` and `expect`.";
            Error::invalid(at, format!("the tests cannot be read: {error}"), hint)
        })?;
        tests.extend(parsed.into_iter().map(|test| {
            let line = line_number(test.referenced.line());
            UnitTest { file: path.clone(), line, ..test.value }
        }));
    }
    let mut seen = BTreeMap::new();
    for test in &tests {
        if let Some(first) = seen.insert(&test.name, test) {
            return Err(test.invalid(format!("another test in {} has the same name", first.file)));
        }
    }
    Ok(tests)
}

fn line_number(line: u64) -> u32 {
    u32::try_from(line).unwrap_or(1).max(1)
}

fn is_test_file(path: &str) -> bool {
    let ending = path.rsplit_once('.').map(|(_, ending)| ending);
    path.starts_with("tests/") && matches!(ending, Some("yaml" | "yml"))
}

impl UnitTest {
    /// Returns the tested step.
    pub fn step<'p>(&self, project: &'p Project) -> Result<&'p Step> {
        let model = &self.model.value;
        let step = project.steps.iter().find(|step| step.name.eq_ignore_ascii_case(model));
        step.ok_or_else(|| {
            let names = project.steps.iter().map(|step| step.name.as_str());
            let hint = unknown_name_hints::hint(model, names, "models");
            let line = line_number(self.model.referenced.line());
            self.refused_at(line, &format!("the project has no model `{model}`"), &hint)
        })
    }

    /// Returns each input of the step with its rows from the test.
    pub fn inputs<'a>(&'a self, step: &'a Step) -> Result<Vec<(&'a StepInput, &'a GivenRows)>> {
        let is = |input: &StepInput, name: &str| {
            let full = format!("{}.{}", input.table.namespace, input.table.name);
            let own = input.table.to_string();
            own.eq_ignore_ascii_case(name)
                || full.eq_ignore_ascii_case(name)
                || input.table.name.eq_ignore_ascii_case(name)
        };
        for name in self.given.keys() {
            if !step.inputs.iter().any(|input| is(input, name)) {
                let names: Vec<String> =
                    step.inputs.iter().map(|input| input.table.to_string()).collect();
                let names = names.iter().map(String::as_str);
                let hint = unknown_name_hints::hint(
                    name,
                    names.collect::<Vec<_>>(),
                    "tables that it reads",
                );
                return Err(self.refused(format!("`{}` does not read `{name}`", step.name), &hint));
            }
        }
        let mut inputs = Vec::new();
        for input in &step.inputs {
            if input.reference.is_some() {
                let message = format!(
                    "the test cannot replace `{}`, which `{}` reads at another ref",
                    input.table, step.name
                );
                return Err(self.refused(message, "Remove the ref from the input of the model."));
            }
            let given = self.given.iter().find(|(name, _)| is(input, name));
            let Some((_, given)) = given else {
                let message = format!(
                    "`{}` reads `{}`, for which the test has no rows",
                    step.name, input.table
                );
                let hint = format!("Add `{}:` with its rows to `given`.", input.table);
                return Err(self.refused(message, &hint));
            };
            inputs.push((input, given));
        }
        Ok(inputs)
    }

    /// Creates the error of a test that cannot run.
    pub fn invalid(&self, message: String) -> Error {
        self.refused(message, "Correct the test.")
    }

    fn refused(&self, message: String, hint: &str) -> Error {
        self.refused_at(self.line, &message, hint)
    }

    fn refused_at(&self, line: u32, message: &str, hint: &str) -> Error {
        let at = Location { file: self.file.as_str().into(), line };
        Error::invalid(at, format!("test `{}`: {message}", self.name), hint)
    }
}
