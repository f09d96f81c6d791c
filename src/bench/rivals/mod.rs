//! The rules that people use today, on the same observations. Pure.
//!
//! Implemented from their documented behaviour, with the same two limits; a comparison is only worth something if
//! it is fair. What they do not document they do as a reader of their manual would set it up.

mod gather;
mod mann_whitney;
mod rules;

use super::judge::{Judge, Said, What};
use crate::domain::{Observed, Seconds, WorkloadId};
use gather::{Gather, STEP};
use rules::{Argo, Control, Cusum, Flagger, Kayenta, PipeCd, Rule, Static};
use std::collections::BTreeMap;

/// Their names, in the order of the answers.
pub const NAMES: [&str; 8] = [
    "one-minute limit",
    "three minutes in a row",
    "Flagger-like",
    "Argo-Rollouts-like",
    "Kayenta, old pods",
    "Kayenta, before",
    "PipeCD-like",
    "CUSUM",
];

fn rules() -> Vec<Option<Box<dyn Rule>>> {
    vec![
        Some(Box::new(Static::new(1))),
        Some(Box::new(Static::new(3))),
        Some(Box::<Flagger>::default()),
        Some(Box::<Argo>::default()),
        Some(Box::new(Kayenta(Control::Old))),
        Some(Box::new(Kayenta(Control::Before))),
        Some(Box::<PipeCd>::default()),
        Some(Box::<Cusum>::default()),
    ]
}

/// How long a rollout is watched.
const WATCH: Seconds = 1_800.0;

/// All rules at once: what they see is gathered once.
#[derive(Default)]
pub struct Rivals {
    gather: Gather,
    /// Rules that have not undone their rollout yet.
    live: BTreeMap<WorkloadId, Vec<Option<Box<dyn Rule>>>>,
    next: Seconds,
}

impl Judge for Rivals {
    fn names(&self) -> &'static [&'static str] {
        &NAMES
    }

    fn observe(&mut self, observed: &Observed, said: &mut [Vec<Said>]) {
        while self.next < observed.t {
            // Nobody looks at yesterday.
            self.next = if observed.t - self.next > 3_600.0 { observed.t } else { self.next };
            self.look(self.next, said);
            self.next += STEP;
        }
        if let Some(workload) = self.gather.observe(observed) {
            self.live.insert(workload, rules());
        }
    }

    fn end(&mut self, t: Seconds, said: &mut [Vec<Said>]) {
        self.look(t, said);
    }
}

impl Rivals {
    fn look(&mut self, t: Seconds, said: &mut [Vec<Said>]) {
        for (workload, rules) in &mut self.live {
            let Some(track) = self.gather.tracks.get(workload) else { continue };
            let over = track.first_ready.is_some_and(|ready| t - ready > WATCH);
            for (rule, said) in rules.iter_mut().zip(said.iter_mut()) {
                let Some(judge) = rule.as_mut().filter(|_| !over) else { continue };
                let given_up = track.deadline_exceeded && judge.heeds_deadline();
                let undoes = track.first_ready.is_some() && judge.undoes(t, track);
                if given_up || undoes {
                    *rule = None;
                    said.push(Said { t, workload: workload.clone(), to: track.to.clone(), what: What::Undo(None) });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        mann_whitney::tests::{TEN, TEN_AGAIN, TWENTY},
        rules::high,
    };

    /// The published cases of Kayenta's `ClassifierSuite`, in the direction of an increase.
    #[test]
    fn kayentas_own_cases() {
        assert!(!high(&TEN, &TEN_AGAIN, 0.10, 0.95), "Pass Metric");
        assert!(high(&TWENTY, &TEN_AGAIN, 0.10, 0.95), "High Metric");
        assert!(!high(&TEN, &TWENTY, 0.10, 0.95), "Directional: a decrease is no increase");
        assert!(!high(&TEN, &TEN, 0.10, 0.95), "equal data pass");
    }
}
