//! Functions with the decorators of Bauplan, read as steps: models and expectations, their inputs
//! and the schemas of typed contracts.

mod function;
mod input;
mod schema;
mod unsupported;

pub(super) use self::function::BauplanReader;
pub(crate) use self::schema::{Schema, Schemas};
pub(super) use self::unsupported::refuse_unsupported;
