//! What Kubernetes does with a rollout: which pods exist when, and what they look like. Pure.
//!
//! Deployments roll with a quarter of surge and a quarter unavailable, as the controller does it (safety.md,
//! section 2); StatefulSets and DaemonSets replace one pod at a time.

use super::{
    random::Random,
    world::{Behaviour, Change, Deploy, World},
};
use crate::domain::{Kind, Seconds};

/// Kubernetes' default for a Deployment that makes no progress.
const PROGRESS_DEADLINE: Seconds = 600.0;
/// The kubelet's back-off between restarts: first at once, then 10 s, doubling up to 300 s.
const BACK_OFF: Seconds = 10.0;
const BACK_OFF_MAX: Seconds = 300.0;

/// One pod from its creation to its end.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) service: usize,
    pub(super) revision: &'static str,
    /// Its number among the pods of that revision.
    pub(super) nth: usize,
    pub(super) name: String,
    pub(super) node: usize,
    /// `None`: it was there before the run.
    pub(super) created: Option<Seconds>,
    /// When it serves.
    pub(super) ready: Vec<(Seconds, Seconds)>,
    pub(super) gone: Seconds,
    /// When its process starts anew, and with it its counters.
    pub(super) resets: Vec<Seconds>,
    /// What its state becomes when.
    pub(super) states: Vec<(Seconds, Look)>,
}

/// What can be seen of a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Look {
    /// Whether it is Ready.
    pub ready: bool,
    /// How often its container was started again.
    pub restarts: u32,
    /// Why its container waits.
    pub waiting: Option<&'static str>,
    /// With what it last ended.
    pub exit: Option<i32>,
    /// Whether it was killed for memory then.
    pub oom: bool,
}

/// All pods of a world, and what became of its rollouts.
#[derive(Debug, Clone, Default)]
pub(super) struct Lives {
    pub(super) pods: Vec<Life>,
    /// First and last Ready of a new pod, per deploy.
    pub(super) first_ready: Vec<Option<Seconds>>,
    pub(super) done: Vec<Option<Seconds>>,
    /// When Kubernetes gives up waiting, per deploy.
    pub(super) deadline: Vec<Option<Seconds>>,
}

impl Life {
    fn serves_at(&self, t: Seconds) -> bool {
        self.ready.iter().any(|(from, to)| *from <= t && t < *to)
    }

    fn end(&mut self, t: Seconds) {
        self.gone = t;
        self.ready.retain_mut(|(from, to)| {
            *to = to.min(t);
            from < to
        });
        self.states.retain(|(at, _)| *at < t);
        self.resets.retain(|at| *at < t);
    }
}

/// Plays all rollouts of a world.
pub(super) fn play(world: &World, random: &mut Random) -> Lives {
    let mut lives = Lives::default();
    for service in 0..world.services.len() {
        if world.services[service].per_pod {
            Roll { world, service, pods: Vec::new(), made: 0, random: &mut *random }.play(&mut lives);
        }
    }
    for deploy in &world.deploys {
        let new = || lives.pods.iter().filter(|pod| is_new(pod, deploy));
        let readies = || new().filter_map(|pod| pod.ready.first().map(|(from, _)| from.max(deploy.at)));
        let (first, last) = (readies().reduce(f64::min), readies().reduce(f64::max));
        let wanted = world.services[deploy.service].pods;
        let complete = new().filter(|pod| !pod.ready.is_empty()).count() >= wanted;
        let progress = new().filter_map(|pod| pod.created).chain(last).fold(deploy.at, f64::max);
        let stuck = !complete && deploy.stops_after.is_none();
        let deployment = world.services[deploy.service].id.kind == Kind::Deployment;
        lives.first_ready.push(first);
        lives.done.push(last);
        lives.deadline.push((stuck && deployment).then_some(progress + PROGRESS_DEADLINE));
    }
    lives
}

/// Whether a pod came with that rollout.
pub(super) fn is_new(pod: &Life, deploy: &Deploy) -> bool {
    pod.service == deploy.service
        && pod.revision == deploy.to
        && pod.created.is_some_and(|created| created >= deploy.at)
}

/// One service's pods while its rollouts go on.
struct Roll<'a> {
    world: &'a World,
    service: usize,
    pods: Vec<Life>,
    made: usize,
    random: &'a mut Random,
}

