//! The two pictures of the document. Pure.

use super::{
    Report,
    svg::{Anchor, Svg},
};
use crate::bench::{
    judge::LASTGOOD,
    run::{NEVER, ORACLE},
};

const GRID: &str = "#e4e7eb";
const OURS: &str = "#0b7a5a";
const THEIRS: &str = "#9aa5b1";
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 460.0;
/// The field between the axes: left, top, right, bottom.
const FIELD: (f64, f64, f64, f64) = (70.0, 70.0, 730.0, 400.0);
/// Lines of text are this far apart at least.
const LINE: f64 = 15.0;

/// Recall in time against false undos of clean deploys, for every judge.
pub fn recall_against_false_undos(report: &Report) -> String {
    let (left, top, right, bottom) = FIELD;
    let mut svg = Svg::new(WIDTH, HEIGHT);
    svg.text((left, 28.0), Anchor::Start, "title", "Bad rollouts undone in time, against good ones undone");
    let note = format!(
        "seeds {} to {}; every scenario weighs the same; up and to the left is better",
        report.seeds.start,
        report.seeds.end - 1
    );
    svg.text((left, 48.0), Anchor::Start, "sub", &note);
    // A logarithm has no zero: none at all is drawn at the left edge, as the chance that is still left.
    let least = 0.1_f64;
    let x = |per_10k: f64| left + (right - left) * (per_10k.max(least) / least).log10() / 5.0;
    let y = |recall: f64| bottom - (bottom - top) * recall;
    for decade in 0..=5 {
        let value = least * 10_f64.powi(decade);
        svg.line((x(value), top), (x(value), bottom), GRID, 1.0, false);
        let label = if decade == 0 {
            "0".to_owned()
        } else if decade == 1 {
            "1".to_owned()
        } else {
            thousands(value)
        };
        svg.text((x(value), bottom + 18.0), Anchor::Middle, "tick", &label);
    }
    for tenth in [0, 25, 50, 75, 100] {
        let at = y(f64::from(tenth) / 100.0);
        svg.line((left, at), (right, at), GRID, 1.0, false);
        svg.text((left - 8.0, at + 4.0), Anchor::End, "tick", &format!("{tenth} %"));
    }
    svg.text(((left + right) / 2.0, bottom + 42.0), Anchor::Middle, "axis", "false undos per 10,000 clean deploys");
    svg.upwards((22.0, (top + bottom) / 2.0), "bad rollouts undone before their deadline");
    let mut points: Vec<(f64, f64, &str)> = report
        .summaries
        .iter()
        .filter(|s| ![NEVER, ORACLE].contains(&s.judge))
        .filter_map(|s| Some((x(s.false_per_10k?.value), y(s.macro_recall?), s.judge)))
        .collect();
    // From the bottom up: a name that finds its place taken moves up, never into the axis.
    points.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut labels: Vec<(f64, f64, &str)> = Vec::new();
    let side = |px: f64| if px > right - 190.0 { (Anchor::End, -12.0) } else { (Anchor::Start, 12.0) };
    for &(px, py, judge) in &points {
        let ours = judge == LASTGOOD;
        svg.dot((px, py), if ours { 8.0 } else { 6.0 }, if ours { OURS } else { THEIRS });
        // Points that lie close put their names under each other.
        let mut at = (py + 4.0).min(bottom - 4.0);
        while labels.iter().any(|(lx, ly, _)| (lx - px).abs() < 200.0 && (ly - at).abs() < LINE) {
            at -= 2.0;
        }
        labels.push((px, at, judge));
        if (at - py - 4.0).abs() > 6.0 {
            svg.line((px, py), (px + side(px).1, at - 4.0), THEIRS, 1.0, false);
        }
    }
    for (px, at, judge) in labels {
        let style = if judge == LASTGOOD { "ours" } else { "label" };
        let name = if judge == LASTGOOD { "Lastgood" } else { judge };
        let (anchor, shift) = side(px);
        svg.text((px + shift, at), anchor, style, name);
    }
    svg.finish()
}

