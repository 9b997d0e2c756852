//! Property tests: a merge of random changes contains the changes of both sides and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use headwater_model::{CreateRef, MergeOutcome, MergeReport, MergeRequest, TableName};
use proptest::prelude::*;
use proptest::test_runner::Config;
use serde_json::{Value, json};

use crate::changes::{NewTable, Step, make};
use crate::merge_scenarios::check_ids;
use crate::support::{Fixture, name};

/// A row: its partition and a value.
pub type Row = (String, i64);

/// A table: its rows by unique id.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    pub rows: BTreeMap<i64, Row>,
    pub columns: BTreeSet<String>,
    pub properties: BTreeMap<String, String>,
}

/// A generated change, which does not depend on the existing rows.
#[derive(Debug, Clone)]
pub enum Change {
    Append(Vec<u8>),
    Delete(Vec<u8>),
    Update(Vec<u8>, i64),
    /// Replaces a row by a row with a new id.
    Renew(u8),
    Move(u8, u8),
    Overwrite(Vec<u8>),
    OverwritePartitions(Vec<u8>),
    AddColumn(u8),
    Set(u8, u8),
    Compact,
}

/// The effect that a change has on existing rows, with the rows that the change read.
#[derive(Debug, Clone)]
pub enum Effect {
    Append(BTreeMap<i64, Row>),
    /// Rows that are changed: before the change, and after.
    Change(BTreeMap<i64, Row>, BTreeMap<i64, Row>),
    /// Rows that are replaced: the partitions (`None` for all), the removed rows, and the new rows.
    Replace(Option<BTreeSet<String>>, BTreeMap<i64, Row>, BTreeMap<i64, Row>),
    AddColumn(String),
    Set(String, Option<String>, String),
    Compact,
}

const PARTS: [&str; 3] = ["a", "b", "c"];

fn part(number: u8) -> String {
    PARTS[number as usize % PARTS.len()].to_owned()
}

impl Model {
    /// Applies a change. The ids of new rows start with `next`.
    fn effect(&self, change: &Change, next: i64) -> Effect {
        let new = |parts: &[u8]| -> BTreeMap<i64, Row> {
            let rows = parts.iter().enumerate();
            rows.map(|(at, number)| (next + at as i64, (part(*number), i64::from(*number))))
                .collect()
        };
        let some = |picks: &[u8]| -> BTreeMap<i64, Row> {
            let ids: Vec<i64> = self.rows.keys().copied().collect();
            let picked = picks.iter().filter_map(|pick| ids.get(*pick as usize % ids.len().max(1)));
            picked.map(|id| (*id, self.rows[id].clone())).collect()
        };
        match change {
            Change::Append(parts) => Effect::Append(new(parts)),
            Change::Delete(picks) => Effect::Change(some(picks), BTreeMap::new()),
            Change::Update(picks, by) => {
                let before = some(picks);
                let after = before.iter().map(|(id, (part, n))| (*id, (part.clone(), n + by)));
                let after = after.collect();
                Effect::Change(before, after)
            }
            Change::Renew(pick) => {
                let before = some(&[*pick]);
                let after = before.values().map(|row| (next, row.clone())).collect();
                Effect::Change(before, after)
            }
            Change::Move(pick, to) => {
                let before = some(&[*pick]);
                let after = before.iter().map(|(id, (_, n))| (*id, (part(*to), *n))).collect();
                if before == after { Effect::Compact } else { Effect::Change(before, after) }
            }
            Change::Overwrite(parts) => Effect::Replace(None, self.rows.clone(), new(parts)),
            Change::OverwritePartitions(parts) => {
                let rows = new(parts);
                let parts: BTreeSet<String> = rows.values().map(|(part, _)| part.clone()).collect();
                let seen = self.rows.iter().filter(|(_, (part, _))| parts.contains(part));
                let seen = seen.map(|(id, row)| (*id, row.clone())).collect();
                Effect::Replace(Some(parts), seen, rows)
            }
            Change::AddColumn(number) => Effect::AddColumn(format!("c{}", number % 3)),
            Change::Set(key, value) => {
                let (key, value) = (format!("k{}", key % 3), format!("v{}", value % 3));
                Effect::Set(key.clone(), self.properties.get(&key).cloned(), value)
            }
            Change::Compact => Effect::Compact,
        }
    }

