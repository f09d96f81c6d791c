//! Workloads without a trial: remembered lightly, to tell a bad rollout from a bad hour. Pure.
//!
//! A peer costs what its traffic and its pods cost: bins of counts for forty minutes, a histogram every half minute,
//! one roster. There is a most of each; what is beyond is counted as skipped, and judged without.

use super::{
    baseline::{self, CutState},
    counter::{PairCounter, Reading, Tally},
    facts::Facts,
    health::Streak,
    histogram::{Histogram, HistogramCounter},
    roster::{Pod, Roster},
    series::{Break, Question, Series, Told, ask},
    tuning::*,
};
use crate::domain::{Counts, FailReason, LatencyLimit, Observation, RolloutCondition, Rules, Seconds, WorkloadId};
use std::collections::{BTreeMap, VecDeque};

/// Peers do not roll out: nothing of them came with a rollout.
const NEVER: Seconds = f64::MAX;

/// Latency by bins of ten minutes.
pub(super) type Seasons = VecDeque<(i64, Histogram)>;

/// One workload without a trial.
#[derive(Debug, Clone, Default)]
pub(super) struct PeerWatch {
    roster: Roster,
    pub(super) facts: Facts,
    errors: Series,
    /// As its callers see it; speaks where no pod does.
    callers: (PairCounter, Series),
    callers_latency: HistogramCounter,
    slices: VecDeque<(i64, Histogram)>,
    /// Ten minutes each, for a day: what this time of day is like.
    seasons: Seasons,
    probes: BTreeMap<(String, Option<u32>), Streak>,
    pods_measured: bool,
    last: Seconds,
}

/// What is asked of a peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    /// When ours broke.
    pub(super) onset: Seconds,
    /// When it may have begun.
    pub(super) earliest: Seconds,
    pub(super) t: Seconds,
    /// Which of our signals broke, and by how much its share of bad requests rose.
    pub(super) reason: FailReason,
    pub(super) shift: f64,
    /// A peer has to keep the limits of the workload that asks: its own are not known here.
    pub(super) rules: &'a Rules,
}

impl PeerWatch {
    /// Requests and failures by time: of its pods, unless those have not been counted for long while callers have.
    pub(super) fn failures(&self) -> &Series {
        let (pods, callers) = (&self.errors, &self.callers.1);
        if self.pods_measured && callers.latest() < pods.latest() + CALLERS_AFTER { pods } else { callers }
    }

    /// Since when it is broken, if it broke with ours; or earlier, if ours may have begun then and this goes on.
    pub(super) fn broke(&self, asked: &Ask<'_>) -> Option<Break> {
        let steps = (1..).map(|step| asked.onset - f64::from(step) * PEER_ONSET);
        let mut earlier = steps.take_while(|onset| *onset > asked.earliest - PEER_ONSET);
        let goes_on = |found: &Break| found.onset >= asked.earliest - ONSET_SLACK && found.goes_on();
        let broke_earlier = || earlier.find_map(|onset| self.told(&Ask { onset, ..*asked }).broken().filter(goes_on));
        self.told(asked).broken().or_else(broke_earlier)
    }

    /// Whether any of its signals broke in the same minutes, and which first.
    pub(super) fn told(&self, asked: &Ask<'_>) -> Told {
        let shift = |reason| (asked.reason == reason).then_some(asked.shift);
        let question = |limit, reason| Question { onset: asked.onset, t: asked.t, limit, shift: shift(reason) };
        let all = [
            ask(self.failures(), &question(asked.rules.errors.max, FailReason::Errors)),
            self.slow(asked.onset - PEER_ONSET, asked.rules.latency)
                .map_or(Told::TooLittle, |(series, limit)| ask(&series, &question(limit, FailReason::Latency))),
            self.probed(asked),
        ];
        let first = all.iter().filter_map(|told| told.broken()).min_by(|a, b| a.onset.total_cmp(&b.onset));
        // Who only counts failures cannot tell that it is not slow.
        let telling = if asked.reason == FailReason::Latency { &all[1..2] } else { &all[..] };
        match first {
            Some(found) => Told::Broken(found),
            None if all.contains(&Told::Rising) => Told::Rising,
            None if telling.contains(&Told::Fine) => Told::Fine,
            None => Told::TooLittle,
        }
    }

    /// Requests slower than what was allowed before `begin`, by time, and the limit of their share.
    fn slow(&self, begin: Seconds, limit: LatencyLimit) -> Option<(Series, f64)> {
        let end = |number: i64| number as Seconds * LATENCY_BIN;
        let mut before: Option<Histogram> = None;
        for (_, histogram) in self.slices.iter().filter(|(n, _)| end(*n) <= begin && end(*n) > begin - BASELINE) {
            baseline::merge(&mut before, histogram);
        }
        let CutState::Known(cut) = baseline::cut(before.as_ref(), limit) else { return None };
        let mut series = Series::default();
        for (number, histogram) in &self.slices {
            if let Some(above) = histogram.above(cut.seconds) {
                // At its begin: an onset is rather seen early than late.
                series.add(end(*number) - LATENCY_BIN + PEER_BIN, Tally::new(above.interpolated, histogram.total()));
            }
        }
        Some((series, cut.theta))
    }

