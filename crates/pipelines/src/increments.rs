//! What is new of a model's inputs: the rows that were appended since it last ran.
//!
//! Each time a model that reads only what is new writes its table, the snapshot says up to where it
//! has read each input. So every branch knows for itself what its tables have seen, and a run that
//! fails, or is never merged, has read nothing.

use std::collections::BTreeMap;

use headwater_lake::View;
use headwater_model::TableName;
use headwater_tables::{READ_UP_TO, ScanPlan, Table};

use crate::plan::Plan;
use crate::step::{Input, Materialization, Step};
use crate::{Error, Result};

/// What a step reads of its inputs of which only the new is read.
#[derive(Debug, Default)]
pub(crate) struct Increments {
    /// The new files of those inputs, by input; all of an input that is not here.
    pub new: BTreeMap<usize, ScanPlan>,
    /// What the snapshot that is made of them has to say.
    pub read: BTreeMap<String, String>,
}

/// How much of an input is new.
enum New {
    All,
    Files(ScanPlan),
}

impl Plan {
    /// Whether a step begins anew, though as a rule it reads only what is new.
    pub(crate) fn begins_anew(&self, index: usize) -> bool {
        self.full && self.project.steps[index].is_incremental()
    }

    /// What a step reads of its inputs at a view.
    pub(crate) async fn increments(&self, index: usize, view: &View) -> Result<Increments> {
        let step = &self.project.steps[index];
        let mut increments = Increments::default();
        if !step.is_incremental() {
            return Ok(increments);
        }
        let own = find(view, &step.table).await?.filter(|_| !self.begins_anew(index));
        for (number, input) in step.inputs.iter().enumerate().filter(|(_, one)| one.incremental) {
            let Some(table) = find(view, &input.table).await? else { continue };
            let now = table.snapshot_id().map_or("-".to_owned(), |id| id.to_string());
            increments.read.insert(key(input), format!("{} {now}", table.id()));
            let new = match &own {
                Some(own) => self.new_of(view, step, input, own, &table).await?,
                None => New::All,
            };
            if let New::Files(files) = new {
                increments.new.insert(number, files);
            }
        }
        Ok(increments)
    }

    /// What is new of one input. Where nobody can say, rows that are merged can all be read again;
    /// rows that are appended would be there twice.
    async fn new_of(
        &self,
        view: &View,
        step: &Step,
        input: &Input,
        own: &Table,
        table: &Table,
    ) -> Result<New> {
        let tables = view.lake().tables();
        let read = tables.find_since_merged(own, &key(input)).await;
        let since = read.as_deref().map(|read| read.split_once(' ').unwrap_or_default());
        let files = match since {
            Some((id, "-")) if id == table.id() => return Ok(New::All),
            Some((id, snapshot)) if id == table.id() => match snapshot.parse() {
                Ok(snapshot) => tables.appended(table, snapshot).await,
                Err(_) => Ok(None),
            },
            _ => Ok(None),
        };
        match (files.map_err(|error| Error::other(&error))?, step.materialization) {
            (Some(files), _) => Ok(New::Files(files)),
            (None, Materialization::Merge) => Ok(New::All),
            (None, _) => Err(Error::NotIncremental {
                step: step.name.clone(),
                table: input.table.to_string(),
                known: read.is_some(),
                at: input.at.clone(),
            }),
        }
    }

    /// Refuses a step of whose inputs nobody can say what is new, before anything runs.
    pub(crate) async fn check_increments(&self, index: usize) -> Result<()> {
        let step = &self.project.steps[index];
        for input in step.inputs.iter().filter(|input| input.incremental) {
            let Some(parent) = self.graph.model(input).map(|at| &self.project.steps[at]) else {
                continue;
            };
            if parent.materialization != Materialization::Append {
                let message = format!(
                    "`{}` reads only what is new of `{}`, whose rows are not appended to a table",
                    step.name, parent.name
                );
                let hint = "Set the materialization of that model to `append`, or read all of it.";
                return Err(Error::invalid(input.at.clone(), message, hint));
            }
        }
        self.increments(index, &self.view).await.map(drop)
    }
}

async fn find(view: &View, name: &TableName) -> Result<Option<Table>> {
    let found = view.find(&name.namespace, &name.name).await;
    Ok(found.map_err(|error| Error::other(&error))?.map(|(_, table)| table))
}

fn key(input: &Input) -> String {
    format!("{READ_UP_TO}{}.{}", input.table.namespace, input.table.name).to_lowercase()
}
