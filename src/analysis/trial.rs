//! One rollout under watch: what was observed of it, and its tests. Pure.

use super::{
    baseline::{self, Baseline},
    callers::Callers,
    facts::Facts,
    family::{Errors, Latency, Sides, Tick},
    health::Probes,
    issues::Issues,
    late::next_late_look,
    leak::Leak,
    monitoring::Outage,
    peers::Seasons,
    roster::{Pod, Roster},
    tuning::*,
};
use crate::domain::{
    Counts, FailReason, Observation, PodId, PodState, ProbeResult, Revision, RolloutCondition, Rules, Seconds,
    WorkloadId,
};
use std::sync::Arc;

/// What a tick knows besides the trial's own observations.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now<'a> {
    pub(super) t: Seconds,
    pub(super) interval: Seconds,
    pub(super) outage: Option<&'a Outage>,
}

/// One rollout under watch.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    pub(super) t0: Seconds,
    pub(super) workload: WorkloadId,
    pub(super) from: Revision,
    pub(super) to: Revision,
    pub(super) rules: Arc<Rules>,
    pub(super) roster: Roster,
    /// `from`, unless it was proved: then its life says nothing of "before".
    pub(super) unproved: Option<Revision>,
    pub(super) baseline: Baseline,
    /// Requests of that which pods of `from` itself served.
    pub(super) from_served: f64,
    pub(super) errors: Option<Errors>,
    pub(super) latency: Latency,
    pub(super) callers: Callers,
    pub(super) probes: Probes,
    pub(super) facts: Facts,
    pub(super) issues: Issues,
    /// How the memory of new pods grows, and when that is worth another look.
    pub(super) leak: Option<Leak>,
    pub(super) weighed: Seconds,
    /// When new pods last answered anything.
    pub(super) new_seen: Option<Seconds>,
    /// Whether any pod was ever counted by itself.
    pub(super) per_pod: bool,
    /// Since when it is convicted without a break.
    pub(super) convicted: Option<Seconds>,
    /// When it was first convicted, for the breaker, and whether that holds it.
    pub(super) decided: Option<Seconds>,
    pub(super) braked: bool,
    /// First Ready of the first new pod.
    pub(super) first_ready: Option<Seconds>,
    /// Requests that new pods answered, as far as measured.
    pub(super) requests: f64,
    /// Whether new pods were measured at all.
    pub(super) measured: bool,
    pub(super) frozen: Option<Outage>,
    pub(super) skipped: u64,
    pub(super) last_fail: Option<FailReason>,
    /// Families that convicted at the tick before: an unsettled gate does not take that back.
    pub(super) standing: Vec<FailReason>,
    /// Another rollout that is blamed and must be undone first, and since when that is so.
    pub(super) waiting: Option<(WorkloadId, Seconds)>,
    last_counters: Option<Seconds>,
    /// How often counters are read, which may be less often than ticks are made.
    pub(super) cadence: Seconds,
    fresh: bool,
    /// Up to when the tests have seen everything.
    stepped: Seconds,
    pub(super) judged: Seconds,
    /// When anything about its pods last changed.
    stirred: Seconds,
    /// When it is looked at next, where that is not at every tick.
    pub(super) next: Option<Seconds>,
    /// Whether it takes part in this tick.
    pub(super) awake: bool,
}

impl Trial {
    pub(super) fn new(
        (t0, proven): (Seconds, Seconds),
        workload: WorkloadId,
        from: Revision,
        to: Revision,
        rules: Arc<Rules>,
        roster: Roster,
    ) -> Self {
        let unproved = (proven < t0).then(|| from.clone());
        let mut facts = Facts::new(unproved.as_ref());
        for pod in roster.all().filter(|pod| pod.state.revision != to) {
            facts.old_pod(pod.updated, pod);
        }
        Self {
            t0,
            workload,
            from,
            to,
            callers: Callers::new(t0, &rules),
            rules,
            roster,
            unproved,
            baseline: Baseline::new(proven),
            from_served: 0.0,
            errors: None,
            latency: Latency::default(),
            probes: Probes::default(),
            facts,
            issues: Issues::default(),
            leak: None,
            weighed: t0,
            new_seen: None,
            per_pod: false,
            convicted: None,
            decided: None,
            braked: false,
            first_ready: None,
            requests: 0.0,
            measured: false,
            frozen: None,
            skipped: 0,
            last_fail: None,
            standing: Vec::new(),
            waiting: None,
            last_counters: None,
            cadence: 0.0,
            fresh: false,
            stepped: t0,
            judged: t0,
            stirred: t0,
            next: None,
            awake: true,
        }
    }

    /// Takes over what the same time of day was like before.
    pub(super) fn remember(&mut self, seasons: &Seasons) {
        for (bin, histogram) in seasons {
            if self.baseline.in_season(*bin as Seconds * SEASON_BIN) {
                self.baseline.add_season(*bin, histogram);
            }
        }
    }

