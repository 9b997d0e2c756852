//! `headwater sql`: a SQL shell, or without a terminal the statements of standard input.

use std::collections::BTreeMap;
use std::time::Instant;

use headwater_model::{
    Branch as BranchRow, QueryRequest, SqlView, Table as TableRow, Tag as TagRow,
};
use headwater_shell::{
    BackslashCommand, CompletionNames, EntrySource, HELP, Relation, SharedNames, ShellEntry,
    next_entry, statements,
};

use crate::api::{ApiClient, segment};
use crate::arguments::{
    Branch, BranchLs, Command, Namespace, OutputFormat, RefArgument, Sql, Table, TableGet, TableLs,
    View,
};
use crate::commands::query::{execute, parse_ref};
use crate::commands::{dispatch, reference};
use crate::context::Context;
use crate::error::{self, Result};
use crate::output;
use crate::terminal::Tone;

/// The name of the history file in the state folder.
const HISTORY_FILE: &str = "sql_history";

/// The maximum nesting depth of included files.
const INCLUDE_DEPTH_MAX: usize = 16;

/// Runs `headwater sql`. On a terminal, the shell continues after an error; otherwise it ends at
/// the first error.
pub async fn sql(context: &Context, api: &ApiClient, arguments: Sql) -> Result<()> {
    let names = SharedNames::default();
    let mut input = EntrySource::open(names.clone(), history_file(context))?;
    let mut shell = ShellSession::new(context, api, arguments)?;
    shell.is_interactive = input.is_terminal();
    shell.timing = shell.is_interactive;
    if shell.is_interactive {
        // Fail early for a ref that does not exist.
        names.set(shell.names().await?);
        context.style.say(context.style.paint(Tone::Faint, "`\\?` for help, Ctrl-D to quit"));
    }
    loop {
        let prompt = format!("{}=> ", shell.reference);
        let reading = tokio::task::spawn_blocking(move || {
            let entry = input.read(&prompt);
            (input, entry)
        });
        let (returned, entry) = reading.await.map_err(error::unexpected)?;
        input = returned;
        let outcome = match entry? {
            ShellEntry::Text(text) => shell.run(&text, 0).await,
            ShellEntry::Interrupted => continue,
            ShellEntry::End => return Ok(()),
        };
        match outcome {
            Ok(ShellAction::Continue) => {}
            Ok(ShellAction::Quit) => return Ok(()),
            Err(problem) if shell.is_interactive => {
                context.style.print_problem(&context.explain(problem));
            }
            Err(problem) => return Err(problem),
        }
        if std::mem::take(&mut shell.names_changed) && shell.is_interactive {
            // On an error, keep the old names for completion.
            if let Ok(new) = shell.names().await {
                names.set(new);
            }
        }
    }
}

/// Returns the path of the history file, and creates its folder.
fn history_file(context: &Context) -> Option<std::path::PathBuf> {
    let folder = context.state.as_ref()?;
    std::fs::create_dir_all(folder).ok()?;
    Some(folder.join(HISTORY_FILE))
}

/// The action of the shell after an entry.
enum ShellAction {
    Continue,
    Quit,
}

/// A session of the shell. Backslash commands change its settings.
struct ShellSession<'a> {
    context: Context,
    api: &'a ApiClient,
    reference: String,
    namespace: Option<String>,
    memory_bytes_max: Option<u64>,
    limit: u64,
    timing: bool,
    is_interactive: bool,
    /// True if a statement may have changed names, so that the names for completion are fetched
    /// again.
    names_changed: bool,
}

impl<'a> ShellSession<'a> {
    fn new(context: &Context, api: &'a ApiClient, arguments: Sql) -> Result<Self> {
        Ok(ShellSession {
            reference: reference(context, arguments.at.reference)?,
            context: context.clone(),
            api,
            namespace: arguments.namespace,
            memory_bytes_max: arguments.memory,
            limit: arguments.limit,
            timing: false,
            is_interactive: false,
            names_changed: false,
        })
    }

    /// Runs a backslash command, or statements in order until one fails.
    async fn run(&mut self, text: &str, depth: usize) -> Result<ShellAction> {
        if text.trim_start().starts_with('\\') {
            return self.backslash(BackslashCommand::parse(text)?, depth).await;
        }
        let found = statements(text);
        let rest = Some(found.rest).filter(|rest| !rest.is_empty());
        for statement in found.complete.into_iter().chain(rest) {
            self.statement(statement).await?;
        }
        Ok(ShellAction::Continue)
    }

    async fn statement(&mut self, sql: &str) -> Result<()> {
        let request = QueryRequest {
            sql: sql.to_owned(),
            reference: Some(parse_ref(&self.reference)?),
            parameters: BTreeMap::new(),
            namespace: self.namespace.clone(),
            memory_bytes_max: self.memory_bytes_max,
            ..QueryRequest::default()
        };
        let is_table = self.context.output == OutputFormat::Table;
        let shown = Some(self.limit).filter(|limit| is_table && *limit > 0);
        let began = Instant::now();
        execute(&self.context, self.api, request, shown).await?;
        self.names_changed |= changes_names(sql);
        if self.timing {
            let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let time = format!("time: {}", output::milliseconds(milliseconds));
            self.context.style.say(self.context.style.paint(Tone::Faint, time));
        }
        Ok(())
    }

