//! Observations of a [`World`], in order of time: what a judge may see of it. Pure.
//!
//! The same world and seed make the same observations, byte by byte. An observation is lent, not given: the
//! counters of a pod live in one value that is changed in place, which is what makes 100,000 deploys cheap.

use super::{
    faults,
    flow::{DAY, Flow},
    line::Line,
    random::Random,
    rolling::{self, Lives, Look},
    tape::{self, Tape},
    world::{SCRAPE, T0, WATCH, World},
};
use crate::domain::{
    Observation, Observed, PodId, PodState, ProbeOutcome, ProbeResult, Revision, RolloutCondition, Seconds,
};

/// Two scrapes of one target are so far from their plan at most.
const JITTER: Seconds = 0.4;
/// What was before the restart of a judge is read back at this step.
const COARSE: Seconds = 60.0;
/// A restart takes so long.
const RESTART: Seconds = 20.0;

/// A world in motion.
#[derive(Debug)]
pub struct Feed {
    world: World,
    lives: Lives,
    flow: Flow,
    random: Random,
    events: Vec<(Seconds, Event)>,
    said: Vec<Observation>,
    lines: Vec<Line>,
    ledger: Ledger,
    tape: Tape,
}

/// What really happened, for the one who keeps the score.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// When each rollout began to do harm; infinite when it never did.
    pub harm: Vec<Seconds>,
    /// What the time to undo each is counted from.
    pub due: Vec<Seconds>,
    /// Requests and failures of its new pods since then, cumulative, at these times.
    pub served: Vec<Vec<(Seconds, f64, f64)>>,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Say(usize),
    Scrape(usize),
    Callers(usize),
    Probe(usize, Option<usize>),
    Account,
    Note,
}

impl Feed {
    /// Sets a world in motion.
    pub fn new(world: World, mut random: Random) -> Self {
        let lives = rolling::play(&world, &mut random);
        let flow = Flow::new(&world, &lives, world.end);
        let harm: Vec<Seconds> = (0..world.deploys.len()).map(|d| faults::harm_of(&world, &lives, d)).collect();
        let due =
            world.deploys.iter().zip(&harm).map(|(d, harm)| d.due.map_or(*harm, |due| faults::time_of(due, &lives)));
        let ledger = Ledger { due: due.collect(), harm, served: vec![Vec::new(); world.deploys.len()] };
        let (events, said, lines, tape) = (Vec::new(), Vec::new(), Vec::new(), Tape::default());
        let mut feed = Self { world, lives, flow, random, events, said, lines, ledger, tape };
        feed.lines = feed.make_lines();
        feed.plan();
        feed
    }

    /// The world behind it.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Shows every observation to `judge`, in order of time, and tells what really happened.
    pub fn run(mut self, judge: &mut dyn FnMut(&Observed)) -> (World, Ledger) {
        self.play(judge);
        (self.world, self.ledger)
    }

    /// The same, and writes down what can be seen at any other time. Its chance is another than that of
    /// [`Feed::run`]: requests are drawn in smaller pieces.
    pub fn run_taped(mut self, judge: &mut dyn FnMut(&Observed)) -> (World, Ledger, Tape) {
        self.tape = Tape::of(&self.world, &self.lives, &self.flow);
        self.events.extend(tape::times(self.world.end).map(|t| (t, Event::Note)));
        self.events.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.play(judge);
        (self.world, self.ledger, self.tape)
    }

    fn play(&mut self, judge: &mut dyn FnMut(&Observed)) {
        let events = std::mem::take(&mut self.events);
        for (t, event) in events {
            match event {
                Event::Say(which) => judge(&Observed { t, what: self.said[which].clone() }),
                Event::Scrape(which) => self.scrape(t, which, judge),
                Event::Callers(service) => self.callers(t, service, judge),
                Event::Probe(service, pod) => self.probe(t, service, pod, judge),
                Event::Account => {
                    for (deploy, served) in self.ledger.served.iter_mut().enumerate() {
                        let (requests, failed) = self.flow.done[deploy];
                        served.push((t, requests, failed));
                    }
                }
                Event::Note => {
                    for which in 0..self.flow.processes.len() {
                        self.flow.advance(&self.world, which, t, &mut self.random);
                    }
                    self.tape.note(&self.world, &self.flow);
                }
            }
        }
        judge(&Observed { t: self.world.end, what: Observation::End {} });
    }

    /// One line for each process, then one for each service's callers.
    fn make_lines(&self) -> Vec<Line> {
        let services = &self.world.services;
        let blank: Vec<Line> = services.iter().map(|service| Line::blank(service.buckets)).collect();
        let pods = self.flow.processes.iter().map(|process| {
            let service = process.life.service;
            let pod = PodId::new(services[service].id.namespace.clone(), process.life.name.clone());
            blank[service].about(|counts| Observation::Counters { pod, counts })
        });
        let callers = services.iter().zip(&blank).map(|(service, blank)| {
            blank.about(|counts| Observation::Callers { workload: service.id.clone(), counts })
        });
        pods.chain(callers).collect()
    }