    /// `usual`, or a quarter of a watch that is shorter than four times that.
    pub(super) fn at_most_a_quarter(&self, usual: Seconds) -> Seconds {
        usual.min(self.rules.watch.as_secs_f64() / 4.0)
    }

    pub(super) fn probe_grace(&self) -> Seconds {
        self.at_most_a_quarter(PROBE_GRACE)
    }

    /// Whether its watch is over.
    fn outlived(&self, t: Seconds) -> bool {
        t >= self.first_ready.unwrap_or(self.t0) + self.rules.watch.as_secs_f64()
    }

    /// When it is to be looked at next, if its watch is over and it has been quiet for a while (2.6).
    pub(super) fn next_look(&self, t: Seconds) -> Option<Seconds> {
        let quiet = self.outlived(t - LATE_EVERY) && t >= self.stirred + LATE_EVERY && !self.rises();
        quiet.then(|| next_late_look(t))
    }

    /// Whether nothing is expected of it before its next look.
    pub(super) fn rests(&self, t: Seconds) -> bool {
        self.next.is_some_and(|next| t < next)
    }

    fn stir(&mut self, t: Seconds) {
        (self.stirred, self.next) = (t, None);
    }

    pub(super) fn observe(&mut self, t: Seconds, what: &Observation, interval: Seconds) {
        // Once it is looked at seldom, a long time between two readings is no gap.
        let interval = if self.outlived(t) { interval.max(LATE_EVERY) } else { interval };
        match what {
            Observation::Pod(state) => self.pod(t, state),
            Observation::Counters { pod, counts } => self.counters(t, pod, counts, interval),
            Observation::Memory { pod, bytes } => self.memory(t, pod, *bytes),
            Observation::Callers { counts, .. } => {
                self.skipped += u64::from(!self.callers.observe(t, counts, interval));
            }
            Observation::Probe(probe) => self.probe(t, probe),
            Observation::Issues { revision, source, new_issues, events, .. } => {
                self.issues.observe(t, source, (revision, &self.to), (*new_issues, *events));
            }
            Observation::Condition { condition: RolloutCondition::ProgressDeadlineExceeded, .. } if t >= self.t0 => {
                self.facts.deadline_exceeded(t);
                self.stir(t);
            }
            _ => {}
        }
    }

    fn pod(&mut self, t: Seconds, state: &PodState) {
        if self.roster.get(&state.pod).is_none_or(|known| known.state != *state) {
            self.stir(t);
        }
        if !self.roster.update(t, state, self.t0) {
            self.skipped += 1;
            return;
        }
        let Some(pod) = self.roster.get(&state.pod) else { return };
        if state.revision == self.to {
            // A pod of the same template that was there before does not start the watch.
            let ready = pod.first_ready.filter(|_| t >= self.t0).map(|at| at.max(self.t0));
            self.first_ready = match (self.first_ready, ready) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        } else {
            self.facts.old_pod(t, pod);
        }
    }

    fn probe(&mut self, t: Seconds, probe: &ProbeResult) {
        let grace = self.probe_grace();
        self.probes.observe(t, probe, &self.roster, &self.to, grace);
    }

