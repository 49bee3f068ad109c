//! What waits, and what should: the policy of [`super::Ahead`], without I/O and with the time given.
//!
//! A kind's target is its base, or one for each function that was made or changed lately and has not been invoked since
//! where those are more (their first events are most likely the next cold starts); and one more for each claim of the
//! last seconds. Memory is one budget for all, and places are another; when one is used up, what nobody asked for makes
//! room for what somebody did.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::{Form, Kind, Limits, Waiting};

/// Claims within this time decide how many are kept, and who asked within it is in use.
pub const WINDOW: Duration = Duration::from_secs(10);
/// How long a new function's first event is expected.
const EXPECT: Duration = Duration::from_secs(30);
/// New functions of a kind that count, at most: a thousand made at once are seldom invoked at once.
const MOST_EXPECTED: usize = 8;
/// After a failure to make one, its kind rests.
const REST: Duration = Duration::from_secs(30);
/// Sandboxes that are being made at a time.
const MAKERS: usize = 2;
/// One that takes longer hangs, most likely: others are made meanwhile, but none of its kind.
const SLOW: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Shelf<T> {
    ready: Vec<(T, u64)>,
    /// What the last one of the kind took, in bytes.
    usual: u64,
    /// By whom.
    claims: VecDeque<(u64, Instant)>,
    /// Versions whose first event is expected, oldest first.
    expected: VecDeque<(u64, Instant)>,
    asked: Instant,
    /// Some function is of this kind.
    wanted: bool,
    rests_until: Option<Instant>,
}

impl<T> Shelf<T> {
    fn new(now: Instant) -> Self {
        Self {
            ready: Vec::new(),
            usual: 0,
            claims: VecDeque::new(),
            expected: VecDeque::new(),
            asked: now,
            wanted: true,
            rests_until: None,
        }
    }

    /// The last that came, where more than `kept` are there.
    fn pop(&mut self, kept: usize, dead: &mut Vec<T>) -> Option<T>
    where
        T: Waiting,
    {
        while self.ready.len() > kept {
            let (one, _) = self.ready.pop()?;
            if !one.has_ended() {
                return Some(one);
            }
            dead.push(one);
        }
        None
    }

    fn is_in_use(&self, now: Instant) -> bool {
        now.duration_since(self.asked) < WINDOW
    }

    fn target(&self, limits: &Limits, now: Instant) -> usize {
        if !self.wanted || now.duration_since(self.asked) > limits.forget {
            return 0;
        }
        let claims = self.claims.iter().filter(|(_, at)| now.duration_since(*at) <= WINDOW);
        let expected = self.expected.iter().filter(|(_, at)| now.duration_since(*at) <= EXPECT);
        let expected = expected.count().min(MOST_EXPECTED);
        // Those that wait anyway are for the expected ones too: nothing is made while a first event is on its way.
        (limits.base.max(expected) + claims.count()).min(limits.most)
    }
}

#[derive(Debug)]
struct Making {
    ticket: u64,
    kind: Kind,
    since: Instant,
}

/// See the module's words.
#[derive(Debug)]
pub struct Shelves<T> {
    limits: Limits,
    kinds: HashMap<Kind, Shelf<T>>,
    making: Vec<Making>,
    next_ticket: u64,
}

/// What is to be done now.
#[derive(Debug)]
pub struct Plan<T> {
    /// To be made; [`Shelves::made`] wants the ticket back.
    pub make: Option<(Kind, u64)>,
    /// To be ended.
    pub over: Vec<T>,
}

impl<T: Waiting> Shelves<T> {
    pub fn new(limits: Limits) -> Self {
        Self { limits, kinds: HashMap::new(), making: Vec::new(), next_ticket: 0 }
    }

    /// Some function is of this kind.
    pub fn want(&mut self, kind: Kind, now: Instant) {
        let shelf = self.kinds.entry(kind).or_insert_with(|| Shelf::new(now));
        shelf.asked = now;
        shelf.wanted = true;
    }