    fn probed(&self, asked: &Ask<'_>) -> Told {
        let with_ours = |t: Seconds| (t - asked.onset).abs() <= PEER_ONSET;
        let since = self.probes.values().filter(|streak| streak.fails >= PROBE_FAILS).filter_map(|streak| streak.since);
        match since.filter(|since| with_ours(*since)).reduce(f64::min) {
            Some(onset) => Told::Broken(Break { onset, ..Break::default() }),
            None if self.probes.values().any(|s| s.passes > 0 && s.last.is_some_and(|at| at >= asked.onset)) => {
                Told::Fine
            }
            None => Told::TooLittle,
        }
    }

    fn counters(&mut self, t: Seconds, pod: &crate::domain::PodId, counts: &Counts, interval: Seconds) -> Noted {
        let Some(pod) = self.roster.get_mut(pod) else { return Noted { skipped: 1, ..Noted::default() } };
        let read = pod.read(t, counts, interval);
        let mut noted = Noted { skipped: u64::from(read.skipped), ..Noted::default() };
        if let Some((Some(_), tally)) = read.pair {
            self.pods_measured = true;
            self.errors.add(t, tally);
            noted.at = pod.state.node.clone().map(|node| (node, tally));
        }
        if let Some((Some(_), histogram)) = read.latency {
            self.latency(t, &histogram);
        }
        noted
    }

    fn latency(&mut self, t: Seconds, histogram: &Histogram) {
        let number = (t / LATENCY_BIN).ceil().clamp(-1e15, 1e15) as i64;
        keep(&mut self.slices, number, histogram, (PEER_MEMORY / LATENCY_BIN) as i64);
        keep(&mut self.seasons, baseline::season_bin(t), histogram, (SEASON_MEMORY / SEASON_BIN) as i64);
    }

    fn callers(&mut self, t: Seconds, counts: &Counts, interval: Seconds) -> u64 {
        // Where pods are counted themselves, their callers say nothing new.
        if let Some(buckets) = counts.latency.as_ref().filter(|_| !self.pods_measured)
            && let Some(Reading::Since(_, histogram)) = self.callers_latency.read(t, buckets, interval)
        {
            self.latency(t, &histogram);
        }
        let (Some(requests), Some(errors)) = (counts.requests, counts.errors) else { return 0 };
        match self.callers.0.read(t, requests, errors, interval) {
            None => 1,
            Some(Reading::Since(_, tally)) => {
                self.callers.1.add(t, tally);
                0
            }
            Some(_) => 0,
        }
    }

    fn pods(&self) -> usize {
        self.roster.all().count()
    }
}

/// Adds to the newest bin, or opens it; drops bins that are older than `most`.
fn keep(bins: &mut VecDeque<(i64, Histogram)>, number: i64, histogram: &Histogram, most: i64) {
    match bins.back_mut() {
        Some((last, sum)) if *last >= number => {
            sum.add(histogram);
        }
        _ => bins.push_back((number, histogram.clone())),
    }
    while bins.front().is_some_and(|(n, _)| *n < number.saturating_sub(most)) {
        bins.pop_front();
    }
}

/// What reading a pod of a peer brought.
#[derive(Default)]
struct Noted {
    skipped: u64,
    at: Option<(String, Tally)>,
}

/// All workloads without a trial that anything was observed of.
#[derive(Debug, Clone, Default)]
pub(super) struct Peers {
    watches: BTreeMap<WorkloadId, PeerWatch>,
    /// Requests that pods of peers served, by node.
    nodes: BTreeMap<String, Series>,
    pods: usize,
    pub(super) skipped: u64,
    swept: Seconds,
}

impl Peers {
    /// Takes what was observed of a workload without a trial; `false` when there is no room for it.
    pub(super) fn observe(&mut self, t: Seconds, id: &WorkloadId, what: &Observation, interval: Seconds) -> bool {
        if !self.watches.contains_key(id) {
            if self.watches.len() >= PEERS_MAX {
                self.skipped += 1;
                return false;
            }
            self.watches.insert(id.clone(), PeerWatch::default());
        }
        let full = self.pods >= PEER_PODS_MAX;
        let Some(watch) = self.watches.get_mut(id) else { return false };
        watch.last = watch.last.max(t);
        match what {
            Observation::Pod(state) => {
                let known = watch.roster.get(&state.pod).is_some();
                if !known && full || !watch.roster.update(t, state, NEVER) {
                    self.skipped += 1;
                    return known;
                }
                self.pods += usize::from(!known);
                if let Some(pod) = watch.roster.get(&state.pod) {
                    watch.facts.old_pod(t, pod);
                }
            }
            Observation::Counters { pod, counts } => {
                let noted = watch.counters(t, pod, counts, interval);
                self.skipped += noted.skipped;
                if let Some((node, tally)) = noted.at
                    && (self.nodes.contains_key(&node) || self.nodes.len() < NODES_MAX)
                {
                    self.nodes.entry(node).or_default().add(t, tally);
                }
            }
            Observation::Callers { counts, .. } => self.skipped += watch.callers(t, counts, interval),
            Observation::Probe(probe) => {
                let pod = probe.pod.as_ref().and_then(|id| watch.roster.get(id)).map(|pod| pod.serial);
                watch.probes.entry((probe.name.clone(), pod)).or_default().note(t, probe.outcome);
            }
            Observation::Condition { condition: RolloutCondition::ProgressDeadlineExceeded, .. } => {
                watch.facts.deadline_exceeded(t);
            }
            _ => {}
        }
        true
    }

