//! The generator keeps its word, and a small benchmark with fixed seeds that fails on a regression.

use super::*;
use crate::{
    domain::{Counts, Observation, Observed},
    replay::{Line, Replay},
};
use std::collections::BTreeMap;

/// Every observation of one run as text, and what really happened.
fn lines(id: &str, seed: u64) -> (Vec<String>, World, Ledger) {
    let (world, random) = find(id).unwrap().world(seed);
    let mut lines = Vec::new();
    let (world, ledger) = Feed::new(world, random).run(&mut |o| lines.push(serde_json::to_string(o).unwrap()));
    (lines, world, ledger)
}

/// Increases of the subject's new pods between two times: requests, errors, requests slower than a bound.
fn increases(id: &str, seed: u64, from: f64, bound: Option<f64>) -> (f64, f64, f64) {
    let (lines, ..) = lines(id, seed);
    let mut last: BTreeMap<String, Counts> = BTreeMap::new();
    let mut sum = (0.0, 0.0, 0.0);
    for line in &lines {
        let observed: Observed = serde_json::from_str(line).unwrap();
        let Observation::Counters { pod, counts } = observed.what else { continue };
        let name = pod.to_string();
        if !name.starts_with("shop/checkout-b-") {
            continue;
        }
        if let Some(before) = last.get(&name).filter(|_| observed.t > from + 16.0) {
            let slower = |counts: &Counts| {
                let latency = counts.latency.as_ref().unwrap();
                bound.map_or(0.0, |bound| latency.get(f64::INFINITY).unwrap() - latency.get(bound).unwrap())
            };
            sum.0 += counts.requests.unwrap() - before.requests.unwrap();
            sum.1 += counts.errors.unwrap() - before.errors.unwrap();
            sum.2 += slower(&counts) - slower(before);
        }
        last.insert(name, counts);
    }
    sum
}

#[test]
fn a_seed_makes_the_same_trace_every_time() {
    for id in ["S01", "S23", "S30", "S36", "S48"] {
        assert_eq!(lines(id, 7).0, lines(id, 7).0, "{id}");
        assert_ne!(lines(id, 7).0, lines(id, 8).0, "{id}");
    }
}

#[test]
fn observations_come_in_order_of_time_and_can_be_read_back() {
    for id in ["S16", "S23", "S35", "S38", "S48", "S50", "A13"] {
        let (lines, world, _) = lines(id, 3);
        let mut last = f64::NEG_INFINITY;
        for line in &lines {
            let observed: Observed = serde_json::from_str(line).unwrap_or_else(|e| panic!("{id}: {line}: {e}"));
            assert!(observed.t >= last, "{id}: {line} comes after {last}");
            last = observed.t;
        }
        assert!((last - world.end).abs() < 1e-9, "{id} ends at its end");
        assert!(lines[0].contains("\"trace\"") && lines[lines.len() - 1].contains("\"end\""), "{id}");
    }
}

#[test]
fn what_is_measured_is_what_is_true() {
    let (_, _, ledger) = lines("S03", 5);
    let (requests, errors, _) = increases("S03", 5, ledger.harm[0], None);
    let share = errors / requests;
    let error = 4.0 * (0.08 * 0.92 / requests).sqrt();
    assert!((share - 0.08).abs() < error, "{share} of {requests} is not 8 %");

    let (_, world, _) = lines("S09", 5);
    let subject = &world.services[0];
    let bound = subject.buckets.iter().find(|bound| **bound > 2.0 * subject.median).unwrap();
    let (requests, _, slower) = increases("S09", 5, T0 + 400.0, Some(*bound));
    let wanted = super::traffic::above((bound / (1.45 * subject.median)).ln() / subject.sigma);
    let error = 4.0 * (wanted * (1.0 - wanted) / requests).sqrt() + 0.002;
    assert!((slower / requests - wanted).abs() < error, "{} is not {wanted}", slower / requests);
}

#[test]
fn a_rolling_update_replaces_every_pod_and_keeps_serving() {
    let (lines, world, _) = lines("S01", 11);
    let (mut alive, mut least, mut last) = (BTreeMap::new(), usize::MAX, 0.0);
    for line in &lines {
        let observed: Observed = serde_json::from_str(line).unwrap();
        if let Observation::Pod(state) = observed.what {
            // What happens at one time is seen as a whole.
            if observed.t > last {
                least = least.min(alive.values().filter(|(serves, _)| *serves).count());
                last = observed.t;
            }
            let (name, serves) = (state.pod.name.clone(), state.ready && !state.deleted);
            alive.insert(name, (serves, state.revision.0.clone()));
        }
    }
    let wanted = world.services[0].pods;
    assert!(least + wanted / 4 >= wanted, "{least} of {wanted} served at some time");
    let serving: Vec<_> = alive.values().filter(|(serves, _)| *serves).collect();
    assert!(serving.len() == wanted && serving.iter().all(|(_, revision)| revision == "b"), "{serving:?}");
}

