//! Objects as destinations: each payload replaces the object with its key.

use headwater_function_lake::{CallIdentity, FunctionLakeAccess, LakeComponents};
use headwater_functions::{LakeAccess, LakeRequest};
use headwater_model::{AccessObject, Action, Problem};
use headwater_objects::is_bucket_name;
use serde_json::{Value, json};

use crate::address_parts::invalid;
use crate::payload::IdentifiedPayload;

/// An object whose key may contain `{event}`, `{date}` and `{function}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectTarget {
    bucket: String,
    pub(crate) key: String,
}

impl ObjectTarget {
    /// Parses `BUCKET/KEY`.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let hint = "Name a bucket and a key, such as `bucket://reports/{date}/{event}.csv`.";
        let (bucket, key) = text.split_once('/').unwrap_or((text, ""));
        if !is_bucket_name(bucket) {
            return Err(invalid(format_args!("`{bucket}` is not the name of a bucket"), hint));
        }
        if key.is_empty() {
            return Err(invalid("it has no key", hint));
        }
        // `*` would be a pattern in a grant; `?` and `#` are reserved for options.
        if key.contains(['*', '?', '#']) {
            return Err(invalid("the key contains `*`, `?` or `#`", hint));
        }
        let mut rest = key;
        while let Some((_, after)) = rest.split_once('{') {
            let name = after.split_once('}').map_or("", |(name, _)| name);
            if !["event", "date", "function"].contains(&name) {
                let reason = format!("the key contains the unknown value `{{{name}}}`");
                return Err(invalid(reason, "Use only `{event}`, `{date}` and `{function}`."));
            }
            rest = after;
        }
        Ok(ObjectTarget { bucket: bucket.to_owned(), key: key.to_owned() })
    }

    pub(crate) fn rights(&self) -> Vec<(Action, AccessObject)> {
        vec![(Action::Write, AccessObject::object_in(&self.bucket, &self.key))]
    }

    /// Returns the key of the object for a payload. Ids, dates and names of functions contain no
    /// braces.
    fn key(&self, content: &IdentifiedPayload<'_>) -> String {
        let key = self.key.replace("{event}", content.event());
        key.replace("{date}", &content.date()).replace("{function}", content.function())
    }

    /// Writes the object. If it is sent again, the same content replaces the object.
    pub(crate) async fn write(
        &self,
        lake: &LakeComponents,
        content: &IdentifiedPayload<'_>,
        scope: CallIdentity,
    ) -> Result<Value, Problem> {
        let (bucket, key) = (self.bucket.clone(), self.key(content));
        let written = json!({"bucket": bucket, "key": key});
        let content = content.file(&key).await?;
        let lake = FunctionLakeAccess::new(lake.clone(), scope);
        lake.answer(LakeRequest::PutObject { bucket, key, content }).await?;
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payload;

    #[test]
    fn a_key_contains_values_of_the_call() {
        let json = json!({
            "timestamp": "2026-03-01T10:00:00.250Z",
            "requestContext": {
                "requestId": "e1",
                "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:price:$LATEST",
            },
        });
        let content = IdentifiedPayload { id: "e2", payload: Payload::Record(&json) };
        let target = ObjectTarget::parse("reports/{date}/{function}-{event}.json").expect("valid");
        assert_eq!(target.key(&content), "2026-03-01/price-e1.json");
    }
}
