//! `lastgood get`.

use super::{Context, Failure, Output, daemon, exit, machine, resolve::near, style::Table};
use crate::domain::{Snapshot, WorkloadStatus};
use clap::Args;
use std::io::Write;

/// Arguments of `get`.
#[derive(Debug, Args)]
pub(super) struct GetArgs {
    /// Only the workload of this name.
    name: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

pub(super) async fn get(ctx: &Context, args: &GetArgs, out: &mut dyn Write) -> Result<u8, Failure> {
    let snapshot = daemon::snapshot(ctx).await?;
    let mut shown: Vec<&WorkloadStatus> =
        snapshot.workloads.iter().filter(|w| args.all_namespaces || w.workload.namespace == ctx.namespace()).collect();
    if let Some(name) = &args.name {
        let names: Vec<String> = shown.iter().map(|w| w.workload.name.clone()).collect();
        shown.retain(|w| w.workload.name == *name);
        if shown.is_empty() {
            let near = near(name, &names).map(|n| format!("; did you mean \"{n}\"?")).unwrap_or_default();
            return Err(Failure::new(
                exit::ERROR,
                format!("no workload \"{name}\" is watched in {}{near}", ctx.namespace()),
            ));
        }
    }
    if machine(ctx, &serde_json::json!({"apiVersion": "lastgood.dev/v1", "kind": "WorkloadList", "items": shown}), out)?
    {
        return Ok(exit::OK);
    }
    if ctx.global.output == Output::Name {
        shown.iter().try_for_each(|w| writeln!(out, "{}", w.workload))?;
        return Ok(exit::OK);
    }
    write_table(ctx, &snapshot, &shown, out)?;
    for what in &snapshot.degraded {
        writeln!(std::io::stderr(), "degraded: {what}")?;
    }
    if shown.is_empty() {
        let place = if args.all_namespaces { "the cluster".into() } else { format!("namespace {}", ctx.namespace()) };
        writeln!(std::io::stderr(), "no workloads are watched in {place}")?;
    }
    Ok(exit::OK)
}

fn write_table(
    ctx: &Context,
    snapshot: &Snapshot,
    shown: &[&WorkloadStatus],
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let wide = ctx.global.output == Output::Wide;
    let mut heads = vec!["NAMESPACE", "WORKLOAD", "REVISION", "MODE", "VERDICT", "SINCE", "WHY"];
    if wide {
        heads.extend(["POLICY", "OWNER", "IMAGES"]);
    }
    let mut table = Table::new(&heads);
    for w in shown {
        let (verdict, since) = match (&w.recovery, &w.judgement) {
            (Some(recovery), _) => ("undone".to_owned(), w.began.or(Some(recovery.t))),
            (None, Some(judgement)) => (judgement.verdict.to_string(), w.began.or(Some(judgement.t))),
            (None, None) => match &w.late {
                Some(late) => ("pass".to_owned(), Some(late.passed)),
                None => ("-".to_owned(), None),
            },
        };
        let why = w.held_by.clone().or_else(|| w.recovery.as_ref().map(|r| r.explanation.clone()));
        let late = |broken: bool| w.late.as_ref().filter(|late| !broken || late.broken.is_some());
        let why = why.or_else(|| late(true).map(|late| late.explanation.clone()));
        let why = why.or_else(|| w.judgement.as_ref().map(|j| j.explanation.clone()));
        let why = why.or_else(|| late(false).map(|late| late.explanation.clone())).unwrap_or_default();
        let mut row = vec![
            w.workload.namespace.clone(),
            format!("{}/{}", w.workload.kind.as_str().to_lowercase(), w.workload.name),
            w.revision.to_string(),
            w.mode.as_str().to_owned(),
            verdict,
            since.map_or("-".into(), |t| super::style::age(snapshot.t - t)),
            if wide { why } else { crate::report::escape::cut_chars(&why, 80) },
        ];
        if wide {
            row.extend([w.policy.clone(), w.owner.map_or("-".into(), |o| o.to_string()), w.images.join(",")]);
        }
        table.row(row);
    }
    table.print(out, ctx.style, true)
}
