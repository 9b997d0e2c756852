//! The statements ALTER TABLE and COMMENT ON, which change metadata only.

use arrow::datatypes::Schema;
use datafusion::sql::sqlparser::ast::{ColumnDef, Ident, ObjectName};
use headwater_catalog::TableEntry;
use headwater_model::{AccessObject, Action, ErrorCode, TableName, ToProblem};
use headwater_tables::{Alteration, ColumnPosition, PartitionFieldRef};

use crate::column_definitions;
use crate::error::{Error, Result};
use crate::plan_output;
use crate::session::{Session, StatementContext};
use crate::statement_result::StatementResult;
use headwater_sql::alter_table::{
    AlterTableStatement, ParsedAlteration, ParsedPartitionField, ParsedPosition,
};
use headwater_sql::create_table::COMMENT;
use headwater_sql::statement::CommentStatement;
use headwater_sql::table_name::idents;

impl Session {
    /// Runs ALTER TABLE.
    pub(crate) async fn alter_table(&self, change: AlterTableStatement) -> Result<StatementResult> {
        let AlterTableStatement { name, if_exists, mut alterations } = change;
        if let [ParsedAlteration::RenameTable(_)] = alterations.as_slice()
            && let Some(ParsedAlteration::RenameTable(to)) = alterations.pop()
        {
            return self.rename_table(&name, &to, if_exists).await;
        }
        let mut transaction = self.transaction().await?;
        let view = transaction.view().clone();
        let (table, exists) = self.target(&name, &view, &[Action::Alter]).await?;
        let run = self.run();
        if !exists && if_exists {
            return plan_output::of_write(0, None, run.metrics);
        }
        if !exists {
            return Err(self.no_such_table(&name, &table, &view).await?);
        }
        let alterations =
            alterations.into_iter().map(|one| alteration(&run, one)).collect::<Result<_>>()?;
        let before = transaction.table(&table).await?;
        let altered = transaction.alter(&table, alterations).await;
        altered.map_err(|error| list_columns(error, &before.schema()))?;
        let after = transaction.table(&table).await?;
        if after.metadata_location() == before.metadata_location() {
            return plan_output::of_write(0, None, run.metrics);
        }
        self.finish_with(transaction, &format!("alter table {table}"), 0, &run.metrics).await
    }
}

/// Adds the table's columns to the hint of an error, if the error names an unknown column and
/// suggests no similar name.
fn list_columns(error: headwater_lake::Error, schema: &Schema) -> Error {
    const LISTED: usize = 20;
    let mut problem = error.to_problem();
    let is_near = problem.hint.as_ref().is_some_and(|hint| hint.starts_with("Did you mean"));
    if problem.code != ErrorCode::ColumnNotFound || is_near {
        return error.into();
    }
    let names = schema.fields().iter().take(LISTED).map(|field| format!("`{}`", field.name()));
    let names = names.collect::<Vec<_>>().join(", ");
    let more = if schema.fields().len() > LISTED { ", …" } else { "" };
    problem.hint = Some(format!("The columns are {names}{more}."));
    Error::Problem(problem)
}

impl Session {
    /// Runs ALTER TABLE … RENAME TO for a table or view. An unqualified new name keeps the
    /// namespace of the old name. Needs the right to read the table, because users with rights on
    /// the new name can then read its rows.
    async fn rename_table(
        &self,
        from: &ObjectName,
        to: &ObjectName,
        if_exists: bool,
    ) -> Result<StatementResult> {
        let mut transaction = self.transaction().await?;
        let view = transaction.view().clone();
        let actions = [Action::Alter, Action::Select];
        let (table, entry) = self.view_target(from, &view, &actions).await?;
        let run = self.run();
        let Some(entry) = entry else {
            if if_exists {
                return plan_output::of_write(0, None, run.metrics);
            }
            return Err(self.no_such_table(from, &table, &view).await?);
        };
        let to = match idents(to)?.as_slice() {
            [name] => {
                let namespace = Ident::with_quote('"', &table.namespace);
                ObjectName::from(vec![namespace, Ident::clone(name)])
            }
            _ => to.clone(),
        };
        let (new, taken) = if entry.is_view() {
            let (new, taken) = self.view_target(&to, &view, &[]).await?;
            self.authorize(Action::Create, &view.new_object(AccessObject::view(&new)).await?)?;
            (new, taken)
        } else {
            self.view_target(&to, &view, &[Action::Create]).await?
        };
        if let Some(taken) = taken
            && new != table
        {
            return Err(Error::AlreadyExists { what: kind(&taken), name: new.to_string() });
        }
        let written = idents(&to)?.pop().map(|name| name.value.clone()).unwrap_or_default();
        let new = TableName::new(new.namespace, written)?;
        if new == table {
            return plan_output::of_write(0, None, run.metrics);
        }
        if entry.is_view() {
            transaction.views().rename(&table, &new).await?;
        } else {
            self.check_rename(&table, &entry)?;
            transaction.rename(&table, &new).await?;
        }
        let message = format!("rename {} {table} to {new}", kind(&entry));
        self.finish_with(transaction, &message, 0, &run.metrics).await
    }

