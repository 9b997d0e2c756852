//! `headwater branch diff` and `headwater table diff`: what differs, and how it is printed.

use headwater_model::{
    ChangeKind, Diff, PropertyDiff, RowDiff, RowsDiff, RowsKnown, StatisticsDiff, TableComparison,
    TableDiff, ViewDiff,
};
use serde_json::Value;

use crate::api::{Api, segment};
use crate::arguments::{
    BranchDiff, CompareArgument, HowToCompare, OutputFormat, TableDiff as TableDiffArguments,
};
use crate::commands::reference;
use crate::context::Context;
use crate::error::Result;
use crate::output::{self, Grid};
use crate::rows::cell;
use crate::terminal::{Style, Tone};

/// What a null looks like.
const NULL: &str = "∅";

/// Carries out `headwater branch diff`.
pub async fn branch(context: &Context, api: &Api, arguments: BranchDiff) -> Result<()> {
    let to = reference(context, arguments.to)?;
    let rows = if arguments.how.summary { 0 } else { arguments.rows };
    let (from, how) = (arguments.from, parameters(&arguments.how));
    let path = format!("/v1/refs/{}/diff/{}?rows={rows}{how}", segment(&from), segment(&to));
    let diff: Diff = api.get(path).await?;
    if context.output == OutputFormat::Json {
        output::print_json(&diff);
    } else {
        print_diff(context.answer_style, &from, &to, &diff);
    }
    Ok(())
}

/// Carries out `headwater table diff`.
pub async fn table(context: &Context, api: &Api, arguments: TableDiffArguments) -> Result<()> {
    let active = reference(context, None)?;
    let (from, to) = sides(&arguments, &active);
    let limit = if arguments.how.summary { 0 } else { arguments.limit };
    let mut path = format!(
        "/v1/refs/{}/diff/{}/tables/{}?limit={limit}{}",
        segment(&from.reference),
        segment(&to.reference),
        segment(&from.table),
        parameters(&arguments.how)
    );
    let snapshot = |side: &State| side.snapshot.clone();
    let key = (!arguments.key.is_empty()).then(|| arguments.key.join(","));
    let to_table = (to.table != from.table).then(|| to.table.clone());
    for (name, value) in [
        ("to_table", to_table),
        ("from_snapshot", snapshot(&from)),
        ("to_snapshot", snapshot(&to)),
        ("key", key),
        ("page_token", arguments.page_token),
    ] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", segment(&value)));
        }
    }
    let found: TableComparison = api.get(path).await?;
    print_comparison(context, (&from.to_string(), &to.to_string()), &found);
    Ok(())
}

fn parameters(how: &HowToCompare) -> String {
    let compare = match how.compare {
        None => "",
        Some(CompareArgument::Auto) => "&compare=auto",
        Some(CompareArgument::Always) => "&compare=always",
        Some(CompareArgument::Never) => "&compare=never",
    };
    format!("{compare}{}", if how.stats { "&stats=true" } else { "" })
}

/// A state of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    table: String,
    reference: String,
    snapshot: Option<String>,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.snapshot {
            Some(snapshot) => write!(f, "{}#{snapshot}", self.table),
            None => write!(f, "{}@{}", self.table, self.reference),
        }
    }
}

/// What is compared: `flights main dev`, `flights main`, `flights@main flights@dev`, `flights~1`.
fn sides(arguments: &TableDiffArguments, active: &str) -> (State, State) {
    let TableDiffArguments { table, from, to, .. } = arguments;
    let first = State::parse(table, active);
    let is_state = |text: &str| {
        let marked = text.strip_prefix(first.table.as_str());
        marked.is_some_and(|rest| rest.is_empty() || rest.starts_with(MARKS)) || text.contains('#')
    };
    let named = first.table == *table;
    let other = match from {
        Some(other) if to.is_none() && (!named || is_state(other)) => other,
        None if !named => return (first.clone(), State::parse(&first.table, active)),
        _ => {
            let to = to.as_deref().unwrap_or(active);
            let before = || format!("{to}~1");
            let from = from.clone().unwrap_or_else(before);
            let at = |reference: String| State { reference, ..State::parse(&first.table, active) };
            return (at(from), at(to.to_owned()));
        }
    };
    (first.clone(), State::parse(other, active))
}

/// What may come after a table's name.
const MARKS: [char; 4] = ['@', '~', '*', '#'];

