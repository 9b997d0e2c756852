//! Routes: maps a method and path to an operation.

use http::Method;

use crate::error::{LambdaError, Result};
use crate::function_name::FunctionName;
use crate::layer::LayerOperation;
use crate::queue_mapping::MappingOperation;
use crate::request::decode;

/// An operation with the parameters from its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    CreateFunction,
    ListFunctions,
    GetFunction(FunctionName),
    DeleteFunction(FunctionName),
    GetConfiguration(FunctionName),
    UpdateConfiguration(FunctionName),
    UpdateCode(FunctionName),
    Invoke(FunctionName),
    InvokeAsync(FunctionName),
    InvokeStream(FunctionName),
    PublishVersion(FunctionName),
    ListVersions(FunctionName),
    CreateAlias(FunctionName),
    ListAliases(FunctionName),
    GetAlias(FunctionName, String),
    UpdateAlias(FunctionName, String),
    DeleteAlias(FunctionName, String),
    PutConcurrency(FunctionName),
    GetConcurrency(FunctionName),
    DeleteConcurrency(FunctionName),
    PutProvisioned(FunctionName),
    GetProvisioned(FunctionName),
    DeleteProvisioned(FunctionName),
    GetCodeSigning(FunctionName),
    CreateUrl(FunctionName),
    GetUrl(FunctionName),
    UpdateUrl(FunctionName),
    DeleteUrl(FunctionName),
    ListUrls(FunctionName),
    PutInvokeConfig(FunctionName),
    GetInvokeConfig(FunctionName),
    UpdateInvokeConfig(FunctionName),
    DeleteInvokeConfig(FunctionName),
    ListInvokeConfigs(FunctionName),
    AddPermission(FunctionName),
    GetPolicy(FunctionName),
    RemovePermission(FunctionName, String),
    Tag(FunctionName),
    Untag(FunctionName),
    ListTags(FunctionName),
    Layers(LayerOperation),
    Mappings(MappingOperation),
    AccountSettings,
}

impl Operation {
    /// Returns the operation of a request. `path` is still percent-encoded.
    pub fn of(method: &Method, path: &str) -> Result<Self> {
        let parts: Vec<String> = path.trim_matches('/').split('/').map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let unknown = || {
            let message = format!("{method} {path} is not supported");
            LambdaError::new(404, "UnknownOperationException", message)
        };
        match parts.as_slice() {
            ["2015-03-31", "functions"] => match *method {
                Method::POST => Ok(Operation::CreateFunction),
                Method::GET => Ok(Operation::ListFunctions),
                _ => Err(unknown()),
            },
            ["2016-08-19", "account-settings"] => Ok(Operation::AccountSettings),
            ["2017-03-31", "tags", arn] => {
                of_tags(method, FunctionName::parse(arn)?).ok_or_else(unknown)
            }
            ["2018-10-31", "layers", rest @ ..] => {
                LayerOperation::of(method, rest).map(Operation::Layers).ok_or_else(unknown)
            }
            ["2015-03-31", "event-source-mappings", rest @ ..] => {
                MappingOperation::of(method, rest).map(Operation::Mappings).ok_or_else(unknown)
            }
            [date, "functions", name, rest @ ..] => {
                let name = FunctionName::parse(name)?;
                of_function(method, date, name, rest).ok_or_else(unknown)
            }
            _ => Err(unknown()),
        }
    }
}

fn of_tags(method: &Method, name: FunctionName) -> Option<Operation> {
    match *method {
        Method::POST => Some(Operation::Tag(name)),
        Method::DELETE => Some(Operation::Untag(name)),
        Method::GET => Some(Operation::ListTags(name)),
        _ => None,
    }
}

