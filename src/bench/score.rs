//! What was decided against what is true (decision.md 4.3). Pure.

use super::{
    feed::Ledger,
    judge::{Said, What},
    world::{Truth, World},
};
use crate::{
    analysis::{Interval, wilson},
    domain::{Seconds, Verdict},
};
use serde::Serialize;
use std::collections::BTreeMap;

/// Evidence that an error of one in ten thousand needs: the numerator of the information bound.
const NATS: f64 = 9.210_340_371_976_184;
/// The error limit of the defaults.
const LIMIT: f64 = 0.05;

/// The sum of many runs of one scenario under one judge.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// Runs.
    pub runs: u64,
    /// Rollouts that must be undone.
    pub must: u64,
    /// Of those: undone in time and to the right revision.
    pub in_time: u64,
    /// Of those: undone, but too late.
    pub late: u64,
    /// Of those: undone to a wrong revision.
    pub wrong_target: u64,
    /// Of those: with one share of failed requests from the first harm on.
    pub steady: u64,
    /// Of these: in time for a test that knows that share and the begin beforehand.
    pub knowable: u64,
    /// Rollouts that must not be undone.
    pub must_not: u64,
    /// Of those: undone.
    pub false_undos: u64,
    /// Undos that are wrong: of a good rollout, before any harm, to a wrong revision, or one too many.
    pub wrong: u64,
    /// Undos that are right, late ones too.
    pub right: u64,
    /// Rollouts whose trouble must be told and not undone.
    pub must_hold: u64,
    /// Of those: something was said.
    pub held: u64,
    /// Of those: the right thing was said.
    pub held_right: u64,
    /// What was said first of rollouts that must be held.
    pub reasons: BTreeMap<String, u64>,
    /// Seconds from the first harm to a right undo.
    #[serde(skip)]
    pub delays: Vec<f64>,
    /// Of the same undos: when enough requests had been served for anyone to know, where that can be said.
    #[serde(skip)]
    pub bounds: Vec<Option<f64>>,
    /// Requests that failed from the first harm to the undo, or to the end of the run.
    #[serde(skip)]
    pub harms: Vec<f64>,
    /// Seeds of runs in which something went wrong or was missed, the first few.
    pub failed_seeds: Vec<u64>,
    /// Of those with a wrong undo, the first few.
    pub wrong_seeds: Vec<u64>,
}

/// How many seeds of failed runs are kept.
const SEEDS_KEPT: usize = 12;

