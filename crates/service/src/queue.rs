//! Message queues: create, change, delete, list; send, receive and delete messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_model::{AccessObject, Action, Principal, Problem, ResultExt};
use headwater_queues::{
    Error, NewMessage, QueueAttributes, QueueCounts, QueueRecord, ReceiveOptions, ReceivedMessage,
    Result, SentMessage,
};

use crate::Service;
use crate::service::Components;

/// Operations on queues.
#[derive(Clone)]
pub struct Queues(Arc<Components>);

impl Queues {
    /// Returns the operations of a service.
    pub fn of(service: &Service) -> Self {
        Queues(service.shared().clone())
    }

    /// Creates a queue, which the principal then owns. A queue that exists with the same attributes
    /// is not changed.
    pub async fn create(
        &self,
        principal: &Principal,
        name: &str,
        attributes: &BTreeMap<String, String>,
        tags: BTreeMap<String, String>,
    ) -> Result<QueueRecord, Problem> {
        let object = AccessObject::queue(name);
        self.0.authorize(principal, Action::Create, &object)?;
        let parsed = QueueAttributes::new(name, attributes).or_problem()?;
        self.authorize_redrive(principal, &parsed)?;
        let (created, is_new) = self.0.queues.create(name, attributes, tags).await.or_problem()?;
        if is_new {
            self.0.access.set_owner(principal, &object).await.or_problem()?;
        }
        Ok(created)
    }

    /// Checks that the principal may write to the dead-letter queue, if the attributes name one.
    fn authorize_redrive(
        &self,
        principal: &Principal,
        attributes: &QueueAttributes,
    ) -> Result<(), Problem> {
        let Some(redrive) = &attributes.redrive else { return Ok(()) };
        self.0.authorize(principal, Action::Write, &AccessObject::queue(&redrive.queue))
    }

    /// Returns a queue on which the principal has a right.
    pub fn get(&self, principal: &Principal, name: &str) -> Result<QueueRecord, Problem> {
        self.0.authenticated(principal)?;
        if !self.0.access.may_see(principal, &AccessObject::queue(name)) {
            // Users without rights must not find out which queues exist.
            return Err(Error::QueueNotFound { name: name.to_owned() }).or_problem();
        }
        self.0.queues.get(name).or_problem()
    }

    /// Returns a queue on which the principal has a right, and the numbers of its messages.
    pub async fn describe(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<(QueueRecord, QueueCounts), Problem> {
        let queue = self.get(principal, name)?;
        Ok((queue, self.0.queues.counts(name).await.or_problem()?))
    }

    /// Lists by name the queues with a prefix on which the principal has a right.
    pub fn list(&self, principal: &Principal, prefix: &str) -> Result<Vec<QueueRecord>, Problem> {
        self.0.authenticated(principal)?;
        let mut queues = self.0.queues.list(prefix);
        queues.retain(|queue| self.0.access.may_see(principal, &AccessObject::queue(&queue.name)));
        Ok(queues)
    }

    /// Changes attributes of a queue.
    pub async fn set_attributes(
        &self,
        principal: &Principal,
        name: &str,
        given: &BTreeMap<String, String>,
    ) -> Result<(), Problem> {
        self.0.authorize(principal, Action::Alter, &AccessObject::queue(name))?;
        let mut attributes = self.0.queues.get(name).or_problem()?.attributes;
        attributes.update(given).or_problem()?;
        self.authorize_redrive(principal, &attributes)?;
        self.0.queues.set_attributes(name, given).await.or_problem()
    }

    /// Adds tags to a queue.
    pub async fn tag(
        &self,
        principal: &Principal,
        name: &str,
        tags: BTreeMap<String, String>,
    ) -> Result<(), Problem> {
        self.0.authorize(principal, Action::Alter, &AccessObject::queue(name))?;
        self.0.queues.tag(name, tags).await.or_problem()
    }

    /// Removes tags of a queue.
    pub async fn untag(
        &self,
        principal: &Principal,
        name: &str,
        keys: &[String],
    ) -> Result<(), Problem> {
        self.0.authorize(principal, Action::Alter, &AccessObject::queue(name))?;
        self.0.queues.untag(name, keys).await.or_problem()
    }

    /// Deletes a queue with its messages.
    pub async fn delete(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        let object = AccessObject::queue(name);
        self.0.authorize(principal, Action::Drop, &object)?;
        self.0.queues.delete(name).await.or_problem()?;
        self.0.access.remove_owner(principal, &object).await.or_problem()
    }

    /// Deletes the messages of a queue.
    pub async fn purge(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        self.0.authorize(principal, Action::Delete, &AccessObject::queue(name))?;
        self.0.queues.purge(name).await.or_problem()
    }

    /// Checks the daily limits of a user that sends or receives messages.
    async fn check_limits(&self, principal: &Principal) -> Result<(), Problem> {
        let Some(user) = principal.user_name() else { return Ok(()) };
        self.0.jobs.check_day_quota(user).await.or_problem()
    }

    /// Sends messages, and returns the outcome of each. The messages are durable on return.
    ///
    /// Errors: `quota_exceeded` if a daily limit of the principal is reached.
    pub async fn send(
        &self,
        principal: &Principal,
        name: &str,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Result<SentMessage>>, Problem> {
        self.0.authorize(principal, Action::Write, &AccessObject::queue(name))?;
        self.check_limits(principal).await?;
        let bytes = messages.iter().map(|message| message.body.len()).sum();
        self.0.message_queue_meter.count(principal, name, [bytes, 0]);
        let sender = principal.user_name().unwrap_or("owner");
        self.0.queues.send(name, sender, messages).await.or_problem()
    }

    /// Receives visible messages. If the queue has none, waits for a message for a limited time.
    ///
    /// Errors: `quota_exceeded` if a daily limit of the principal is reached.
    pub async fn receive(
        &self,
        principal: &Principal,
        name: &str,
        options: ReceiveOptions,
    ) -> Result<Vec<ReceivedMessage>, Problem> {
        let object = AccessObject::queue(name);
        self.0.authorize(principal, Action::Read, &object)?;
        self.check_limits(principal).await?;
        let received = self.0.queues.receive(name, options).await.or_problem()?;
        // The right can end during the wait. The messages are visible again after the timeout.
        self.0.check_allowed(principal, Action::Read, &object)?;
        let bytes = received.iter().map(|received| received.message.body.len()).sum();
        self.0.message_queue_meter.count(principal, name, [0, bytes]);
        Ok(received)
    }

    /// Deletes received messages, and returns the outcome of each.
    pub async fn delete_messages(
        &self,
        principal: &Principal,
        name: &str,
        receipts: &[String],
    ) -> Result<Vec<Result<()>>, Problem> {
        self.0.authorize(principal, Action::Read, &AccessObject::queue(name))?;
        self.0.message_queue_meter.count(principal, name, [0, 0]);
        self.0.queues.delete_messages(name, receipts).await.or_problem()
    }

    /// Changes the visibility timeout of a received message.
    pub async fn change_visibility(
        &self,
        principal: &Principal,
        name: &str,
        receipt: &str,
        seconds: u32,
    ) -> Result<Result<()>, Problem> {
        self.0.authorize(principal, Action::Read, &AccessObject::queue(name))?;
        self.0.message_queue_meter.count(principal, name, [0, 0]);
        Ok(self.0.queues.change_visibility(name, receipt, seconds).await)
    }
}