impl Roll<'_> {
    fn play(mut self, lives: &mut Lives) {
        let (world, index) = (self.world, self.service);
        let service = &world.services[index];
        let deploys: Vec<&Deploy> = world.deploys.iter().filter(|d| d.service == index).collect();
        let first = deploys.first().map_or("a", |deploy| deploy.from);
        for _ in 0..service.pods {
            self.make(None, first, 0.0, Behaviour::Healthy, None);
        }
        let mut times: Vec<Seconds> = deploys.iter().map(|deploy| deploy.at).collect();
        let changes: Vec<Change> = world.changes.clone();
        times.extend(changes.iter().filter_map(|change| match change {
            Change::ScaleOut(t, s, ..) | Change::Drain(t, s, _) if *s == index => Some(*t),
            _ => None,
        }));
        let mut now = f64::NEG_INFINITY;
        while let Some(t) = self.next(&times, now).filter(|t| *t < world.end) {
            now = t;
            for change in &changes {
                self.change(t, change, &deploys);
            }
            if let Some(deploy) = deploys.iter().rev().find(|deploy| deploy.at <= t) {
                match service.id.kind {
                    Kind::Deployment => self.reconcile(t, deploy),
                    Kind::StatefulSet | Kind::DaemonSet => self.replace_one(t, deploy),
                }
            }
        }
        for change in &changes {
            if let Change::Restarts(s, every) = change
                && *s == index
            {
                self.restarts(*every);
            }
        }
        lives.pods.append(&mut self.pods);
    }

    /// The next time at which something may change.
    fn next(&self, times: &[Seconds], now: Seconds) -> Option<Seconds> {
        let readies = self.pods.iter().filter_map(|pod| pod.ready.first().map(|(from, _)| *from));
        times.iter().copied().chain(readies).filter(|t| *t > now).reduce(f64::min)
    }

    fn alive<'a>(&'a self, t: Seconds, deploy: &'a Deploy, new: bool) -> impl Iterator<Item = usize> + 'a {
        (0..self.pods.len()).filter(move |i| self.pods[*i].gone > t && (self.pods[*i].revision == deploy.to) == new)
    }

    fn reconcile(&mut self, t: Seconds, deploy: &Deploy) {
        let wanted = self.world.services[self.service].pods;
        let (surge, unavailable) = (wanted.div_ceil(4), wanted / 4);
        loop {
            let (new, old) = (self.alive(t, deploy, true).count(), self.alive(t, deploy, false).count());
            let may = deploy.stops_after.unwrap_or(wanted).min(wanted);
            let create = may.saturating_sub(new).min((wanted + surge).saturating_sub(new + old));
            for _ in 0..create {
                self.make(Some(t), deploy.to, deploy.start_up, deploy.pods, None);
            }
            let ready = |index: &usize| self.pods[*index].serves_at(t);
            let serving_new = self.alive(t, deploy, true).filter(ready).count();
            let serving_old = self.alive(t, deploy, false).filter(ready).count();
            let unready_new = new + create - serving_new;
            let least = wanted - unavailable;
            let by_count = (new + create + old).saturating_sub(least + unready_new);
            let by_serving = (serving_new + serving_old).saturating_sub(least);
            let mut remove = old.min(by_count).min(by_serving);
            if deploy.stops_after.is_some() {
                remove = remove.min((new + create + old).saturating_sub(wanted));
            }
            let victims: Vec<usize> = self.alive(t, deploy, false).take(remove).collect();
            for victim in &victims {
                self.pods[*victim].end(t);
            }
            if create == 0 && victims.is_empty() {
                return;
            }
        }
    }

    fn replace_one(&mut self, t: Seconds, deploy: &Deploy) {
        let wanted = deploy.stops_after.unwrap_or(usize::MAX);
        let waits = self.alive(t, deploy, true).any(|i| !self.pods[i].serves_at(t));
        if waits || self.alive(t, deploy, true).count() >= wanted {
            return;
        }
        let Some(victim) = self.alive(t, deploy, false).last() else { return };
        let (name, node) = (self.pods[victim].name.clone(), self.pods[victim].node);
        self.pods[victim].end(t);
        // A DaemonSet's pod gets a new name on its old node; a StatefulSet's keeps its name.
        let same = self.world.services[self.service].id.kind == Kind::StatefulSet;
        self.make(Some(t), deploy.to, deploy.start_up, deploy.pods, same.then_some(name));
        if let Some(pod) = self.pods.last_mut() {
            pod.node = node;
        }
    }

    fn change(&mut self, t: Seconds, change: &Change, deploys: &[&Deploy]) {
        let start_up = deploys.first().map_or(10.0, |deploy| deploy.start_up);
        let now = |at: Seconds| at.total_cmp(&t).is_eq();
        match *change {
            Change::ScaleOut(at, service, revision, more) if service == self.service && now(at) => {
                for _ in 0..more {
                    self.make(Some(t), revision, start_up, Behaviour::Healthy, None);
                }
            }
            Change::Drain(at, service, node) if service == self.service && now(at) => {
                let nodes = self.world.services[self.service].nodes.max(2);
                let hit: Vec<usize> =
                    (0..self.pods.len()).filter(|i| self.pods[*i].gone > t && self.pods[*i].node == node).collect();
                for i in hit {
                    let revision = self.pods[i].revision;
                    self.pods[i].end(t);
                    self.make(Some(t), revision, start_up, Behaviour::Healthy, None);
                    if let Some(pod) = self.pods.last_mut() {
                        pod.node = (node + 1) % nodes;
                    }
                }
            }
            _ => {}
        }
    }

    fn make(
        &mut self,
        created: Option<Seconds>,
        revision: &'static str,
        start_up: Seconds,
        behaviour: Behaviour,
        name: Option<String>,
    ) {
        let service = &self.world.services[self.service];
        let nth = self.pods.iter().filter(|pod| pod.revision == revision).count();
        let name = name.unwrap_or_else(|| match service.id.kind {
            Kind::StatefulSet => format!("{}-{}", service.id.name, self.made),
            _ => format!("{}-{revision}-{:05}", service.id.name, self.made),
        });
        let mut life = Life {
            service: self.service,
            revision,
            nth,
            name,
            node: self.made % service.nodes.max(1),
            created,
            ready: Vec::new(),
            gone: f64::INFINITY,
            resets: Vec::new(),
            states: Vec::new(),
        };
        self.made += 1;
        match created {
            None => {
                life.ready.push((f64::NEG_INFINITY, f64::INFINITY));
                life.states.push((0.0, Look { ready: true, ..Look::default() }));
            }
            Some(created) => {
                let start_up = start_up * self.random.between(0.9, 1.1);
                life.states.push((created, Look::default()));
                live(&mut life, created, start_up, behaviour, self.world.end);
            }
        }
        self.pods.push(life);
    }

    /// Every pod's process ends with 0 every so often and starts again.
    fn restarts(&mut self, every: Seconds) {
        for i in 0..self.pods.len() {
            let begin = self.pods[i].created.unwrap_or(0.0) + self.random.uniform() * every;
            let (mut t, mut restarts) = (begin + 30.0, 0);
            let pod = &mut self.pods[i];
            let Some(&(first, last)) = pod.ready.first() else { continue };
            while t + 10.0 < last.min(self.world.end) {
                if t > first + 5.0 {
                    restarts += 1;
                    let Some((from, to)) = pod.ready.pop() else { break };
                    pod.ready.extend([(from, t), (t + 4.0, to)]);
                    pod.resets.push(t + 1.0);
                    let look = Look { restarts, exit: Some(0), ..Look::default() };
                    pod.states.extend([(t + 1.0, look), (t + 4.0, Look { ready: true, ..look })]);
                }
                t += every;
            }
        }
    }
}