impl Tally {
    /// Adds one run.
    pub fn add(&mut self, seed: u64, world: &World, ledger: &Ledger, said: &[Said]) {
        let before = (self.wrong, self.in_time, self.must, self.held, self.must_hold);
        self.runs += 1;
        for (index, deploy) in world.deploys.iter().enumerate() {
            let id = &world.services[deploy.service].id;
            let later = world.deploys.iter().filter(|d| d.service == deploy.service && d.at > deploy.at);
            let until = later.map(|d| d.at).fold(f64::INFINITY, f64::min);
            let about = |said: &&Said| {
                said.workload == *id && said.to.0 == deploy.to && said.t >= deploy.at && said.t <= until + 1.0
            };
            let undo = said.iter().filter(about).find_map(|said| match &said.what {
                What::Undo(target) => Some((said.t, target.as_ref().map_or(deploy.from, |target| target.0.as_str()))),
                What::Tell(_) => None,
            });
            let harm = ledger.harm[index];
            match deploy.truth {
                Truth::Undo { within, targets, .. } => {
                    let due = ledger.due[index] + within;
                    self.must += 1;
                    self.steady += u64::from(deploy.bad_share.is_some());
                    let known = deploy.bad_share.and_then(|share| known_by(ledger, index, share));
                    self.knowable += u64::from(known.is_some_and(|t| t <= due));
                    let end = match undo {
                        Some((t, _)) if t < harm => {
                            self.wrong += 1;
                            world.end
                        }
                        Some((t, to)) if targets.contains(&to) => {
                            self.right += 1;
                            let delay = t - harm;
                            self.in_time += u64::from(t <= due);
                            self.late += u64::from(t > due);
                            self.delays.push(delay);
                            self.bounds.push(bound(ledger, index, deploy.bad_share));
                            t
                        }
                        Some((t, _)) => {
                            self.wrong += 1;
                            self.wrong_target += 1;
                            t
                        }
                        None => world.end,
                    };
                    self.harms.push(failed_until(ledger, index, end));
                }
                Truth::Not => {
                    self.must_not += 1;
                    self.false_undos += u64::from(undo.is_some());
                    self.wrong += u64::from(undo.is_some());
                }
                Truth::Hold { because, unknown } => {
                    self.must_hold += 1;
                    self.wrong += u64::from(undo.is_some());
                    let mut told = said.iter().filter(about).filter(|s| s.t >= harm).filter_map(|s| match s.what {
                        What::Tell(verdict @ (Verdict::Hold(_) | Verdict::Unknown(_))) => Some(verdict),
                        _ => None,
                    });
                    let fits = |verdict: &Verdict| match verdict {
                        Verdict::Hold(reason) => because.contains(reason),
                        Verdict::Unknown(reason) => unknown.contains(reason),
                        _ => false,
                    };
                    let all: Vec<Verdict> = told.by_ref().collect();
                    self.held += u64::from(!all.is_empty());
                    self.held_right += u64::from(all.iter().any(fits));
                    let word =
                        all.iter().find(|v| fits(v)).or(all.first()).map_or("nothing", |v| v.reason().unwrap_or(""));
                    *self.reasons.entry(word.to_owned()).or_default() += 1;
                }
                Truth::Either(from) => {
                    self.wrong += u64::from(undo.is_some_and(|(t, _)| t < harm.min(world.end) + from && from > 0.0));
                }
            }
        }
        if let Some(most) = world.most_undos {
            let undos = said.iter().filter(|said| matches!(said.what, What::Undo(_))).count();
            self.wrong += undos.saturating_sub(most) as u64;
        }
        let missed = self.must - before.2 > self.in_time - before.1 || self.must_hold - before.4 > self.held - before.3;
        let wrong = self.wrong > before.0;
        for (seeds, of) in [(&mut self.failed_seeds, wrong || missed), (&mut self.wrong_seeds, wrong)] {
            if of && seeds.len() < SEEDS_KEPT {
                seeds.push(seed);
            }
        }
    }

    /// Adds the sum of other runs.
    pub fn merge(&mut self, other: Tally) {
        self.runs += other.runs;
        self.must += other.must;
        self.in_time += other.in_time;
        self.late += other.late;
        self.wrong_target += other.wrong_target;
        self.steady += other.steady;
        self.knowable += other.knowable;
        self.must_not += other.must_not;
        self.false_undos += other.false_undos;
        self.wrong += other.wrong;
        self.right += other.right;
        self.must_hold += other.must_hold;
        self.held += other.held;
        self.held_right += other.held_right;
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
        self.delays.extend(other.delays);
        self.bounds.extend(other.bounds);
        self.harms.extend(other.harms);
        for (seeds, more) in [(&mut self.failed_seeds, other.failed_seeds), (&mut self.wrong_seeds, other.wrong_seeds)]
        {
            seeds.extend(more);
            // Which worker was quicker must not show.
            seeds.sort_unstable();
            seeds.truncate(SEEDS_KEPT);
        }
    }

    /// Correct undos of all undos, with its 95 % interval; `None` without undos.
    pub fn precision(&self) -> Option<(f64, Interval)> {
        share(self.right, self.right + self.wrong)
    }

    /// Undone in time of all that must be, with its 95 % interval; `None` where nothing must be.
    pub fn recall(&self) -> Option<(f64, Interval)> {
        share(self.in_time, self.must)
    }

