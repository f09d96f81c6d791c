//! What the judging part of the daemon keeps of a workload, on trial and after it passed.
//!
//! Each row is a process of its own, which prints by how much its resident memory has grown. Linux only (`/proc`).
//!
//!     cargo bench --bench memory
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench that prints a table")]

mod common;

use common::{
    NEW, PODS,
    observed::{BEFORE, INTERVAL, T0, docket, readings, set, time},
    trials,
};
use lastgood::{
    analysis::Docket,
    domain::{Observation, Observed, PodState, Revision, Rules, TrialTarget},
};
use std::{process::Command, sync::Arc};

/// Workloads of eight pods, of which four are new; after the watch those are left.
const WORKLOADS: usize = 500;
/// Ticks of a watch of half an hour.
const WATCH: u64 = 120;

fn main() {
    let asked = std::env::args().nth(1).filter(|arg| !arg.starts_with("--"));
    if let Some(kind) = asked {
        return grow(&kind);
    }
    println!("| workloads of 8 pods, 12 buckets each | kB each |");
    println!("|---|---:|");
    for (kind, what) in [
        ("young", "on trial for five minutes"),
        ("old", "on trial for half an hour"),
        ("passed", "passed, and looked at every five minutes for an hour"),
        ("passed-long", "passed, and looked at every five minutes for twenty hours"),
    ] {
        let output = Command::new(std::env::current_exe().unwrap()).arg(kind).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        println!("| {what} | {} |", String::from_utf8_lossy(&output.stdout).trim());
    }
}

/// Prints how many kB the memory grows by each workload.
fn grow(kind: &str) {
    let rules = Arc::new(Rules::default());
    let trials: Vec<TrialTarget> =
        trials(WORKLOADS).into_iter().map(|trial| TrialTarget { rules: rules.clone(), ..trial }).collect();
    let before = resident();
    let docket = match kind {
        "young" => docket(&trials).0,
        "old" => old(&trials),
        "passed" => passed(&trials, 240),
        _ => passed(&trials, 20 * 240),
    };
    assert_eq!(docket.skipped(), 0, "the readings must be usable");
    println!("{}", (resident() - before) / WORKLOADS as u64);
}

fn old(trials: &[TrialTarget]) -> Docket {
    let (mut docket, now) = docket(trials);
    let mut readings = readings(trials);
    for tick in now + 1..BEFORE + WATCH {
        for (n, reading) in readings.iter_mut().enumerate() {
            set(reading, time(tick), if n % PODS < PODS / 2 { tick } else { tick - BEFORE });
            docket.observe(reading);
        }
        docket.judge(time(tick));
    }
    assert_eq!(docket.len(), WORKLOADS, "they are on trial");
    docket
}

/// As a daemon finds them that was started after they had passed: what a trial left behind would count as well, for
/// memory that is free again stays with the process.
fn passed(trials: &[TrialTarget], ticks: u64) -> Docket {
    let mut docket = Docket::with_interval(INTERVAL);
    for trial in trials {
        for pod in &trial.pods[PODS / 2..] {
            let state = PodState {
                node: Some("node-1".into()),
                ready: true,
                ..PodState::new(pod.pod.clone(), trial.workload.clone(), pod.revision.clone())
            };
            docket.observe(&Observed { t: T0, what: Observation::from(state) });
        }
        let times = (T0 - 1800.0, T0);
        docket.watch_late(times, trial.workload.clone(), Revision::from(NEW), trial.rules.clone());
    }
    let mut readings = readings(trials);
    for tick in 1..=ticks {
        let t = T0 + tick as f64 * INTERVAL;
        for reading in readings.chunks_mut(PODS).flat_map(|pods| &mut pods[PODS / 2..]) {
            set(reading, t, tick);
            docket.observe(reading);
        }
        if tick % 20 == 0 {
            docket.look_late(t);
        }
    }
    assert_eq!(docket.late_ids().count(), WORKLOADS, "they are watched on");
    docket
}

/// Resident memory of this process, in kB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
