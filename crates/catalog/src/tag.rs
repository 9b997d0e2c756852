//! Tags: fixed names of commits.

use headwater_model::{CreateRef, RefSpec, Tag, reference};
use headwater_store::{Batch, Expected, RefChange};

use crate::branch::{CreateRefOutcome, rename_error};
use crate::catalog::{branch_ref, tag_ref};
use crate::codec::{self, TagRecord};
use crate::{Catalog, Error, Result};

impl TagRecord {
    fn into_tag(self, name: &str) -> Tag {
        Tag { name: name.to_owned(), commit: self.commit, created: self.created }
    }
}

impl Catalog {
    /// Returns a tag, or `RefNotFound`.
    pub async fn tag(&self, name: &str) -> Result<Tag> {
        Ok(self.tag_record(name).await?.0.into_tag(name))
    }

    /// Lists tags by name, optionally only those with a prefix.
    pub async fn tags(&self, prefix: Option<&str>) -> Result<Vec<Tag>> {
        let found = self.refs(&tag_ref(prefix.unwrap_or_default())).await?;
        let tags = found.into_iter().map(|(name, bytes)| {
            let name = name.strip_prefix("tag/").unwrap_or(&name);
            Ok(codec::decode::<TagRecord>("a tag", &bytes)?.into_tag(name))
        });
        tags.collect()
    }

    /// Creates a tag.
    pub async fn create_tag(&self, request: CreateRef) -> Result<Tag> {
        reference::check_ref_name(&request.name, "tag")?;
        let from = request.from.unwrap_or_else(RefSpec::main);
        let record = TagRecord { commit: self.resolve(&from).await?.commit, created: self.now() };
        let name = &request.name;
        let value = codec::encode("a tag", &record)?;
        match self.create_ref(tag_ref(name), branch_ref(name), value, None).await? {
            CreateRefOutcome::Created => Ok(record.into_tag(name)),
            CreateRefOutcome::Exists if request.if_not_exists => self.tag(name).await,
            CreateRefOutcome::Exists => Err(Error::RefExists { what: "tag", name: name.clone() }),
            CreateRefOutcome::OtherKindExists | CreateRefOutcome::SourceMoved => {
                Err(Error::RefExists { what: "branch", name: name.clone() })
            }
        }
    }

    /// Deletes a tag.
    pub async fn delete_tag(&self, name: &str) -> Result<()> {
        let (record, bytes) = self.tag_record(name).await?;
        let change =
            RefChange { name: tag_ref(name), expected: Expected::Value(bytes), value: None };
        let entries = vec![self.deletion_entry(name, record.commit)?];
        self.store.apply(Batch { refs: vec![change], entries, ..Batch::default() }).await?;
        Ok(())
    }

    /// Renames a tag.
    pub async fn rename_tag(&self, from: &str, to: &str) -> Result<Tag> {
        reference::check_ref_name(to, "tag")?;
        let (record, bytes) = self.tag_record(from).await?;
        if from == to {
            return Err(Error::RefExists { what: "tag", name: to.to_owned() });
        }
        let old = Expected::Value(bytes.clone());
        let refs = vec![
            RefChange { name: tag_ref(from), expected: old, value: None },
            RefChange { name: tag_ref(to), expected: Expected::Absent, value: Some(bytes) },
            RefChange { name: branch_ref(to), expected: Expected::Absent, value: None },
        ];
        match self.store.apply(Batch { refs, ..Batch::default() }).await {
            Ok(_) => Ok(record.into_tag(to)),
            Err(error) => Err(rename_error(error, "tag", from, to)),
        }
    }

    async fn tag_record(&self, name: &str) -> Result<(TagRecord, bytes::Bytes)> {
        match self.store.reference(&tag_ref(name)).await? {
            Some(bytes) => Ok((codec::decode(&format!("tag `{name}`"), &bytes)?, bytes)),
            None => Err(self.no_ref("tag", name).await?),
        }
    }
}