    /// A quantile of the seconds from the first harm to the undo.
    pub fn delay(&self, q: f64) -> Option<f64> {
        quantile(&self.delays, q)
    }

    /// The median of the information bound, over the undos that have one.
    pub fn bound(&self) -> Option<f64> {
        quantile(&self.bounds.iter().copied().flatten().collect::<Vec<_>>(), 0.5)
    }

    /// Mean of the requests that failed before the undo.
    pub fn harm(&self) -> Option<f64> {
        (!self.harms.is_empty()).then(|| self.harms.iter().sum::<f64>() / self.harms.len() as f64)
    }
}

/// A share with its Wilson interval.
pub fn share(part: u64, whole: u64) -> Option<(f64, Interval)> {
    (whole > 0).then(|| (part as f64 / whole as f64, wilson(part as f64, whole as f64)))
}

/// A quantile, by the nearest rank.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (q * sorted.len() as f64).ceil().max(1.0) as usize - 1;
    sorted.get(rank.min(sorted.len().saturating_sub(1))).copied()
}

/// How much likelier a failure and a success are at this share than at the limit (natural logs).
fn likelier(share: f64) -> (f64, f64) {
    let p = share.min(1.0 - 1e-9);
    ((p / LIMIT).ln(), ((1.0 - p) / (1.0 - LIMIT)).ln())
}

/// When Wald's test, which knows this share and the begin of the harm, convicts, if it does. It sees every new
/// pod each time that the ledger is written.
fn known_by(ledger: &Ledger, deploy: usize, share: f64) -> Option<Seconds> {
    let (failure, success) = likelier(share);
    let tells = |(_, requests, failed): &&(Seconds, f64, f64)| failed * failure + (requests - failed) * success >= NATS;
    ledger.served[deploy].iter().find(tells).map(|(t, ..)| *t)
}

/// Seconds after which enough requests were served to tell the share of bad ones from the limit at all.
pub(super) fn bound(ledger: &Ledger, deploy: usize, bad: Option<f64>) -> Option<Seconds> {
    let p = bad?;
    let (failure, success) = likelier(p);
    let needed = NATS / (p * failure + (1.0 - p) * success);
    let harm = ledger.harm[deploy];
    let mut last = (harm, 0.0);
    for &(t, requests, _) in &ledger.served[deploy] {
        if requests >= needed {
            let share = (needed - last.1) / (requests - last.1).max(1e-9);
            return Some((last.0.max(harm) + share * (t - last.0.max(harm)) - harm).max(0.0));
        }
        last = (t, requests);
    }
    None
}

fn failed_until(ledger: &Ledger, deploy: usize, t: Seconds) -> f64 {
    let served = &ledger.served[deploy];
    let upto = served.partition_point(|(at, ..)| *at <= t);
    upto.checked_sub(1).map_or(0.0, |i| served[i].2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knows_the_share_beforehand_needs_four_failures_of_four_and_some_luck_near_the_limit() {
        let ledger =
            |served: &[(Seconds, f64, f64)]| Ledger { harm: vec![0.0], due: vec![0.0], served: vec![served.to_vec()] };
        let all_fail = ledger(&[(15.0, 3.0, 3.0), (30.0, 4.0, 4.0), (45.0, 5.0, 5.0)]);
        assert_eq!(
            known_by(&all_fail, 0, 1.0),
            Some(30.0),
            "four times ln 20 is more than ln 10,000, three times is not"
        );
        // At 8 % the bound is 1,141 requests; chance moves what is seen until then.
        let served = |failed: f64| ledger(&[(15.0, 1_100.0, failed), (30.0, 1_230.0, failed + 0.08 * 130.0)]);
        assert_eq!(known_by(&served(88.0), 0, 0.08), Some(30.0));
        assert_eq!(known_by(&served(93.0), 0, 0.08), Some(15.0));
        assert_eq!(known_by(&served(80.0), 0, 0.08), None);
    }
}
