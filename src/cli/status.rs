//! `lastgood status`: like `kubectl rollout status`, and whether the new revision is any good.

use super::{Context, Failure, daemon, exit, machine, resolve::WorkloadArg};
use crate::{
    clock::Clock,
    cluster::{WorkloadView, get_view},
    config::parse_duration,
    domain::{Revision, Verdict, WorkloadStatus},
    record::{Incidents, Phase},
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
    #[arg(long, value_parser = parse_duration, default_value = "35m")]
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
    loop {
        let view = get_view(&ctx.cluster.reader, &first.id).await?;
        let known = daemon::snapshot(ctx).await;
        let of = known.as_ref().ok().and_then(|s| s.workloads.iter().find(|w| w.workload == view.id));
        let standing = standing(ctx, &view, &asked, of).await;
        if standing.decided || !args.wait {
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
            return Err(Failure::new(exit::TIMEOUT, format!("not decided in time: {said}")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn standing(ctx: &Context, view: &WorkloadView, asked: &Revision, of: Option<&WorkloadStatus>) -> Standing {
    let is = |decided, code, text: String| Standing { text, code, decided };
    if view.template.revision != *asked {
        let incidents = Incidents::new(ctx.cluster.reader.clone(), Clock::system(), &[]);
        let undone = incidents.of(&view.id.namespace, &view.uid).await.unwrap_or_default();
        let undone =
            undone.iter().find(|i| i.spec.bad.hash == *asked && i.status.as_ref().is_some_and(|s| s.applied.is_some()));
        return match undone {
            Some(incident) => {
                let phase = incident.status.as_ref().map(|s| s.phase).unwrap_or_default();
                is(phase != Phase::Applied, exit::ROLLED_BACK, text::headline(incident))
            }
            None => {
                is(true, exit::ERROR, format!("{} was replaced by a newer deploy, {}", asked, view.template.revision))
            }
        };
    }
    let p = &view.progress;
    let moved = format!("{} of {} pods are updated, {} available", p.updated, p.desired, p.available);
    let judgement = of.and_then(|w| w.judgement.as_ref()).filter(|j| j.to == *asked);
    match judgement.map(|j| (j.verdict, &j.explanation)) {
        Some((Verdict::Pass, why)) => is(true, exit::OK, format!("passed: {why}")),
        Some((Verdict::Fail(_), why)) => {
            is(of.is_none_or(|w| w.mode != crate::domain::Mode::Act), exit::UNHEALTHY, format!("bad: {why}"))
        }
        Some((Verdict::Hold(_), why)) => is(false, exit::UNHEALTHY, format!("held: {why}")),
        Some((Verdict::Unknown(_), why)) => is(false, exit::BLIND, format!("cannot tell: {why} ({moved})")),
        Some((Verdict::Watching, why)) => is(false, exit::OK, format!("watching: {why} ({moved})")),
        None if p.deadline_exceeded => {
            is(true, exit::UNHEALTHY, format!("stuck: the progress deadline is exceeded ({moved})"))
        }
        None if of.is_none() => is(p.complete(), exit::BLIND, format!("Lastgood does not judge it ({moved})")),
        None if p.complete() => is(true, exit::OK, format!("no rollout is under watch ({moved})")),
        None => is(false, exit::OK, format!("rolling out: {moved}")),
    }
}
