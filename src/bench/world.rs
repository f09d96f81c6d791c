//! What a scenario is made of: plain data, and what is true of it. Pure.
//!
//! A [`World`] says what really happens. Judges never see it: they see the observations that [`super::Feed`]
//! makes of it.

use crate::domain::{FailReason, HoldReason, Kind, Seconds, UnknownReason, WorkloadId};

/// When the (first) rollout begins: ten minutes of life go before it.
pub const T0: Seconds = 600.0;
/// How long the watch goes on after the rollout began.
pub const WATCH: Seconds = 1_860.0;
/// Seconds between two scrapes of one target, and between two looks of the judge.
pub const SCRAPE: Seconds = 15.0;

/// Bucket bounds of most clients' default histogram; `+Inf` follows.
pub const BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// The default bounds of OpenTelemetry's `http.server.request.duration`.
pub const OTEL_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Bounds a quarter apart, as close as Micrometer's or a native histogram's.
pub const FINE_BUCKETS: &[f64] = &[
    0.004, 0.005, 0.00625, 0.0078, 0.0098, 0.0122, 0.0153, 0.0191, 0.0238, 0.0298, 0.0373, 0.0466, 0.0582, 0.0728,
    0.0909, 0.114, 0.142, 0.178, 0.222, 0.278, 0.347, 0.434, 0.542, 0.678, 0.847, 1.06, 1.32, 1.65, 2.07, 2.58, 3.23,
    4.04, 5.05, 6.31, 7.89, 9.86,
];

/// Everything that really happens in one run.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The services; the first one is the subject of most scenarios.
    pub services: Vec<Service>,
    /// The rollouts, and what is true of each.
    pub deploys: Vec<Deploy>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// What goes wrong with the measuring.
    pub monitoring: Monitoring,
    /// What an error tracker says: time, service, revision, new issues, events.
    pub issues: Vec<(Seconds, usize, &'static str, u64, u64)>,
    /// Changes of pods that are no rollout.
    pub changes: Vec<Change>,
    /// Thresholds other than the defaults.
    pub thresholds: Option<&'static str>,
    /// More undos than this are wrong, whatever they undo.
    pub most_undos: Option<usize>,
    /// When the run ends.
    pub end: Seconds,
}

/// One workload and its traffic.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name.
    pub id: WorkloadId,
    /// Its pods.
    pub pods: usize,
    /// Nodes that they spread over.
    pub nodes: usize,
    /// Requests a second, all pods together.
    pub rps: f64,
    /// How the traffic changes.
    pub load: Load,
    /// Share of requests that fail in normal life.
    pub errors: f64,
    /// Beta precision of that share from tick to tick; infinite is no extra noise (decision.md: φ).
    pub noise: f64,
    /// Median latency in seconds.
    pub median: f64,
    /// Sigma of the lognormal latency.
    pub sigma: f64,
    /// Bounds of its histogram.
    pub buckets: &'static [f64],
    /// Services that it calls.
    pub calls: Vec<usize>,
    /// Measured pod by pod; else only as its callers see it.
    pub per_pod: bool,
    /// Measured by its callers.
    pub callers: bool,
    /// Its probe, if any.
    pub probe: Option<Probe>,
}

/// How traffic changes; the value multiplies the requests a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// It does not.
    Steady,
    /// It ends then.
    StopsAt(Seconds),
    /// It is multiplied from then on.
    StepsAt(Seconds, f64),
    /// It ramps from 1 to the given factor between the two times of the day; latency ramps with it, by the last.
    Ramp {
        /// Begin.
        from: Seconds,
        /// End.
        to: Seconds,
        /// Factor of the traffic at the end.
        times: f64,
        /// Factor of the latency at the end.
        slower: f64,
    },
}

/// A health probe of a service.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probe {
    /// Seconds between two probes.
    pub every: Seconds,
    /// Share of probes that fail for no reason.
    pub flaky: f64,
    /// `smoke` instead of `health`.
    pub smoke: bool,
    /// Whether pods are asked, or the Service.
    pub per_pod: bool,
    /// Whether the pods of this revision fail it.
    pub fails_on: Option<&'static str>,
}

/// One rollout.
#[derive(Debug, Clone)]
pub struct Deploy {
    /// Of which service.
    pub service: usize,
    /// When it begins.
    pub at: Seconds,
    /// Revision that was serving.
    pub from: &'static str,
    /// Revision that is rolled out.
    pub to: &'static str,
    /// Seconds from a pod's creation to its Ready.
    pub start_up: Seconds,
    /// How its pods behave as processes.
    pub pods: Behaviour,
    /// Pods that are replaced at most: a rollout that is paused there.
    pub stops_after: Option<usize>,
    /// What is true of it.
    pub truth: Truth,
    /// Since when it does harm.
    pub harm: Harm,
    /// What the time to undo it is counted from, where that is not the first harm.
    pub due: Option<Moment>,
    /// Share of its requests that are bad while it does, where that is what it does: for the information bound.
    pub bad_share: Option<f64>,
}

