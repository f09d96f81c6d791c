//! What the processes of a world count, advanced from scrape to scrape. Pure.

use super::{
    faults::{self, Timed, Wrong},
    random::Random,
    rolling::{Life, Lives, is_new},
    traffic::{Counted, Latencies},
    world::{Load, SCRAPE, Service, World},
};
use crate::domain::Seconds;

/// Old processes have been counting for this long when the run begins.
const LIFETIME: Seconds = 3_600.0;
/// A day.
pub(super) const DAY: Seconds = 86_400.0;

/// One process and its counters.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) life: Life,
    pub(super) counted: Counted,
    /// Up to when it is counted.
    at: Seconds,
    /// Times at which anything that matters to it changes, ascending; and the next of them.
    cuts: Vec<Seconds>,
    next: usize,
    reset: usize,
    faults: Vec<Timed>,
    /// The rollout that it came with.
    deploy: Option<usize>,
}

/// What is the same for all processes of one service.
#[derive(Debug)]
struct Stream {
    latencies: Latencies,
    /// From when on how many processes share the traffic.
    serving: Vec<(Seconds, f64)>,
    /// The share of failures that normal life has in each stretch of [`SCRAPE`] seconds.
    noise: Vec<f64>,
    callers: Counted,
    /// Up to when nobody served.
    unserved: Seconds,
}

/// All processes of a world.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) processes: Vec<Process>,
    streams: Vec<Stream>,
    /// Requests and failures of new pods, per deploy.
    pub(super) done: Vec<(f64, f64)>,
    /// The same in the time since the harm began.
    harm: Vec<Seconds>,
}

impl Flow {
    pub(super) fn new(world: &World, lives: &Lives, end: Seconds) -> Self {
        let mut all = lives.pods.clone();
        for (service, it) in world.services.iter().enumerate().filter(|(_, it)| !it.per_pod) {
            // What is only measured by its callers is one process to us.
            all.push(Life {
                service,
                revision: "a",
                nth: 0,
                name: it.id.name.clone(),
                node: 0,
                created: None,
                ready: vec![(f64::NEG_INFINITY, f64::INFINITY)],
                gone: f64::INFINITY,
                resets: Vec::new(),
                states: Vec::new(),
            });
        }
        let timed = faults::timed(world, lives);
        let streams: Vec<Stream> =
            world.services.iter().enumerate().map(|(i, service)| Stream::new(i, service, &all, end)).collect();
        let begin = if world.monitoring.yesterday { -DAY } else { 0.0 };
        let processes = all
            .into_iter()
            .map(|life| {
                let service = &world.services[life.service];
                let faults: Vec<Timed> = timed.iter().filter(|fault| fault.is_on(&life)).copied().collect();
                let mut cuts: Vec<Seconds> = streams[life.service].serving.iter().map(|(t, _)| *t).collect();
                faults.iter().for_each(|fault| fault.edges(&life, end, &mut cuts));
                cuts.extend(life.ready.iter().flat_map(|(from, to)| [*from, *to]));
                cuts.extend(&life.resets);
                match service.load {
                    Load::StopsAt(t) | Load::StepsAt(t, _) => cuts.push(t),
                    Load::Steady | Load::Ramp { .. } => {}
                }
                cuts.retain(|t| t.is_finite());
                cuts.sort_by(f64::total_cmp);
                Process {
                    counted: Counted::new(service.buckets.len()),
                    at: life.created.unwrap_or(begin - LIFETIME),
                    next: 0,
                    reset: 0,
                    cuts,
                    faults,
                    deploy: world.deploys.iter().position(|deploy| is_new(&life, deploy)),
                    life,
                }
            })
            .collect();
        let harm = (0..world.deploys.len()).map(|deploy| faults::harm_of(world, lives, deploy)).collect();
        Self { processes, streams, done: vec![(0.0, 0.0); world.deploys.len()], harm }
    }

    /// Brings a process's counters up to `t`.
    pub(super) fn advance(&mut self, world: &World, which: usize, t: Seconds, random: &mut Random) {
        let process = &mut self.processes[which];
        let service = &world.services[process.life.service];
        let stream = &mut self.streams[process.life.service];
        let t = t.min(process.life.gone);
        while process.at < t {
            let from = process.at;
            while process.cuts.get(process.next).is_some_and(|cut| *cut <= from) {
                process.next += 1;
            }
            if process.life.resets.get(process.reset).is_some_and(|reset| *reset <= from) {
                process.reset += 1;
                process.counted.reset();
            }
            let to = process.cuts.get(process.next).map_or(t, |cut| cut.min(t));
            process.at = to;
            let more = stream.stretch(service, process, (from, to), random);
            if let Some(deploy) = process.deploy
                && from >= self.harm[deploy]
            {
                self.done[deploy].0 += more.0;
                self.done[deploy].1 += more.1;
            }
        }
        if process.life.resets.get(process.reset).is_some_and(|reset| *reset <= t) {
            process.reset += 1;
            process.counted.reset();
        }
    }

    /// All that a process has counted, by whoever counts it.
    pub(super) fn counted(&self, world: &World, which: usize) -> &Counted {
        let process = &self.processes[which];
        let by_callers = !world.services[process.life.service].per_pod;
        if by_callers { &self.streams[process.life.service].callers } else { &process.counted }
    }