    async fn backslash(&mut self, command: BackslashCommand, depth: usize) -> Result<ShellAction> {
        let style = self.context.style;
        match command {
            BackslashCommand::Quit => return Ok(ShellAction::Quit),
            BackslashCommand::Help => output::line(HELP),
            BackslashCommand::Expanded => {
                let expanded = !self.context.answer_style.is_expanded();
                self.context.answer_style = self.context.answer_style.expanded(expanded);
                style.say(if expanded {
                    "expanded display is on"
                } else {
                    "expanded display is off"
                });
            }
            BackslashCommand::Timing => {
                self.timing = !self.timing;
                style.say(if self.timing { "timing is on" } else { "timing is off" });
            }
            BackslashCommand::Format(name) => self.context.output = format(&name)?,
            BackslashCommand::Limit(limit) => self.limit = limit,
            BackslashCommand::Connect(name) => self.connect(name).await?,
            BackslashCommand::Include(file) => return Box::pin(self.include(&file, depth)).await,
            listing => self.list(listing).await?,
        }
        Ok(ShellAction::Continue)
    }

    /// Switches to another ref if it exists.
    async fn connect(&mut self, name: String) -> Result<()> {
        let path = format!("/v1/refs/{}/tables", segment(&name));
        let _: Vec<TableRow> = self.api.get(path).await?;
        self.reference = name;
        self.names_changed = true;
        Ok(())
    }

    /// Runs the entries of a file. `\\q` in the file ends the file, not the shell.
    async fn include(&mut self, file: &std::path::Path, depth: usize) -> Result<ShellAction> {
        if depth == INCLUDE_DEPTH_MAX {
            return Err(error::invalid(format!("file `{}` includes itself", file.display())));
        }
        let opened = std::fs::File::open(file);
        let opened = opened.map_err(error::from_io(&format!("read `{}`", file.display())))?;
        let mut entries = std::io::BufReader::new(opened);
        while let ShellEntry::Text(text) = next_entry(&mut entries)? {
            if let ShellAction::Quit = self.run(&text, depth + 1).await? {
                break;
            }
        }
        Ok(ShellAction::Continue)
    }

    /// Runs the command that prints the requested list, such as `headwater table ls`.
    async fn list(&self, listing: BackslashCommand) -> Result<()> {
        let at = || RefArgument { reference: Some(self.reference.clone()) };
        let tables = || TableLs { at: at(), namespace: self.namespace.clone() };
        let command = match listing {
            BackslashCommand::Table(table) => {
                Command::Table(Table::Get(TableGet { table, at: at() }))
            }
            BackslashCommand::Views => Command::View(View::Ls(tables())),
            BackslashCommand::Namespaces => Command::Namespace(Namespace::Ls(at())),
            BackslashCommand::Branches => Command::Branch(Branch::Ls(BranchLs { all: false })),
            _ => Command::Table(Table::Ls(tables())),
        };
        // Lists cannot be printed as `csv`.
        let mut context = self.context.clone();
        if matches!(context.output, OutputFormat::Csv | OutputFormat::Ndjson) {
            context.output = OutputFormat::Table;
        }
        Box::pin(dispatch(&context, self.api, command)).await
    }

    /// Reads the names for completion.
    async fn names(&self) -> Result<CompletionNames> {
        let at = segment(&self.reference);
        let tables: Vec<TableRow> = self.api.get(format!("/v1/refs/{at}/tables")).await?;
        let views: Vec<SqlView> = self.api.get(format!("/v1/refs/{at}/views")).await?;
        let branches: Vec<BranchRow> = self.api.get("/v1/branches").await?;
        let tags: Vec<TagRow> = self.api.get("/v1/tags").await?;
        let views = views
            .into_iter()
            .map(|view| Relation { name: view.name.to_string(), columns: Vec::new() });
        let branches = branches.into_iter().map(|branch| branch.name);
        Ok(CompletionNames {
            relations: tables.into_iter().map(Relation::from).chain(views).collect(),
            refs: branches.chain(tags.into_iter().map(|tag| tag.name)).collect(),
        })
    }
}

fn format(name: &str) -> Result<OutputFormat> {
    clap::ValueEnum::from_str(name, true).map_err(|_| {
        error::invalid(format!("there is no format `{name}`"))
            .with_hint("Use `table`, `json`, `csv` or `ndjson`.")
    })
}

/// Returns true if a statement may change the names of tables, columns and branches.
fn changes_names(sql: &str) -> bool {
    let first = sql.split_whitespace().next().unwrap_or_default();
    ["create", "drop", "alter"].iter().any(|word| first.eq_ignore_ascii_case(word))
}
