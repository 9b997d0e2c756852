//! ALTER TABLE: columns and properties of a table change, and no row does.

use datafusion::sql::sqlparser::ast::{ColumnDef, Ident};
use headwater_tables::{Alteration, Place};

use crate::answer::Answer;
use crate::create;
use crate::error::Result;
use crate::output;
use crate::session::{Run, Session};
use crate::sql::alter::{TableChange, WrittenAlteration, WrittenPlace, path};

impl Session {
    /// ALTER TABLE.
    pub(crate) async fn alter_table(&self, change: TableChange) -> Result<Answer> {
        let TableChange { name, if_exists, alterations } = change;
        let mut transaction = self.transaction().await?;
        let view = transaction.view().clone();
        let (table, exists) = self.target(&name, &view).await?;
        let run = self.run();
        if !exists && if_exists {
            return output::of_write(0, None, run.metrics);
        }
        if !exists {
            return Err(self.no_such_table(&name, &table, &view).await?);
        }
        let alterations =
            alterations.into_iter().map(|one| alteration(&run, one)).collect::<Result<_>>()?;
        let before = transaction.table(&table).await?;
        transaction.alter(&table, alterations).await?;
        let after = transaction.table(&table).await?;
        if after.metadata_location() == before.metadata_location() {
            return output::of_write(0, None, run.metrics);
        }
        self.finish_with(transaction, &format!("alter table {table}"), 0, &run.metrics).await
    }
}

fn alteration(run: &Run, written: WrittenAlteration) -> Result<Alteration> {
    Ok(match written {
        WrittenAlteration::Add { mut column, place, if_not_exists } => {
            let mut within = path(&column.name);
            column.name.value = within.pop().unwrap_or_default();
            let column = create::field(&run.state, column, run.limits)?;
            Alteration::AddColumn { within, column, place: place.map(place_of), if_not_exists }
        }
        WrittenAlteration::Drop { column, if_exists } => {
            Alteration::DropColumn { column: path(&column), if_exists }
        }
        WrittenAlteration::Rename { column, name } => {
            Alteration::RenameColumn { column: path(&column), name: name.value }
        }
        WrittenAlteration::Retype { column, data_type } => {
            let written = path(&column);
            let name = Ident { value: written.join("."), ..column };
            let definition = ColumnDef { name, data_type, options: Vec::new() };
            let data_type = create::field(&run.state, definition, run.limits)?;
            Alteration::WidenColumn { column: written, data_type }
        }
        WrittenAlteration::AllowNulls(column) => Alteration::AllowNulls(path(&column)),
        WrittenAlteration::Move { column, place } => {
            Alteration::MoveColumn { column: path(&column), place: place_of(place) }
        }
        WrittenAlteration::Properties(properties) => {
            Alteration::SetProperties(properties.into_iter().collect())
        }
    })
}

fn place_of(place: WrittenPlace) -> Place {
    match place {
        WrittenPlace::First => Place::First,
        WrittenPlace::After(column) => Place::After(column.value),
    }
}
