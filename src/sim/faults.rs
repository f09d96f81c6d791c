//! What can go wrong between a client and the simulated API server, and the crash of a client at a chosen write.
//!
//! Faults are rules: the first rule that fits a request and still has turns decides its fate. Everything is
//! seeded or counted; nothing is left to the machine's timing.

use super::{audit::Asked, store::Store};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

/// The fate of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Not done; answered with this status, and when to come again.
    Refuse(u16, Option<u32>),
    /// Done, but answered with this status, as when a proxy loses patience.
    Deny(u16),
    /// The connection breaks before the request arrives.
    ResetBefore,
    /// Done, but the connection breaks before the answer.
    ResetAfter,
    /// It arrives after this time.
    Delay(Duration),
    /// The answer arrives after this time.
    DelayAnswer(Duration),
    /// It never arrives, and nobody says so.
    Lost,
    /// Done, but the answer never arrives.
    LostAnswer,
    /// Not done; answered with status 200 and this text, as by a broken proxy.
    Garbage(String),
    /// Done; only the first half of the answer arrives.
    Truncated,
    /// A watch ends.
    CutWatch,
    /// A watch stays open and says no more, not even bookmarks.
    SilentWatch,
    /// A watch tells every event twice.
    DoubledWatch,
    /// A watch tells the events of one batch in reverse order.
    ReversedWatch,
}

impl Fault {
    fn is_of_watches(&self) -> bool {
        matches!(self, Self::CutWatch | Self::SilentWatch | Self::DoubledWatch | Self::ReversedWatch)
    }
}

/// Which requests a fault is for, and how often.
#[derive(Clone)]
pub struct Rule {
    fault: Fault,
    fits: Arc<dyn Fn(&Asked) -> bool + Send + Sync>,
    skip: usize,
    turns: usize,
    chance: f64,
}

impl Rule {
    /// For every request that `fits`, until it is removed.
    pub fn new(fault: Fault, fits: impl Fn(&Asked) -> bool + Send + Sync + 'static) -> Self {
        Self { fault, fits: Arc::new(fits), skip: 0, turns: usize::MAX, chance: 1.0 }
    }

    /// Only so many times.
    #[must_use]
    pub fn times(self, turns: usize) -> Self {
        Self { turns, ..self }
    }

    /// Not the first so many.
    #[must_use]
    pub fn after(self, skip: usize) -> Self {
        Self { skip, ..self }
    }

    /// Only with this probability, by the seed.
    #[must_use]
    pub fn with_chance(self, chance: f64) -> Self {
        Self { chance, ..self }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (skip {}, turns {}, chance {})", self.fault, self.skip, self.turns, self.chance)
    }
}

/// A lagging second API server that somebody reads from. Writes reach the real one.
#[derive(Debug, Clone)]
pub struct Stale {
    /// What it knows.
    pub view: Arc<Store>,
    /// Whether also reads that ask for the newest are answered from it, which no healthy etcd allows.
    pub quorum_too: bool,
}

/// At which moment of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum When {
    /// Nothing has happened yet.
    BeforeSend,
    /// It is done, the answer has not arrived.
    BeforeAnswer,
    /// The answer has arrived.
    AfterAnswer,
}

impl When {
    /// Every moment, in order.
    pub const ALL: [When; 3] = [When::BeforeSend, When::BeforeAnswer, When::AfterAnswer];
}

/// One write of a client: a request that changes something, or what others report (a file, an HTTP message).
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// `PATCH /apis/…`, `file /…`, `POST https://…`.
    pub what: String,
    /// The body, when it is JSON.
    pub body: Value,
}

type Callback = Box<dyn FnOnce() + Send>;

struct Crash {
    write: usize,
    when: When,
    then: Option<Callback>,
}

