use super::{
    testing::{Server, response, trial},
    *,
};
use crate::domain::{HealthProbe, ProbeVia, Scheme};
use crate::wire::Wire;
use serde_json::json;
use tokio::sync::Notify;

fn settings(json: serde_json::Value) -> SourceSettings {
    serde_json::from_value(json).unwrap()
}

fn with_probe(port: u16) -> TrialTarget {
    let mut trial = trial("shop", "checkout");
    trial.pods[0].address = Some([127, 0, 0, 1].into());
    Arc::make_mut(&mut trial.rules).health = vec![HealthProbe {
        name: "health".into(),
        via: ProbeVia::Pod,
        scheme: Scheme::Http,
        port,
        path: "/".into(),
        timeout: Duration::from_secs(2),
    }];
    trial
}

#[tokio::test]
async fn what_is_configured_is_in_use() {
    let names = |json| Sources::new(&settings(json), Clock::system()).unwrap().0.names();
    assert_eq!(names(json!({})), ["scrape", "health"]);
    assert_eq!(names(json!({"prometheus": {"url": "http://p"}})), ["prometheus", "health"]);
    assert_eq!(
        names(json!({"prometheus": {"url": "http://p"}, "scrape": {"enabled": "on"}})),
        ["prometheus", "scrape", "health"]
    );
    assert_eq!(names(json!({"scrape": {"enabled": "off"}})), ["health"]);
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let made = Sources::new(&SourceSettings::default(), Clock::system());
    assert_eq!(made.err(), Some(SourceError::NoRuntime));
}

#[tokio::test]
async fn without_trials_nothing_is_sent() {
    let server = Server::new(|_| response(500, "text/plain", "")).await;
    let (sources, mut readings) =
        Sources::simulated(&settings(json!({"prometheus": {"url": server.url()}})), Clock::system(), &Wire::Network)
            .unwrap();
    sources.start(Arc::default());
    sources.start(Arc::new(vec![with_probe(server.address.port())]));
    for _ in 0..2 {
        let reading = readings.recv().await.unwrap();
        let Observation::Source { source, .. } = &reading.observed.last().unwrap().what else { panic!() };
        assert_eq!(source, reading.source);
    }
    assert_eq!(sources.left_out().iter().map(|l| l.reads).sum::<u64>(), 0, "the empty start began nothing");
    assert_eq!(sources.history(&trial("a", "b"), 5.0, 1.0, Duration::from_secs(1)).await, Ok(vec![]));
}

/// A source that reads until it is told to end.
struct Slow {
    ends: Arc<Notify>,
    panics: bool,
}

impl Source for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }
    fn wanted(&self, _: &[TrialTarget]) -> bool {
        true
    }
    fn deadline(&self) -> Duration {
        Duration::from_secs(5)
    }
    fn read(&self, _: Arc<Vec<TrialTarget>>) -> BoxFuture<'_, Read> {
        Box::pin(async {
            self.ends.notified().await;
            assert!(!self.panics, "a defect");
            Read { ok: true, ..Read::default() }
        })
    }
    fn peers(&self, _: PeerQuestion) -> Option<BoxFuture<'_, PeerRead>> {
        Some(Box::pin(async {
            self.ends.notified().await;
            assert!(!self.panics, "a defect");
            PeerRead::default()
        }))
    }
    fn check(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(futures::future::pending())
    }
    fn malformed(&self) -> u64 {
        0
    }
}

fn slow(panics: bool) -> (Sources, mpsc::Receiver<Reading>, Arc<Notify>) {
    let ends = Arc::new(Notify::new());
    let (mut sources, readings) =
        Sources::new(&settings(json!({"scrape": {"enabled": "off"}})), Clock::system()).unwrap();
    let source = Arc::new(Slow { ends: Arc::clone(&ends), panics });
    let slot = || Slot { source: source.clone(), busy: Arc::default(), skipped: AtomicU64::new(0) };
    (sources.slots, sources.witness) = (vec![slot()], Some(slot()));
    (sources, readings, ends)
}

/// The state that a reading ends with.
fn state(reading: &Reading) -> (bool, String) {
    let (ok, reason) = testing::state(&reading.observed);
    (ok, reason.unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn fault_43_reads_never_pile_up_and_end_at_their_deadline() {
    let (sources, mut readings, ends) = slow(false);
    for _ in 0..4 {
        sources.start(Arc::default());
    }
    assert_eq!(sources.left_out()[0].reads, 3);
    let late = readings.recv().await.unwrap();
    assert_eq!(state(&late), (false, "no complete answer within 5s".into()));
    assert!(late.took >= Duration::from_secs(5));
    tokio::task::yield_now().await;
    sources.start(Arc::default());
    ends.notify_one();
    assert_eq!(state(&readings.recv().await.unwrap()), (true, String::new()));
    assert_eq!(sources.left_out()[0].reads, 3);
    assert_eq!(sources.check().await, [("slow", Err("no answer before the deadline".into()))]);
}

#[tokio::test(start_paused = true)]
async fn peers_that_hang_are_missing_in_time_and_nobodys_outage() {
    let (sources, mut readings, ends) = slow(false);
    let peers = || PeerQuestion { peers: vec![trial("shop", "cart")], ..PeerQuestion::default() };
    let patience = Duration::from_secs(2);
    assert!(!sources.start_peers(PeerQuestion::default(), patience), "nobody to read");
    assert!(sources.start_peers(peers(), patience));
    assert!(!sources.start_peers(peers(), patience), "the read before still runs");
    let late = readings.recv().await.unwrap();
    assert_eq!((late.source, late.took), (PEERS, patience));
    assert_eq!(late.missing.as_deref(), Some("no complete answer within 2s"));
    assert!(late.observed.is_empty(), "no source is said to be down");
    tokio::task::yield_now().await;
    assert!(sources.start_peers(peers(), patience));
    ends.notify_one();
    assert_eq!(readings.recv().await.unwrap().missing, None);
    let (sources, mut readings, ends) = slow(true);
    sources.start_peers(peers(), patience);
    ends.notify_one();
    assert!(readings.recv().await.unwrap().missing.unwrap().contains("a defect"));
}

#[tokio::test]
async fn a_read_that_panics_is_a_failed_read_and_the_source_lives_on() {
    let (sources, mut readings, ends) = slow(true);
    for _ in 0..2 {
        sources.start(Arc::default());
        ends.notify_one();
        assert!(!state(&readings.recv().await.unwrap()).0);
        tokio::task::yield_now().await;
    }
    assert_eq!(sources.left_out()[0].reads, 0);
}

#[tokio::test]
async fn one_source_that_hangs_holds_up_no_other() {
    let stalled = Server::raw(b"", true).await;
    let pod = Server::new(|_| response(200, "text/plain", "")).await;
    let config = json!({"prometheus": {"url": stalled.url(), "timeout": "1h"}});
    let (sources, mut readings) = Sources::simulated(&settings(config), Clock::system(), &Wire::Network).unwrap();
    sources.start(Arc::new(vec![with_probe(pod.address.port())]));
    let first = readings.recv().await.unwrap();
    assert_eq!(first.source, "health");
    assert!(matches!(&first.observed[0].what, Observation::Probe(p) if p.outcome == crate::domain::ProbeOutcome::Pass));
    assert!(state(&first).0);
}
