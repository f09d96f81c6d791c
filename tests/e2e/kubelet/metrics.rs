//! Counters of one pod, as promhttp shows them.
use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The Go client's default buckets, in seconds.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Default)]
pub(super) struct Metrics {
    ok: AtomicU64,
    failed: AtomicU64,
    /// Not cumulative; the last one is +Inf.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

impl Metrics {
    pub(super) fn count(&self, failed: bool, took: Duration) {
        let counter = if failed { &self.failed } else { &self.ok };
        counter.fetch_add(1, Ordering::Relaxed);
        let bucket = BUCKETS.iter().position(|le| took.as_secs_f64() <= *le).unwrap_or(BUCKETS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn text(&self, version: &str) -> String {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let mut text = String::with_capacity(2048);
        let _ =
            writeln!(text, "# HELP app_info What runs.\n# TYPE app_info gauge\napp_info{{version=\"{version}\"}} 1");
        text.push_str("# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes 33554432\n");
        text.push_str("# HELP http_requests_total Requests answered.\n# TYPE http_requests_total counter\n");
        for (code, value) in [("200", get(&self.ok)), ("500", get(&self.failed))] {
            // As with promhttp, a code that never occurred has no series.
            if value > 0 {
                let _ = writeln!(text, "http_requests_total{{code=\"{code}\",method=\"get\"}} {value}");
            }
        }
        let name = "http_request_duration_seconds";
        let _ = writeln!(text, "# HELP {name} Time to answer.\n# TYPE {name} histogram");
        let mut total = 0;
        for (n, bucket) in self.buckets.iter().enumerate() {
            total += get(bucket);
            let le = BUCKETS.get(n).map_or("+Inf".to_owned(), f64::to_string);
            let _ = writeln!(text, "{name}_bucket{{method=\"get\",le=\"{le}\"}} {total}");
        }
        let seconds = Duration::from_micros(get(&self.micros)).as_secs_f64();
        let _ = writeln!(text, "{name}_sum{{method=\"get\"}} {seconds}\n{name}_count{{method=\"get\"}} {total}");
        text
    }
}
