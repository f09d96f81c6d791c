//! Live trials in numbers, and a Prometheus of our own on loopback that knows their counters.
#![allow(dead_code, reason = "each bench uses its part")]

pub mod observed;

use lastgood::{
    clock::Clock,
    config::{PrometheusSettings, SourceSettings},
    domain::{Kind, PodId, PodTarget, Revision, Rules, TrialTarget, WorkloadId},
    sources::{Reading, Sources},
};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;

/// Old and new pods of one trial.
pub const PODS: usize = 8;
/// Twelve buckets: the default ones of Prometheus' Go client, and +Inf.
pub const BUCKETS: [&str; 12] = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"];
/// Requests that each pod answers between two ticks.
pub const PER_TICK: u64 = 600;

/// The revision before, and the one on trial.
pub const OLD: &str = "5f6d8c7b9a";
/// See [`OLD`].
pub const NEW: &str = "7c9b8d6f5e";

/// So many trials, 20 to a namespace, half of their pods old and half new.
pub fn trials(count: usize) -> Vec<TrialTarget> {
    // One day, so that no trial ends while it is measured.
    let rules = Arc::new(Rules { watch: Duration::from_secs(86_400), ..Rules::default() });
    (0..count)
        .map(|n| {
            let (namespace, name) = (format!("team-{}", n / 20), format!("service-{n}"));
            let pod = |p: usize| {
                let revision = if p < PODS / 2 { OLD } else { NEW };
                PodTarget {
                    pod: PodId::new(&namespace, format!("{name}-{revision}-x{p}z")),
                    revision: Revision::from(revision),
                    address: None,
                    ready: true,
                    scrape: BTreeMap::new(),
                    port: Some(8080),
                }
            };
            TrialTarget {
                gone: Vec::new(),
                workload: WorkloadId::new(&namespace, Kind::Deployment, &name),
                rules: rules.clone(),
                pods: (0..PODS).map(pod).collect(),
            }
        })
        .collect()
}

/// Requests, failures and cumulative buckets of one pod after so many ticks: 0.5 % fail, the median is 25 ms.
pub fn counters(tick: u64) -> (u64, u64, [u64; 12]) {
    let total = tick * PER_TICK;
    let share = [20, 120, 500, 800, 930, 985, 995, 998, 999, 1000, 1000, 1000];
    (total, total / 200, share.map(|s| total * s / 1000))
}

/// What was asked, by kind.
pub type Asked = BTreeMap<&'static str, u64>;

/// A Prometheus that answers for these trials. Its threads are not those that are measured.
pub struct FakePrometheus {
    pub address: SocketAddr,
    /// The tick whose counters it tells.
    pub tick: Arc<AtomicU64>,
    asked: Arc<Mutex<Asked>>,
    sent: Arc<AtomicU64>,
}

impl FakePrometheus {
    pub fn start(trials: Arc<Vec<TrialTarget>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("its address");
        let (tick, asked, sent) = (Arc::new(AtomicU64::new(1)), Arc::<Mutex<Asked>>::default(), Arc::default());
        let fake = Self { address, tick: tick.clone(), asked: asked.clone(), sent: Arc::clone(&sent) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (trials, tick, asked, sent) = (trials.clone(), tick.clone(), asked.clone(), sent.clone());
                std::thread::spawn(move || {
                    let _ = serve(&stream, &trials, &tick, &asked, &sent);
                });
            }
        });
        fake
    }

    /// What was asked since the last call, and how many bytes were answered.
    pub fn take(&self) -> (Asked, u64) {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner));
        (asked, self.sent.swap(0, Ordering::Relaxed))
    }

    /// The sources that ask it.
    pub fn sources(&self) -> (Sources, mpsc::Receiver<Reading>) {
        let prometheus: PrometheusSettings =
            serde_json::from_value(serde_json::json!({"url": format!("http://{}", self.address), "timeout": "60s"}))
                .expect("settings");
        let settings = SourceSettings { prometheus: Some(prometheus), ..SourceSettings::default() };
        Sources::new(&settings, Clock::system()).expect("sources")
    }
}

fn serve(
    stream: &TcpStream,
    trials: &[TrialTarget],
    tick: &AtomicU64,
    asked: &Mutex<Asked>,
    sent: &AtomicU64,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut to = stream;
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        loop {
            let mut header = String::new();
            if lines.read_line(&mut header)? <= 2 {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        lines.read_exact(&mut body)?;
        let body = String::from_utf8_lossy(&body);
        let (kind, answer) = answer(&line, &body, trials, tick.load(Ordering::Relaxed));
        *asked.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
        sent.fetch_add(answer.len() as u64, Ordering::Relaxed);
        write!(to, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len())?;
        to.write_all(answer.as_bytes())?;
    }
}

/// What kind of question it was, and its answer.
fn answer(line: &str, body: &str, trials: &[TrialTarget], tick: u64) -> (&'static str, String) {
    if line.contains("runtimeinfo") {
        let info = r#"{"status":"success","data":{"startTime":"2020-01-01T00:00:00Z","reloadConfigSuccess":true}}"#;
        return ("runtimeinfo", info.into());
    }
    let mut out = String::from(r#"{"status":"success","data":{"resultType":"vector","result":["#);
    let (requests, errors, buckets) = counters(tick);
    // Points of another time than was asked for would not be believed.
    let time = body.split('&').find_map(|pair| pair.strip_prefix("time=")).unwrap_or("0").to_owned();
    let mut series = |labels: &str, pod: &PodTarget, value: u64| {
        let comma = if out.ends_with('[') { "" } else { "," };
        let (namespace, name) = (&pod.pod.namespace, &pod.pod.name);
        let _ = write!(
            out,
            r#"{comma}{{"metric":{{"namespace":"{namespace}","pod":"{name}",{labels}}},"value":[{time},"{value}"]}}"#
        );
    };
    let pods = trials.iter().flat_map(|t| &t.pods);
    let kind = if body.contains("_bucket") {
        for pod in pods {
            for (le, value) in BUCKETS.iter().zip(buckets) {
                series(&format!(r#""le":"{le}","lastgood":"go/latency""#), pod, value);
            }
        }
        "latency"
    } else if body.contains("http_requests_total") {
        for pod in pods {
            series(r#""lastgood":"go/requests""#, pod, requests);
            series(r#""lastgood":"go/errors""#, pod, errors);
        }
        "counts"
    } else if body.contains("up%7B") || body.contains("up{") {
        pods.for_each(|pod| series(r#""lastgood":"up""#, pod, 1));
        "sanity"
    } else {
        "other"
    };
    out.push_str("]}}");
    (kind, out)
}
