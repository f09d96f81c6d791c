//! A run written down: what of its pods can be seen at any time, for whoever shows it as real objects and to a real
//! Prometheus (decision.md 4.1, the true path). Pure.
//!
//! What was counted is noted every few seconds and lies on a straight line between two notes: an edge of a fault is
//! as sharp as that.

use super::{
    flow::Flow,
    rolling::{Lives, Look},
    world::World,
};
use crate::domain::Seconds;

/// Seconds between two notes.
const EVERY: Seconds = 3.0;
/// A process answers so long after its pod was made.
const UP: Seconds = 2.0;

/// All pods of a run.
#[derive(Debug, Clone, Default)]
pub struct Tape {
    /// The pods; a service that is measured by its callers only is one pod.
    pub pods: Vec<PodTape>,
    /// When Kubernetes gives up waiting, per rollout.
    pub deadlines: Vec<Option<Seconds>>,
}

/// One pod.
#[derive(Debug, Clone)]
pub struct PodTape {
    /// Of which service.
    pub service: usize,
    /// Its name in the observations.
    pub name: String,
    /// Its revision.
    pub revision: &'static str,
    /// Its node.
    pub node: usize,
    /// `None`: it was there before the run.
    pub created: Option<Seconds>,
    /// When it is gone; infinite when it stays.
    pub gone: Seconds,
    /// What its state becomes when.
    pub looks: Vec<(Seconds, Look)>,
    bounds: &'static [f64],
    serves: bool,
    resets: Vec<Seconds>,
    notes: Vec<Note>,
}

/// Counters at one moment: answered well, failed, then requests upto each bound of the histogram and in all.
type Note = Box<[f32]>;

/// What a process has counted since it started. Each number only grows, but for a restart.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Requests answered well.
    pub well: f64,
    /// Requests that failed.
    pub failed: f64,
    /// Upper bounds in seconds, and the requests that took no longer; the last bound is infinite.
    pub upto: Vec<(f64, f64)>,
}

/// The times of the notes.
pub(super) fn times(end: Seconds) -> impl Iterator<Item = Seconds> {
    (0..=(end / EVERY).floor() as usize).map(|i| i as f64 * EVERY)
}

impl Tape {
    pub(super) fn of(world: &World, lives: &Lives, flow: &Flow) -> Self {
        let pod = |process: &super::flow::Process| {
            let (life, service) = (&process.life, &world.services[process.life.service]);
            let always = || vec![(0.0, Look { ready: true, ..Look::default() })];
            PodTape {
                service: life.service,
                name: life.name.clone(),
                revision: life.revision,
                node: life.node,
                created: life.created,
                gone: life.gone,
                looks: if service.per_pod { life.states.clone() } else { always() },
                bounds: service.buckets,
                serves: !life.ready.is_empty(),
                resets: life.resets.clone(),
                notes: Vec::new(),
            }
        };
        Self { pods: flow.processes.iter().map(pod).collect(), deadlines: lives.deadline.clone() }
    }

    /// Adds what everybody has counted now.
    pub(super) fn note(&mut self, world: &World, flow: &Flow) {
        for (which, pod) in self.pods.iter_mut().enumerate() {
            let counted = flow.counted(world, which);
            let upto = counted.buckets.iter().scan(0.0, |sum, more| {
                *sum += more;
                Some(*sum)
            });
            let all = [counted.requests - counted.errors, counted.errors].into_iter().chain(upto);
            pod.notes.push(all.map(|count| count as f32).collect());
        }
    }
}

impl PodTape {
    /// Whether somebody may ask it at `t`: it is there and its process was ever going to serve.
    pub fn is_target(&self, t: Seconds) -> bool {
        self.serves && self.created.is_none_or(|created| created + UP <= t) && t < self.gone
    }

    /// Its state at `t`; `None` when it is not there.
    pub fn look(&self, t: Seconds) -> Option<Look> {
        self.looks.iter().rev().find(|(at, _)| *at <= t && t < self.gone).map(|(_, look)| *look)
    }

    /// What it answers at `t`; `None` when it does not: not there, or between an exit and the next start.
    pub fn sample(&self, t: Seconds) -> Option<Sample> {
        if !self.is_target(t) || self.look(t).is_some_and(|look| look.waiting.is_some()) {
            return None;
        }
        let at = (t / EVERY).max(0.0);
        let (before, after) = (self.notes.get(at as usize)?, self.notes.get(at as usize + 1)?);
        let from = at.floor() * EVERY;
        let reset = self.resets.iter().copied().find(|reset| (from..from + EVERY).contains(reset));
        let value = |i: usize| {
            let (a, b) = (f64::from(before[i]), f64::from(after[i]));
            let value = match reset {
                // What was counted since the last note dies with the process.
                Some(reset) if t < reset => a,
                Some(reset) => b * (t - reset) / (from + EVERY - reset),
                None => a + (b - a) * at.fract(),
            };
            value.floor()
        };
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let upto = bounds.enumerate().map(|(i, bound)| (bound, value(i + 2))).collect();
        Some(Sample { well: value(0), failed: value(1), upto })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Feed, find},
        EVERY,
    };
    use crate::domain::{Observation, Observed};

    #[test]
    fn a_scrape_lies_between_the_notes_around_it() {
        for id in ["S03", "S34", "A13"] {
            let (world, random) = find(id).expect("there").world(7);
            let mut seen: Vec<Observed> = Vec::new();
            let (_, _, tape) = Feed::new(world, random).run_taped(&mut |observed| seen.push(observed.clone()));
            let mut compared = 0;
            for Observed { t, what } in &seen {
                let Observation::Counters { pod, counts } = what else { continue };
                let pod = tape.pods.iter().find(|tape| tape.name == pod.name).expect("known");
                let at = |t: f64| pod.sample(t).map(|sample| sample.well + sample.failed);
                let from = (t / EVERY).floor() * EVERY;
                let (Some(before), Some(mine), Some(after)) = (at(from), at(*t), at(from + EVERY - 1e-6)) else {
                    continue;
                };
                let latency = pod.sample(*t).and_then(|sample| sample.upto.last().copied()).expect("+Inf").1;
                assert!((latency - mine).abs() <= 1.0, "{id} {t}: {latency} in the histogram of {mine}");
                if before <= after {
                    compared += 1;
                    let counted = counts.requests.expect("counted");
                    let fits = before - 1.0 <= counted && counted <= after + 2.0;
                    assert!(fits || pod.looks.iter().any(|(at, _)| (t - at).abs() < EVERY), "{id} {t}: {counted}");
                }
            }
            assert!(compared > 200, "{id}: {compared}");
        }
    }

    #[test]
    fn a_pod_that_crashes_answers_only_while_it_runs() {
        let (world, random) = find("A13").expect("there").world(7);
        let (_, _, tape) = Feed::new(world, random).run_taped(&mut |_| {});
        let pod = tape.pods.iter().find(|pod| pod.revision == "b").expect("a new pod");
        let (end, _) = *pod.looks.iter().find(|(_, look)| look.waiting.is_some()).expect("a back-off");
        assert!(pod.sample(end - 1.0).is_some() && pod.sample(end + 1.0).is_none());
        assert!(pod.sample(pod.created.expect("made") + 1.0).is_none(), "nobody listens yet");
    }
}