/// How the pods of a revision behave as processes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Behaviour {
    /// They start and stay.
    Healthy,
    /// They exit with 1 so many seconds after every start, never Ready.
    CrashLoop(Seconds),
    /// They serve, and exit with 1 so many seconds after every start.
    CrashServing(Seconds),
    /// They serve, and are killed for memory so many seconds after every start.
    OutOfMemory(Seconds),
    /// The image cannot be pulled.
    ImagePull,
    /// The container cannot be made from its configuration.
    ConfigError,
    /// They run and are never Ready.
    NeverReady,
}

/// What is true of a rollout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Truth {
    /// It must be undone within this time from the first harm.
    Undo {
        /// Seconds from the first harm.
        within: Seconds,
        /// To one of these revisions.
        targets: &'static [&'static str],
        /// Why.
        because: &'static [FailReason],
    },
    /// It must not be undone.
    Not,
    /// It must not be undone, and something else must be named.
    Hold {
        /// What may be named.
        because: &'static [HoldReason],
        /// What may be named instead where nothing can be told.
        unknown: &'static [UnknownReason],
    },
    /// Both are right, but no undo before so many seconds of harm.
    Either(Seconds),
}

/// When a rollout begins to do harm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Harm {
    /// From its begin on: pods that never serve.
    Begin,
    /// A moment of it.
    From(Moment),
}

/// A moment of a rollout that is only known once its pods are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Moment {
    /// A time.
    At(Seconds),
    /// So long after the first new pod of that rollout was Ready.
    FirstReady(usize, Seconds),
    /// So long after the last one was.
    Done(usize, Seconds),
}

/// Something that goes wrong (or right).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    /// Where.
    pub who: Who,
    /// From when.
    pub from: Moment,
    /// For how long; infinite by default.
    pub lasts: Seconds,
    /// Comes again every so many seconds.
    pub every: Option<Seconds>,
    /// Each pod has its own clock, from its Ready on, instead of `from`.
    pub since_ready: bool,
    /// What.
    pub effect: Effect,
}

/// Which pods a fault is on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Who {
    /// All pods of a service.
    All(usize),
    /// Its pods of one revision.
    Revision(usize, &'static str),
    /// The first so many pods of that revision.
    Some(usize, &'static str, usize),
    /// Its pods on that node.
    Node(usize, usize),
}

/// What a fault does to requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Effect {
    /// The share of failed requests becomes this.
    ErrorsTo(f64),
    /// This share fails on top of what fails anyway.
    ErrorsPlus(f64),
    /// Latency is multiplied.
    Slower(f64),
    /// Latency grows by this share of its normal value every minute.
    SlowerEachMinute(f64),
    /// This share fails, and clients try each so many times.
    Retries(f64, f64),
    /// Connections are refused: no request arrives, no scrape answers; callers see errors.
    Refuse,
    /// Requests are multiplied (a scanner's 4xx).
    More(f64),
    /// The share of failed requests grows by this share every minute.
    ErrorsEachMinute(f64),
    /// Requests that arrive are not counted as anything: the exporter is broken.
    Uncounted,
}

/// A change of pods that is no rollout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// So many pods more of that revision.
    ScaleOut(Seconds, usize, &'static str, usize),
    /// All pods of the node are made anew elsewhere, of the revision they had.
    Drain(Seconds, usize, usize),
    /// Every pod restarts every so many seconds with exit code 0, and counts from zero.
    Restarts(usize, Seconds),
}

/// What goes wrong with the measuring.
#[derive(Debug, Clone, Default)]
pub struct Monitoring {
    /// Share of scrapes that are missing.
    pub missing: f64,
    /// No scrape at all between these times.
    pub gaps: Vec<(Seconds, Seconds)>,
    /// The source says that it fails between these times.
    pub outages: Vec<(Seconds, Seconds, &'static str)>,
    /// Values of the time before are answered again between these times.
    pub stale: Vec<(Seconds, Seconds)>,
    /// Share of readings whose error count is NaN or absent.
    pub broken_values: f64,
    /// The API server's clock is so much ahead of ours.
    pub api_ahead: Seconds,
    /// What is measured arrives so much later.
    pub lag: Seconds,
    /// The judge was restarted then: what lies before is read back once a minute.
    pub restarted: Option<Seconds>,
    /// The same hour of yesterday is read as well.
    pub yesterday: bool,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            id: WorkloadId::new("shop", Kind::Deployment, "checkout"),
            pods: 4,
            nodes: 4,
            rps: 20.0,
            load: Load::Steady,
            errors: 0.005,
            noise: f64::INFINITY,
            median: 0.05,
            sigma: 0.7,
            buckets: BUCKETS,
            calls: Vec::new(),
            per_pod: true,
            callers: false,
            probe: None,
        }
    }
}
