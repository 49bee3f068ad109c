//! Which function versions have an image of their booted runtime ([`crate::snapshot`]): the policy, without I/O and
//! with the time given.
//!
//! A version that starts anew again and again gets one. It is never another's: an image fixes what a process otherwise
//! draws at its start (hash seed, stack guard, layout), and no tenant may know that of another's. All of them share a
//! budget; when it is used up the one unused for longest goes, but none that is in use: more versions in turn than fit
//! would only have images made for nothing.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::Key;

/// So many starts …
const STARTS: usize = 4;
/// … within this time, and a version gets an image.
const WINDOW: Duration = Duration::from_secs(10);
/// One that was used in this time keeps its place.
const IN_USE: Duration = Duration::from_secs(30);
/// Images at a time.
const MOST: usize = 16;
/// After a failure its version rests.
const REST: Duration = Duration::from_secs(600);
/// A runtime that failed so often gets no more.
const RUNTIME_FAILURES: u32 = 3;
/// Versions whose starts are remembered.
const MOST_VERSIONS: usize = 1024;

#[derive(Debug, Clone)]
pub struct Limits {
    /// Of all images; 0: none are made.
    pub bytes: u64,
    /// One unused for so long goes.
    pub idle: Duration,
}

/// What a start of a version shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Go on from this image.
    Use(u32),
    /// Start as ever, and have an image made: [`Images::made`] or [`Images::failed`] is to be told.
    Make,
    /// Start as ever.
    Nothing,
}

#[derive(Debug, Clone, Copy)]
enum State {
    None,
    Making,
    Whole { image: u32, bytes: u64, used: Instant },
    Resting { until: Instant },
}

#[derive(Debug)]
struct Version {
    starts: VecDeque<Instant>,
    state: State,
}

/// See the module's words. What it gives as `Vec<u32>` is to be dropped by the launcher.
#[derive(Debug)]
pub struct Images {
    limits: Limits,
    versions: HashMap<Key, Version>,
    /// By the runtime's place in the launcher's table.
    failures: HashMap<u32, u32>,
}

impl Images {
    pub fn new(limits: Limits) -> Self {
        Self { limits, versions: HashMap::new(), failures: HashMap::new() }
    }

    /// A version starts anew. One image is made at a time.
    pub fn start(&mut self, key: &Key, runtime: u32, now: Instant) -> Advice {
        let failures = self.failures.get(&runtime).copied().unwrap_or_default();
        if self.limits.bytes == 0 || failures >= RUNTIME_FAILURES {
            return Advice::Nothing;
        }
        if self.versions.len() >= MOST_VERSIONS && !self.versions.contains_key(key) {
            let recent = |v: &Version| v.starts.back().is_some_and(|at| now - *at <= WINDOW);
            self.versions.retain(|_, v| !matches!(v.state, State::None) || recent(v));
            if self.versions.len() >= MOST_VERSIONS {
                return Advice::Nothing;
            }
        }
        let one_is_made = self.versions.values().any(|v| matches!(v.state, State::Making));
        let has_room = self.has_room(now);
        let new = || Version { starts: VecDeque::new(), state: State::None };
        let version = self.versions.entry(key.clone()).or_insert_with(new);
        version.starts.push_back(now);
        if version.starts.len() > STARTS {
            version.starts.pop_front();
        }
        match &mut version.state {
            State::Whole { image, used, .. } => {
                *used = now;
                return Advice::Use(*image);
            }
            State::Making => return Advice::Nothing,
            State::Resting { until } if *until > now => return Advice::Nothing,
            State::None | State::Resting { .. } => {}
        }
        let first = version.starts.front().filter(|_| version.starts.len() == STARTS);
        let is_often = first.is_some_and(|at| now.duration_since(*at) <= WINDOW);
        if !is_often || one_is_made || !has_room {
            return Advice::Nothing;
        }
        version.state = State::Making;
        Advice::Make
    }

    fn whole(&self) -> impl Iterator<Item = (&Key, u64, Instant)> {
        self.versions.iter().filter_map(|(key, version)| match version.state {
            State::Whole { bytes, used, .. } => Some((key, bytes, used)),
            _ => None,
        })
    }