    /// Repeats an effect. Returns `None` if a row that the effect read has changed since.
    fn replay(&mut self, effect: &Effect) -> Option<()> {
        match effect {
            Effect::Append(rows) => self.rows.extend(rows.clone()),
            Effect::Change(before, after) => {
                for (id, row) in before {
                    if self.rows.remove(id).as_ref() != Some(row) {
                        return None;
                    }
                }
                self.rows.extend(after.clone());
            }
            Effect::Replace(parts, seen, rows) => {
                let within = |row: &Row| parts.as_ref().is_none_or(|parts| parts.contains(&row.0));
                let here = self.rows.iter().filter(|(_, row)| within(row));
                let here: BTreeMap<i64, Row> = here.map(|(id, row)| (*id, row.clone())).collect();
                if here != *seen {
                    return None;
                }
                self.rows.retain(|_, row| !within(row));
                self.rows.extend(rows.clone());
            }
            Effect::AddColumn(column) => {
                self.columns.insert(column.clone());
            }
            Effect::Set(key, seen, value) => {
                let here = self.properties.get(key);
                if here != seen.as_ref() && here != Some(value) {
                    return None;
                }
                self.properties.insert(key.clone(), value.clone());
            }
            Effect::Compact => {}
        }
        Some(())
    }
}

fn values(rows: &BTreeMap<i64, Row>) -> Vec<Value> {
    rows.iter().map(|(id, (part, n))| json!({"id": id, "part": part, "n": n})).collect()
}

/// Returns the steps that make this change.
fn steps(effect: &Effect, here: &Model) -> Vec<Step> {
    match effect {
        Effect::Append(rows) if rows.is_empty() => Vec::new(),
        Effect::Append(rows) => vec![Step::Append(values(rows))],
        Effect::Change(before, _) if before.is_empty() => Vec::new(),
        Effect::Change(before, after) if after.is_empty() => {
            let ids = before.keys().collect::<Vec<_>>();
            vec![Step::Delete([("id".to_owned(), json!(ids))].into_iter().collect())]
        }
        Effect::Change(before, after) => {
            let each = before.keys().zip(after).map(|(id, (new, (part, n)))| {
                let rows = [("id".to_owned(), json!(id))].into_iter().collect();
                let set = json!({"id": new, "part": part, "n": n});
                let set = set.as_object().unwrap().clone();
                Step::Update { rows, set, add: Vec::new() }
            });
            each.collect()
        }
        Effect::Replace(None, _, rows) => vec![Step::Overwrite(values(rows))],
        Effect::Replace(Some(_), _, rows) if rows.is_empty() => Vec::new(),
        Effect::Replace(Some(_), _, rows) => vec![Step::OverwritePartitions(values(rows))],
        Effect::AddColumn(column) if here.columns.contains(column) => Vec::new(),
        Effect::AddColumn(column) => {
            vec![Step::AddColumns(vec![[(column.clone(), "int".to_owned())].into()])]
        }
        Effect::Set(key, _, value) => vec![Step::Set([(key.clone(), value.clone())].into())],
        Effect::Compact if here.rows.is_empty() => Vec::new(),
        Effect::Compact => vec![Step::Compact],
    }
}

fn change() -> impl Strategy<Value = Change> {
    let bytes = |most: usize| proptest::collection::vec(any::<u8>(), 1..=most);
    prop_oneof![
        6 => bytes(3).prop_map(Change::Append),
        5 => bytes(2).prop_map(Change::Delete),
        5 => (bytes(2), 1..4_i64).prop_map(|(picks, by)| Change::Update(picks, by)),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(pick, to)| Change::Move(pick, to)),
        1 => bytes(2).prop_map(Change::Overwrite),
        3 => bytes(2).prop_map(Change::OverwritePartitions),
        2 => any::<u8>().prop_map(Change::AddColumn),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(key, value)| Change::Set(key, value)),
        2 => Just(Change::Compact),
    ]
}

/// A table on two branches of an in-memory lake.
pub struct Two {
    pub lake: Fixture,
    table: TableName,
}

impl Two {
    pub async fn new(
        [partitioned, on_read]: [bool; 2],
        version: &'static str,
        files: &[Vec<u8>],
    ) -> (Self, Model) {
        let mut lake = Fixture::in_memory().await;
        (lake.on_read, lake.version) = (on_read, version);
        let table = name("t");
        let mut model = Model::default();
        let mut listed = Vec::new();
        for (at, parts) in files.iter().enumerate() {
            let Effect::Append(rows) =
                model.effect(&Change::Append(parts.clone()), at as i64 * 100)
            else {
                unreachable!("an append")
            };
            listed.push(values(&rows));
            model.rows.extend(rows);
        }
        let column = |name: &str, text: &str| [(name.to_owned(), text.to_owned())].into();
        let new = NewTable {
            columns: vec![column("id", "long"), column("part", "string"), column("n", "long")],
            partition: if partitioned { vec!["part".to_owned()] } else { Vec::new() },
            properties: BTreeMap::new(),
            files: listed,
        };
        make(&lake, "main", "dev", &table, &Step::Create(new)).await;
        let request = CreateRef { name: "dev".into(), from: None, if_not_exists: false };
        lake.lake.catalog().create_branch(request).await.unwrap();
        (Two { lake, table }, model)
    }

