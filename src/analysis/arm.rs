//! The requests of one pod, as the test of a signal takes and keeps them. Pure.

use super::{counter::Tally, starts::Starts};
use crate::domain::Seconds;
use std::collections::VecDeque;

/// One pod's requests in one tick.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) pod: u32,
    pub(super) new: bool,
    /// An old pod of a revision that nobody proved good: it may be as bad as the new ones.
    pub(super) unproved: bool,
    /// Whether its cold start is over.
    pub(super) warm: bool,
    /// Since when it serves, where that is known.
    pub(super) ready: Option<Seconds>,
    pub(super) tally: Tally,
}

/// One pod's requests by segment (its name).
#[derive(Debug, Clone)]
pub(super) struct Arm {
    pub(super) new: bool,
    pub(super) by_segment: VecDeque<(u32, Tally)>,
    /// Since when it has been beyond the limit at every tick that had requests.
    pub(super) bad_since: Option<Seconds>,
}

impl Arm {
    pub(super) fn new(new: bool) -> Self {
        Self { new, by_segment: VecDeque::new(), bad_since: None }
    }

    /// Adds what happened from `from` on to the newest segment, which is named `segment`.
    pub(super) fn add(&mut self, segment: u32, from: Seconds, more: Tally, theta: f64) {
        if let Some(ratio) = more.ratio() {
            self.bad_since = (ratio > theta).then(|| self.bad_since.unwrap_or(from));
        }
        match self.by_segment.back_mut() {
            Some((last, tally)) if *last == segment => *tally += more,
            _ => self.by_segment.push_back((segment, more)),
        }
    }

    /// Puts together what belongs to one segment since those in between were closed, the first of which was `closed`.
    pub(super) fn merge(&mut self, starts: &Starts, closed: u32) {
        for i in (1..self.by_segment.len()).rev() {
            let (later, before) = (self.by_segment[i], self.by_segment[i - 1].0);
            if later.0 < closed {
                return;
            }
            if starts.place(later.0) == starts.place(before) {
                self.by_segment.remove(i);
                self.by_segment[i - 1].1 += later.1;
            }
        }
    }
}