    /// A version of this kind was made; `who` tells it from every other. The word of it may come after its first event.
    pub fn expect(&mut self, kind: Kind, who: u64, now: Instant) {
        self.want(kind, now);
        let Some(shelf) = self.kinds.get_mut(&kind) else { return };
        if shelf.claims.iter().any(|(by, _)| *by == who) {
            return;
        }
        shelf.expected.retain(|(other, _)| *other != who);
        shelf.expected.push_back((who, now));
        if shelf.expected.len() > self.limits.most {
            shelf.expected.pop_front();
        }
    }

    /// No function is of this kind any more.
    pub fn unwant(&mut self, kind: Kind) {
        if let Some(shelf) = self.kinds.get_mut(&kind) {
            shelf.wanted = false;
            shelf.expected.clear();
        }
    }

    /// One that waits, and those that were found dead on the way.
    pub fn take(&mut self, kind: Kind, who: u64, now: Instant) -> (Option<T>, Vec<T>) {
        self.want(kind, now);
        let mut dead = Vec::new();
        let Some(shelf) = self.kinds.get_mut(&kind) else { return (None, dead) };
        shelf.expected.retain(|(other, _)| *other != who);
        shelf.claims.push_back((who, now));
        if shelf.claims.len() > self.limits.most {
            shelf.claims.pop_front();
        }
        (shelf.pop(0, &mut dead), dead)
    }

    /// One that waits beyond the base, and those that were found dead on the way. It is no demand for more.
    pub fn take_spare(&mut self, kind: Kind) -> (Option<T>, Vec<T>) {
        let mut dead = Vec::new();
        let base = self.limits.base;
        (self.kinds.get_mut(&kind).and_then(|shelf| shelf.pop(base, &mut dead)), dead)
    }

    /// Of each kind: how many wait, and their bytes.
    pub fn waiting(&self) -> Vec<(Kind, usize, u64)> {
        let bytes = |shelf: &Shelf<T>| shelf.ready.iter().map(|(_, bytes)| bytes).sum();
        self.kinds.iter().map(|(kind, shelf)| (*kind, shelf.ready.len(), bytes(shelf))).collect()
    }

    /// What was planned is done, or failed (`None`). Gives back what nobody wants any more.
    pub fn made(&mut self, ticket: u64, one: Option<T>, now: Instant) -> Option<T> {
        let at = self.making.iter().position(|m| m.ticket == ticket)?;
        let kind = self.making.swap_remove(at).kind;
        let Some(shelf) = self.kinds.get_mut(&kind) else { return one };
        match one {
            Some(one) => {
                shelf.usual = one.memory();
                shelf.ready.push((one, shelf.usual));
            }
            None => shelf.rests_until = Some(now + REST),
        }
        None
    }

    /// Decides. While invocations run (`is_busy`) less is made at a time.
    pub fn plan(&mut self, now: Instant, is_busy: bool) -> Plan<T> {
        let mut over = self.give_back(now);
        let young = self.making.iter().filter(|m| now.duration_since(m.since) < SLOW).count();
        if young >= if is_busy { 1 } else { MAKERS } {
            return Plan { make: None, over };
        }
        let mut lacking: Vec<_> = self
            .kinds
            .iter()
            .filter_map(|(kind, shelf)| {
                let makes = self.making.iter().filter(|m| m.kind == *kind);
                let hangs = makes.clone().any(|m| now.duration_since(m.since) >= SLOW);
                // How much memory one takes is not known before the first is there.
                let unknown = shelf.usual == 0 && makes.clone().count() > 0;
                let rests = shelf.rests_until.is_some_and(|until| until > now);
                let there = shelf.ready.len() + makes.count();
                let lacks = shelf.target(&self.limits, now).saturating_sub(there);
                // A held one is made in a tenth of the time, and is all that there is for who finds no other.
                let is_held = kind.form == Form::Held;
                let order = (shelf.is_in_use(now), is_held, lacks, shelf.asked);
                (lacks > 0 && !rests && !hangs && !unknown).then_some((order, *kind))
            })
            .collect();
        lacking.sort_by_key(|(order, _)| std::cmp::Reverse(*order));
        for (_, kind) in lacking {
            if self.make_room(kind, now, &mut over) {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                self.making.push(Making { ticket, kind, since: now });
                return Plan { make: Some((kind, ticket)), over };
            }
        }
        Plan { make: None, over }
    }

