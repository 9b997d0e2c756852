//! Tags: names that always refer to the same commit.

use headwater_model::{CreateRef, RefSpec, Tag, reference};
use headwater_store::{RefChange, RefPrecondition, WriteBatch};

use crate::branch::{CreateRefOutcome, rename_error};
use crate::catalog::{branch_ref, tag_ref};
use crate::codec::{self, TagRecord};
use crate::{Catalog, Error, Result};

impl TagRecord {
    fn into_tag(self, name: &str) -> Tag {
        Tag { name: name.to_owned(), commit: self.commit, created: self.created }
    }
}

/// The tags of a lake. Returned by a [`Catalog`].
#[derive(Debug, Clone, Copy)]
pub struct Tags<'a> {
    pub(crate) catalog: &'a Catalog,
}

impl Tags<'_> {
    /// Returns a tag, or `RefNotFound`.
    pub async fn get(self, name: &str) -> Result<Tag> {
        Ok(self.tag_record(name).await?.0.into_tag(name))
    }

    /// Lists tags by name. With `prefix`, lists only tags whose names begin with it.
    pub async fn list(self, prefix: Option<&str>) -> Result<Vec<Tag>> {
        let found = self.catalog.refs(&tag_ref(prefix.unwrap_or_default())).await?;
        let tags = found.into_iter().map(|(name, bytes)| {
            let name = name.strip_prefix("tag/").unwrap_or(&name);
            Ok(codec::decode::<TagRecord>("a tag", &bytes)?.into_tag(name))
        });
        tags.collect()
    }

    /// Creates a tag.
    pub async fn create(self, request: CreateRef) -> Result<Tag> {
        reference::check_ref_name(&request.name, "tag")?;
        let from = request.from.unwrap_or_else(RefSpec::main);
        let record = TagRecord {
            commit: self.catalog.resolve(&from).await?.commit,
            created: self.catalog.now(),
        };
        let name = &request.name;
        let value = codec::encode("a tag", &record)?;
        match self.catalog.create_ref(tag_ref(name), branch_ref(name), value, None).await? {
            CreateRefOutcome::Created => Ok(record.into_tag(name)),
            CreateRefOutcome::Exists if request.if_not_exists => self.get(name).await,
            CreateRefOutcome::Exists => Err(Error::RefExists { what: "tag", name: name.clone() }),
            CreateRefOutcome::OtherKindExists | CreateRefOutcome::SourceMoved => {
                Err(Error::RefExists { what: "branch", name: name.clone() })
            }
        }
    }

    /// Deletes a tag.
    pub async fn delete(self, name: &str) -> Result<()> {
        let (record, bytes) = self.tag_record(name).await?;
        let change =
            RefChange { name: tag_ref(name), expected: RefPrecondition::Value(bytes), value: None };
        let entries = vec![self.catalog.deletion_entry(name, record.commit)?];
        self.catalog
            .store
            .apply(WriteBatch { refs: vec![change], entries, ..WriteBatch::default() })
            .await?;
        Ok(())
    }

    /// Renames a tag.
    pub async fn rename(self, from: &str, to: &str) -> Result<Tag> {
        reference::check_ref_name(to, "tag")?;
        let (record, bytes) = self.tag_record(from).await?;
        if from == to {
            return Err(Error::RefExists { what: "tag", name: to.to_owned() });
        }
        let old = RefPrecondition::Value(bytes.clone());
        let refs = vec![
            RefChange { name: tag_ref(from), expected: old, value: None },
            RefChange { name: tag_ref(to), expected: RefPrecondition::Absent, value: Some(bytes) },
            RefChange { name: branch_ref(to), expected: RefPrecondition::Absent, value: None },
        ];
        match self.catalog.store.apply(WriteBatch { refs, ..WriteBatch::default() }).await {
            Ok(_) => Ok(record.into_tag(to)),
            Err(error) => Err(rename_error(error, "tag", from, to)),
        }
    }

    async fn tag_record(self, name: &str) -> Result<(TagRecord, bytes::Bytes)> {
        match self.catalog.store.reference(&tag_ref(name)).await? {
            Some(bytes) => Ok((codec::decode(&format!("tag `{name}`"), &bytes)?, bytes)),
            None => Err(self.catalog.no_ref("tag", name).await?),
        }
    }
}
