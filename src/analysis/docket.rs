//! All live trials, all recoveries under watch, and their peers. Pure.

use super::{
    blame,
    draft::Draft,
    facts::Common,
    graph::Graph,
    late::{Late, Lates},
    monitoring::Monitoring,
    owners::Owners,
    peers::{Peers, Seasons},
    recovery::RecoveryWatch,
    roster::Roster,
    scene::Scene,
    trial::{Now, Trial},
    tuning::*,
};
use crate::domain::{
    Conviction, Judgement, LateWatch, Observation, Observed, Recovery, Revision, Rules, Seconds, WorkloadId,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// All live trials and all recoveries under watch: observations and times go in, judgements come out.
///
/// It has no clock: time is what `observe` and `judge` are told. Nothing in here fails: what cannot
/// be used is skipped and counted ([`Docket::skipped`]).
#[derive(Debug, Clone, Default)]
pub struct Docket {
    fixed_interval: Option<Seconds>,
    ticks: VecDeque<Seconds>,
    judged: Option<Seconds>,
    trials: BTreeMap<WorkloadId, Trial>,
    recoveries: BTreeMap<WorkloadId, RecoveryWatch>,
    /// Those that have passed; they are peers as well.
    late: Lates,
    peers: Peers,
    graph: Graph,
    owners: Owners,
    monitoring: Monitoring,
    skipped: u64,
}

impl Docket {
    /// An empty one; the time between ticks is inferred from the calls to [`Docket::judge`].
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one with a known time between ticks (seconds), by which gaps are told from silence.
    pub fn with_interval(interval: Seconds) -> Self {
        let valid = interval.is_finite() && interval > 0.0;
        Self { fixed_interval: valid.then_some(interval), ..Self::default() }
    }

    /// Opens a trial; `t0` is when the rollout began. Replaces an older trial or recovery of the
    /// same workload; what is known of its pods is kept, their counters are read anew (history may
    /// be fed again).
    pub fn open(&mut self, t0: Seconds, workload: WorkloadId, from: Revision, to: Revision, rules: Arc<Rules>) {
        self.open_after(t0, t0, workload, from, to, rules);
    }

    /// As [`Docket::open`], where the revision that was serving was itself never proved good: only what was
    /// measured up to `proven` stands for "before", so that a bad revision does not set the standard for
    /// the next one.
    pub fn open_after(
        &mut self,
        t0: Seconds,
        proven: Seconds,
        workload: WorkloadId,
        from: Revision,
        to: Revision,
        rules: Arc<Rules>,
    ) {
        let (roster, _, seasons) = self.take(&workload);
        let proven = if proven.is_finite() { proven.min(t0) } else { t0 };
        let mut trial = Trial::new((t0, proven), workload.clone(), from, to, rules, roster.start_over());
        trial.remember(&seasons);
        self.trials.insert(workload, trial);
    }

    /// Opens the watch after an undo; `t` is when the patch was applied. Replaces the trial and
    /// takes over the limits that it judged by; after a restart there is none, and `convicted` says what is
    /// stored of it.
    #[expect(clippy::needless_pass_by_value, reason = "revisions are handed over alike")]
    pub fn watch_recovery(
        &mut self,
        t: Seconds,
        workload: WorkloadId,
        bad: Revision,
        target: Revision,
        rules: Arc<Rules>,
        convicted: Option<Conviction>,
    ) {
        let earlier = self.recoveries.get(&workload).filter(|recovery| recovery.target == target);
        let earlier = earlier.map(|recovery| recovery.broken);
        let (roster, trial, _) = self.take(&workload);
        let of_trial = trial.filter(|trial| trial.to == bad).map(|trial| trial.conviction());
        let broken = of_trial.or(earlier).or(convicted).unwrap_or_default();
        let watch = RecoveryWatch::new(t, workload.clone(), target, rules, roster.carry_over(), broken);
        self.recoveries.insert(workload, watch);
    }

    /// Ends the trial or the recovery of a workload: it is a peer from now on.
    pub fn close(&mut self, workload: &WorkloadId) {
        self.late.remove(workload);
        if !self.trials.contains_key(workload) && !self.recoveries.contains_key(workload) {
            return;
        }
        let t = self.judged.unwrap_or(0.0);
        let (roster, _, _) = self.take(workload);
        self.peers.adopt(t, workload, roster);
    }

    /// Ends the trial of a workload that passed: from now on it is a peer that is looked at now and then.
    pub fn passed(&mut self, workload: &WorkloadId) {
        let Some(trial) = self.trials.get(workload) else { return };
        let (t, t0, to, rules) = (trial.judged, trial.t0, trial.to.clone(), trial.rules.clone());
        self.close(workload);
        self.watch_late((t0, t), workload.clone(), to, rules);
    }

    /// Watches on over a revision, unless it is on trial: `times` are when its rollout began and when it passed.
    pub fn watch_late(&mut self, times: (Seconds, Seconds), id: WorkloadId, to: Revision, rules: Arc<Rules>) {
        if !self.trials.contains_key(&id) {
            self.late.add(id, Late::new(times, to, rules));
        }
    }

    /// Other rules hold for a workload; if it has passed, they hold for what is seen of it from now on.
    pub fn refresh_late(&mut self, workload: &WorkloadId, rules: &Arc<Rules>) {
        self.late.refresh(workload, rules);
    }

    /// Looks at those that passed. Tells which of them broke since the look before, or keep their limit again.
    pub fn look_late(&mut self, t: Seconds) -> Vec<LateWatch> {
        self.late.look(t, &self.peers)
    }

    /// What is seen of a workload that passed.
    pub fn late(&self, workload: &WorkloadId, t: Seconds) -> Option<LateWatch> {
        self.late.say(workload, t)
    }

    /// Workloads that passed and are looked at now and then.
    pub fn late_ids(&self) -> impl Iterator<Item = &WorkloadId> {
        self.late.ids()
    }

    fn take(&mut self, workload: &WorkloadId) -> (Roster, Option<Trial>, Seasons) {
        self.late.remove(workload);
        let recovery = self.recoveries.remove(workload);
        let mut trial = self.trials.remove(workload);
        let (roster, seasons) = match (&mut trial, recovery) {
            (Some(trial), _) => (std::mem::take(&mut trial.roster), Seasons::default()),
            (None, Some(recovery)) => (recovery.roster, Seasons::default()),
            (None, None) => self.peers.take(workload),
        };
        (roster, trial, seasons)
    }

    /// Takes one observation: any order between workloads; within one by time, late ones are
    /// skipped. A workload without a trial is a peer: remembered lightly. The last counters of a pod wait
    /// for the pod to be introduced.
    pub fn observe(&mut self, observed: &Observed) {
        let t = observed.t;
        if !t.is_finite() {
            self.skipped += 1;
            return;
        }
        match &observed.what {
            Observation::Pod(state) => {
                if !self.deliver(&state.workload, observed) {
                    return;
                }
                if self.owners.crowded() && self.owners.of(&state.pod).is_none() {
                    self.forget_owners();
                }
                for earlier in self.owners.claim(&state.pod, &state.workload) {
                    self.deliver(&state.workload, &earlier);
                }
            }
            Observation::Counters { pod, .. } | Observation::Memory { pod, .. } => match self.owners.of(pod).cloned() {
                Some(owner) => {
                    self.deliver(&owner, observed);
                }
                None => self.skipped += u64::from(!self.owners.keep(pod, observed)),
            },
            Observation::Condition { workload, .. }
            | Observation::Callers { workload, .. }
            | Observation::Issues { workload, .. } => {
                self.deliver(workload, observed);
            }
            Observation::Probe(probe) => {
                self.deliver(&probe.workload, observed);
            }
            Observation::Source { source, ok, reason } => {
                self.monitoring.told(t, source, *ok, reason.as_deref());
            }
            Observation::Workload { workload, calls: Some(calls), .. } => self.graph.calls(workload, calls),
            Observation::Workload { calls: None, .. }
            | Observation::Trace { .. }
            | Observation::Rollout { .. }
            | Observation::Look { .. }
            | Observation::End {} => {}
        }
    }

    /// Takes the past of a rollout that began at `t0`, in order of time: what lies after its begin is judged moment by
    /// moment, as it would have been then.
    pub fn catch_up<'a>(&mut self, t0: Seconds, past: impl IntoIterator<Item = &'a Observed>) {
        let mut told = f64::MIN;
        for observed in past {
            if observed.t > told && told >= t0 {
                // A time before their last tick changes nothing in the other trials.
                self.judge(told);
            }
            told = observed.t;
            self.observe(observed);
        }
    }

    fn deliver(&mut self, workload: &WorkloadId, observed: &Observed) -> bool {
        let interval = self.interval();
        if let Some(trial) = self.trials.get_mut(workload) {
            trial.observe(observed.t, &observed.what, interval);
        } else if let Some(recovery) = self.recoveries.get_mut(workload) {
            recovery.observe(observed.t, &observed.what, interval);
        } else {
            let interval = self.late.interval(workload, interval);
            return self.peers.observe(observed.t, workload, &observed.what, interval);
        }
        true
    }

    /// One tick for all: brings the evidence up to `t` and says the verdict of each trial, but of those that rest
    /// (see [`Docket::resting`]). A time that lies before a trial's last tick changes nothing in that trial.
    pub fn judge(&mut self, t: Seconds) -> Vec<Judgement> {
        if !t.is_finite() {
            return Vec::new();
        }
        self.tick(t);
        let interval = self.interval();
        let outage = self.monitoring.outage(t);
        let alarm = self.alarm();
        for trial in self.trials.values_mut() {
            trial.awake = alarm || !trial.rests(t);
            if trial.awake {
                trial.advance(Now { t, interval, outage });
            }
        }
        self.measure_again();
        // Everybody is heard before anybody is blamed.
        let mut faults = Common::default();
        self.peers.all().for_each(|(_, peer)| faults += Common::of(&peer.facts, false, t));
        let own: Vec<Common> = self.trials.values().map(|trial| trial.faults(t)).collect();
        own.iter().for_each(|own| faults += *own);
        let drafts = self.trials.values_mut().zip(own);
        let mut drafts: Vec<(&mut Trial, Draft)> = drafts
            .filter(|(trial, _)| trial.awake)
            .map(|(trial, own)| {
                let draft = trial.draft(t, &faults.without(own));
                (trial, draft)
            })
            .collect();
        let stances = blame::stances(&drafts);
        let scene = Scene {
            t,
            peers: &self.peers,
            graph: &self.graph,
            stances: &stances,
            recoveries: &self.recoveries,
            unread: self.monitoring.unread(),
        };
        blame::attribute(&mut drafts, &scene);
        drafts.into_iter().map(|(trial, draft)| trial.conclude(t, &draft)).collect()
    }

    /// When the evidence against anybody rises, everybody is heard.
    fn alarm(&self) -> bool {
        self.trials.values().any(Trial::rises)
    }

    /// Trials whose watch is over without a verdict, and of which nothing need be read at `t`: they are looked at
    /// every five minutes, or as soon as anything stirs.
    pub fn resting(&self, t: Seconds) -> BTreeSet<&WorkloadId> {
        let alarm = self.alarm();
        self.trials.iter().filter(|(_, trial)| !alarm && trial.rests(t)).map(|(id, _)| id).collect()
    }

    /// Trials whose culprit was undone meanwhile, and for which it is known whether that helped, begin anew.
    fn measure_again(&mut self) {
        let ready = |id: &WorkloadId| match self.recoveries.get(id) {
            Some(recovery) => recovery.settled(),
            None => !self.trials.contains_key(id),
        };
        let due: Vec<WorkloadId> = self
            .trials
            .iter()
            .filter(|(_, trial)| trial.waits_for().is_some_and(ready))
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            if let Some(trial) = self.trials.get_mut(&id) {
                trial.measure_again();
            }
        }
    }

    /// What the signals say after each undo under watch.
    pub fn recoveries(&mut self, t: Seconds) -> Vec<Recovery> {
        if !t.is_finite() {
            return Vec::new();
        }
        self.recoveries.values_mut().map(|recovery| recovery.judge(t)).collect()
    }

    fn tick(&mut self, t: Seconds) {
        if let Some(last) = self.judged
            && t > last
        {
            self.ticks.push_back(t - last);
            if self.ticks.len() > 5 {
                self.ticks.pop_front();
            }
        }
        // Rewinding happens when the past of a new trial is fed: it is no tick of its own length.
        self.judged = Some(t);
        self.owners.expire(t);
        self.peers.forget(t);
        if self.owners.crowded() {
            self.forget_owners();
        }
    }

    /// Forgets whose pods those are that nobody knows any more.
    fn forget_owners(&mut self) {
        let (trials, recoveries, peers) = (&self.trials, &self.recoveries, &self.peers);
        self.owners.retain(|pod, owner| {
            let roster = trials.get(owner).map(|t| &t.roster).or(recoveries.get(owner).map(|r| &r.roster));
            roster.map_or_else(|| peers.knows(owner, pod), |roster| roster.get(pod).is_some())
        });
    }

    /// Time between ticks: told, or the median of the last five.
    fn interval(&self) -> Seconds {
        self.fixed_interval.unwrap_or_else(|| {
            let mut ticks: Vec<Seconds> = self.ticks.iter().copied().collect();
            ticks.sort_by(f64::total_cmp);
            ticks.get(ticks.len() / 2).copied().unwrap_or(INTERVAL).clamp(1.0, 300.0)
        })
    }

    /// Workloads on trial whose evidence rises: those for which it is worth knowing what others do meanwhile.
    pub fn wants_peers(&self) -> impl Iterator<Item = &WorkloadId> {
        self.trials.iter().filter(|(_, trial)| trial.rises()).map(|(id, _)| id)
    }

    /// Whether it is slowness, of any of them: then the latency of peers tells.
    pub fn wants_latency_of_peers(&self) -> bool {
        self.trials.values().any(Trial::slows)
    }

    /// Workloads with a live trial.
    pub fn trial_ids(&self) -> impl Iterator<Item = &WorkloadId> {
        self.trials.keys()
    }

    /// Workloads whose recovery is watched.
    pub fn recovery_ids(&self) -> impl Iterator<Item = &WorkloadId> {
        self.recoveries.keys()
    }

    /// How many trials are live.
    pub fn len(&self) -> usize {
        self.trials.len()
    }

    /// Whether no trial is live.
    pub fn is_empty(&self) -> bool {
        self.trials.is_empty()
    }

    /// How many workloads without a trial are remembered.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Pods that are counted and were never introduced.
    pub fn strangers(&self) -> usize {
        self.owners.strangers()
    }

    /// Observations and values that could not be used, in live trials and outside of them.
    pub fn skipped(&self) -> u64 {
        self.skipped + self.peers.skipped + self.trials.values().map(|trial| trial.skipped).sum::<u64>()
    }
}
