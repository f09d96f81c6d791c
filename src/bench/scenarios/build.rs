//! The words that scenarios are written in. Pure.

use crate::{
    bench::{
        random::Random,
        world::{
            BUCKETS, Behaviour, Deploy, Effect, FINE_BUCKETS, Fault, Harm, Moment, OTEL_BUCKETS, Service, T0, Truth,
            WATCH, Who, World,
        },
    },
    domain::{FailReason, HoldReason, Kind, Seconds, UnknownReason, WorkloadId},
};

/// The service that most scenarios are about.
pub(super) const SUBJECT: usize = 0;
/// Two services that call it, two that it calls, and one that the first of those calls.
pub(super) const CALLERS: [usize; 2] = [3, 4];
/// See [`CALLERS`].
pub(super) const CALLEES: [usize; 2] = [1, 2];

/// New pods of the subject.
pub(super) const NEW: Who = Who::Revision(SUBJECT, "b");
/// All its pods.
pub(super) const EVERY: Who = Who::All(SUBJECT);

const NAMES: [&str; 12] = [
    "checkout",
    "payments",
    "stock",
    "web",
    "mobile-api",
    "ledger",
    "search",
    "mail",
    "accounts",
    "images",
    "reports",
    "cart",
];

/// Twelve services, one of them rolled out without a fault.
pub(super) fn typical(r: &mut Random) -> World {
    let mut world = World { end: T0 + WATCH, ..World::default() };
    for (index, name) in NAMES.into_iter().enumerate() {
        world.services.push(service(r, "shop", name, index == SUBJECT));
    }
    world.services[SUBJECT].calls = CALLEES.to_vec();
    CALLERS.iter().for_each(|caller| world.services[*caller].calls = vec![SUBJECT]);
    world.services[CALLEES[0]].calls = vec![5];
    let start_up = r.magnitude(5.0, 90.0);
    world.deploy(SUBJECT, T0, "a", "b", start_up);
    // A slow rollout is watched for as long as a quick one, once its first pod is Ready.
    world.end += start_up;
    world
}

/// A service as any other.
pub(super) fn service(r: &mut Random, namespace: &str, name: &str, per_pod: bool) -> Service {
    Service {
        id: WorkloadId::new(namespace, Kind::Deployment, name),
        pods: r.whole(3, 8),
        nodes: r.whole(3, 6),
        rps: r.magnitude(5.0, 200.0),
        errors: r.magnitude(0.0005, 0.02),
        noise: r.pick(&[f64::INFINITY, f64::INFINITY, 50.0]),
        median: r.magnitude(0.02, 0.2),
        sigma: r.between(0.5, 1.0),
        buckets: r.pick(&[BUCKETS, OTEL_BUCKETS, FINE_BUCKETS]),
        per_pod,
        ..Service::default()
    }
}

impl World {
    pub(super) fn subject(&mut self) -> &mut Service {
        &mut self.services[SUBJECT]
    }

    /// Adds a rollout that does no harm; tells its number.
    pub(super) fn deploy(
        &mut self,
        service: usize,
        at: Seconds,
        from: &'static str,
        to: &'static str,
        start_up: Seconds,
    ) -> usize {
        self.deploys.push(Deploy {
            service,
            at,
            from,
            to,
            start_up,
            pods: Behaviour::Healthy,
            stops_after: None,
            truth: Truth::Not,
            harm: Harm::From(Moment::At(f64::INFINITY)),
            due: None,
            bad_share: None,
        });
        self.deploys.len() - 1
    }

    /// Adds a fault that stays.
    pub(super) fn fault(&mut self, who: Who, from: Moment, effect: Effect) -> &mut Fault {
        let fault = Fault { who, from, lasts: f64::INFINITY, every: None, since_ready: false, effect };
        self.faults.push(fault);
        let last = self.faults.len() - 1;
        &mut self.faults[last]
    }

    /// Adds a fault that every pod has for a while after its first Ready.
    pub(super) fn cold_start(&mut self, who: Who, lasts: Seconds, effect: Effect) {
        let fault = self.fault(who, Moment::At(0.0), effect);
        (fault.lasts, fault.since_ready) = (lasts, true);
    }

    /// The first rollout must be undone within this time from that moment on.
    pub(super) fn must_undo(&mut self, harm: Harm, within: Seconds, because: &'static [FailReason]) {
        self.must_undo_of(0, harm, within, because);
    }

    pub(super) fn must_undo_of(&mut self, deploy: usize, harm: Harm, within: Seconds, because: &'static [FailReason]) {
        let deploy = &mut self.deploys[deploy];
        deploy.harm = harm;
        deploy.truth = Truth::Undo { within, targets: &["a"], because };
    }

    pub(super) fn must_hold(&mut self, harm: Harm, because: &'static [HoldReason], unknown: &'static [UnknownReason]) {
        self.deploys[0].harm = harm;
        self.deploys[0].truth = Truth::Hold { because, unknown };
    }

    /// New pods of the first rollout fail at this rate from that moment on, and that must be undone.
    pub(super) fn errors(&mut self, from: Moment, share: f64, within: Seconds) {
        self.fault(NEW, from, Effect::ErrorsTo(share));
        self.must_undo(Harm::From(from), within, &[FailReason::Errors]);
        self.deploys[0].bad_share = Some(share);
    }

    /// A service is measured pod by pod and rolled out as well.
    pub(super) fn also_deploy(&mut self, r: &mut Random, service: usize, at: Seconds) -> usize {
        self.services[service].per_pod = true;
        let start_up = r.magnitude(5.0, 60.0);
        self.deploy(service, at, "a", "b", start_up)
    }

    /// These services fail or slow down from then on, whatever they run.
    pub(super) fn trouble(&mut self, services: &[usize], from: Moment, effect: Effect) {
        for service in services {
            self.fault(Who::All(*service), from, effect);
        }
    }
}

/// From the first request that a new pod of the first rollout serves.
pub(super) const FIRST_REQUEST: Moment = Moment::FirstReady(0, 0.0);

/// Some minutes after the first rollout is complete.
pub(super) fn later(r: &mut Random, low: Seconds, high: Seconds) -> Moment {
    Moment::Done(0, r.between(low, high))
}