/// What a pod's process does from its creation on.
fn live(life: &mut Life, created: Seconds, start_up: Seconds, behaviour: Behaviour, end: Seconds) {
    let ready_look = |restarts, exit| Look { ready: true, restarts, exit, ..Look::default() };
    match behaviour {
        Behaviour::Healthy => {
            life.ready.push((created + start_up, f64::INFINITY));
            life.states.push((created + start_up, ready_look(0, None)));
        }
        Behaviour::NeverReady => {}
        Behaviour::ImagePull => {
            for (i, reason) in ["ErrImagePull", "ImagePullBackOff"].into_iter().cycle().take(40).enumerate() {
                let at = created + 2.0 + 14.0 * i as f64 * (1.0 + i as f64 / 6.0);
                life.states.push((at, Look { waiting: Some(reason), ..Look::default() }));
            }
        }
        Behaviour::ConfigError => {
            life.states.push((created + 2.0, Look { waiting: Some("CreateContainerConfigError"), ..Look::default() }));
        }
        Behaviour::CrashLoop(after) => crash(life, created + 2.0, f64::INFINITY, (after, false), end),
        Behaviour::CrashServing(after) => crash(life, created + 2.0, start_up, (after, false), end),
        Behaviour::OutOfMemory(after) => crash(life, created + 2.0, start_up, (after, true), end),
    }
}

/// Starts, serves from `ready_after` on, exits `after` so many seconds, waits, starts again.
fn crash(life: &mut Life, begin: Seconds, ready_after: Seconds, (after, oom): (Seconds, bool), end: Seconds) {
    let (mut t, mut restarts, mut wait) = (begin, 0_u32, 0.0);
    let exit = Some(if oom { 137 } else { 1 });
    while t < end {
        let last = (restarts > 0).then_some(exit).flatten();
        if restarts > 0 {
            life.resets.push(t);
            life.states.push((t, Look { restarts, exit: last, oom, ..Look::default() }));
        }
        if ready_after < after {
            life.ready.push((t + ready_after, t + after));
            let look = Look { ready: true, restarts, exit: last, oom: oom && restarts > 0, ..Look::default() };
            life.states.push((t + ready_after, look));
        }
        t += after;
        let waiting = (restarts > 0).then_some("CrashLoopBackOff");
        life.states.push((t, Look { ready: false, restarts, waiting, exit, oom }));
        t += f64::max(wait, 0.5);
        restarts += 1;
        // Ten minutes without a crash forgive the ones before.
        wait = if after >= 600.0 || wait <= 0.0 { BACK_OFF } else { (wait * 2.0).min(BACK_OFF_MAX) };
    }
}