fn of_function(
    method: &Method,
    date: &str,
    name: FunctionName,
    rest: &[&str],
) -> Option<Operation> {
    use Operation as Op;
    let operation = match (date, method.as_str(), rest) {
        ("2015-03-31", "GET", []) => Op::GetFunction(name),
        ("2015-03-31", "DELETE", []) => Op::DeleteFunction(name),
        ("2015-03-31", "GET", ["configuration"]) => Op::GetConfiguration(name),
        ("2015-03-31", "PUT", ["configuration"]) => Op::UpdateConfiguration(name),
        ("2015-03-31", "PUT", ["code"]) => Op::UpdateCode(name),
        ("2015-03-31", "POST", ["invocations"]) => Op::Invoke(name),
        ("2014-11-13", "POST", ["invoke-async"]) => Op::InvokeAsync(name),
        ("2021-11-15", "POST", ["response-streaming-invocations"]) => Op::InvokeStream(name),
        ("2015-03-31", "POST", ["versions"]) => Op::PublishVersion(name),
        ("2015-03-31", "GET", ["versions"]) => Op::ListVersions(name),
        ("2015-03-31", "POST", ["aliases"]) => Op::CreateAlias(name),
        ("2015-03-31", "GET", ["aliases"]) => Op::ListAliases(name),
        ("2015-03-31", "GET", ["aliases", alias]) => Op::GetAlias(name, (*alias).to_owned()),
        ("2015-03-31", "PUT", ["aliases", alias]) => Op::UpdateAlias(name, (*alias).to_owned()),
        ("2015-03-31", "DELETE", ["aliases", alias]) => Op::DeleteAlias(name, (*alias).to_owned()),
        ("2017-10-31", "PUT", ["concurrency"]) => Op::PutConcurrency(name),
        ("2019-09-30", "GET", ["concurrency"]) => Op::GetConcurrency(name),
        ("2017-10-31", "DELETE", ["concurrency"]) => Op::DeleteConcurrency(name),
        ("2020-06-30", "GET", ["code-signing-config"]) => Op::GetCodeSigning(name),
        _ => return of_qualifier(method, date, name, rest),
    };
    Some(operation)
}

/// Returns an operation on the settings of a version or alias.
fn of_qualifier(
    method: &Method,
    date: &str,
    name: FunctionName,
    rest: &[&str],
) -> Option<Operation> {
    use Operation as Op;
    let config = "event-invoke-config";
    let operation = match (date, method.as_str(), rest) {
        ("2021-10-31", "POST", ["url"]) => Op::CreateUrl(name),
        ("2021-10-31", "GET", ["url"]) => Op::GetUrl(name),
        ("2021-10-31", "PUT", ["url"]) => Op::UpdateUrl(name),
        ("2021-10-31", "DELETE", ["url"]) => Op::DeleteUrl(name),
        ("2021-10-31", "GET", ["urls"]) => Op::ListUrls(name),
        ("2019-09-25", "PUT", [last]) if *last == config => Op::PutInvokeConfig(name),
        ("2019-09-25", "GET", [last]) if *last == config => Op::GetInvokeConfig(name),
        ("2019-09-25", "POST", [last]) if *last == config => Op::UpdateInvokeConfig(name),
        ("2019-09-25", "DELETE", [last]) if *last == config => Op::DeleteInvokeConfig(name),
        ("2019-09-25", "GET", [first, "list"]) if *first == config => Op::ListInvokeConfigs(name),
        ("2019-09-30", "PUT", ["provisioned-concurrency"]) => Op::PutProvisioned(name),
        ("2019-09-30", "GET", ["provisioned-concurrency"]) => Op::GetProvisioned(name),
        ("2019-09-30", "DELETE", ["provisioned-concurrency"]) => Op::DeleteProvisioned(name),
        ("2015-03-31", "POST", ["policy"]) => Op::AddPermission(name),
        ("2015-03-31", "GET", ["policy"]) => Op::GetPolicy(name),
        ("2015-03-31", "DELETE", ["policy", id]) => Op::RemovePermission(name, (*id).to_owned()),
        _ => return None,
    };
    Some(operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_found_by_method_and_path() {
        let price = || FunctionName { name: "price".to_owned(), qualifier: None };
        for (method, path, expected) in [
            (Method::POST, "/2015-03-31/functions", Operation::CreateFunction),
            (Method::GET, "/2015-03-31/functions/", Operation::ListFunctions),
            (Method::GET, "/2015-03-31/functions/price", Operation::GetFunction(price())),
            (
                Method::POST,
                "/2015-03-31/functions/0%3Afunction%3Aprice/invocations",
                Operation::Invoke(price()),
            ),
            (
                Method::GET,
                "/2015-03-31/functions/price/aliases/live",
                Operation::GetAlias(price(), "live".to_owned()),
            ),
            (Method::GET, "/2017-03-31/tags/price", Operation::ListTags(price())),
            (
                Method::PUT,
                "/2015-03-31/event-source-mappings/a",
                Operation::Mappings(MappingOperation::Update("a".to_owned())),
            ),
        ] {
            assert_eq!(Operation::of(&method, path).expect(path), expected);
        }
        for (method, path) in [
            (Method::GET, "/"),
            (Method::PATCH, "/2015-03-31/functions"),
            (Method::GET, "/2015-03-31/functions/a%2Fb"),
            (Method::GET, "/2015-03-31/functions/price/layers"),
            (Method::PATCH, "/2015-03-31/event-source-mappings"),
        ] {
            Operation::of(&method, path).expect_err(path);
        }
    }
}