    /// What the callers of a service have counted; requests that nobody served are failures to them.
    pub(super) fn callers(&mut self, world: &World, service: usize, t: Seconds, random: &mut Random) -> &Counted {
        let (it, stream) = (&world.services[service], &mut self.streams[service]);
        let from = stream.unserved;
        if t > from {
            let mid = (from + t) / 2.0;
            if stream.serving_at(mid) <= 0.0 {
                let lost = random.poisson(it.rps * it.load.at(mid).0 * (t - from));
                stream.callers.requests += lost;
                stream.callers.errors += lost;
            }
            stream.unserved = t;
        }
        &stream.callers
    }
}

impl Stream {
    fn new(index: usize, service: &Service, all: &[Life], end: Seconds) -> Self {
        let mut edges: Vec<(Seconds, f64)> = all
            .iter()
            .filter(|life| life.service == index)
            .flat_map(|life| life.ready.iter().flat_map(|(from, to)| [(*from, 1.0), (*to, -1.0)]))
            .collect();
        edges.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut serving: Vec<(Seconds, f64)> = Vec::with_capacity(edges.len());
        let mut count = 0.0;
        for (t, change) in edges {
            count += change;
            match serving.last_mut() {
                Some((at, now)) if at.to_bits() == t.to_bits() => *now = count,
                _ => serving.push((t, count)),
            }
        }
        Self {
            latencies: Latencies::new(service.median, service.sigma, service.buckets),
            serving,
            noise: vec![f64::NAN; (end / SCRAPE) as usize + 2],
            callers: Counted::new(service.buckets.len()),
            unserved: 0.0,
        }
    }

    fn serving_at(&self, t: Seconds) -> f64 {
        let after = self.serving.partition_point(|(at, _)| *at <= t);
        after.checked_sub(1).map_or(0.0, |i| self.serving[i].1)
    }

    fn base_errors(&mut self, service: &Service, t: Seconds, random: &mut Random) -> f64 {
        if !service.noise.is_finite() {
            return service.errors;
        }
        let Some(noise) = self.noise.get_mut((t / SCRAPE).max(0.0) as usize) else { return service.errors };
        if noise.is_nan() {
            *noise = random.beta(service.errors, service.noise);
        }
        *noise
    }

    /// One stretch of time in which nothing changes; tells requests and failures as the callers see them.
    fn stretch(
        &mut self,
        service: &Service,
        process: &mut Process,
        (from, to): (Seconds, Seconds),
        random: &mut Random,
    ) -> (f64, f64) {
        let mid = (from + to) / 2.0;
        let life = &process.life;
        if !life.ready.iter().any(|(a, b)| *a <= mid && mid < *b) {
            return (0.0, 0.0);
        }
        let mut wrong = Wrong::default();
        process.faults.iter().for_each(|fault| fault.apply(life, mid, &mut wrong));
        let (load, slower) = service.load.at(mid);
        let serving = self.serving_at(mid).max(1.0);
        let fresh = random.poisson(service.rps * load * wrong.more * (to - from) / serving);
        if wrong.refuse {
            self.callers.requests += fresh;
            self.callers.errors += fresh;
            return (fresh, fresh);
        }
        let base = self.base_errors(service, mid, random);
        let p = wrong.errors_to.unwrap_or(base);
        let p = 1.0 - (1.0 - p) * (1.0 - wrong.errors_plus);
        // A scanner's requests are answered with 4xx: they are no failures.
        let mut failed = random.binomial((fresh / wrong.more).round(), p);
        let mut requests = fresh;
        if let Some((share, times)) = wrong.retries {
            let faults = random.binomial(fresh, share);
            requests += faults * (times - 1.0);
            failed += faults * times;
        }
        self.callers.requests += requests;
        self.callers.errors += failed;
        if service.callers && service.per_pod {
            self.latencies.draw(random, requests, wrong.slower * slower, &mut self.callers.buckets);
        }
        if !wrong.uncounted {
            process.counted.requests += requests;
            process.counted.errors += failed;
            let buckets = if service.per_pod { &mut process.counted.buckets } else { &mut self.callers.buckets };
            self.latencies.draw(random, requests, wrong.slower * slower, buckets);
        }
        (requests, failed)
    }
}

impl Load {
    /// Factors of the traffic and of the latency.
    pub(super) fn at(self, t: Seconds) -> (f64, f64) {
        match self {
            Load::Steady => (1.0, 1.0),
            Load::StopsAt(end) => (if t < end { 1.0 } else { 0.0 }, 1.0),
            Load::StepsAt(at, times) => (if t < at { 1.0 } else { times }, 1.0),
            Load::Ramp { from, to, times, slower } => {
                // The same every day.
                let t = if t < from - DAY / 2.0 { t + DAY } else { t };
                let way = ((t - from) / (to - from)).clamp(0.0, 1.0);
                (1.0 + (times - 1.0) * way, 1.0 + (slower - 1.0) * way)
            }
        }
    }
}

impl Process {
    /// Whether it refuses connections at `t`.
    pub(super) fn refuses(&self, t: Seconds) -> bool {
        let mut wrong = Wrong::default();
        self.faults.iter().for_each(|fault| fault.apply(&self.life, t, &mut wrong));
        wrong.refuse
    }
}
