//! `/livez` and `/readyz`, in the words of the API server's own.

use super::Served;
use crate::domain::{Seconds, Snapshot};
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::fmt::Write;

/// A watch without any message for this long is dead: watches are asked for 30–60 s at a time, so that
/// even a quiet one says something within a minute.
const WATCH_STALE: Seconds = 120.0;

/// Alive: every loop has beaten lately. The kubelet restarts a daemon that fails this.
pub(super) async fn livez(State(served): State<Served>) -> Response {
    let mut body = String::new();
    for heartbeat in &served.heartbeats {
        if let Some(age) = heartbeat.stale() {
            let _ = writeln!(body, "[-]{}: no beat for {} s", heartbeat.name(), age.as_secs());
        }
    }
    if body.is_empty() {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
    }
}

/// Ready: the cluster is seen and rules are in force. `?verbose` shows every check.
pub(super) async fn readyz(State(served): State<Served>, RawQuery(query): RawQuery) -> Response {
    let verbose = query.unwrap_or_default().split('&').any(|p| p == "verbose" || p.starts_with("verbose="));
    let snapshot = served.snapshot.borrow().clone();
    let checks = checks(&snapshot, served.clock.now());
    let ready = checks.iter().all(|c| c.mark != Mark::Failed);
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = String::new();
    if verbose || !ready {
        for check in &checks {
            let _ = writeln!(body, "{}{}", check.mark.text(), check.line);
        }
    }
    body.push_str(if ready { "ok\n" } else { "not ready\n" });
    (code, body).into_response()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Ok,
    /// Worth knowing, but no reason to take the daemon out.
    Degraded,
    Failed,
}

impl Mark {
    fn text(self) -> &'static str {
        match self {
            Mark::Ok => "[+]",
            Mark::Degraded => "[~]",
            Mark::Failed => "[-]",
        }
    }
}

struct Check {
    mark: Mark,
    line: String,
}

/// Pure. What readiness looks at.
fn checks(snapshot: &Snapshot, now: Seconds) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut add = |mark: Mark, line: String| {
        // One check, one line, whatever an error text holds.
        checks.push(Check { mark, line: line.replace(|c: char| c.is_control(), " ") });
    };
    if snapshot.synced {
        add(Mark::Ok, "synced ok".into());
    } else {
        add(Mark::Failed, "synced: the first list of workloads is not complete yet".into());
    }
    let since = (now - snapshot.t).max(0.0);
    for (watch, age) in &snapshot.watches {
        let age = age + since;
        // Written so that NaN fails.
        if age <= WATCH_STALE {
            add(Mark::Ok, format!("watch {watch} ok, last message {age:.0} s ago"));
        } else {
            add(Mark::Failed, format!("watch {watch}: no message for {age:.0} s"));
        }
    }
    let thresholds = &snapshot.thresholds;
    if thresholds.hash.is_empty() {
        add(Mark::Failed, "thresholds: none are loaded".into());
    } else if let Some(why) = &thresholds.rejected {
        let age = (now - thresholds.loaded).max(0.0);
        let hash = &thresholds.hash;
        add(
            Mark::Degraded,
            format!("thresholds: {hash}, loaded {age:.0} s ago, stay in force; the file was refused: {why}"),
        );
    } else {
        add(Mark::Ok, format!("thresholds {} ok", thresholds.hash));
    }
    for (source, state) in &snapshot.sources {
        if state.ok {
            add(Mark::Ok, format!("source {source} ok"));
        } else {
            let why = state.reason.as_deref().unwrap_or("no read has succeeded yet");
            add(Mark::Degraded, format!("source {source}: {why}"));
        }
    }
    for line in &snapshot.degraded {
        add(Mark::Degraded, format!("degraded: {line}"));
    }
    if snapshot.skipped > 0 {
        add(Mark::Degraded, format!("skipped {} malformed objects", snapshot.skipped));
    }
    add(Mark::Ok, if snapshot.leader { "leads".into() } else { "stands by; another replica leads".into() });
    checks
}