    /// How many there are, and their bytes.
    pub fn count(&self) -> (usize, u64) {
        self.whole().fold((0, 0), |(count, all), (_, bytes, _)| (count + 1, all + bytes))
    }

    /// Whether one more, of the usual size, fits or would find another unused.
    fn has_room(&self, now: Instant) -> bool {
        let (count, bytes) = self.count();
        let usual = bytes.checked_div(count as u64).unwrap_or_default();
        count < MOST && bytes + usual <= self.limits.bytes
            || self.whole().any(|(.., used)| now.duration_since(used) > IN_USE)
    }

    /// An image is whole. What must go for it; that may be itself, where its version is gone meanwhile.
    pub fn made(&mut self, key: &Key, image: u32, bytes: u64, now: Instant) -> Vec<u32> {
        let version = self.versions.get_mut(key);
        let Some(version) = version.filter(|v| matches!(v.state, State::Making)) else {
            return vec![image];
        };
        version.state = State::Whole { image, bytes, used: now };
        let mut gone = Vec::new();
        loop {
            let (count, all) = self.count();
            if count <= MOST && all <= self.limits.bytes {
                return gone;
            }
            // Not the new one, unless it is too large all by itself.
            let others = self.whole().filter(|(other, ..)| *other != key);
            let oldest = others.min_by_key(|(.., used)| *used).map(|(key, ..)| key.clone());
            let oldest = oldest.unwrap_or_else(|| key.clone());
            gone.extend(self.take(&oldest, State::Resting { until: now + REST }));
        }
    }

    /// An image could not be made, or `spoilt`: it could not be restored. What must go.
    pub fn failed(
        &mut self,
        key: &Key,
        runtime: u32,
        spoilt: Option<u32>,
        now: Instant,
    ) -> Vec<u32> {
        let state = self.versions.get(key).map(|version| version.state);
        let is_it = match (state, spoilt) {
            (Some(State::Making), None) => true,
            (Some(State::Whole { image, .. }), Some(spoilt)) => image == spoilt,
            // Of several starts that failed by one image the first counts.
            _ => false,
        };
        if !is_it {
            return Vec::new();
        }
        *self.failures.entry(runtime).or_default() += 1;
        self.take(key, State::Resting { until: now + REST }).into_iter().collect()
    }

    /// Drops a version's image, and leaves it in `state`.
    fn take(&mut self, key: &Key, state: State) -> Option<u32> {
        let version = self.versions.get_mut(key)?;
        match std::mem::replace(&mut version.state, state) {
            State::Whole { image, .. } => Some(image),
            _ => None,
        }
    }

    /// Forgets versions that are gone.
    pub fn retain(&mut self, keep: impl Fn(&Key) -> bool) -> Vec<u32> {
        let gone = self.versions.extract_if(|key, _| !keep(key));
        let image = |version: Version| match version.state {
            State::Whole { image, .. } => Some(image),
            _ => None,
        };
        gone.filter_map(|(_, version)| image(version)).collect()
    }

