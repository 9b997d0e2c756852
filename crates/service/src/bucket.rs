//! Buckets: create, delete, list.

use std::sync::Arc;

use headwater_model::{Action, Object, OrProblem, Principal, Problem};
use headwater_objects::Bucket;

use crate::service::Components;

/// Operations on buckets.
#[derive(Clone)]
pub struct Buckets(pub(crate) Arc<Components>);

impl Buckets {
    /// Creates a bucket, which belongs to the user.
    pub async fn create(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        let object = Object::bucket(name);
        self.0.authorize(principal, Action::Create, &object)?;
        self.0.buckets.objects.create_bucket(name).await.or_problem()?;
        self.0.access.set_owner(principal, &object).await.or_problem()
    }

    /// Deletes an empty bucket.
    pub async fn delete(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        let object = Object::bucket(name);
        self.0.authorize(principal, Action::Drop, &object)?;
        self.0.buckets.objects.delete_bucket(name).await.or_problem()?;
        self.0.access.remove_owner(principal, &object).await.or_problem()
    }

    /// Checks that a bucket exists and that the principal may list its objects.
    pub async fn check(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        self.0.authorize(principal, Action::List, &Object::bucket(name))?;
        self.0.buckets.objects.check_bucket(name).await.or_problem()
    }

    /// Checks that a bucket exists, before each of its objects is authorised.
    pub async fn exists(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        self.0.authenticated(principal)?;
        let exists = self.0.buckets.objects.check_bucket(name).await.or_problem();
        // The error does not reveal to users without rights which buckets exist.
        if self.0.access.may_see(principal, &Object::bucket(name)) { exists } else { Ok(()) }
    }

    /// Lists the buckets by name that the principal has a right on.
    pub async fn list(&self, principal: &Principal) -> Result<Vec<Bucket>, Problem> {
        self.0.authenticated(principal)?;
        let mut buckets = self.0.buckets.objects.buckets().await.or_problem()?;
        buckets.retain(|it| self.0.access.may_see(principal, &Object::bucket(&it.name)));
        Ok(buckets)
    }
}
