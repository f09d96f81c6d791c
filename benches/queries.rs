//! How often Prometheus is asked, for 0 to 1,000 live trials: what `Sources::start` sends is counted by the
//! server that answers it.
//!
//!     cargo bench --bench queries
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench that prints a table")]

mod common;

use common::{FakePrometheus, trials};
use lastgood::{config::Settings, domain::Observation};
use std::sync::Arc;

/// Ticks counted; the first one, which makes the connections, is counted too.
const TICKS: u32 = 12;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let interval = Settings::default().interval.as_secs_f64();
    println!("one tick every {interval} s (the default), presets: auto\n");
    println!("| live trials | pods | requests per tick | per minute | bytes read per tick | what is asked |");
    println!("|---:|---:|---:|---:|---:|---|");
    for count in [0, 1, 10, 100, 1000] {
        let trials = Arc::new(trials(count));
        let prometheus = FakePrometheus::start(trials.clone());
        let _in_runtime = runtime.enter();
        let (sources, mut received) = prometheus.sources();
        for _ in 0..TICKS {
            runtime.block_on(async {
                for _ in 0..sources.start(trials.clone()) {
                    let reading = received.recv().await.unwrap();
                    let counted = reading.observed.iter().filter(|o| matches!(o.what, Observation::Counters { .. }));
                    assert_eq!(counted.count(), count * common::PODS, "{:?}", reading.observed.last());
                }
                // Lets the task that sent the reading end, so that the next tick finds its source idle.
                tokio::task::yield_now().await;
            });
        }
        assert!(sources.left_out().iter().all(|l| l.reads == 0), "a tick was left out: the count would be too low");
        let (asked, bytes) = prometheus.take();
        let ticks = f64::from(TICKS);
        let all: u64 = asked.values().sum();
        let per_tick = all as f64 / ticks;
        let kinds: Vec<String> = asked.iter().map(|(kind, n)| format!("{kind} {}", *n as f64 / ticks)).collect();
        println!(
            "| {count} | {} | {per_tick} | {} | {} | {} |",
            count * common::PODS,
            per_tick * 60.0 / interval,
            bytes / u64::from(TICKS),
            kinds.join(", "),
        );
    }
}
