//! `headwater branch diff` and `headwater table diff`.

use headwater_model::{
    ChangeKind, Diff, PropertyDiff, StatisticsDiff, TableComparison, TableDiff, ViewDiff,
};
use serde_json::Value;

use crate::api::{ApiClient, segment};
use crate::arguments::{
    BranchDiff, CompareArgument, CompareOptions, OutputFormat, TableDiff as TableDiffArguments,
};
use crate::commands::diff_rows::{csv, format_value, print_rows};
use crate::commands::reference;
use crate::context::Context;
use crate::error::Result;
use crate::output;
use crate::terminal::{OutputStyle, Tone};

/// Runs `headwater branch diff`.
pub async fn branch(context: &Context, api: &ApiClient, arguments: BranchDiff) -> Result<()> {
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

/// Runs `headwater table diff`.
pub async fn table(
    context: &Context,
    api: &ApiClient,
    arguments: TableDiffArguments,
) -> Result<()> {
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
    let snapshot = |side: &ComparedState| side.snapshot.clone();
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

fn parameters(how: &CompareOptions) -> String {
    let compare = match how.compare {
        None => "",
        Some(CompareArgument::Auto) => "&compare=auto",
        Some(CompareArgument::Always) => "&compare=always",
        Some(CompareArgument::Never) => "&compare=never",
    };
    format!("{compare}{}", if how.stats { "&stats=true" } else { "" })
}

/// A table's state to compare: the table at a ref, or one of its snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ComparedState {
    table: String,
    reference: String,
    snapshot: Option<String>,
}

impl std::fmt::Display for ComparedState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.snapshot {
            Some(snapshot) => write!(f, "{}#{snapshot}", self.table),
            None => write!(f, "{}@{}", self.table, self.reference),
        }
    }
}

/// Parses the two states to compare: `flights main dev`, `flights main`, `flights@main flights@dev`
/// or `flights~1`.
fn sides(arguments: &TableDiffArguments, active: &str) -> (ComparedState, ComparedState) {
    let TableDiffArguments { table, from, to, .. } = arguments;
    let first = ComparedState::parse(table, active);
    let is_state = |text: &str| {
        let marked = text.strip_prefix(first.table.as_str());
        marked.is_some_and(|rest| rest.is_empty() || rest.starts_with(MARKS)) || text.contains('#')
    };
    let named = first.table == *table;
    let other = match from {
        Some(other) if to.is_none() && (!named || is_state(other)) => other,
        None if !named => return (first.clone(), ComparedState::parse(&first.table, active)),
        _ => {
            let to = to.as_deref().unwrap_or(active);
            let before = || format!("{to}~1");
            let from = from.clone().unwrap_or_else(before);
            let at = |reference: String| ComparedState {
                reference,
                ..ComparedState::parse(&first.table, active)
            };
            return (at(from), at(to.to_owned()));
        }
    };
    (first.clone(), ComparedState::parse(other, active))
}

/// The characters that separate a table's name from its state.
const MARKS: [char; 4] = ['@', '~', '*', '#'];

impl ComparedState {
    fn parse(text: &str, active: &str) -> ComparedState {
        let (text, snapshot) = match text.rsplit_once('#') {
            Some((text, snapshot)) => (text, Some(snapshot.to_owned())),
            None => (text, None),
        };
        let (table, reference) = match text.find(MARKS) {
            Some(at) if text[at..].starts_with('@') => (&text[..at], text[at + 1..].to_owned()),
            Some(at) => (&text[..at], format!("{active}{}", &text[at..])),
            None => (text, active.to_owned()),
        };
        ComparedState { table: table.to_owned(), reference, snapshot }
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
        let remark = format!("more rows differ: use `--page-token {token}`");
        context.style.say(context.style.paint(Tone::Faint, remark));
    }
}

/// Prints a diff as text.
pub fn print_diff(style: OutputStyle, from: &str, to: &str, diff: &Diff) {
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

fn print_table(style: OutputStyle, table: &TableDiff) {
    let (sign, tone) = signed(table.kind);
    let heading = style.paint(tone, format!("{sign} {}", table.table));
    let sizes = if table.view.is_some() { "view".to_owned() } else { sizes(table) };
    output::line(format!("{heading}  {sizes}"));
    if let Some(view) = &table.view {
        print_queries(style, view);
    }
    print_columns(style, table);
    for (what, values) in [("", &table.layout), ("property ", &table.properties)] {
        for value in values.iter().filter(|value| !is_of_every_new_table(table.kind, value)) {
            let (sign, tone) = signed(value_kind(value));
            let values = match (&value.before, &value.after) {
                (None, Some(value)) | (Some(value), None) => format!("= {value}"),
                _ => from_to(value),
            };
            let text = format!("{sign} {what}{} {values}", value.key);
            output::line(format!("    {}", style.paint(tone, text)));
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

/// The Iceberg format version of new tables.
const FORMAT_VERSION: &str = "2";

/// The prefix of properties that Headwater sets.
const OWN_PROPERTY: &str = "headwater.";

/// Returns true for a property that every new table gets, which a diff does not list.
fn is_of_every_new_table(kind: ChangeKind, value: &PropertyDiff) -> bool {
    let is_default =
        value.key == "format-version" && value.after.as_deref() == Some(FORMAT_VERSION);
    kind == ChangeKind::Added && (is_default || value.key.starts_with(OWN_PROPERTY))
}

fn value_kind(value: &PropertyDiff) -> ChangeKind {
    match (&value.before, &value.after) {
        (None, Some(_)) => ChangeKind::Added,
        (Some(_), None) => ChangeKind::Removed,
        _ => ChangeKind::Changed,
    }
}

/// Returns the symbol and the tone of a change.
pub fn signed(kind: ChangeKind) -> (&'static str, Tone) {
    match kind {
        ChangeKind::Added => ("+", Tone::Good),
        ChangeKind::Removed => ("-", Tone::Bad),
        ChangeKind::Changed => ("~", Tone::Warn),
        ChangeKind::Same => ("=", Tone::Faint),
    }
}

fn print_queries(style: OutputStyle, view: &ViewDiff) {
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

fn print_columns(style: OutputStyle, table: &TableDiff) {
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

/// Formats the changed statistics of a column that exists on both sides.
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
        .map(|(name, before, after)| {
            format!("{name} {} → {}", format_value(before), format_value(after))
        })
        .collect();
    let bounds = if before.exact && after.exact { "" } else { " (bounds)" };
    (!texts.is_empty()).then(|| format!("{}: {}{bounds}", statistics.column, texts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(written: &[&str], expected: &str) {
        let text = |at: usize| written.get(at).map(|text| (*text).to_owned());
        let how = CompareOptions { summary: false, compare: None, stats: false };
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
    fn states_are_parsed_in_every_form() {
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
}
