//! `lastgood status`: like `kubectl rollout status`, and whether the new revision is any good.

use super::{Context, Failure, daemon, exit, machine, resolve::WorkloadArg};
use crate::{
    clock::Clock,
    cluster::{WorkloadView, get_view},
    config::parse_wait,
    domain::{RecoveryState, Revision, Verdict, WorkloadStatus},
    record::{Incident, Incidents, Phase},
    report::text,
};
use clap::Args;
use std::{io::Write, time::Duration};
use tokio::time::Instant;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    workload: WorkloadArg,
    /// Wait until the rollout is decided: passed, bad, or undone.
    #[arg(long)]
    wait: bool,
    /// How long to wait.
    #[arg(long, value_parser = parse_wait, default_value = "35m")]
    timeout: Duration,
}

/// Where a rollout stands.
struct Standing {
    text: String,
    code: u8,
    decided: bool,
}

pub(super) async fn status(ctx: &Context, args: &StatusArgs, out: &mut dyn Write) -> Result<u8, Failure> {
    let first = args.workload.find(ctx).await?;
    let asked = first.template.revision.clone();
    let deadline = Instant::now() + args.timeout;
    let mut said = String::new();
    // What the daemon knew before this command began may be from before the deploy that is asked about.
    let since = Clock::system().now() + 1.0;
    loop {
        let view = get_view(&ctx.cluster.reader, &first.id).await?;
        let known = daemon::snapshot(ctx).await;
        let of = known.as_ref().ok().and_then(|s| s.workloads.iter().find(|w| w.workload == view.id));
        let standing = standing(ctx, &view, &asked, of).await;
        let fresh = known.as_ref().map_or(true, |s| s.t > since);
        if (standing.decided && fresh) || !args.wait {
            let shown = serde_json::json!({"workload": view.id, "revision": asked, "status": standing.text,
                "exitCode": standing.code, "judgement": of.and_then(|w| w.judgement.clone())});
            if !machine(ctx, &shown, out)? {
                writeln!(out, "{}", standing.text)?;
            }
            return Ok(standing.code);
        }
        if standing.text != said {
            writeln!(std::io::stderr(), "{}", standing.text)?;
            said = standing.text;
        }
        if Instant::now() >= deadline {
            let open = [exit::UNHEALTHY, exit::BLIND].contains(&standing.code);
            let code = if open { standing.code } else { exit::TIMEOUT };
            return Err(Failure::new(code, format!("not decided in time: {said}")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn standing(ctx: &Context, view: &WorkloadView, asked: &Revision, of: Option<&WorkloadStatus>) -> Standing {
    let is = |decided, code, text: String| Standing { text, code, decided };
    if view.template.revision != *asked {
        let undone = of_revision(ctx, view, asked).await;
        let undone = undone.filter(|i| i.status.as_ref().is_some_and(|s| s.applied.is_some()));
        return match undone {
            Some(incident) => {
                let phase = incident.status.as_ref().map(|s| s.phase).unwrap_or_default();
                is(phase != Phase::Applied, exit::ROLLED_BACK, text::headline(&incident))
            }
            None => {
                is(true, exit::ERROR, format!("{} was replaced by a newer deploy, {}", asked, view.template.revision))
            }
        };
    }
    let p = &view.progress;
    let moved = format!("{} of {} pods are updated, {} available", p.updated, p.desired, p.available);
    if let Some(recovery) = of.and_then(|w| w.recovery.as_ref()).filter(|r| r.target == *asked) {
        let code = if recovery.state == RecoveryState::DidNotHelp { exit::UNHEALTHY } else { exit::OK };
        return is(
            recovery.state != RecoveryState::Waiting,
            code,
            format!("restored by an undo: {}", recovery.explanation),
        );
    }
    let late = of.and_then(|w| w.late.as_ref()).filter(|late| late.revision == *asked);
    if let Some(late) = late.filter(|late| late.broken.is_some()) {
        return is(true, exit::UNHEALTHY, format!("broke later: {}", late.explanation));
    }
    let judgement = of.and_then(|w| w.judgement.as_ref()).filter(|j| j.to == *asked);
    match judgement.map(|j| (j.verdict, &j.explanation)) {
        Some((Verdict::Pass, why)) => is(true, exit::OK, format!("passed: {why}")),
        Some((Verdict::Fail(_), why)) => match of_revision(ctx, view, asked).await {
            // The last word is said: a gate stands in the way, or the undo has ended.
            Some(incident) => {
                let phase = incident.status.as_ref().map(|s| s.phase).unwrap_or_default();
                is(phase.is_final(), exit::UNHEALTHY, format!("bad: {why} {}", text::headline(&incident)))
            }
            None => is(false, exit::UNHEALTHY, format!("bad: {why}")),
        },
        Some((Verdict::Hold(_), why)) => is(false, exit::UNHEALTHY, format!("held: {why}")),
        Some((Verdict::Unknown(_), why)) => is(false, exit::BLIND, format!("cannot tell: {why} ({moved})")),
        Some((Verdict::Watching, why)) => is(false, exit::OK, format!("watching: {why} ({moved})")),
        None if late.is_some() => is(true, exit::OK, format!("passed: {}", late.map_or("", |late| &late.explanation))),
        None if p.deadline_exceeded => {
            is(true, exit::UNHEALTHY, format!("stuck: the progress deadline is exceeded ({moved})"))
        }
        None if of.is_none() => is(p.complete(), exit::BLIND, format!("Lastgood does not judge it ({moved})")),
        None if of.is_some_and(|w| w.under_watch || w.revision != *asked) => {
            is(false, exit::OK, format!("watching: nothing is said yet ({moved})"))
        }
        None if p.complete() => is(true, exit::OK, format!("no rollout is under watch ({moved})")),
        None => is(false, exit::OK, format!("rolling out: {moved}")),
    }
}

/// The latest incident of one revision of a workload.
async fn of_revision(ctx: &Context, view: &WorkloadView, revision: &Revision) -> Option<Incident> {
    let incidents = Incidents::new(ctx.cluster.reader.clone(), Clock::system(), &[]);
    let of = incidents.of(&view.id.namespace, &view.uid).await.unwrap_or_default();
    of.into_iter().filter(|i| i.spec.bad.hash == *revision).max_by_key(|i| i.spec.decided)
}
