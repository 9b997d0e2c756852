//! The owners of the functions of the deployed project.
//!
//! A function of a project belongs to the user that deployed the active version. The owner is
//! stored with the version, so that another version never belongs to an earlier owner. A function
//! without a project can have the same name if both are deployed concurrently; it never belongs to
//! the owner of the other function.

use headwater_model::{AccessObject, Actor, ObjectOwner};

use crate::deployer::{ActiveDeployment, ParsedDeployment};
use crate::function_catalog::{ParsedFunction, split_name};

impl ParsedDeployment {
    /// Returns a function of the project with its owner; `None` if the project does not have it.
    pub fn function_object(&self, name: &str) -> Option<AccessObject> {
        let is_declared = self.project.callables.contains_key(name);
        is_declared.then(|| AccessObject::function(name).with_owner(owner(&self.actor).as_ref()))
    }
}

impl ActiveDeployment {
    /// Returns the function that a call with this name executes; see [`called_object`].
    pub fn called_object(&self, called: &str) -> AccessObject {
        called_object(self.version().ok().flatten().as_ref(), called)
    }
}

impl ParsedFunction {
    /// Returns the object of the function. A function of a deployed project has its owner.
    pub fn object(&self) -> AccessObject {
        let object = AccessObject::function(&self.callable.name);
        match &self.deployed_by {
            Some(actor) => object.with_owner(owner(actor).as_ref()),
            None => object,
        }
    }
}

/// Returns the function that a call with this name executes: a function of the active version, with
/// its owner, or a function without a project. The name of a function without a project may end
/// with a version or alias.
pub fn called_object(version: Option<&ParsedDeployment>, called: &str) -> AccessObject {
    let declared = version.and_then(|version| version.function_object(called));
    declared.unwrap_or_else(|| AccessObject::function(split_name(called).0))
}

fn owner(actor: &Actor) -> Option<ObjectOwner> {
    actor.principal().as_object_owner()
}
