//! What one tick costs, for 1, 100 and 1,000 live trials of 8 pods with 12-bucket histograms each.
//!
//! Measured is the time that the thread was on the processor, not the time that went by: the figures hold on
//! a busy machine too. The Prometheus that answers runs on threads of its own. Linux only (`/proc`).
//!
//! `docket`: observations go in, verdicts come out. `tick`: asking, reading, parsing and joining the answers on
//! top of that. The figures are of all trials together; divide by their number.
//!
//!     cargo bench --bench tick
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench: what breaks here breaks the bench")]

mod common;

use common::{
    FakePrometheus, PODS,
    observed::{docket, readings, set, time},
    trials,
};
use criterion::{
    BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
    measurement::{Measurement, ValueFormatter, WallTime},
};
use lastgood::domain::Observation;
use std::{
    hint::black_box,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// Time that this thread was on the processor.
struct OnProcessor;

/// Nanoseconds that this thread has run.
fn ran() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

impl Measurement for OnProcessor {
    type Intermediate = u64;
    type Value = Duration;
    fn start(&self) -> u64 {
        ran()
    }
    fn end(&self, start: u64) -> Duration {
        Duration::from_nanos(ran() - start)
    }
    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }
    fn zero(&self) -> Duration {
        Duration::ZERO
    }
    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }
    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn ticks(c: &mut Criterion<OnProcessor>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for count in [1, 100, 1000] {
        let trials = Arc::new(trials(count));
        let mut group = c.benchmark_group("docket");
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            let (mut docket, mut tick) = docket(&trials);
            let mut readings = readings(&trials);
            b.iter(|| {
                tick += 1;
                let t = time(tick);
                for reading in &mut readings {
                    set(reading, t, tick);
                    docket.observe(reading);
                }
                black_box(docket.judge(t))
            });
            assert_eq!(docket.len(), count);
            assert_eq!(docket.skipped(), 0, "the readings must be usable");
        });
        group.finish();

        let mut group = c.benchmark_group("tick");
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            let prometheus = FakePrometheus::start(trials.clone());
            let _in_runtime = runtime.enter();
            let (sources, mut received) = prometheus.sources();
            let (mut docket, mut tick) = docket(&trials);
            b.iter(|| {
                tick += 1;
                let t = time(tick);
                prometheus.tick.store(tick, Ordering::Relaxed);
                let reading = runtime.block_on(async {
                    // The task that sent the last reading may still have to say that it is idle again.
                    while sources.start(trials.clone()) == 0 {
                        tokio::task::yield_now().await;
                    }
                    received.recv().await.unwrap()
                });
                let (mut counted, state) = (0, format!("{:?}", reading.observed.last()));
                for mut observed in reading.observed {
                    counted += usize::from(matches!(observed.what, Observation::Counters { .. }));
                    observed.t = t;
                    docket.observe(&observed);
                }
                assert_eq!(counted, count * PODS, "every pod must be read: {state}");
                black_box(docket.judge(t))
            });
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .with_measurement(OnProcessor)
        .sample_size(10)
        .warm_up_time(Duration::from_secs(2))
        .measurement_time(Duration::from_secs(8));
    targets = ticks
}
criterion_main!(benches);