    /// Runs COMMENT ON TABLE or COLUMN.
    pub(crate) async fn comment(&self, comment: CommentStatement) -> Result<StatementResult> {
        let CommentStatement { table, column, text, if_exists } = comment;
        let alterations = match column {
            Some(column) => {
                let column = ObjectName::from(vec![column]);
                vec![ParsedAlteration::Comment { column, comment: text }]
            }
            None => vec![ParsedAlteration::Properties(vec![(COMMENT.to_owned(), text)])],
        };
        self.alter_table(AlterTableStatement { name: table, if_exists, alterations }).await
    }
}

fn kind(entry: &TableEntry) -> &'static str {
    if entry.is_view() { "view" } else { "table" }
}

fn alteration(run: &StatementContext, written: ParsedAlteration) -> Result<Alteration> {
    Ok(match written {
        ParsedAlteration::Add { within, column, place, if_not_exists } => {
            let within = within.into_iter().map(|name| name.value).collect();
            let column = column_definitions::field(&run.state, column, run.limits)?;
            Alteration::AddColumn { within, column, place: place.map(place_of), if_not_exists }
        }
        ParsedAlteration::Drop { column, if_exists } => {
            Alteration::DropColumn { column: path(&column)?, if_exists }
        }
        ParsedAlteration::Rename { column, name } => {
            Alteration::RenameColumn { column: path(&column)?, name: name.value }
        }
        ParsedAlteration::Retype { column, data_type } => {
            let written = path(&column)?;
            let name = Ident::new(written.join("."));
            let definition = ColumnDef { name, data_type, options: Vec::new() };
            let data_type = column_definitions::field(&run.state, definition, run.limits)?;
            Alteration::WidenColumn { column: written, data_type }
        }
        ParsedAlteration::AllowNulls(column) => Alteration::AllowNulls(path(&column)?),
        ParsedAlteration::RequireValues(column) => Alteration::RequireValues(path(&column)?),
        ParsedAlteration::Comment { column, comment } => {
            Alteration::Comment { column: path(&column)?, comment }
        }
        ParsedAlteration::Default { column, value } => {
            let value =
                value.map(|value| column_definitions::constant(value, run.limits)).transpose()?;
            Alteration::SetDefault { column: path(&column)?, value }
        }
        ParsedAlteration::AddPart { field, name } => Alteration::AddPart { field, name },
        ParsedAlteration::DropPart(part) => Alteration::DropPart(part_name(part)),
        ParsedAlteration::ReplacePart { old, field, name } => {
            Alteration::ReplacePart { old: part_name(old), field, name }
        }
        ParsedAlteration::SortBy(keys) => Alteration::SortBy(column_definitions::sort(keys)),
        ParsedAlteration::PrimaryKey(columns) => Alteration::Identify(columns),
        ParsedAlteration::RenameTable(_) => {
            return Err(Error::unsupported("RENAME TO together with another change"));
        }
        ParsedAlteration::Move { column, place } => {
            Alteration::MoveColumn { column: path(&column)?, place: place_of(place) }
        }
        ParsedAlteration::Properties(properties) => {
            Alteration::SetProperties(properties.into_iter().collect())
        }
    })
}

/// Returns the path of a nested column.
fn path(column: &ObjectName) -> Result<Vec<String>> {
    Ok(idents(column)?.into_iter().map(|name| name.value.clone()).collect())
}

fn part_name(part: ParsedPartitionField) -> PartitionFieldRef {
    match part {
        ParsedPartitionField::Name(name) => PartitionFieldRef::Name(name),
        ParsedPartitionField::Field(field) => PartitionFieldRef::Field(field),
    }
}

fn place_of(place: ParsedPosition) -> ColumnPosition {
    match place {
        ParsedPosition::First => ColumnPosition::First,
        ParsedPosition::After(column) => ColumnPosition::After(column.value),
    }
}
