//! Who is measured: anything that turns observations into undos. Pure.

use crate::{
    config::Thresholds,
    domain::{Observed, Revision, Seconds, Verdict, WorkloadId},
    replay::{Action, Line, Replay, VerdictLine},
};
use std::sync::Arc;

/// What a judge decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// When.
    pub t: Seconds,
    /// Of which workload.
    pub workload: WorkloadId,
    /// The revision on trial.
    pub to: Revision,
    /// The decision.
    pub what: What,
}

/// A decision.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// Undo it, to this revision; `None`: to whatever was there before.
    Undo(Option<Revision>),
    /// Something is wrong, or cannot be told, and is said.
    Tell(Verdict),
}

/// Anything that turns observations into decisions. Observations come in order of time; nobody reacts to an undo.
///
/// One value may speak for several rules that see the same: `said` has one list for each of its names.
pub trait Judge {
    /// The names of its rules.
    fn names(&self) -> &'static [&'static str];
    /// Takes one observation.
    fn observe(&mut self, observed: &Observed, said: &mut [Vec<Said>]);
    /// The run is over.
    fn end(&mut self, t: Seconds, said: &mut [Vec<Said>]);
}

/// The name under which Lastgood is measured.
pub const LASTGOOD: &str = "lastgood";

/// Lastgood: the same code as the daemon's, through [`Replay`].
pub struct Lastgood(Replay);

impl Lastgood {
    /// With these thresholds; a look every so many seconds.
    pub fn new(thresholds: Arc<Thresholds>, interval: Seconds) -> Self {
        Self(Replay::new(thresholds, interval))
    }
}

impl Judge for Lastgood {
    fn names(&self) -> &'static [&'static str] {
        &[LASTGOOD]
    }

    fn observe(&mut self, observed: &Observed, said: &mut [Vec<Said>]) {
        let lines = self.0.observe(observed);
        said.iter_mut().take(1).for_each(|said| said.extend(lines.iter().filter_map(told)));
    }

    fn end(&mut self, t: Seconds, said: &mut [Vec<Said>]) {
        let lines = self.0.end(t);
        said.iter_mut().take(1).for_each(|said| said.extend(lines.iter().filter_map(told)));
    }
}

fn told(line: &Line) -> Option<Said> {
    let Line::Verdict(line) = line else { return None };
    let VerdictLine { t, workload, to, verdict, action, target, .. } = &**line;
    let (t, verdict, workload, to) = (*t, *verdict, workload.clone(), to.clone());
    let what = match (action, verdict) {
        (Action::Undo, _) => What::Undo(target.clone()),
        (_, Verdict::Watching | Verdict::Pass) => return None,
        _ => What::Tell(verdict),
    };
    Some(Said { t, workload, to, what })
}
