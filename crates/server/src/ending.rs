//! How a server comes to its end: who asks for it, how patient they are, and when it is over.

use std::time::Duration;

use tokio::sync::watch;

/// The end of a server, as all its parts share it.
#[derive(Debug)]
pub struct Ending {
    /// How long jobs may still go on, once the end was asked for.
    patience: watch::Sender<Option<Duration>>,
    over: watch::Sender<bool>,
}

impl Default for Ending {
    fn default() -> Self {
        Ending { patience: watch::Sender::new(None), over: watch::Sender::new(false) }
    }
}

impl Ending {
    /// Asks for the end. Who is the least patient decides.
    pub fn request(&self, patience: Duration) {
        self.patience.send_if_modified(|current| {
            let shorter = current.is_none_or(|current| patience < current);
            if shorter {
                *current = Some(patience);
            }
            shorter
        });
    }

    /// Whether the end was asked for.
    pub fn is_requested(&self) -> bool {
        self.patience.borrow().is_some()
    }

    /// Waits until the end is asked for, or asked for with less patience than `than`.
    pub async fn requested(&self, than: Option<Duration>) -> Duration {
        let mut patience = self.patience.subscribe();
        let asked = patience.wait_for(|patience| match (patience, than) {
            (Some(patience), Some(than)) => *patience < than,
            (patience, _) => patience.is_some(),
        });
        match asked.await {
            Ok(patience) => patience.unwrap_or_default(),
            // The sender is part of `self`, so it is there.
            Err(_) => Duration::ZERO,
        }
    }

    /// Says that it is over.
    pub fn finish(&self) {
        self.over.send_replace(true);
    }

    /// Waits until it is over.
    pub async fn finished(&self) {
        // An error would mean that the sender, which is part of `self`, is gone.
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_least_patient_decides() {
        let ending = Ending::default();
        assert!(!ending.is_requested());
        ending.request(Duration::from_secs(600));
        ending.request(Duration::from_secs(900));
        let patience = ending.requested(None).await;
        assert_eq!(patience, Duration::from_secs(600));
        ending.request(Duration::from_secs(1));
        assert_eq!(ending.requested(Some(patience)).await, Duration::from_secs(1));
        ending.finish();
        ending.finished().await;
    }
}