/// Median time to undo by the share of failed requests, one line for each traffic, and the information bound.
pub fn delays(report: &Report) -> String {
    const COLOURS: [&str; 5] = ["#d9822b", "#c2498c", "#7157d9", "#2965cc", "#0b7a5a"];
    let (left, top, right, bottom) = (FIELD.0, FIELD.1, FIELD.2 - 110.0, FIELD.3);
    let mut svg = Svg::new(WIDTH, HEIGHT);
    svg.text((left, 28.0), Anchor::Start, "title", "Time to undo, by the share of requests that fail and by traffic");
    svg.text(
        (left, 48.0),
        Anchor::Start,
        "sub",
        "medians, where at least half of the runs were undone; dashed: when enough was served for anyone to know",
    );
    let (lowest, highest) = (0.05_f64, 1.0_f64);
    let x = |share: f64| left + (right - left) * (share / lowest).ln() / (highest / lowest).ln();
    let (quickest, slowest) = (1.0_f64, 2_000.0_f64);
    let y = |seconds: f64| {
        bottom - (bottom - top) * (seconds.clamp(quickest, slowest) / quickest).ln() / (slowest / quickest).ln()
    };
    for seconds in [1.0, 3.0, 10.0, 30.0, 60.0, 240.0, 600.0, 1_800.0] {
        svg.line((left, y(seconds)), (right, y(seconds)), GRID, 1.0, false);
        let label = if seconds < 60.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) };
        svg.text((left - 8.0, y(seconds) + 4.0), Anchor::End, "tick", &label);
    }
    for share in crate::bench::sweep::SHARES {
        svg.line((x(share), top), (x(share), bottom), GRID, 1.0, false);
        svg.text((x(share), bottom + 18.0), Anchor::Middle, "tick", &format!("{:.0} %", share * 100.0));
    }
    svg.text(
        ((left + right) / 2.0, bottom + 42.0),
        Anchor::Middle,
        "axis",
        "share of the new pods' requests that fail (limit 5 %)",
    );
    svg.upwards((18.0, (top + bottom) / 2.0), "from the first failure to the undo");
    let mut ends: Vec<(f64, f64, String, &str)> = Vec::new();
    for (rps, colour) in crate::bench::sweep::RATES.into_iter().zip(COLOURS) {
        let cells: Vec<_> = report.sweep.iter().filter(|cell| (cell.rps - rps).abs() < 1e-9).collect();
        let bounds: Vec<(f64, f64)> = cells.iter().filter_map(|c| Some((x(c.share), y(c.bound?)))).collect();
        svg.path(&bounds, colour, 1.2, true);
        let undone: Vec<(f64, f64)> =
            cells.iter().filter(|c| c.undone >= 0.5).filter_map(|c| Some((x(c.share), y(c.median?)))).collect();
        svg.path(&undone, colour, 2.4, false);
        undone.iter().for_each(|point| svg.dot(*point, 4.0, colour));
        ends.extend(undone.last().map(|(px, py)| (*px, *py, rate(rps), colour)));
    }
    // From the bottom up, so that names stand in the order of their lines.
    ends.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut lowest_free = f64::INFINITY;
    for (px, py, name, colour) in ends {
        let at = (py + 4.0).min(lowest_free);
        lowest_free = at - LINE;
        svg.dot((px + 14.0, at - 4.0), 4.0, colour);
        svg.text((px + 24.0, at), Anchor::Start, "label", &name);
    }
    svg.finish()
}

pub(super) fn rate(rps: f64) -> String {
    if rps < 1.0 { format!("{:.0} req/min", rps * 60.0) } else { format!("{rps:.0} req/s") }
}

fn thousands(value: f64) -> String {
    if value >= 1_000.0 { format!("{},000", (value / 1_000.0).round()) } else { format!("{value:.0}") }
}
