//! What the loop tells whoever records it. Each moment of a workload is told once: a later rollout reads the past
//! again, and knows less of pods that are gone by then than was told while they lived.

use super::Tape;
use crate::domain::{Observed, Seconds, WorkloadId};
use std::{collections::BTreeMap, sync::Arc};

/// Tells the tape, if anybody listens.
pub(super) struct Recorder {
    tape: Tape,
    listeners: usize,
    /// Up to when the listeners know a workload, the past of whose trial they were told.
    told: BTreeMap<WorkloadId, Seconds>,
}

impl Recorder {
    pub fn new(tape: Tape) -> Self {
        Self { tape, listeners: 0, told: BTreeMap::new() }
    }

    pub fn write(&self, observed: &Observed) {
        if self.tape.receiver_count() > 0 {
            // Whoever listened may just have gone.
            let _ = self.tape.send(Arc::new(observed.clone()));
        }
    }

    /// A trial begins. Tells up to when its past is known to all who listen, if it is.
    pub fn begins(&mut self, id: &WorkloadId, now: Seconds) -> Option<Seconds> {
        if self.listening() { self.told.insert(id.clone(), now) } else { None }
    }

    /// These are watched, and all that was read of them up to `now` was told.
    pub fn goes_on<'a>(&mut self, watched: impl Iterator<Item = &'a WorkloadId>, now: Seconds) {
        if self.listening() {
            for id in watched {
                if let Some(until) = self.told.get_mut(id) {
                    *until = now;
                }
            }
        }
    }

    /// Whether anybody listens; who has just come knows nothing yet.
    fn listening(&mut self) -> bool {
        let listeners = self.tape.receiver_count();
        if listeners == 0 || listeners > self.listeners {
            self.told.clear();
        }
        self.listeners = listeners;
        listeners > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Kind;

    #[test]
    fn the_past_is_told_once_to_each_listener() {
        let id = WorkloadId::new("shop", Kind::Deployment, "web");
        let (tape, first) = tokio::sync::broadcast::channel(8);
        let mut recorder = Recorder::new(tape.clone());
        assert_eq!(recorder.begins(&id, 100.0), None);
        recorder.goes_on([&id].into_iter(), 160.0);
        assert_eq!(recorder.begins(&id, 200.0), Some(160.0), "what came after the last reading is news");
        let second = tape.subscribe();
        assert_eq!(recorder.begins(&id, 300.0), None, "somebody has just come");
        drop((first, second));
        recorder.goes_on([&id].into_iter(), 400.0);
        let _third = tape.subscribe();
        recorder.goes_on([&id].into_iter(), 500.0);
        assert_eq!(recorder.begins(&id, 600.0), None, "its trial began when nobody listened");
    }
}