    fn say(&mut self, t: Seconds, what: Observation) {
        self.events.push((t, Event::Say(self.said.len())));
        self.said.push(what);
    }

    /// Everything that will be seen, in order.
    fn plan(&mut self) {
        let world = self.world.clone();
        self.introduce(&world);
        let begin = self.events.iter().map(|(t, _)| *t).fold(0.0, f64::min);
        for index in 0..self.flow.processes.len() {
            self.plan_pod(&world, index);
        }
        for (index, service) in world.services.iter().enumerate() {
            if service.callers || !service.per_pod {
                let phase = self.random.uniform() * SCRAPE;
                self.scrapes(&world, (phase, 0.0, world.end), |_| Event::Callers(index));
            }
            let Some(probe) = service.probe else { continue };
            let mut t = self.random.uniform() * probe.every;
            while t < world.end {
                if probe.per_pod {
                    for (pod, life) in self.lives.pods.iter().enumerate() {
                        let up = life.created.unwrap_or(0.0) + 1.0;
                        if life.service == index && up <= t && t < life.gone && !life.ready.is_empty() {
                            self.events.push((t, Event::Probe(index, Some(pod))));
                        }
                    }
                } else {
                    self.events.push((t, Event::Probe(index, None)));
                }
                t += probe.every;
            }
        }
        let accounts = (world.end / SCRAPE) as usize;
        self.events.extend((1..=accounts).map(|i| (i as f64 * SCRAPE, Event::Account)));
        self.events.retain(|(t, _)| *t <= world.end && *t >= begin);
        self.events.sort_by(|a, b| a.0.total_cmp(&b.0));
    }

    /// What is said once: the services, the rollouts, the sources.
    fn introduce(&mut self, world: &World) {
        let begin = if world.monitoring.yesterday { T0 - DAY } else { 0.0 };
        self.say(begin, Observation::Trace { version: 1, title: String::new() });
        for service in &world.services {
            let calls: Vec<_> =
                service.calls.iter().filter_map(|i| world.services.get(*i)).map(|s| s.id.clone()).collect();
            let replicas = u32::try_from(service.pods).unwrap_or(u32::MAX);
            let what = Observation::Workload { workload: service.id.clone(), replicas, calls: Some(calls) };
            self.say(begin, what);
        }
        for (index, deploy) in world.deploys.iter().enumerate() {
            let workload = world.services[deploy.service].id.clone();
            let (from, to) = (Revision::from(deploy.from), Revision::from(deploy.to));
            self.say(deploy.at, Observation::Rollout { workload: workload.clone(), from, to, past: None });
            let next = world.deploys.iter().filter(|d| d.service == deploy.service && d.at > deploy.at);
            let until = next.map(|d| d.at).fold(f64::INFINITY, f64::min);
            if let Some(t) = self.lives.deadline[index].filter(|t| *t < until) {
                let condition = RolloutCondition::ProgressDeadlineExceeded;
                self.say(t, Observation::Condition { workload: workload.clone(), condition });
            }
            if deploy.stops_after.is_some() {
                let condition = RolloutCondition::Paused;
                self.say(deploy.at + 20.0, Observation::Condition { workload, condition });
            }
        }
        for &(from, to, reason) in &world.monitoring.outages {
            let said = |ok: bool| Observation::Source {
                source: "prometheus".into(),
                ok,
                reason: (!ok).then(|| reason.to_owned()),
            };
            self.say(from, said(false));
            self.say(to, said(true));
        }
        for &(t, service, revision, new_issues, events) in &world.issues {
            let workload = world.services[service].id.clone();
            let (source, revision) = ("sentry".to_owned(), Revision::from(revision));
            let users = events.min(new_issues * 40);
            self.say(t, Observation::Issues { workload, revision, source, new_issues, events, users });
        }
    }

    fn plan_pod(&mut self, world: &World, index: usize) {
        let life = self.flow.processes[index].life.clone();
        let service = &world.services[life.service];
        if !service.per_pod {
            return;
        }
        let ahead = world.monitoring.api_ahead;
        let state = |look: Look, since: Option<Seconds>| {
            Observation::from(PodState {
                pod: PodId::new(service.id.namespace.clone(), life.name.clone()),
                workload: service.id.clone(),
                revision: Revision::from(life.revision),
                node: Some(format!("n{}", life.node)),
                ready: look.ready,
                restarts: look.restarts,
                waiting: look.waiting.map(str::to_owned),
                exit_code: look.exit,
                oom_killed: look.oom,
                memory_limit: None,
                deleted: false,
                created: Some(life.created.unwrap_or(-30_000.0) + ahead),
                ready_since: since.map(|t| t + ahead),
            })
        };
        let first = if world.monitoring.yesterday && life.created.is_none() { T0 - DAY } else { f64::NEG_INFINITY };
        let mut last = Look::default();
        for (t, look) in &life.states {
            let since = look.ready.then_some(if life.created.is_some() { *t } else { -29_000.0 });
            let t = if life.created.is_none() && t.abs() < 1e-9 && first.is_finite() { first } else { *t };
            self.say(t, state(*look, since));
            last = *look;
        }
        if life.gone < world.end
            && let Observation::Pod(mut gone) = state(last, None)
        {
            (gone.deleted, gone.ready) = (true, false);
            // Its name may live on: the one that takes it over speaks after it.
            self.say(life.gone, Observation::Pod(gone));
        }
        if life.ready.is_empty() {
            return;
        }
        let phase = self.random.uniform() * SCRAPE;
        let from = life.created.map_or(0.0, |created| created + 2.0);
        self.scrapes(world, (phase, from, life.gone.min(world.end)), |_| Event::Scrape(index));
        if first.is_finite() {
            let times = (0..).map(|i| first + phase + f64::from(i) * COARSE).take_while(|t| *t < first + WATCH);
            self.events.extend(times.map(|t| (t, Event::Scrape(index))));
        }
    }

