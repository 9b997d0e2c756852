//! Names of functions: a name, a full ARN, or a partial ARN, each with an optional qualifier.

use crate::error::{LambdaError, Result};

/// Region and account in ARNs. They are placeholders for clients that parse ARNs.
pub(crate) const REGION: &str = "us-east-1";
pub(crate) const ACCOUNT: &str = "000000000000";

/// A function as named in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FunctionName {
    pub name: String,
    /// The version or alias.
    pub qualifier: Option<String>,
}

impl FunctionName {
    /// Parses `name`, `name:qualifier`, `account:function:name` or a whole ARN.
    pub fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (name, qualifier) = match parts.as_slice() {
            [name]
            | ["function", name]
            | [_, "function", name]
            | ["arn", _, "lambda", _, _, "function", name] => (*name, None),
            [name, qualifier]
            | [_, "function", name, qualifier]
            | ["arn", _, "lambda", _, _, "function", name, qualifier] => (*name, Some(*qualifier)),
            _ => {
                return Err(LambdaError::invalid(format!(
                    "{text} is not the name or ARN of a function"
                )));
            }
        };
        let is_usable = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_name = !name.is_empty() && name.len() <= 140 && name.chars().all(is_usable);
        let is_qualifier = |text: &str| {
            !text.is_empty()
                && text.len() <= 128
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_$".contains(c))
        };
        if !is_name || !qualifier.is_none_or(is_qualifier) {
            return Err(LambdaError::invalid(format!(
                "{text} is not the name or ARN of a function"
            )));
        }
        Ok(FunctionName { name: name.to_owned(), qualifier: qualifier.map(str::to_owned) })
    }

    /// Returns the function with the qualifier of the query string. Fails if that qualifier differs
    /// from the qualifier in the name.
    pub fn qualified(mut self, query: Option<&str>) -> Result<Self> {
        match (&self.qualifier, query) {
            (Some(own), Some(other)) if own != other => Err(LambdaError::invalid(
                "The derived qualifier from the function name does not match the specified \
                 qualifier.",
            )),
            (None, Some(other)) => {
                self.qualifier = FunctionName::parse(&format!("x:{other}"))?.qualifier;
                Ok(self)
            }
            _ => Ok(self),
        }
    }

    /// Returns the qualifier, or `$LATEST`.
    pub fn qualifier_or_latest(&self) -> &str {
        self.qualifier.as_deref().unwrap_or("$LATEST")
    }

    /// Returns the function with another qualifier.
    pub fn with_qualifier(&self, qualifier: &str) -> Self {
        FunctionName { name: self.name.clone(), qualifier: Some(qualifier.to_owned()) }
    }

    /// Returns the name used to call the function in the service: `name` or `name:qualifier`.
    pub fn called(&self) -> String {
        match &self.qualifier {
            Some(qualifier) => format!("{}:{qualifier}", self.name),
            None => self.name.clone(),
        }
    }
}

/// Returns the ARN of a function, with a qualifier if there is one.
pub(crate) fn arn(name: &str, qualifier: Option<&str>) -> String {
    let qualifier = qualifier.map(|text| format!(":{text}")).unwrap_or_default();
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}{qualifier}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_arns_are_read_with_their_qualifiers() {
        for (text, called) in [
            ("price", "price"),
            ("price:3", "price:3"),
            ("price:$LATEST", "price:$LATEST"),
            ("000000000000:function:price", "price"),
            ("000000000000:function:price:live", "price:live"),
            ("arn:aws:lambda:us-east-1:000000000000:function:price", "price"),
            ("arn:aws:lambda:us-east-1:000000000000:function:price:live", "price:live"),
        ] {
            assert_eq!(FunctionName::parse(text).expect(text).called(), called);
        }
        for text in ["", "a/b", "a:b:c:d:e", "a:", "arn:aws:s3:::bucket", "ä", "a b"] {
            FunctionName::parse(text).expect_err(text);
        }
        let named = FunctionName::parse("price:3").expect("a name");
        named.clone().qualified(Some("4")).expect_err("contradicts");
        assert_eq!(named.qualified(Some("3")).expect("agrees").called(), "price:3");
    }
}
