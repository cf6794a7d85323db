//! How long to wait before trying again: longer each time up to a limit, and never for the same time
//! as everybody else.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(50);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(10);

/// The waits between attempts at one thing.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The next wait: between half of the current step and all of it, by chance.
    pub(crate) fn step(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(LONGEST);
        // A random UUID is at hand wherever there is a transport; its first byte is as good as any.
        let chance = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
        step / 2 + step * chance / 512
    }

    /// Waits for the next step.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.step()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_stay_between_half_a_step_and_a_step() {
        let mut backoff = Backoff::new();
        let mut step = FIRST;
        for _ in 0..12 {
            let wait = backoff.step();
            assert!(wait >= step / 2 && wait <= step, "{wait:?} of {step:?}");
            step = (step * 2).min(LONGEST);
        }
    }
}
