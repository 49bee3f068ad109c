//! What the launcher has ready of the next sandbox: a `/tmp` like the last one's, made while nobody waits for it.
//!
//! Most sandboxes of a server are alike. What was made for one and not handed out is as new: nobody but its maker has
//! ever seen it. Only the policy is here; what is made, and whether it fits, the caller says.

/// Sandboxes in a row that something else was wanted for, until what is ready is given up. Taking a filesystem down
/// takes milliseconds, so another size now and then is no reason.
const MAX_MISSES: u32 = 8;

/// At most one of what is made.
#[derive(Debug)]
pub struct Reserve<T> {
    ready: Option<T>,
    misses: u32,
    made: u64,
}

impl<T> Default for Reserve<T> {
    fn default() -> Self {
        Self { ready: None, misses: 0, made: 0 }
    }
}

impl<T> Reserve<T> {
    /// What is ready, where it `fits`.
    pub fn take(&mut self, fits: impl FnOnce(&T) -> bool) -> Option<T> {
        let taken = self.ready.take_if(|ready| fits(ready));
        self.misses = if taken.is_some() { 0 } else { self.misses + 1 };
        taken
    }

    /// Has the next one made, where it is time. Who wanted two will want a third: `kennel invoke` wants one.
    ///
    /// `None` of `make` is nothing ready: what could not be had is tried again when it is needed.
    pub fn refill(&mut self, make: impl FnOnce() -> Option<T>) {
        self.made += 1;
        if self.made > 1 && (self.ready.is_none() || self.misses >= MAX_MISSES) {
            self.misses = 0;
            self.ready = make();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One launch that wants `size`; whether it was ready.
    fn launch(reserve: &mut Reserve<u32>, size: u32) -> bool {
        let ready = reserve.take(|ready| *ready == size).is_some();
        reserve.refill(|| Some(size));
        ready
    }

    #[test]
    fn the_third_of_a_size_is_ready() {
        let mut reserve = Reserve::default();
        let ready: Vec<bool> = (0..4).map(|_| launch(&mut reserve, 512)).collect();
        assert_eq!(ready, [false, false, true, true]);
    }

    #[test]
    fn another_size_now_and_then_changes_nothing_and_many_do() {
        let mut reserve = Reserve::default();
        for size in [512, 512, 1024, 512, 1024, 1024] {
            launch(&mut reserve, size);
        }
        assert!(launch(&mut reserve, 512));
        let ready: Vec<bool> = (0..=MAX_MISSES).map(|_| launch(&mut reserve, 1024)).collect();
        assert_eq!(ready.iter().filter(|r| **r).count(), 1);
        assert_eq!(ready.last(), Some(&true));
    }

    #[test]
    fn what_could_not_be_made_is_not_handed_out() {
        let mut reserve = Reserve::default();
        launch(&mut reserve, 512);
        reserve.refill(|| None);
        assert!(!launch(&mut reserve, 512));
        assert!(launch(&mut reserve, 512));
    }
}