    /// Executes changes on a branch and returns their effects.
    pub async fn change(
        &self,
        branch: &str,
        model: &mut Model,
        changes: &[Change],
        mut next: i64,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        for change in changes {
            let effect = model.effect(change, next);
            next += 100;
            for step in steps(&effect, model) {
                make(&self.lake, branch, "", &self.table, &step).await;
            }
            model.replay(&effect).expect("it finds what it saw");
            effects.push(effect);
        }
        effects
    }

    pub async fn found(&self, branch: &str) -> Model {
        check_ids(&self.lake, branch, &self.table).await;
        let view = self.lake.lake.view(&branch.parse().unwrap()).await.unwrap();
        let table = view.table(&self.table).await.unwrap();
        let mut model = Model { properties: table.properties(), ..Model::default() };
        for field in table.schema().fields().iter().skip(3) {
            model.columns.insert(field.name().clone());
        }
        for row in self.lake.rows_at(branch, "t").await {
            let (id, n) = (row["id"].as_i64().unwrap(), row["n"].as_i64().unwrap());
            let part = row["part"].as_str().unwrap().to_owned();
            assert_eq!(model.rows.insert(id, (part, n)), None, "a row is there twice");
        }
        model
    }

    pub async fn merge(&self, target: &str, source: &str) -> MergeReport {
        let request = MergeRequest::new(source.parse().unwrap());
        self.lake.lake.merge(target, request, "eva").await.unwrap()
    }
}

fn replayed(onto: &Model, effects: &[Effect]) -> Option<Model> {
    let mut model = onto.clone();
    for effect in effects {
        model.replay(effect)?;
    }
    Some(model)
}

/// Returns true if one side changed rows and compacted files, and the other side replaced all rows.
/// Then the merge cannot distinguish the changed rows from the compacted rows.
fn is_blurred(one: &[Effect], other: &[Effect]) -> bool {
    let arranges = one.iter().any(|effect| matches!(effect, Effect::Compact));
    let changes = |effect: &Effect| matches!(effect, Effect::Change(..) | Effect::Replace(..));
    let replaces = |effect: &Effect| matches!(effect, Effect::Replace(..));
    arranges && one.iter().any(changes) && other.iter().any(replaces)
}

/// Changes a table on two branches. If the changes of each side are still valid after the changes
/// of the other side, the merge in either direction has both effects.
async fn both_orders(
    how: [bool; 2],
    files: Vec<Vec<u8>>,
    [ours, theirs]: [Vec<Change>; 2],
) -> Result<(), TestCaseError> {
    let (two, base) = Two::new(how, "2", &files).await;
    let whole = |change| match change {
        Change::OverwritePartitions(rows) if !how[0] => Change::Overwrite(rows),
        change => change,
    };
    let [ours, theirs]: [Vec<Change>; 2] =
        [ours, theirs].map(|changes| changes.into_iter().map(whole).collect());
    let (mut main, mut dev) = (base.clone(), base.clone());
    let ours = two.change("main", &mut main, &ours, 10_000).await;
    let theirs = two.change("dev", &mut dev, &theirs, 20_000).await;
    let expected = [replayed(&main, &theirs), replayed(&dev, &ours)];
    let other = CreateRef { name: "copy".into(), from: None, if_not_exists: false };
    two.lake.lake.catalog().create_branch(other).await.unwrap();
    let outcome = two.merge("main", "dev").await;
    let back = two.merge("dev", "copy").await;
    let conflicts = [outcome, back].map(|report| report.outcome == MergeOutcome::Conflict);
    prop_assert_eq!(conflicts[0], conflicts[1], "both directions conflict, or neither does");
    if conflicts[0] {
        prop_assert_eq!(two.found("main").await, main);
        let one_order_fails = expected.iter().any(Option::is_none);
        let blurred = is_blurred(&ours, &theirs) || is_blurred(&theirs, &ours);
        prop_assert!(one_order_fails || blurred, "{:?}\n{:?}", ours, theirs);
        return Ok(());
    }
    let found = two.found("main").await;
    prop_assert_eq!(&found, &two.found("dev").await, "either direction comes to the same");
    for expected in expected.into_iter().flatten() {
        prop_assert_eq!(&found, &expected);
    }
    Ok(())
}

pub fn run(test: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test)
}

proptest! {
    #![proptest_config(Config { cases: 128, failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_merge_equals_replaying_one_side_after_the_other(
        how in any::<[bool; 2]>(),
        files in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..4), 0..4),
        ours in proptest::collection::vec(change(), 0..4),
        theirs in proptest::collection::vec(change(), 0..4),
    ) {
        run(both_orders(how, files, [ours, theirs]))?;
    }
}