    /// A trial begins: what is known of its pods goes with it, and what this time of day was like.
    pub(super) fn take(&mut self, id: &WorkloadId) -> (Roster, Seasons) {
        let Some(watch) = self.watches.remove(id) else { return Default::default() };
        self.pods = self.pods.saturating_sub(watch.pods());
        (watch.roster, watch.seasons)
    }

    /// A trial has ended: its pods are those of a peer now.
    pub(super) fn adopt(&mut self, t: Seconds, id: &WorkloadId, roster: Roster) {
        let room = self.watches.len() < PEERS_MAX && self.pods + roster.all().count() <= PEER_PODS_MAX;
        if room && roster.all().next().is_some() {
            let watch = PeerWatch { roster: roster.carry_over(), last: t, ..PeerWatch::default() };
            self.pods += watch.pods();
            self.watches.insert(id.clone(), watch);
        }
    }

    pub(super) fn get(&self, id: &WorkloadId) -> Option<&PeerWatch> {
        self.watches.get(id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&WorkloadId, &PeerWatch)> {
        self.watches.iter()
    }

    /// Whether a pod is one of a peer's.
    pub(super) fn knows(&self, id: &WorkloadId, pod: &crate::domain::PodId) -> bool {
        self.watches.get(id).is_some_and(|watch| watch.roster.get(pod).is_some())
    }

    /// Whether pods of peers on `node` broke with ours while those elsewhere did not.
    pub(super) fn node_broke(&self, node: &str, asked: &Ask<'_>) -> Option<Break> {
        let limit = asked.rules.errors.max;
        let shift = (asked.reason == FailReason::Errors).then_some(asked.shift);
        let question = Question { onset: asked.onset, t: asked.t, limit, shift };
        let found = self.nodes.get(node).and_then(|series| ask(series, &question).broken())?;
        let elsewhere: Tally = self
            .nodes
            .iter()
            .filter(|(name, _)| *name != node)
            .map(|(_, series)| series.sum(found.onset - PEER_BIN, asked.t))
            .sum();
        let clean = elsewhere.total >= SOME_TRAFFIC && elsewhere.ratio().is_some_and(|ratio| ratio <= limit);
        clean.then_some(found)
    }

    /// Forgets who has been silent for longer than is remembered; looks every five minutes.
    pub(super) fn forget(&mut self, t: Seconds) {
        if (t - self.swept).abs() < 300.0 {
            return;
        }
        self.swept = t;
        self.watches
            .retain(|_, watch| t - watch.last <= if watch.seasons.is_empty() { PEER_MEMORY } else { SEASON_MEMORY });
        for watch in self.watches.values_mut() {
            watch.roster.forget(t);
        }
        self.pods = self.watches.values().map(PeerWatch::pods).sum();
        self.nodes.retain(|_, series| series.sum(t - PEER_MEMORY, t).total > 0.0);
    }

    /// How many peers are remembered.
    pub(super) fn len(&self) -> usize {
        self.watches.len()
    }
}

/// Whether a pod of a roster cannot get its image.
pub(super) fn cannot_pull(pod: &Pod) -> bool {
    pod.stuck.is_some_and(|(kind, _, _)| kind == super::facts::Stuck::Image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Kind, PodId, PodState};

    #[test]
    fn callers_stand_in_for_pods_that_are_silent_for_two_minutes() {
        let id = WorkloadId::new("shop", Kind::Deployment, "pay");
        let pod = PodId::new("shop", "pay-0");
        let mut peers = Peers::default();
        peers.observe(0.0, &id, &PodState::new(pod.clone(), id.clone(), "a".into()).into(), 15.0);
        let mut counts = Counts { requests: Some(0.0), errors: Some(0.0), latency: None };
        for tick in 1..=20 {
            let t = f64::from(tick) * 15.0;
            counts.requests = Some(t * 10.0);
            if t <= 150.0 {
                peers.observe(t, &id, &Observation::Counters { pod: pod.clone(), counts: counts.clone() }, 15.0);
            }
            peers.observe(t, &id, &Observation::Callers { workload: id.clone(), counts: counts.clone() }, 15.0);
            let expected = if t < 150.0 + CALLERS_AFTER { t.min(150.0) } else { t };
            let latest = peers.get(&id).unwrap().failures().latest();
            assert!(tick == 1 || (latest - expected).abs() <= PEER_BIN, "at {t}: {latest}, not {expected}");
        }
    }
}