impl State {
    fn parse(text: &str, active: &str) -> State {
        let (text, snapshot) = match text.rsplit_once('#') {
            Some((text, snapshot)) => (text, Some(snapshot.to_owned())),
            None => (text, None),
        };
        let (table, reference) = match text.find(MARKS) {
            Some(at) if text[at..].starts_with('@') => (&text[..at], text[at + 1..].to_owned()),
            Some(at) => (&text[..at], format!("{active}{}", &text[at..])),
            None => (text, active.to_owned()),
        };
        State { table: table.to_owned(), reference, snapshot }
    }
}

fn print_comparison(context: &Context, (from, to): (&str, &str), found: &TableComparison) {
    let rows = found.diff.rows.as_ref();
    let shown = rows.map(|rows| rows.rows.as_slice()).unwrap_or_default();
    match context.output {
        OutputFormat::Json => output::print_json(found),
        OutputFormat::Ndjson => {
            for row in shown {
                if let Ok(text) = serde_json::to_string(row) {
                    output::line(text);
                }
            }
        }
        OutputFormat::Csv => output::write(csv(shown).as_bytes()),
        OutputFormat::Table => {
            let style = context.answer_style;
            let (before, after) = (found.from.short(), found.to.short());
            let ends = format!("{from} (@{before}) → {to} (@{after})");
            if found.diff.kind == ChangeKind::Same {
                return output::line(format!("{ends}: no difference"));
            }
            output::line(style.paint(Tone::Strong, ends));
            print_table(style, &found.diff);
        }
    }
    if let Some(token) = rows.and_then(|rows| rows.next_page_token.as_ref())
        && context.output != OutputFormat::Json
    {
        let remark = format!("more rows differ: `--page-token {token}` shows them");
        context.style.say(context.style.paint(Tone::Faint, remark));
    }
}

/// Prints a diff for people.
pub fn print_diff(style: Style, from: &str, to: &str, diff: &Diff) {
    let (before, after) = (diff.from.short(), diff.to.short());
    let ends = format!("{from} (@{before}) → {to} (@{after})");
    if diff.tables.is_empty() {
        return output::line(format!("{ends}: no difference"));
    }
    output::line(style.paint(Tone::Strong, ends));
    for table in &diff.tables {
        print_table(style, table);
    }
}

fn print_table(style: Style, table: &TableDiff) {
    let (sign, tone) = signed(table.kind);
    let heading = style.paint(tone, format!("{sign} {}", table.table));
    let sizes = if table.view.is_some() { "view".to_owned() } else { sizes(table) };
    output::line(format!("{heading}  {sizes}"));
    if let Some(view) = &table.view {
        print_queries(style, view);
    }
    print_columns(style, table);
    for (what, values) in [("", &table.layout), ("property ", &table.properties)] {
        for value in values {
            let text = format!("~ {what}{} {}", value.key, from_to(value));
            output::line(format!("    {}", style.paint(Tone::Warn, text)));
        }
    }
    for statistics in &table.statistics {
        if let Some(text) = statistics_text(statistics) {
            output::line(format!("    {}", style.paint(Tone::Faint, text)));
        }
    }
    if let Some(rows) = &table.rows {
        print_rows(style, rows);
    }
}

fn signed(kind: ChangeKind) -> (&'static str, Tone) {
    match kind {
        ChangeKind::Added => ("+", Tone::Good),
        ChangeKind::Removed => ("-", Tone::Bad),
        ChangeKind::Changed => ("~", Tone::Warn),
        ChangeKind::Same => ("=", Tone::Faint),
    }
}

fn print_queries(style: Style, view: &ViewDiff) {
    for (sign, tone, queries, others) in
        [("-", Tone::Bad, &view.before, &view.after), ("+", Tone::Good, &view.after, &view.before)]
    {
        for query in queries.iter().filter(|query| !others.contains(query)) {
            let text = format!("{sign} {}: {}", query.dialect, one_line(&query.sql));
            output::line(format!("    {}", style.paint(tone, text)));
        }
    }
}

