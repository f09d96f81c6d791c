//! The document: docs/decision-benchmark.md. Pure.

use super::{
    Further, Report, Row, Share, Summary,
    goals::Goal,
    plots::rate,
    text::{per_10k, percent, seconds},
    why::why,
};
use crate::bench::{judge::LASTGOOD, sweep};
use std::fmt::Write;

/// The whole document; the pictures are beside it, under the given names.
pub fn document(report: &Report, pictures: [&str; 2]) -> String {
    let mut out = String::new();
    head(report, &mut out);
    let all = report.goals();
    goals(&all, &mut out);
    wrong(report, &mut out);
    judges(report, pictures[0], &mut out);
    scenarios(report, &mut out);
    misses(report, &all, &mut out);
    delays(report, pictures[1], &mut out);
    how(report, &mut out);
    out
}

fn head(report: &Report, out: &mut String) {
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        out,
        "# The decision benchmark

How well Lastgood decides, beside the rules that people use today, on generated rollouts whose truth is known: the
scenarios S01–S50 of the design and those that an adversary of the rule added (A01 …). This file is written by

    lastgood bench --document docs --seeds {}{}{}

Seeds **{} to {}**, {} runs of each scenario; the rules were tuned on seeds 1 to {} only, which this document never
uses. A look every {} s. Measured in {:.0} s{}{}.
",
        report.seeds.end - report.seeds.start,
        report.clean.as_ref().map_or(String::new(), |clean| format!(" --clean {}", clean.asked)),
        report.trouble.as_ref().map_or(String::new(), |trouble| format!(" --trouble {}", trouble.asked)),
        report.seeds.start,
        report.seeds.end - 1,
        report.seeds.end - report.seeds.start,
        report.tuning_seeds.end - 1,
        report.interval,
        report.took_seconds,
        report
            .clean
            .as_ref()
            .map_or(String::new(), |clean| format!(", the further clean deploys in {:.0} s", clean.took_seconds)),
        report.trouble.as_ref().map_or(String::new(), |trouble| {
            format!(", the further runs of cluster-wide trouble in {:.0} s", trouble.took_seconds)
        }),
    );
}

fn goals(all: &[Goal], out: &mut String) {
    let _ = writeln!(out, "## Goals\n\n| goal | measured | |\n|---|---|---|");
    for Goal { name, measured, met, .. } in all {
        let _ = writeln!(out, "| {name} | {measured} | {} |", if *met { "met" } else { "**missed**" });
    }
    out.push('\n');
}

/// The further runs with a wrong undo, so that anybody can look at one.
fn wrong(report: &Report, out: &mut String) {
    let further = [report.clean.as_ref(), report.trouble.as_ref()].into_iter().flatten();
    let named: Vec<String> = further.map(Further::named).filter(|named| !named.is_empty()).collect();
    if !named.is_empty() {
        let _ = writeln!(
            out,
            "Wrong undos in the further runs, by scenario and seed: {}. `lastgood bench --trace S02 --seed N` writes such a
run as a trace, and `lastgood replay --interval {} -` judges it.\n",
            named.join(", "),
            report.interval
        );
    }
}

fn interval(share: Option<Share>) -> String {
    share.map_or("–".into(), |s| format!("{:.2}–{:.2}", s.low * 100.0, s.high * 100.0))
}

fn judges(report: &Report, picture: &str, out: &mut String) {
    let _ = writeln!(
        out,
        "## Beside the rules that people use

![Recall against false undos]({picture})

| judge | precision | pooled 95 % | recall | pooled 95 % | false undos per 10,000 clean (95 %) | median | p95 | \
failed requests before the undo | right reason for a hold |
|---|---|---|---|---|---|---|---|---|---|"
    );
    for summary in &report.summaries {
        let Summary { judge, macro_precision, macro_recall, precision, recall, .. } = summary;
        let name = if *judge == LASTGOOD { "**Lastgood**" } else { judge };
        let _ = writeln!(
            out,
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            percent(*macro_precision),
            interval(*precision),
            percent(*macro_recall),
            interval(*recall),
            per_10k(summary.false_per_10k),
            seconds(summary.median_seconds),
            seconds(summary.p95_seconds),
            summary.failed_requests.map_or("–".into(), |n| format!("{n:.0}")),
            if *judge == LASTGOOD { percent(summary.held_right.map(|s| s.value)) } else { "–".into() },
        );
    }
    let _ = writeln!(
        out,
        "\nPrecision and recall are macro-averaged: every scenario has the same weight, and recall counts only what was
undone before the scenario's deadline and to the right revision. Intervals are Wilson's, over all rollouts pooled.
Rivals have no attribution and never hold; an undo that they make where one must hold counts as wrong, as it does for
Lastgood. Their clean deploys are those of the scenarios above; Lastgood's are {} further ones.\n",
        report.summaries.iter().find(|s| s.judge == LASTGOOD).map_or(0, |s| s.clean_deploys)
    );
}

