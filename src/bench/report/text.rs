//! The report for a terminal. Pure.

use super::{Report, Share};
use crate::bench::judge::LASTGOOD;
use std::fmt::Write;

/// The report as plain text.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "seeds {} to {} (tuning uses those up to {}); a look every {} s; {:.1} s",
        report.seeds.start,
        report.seeds.end - 1,
        report.tuning_seeds.end - 1,
        report.interval,
        report.took_seconds
    );
    for row in report.of(LASTGOOD) {
        let t = &row.tally;
        let _ = write!(out, "{} {:>5} runs", row.id, t.runs);
        if t.must > 0 {
            let _ = write!(out, "  undone {:>5} of {:>5} in time, {} late", t.in_time, t.must, t.late);
        }
        if t.must_hold > 0 {
            let _ = write!(out, "  held {:>5} of {:>5}, for the right reason {}", t.held, t.must_hold, t.held_right);
        }
        let _ = write!(out, "  wrong undos {}", t.wrong);
        if let (Some(median), Some(p95)) = (row.median_seconds, row.p95_seconds) {
            let _ = write!(out, "  after {median:.0} s, p95 {p95:.0} s");
        }
        if let Some(bound) = row.bound_seconds {
            let _ = write!(out, ", bound {bound:.0} s");
        }
        if let Some(what) = row.misses() {
            let _ = write!(out, "  MISS: {what}");
            if !t.failed_seeds.is_empty() {
                let _ = write!(out, "; seeds {:?}", t.failed_seeds);
            }
        }
        out.push('\n');
    }
    for (what, further) in [("clean deploys", &report.clean), ("cluster-wide trouble", &report.trouble)] {
        let Some(further) = further else { continue };
        let named = if further.wrong > 0 { format!(": {}", further.named()) } else { String::new() };
        let _ = writeln!(out, "{what}: {} wrong undos in {} further runs{named}", further.wrong, further.runs);
    }
    for summary in &report.summaries {
        let _ = writeln!(
            out,
            "{:<24} precision {}  recall {}  false undos per 10,000 clean deploys {} ({} deploys)  median {} p95 {}",
            summary.judge,
            percent(summary.macro_precision),
            percent(summary.macro_recall),
            summary.false_per_10k.map_or("-".into(), |s: Share| format!("{:.1}", s.value)),
            summary.clean_deploys,
            seconds(summary.median_seconds),
            seconds(summary.p95_seconds),
        );
    }
    out
}

pub(super) fn percent(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{:.2} %", value * 100.0))
}

pub(super) fn seconds(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{value:.0} s"))
}

pub(super) fn per_10k(share: Option<Share>) -> String {
    share.map_or("–".into(), |s| format!("{:.1} ({:.1}–{:.1})", s.value, s.low, s.high))
}
