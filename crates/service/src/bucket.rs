//! Buckets: create, delete, list.

use std::sync::Arc;

use headwater_model::{
    Action, Identity, Object, ObjectKind, ObjectPattern, Permission, Principal, Problem, ResultExt,
};
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

    /// Checks that a bucket exists. Called before the authorization of each of its objects.
    pub async fn exists(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        self.0.authenticated(principal)?;
        let exists = self.0.buckets.objects.check_bucket(name).await.or_problem();
        // The error must not reveal the existence of a bucket to users without rights.
        if self.0.access.may_see(principal, &Object::bucket(name)) { exists } else { Ok(()) }
    }

    /// Lists the buckets by name. Includes a bucket if the principal has a right on it or on its
    /// objects.
    pub async fn list(&self, principal: &Principal) -> Result<Vec<Bucket>, Problem> {
        self.0.authenticated(principal)?;
        let mut buckets = self.0.buckets.objects.buckets().await.or_problem()?;
        buckets.retain(|it| {
            let object = Object::bucket(&it.name);
            self.0.access.may_see(principal, &object) || self.has_right_within(principal, &object)
        });
        Ok(buckets)
    }

    /// Returns true if a principal has a right on some objects of a bucket.
    fn has_right_within(&self, principal: &Principal, bucket: &Object) -> bool {
        let Identity::User(user) = principal.identity() else { return false };
        let is_within = |permission: &Permission| {
            let name = permission.object.pattern().split('/').next().unwrap_or_default();
            permission.object.kind() == ObjectKind::Bucket
                && ObjectPattern::new(ObjectKind::Bucket, name).is_ok_and(|it| it.covers(bucket))
        };
        let is_in_scope = user.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(is_within));
        is_in_scope && self.0.access.permissions(&user.name).iter().any(is_within)
    }
}