/// All faults of one cluster.
#[derive(Default)]
pub struct Faults {
    seed: u64,
    rules: Vec<Rule>,
    denied: Vec<(String, String, String)>,
    stale: BTreeMap<String, Stale>,
    dead: BTreeSet<String>,
    writes: BTreeMap<String, Vec<Written>>,
    crashes: BTreeMap<String, Crash>,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("rules", &self.rules).field("dead", &self.dead).finish_non_exhaustive()
    }
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Adds a rule; earlier rules come first.
    pub fn add(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    /// Removes all rules, stale views and denied rights; who is dead stays dead.
    pub fn heal(&mut self) {
        self.rules.clear();
        self.stale.clear();
        self.denied.clear();
    }

    /// Takes a right away. `verb` and `resource` (as `deployments.apps`, with `/subresource`) may be `*`.
    pub fn deny(&mut self, who: &str, verb: &str, resource: &str) {
        self.denied.push((who.to_owned(), verb.to_owned(), resource.to_owned()));
    }

    /// Gives all rights back.
    pub fn allow_all(&mut self) {
        self.denied.clear();
    }

    pub(super) fn is_denied(&self, who: &str, verb: &str, resource: &str) -> bool {
        let fits = |rule: &str, asked: &str| rule == "*" || rule == asked;
        self.denied.iter().any(|(w, v, r)| fits(w, who) && fits(v, verb) && fits(r, resource))
    }

    /// From now on, somebody reads from a server that stands still at `view`.
    pub fn freeze(&mut self, who: &str, stale: Stale) {
        self.stale.insert(who.to_owned(), stale);
    }

    /// The lagging server catches up.
    pub fn thaw(&mut self, who: &str) {
        self.stale.remove(who);
    }

    pub(super) fn stale(&self, who: &str, quorum: bool) -> Option<Arc<Store>> {
        self.stale.get(who).filter(|s| s.quorum_too || !quorum).map(|s| s.view.clone())
    }

    /// The fate of a request, or of a watch that is open.
    pub(super) fn fate(&mut self, asked: &Asked, open_watch: bool) -> Option<Fault> {
        let Self { rules, seed, .. } = self;
        for rule in rules.iter_mut() {
            if rule.fault.is_of_watches() != open_watch || rule.turns == 0 || !(rule.fits)(asked) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            if rule.chance < 1.0 && unit(seed) >= rule.chance {
                continue;
            }
            // A watch is asked about again and again: its fault is a state, except that it is cut once per turn.
            if !open_watch || rule.fault == Fault::CutWatch {
                rule.turns = rule.turns.saturating_sub(1);
            }
            return Some(rule.fault.clone());
        }
        None
    }

    /// The client dies when it reaches this moment of its n-th write (from 0): `then` is called, and nothing
    /// that it asks for from then on arrives or is answered.
    pub fn crash_at(&mut self, who: &str, write: usize, when: When, then: impl FnOnce() + Send + 'static) {
        self.crashes.insert(who.to_owned(), Crash { write, when, then: Some(Box::new(then)) });
    }

    /// The client is dead: nothing that it asks for arrives.
    pub fn kill(&mut self, who: &str) {
        self.dead.insert(who.to_owned());
    }

    /// A new process under the same name; its writes are counted from 0 and it has no crash before it.
    pub fn revive(&mut self, who: &str) {
        self.dead.remove(who);
        self.crashes.remove(who);
        self.writes.remove(who);
    }

    /// Whether somebody is dead.
    pub fn is_dead(&self, who: &str) -> bool {
        self.dead.contains(who)
    }

    /// The writes of somebody, in order.
    pub fn writes(&self, who: &str) -> &[Written] {
        self.writes.get(who).map(Vec::as_slice).unwrap_or_default()
    }

    /// Notes a write that begins now; tells its number.
    pub(super) fn note(&mut self, who: &str, write: Written) -> usize {
        let writes = self.writes.entry(who.to_owned()).or_default();
        writes.push(write);
        writes.len() - 1
    }

    /// Whether the client dies at this moment; then its callback is to be called.
    pub(super) fn dies(&mut self, who: &str, write: usize, when: When) -> Option<Callback> {
        let crash = self.crashes.get_mut(who).filter(|c| c.write == write && c.when == when)?;
        let then = crash.then.take()?;
        self.dead.insert(who.to_owned());
        Some(then)
    }
}

/// A number in 0..1.
fn unit(seed: &mut u64) -> f64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 11) as f64 / (1_u64 << 53) as f64
}