    /// Drops what nobody has used for long.
    pub fn expire(&mut self, now: Instant) -> Vec<u32> {
        let idle = self.limits.idle;
        let old = self.whole().filter(|(.., used)| now.duration_since(*used) >= idle);
        let old: Vec<Key> = old.map(|(key, ..)| key.clone()).collect();
        old.iter().filter_map(|key| self.take(key, State::None)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const NOTHING: [u32; 0] = [];

    fn key(function: &str) -> Key {
        Key { function: function.into(), version: "$LATEST".into(), generation: 1 }
    }

    fn images(mib: u64) -> Images {
        Images::new(Limits { bytes: mib * MIB, idle: Duration::from_secs(600) })
    }

    /// What the last of so many starts at once is advised.
    fn starts(images: &mut Images, function: &str, count: usize, now: Instant) -> Advice {
        (0..count).map(|_| images.start(&key(function), 0, now)).last().unwrap()
    }

    fn with_image(images: &mut Images, function: &str, image: u32, now: Instant) -> Vec<u32> {
        assert_eq!(starts(images, function, STARTS, now), Advice::Make, "{function}");
        images.made(&key(function), image, 20 * MIB, now)
    }

    #[test]
    fn who_starts_often_gets_one_and_uses_it() {
        let (mut images, now) = (images(256), Instant::now());
        assert_eq!(starts(&mut images, "f", STARTS - 1, now), Advice::Nothing);
        let late = now + WINDOW + Duration::from_secs(1);
        assert_eq!(starts(&mut images, "f", STARTS - 1, late), Advice::Nothing, "too slowly");
        assert_eq!(starts(&mut images, "f", 1, late), Advice::Make);
        assert_eq!(starts(&mut images, "f", 9, late), Advice::Nothing, "it is being made");
        assert_eq!(starts(&mut images, "g", 9, late), Advice::Nothing, "one at a time");
        assert_eq!(images.made(&key("f"), 7, MIB, late), NOTHING);
        assert_eq!(starts(&mut images, "f", 1, late), Advice::Use(7));
        assert_eq!(starts(&mut images, "g", 1, late), Advice::Make, "its own, never another's");
        assert_eq!(images.count(), (1, MIB));
    }

    #[test]
    fn the_unused_make_room_and_those_in_use_do_not() {
        let (mut images, now) = (images(50), Instant::now());
        assert_eq!(with_image(&mut images, "a", 1, now), NOTHING);
        assert_eq!(with_image(&mut images, "b", 2, now), NOTHING);
        assert_eq!(starts(&mut images, "c", 9, now), Advice::Nothing, "both are in use");
        let later = now + IN_USE + Duration::from_secs(1);
        assert_eq!(starts(&mut images, "a", 1, later), Advice::Use(1));
        assert_eq!(with_image(&mut images, "c", 3, later), [2]);
        assert_eq!(starts(&mut images, "a", 1, later), Advice::Use(1));
        assert_eq!(starts(&mut images, "b", 9, later), Advice::Nothing, "it rests");
        // One that is too large all by itself.
        let mut small = super::Images::new(Limits { bytes: MIB, ..images.limits.clone() });
        assert_eq!(starts(&mut small, "a", STARTS, now), Advice::Make);
        assert_eq!(small.made(&key("a"), 9, 2 * MIB, now), [9]);
        assert_eq!(starts(&mut small, "a", 9, now), Advice::Nothing);
    }

    #[test]
    fn failures_end_it_for_the_version_and_then_for_the_runtime() {
        let (mut images, now) = (images(256), Instant::now());
        assert_eq!(with_image(&mut images, "a", 1, now), NOTHING);
        assert_eq!(images.failed(&key("a"), 0, Some(1), now), [1]);
        assert_eq!(
            images.failed(&key("a"), 0, Some(1), now),
            NOTHING,
            "of a start at the same time"
        );
        assert_eq!(starts(&mut images, "a", 9, now), Advice::Nothing);
        for name in ["b", "c"] {
            assert_eq!(starts(&mut images, name, STARTS, now), Advice::Make);
            assert_eq!(images.failed(&key(name), 0, None, now), NOTHING);
        }
        assert_eq!(starts(&mut images, "d", 9, now), Advice::Nothing, "the runtime");
        let other = (0..STARTS).map(|_| images.start(&key("e"), 1, now)).last();
        assert_eq!(other, Some(Advice::Make), "another runtime");
    }

    #[test]
    fn what_is_gone_or_unused_takes_its_image_along() {
        let (mut images, now) = (images(256), Instant::now());
        with_image(&mut images, "a", 1, now);
        with_image(&mut images, "b", 2, now);
        assert_eq!(images.retain(|key| &*key.function != "a"), [1]);
        assert_eq!(starts(&mut images, "c", STARTS, now), Advice::Make);
        assert_eq!(images.retain(|key| &*key.function != "c"), NOTHING);
        assert_eq!(images.made(&key("c"), 3, MIB, now), [3], "deleted while it was made");
        assert_eq!(images.expire(now + Duration::from_secs(599)), NOTHING);
        assert_eq!(images.expire(now + Duration::from_secs(600)), [2]);
        assert_eq!(images.count(), (0, 0));
    }

    #[test]
    fn none_are_made_where_none_are_wanted() {
        assert_eq!(starts(&mut images(0), "a", 9, Instant::now()), Advice::Nothing);
    }
}
