//! The two signal families: errors and latency, each the same test on other counts. Pure.

use super::{
    arm::Share,
    baseline::{Baseline, Cut, CutState, ErrorBaseline},
    counter::Tally,
    evidence::Evidence,
    roster::Pod,
    tuning::*,
};
use crate::domain::{Revision, Rules, Seconds};

/// One tick as the tests see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tick {
    pub(super) from: Seconds,
    pub(super) t: Seconds,
    /// Seconds by which evidence may rise.
    pub(super) rise: Seconds,
}

/// On which side of the comparison a pod stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sides<'a> {
    /// The revision on trial.
    pub(super) to: &'a Revision,
    /// The revision that was serving, where nobody proved it good.
    pub(super) unproved: Option<&'a Revision>,
}

impl Sides<'_> {
    fn on_trial(&self, pod: &Pod) -> bool {
        pod.state.revision == *self.to
    }

    fn unproved(&self, pod: &Pod) -> bool {
        !self.on_trial(pod) && self.unproved == Some(&pod.state.revision)
    }
}

/// Errors against the limit, and, when the limit was broken before, against the user's own as well.
#[derive(Debug, Clone)]
pub(super) struct Errors {
    pub(super) baseline: ErrorBaseline,
    pub(super) evidence: Evidence,
    /// Against the user's number, when another one applies: tells "was so before" from "is fine".
    pub(super) plain: Option<Evidence>,
}

impl Errors {
    fn new(baseline: ErrorBaseline, rules: &Rules) -> Self {
        let test = |theta| Evidence::new(theta, ERROR_PACE, rules.watch.as_secs_f64());
        Self {
            baseline,
            evidence: test(baseline.theta),
            plain: (baseline.theta > rules.errors.max).then(|| test(rules.errors.max)),
        }
    }

    /// Forgets the evidence and keeps the limit.
    pub(super) fn anew(&mut self, watch: Seconds) {
        self.evidence = self.evidence.anew(watch);
        self.plain = self.plain.as_ref().map(|plain| plain.anew(watch));
    }

    /// See [`Evidence::interrupted`].
    pub(super) fn interrupted(&mut self, t: Seconds) {
        self.evidence.interrupted(t);
        if let Some(plain) = &mut self.plain {
            plain.interrupted(t);
        }
    }

    /// Takes the pods' pending counts; starts with the first of a new pod.
    pub(super) fn step(
        errors: &mut Option<Self>,
        tick: Tick,
        pods: &[&Pod],
        sides: Sides<'_>,
        before: &Baseline,
        rules: &Rules,
    ) {
        let shares: Vec<Share> = pods
            .iter()
            .filter(|pod| pod.pending.total > 0.0)
            .map(|pod| Share {
                pod: pod.serial,
                new: sides.on_trial(pod),
                unproved: sides.unproved(pod),
                warm: pod.first_ready.is_some() && !pod.cold,
                ready: pod.first_ready,
                tally: pod.pending,
            })
            .collect();
        match errors {
            None if shares.iter().any(|share| share.new) => {}
            None => return,
            // History that came late may say that the limit was broken before: then start again.
            Some(known) if known.baseline.before.total < SOME_TRAFFIC => {
                let baseline = before.errors(rules.errors.max);
                if baseline.theta > known.baseline.theta {
                    *errors = None;
                } else {
                    known.baseline = baseline;
                }
            }
            Some(_) => {}
        }
        let family = errors.get_or_insert_with(|| Self::new(before.errors(rules.errors.max), rules));
        let dispersion = family.baseline.dispersion;
        family.evidence.step(tick.from, tick.t, tick.rise, &shares, dispersion);
        if let Some(plain) = &mut family.plain {
            plain.step(tick.from, tick.t, tick.rise, &shares, dispersion);
        }
    }
}

/// Latency against its cut: by what is certain, and by what is interpolated, which takes twice as long.
#[derive(Debug, Clone)]
pub(super) struct Slowness {
    pub(super) cut: Cut,
    certain: Evidence,
    likely: Evidence,
    /// The same increase of the median, where the limit is about a tail.
    typical: Option<(Cut, Evidence)>,
}

impl Slowness {
    fn new(cut: Cut, typical: Option<Cut>, rules: &Rules) -> Self {
        let watch = rules.watch.as_secs_f64();
        let [certain, likely] = LATENCY_PACE;
        Self {
            typical: typical.map(|cut| (cut, Evidence::new(cut.theta, [certain; 3], watch))),
            cut,
            certain: Evidence::new(cut.theta, [certain; 3], watch),
            likely: Evidence::new(cut.theta, [likely; 3], watch),
        }
    }

