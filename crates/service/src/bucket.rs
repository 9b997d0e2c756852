//! Buckets: create, delete, list, notifications.

use std::sync::Arc;

use headwater_model::{
    AccessObject, Action, BucketNotification, Identity, ObjectKind, ObjectPattern, Permission,
    Principal, Problem, ResultExt,
};
use headwater_objects::Bucket;

use crate::deployment::complete;
use crate::service::Components;
use crate::trigger::Triggers;

/// Operations on buckets.
#[derive(Clone)]
pub struct Buckets(pub(crate) Arc<Components>);

impl Buckets {
    /// Creates a bucket, which the principal then owns.
    pub async fn create(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        let object = AccessObject::bucket(name);
        self.0.authorize(principal, Action::Create, &object)?;
        self.0.buckets.objects.create_bucket(name).await.or_problem()?;
        self.0.access.set_owner(principal, &object).await.or_problem()
    }

    /// Deletes an empty bucket and its notifications.
    pub async fn delete(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        let object = AccessObject::bucket(name);
        self.0.authorize(principal, Action::Drop, &object)?;
        self.0.buckets.objects.delete_bucket(name).await.or_problem()?;
        self.0.access.remove_owner(principal, &object).await.or_problem()?;
        self.replace_notifications(principal, name, Vec::new()).await
    }

    /// Checks that a bucket exists and that the principal may list its objects.
    pub async fn check(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        self.0.authorize(principal, Action::List, &AccessObject::bucket(name))?;
        self.0.buckets.objects.check_bucket(name).await.or_problem()
    }

    /// Checks that a bucket exists, if the principal has a right on it. Succeeds without a right,
    /// to hide which buckets exist.
    pub async fn exists(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        self.0.authenticated(principal)?;
        let exists = self.0.buckets.objects.check_bucket(name).await.or_problem();
        // Users without rights must not find out which buckets exist.
        if self.0.access.may_see(principal, &AccessObject::bucket(name)) { exists } else { Ok(()) }
    }

    /// Lists the buckets by name. Includes a bucket if the principal has a right on it or on its
    /// objects.
    pub async fn list(&self, principal: &Principal) -> Result<Vec<Bucket>, Problem> {
        self.0.authenticated(principal)?;
        let mut buckets = self.0.buckets.objects.buckets().await.or_problem()?;
        buckets.retain(|it| {
            let object = AccessObject::bucket(&it.name);
            self.0.access.may_see(principal, &object) || self.has_right_within(principal, &object)
        });
        Ok(buckets)
    }

    /// Returns the notifications of a bucket. The principal needs the rights to list the bucket and
    /// to read the trigger of each notification.
    pub async fn notifications(
        &self,
        principal: &Principal,
        bucket: &str,
    ) -> Result<Vec<BucketNotification>, Problem> {
        self.check(principal, bucket).await?;
        let found = self.0.deployer.notifications(bucket).await?;
        for name in found.iter().map(|notification| notification.trigger_name(bucket)) {
            self.0.authorize(principal, Action::Read, &AccessObject::trigger(&name))?;
        }
        Ok(found)
    }

    /// Replaces all notifications of a bucket. The principal needs the rights to list the bucket
    /// and to create triggers. A disconnect of the caller does not interrupt the change.
    ///
    /// Errors: `invalid_argument`, `already_exists`, `function_not_found`, `bucket_not_found`.
    pub async fn set_notifications(
        &self,
        principal: &Principal,
        bucket: &str,
        notifications: Vec<BucketNotification>,
    ) -> Result<(), Problem> {
        Triggers(self.0.clone()).authorize_change(principal)?;
        self.check(principal, bucket).await?;
        self.replace_notifications(principal, bucket, notifications).await
    }

    async fn replace_notifications(
        &self,
        principal: &Principal,
        bucket: &str,
        new: Vec<BucketNotification>,
    ) -> Result<(), Problem> {
        let by = Triggers(self.0.clone()).identity(principal);
        let (components, bucket) = (self.0.clone(), bucket.to_owned());
        let change = async move { components.deployer.set_notifications(&bucket, new, &by).await };
        complete(change).await
    }

    /// Returns true if a principal has a right on at least some objects of a bucket.
    fn has_right_within(&self, principal: &Principal, bucket: &AccessObject) -> bool {
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