    fn used(&self) -> u64 {
        let ready = self.kinds.values().flat_map(|s| &s.ready).map(|(_, bytes)| bytes);
        let making = self.making.iter().filter_map(|m| Some(&self.kinds.get(&m.kind)?.usual));
        ready.chain(making).sum()
    }

    fn is_full(&self) -> bool {
        let ready: usize = self.kinds.values().map(|shelf| shelf.ready.len()).sum();
        self.used() >= self.limits.memory_bytes || ready + self.making.len() >= self.limits.places
    }

    /// Whether there is room for one more of `kind`; others go `over` for it.
    ///
    /// Only for what is in use. First what nobody asked for of late, longest unasked first; then, where this one has
    /// none, one of those who have several. So no two kinds take from each other in turn.
    fn make_room(&mut self, kind: Kind, now: Instant, over: &mut Vec<T>) -> bool {
        while self.is_full() {
            let own = self.kinds.get(&kind).filter(|own| own.is_in_use(now));
            let Some(own) = own else { return false };
            let others = || self.kinds.iter().filter(|(k, s)| **k != kind && !s.ready.is_empty());
            let unasked = others().filter(|(_, s)| !s.is_in_use(now)).min_by_key(|(_, s)| s.asked);
            let several = || others().filter(|(_, s)| s.ready.len() > 1);
            let richest = || several().max_by_key(|(_, s)| s.ready.len());
            let victim = unasked.or_else(|| own.ready.is_empty().then(richest).flatten());
            let victim = victim.map(|(kind, _)| *kind);
            let Some(shelf) = victim.and_then(|victim| self.kinds.get_mut(&victim)) else {
                return false;
            };
            over.extend(shelf.ready.pop().map(|(one, _)| one));
        }
        true
    }