    fn anew(&mut self, watch: Seconds) {
        self.certain = self.certain.anew(watch);
        self.likely = self.likely.anew(watch);
        if let Some((_, typical)) = &mut self.typical {
            *typical = typical.anew(watch);
        }
    }

    /// Where the median surely broke the same limit: when all requests got slower, the tail is the part of them that
    /// shows it last. With the requests of new pods since it began.
    pub(super) fn slower_as_a_whole(&self) -> Option<(Tally, &Cut)> {
        let (cut, test) = self.typical.as_ref().filter(|(_, test)| test.fired())?;
        Some((test.onset()?.new, cut))
    }

    /// The test that speaks: the certain one as soon as it convicts, alone or seconded.
    pub(super) fn evidence(&self) -> &Evidence {
        let whole = self.typical.as_ref().is_some_and(|(_, test)| test.fired());
        let seconded = whole && self.certain.log_e() >= SECONDED;
        if self.certain.fired() || seconded { &self.certain } else { &self.likely }
    }
}

/// How far the latency of a rollout can be judged.
#[derive(Debug, Clone, Default)]
pub(super) enum Latency {
    /// No histogram of a new pod was seen.
    #[default]
    Unmeasured,
    /// Measured, but there is too little from before to compare with.
    NoBaseline,
    /// The limit lies above this bound, in the last bucket.
    Saturated(f64),
    Tested(Box<Slowness>),
}

impl Latency {
    /// Takes the pods' pending histograms.
    pub(super) fn step(&mut self, tick: Tick, pods: &[&Pod], sides: Sides<'_>, before: &Baseline, rules: &Rules) {
        let measured = pods.iter().any(|pod| sides.on_trial(pod) && pod.pending_latency.is_some());
        if !matches!(self, Latency::Tested(_)) {
            if !measured {
                return;
            }
            *self = match before.cut(rules.latency) {
                CutState::Missing => Latency::NoBaseline,
                CutState::Saturated(bound) => Latency::Saturated(bound),
                CutState::Known(cut) => {
                    Latency::Tested(Box::new(Slowness::new(cut, before.typical(&cut, rules.latency), rules)))
                }
            };
        }
        let Latency::Tested(slow) = self else { return };
        let (mut certain, mut likely, mut typical) = (Vec::new(), Vec::new(), Vec::new());
        let mut out_of_range = false;
        for pod in pods {
            let Some(histogram) = &pod.pending_latency else { continue };
            let new = sides.on_trial(pod);
            let Some(above) = histogram.above(slow.cut.seconds) else {
                out_of_range |= new;
                continue;
            };
            let share = |bad| Share {
                pod: pod.serial,
                new,
                unproved: sides.unproved(pod),
                warm: true,
                ready: None,
                tally: Tally::new(bad, histogram.total()),
            };
            if histogram.total() > 0.0 {
                certain.push(share(above.certain));
                likely.push(share(above.interpolated));
                let median = slow.typical.as_ref().and_then(|(cut, _)| histogram.above(cut.seconds));
                typical.extend(median.map(|above| share(above.interpolated)));
            }
        }
        if out_of_range && likely.iter().all(|share| !share.new) {
            // The new version has other buckets, and none reaches up to the limit.
            *self = Latency::Saturated(slow.cut.seconds);
            return;
        }
        slow.certain.step(tick.from, tick.t, tick.rise, &certain, 1.0);
        slow.likely.step(tick.from, tick.t, tick.rise, &likely, 1.0);
        if let Some((_, test)) = &mut slow.typical {
            test.step(tick.from, tick.t, tick.rise, &typical, 1.0);
        }
    }

    /// See [`Evidence::interrupted`].
    pub(super) fn interrupted(&mut self, t: Seconds) {
        if let Latency::Tested(slow) = self {
            let typical = slow.typical.as_mut().map(|(_, test)| test);
            [&mut slow.certain, &mut slow.likely].into_iter().chain(typical).for_each(|test| test.interrupted(t));
        }
    }

    /// Forgets the evidence and keeps the cut.
    pub(super) fn anew(&mut self, watch: Seconds) {
        if let Latency::Tested(slow) = self {
            slow.anew(watch);
        }
    }

    pub(super) fn tested(&self) -> Option<&Slowness> {
        match self {
            Latency::Tested(slow) => Some(slow),
            _ => None,
        }
    }
}