fn one_line(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn print_columns(style: Style, table: &TableDiff) {
    for column in &table.columns {
        let name = &column.column;
        let text = match (&column.before, &column.after) {
            (None, Some(after)) => style.paint(Tone::Good, format!("+ {name} {after}")),
            (Some(before), None) => style.paint(Tone::Bad, format!("- {name} {before}")),
            (before, after) => {
                let mut text = format!("~ {name}");
                if let Some(former) = &column.renamed_from {
                    text = format!("~ {former} → {name}");
                }
                if let (Some(before), Some(after)) = (before, after)
                    && before != after
                {
                    text.push_str(&format!(" {before} → {after}"));
                }
                for change in &column.changes {
                    text.push_str(&format!(" {}: {}", change.key, from_to(change)));
                }
                style.paint(Tone::Warn, text)
            }
        };
        output::line(format!("    {text}"));
    }
}

fn from_to(value: &PropertyDiff) -> String {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "unset".to_owned());
    format!("{} → {}", shown(&value.before), shown(&value.after))
}

fn sizes(table: &TableDiff) -> String {
    let rows = match (table.rows_before, table.rows_after) {
        (Some(before), Some(after)) => {
            format!("{} → {} rows", output::count(before), output::count(after))
        }
        (None, Some(after)) => output::plural(after, "row"),
        (Some(before), None) => output::plural(before, "row"),
        (None, None) => String::new(),
    };
    let changed = match (table.kind, table.rows_removed, table.rows_added, table.rows_changed) {
        (ChangeKind::Changed, Some(removed), Some(added), changed) => {
            let changed =
                changed.map(|rows| format!(" ~{}", output::count(rows))).unwrap_or_default();
            format!(" (+{} -{}{changed})", output::count(added), output::count(removed))
        }
        _ => String::new(),
    };
    let (came, went) = (output::bytes(table.bytes_added), output::bytes(table.bytes_removed));
    let files = format!("files +{} -{}", table.files_added, table.files_removed);
    format!("{rows}{changed}, {files} ({came}, {went})")
}

/// Statistics of a column that both sides have; those of a new one are no difference.
fn statistics_text(statistics: &StatisticsDiff) -> Option<String> {
    let (before, after) = (statistics.before.as_ref()?, statistics.after.as_ref()?);
    let count = |count: Option<u64>| count.map(Value::from).unwrap_or_default();
    let figures = [
        ("nulls", count(before.nulls), count(after.nulls)),
        ("min", before.min.clone().unwrap_or_default(), after.min.clone().unwrap_or_default()),
        ("max", before.max.clone().unwrap_or_default(), after.max.clone().unwrap_or_default()),
        ("distinct", count(before.distinct), count(after.distinct)),
    ];
    let differ = figures.iter().filter(|(_, before, after)| before != after);
    let texts: Vec<String> = differ
        .map(|(name, before, after)| format!("{name} {} → {}", shown(before), shown(after)))
        .collect();
    let bounds = if before.exact && after.exact { "" } else { " (bounds)" };
    (!texts.is_empty()).then(|| format!("{}: {}{bounds}", statistics.column, texts.join(", ")))
}

fn print_rows(style: Style, rows: &RowsDiff) {
    let remark = |text: String| output::line(format!("    {}", style.paint(Tone::Faint, text)));
    if rows.how == RowsKnown::NotCompared {
        let reason = rows.reason.as_deref().unwrap_or("rows were not compared");
        remark(format!("rows were not compared: {reason}"));
    } else if let Some(reason) = &rows.reason {
        remark(format!("rows are not shown: {reason}"));
    }
    if !rows.changed_columns.is_empty() {
        let columns = rows.changed_columns.iter();
        let columns: Vec<String> =
            columns.map(|one| format!("{} in {}", one.column, output::count(one.rows))).collect();
        remark(format!("changed by {}: {}", rows.key.join(", "), columns.join(", ")));
    }
    if !rows.not_compared.is_empty() && rows.how == RowsKnown::Compared {
        remark(format!("not compared: {}", rows.not_compared.join(", ")));
    }
    if rows.duplicate_keys > 0 {
        let keys = output::plural(rows.duplicate_keys, "key");
        remark(format!("{keys} with several rows: those count as removed and added"));
    }
    if rows.null_keys > 0 {
        let count = output::plural(rows.null_keys, "row");
        remark(format!("{count} with a null in the key: those count as removed and added"));
    }
    if let Some(grid) = grid(style, &rows.rows) {
        for line in grid.text().lines() {
            output::line(format!("    {line}"));
        }
    }
}

