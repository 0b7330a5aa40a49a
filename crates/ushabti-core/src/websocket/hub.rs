//! Topics: who is subscribed to what, and one message to all of them.
//!
//! A message is encoded once and written by the thread that publishes it, without the interpreter's lock, socket by socket:
//! the IO thread has nothing to do for receivers that keep up, and takes over what a slow one leaves in its outbox.
//!
//! Locks are taken in the order: topics of the socket, topics of the hub, members of the topic. None is held while a
//! message is written.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Outgoing, Sent, Socket};

/// Topics of one or more servers.
#[derive(Default)]
pub struct Hub {
    topics: Mutex<HashMap<Arc<str>, Arc<Topic>>>,
}

#[derive(Default)]
struct Topic {
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    by_id: BTreeMap<u64, Arc<Socket>>,
    /// All of them, for as long as none comes or goes: most messages find the same receivers as the one before.
    listed: Option<Arc<[Arc<Socket>]>>,
}

impl Topic {
    fn list(&self) -> Arc<[Arc<Socket>]> {
        let mut members = self.members.lock();
        let Members { by_id, listed } = &mut *members;
        Arc::clone(listed.get_or_insert_with(|| by_id.values().cloned().collect()))
    }
}

impl Hub {
    /// A hub without topics.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn subscribe(&self, socket: &Arc<Socket>, topic: &str) -> bool {
        let mut own = socket.topics.lock();
        let Some(own) = own.as_mut() else { return false };
        let mut topics = self.topics.lock();
        let name = topics.get_key_value(topic).map_or_else(|| Arc::from(topic), |(name, _)| Arc::clone(name));
        let found = topics.entry(Arc::clone(&name)).or_default();
        let mut members = found.members.lock();
        let is_new = members.by_id.insert(socket.id(), Arc::clone(socket)).is_none();
        if is_new {
            members.listed = None;
            // Most sockets have one.
            own.reserve_exact(1);
            own.push(name);
        }
        is_new
    }

    pub(super) fn unsubscribe(&self, socket: &Socket, topic: &str) -> bool {
        let mut own = socket.topics.lock();
        let Some(own) = own.as_mut() else { return false };
        let Some(at) = own.iter().position(|name| **name == *topic) else { return false };
        own.swap_remove(at);
        self.remove(socket, topic);
        true
    }

    /// Takes a socket that is closed out of all its topics, for good. IO task.
    pub(super) fn leave(&self, socket: &Socket) {
        let own = socket.topics.lock().take().unwrap_or_default();
        for topic in own {
            self.remove(socket, &topic);
        }
    }

    fn remove(&self, socket: &Socket, topic: &str) {
        let mut topics = self.topics.lock();
        let Some(found) = topics.get(topic) else { return };
        let mut members = found.members.lock();
        members.by_id.remove(&socket.id());
        let listed = members.listed.take();
        let is_empty = members.by_id.is_empty();
        drop(members);
        if is_empty {
            topics.remove(topic);
        }
        drop(topics);
        // Maybe the last who knows some closed sockets: dropped outside of the locks.
        drop(listed);
    }

    /// Sends a message to every socket that is subscribed to the topic, but `skip`; returns for how many it was queued.
    /// Any thread, detached: it writes to all of them.
    pub fn publish(&self, topic: &str, message: &Outgoing<'_>, skip: Option<u64>) -> usize {
        let found = self.topics.lock().get(topic).cloned();
        let Some(found) = found else { return 0 };
        let members = found.list();
        members.iter().filter(|member| Some(member.id()) != skip && member.send_shared(message) == Sent::Queued).count()
    }

    /// How many sockets are subscribed to the topic.
    pub fn count(&self, topic: &str) -> usize {
        self.topics.lock().get(topic).map_or(0, |found| found.members.lock().by_id.len())
    }

    /// The topics that have subscribers.
    pub fn topics(&self) -> Vec<Arc<str>> {
        self.topics.lock().keys().cloned().collect()
    }
}
