//! `information_schema` and `pg_catalog` for a statement. They contain the objects that the user
//! may see at the ref.
//!
//! Only the tables that a statement mentions are computed and registered in its session.

use futures::{StreamExt, TryStreamExt, stream};
use headwater_engine::{RecordBatches, Session};
use headwater_model::{
    AccessObject, Action, Branch, ErrorCode, Principal, Problem, RefSpec, ResultExt, TableName,
};
use headwater_postgres_catalog::{Relation, VisibleObjects, mentioned};
use headwater_tables::{SqlView, Table};

use crate::service::Components;

/// Maximum number of metadata files that are read concurrently.
const OPEN_AT_ONCE: usize = 16;

/// The ref that a statement reads, and the database name that clients see for it. In a transaction,
/// the database name is the name of the target branch.
#[derive(Debug)]
pub(crate) struct CatalogRef {
    pub reference: RefSpec,
    pub database: String,
}

impl Components {
    /// Registers the catalog tables and functions like `pg_cancel_backend` that a statement uses.
    pub(crate) async fn add_catalogs(
        &self,
        principal: &Principal,
        at: &CatalogRef,
        session: &Session,
        sql: &str,
    ) -> Result<(), Problem> {
        self.add_signals(principal, session, sql);
        let tables = mentioned(sql);
        if tables.is_empty() {
            return Ok(());
        }
        let contents = Box::pin(self.contents(principal, at)).await?;
        for (namespace, name) in tables {
            let found = contents.table(namespace, name);
            let found =
                found.map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?;
            if let Some((schema, batches)) = found {
                let batches = RecordBatches { schema, batches };
                session.register(&format!("{namespace}.{name}"), &batches).or_problem()?;
            }
        }
        Ok(())
    }

    /// Returns the objects at a ref that a user may see.
    async fn contents(
        &self,
        principal: &Principal,
        at: &CatalogRef,
    ) -> Result<VisibleObjects, Problem> {
        let view = self.lake.view(&at.reference).await.or_problem();
        let view = view.map_err(|problem| self.conceal(principal, problem))?;
        let mut entries = view.state().entries(None).await.or_problem()?;
        entries.retain(|(name, entry)| self.allows(principal, Action::Select, &entry.object(name)));
        let relations = stream::iter(entries)
            .map(|(name, entry)| {
                let view = &view;
                async move {
                    Ok::<_, Problem>(if entry.is_view() {
                        of_view(name, &view.load_view(&entry).await.or_problem()?)
                    } else {
                        let mut relation = of_table(name, &view.load(&entry).await.or_problem()?);
                        if self.is_restricted(principal, &relation.name, &entry.id) {
                            relation.rows = None;
                        }
                        relation
                    })
                }
            })
            .buffered(OPEN_AT_ONCE)
            .try_collect()
            .await?;
        let namespaces = self.entry_rights(principal).visible_namespaces(&view).await?;
        Ok(VisibleObjects {
            database: at.database.clone(),
            databases: self.databases(principal, &at.database).await?,
            user: principal.author().to_owned(),
            namespaces: namespaces.into_iter().map(|namespace| namespace.name).collect(),
            relations,
            connections: self.connections_of(principal).list(),
        })
    }

    /// Returns the branches that a user may see, and the ref of the statement: the databases that
    /// the catalog lists.
    async fn databases(
        &self,
        principal: &Principal,
        database: &str,
    ) -> Result<Vec<String>, Problem> {
        let branches = self.lake.catalog().branches(None).await.or_problem()?;
        let allows = |name: &str| self.allows(principal, Action::Read, &AccessObject::branch(name));
        let visible = Branch::visible(branches).into_iter().filter(|it| allows(&it.name));
        let mut names: Vec<String> = visible.map(|branch| branch.name).collect();
        if names.iter().all(|name| name != database) {
            names.push(database.to_owned());
        }
        Ok(names)
    }
}

fn of_table(name: TableName, table: &Table) -> Relation {
    Relation { name, query: None, rows: Some(table.rows()), columns: table.schema() }
}

fn of_view(name: TableName, view: &SqlView) -> Relation {
    let query = view.representations().into_iter().next().map(|(_, sql)| sql);
    Relation { name, query: Some(query.unwrap_or_default()), rows: None, columns: view.schema() }
}