    /// Plans the scrapes of one target.
    fn scrapes(
        &mut self,
        world: &World,
        (phase, from, to): (Seconds, Seconds, Seconds),
        event: impl Fn(usize) -> Event,
    ) {
        let monitoring = &world.monitoring;
        let mut k = ((from - phase) / SCRAPE).ceil().max(0.0) as usize;
        loop {
            let t = phase + k as f64 * SCRAPE + JITTER * (self.random.uniform() - 0.5);
            if t >= to {
                return;
            }
            k += 1;
            let coarse = (COARSE / SCRAPE) as usize;
            let unread = monitoring.restarted.is_some_and(|restarted| {
                t < restarted - RESTART && !k.is_multiple_of(coarse) || (restarted - RESTART..restarted).contains(&t)
            });
            if t < from.max(0.0) || unread || monitoring.gaps.iter().any(|(a, b)| (*a..*b).contains(&t)) {
                continue;
            }
            if monitoring.missing > 0.0 && self.random.chance(monitoring.missing) {
                continue;
            }
            self.events.push((t, event(k)));
        }
    }

    fn scrape(&mut self, t: Seconds, which: usize, judge: &mut dyn FnMut(&Observed)) {
        let monitoring = &self.world.monitoring;
        let stale = monitoring.stale.iter().any(|(a, b)| (*a..*b).contains(&t));
        let measured = t - monitoring.lag;
        if !stale {
            self.flow.advance(&self.world, which, measured, &mut self.random);
        }
        let process = &self.flow.processes[which];
        // Between an exit and the next start nothing answers; a pod that refuses connections refuses scrapes.
        let down =
            process.life.states.iter().rev().find(|(at, _)| *at <= t).is_some_and(|(_, look)| look.waiting.is_some());
        let refuses = process.refuses(measured);
        if down || refuses {
            return;
        }
        let line = &mut self.lines[which];
        line.set(t, &process.counted);
        if monitoring.broken_values > 0.0 && self.random.chance(monitoring.broken_values) {
            line.spoil(self.random.whole(0, 2));
        }
        judge(&line.observed);
    }

    fn callers(&mut self, t: Seconds, service: usize, judge: &mut dyn FnMut(&Observed)) {
        for which in 0..self.flow.processes.len() {
            if self.flow.processes[which].life.service == service {
                self.flow.advance(&self.world, which, t - self.world.monitoring.lag, &mut self.random);
            }
        }
        let which = self.flow.processes.len() + service;
        let counted = self.flow.callers(&self.world, service, t, &mut self.random);
        let line = &mut self.lines[which];
        line.set(t, counted);
        judge(&line.observed);
    }

    fn probe(&mut self, t: Seconds, service: usize, pod: Option<usize>, judge: &mut dyn FnMut(&Observed)) {
        let it = &self.world.services[service];
        let Some(probe) = it.probe else { return };
        let serving =
            |life: &rolling::Life| life.service == service && life.ready.iter().any(|(a, b)| *a <= t && t < *b);
        let asked = pod.or_else(|| {
            let all: Vec<usize> = (0..self.lives.pods.len()).filter(|i| serving(&self.lives.pods[*i])).collect();
            (!all.is_empty()).then(|| self.random.pick(&all))
        });
        let life = asked.map(|i| &self.lives.pods[i]);
        let fails = match life {
            None => true,
            Some(life) => {
                probe.fails_on == Some(life.revision)
                    || pod.is_some() && !serving(life)
                    || self.random.chance(probe.flaky)
            }
        };
        let life = life.filter(|_| pod.is_some());
        judge(&Observed {
            t,
            what: Observation::Probe(ProbeResult {
                workload: it.id.clone(),
                revision: life.map(|life| Revision::from(life.revision)),
                pod: life.map(|life| PodId::new(it.id.namespace.clone(), life.name.clone())),
                name: if probe.smoke { "smoke".into() } else { "health".into() },
                outcome: if fails { ProbeOutcome::Fail } else { ProbeOutcome::Pass },
                probe_type: probe.smoke.then(|| "smoke".to_owned()),
                detail: None,
            }),
        });
    }
}
