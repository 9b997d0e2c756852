//! CREATE SCHEMA and DROP SCHEMA.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::ObjectName;
use headwater_lake::CommitView;
use headwater_model::{Action, name, nearest};

use crate::error::{Error, Result, SqlError};
use crate::plan_output;
use crate::session::Session;
use crate::statement_result::StatementResult;
use headwater_sql::name_match::{NameMatch, find};
use headwater_sql::table_name::{namespace_of, position};

impl Session {
    /// Runs CREATE SCHEMA.
    pub(crate) async fn create_namespace(
        &self,
        name: &ObjectName,
        if_not_exists: bool,
    ) -> Result<StatementResult> {
        let mut transaction = self.transaction().await?;
        let metrics = self.run().metrics;
        let name = namespace_of(name)?;
        let known = spelled_namespace(transaction.view(), &name).await?;
        let spelled = known.as_deref().unwrap_or(&name);
        let object = transaction.view().namespace_object(spelled).await?;
        self.authorize(Action::Create, &object)?;
        match known {
            Some(_) if if_not_exists => return plan_output::of_write(0, None, metrics),
            Some(name) => return Err(Error::AlreadyExists { what: "namespace", name }),
            None => {
                let name = new_namespace(transaction.view(), name.clone()).await?;
                transaction.create_namespace(&name, BTreeMap::new());
            }
        }
        self.finish(transaction, &format!("create schema {name}"), &metrics).await
    }

    /// Runs DROP SCHEMA.
    pub(crate) async fn drop_namespaces(
        &self,
        names: &[ObjectName],
        if_exists: bool,
    ) -> Result<StatementResult> {
        let mut transaction = self.transaction().await?;
        let mut dropped = Vec::new();
        for written in names {
            let name = namespace_of(written)?;
            let known = spelled_namespace(transaction.view(), &name).await?;
            let spelled = known.as_deref().unwrap_or(&name);
            let object = transaction.view().namespace_object(spelled).await?;
            self.authorize(Action::Drop, &object)?;
            match known {
                Some(spelled) => {
                    transaction.drop_namespace(&spelled);
                    dropped.push(spelled);
                }
                None if if_exists => {}
                None => {
                    let namespaces = transaction.view().namespaces().await?;
                    return Err(Error::NamespaceNotFound {
                        near: nearest(&name, namespaces.iter().map(|known| known.name.as_str()))
                            .filter(|_| self.suggests()),
                        namespace: name,
                        reference: self.options.reference.to_string(),
                        position: position(written),
                    });
                }
            }
        }
        let metrics = self.run().metrics;
        self.finish(transaction, &format!("drop schema {}", dropped.join(", ")), &metrics).await
    }
}

/// Returns the stored spelling of a namespace; `None` if it does not exist.
pub(crate) async fn spelled_namespace(view: &CommitView, written: &str) -> Result<Option<String>> {
    let namespaces = view.namespaces().await?;
    match find(written, namespaces.iter().map(|known| known.name.as_str())) {
        NameMatch::One(name) => Ok(Some(name.to_owned())),
        NameMatch::None => Ok(None),
        NameMatch::Many(candidates) => Err(Error::Sql(SqlError::Ambiguous {
            name: written.to_owned(),
            candidates: candidates.into_iter().map(str::to_owned).collect(),
            position: None,
        })),
    }
}

/// Returns the name of a new namespace, with existing parents in their stored spelling.
async fn new_namespace(view: &CommitView, written: String) -> Result<String> {
    name::check_namespace(&written)?;
    let mut outer = name::parent(&written);
    while let Some(known) = outer {
        if let Some(spelled) = spelled_namespace(view, known).await? {
            return Ok(format!("{spelled}{}", &written[known.len()..]));
        }
        outer = name::parent(known);
    }
    Ok(written)
}
