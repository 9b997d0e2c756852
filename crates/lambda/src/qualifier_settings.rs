//! Settings of one qualifier of a function: a version, an alias or `$LATEST`.

use headwater_service::{FunctionChange, QualifierChange, Service, StoredFunction};

use crate::error::Result;
use crate::function_name::FunctionName;
use crate::request::LambdaRequest;

/// Returns a function, and its name with the qualifier from the request.
pub(crate) async fn get(
    service: &Service,
    request: &LambdaRequest,
    name: FunctionName,
) -> Result<(StoredFunction, FunctionName)> {
    let name = request.qualified(name)?;
    let functions = service.invocations().standalone();
    Ok((functions.get(&request.principal, &name.name).await?, name))
}

/// Changes the settings of a qualifier; returns the changed function.
pub(crate) async fn change(
    service: &Service,
    request: &LambdaRequest,
    name: &FunctionName,
    change: QualifierChange,
) -> Result<StoredFunction> {
    let change = FunctionChange::Qualifier(name.qualifier_or_latest().to_owned(), change);
    let functions = service.invocations().standalone();
    Ok(functions.change(&request.principal, &name.name, change.into()).await?)
}