#[test]
fn a_trace_that_is_written_down_is_judged_alike() {
    let shared = Shared::new(SCRAPE);
    for (id, seed) in [("S06", 2), ("S16", 2)] {
        let judged = |observations: &[Observed], end| {
            let mut replay = Replay::new(shared.thresholds(&find(id).unwrap().world(seed).0), SCRAPE);
            let mut all: Vec<Line> = observations.iter().flat_map(|observed| replay.observe(observed)).collect();
            all.extend(replay.end(end));
            serde_json::to_string(&all).unwrap()
        };
        let (world, random) = find(id).unwrap().world(seed);
        let (mut direct, mut read) = (Vec::new(), Vec::new());
        let (world, _) = Feed::new(world, random).run(&mut |observed| {
            direct.push(observed.clone());
            read.push(serde_json::from_str(&serde_json::to_string(observed).unwrap()).unwrap());
        });
        let first = judged(&direct, world.end);
        assert!(first.contains("\"undo\""), "{id}: {first}");
        assert_eq!(first, judged(&read, world.end), "{id}");
    }
}

#[test]
fn the_result_does_not_depend_on_the_number_of_workers() {
    let (scenarios, shared) = ([find("S16").unwrap(), find("S19").unwrap()], Shared::new(SCRAPE));
    let with = |workers| {
        let mut tallies = run(&scenarios, &(1..4), &shared, &lastgood, workers);
        tallies.values_mut().for_each(|tally| tally.delays.sort_by(f64::total_cmp));
        tallies
    };
    let (one, two) = (with(1), with(2));
    assert!(one.keys().eq(two.keys()));
    for (a, b) in one.values().zip(two.values()) {
        assert_eq!((a.in_time, a.wrong, &a.delays), (b.in_time, b.wrong, &b.delays));
    }
}

/// Runs that were undone wrongly once; each is a story of its own kind.
#[test]
fn what_was_undone_wrongly_once_is_not_undone_again() {
    let stories = [
        // Two waves of cold pods, beside which warm ones showed a bad request or two, or a noisy quarter of a minute.
        [("S14", 40_196), ("S14", 40_362), ("S14", 40_614), ("A07", 50_012)].as_slice(),
        // A bad node, while pods elsewhere failed a little as well.
        &[("S30", 403_257), ("S30", 408_525)],
        // The same, while a second wave of pods elsewhere was cold, or half a minute was noisy.
        &[("S30", 412_053), ("S30", 416_686)],
        // An outage that a caller had half a minute before us, and others most of a minute after us.
        &[("S24", 406_350)],
        // One bad pod that was read some seconds before its siblings.
        &[("S29", 500_050), ("S29", 500_143)],
    ];
    for (id, seed) in stories.into_iter().flatten().copied() {
        let tallies = run(&[find(id).unwrap()], &(seed..seed + 1), &Shared::new(SCRAPE), &lastgood, 1);
        assert!(tallies.values().all(|tally| tally.wrong == 0), "{id} {seed}: {tallies:?}");
    }
}

/// Scenarios that do not reach their goal yet, and how many of the runs below may fail. A number may only fall;
/// docs/decision-benchmark.md says why each is missed.
const KNOWN: &[(&str, u64)] = &[];

/// Runs of each scenario; few, because this runs unoptimised with every other test.
const SEEDS: std::ops::Range<u64> = 1..2;

#[test]
fn no_scenario_is_decided_worse_than_before() {
    // These alone take as long as all others; the document measures them.
    let heavy = ["S29", "S46", "S47"];
    let scenarios: Vec<Scenario> = all().into_iter().filter(|scenario| !heavy.contains(&scenario.id)).collect();
    let tallies = run(&scenarios, &SEEDS, &Shared::new(SCRAPE), &lastgood, 2);
    let worse: Vec<String> = tallies
        .iter()
        .filter_map(|((id, _), t)| {
            let failed = t.wrong + (t.must - t.in_time) + (t.must_hold - t.held_right.min(t.must_hold));
            let known = KNOWN.iter().find(|(known, _)| known == id).map_or(0, |(_, failed)| *failed);
            (failed > known).then(|| format!("{id}: {failed} decisions are wrong, {known} were: {t:?}"))
        })
        .collect();
    assert!(worse.is_empty(), "{}", worse.join("\n"));
    // Every must is in time and nothing is wrong: precision and recall are 1 and no clean deploy is undone. What is
    // left is how long it takes.
    let clean: u64 = tallies.values().map(|t| t.false_undos).sum();
    let delays: Vec<f64> = tallies.values().flat_map(|t| t.delays.iter().copied()).collect();
    let slow = |q: f64, most: f64| quantile(&delays, q).is_none_or(|seconds| seconds > most);
    assert!(clean == 0 && !slow(0.5, 76.0) && !slow(0.95, 380.0), "{clean} {:?}", quantile(&delays, 0.5));
}