/// The rows with the old and the new value of what changed side by side.
fn grid(style: Style, rows: &[RowDiff]) -> Option<Grid> {
    let columns = columns(rows);
    let repeated = rows.iter().any(|row| row.times > 1);
    let mut headings = vec![""];
    headings.extend(columns.iter().map(String::as_str));
    headings.extend(repeated.then_some("TIMES"));
    let mut grid = Grid::new(style, &headings);
    for row in rows {
        let (sign, tone) = signed(row.kind);
        let value = |column: &String| {
            let of = |side: &Option<Value>| side.as_ref().map(|side| shown(&side[column.as_str()]));
            match (of(&row.before), of(&row.after)) {
                (Some(before), Some(after)) if row.changed.contains(column) => {
                    let (before, after) =
                        (style.paint(Tone::Bad, before), style.paint(Tone::Good, after));
                    format!("{before} → {after}")
                }
                (Some(value), Some(_)) => value,
                (Some(value), None) | (None, Some(value)) => style.paint(tone, value),
                (None, None) => String::new(),
            }
        };
        let mut cells = vec![style.paint(tone, sign)];
        cells.extend(columns.iter().map(value));
        cells.extend(repeated.then(|| output::count(row.times)));
        grid.row(cells);
    }
    (!rows.is_empty()).then_some(grid)
}

/// The columns of some rows, in order.
fn columns(rows: &[RowDiff]) -> Vec<String> {
    let sides = rows.iter().find_map(|row| row.after.as_ref().or(row.before.as_ref()));
    let object = sides.and_then(Value::as_object);
    object.map(|object| object.keys().cloned().collect()).unwrap_or_default()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => NULL.to_owned(),
        Value::String(text) => cell(text),
        other => cell(&other.to_string()),
    }
}

/// The rows as CSV: what became of each, and its values on both sides.
fn csv(rows: &[RowDiff]) -> String {
    let columns = columns(rows);
    let mut headings = vec!["change".to_owned(), "times".to_owned()];
    for side in ["from", "to"] {
        headings.extend(columns.iter().map(|column| format!("{side}_{column}")));
    }
    let mut text = csv_line(headings);
    for row in rows {
        let kind = match row.kind {
            ChangeKind::Added => "added",
            ChangeKind::Removed => "removed",
            ChangeKind::Changed => "changed",
            ChangeKind::Same => "same",
        };
        let mut cells = vec![kind.to_owned(), row.times.to_string()];
        for side in [&row.before, &row.after] {
            cells.extend(columns.iter().map(
                |column| match side.as_ref().map(|row| &row[column]) {
                    None | Some(Value::Null) => String::new(),
                    Some(Value::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                },
            ));
        }
        text.push_str(&csv_line(cells));
    }
    text
}

fn csv_line(cells: Vec<String>) -> String {
    let quoted = cells.into_iter().map(|cell| {
        if cell.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell
        }
    });
    format!("{}\n", quoted.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(written: &[&str], expected: &str) {
        let text = |at: usize| written.get(at).map(|text| (*text).to_owned());
        let how = HowToCompare { summary: false, compare: None, stats: false };
        let arguments = TableDiffArguments {
            table: text(0).unwrap(),
            from: text(1),
            to: text(2),
            key: Vec::new(),
            limit: 1,
            page_token: None,
            how,
        };
        let (from, to) = sides(&arguments, "dev");
        assert_eq!(format!("{from} {to}"), expected);
    }

    #[test]
    fn states_are_named_in_every_form() {
        check(&["t", "main", "v1"], "t@main t@v1");
        check(&["t", "main"], "t@main t@dev");
        check(&["t"], "t@dev~1 t@dev");
        check(&["t~2"], "t@dev~2 t@dev");
        check(&["t@main", "t@dev"], "t@main t@dev");
        check(&["t@main", "u"], "t@main u@dev");
        check(&["t", "t~1"], "t@dev t@dev~1");
        check(&["t", "table"], "t@table t@dev");
        check(&["ns.t#7", "ns.t@main#8"], "ns.t#7 ns.t#8");
        check(&["t@@3fa9c1d2", "t*2026-11-01"], "t@@3fa9c1d2 t@dev*2026-11-01");
    }

    #[test]
    fn rows_as_csv_have_both_sides() {
        let changed = RowDiff {
            kind: ChangeKind::Changed,
            before: Some(json!({"id": 1, "name": "a,b"})),
            after: Some(json!({"id": 1, "name": null})),
            changed: vec!["name".to_owned()],
            times: 1,
        };
        let expected = "change,times,from_id,from_name,to_id,to_name\nchanged,1,1,\"a,b\",1,\n";
        assert_eq!(csv(&[changed]), expected);
    }
}
