//! `lastgood explain`.

use super::{Context, Failure, daemon, exit, machine, resolve::WorkloadArg, style};
use crate::{
    clock::{Clock, timestamp},
    cluster::{WorkloadView, revisions},
    domain::{Finding, Judgement, Seconds, Snapshot, WorkloadStatus},
    record::{Incidents, Pins},
};
use std::io::Write;

pub(super) async fn explain(ctx: &Context, args: &WorkloadArg, out: &mut dyn Write) -> Result<u8, Failure> {
    let view = args.find(ctx).await?;
    let snapshot = daemon::snapshot(ctx).await?;
    let Some(status) = snapshot.workloads.iter().find(|w| w.workload == view.id) else {
        return Err(Failure::new(
            exit::ERROR,
            format!("the daemon does not watch {}: is its namespace among `namespaces`?", view.id),
        ));
    };
    if machine(ctx, status, out)? {
        return Ok(exit::OK);
    }
    let judgement = status.judgement.as_ref();
    writeln!(out, "Workload  {}  {}  ({})", view.id, status.images.join(", "), status.revision)?;
    match judgement {
        Some(j) => {
            writeln!(out, "Verdict   {}  {} → {}", j.verdict, j.from, j.to)?;
            writeln!(out, "Why       {}", j.explanation)?;
        }
        None if status.recovery.is_some() => writeln!(out, "Verdict   none: an undo is under watch")?,
        None if status.under_watch => writeln!(out, "Verdict   none yet: a rollout is under watch")?,
        None => writeln!(out, "Verdict   none: no rollout is under watch")?,
    }
    if let Some(recovery) = &status.recovery {
        writeln!(out, "Undo      {}", recovery.explanation)?;
    }
    if let Some(late) = &status.late {
        writeln!(out, "Later     {}", late.explanation)?;
        if let Some(since) = late.broken {
            writeln!(out, "          passed at {}, broken since {}", clock_time(late.passed), clock_time(since))?;
        }
    }
    write_rest(ctx, &view, &snapshot, status, judgement, out).await?;
    Ok(exit::OK)
}

async fn write_rest(
    ctx: &Context,
    view: &WorkloadView,
    snapshot: &Snapshot,
    status: &WorkloadStatus,
    judgement: Option<&Judgement>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if let Some(until) = status.watch_until.filter(|_| status.recovery.is_none()) {
        match status.late_until.filter(|_| until < snapshot.t) {
            Some(late) => {
                writeln!(out, "Watch     over since {}, looked at until {}", clock_time(until), clock_time(late))?;
            }
            None => writeln!(out, "Watch     until {} at the earliest", clock_time(until))?,
        }
    }
    let held = status.held_by.as_deref().map(|h| format!(", held: {h}")).unwrap_or_default();
    let owner = status.owner.map(|o| format!(", owned by {o}")).unwrap_or_default();
    writeln!(out, "Mode      {} (policy {}){owner}{held}", status.mode.as_str(), status.policy)?;
    for (name, source) in &snapshot.sources {
        let reason = source.reason.as_deref().unwrap_or("");
        writeln!(
            out,
            "Source    {} {name} {reason}",
            ctx.style.mark(if source.ok { style::Mark::Good } else { style::Mark::Warning })
        )?;
    }
    if let Some(j) = judgement.filter(|j| !j.findings.is_empty()) {
        writeln!(out)?;
        let mut table =
            style::Table::new(&["SIGNAL", "SEEN BY", "NEW", "OLD PODS NOW", "BEFORE", "LIMIT", "LOG E", "SAYS"]);
        j.findings.iter().for_each(|f| table.row(finding(f)));
        table.print(out, ctx.style, true)?;
        for f in j.findings.iter() {
            if let Some(condition) = &f.would_pass_if {
                writeln!(out, "{} ({}) would pass if {condition}", f.signal, f.stream)?;
            }
        }
        writeln!(
            out,
            "(LOG E: accumulated evidence; 9.21 convicts, which is 1 false alarm in 10000 clean rollouts at most; half of it \
             with a second signal)"
        )?;
    }
    let incidents = Incidents::new(ctx.cluster.reader.clone(), Clock::system(), &[]);
    if let Ok(mut of) = incidents.of(&view.id.namespace, &view.uid).await {
        of.sort_by_key(|incident| std::cmp::Reverse(incident.spec.decided));
        if let Some(incident) = of.first() {
            writeln!(out, "\nIncident  {}", crate::report::text::paragraph(incident))?;
        }
    }
    let entries = revisions(&ctx.cluster.reader, &view.id, &view.uid, &view.selector).await?;
    let pins = Pins::new(ctx.cluster.reader.clone()).of(&view.id, &view.uid).await.unwrap_or_default();
    let live = pins.iter().find(|p| p.mark.revision == view.template.revision);
    let good = live.or_else(|| pins.first());
    match good {
        Some(pin) => {
            writeln!(out, "Last good {} ({}, {})", pin.mark.images.join(", "), pin.mark.revision, pin.state.as_str())?;
        }
        None => writeln!(out, "Last good none known yet; {} revisions in history", entries.len())?,
    }
    Ok(())
}

fn clock_time(t: Seconds) -> String {
    timestamp(t).strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

fn finding(f: &Finding) -> Vec<String> {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    vec![
        f.signal.clone(),
        f.stream.clone(),
        f.new.clone(),
        or_dash(&f.old),
        or_dash(&f.before),
        or_dash(&f.limit),
        f.log_e.map_or("-".into(), |l| format!("{l:.2}")),
        f.says.clone(),
    ]
}