    fn counters(&mut self, t: Seconds, id: &PodId, counts: &Counts, interval: Seconds) {
        let (t0, warm_up) = (self.t0, self.at_most_a_quarter(WARM_UP));
        let cold_start = self.at_most_a_quarter(COLD_START);
        let Some(pod) = self.roster.get_mut(id) else {
            self.skipped += 1;
            return;
        };
        let read = pod.read(t, counts, interval);
        self.skipped += u64::from(read.skipped);
        self.cadence = pod.spacing().unwrap_or(self.cadence).min(CADENCE_MAX);
        let (new, lost) = (pod.state.revision == self.to, counts.requests.is_some() && read.requests.is_none());
        if read.skipped > 0 && read.pair.is_none() && read.requests.is_none() && read.latency.is_none() {
            return;
        }
        self.per_pod |= read.pair.is_some();
        if t > t0 {
            self.last_counters = Some(self.last_counters.map_or(t, |last| last.max(t)));
        }
        if !new {
            // Old pods: before the rollout they are the baseline, after it the comparison.
            // The life of an unproved revision is no baseline either.
            let unproved = self.unproved.as_ref() == Some(&pod.state.revision);
            // What a pod had counted up to an earlier day says nothing of today's "before".
            let early = self.baseline.in_season(t);
            let joined = early || unproved || pod.state.created.is_some() && pod.came_with(t0);
            let before = matches!(read.pair, Some((None, _)) if !joined) || t <= t0;
            if let Some((_, tally)) = read.pair.filter(|_| before && !early && pod.state.revision == self.from) {
                self.from_served += tally.total;
            }
            match read.pair {
                Some((None, tally)) if !joined => self.baseline.add_lifetime(tally),
                Some((_, tally)) if t > t0 => pod.pending += tally,
                Some((Some(_), tally)) if self.baseline.covers(t) => self.baseline.add(t, tally),
                _ => {}
            }
            match read.latency {
                Some((None, histogram)) if !joined => self.baseline.add_lifetime_latency(&histogram),
                Some((_, histogram)) if t > t0 => pod.add_latency(histogram),
                Some((Some(_), histogram)) if self.baseline.covers(t) => self.baseline.add_latency(&histogram),
                Some((Some(_), histogram)) if self.baseline.in_season(t) => {
                    self.baseline.add_season(baseline::season_bin(t), &histogram);
                }
                _ => {}
            }
            return;
        }
        if t <= t0 {
            return;
        }
        self.fresh = true;
        self.measured |= read.pair.is_some() || read.requests.is_some() || read.latency.is_some();
        // Before its first Ready only the kubelet asks a pod, and 503 is the right answer then.
        let Some(ready) = pod.first_ready.filter(|ready| *ready <= t) else { return };
        let whole = pod.came_with(t0);
        if let Some((from, tally)) = read.pair
            && (from.is_some() || whole)
        {
            pod.pending += tally;
            pod.cold |= from.is_none_or(|from| from < ready + cold_start);
        }
        let mut answered = 0.0_f64;
        if let Some((from, requests)) = read.requests
            && (from.is_some() || whole)
        {
            answered = requests;
        }
        if let Some((from, histogram)) = read.latency
            && (from.is_some() || whole)
        {
            answered = answered.max(histogram.total());
            // A cold start is slow; what was counted in it does not count (2.4).
            if from.is_some_and(|from| from >= ready + warm_up) {
                pod.add_latency(histogram);
            }
        }
        if lost {
            self.interrupted(t);
        }
        if answered > 0.0 {
            self.new_seen = Some(self.new_seen.map_or(t, |seen| seen.max(t)));
        }
        self.requests += answered;
    }

    /// What happened on new pods up to `t` was not seen, or cannot be believed.
    fn interrupted(&mut self, t: Seconds) {
        if let Some(errors) = &mut self.errors {
            errors.interrupted(t);
        }
        self.latency.interrupted(t);
    }

    /// Brings the tests up to `now.t`. A time that was judged already changes nothing.
    pub(super) fn advance(&mut self, now: Now<'_>) {
        let t = now.t;
        if t <= self.judged {
            return;
        }
        self.judged = t;
        let (t0, gap) = (self.t0, GAP_INTERVALS * now.interval.max(self.cadence));
        for pod in self.roster.all_mut() {
            pod.refresh(t, t0);
        }
        self.weigh_memory(t);
        let silent = t - self.last_counters.unwrap_or(t0) >= gap;
        self.frozen = now.outage.filter(|outage| outage.monitoring || silent).cloned();
        if self.frozen.is_some() {
            // No increment, no decay; what was read meanwhile cannot be believed.
            self.roster.drop_pending();
            self.interrupted(t);
            self.callers.freeze(t);
            self.fresh = false;
            self.stepped = t;
            return;
        }
        let from = self.stepped;
        // Ticks may be closer than scrapes: a tick without a reading is no tick without requests.
        let running = self.errors.is_some() || self.latency.tested().is_some();
        if self.fresh || !running || t - from > gap {
            let tick = Tick { from, t, rise: (t - from).min(gap) };
            let pods: Vec<&Pod> = self.roster.all().collect();
            let sides = Sides { to: &self.to, unproved: self.unproved.as_ref() };
            Errors::step(&mut self.errors, tick, &pods, sides, &self.baseline, &self.rules);
            self.latency.step(tick, &pods, sides, &self.baseline, &self.rules);
            self.roster.drop_pending();
            self.fresh = false;
            self.stepped = t;
        }
        self.callers.advance(t, gap, self.first_ready);
        self.roster.forget(t);
    }

    /// Whether any of its tests has gone a good part of the way to a conviction, or one of its probes fails.
    pub(super) fn rises(&self) -> bool {
        let errors = self.errors.as_ref().map(|family| &family.evidence);
        let latency = self.latency.tested().map(|slow| slow.evidence());
        let callers = self.callers.test().map(|(_, evidence)| evidence);
        let counted = [errors, latency, callers].into_iter().flatten();
        counted.into_iter().any(|test| test.log_e() >= RISING) || self.probes.failing()
    }

    /// Whether its slowness has gone a good part of that way.
    pub(super) fn slows(&self) -> bool {
        self.latency.tested().is_some_and(|slow| slow.evidence().log_e() >= RISING)
    }
}
