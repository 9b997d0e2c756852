//! Clones whose sandboxes are being made. Their guides enter namespaces and clone, which takes
//! milliseconds and on a busy machine much longer; the spawner serves everybody else meanwhile.
//!
//! What a guide cloned is the spawner's child before anybody has told the spawner of it. So where a
//! guide fails or hangs, whoever else is a child without a name is found in `/proc` and killed.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::child::Identity;
use super::clone;
use super::plan::{Ended, Reply};
use super::serve::Serve;
use super::start::Held;
use super::{Channel, child, children, system};

/// How long the guides of one clone may take.
const GUIDE_MAX: Duration = Duration::from_secs(10);

/// A clone whose sandbox is being made.
pub(super) struct Coming {
    /// Where the guides tell what they cloned.
    born: Channel,
    guides: Vec<(i32, OwnedFd)>,
    /// The first process of the sandbox.
    first: Option<(i32, OwnedFd)>,
    pub(super) held: Held,
    identity: Identity,
    zygote: u64,
    pub(super) seat: Channel,
    /// Whether it is to end as soon as it is there.
    pub(super) unwanted: bool,
    /// Whether a call has come to it.
    pub(super) filled: bool,
    until: Instant,
}

/// What a guide told.
enum Told {
    Guide((i32, OwnedFd)),
    First((i32, OwnedFd)),
    /// Nothing, and nobody is left who could.
    Nothing,
}

impl Coming {
    pub(super) fn new(
        born: Channel,
        guide: (i32, OwnedFd),
        (zygote, identity): (u64, Identity),
        (held, seat): (Held, Channel),
    ) -> Self {
        Coming {
            born,
            guides: vec![guide],
            first: None,
            held,
            identity,
            zygote,
            seat,
            unwanted: false,
            filled: false,
            until: Instant::now() + GUIDE_MAX,
        }
    }

    pub(super) fn born(&self) -> &Channel {
        &self.born
    }

    fn hear(&self) -> Told {
        let Ok(Some(mut received)) = self.born.receive() else { return Told::Nothing };
        let process = received.descriptors.pop().and_then(|descriptor| {
            let pid = pid_of(&descriptor)?;
            Some((pid, descriptor))
        });
        match process {
            Some(process) if received.bytes == clone::GUIDE => Told::Guide(process),
            Some(process) => Told::First(process),
            None => Told::Nothing,
        }
    }

    /// Kills what is known of it.
    pub(super) fn kill(&self) {
        for (_, descriptor) in self.guides.iter().chain(&self.first) {
            let _ = rustix::process::pidfd_send_signal(descriptor, rustix::process::Signal::KILL);
        }
    }
}

impl Serve {
    /// Hears what a guide tells, and has the clone begin where its sandbox is there.
    pub(super) fn born(&mut self, id: u64) {
        let Some(mut coming) = self.coming.remove(&id) else { return };
        match coming.hear() {
            Told::Guide(guide) => coming.guides.push(guide),
            Told::First(first) => coming.first = Some(first),
            Told::Nothing => return self.lost(id, coming, "the guide ended"),
        }
        // Each of the two tells by itself, in whichever order they come to it.
        match coming.first.take() {
            Some(first) if coming.guides.len() == 2 => self.arrived(id, coming, first),
            first => {
                coming.first = first;
                self.coming.insert(id, coming);
            }
        }
    }

    fn arrived(&mut self, id: u64, coming: Coming, first: (i32, OwnedFd)) {
        let Coming { guides, held, identity, zygote, seat, unwanted, filled, .. } = coming;
        self.guides.extend(guides);
        let Held { group, start, status, watch } = held;
        let mut child = children::Child::new(first, status, group);
        (child.zygote, child.seat, child.filled) = (Some(zygote), Some(seat), filled);
        child.watch = watch;
        match self.place(id, child, &start, clone::identity(identity)) {
            Ok(()) if unwanted => self.children[&id].kill(),
            Ok(()) => {}
            Err(ended) => self.reply(&Reply::Ended { id, ended }),
        }
    }

    /// Gives up a clone whose guides failed.
    fn lost(&mut self, id: u64, coming: Coming, why: &str) {
        coming.kill();
        let Coming { guides, first, held, .. } = coming;
        self.guides.extend(guides.into_iter().chain(first));
        self.strays = true;
        let Held { mut group, status, .. } = held;
        let note = children::take_notes(&status, &mut Vec::new()).0.into_iter().next();
        let ended: Ended = match note {
            Some(child::Note::Failed { step, error }) => children::not_started(step, error),
            _ => children::not_started("clone a process", why),
        };
        if !group.remove() {
            self.leftovers.push(group);
        }
        self.reply(&Reply::Ended { id, ended });
    }

    /// Gives up the clones whose guides take too long.
    pub(super) fn give_up_late(&mut self) {
        let now = Instant::now();
        let late = self.coming.iter().filter(|(_, coming)| coming.until <= now);
        for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            if let Some(coming) = self.coming.remove(&id) {
                self.lost(id, coming, "its guide takes too long");
            }
        }
    }

    /// Collects a guide that has ended.
    pub(super) fn guide_ended(&mut self, pid: i32) {
        system::wait_child(pid);
        self.guides.retain(|(guide, _)| *guide != pid);
    }

    /// Kills and collects the children that nobody knows, once none of them may be a clone to come.
    pub(super) fn end_strays(&mut self) {
        if !self.strays || !self.coming.is_empty() {
            return;
        }
        let known = |pid: &i32| {
            self.children.values().any(|child| child.pid == *pid)
                || self.guides.iter().any(|(guide, _)| guide == pid)
        };
        let strays = system::own_children().into_iter().filter(|pid| !known(pid));
        self.strays = strays.fold(false, |_, pid| {
            system::kill(pid, libc::SIGKILL);
            system::wait_child(pid);
            true
        });
    }
}

/// The id of the process that a descriptor stands for.
fn pid_of(descriptor: &OwnedFd) -> Option<i32> {
    let information = format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd());
    let information = std::fs::read_to_string(information).ok()?;
    let pid = information.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    pid.trim().parse().ok().filter(|pid| *pid > 0)
}