fn scenarios(report: &Report, out: &mut String) {
    let _ = writeln!(
        out,
        "## Scenario by scenario (Lastgood)

| id | scenario | must be undone | in time (95 %) | wrong undos | held, right reason | median | p95 | bound | failed requests |
|---|---|---|---|---|---|---|---|---|---|"
    );
    for row in report.of(LASTGOOD) {
        let t = &row.tally;
        let recall = row
            .recall
            .map_or("–".into(), |r| format!("{:.1} % ({:.1}–{:.1})", r.value * 100.0, r.low * 100.0, r.high * 100.0));
        let held =
            if t.must_hold > 0 { format!("{} of {}, {}", t.held, t.must_hold, t.held_right) } else { "–".into() };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {recall} | {} | {held} | {} | {} | {} | {} |",
            row.id,
            row.title,
            t.must,
            t.wrong,
            seconds(row.median_seconds),
            seconds(row.p95_seconds),
            seconds(row.bound_seconds),
            row.failed_requests.map_or("–".into(), |n| format!("{n:.0}")),
        );
    }
    let _ = writeln!(
        out,
        "\nBound: when enough requests had been served for anyone to rule out chance at one in ten thousand
(ln 10⁴ ÷ KL(share ‖ 5 %)), for faults that are a share of failed requests.\n"
    );
}

fn misses(report: &Report, goals: &[Goal], out: &mut String) {
    let missing: Vec<(&Row, String)> = report.of(LASTGOOD).filter_map(|row| Some((row, row.misses()?))).collect();
    let _ = writeln!(out, "## What misses its goal\n");
    if missing.is_empty() && goals.iter().all(|goal| goal.met) {
        let _ = writeln!(out, "Nothing.\n");
        return;
    }
    for Goal { name, measured, why, .. } in goals.iter().filter(|goal| !goal.met) {
        let _ = writeln!(out, "- **{name}**: {measured}. {why}");
    }
    for (row, what) in missing {
        let why = why(row.id).unwrap_or("Not understood yet.");
        let _ = writeln!(out, "- **{}** ({}): {what}. {why}", row.id, row.title);
    }
    out.push('\n');
}

fn delays(report: &Report, picture: &str, out: &mut String) {
    if report.sweep.is_empty() {
        return;
    }
    let _ = write!(
        out,
        "## Time to undo by the size of the fault and by traffic\n\n![Time to undo]({picture})\n\n| traffic on new pods |"
    );
    for share in sweep::SHARES {
        let _ = write!(out, " {:.0} % |", share * 100.0);
    }
    let _ = writeln!(out, "\n|---|{}", "---|".repeat(sweep::SHARES.len()));
    for rps in sweep::RATES {
        let _ = write!(out, "| {} |", rate(rps));
        for cell in report.sweep.iter().filter(|cell| (cell.rps - rps).abs() < 1e-9) {
            let _ = match (cell.median, cell.p95) {
                (Some(median), Some(p95)) if cell.undone >= 0.995 => write!(out, " {median:.0} ({p95:.0}) |"),
                (Some(median), Some(p95)) => write!(out, " {median:.0} ({p95:.0}; {:.0} %) |", cell.undone * 100.0),
                _ => write!(out, " – |"),
            };
        }
        out.push('\n');
    }
    let _ = writeln!(
        out,
        "\nMedian seconds (p95; share undone within the watch, if not all), a minute after a clean rollout.\n"
    );
}

fn how(report: &Report, out: &mut String) {
    let _ = writeln!(
        out,
        "## How it is measured

- A scenario draws a world from its seed: twelve services (other numbers where it says so), pods, traffic, latency
  (lognormal; the client's, OpenTelemetry's or fine buckets), over-dispersion, a rolling update as Kubernetes does it,
  and what goes wrong. Targets are scraped every 15 s, each with its own phase and jitter. The generator and all
  scenarios are in `src/bench`; `lastgood bench --trace S03 --seed 7` writes any run as a trace, and `lastgood replay`
  judges it.
- Every judge sees the same observations. Nobody's undo changes the world; the first undo of a rollout counts.
- Rivals get the same two limits (5 % failed; p95 half as high again as before and above 20 ms) and follow their
  manuals: the one-minute limit looks once a minute at the last minute; three in a row is an alert with `for`;
  Flagger-like counts five failed checks in total, and a check without values has failed; Argo-Rollouts-like has
  `failureLimit: 0` and `consecutiveErrorLimit: 4` (both heed the progress deadline); Kayenta is its Mann-Whitney judge
  (tolerance 0.25, confidence 0.98) every ten minutes, against old pods or against the ten minutes before; PipeCD-like
  repeats a one-sided Mann-Whitney test (p ≤ 0.05) of each metric every five minutes against the minutes before the
  rollout and stops at a metric's second failure, no data being one; CUSUM has k = 0.5 and h = 5.
  *Never* undoes nothing, the *oracle* undoes at the moment of the first harm.
- Precision is right undos of all undos. Wrong are: an undo of a rollout that must not be undone, one before any harm,
  one to a wrong revision (a miss as well), and each beyond the most that a scenario allows.
- A look every {} s is the daemon's default.",
        report.interval
    );
}