    /// What is more than wanted. A little more is kept: demand comes in waves.
    fn give_back(&mut self, now: Instant) -> Vec<T> {
        let mut over = Vec::new();
        for shelf in self.kinds.values_mut() {
            // One that ended while it waited is of no use, and its place is another's.
            let dead = shelf.ready.extract_if(.., |(one, _)| one.has_ended());
            over.extend(dead.map(|(one, _)| one));
            let target = shelf.target(&self.limits, now);
            let kept = if target == 0 { 0 } else { target + self.limits.base };
            while shelf.ready.len() > kept {
                over.extend(shelf.ready.pop().map(|(one, _)| one));
            }
        }
        let making = &self.making;
        let forget = self.limits.forget;
        self.kinds.retain(|kind, shelf| {
            !shelf.ready.is_empty()
                || (shelf.wanted && now.duration_since(shelf.asked) <= forget)
                || making.iter().any(|m| m.kind == *kind)
        });
        over
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct One {
        bytes: u64,
        dead: Rc<Cell<bool>>,
    }

    impl Waiting for One {
        fn has_ended(&self) -> bool {
            self.dead.get()
        }
        fn memory(&self) -> u64 {
            self.bytes
        }
        fn end(self) {}
    }

    fn kind(runtime: u32) -> Kind {
        Kind { runtime, memory_mib: 128, form: Form::Preboot }
    }

    const FORGET: Duration = Duration::from_secs(3600);

    fn shelves(base: usize, memory_bytes: u64) -> Shelves<One> {
        Shelves::new(Limits { base, most: 32, memory_bytes, places: 64, forget: FORGET, off: None })
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Makes all that is wanted, each of 10 bytes; what went over.
    fn fill(shelves: &mut Shelves<One>, now: Instant) -> usize {
        let mut over = 0;
        loop {
            let plan = shelves.plan(now, false);
            over += plan.over.len();
            let Some((_, ticket)) = plan.make else { return over };
            let one = One { bytes: 10, ..One::default() };
            assert!(shelves.made(ticket, Some(one), now).is_none());
        }
    }

    fn count(shelves: &Shelves<One>, runtime: u32) -> usize {
        shelves.kinds.get(&kind(runtime)).map_or(0, |s| s.ready.len())
    }

    #[test]
    fn the_target_follows_claims_and_new_functions() {
        let now = Instant::now();
        let mut all = shelves(2, 10_000);
        all.want(kind(0), now);
        fill(&mut all, now);
        assert_eq!(count(&all, 0), 2);
        // Five new functions, one of them told of twice.
        for who in [1, 2, 3, 4, 5, 1] {
            all.expect(kind(0), who, now);
        }
        fill(&mut all, now);
        assert_eq!(count(&all, 0), 5, "each has one when it is invoked");
        // A claim is no more expected, and one more of those that were.
        assert!(all.take(kind(0), 1, now).0.is_some());
        assert!(all.take(kind(0), 1, now).0.is_some());
        // The word that it was made comes late.
        all.expect(kind(0), 1, now);
        fill(&mut all, now);
        assert_eq!(count(&all, 0), 4 + 2);
        // Later they are expected no longer; what is a little more is kept.
        fill(&mut all, now + secs(31));
        assert_eq!(count(&all, 0), 4);
        all.unwant(kind(0));
        fill(&mut all, now + secs(32));
        assert_eq!(count(&all, 0), 0);
        assert!(all.kinds.is_empty());
    }

    #[test]
    fn new_functions_and_claims_are_bounded() {
        let now = Instant::now();
        let mut all = shelves(2, 10_000);
        for n in 0..1000 {
            all.expect(kind(0), n, now);
        }
        fill(&mut all, now);
        assert_eq!(count(&all, 0), MOST_EXPECTED);
        for _ in 0..1000 {
            all.take(kind(0), 0, now);
        }
        fill(&mut all, now);
        assert_eq!(count(&all, 0), 32);
    }

    #[test]
    fn the_longest_unasked_make_room() {
        let now = Instant::now();
        let mut all = shelves(3, 60);
        all.want(kind(0), now);
        all.want(kind(1), now + secs(1));
        fill(&mut all, now + secs(1));
        assert_eq!((count(&all, 0), count(&all, 1)), (3, 3), "all memory is used");
        // Within the window both are in use, and the third gets one of who has several.
        all.want(kind(2), now + secs(5));
        assert_eq!(fill(&mut all, now + secs(5)), 1);
        assert_eq!(count(&all, 2), 1);
        assert_eq!(fill(&mut all, now + secs(5)), 0, "and no more, in turns");
        // Later nobody has asked for the first two, and they go, the longest unasked first.
        all.want(kind(2), now + secs(20));
        assert_eq!(fill(&mut all, now + secs(20)), 2);
        assert_eq!(count(&all, 2), 3);
        assert_eq!(count(&all, 0) + count(&all, 1), 3);
        assert!(count(&all, 0) < 2, "of the longest unasked first");
        // They take nothing back while nobody asks for them.
        assert_eq!(fill(&mut all, now + secs(60)), 0);
        assert_eq!(count(&all, 2), 3);
        // Who asks gets it back.
        all.take(kind(0), 0, now + secs(60));
        fill(&mut all, now + secs(60));
        assert_eq!(count(&all, 0), 4, "base and a claim");
    }

    #[test]
    fn the_budget_lets_one_over_it_and_the_last() {
        let now = Instant::now();
        let mut all = shelves(8, 1);
        all.want(kind(0), now);
        fill(&mut all, now);
        assert_eq!(count(&all, 0), 1);
    }

    #[test]
    fn places_are_a_budget_too() {
        let now = Instant::now();
        let mut all = shelves(3, 10_000);
        all.limits.places = 4;
        all.want(kind(0), now);
        all.want(kind(1), now + secs(1));
        fill(&mut all, now + secs(1));
        assert_eq!(count(&all, 0) + count(&all, 1), 4);
        all.limits.places = 0;
        let mut none = Shelves::<One>::new(all.limits.clone());
        none.want(kind(0), now);
        assert_eq!((fill(&mut none, now), count(&none, 0)), (0, 0));
    }

    #[test]
    fn what_hangs_holds_up_nobody_else() {
        let now = Instant::now();
        let mut all = shelves(2, 10_000);
        all.want(kind(0), now);
        let hanging = all.plan(now, false).make.unwrap().1;
        assert!(all.plan(now, false).make.is_none(), "its size is not known yet");
        all.want(kind(1), now);
        assert!(all.plan(now, true).make.is_none(), "one at a time while invocations run");
        let later = now + SLOW;
        assert_eq!(all.plan(later, true).make.map(|m| m.0), Some(kind(1)));
        assert!(all.plan(later, false).make.is_none(), "none of the kind that hangs");
        // A failure has its kind rest, and none of it is made.
        assert!(all.made(hanging, None, later).is_none());
        let after = later + SLOW;
        assert!(all.plan(after, false).make.is_none());
        assert_eq!(all.plan(later + REST, false).make.map(|m| m.0), Some(kind(0)));
    }

    #[test]
    fn who_is_invoked_comes_first_and_little_is_made_while_something_runs() {
        let now = Instant::now();
        let mut all = shelves(3, 10_000);
        all.want(kind(0), now);
        fill(&mut all, now);
        all.want(kind(1), now);
        let later = now + secs(60);
        // One lacks three and is unasked, one lacks one and was just claimed.
        all.take(kind(0), 0, later);
        let first = all.plan(later, true).make.unwrap();
        assert_eq!(first.0, kind(0));
        assert!(all.plan(later, true).make.is_none(), "one at a time");
        let held = Kind { form: Form::Held, ..kind(0) };
        all.want(held, later);
        let second = all.plan(later, false).make.unwrap();
        assert_eq!(second.0, held, "two where nothing runs, and the quickest to make first");
    }

    #[test]
    fn the_dead_are_neither_kept_nor_handed_out() {
        let now = Instant::now();
        let mut all = shelves(2, 10_000);
        all.want(kind(0), now);
        fill(&mut all, now);
        all.kinds[&kind(0)].ready[1].0.dead.set(true);
        let (one, dead) = all.take(kind(0), 0, now);
        assert!(one.is_some_and(|one| !one.has_ended()));
        assert_eq!(dead.len(), 1);
        fill(&mut all, now);
        all.kinds[&kind(0)].ready[0].0.dead.set(true);
        assert_eq!(fill(&mut all, now), 1);
        assert_eq!(count(&all, 0), 3);
        assert_eq!(all.waiting(), [(kind(0), 3, 30)]);
    }

    #[test]
    fn what_is_spare_may_be_had_without_asking_for_more() {
        let now = Instant::now();
        let mut all = shelves(2, 10_000);
        assert!(all.take_spare(kind(0)).0.is_none());
        for who in 0..3 {
            all.take(kind(0), who, now);
        }
        fill(&mut all, now);
        assert_eq!(count(&all, 0), 5);
        // What was made for a demand that is over.
        let later = now + WINDOW + secs(1);
        all.kinds[&kind(0)].ready[4].0.dead.set(true);
        let (one, dead) = all.take_spare(kind(0));
        assert!(one.is_some() && dead.len() == 1);
        assert!(all.take_spare(kind(0)).0.is_some());
        assert!(all.take_spare(kind(0)).0.is_none(), "the base is others'");
        assert_eq!((fill(&mut all, later), count(&all, 0)), (0, 2), "and no demand");
    }

    #[test]
    fn a_kind_nobody_asked_for_long_has_none() {
        let now = Instant::now();
        let mut all = shelves(2, 10_000);
        all.want(kind(0), now);
        fill(&mut all, now);
        fill(&mut all, now + FORGET);
        assert_eq!(count(&all, 0), 2);
        assert_eq!(fill(&mut all, now + FORGET + secs(1)), 2);
    }
}
