//! `lastgood undo`.

use super::{Context, Failure, daemon, exit, machine, resolve::WorkloadArg};
use crate::{
    clock::Clock,
    cluster::WorkloadView,
    config::parse_wait,
    domain::{Revision, Rules, Verdict},
    executor::{Choice, Executor, Gate, Prepared, UndoError, UndoRequest},
    record::{Incident, Leadership, Phase, Trigger},
    report::text,
};
use clap::Args;
use serde_json::Value;
use std::{
    io::{BufRead, IsTerminal, Write},
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc;

/// Arguments of `undo`.
#[derive(Debug, Args)]
pub(super) struct UndoArgs {
    #[command(flatten)]
    workload: WorkloadArg,
    /// Go to this revision, by the number that `history` shows now.
    #[arg(long, value_name = "NUMBER", conflicts_with = "to")]
    to_revision: Option<i64>,
    /// Go to this revision, by its hash.
    #[arg(long, value_name = "HASH")]
    to: Option<String>,
    /// Why; kept in the incident.
    #[arg(long)]
    reason: Option<String>,
    /// Show the exact patch and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Undo a workload that is healthy.
    #[arg(long)]
    force_healthy: bool,
    /// Show values in the patch of --dry-run -o json, too: they can be secrets.
    #[arg(long)]
    show_values: bool,
    /// How long to wait for the restored revision.
    #[arg(long, value_parser = parse_wait, default_value = "10m")]
    timeout: Duration,
}

pub(super) async fn undo(ctx: &Context, args: &UndoArgs, out: &mut dyn Write) -> Result<u8, Failure> {
    let view = args.workload.find(ctx).await?;
    if view.progress.complete() && !args.force_healthy && !args.dry_run {
        refuse_healthy(ctx, &view).await?;
    }
    let (tx, mut outcomes) = mpsc::channel(8);
    let clock = Clock::system();
    let environment = view.id.namespace.clone();
    let executor = Executor::new(ctx.cluster.clone(), Leadership::alone(), clock, environment, tx, None);
    let request = request(args, &view);

    let prepared = executor.rehearse(&request).await.map_err(|e| failure(&e))?;
    if args.dry_run {
        return dry_run(ctx, &view, &prepared, args.show_values, out);
    }
    let from = view.template.images.join(", ");
    writeln!(
        std::io::stderr(),
        "{} {from} → {} ({}: {})",
        view.id,
        prepared.target.mark.images.join(", "),
        prepared.target.mark.revision,
        prepared.target.why
    )?;
    if !args.yes && !confirmed()? {
        writeln!(std::io::stderr(), "nothing was done")?;
        return Ok(exit::REFUSED);
    }
    let progress = tokio::spawn(async move {
        while let Some(incident) = outcomes.recv().await {
            let _ = writeln!(std::io::stderr(), "{}", text::headline(&incident));
        }
    });
    let incident = executor.undo(request).await.map_err(|e| failure(&e))?;
    drop(executor);
    let _ = progress.await;
    if !machine(ctx, &incident, out)? {
        writeln!(out, "{}", text::paragraph(&incident))?;
    }
    Ok(code(&incident))
}

fn request(args: &UndoArgs, view: &WorkloadView) -> UndoRequest {
    let mut rules = Rules::default();
    rules.undo.verify_within = args.timeout;
    rules.undo.evict_stuck_pods = true;
    UndoRequest {
        id: view.id.clone(),
        uid: view.uid.clone(),
        bad: view.template.revision.clone(),
        from: None,
        rules: Arc::new(rules),
        judgement: None,
        began: None,
        by: Trigger { by: person(), manual: true, note: args.reason.clone() },
        choice: match (args.to_revision, &args.to) {
            (Some(number), _) => Choice::Number(number),
            (None, Some(hash)) => Choice::Revision(Revision(hash.clone())),
            (None, None) => Choice::LastGood,
        },
    }
}

/// A workload that is complete, and of which no verdict says that it is bad, is not undone by mistake.
async fn refuse_healthy(ctx: &Context, view: &WorkloadView) -> Result<(), Failure> {
    let verdict = daemon::snapshot(ctx)
        .await
        .ok()
        .and_then(|s| s.workloads.into_iter().find(|w| w.workload == view.id))
        .and_then(|w| w.judgement)
        .filter(|j| j.to == view.template.revision)
        .map(|j| j.verdict);
    if matches!(verdict, Some(Verdict::Fail(_) | Verdict::Hold(_))) {
        return Ok(());
    }
    let said = verdict.map_or("no verdict speaks against it".into(), |v| format!("the verdict is {v}"));
    let text = format!(
        "{} is fully rolled out and available, and {said}; add --force-healthy to undo it all the same",
        view.id
    );
    Err(Failure::new(exit::REFUSED, text))
}

fn dry_run(
    ctx: &Context,
    view: &WorkloadView,
    prepared: &Prepared,
    values: bool,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let shown = serde_json::json!({
        "workload": view.id, "from": view.template.revision, "to": prepared.target.mark.revision,
        "images": prepared.target.mark.images, "object": prepared.target.object, "why": prepared.target.why,
        "patch": if values { prepared.plan.patch.clone() } else { masked(&prepared.plan.patch) }, "unchecked": prepared.unchecked, "leftovers": prepared.plan.leftovers,
    });
    if machine(ctx, &shown, out)? {
        return Ok(exit::OK);
    }
    writeln!(
        out,
        "{} would go from {} to {}",
        view.id,
        view.template.images.join(", "),
        prepared.target.mark.images.join(", ")
    )?;
    writeln!(out, "Target    {} ({}): {}", prepared.target.object, prepared.target.mark.revision, prepared.target.why)?;
    writeln!(out, "Checked   the API server accepts the patch and would change the template and our annotation only")?;
    if !prepared.unchecked.is_empty() {
        writeln!(out, "Unchecked {}", prepared.unchecked.join(", "))?;
    }
    for operation in prepared.plan.patch.as_array().into_iter().flatten() {
        // Values can hold secrets; -o json shows them to whoever asks for them.
        writeln!(out, "  {} {}", operation["op"].as_str().unwrap_or("?"), operation["path"].as_str().unwrap_or("?"))?;
    }
    writeln!(out, "Nothing was written.")?;
    Ok(exit::OK)
}

/// The patch without what could be a secret: the values of environment variables, arguments, and kubectl's copy.
fn masked(patch: &Value) -> Value {
    fn mask(value: &Value) -> Value {
        match value {
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| {
                    let secret = matches!(key.as_str(), "value" | "args" | "command") && !value.is_object();
                    (key.clone(), if secret { Value::from("(hidden)") } else { mask(value) })
                })
                .collect(),
            Value::Array(items) => items.iter().map(mask).collect(),
            scalar => scalar.clone(),
        }
    }
    mask(patch)
}

/// Asks on the terminal; without one, nobody can answer and nothing is done.
fn confirmed() -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(exit::USAGE, "there is no terminal to ask on; add -y to go ahead"));
    }
    write!(std::io::stderr(), "Undo? [y/N] ")?;
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn person() -> String {
    std::env::var("USER").ok().filter(|u| !u.is_empty()).unwrap_or_else(|| "somebody".into())
}

fn failure(error: &UndoError) -> Failure {
    match error {
        UndoError::Blocked(blocked, _) if blocked.gate == Gate::NoTarget => {
            let text =
                format!("{}. `lastgood history` shows all revisions; choose one with --to-revision", blocked.why);
            Failure::new(exit::REFUSED, text)
        }
        UndoError::Blocked(blocked, _) => Failure::new(exit::REFUSED, blocked.why.clone()),
        UndoError::Failed(why) => Failure::new(exit::ERROR, why.clone()),
    }
}

fn code(incident: &Incident) -> u8 {
    match incident.status.as_ref().map(|s| s.phase).unwrap_or_default() {
        Phase::Verified | Phase::Unproven => exit::OK,
        Phase::DidNotHelp => exit::UNHEALTHY,
        Phase::Superseded => exit::REFUSED,
        _ => exit::ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_dry_run_hides_what_could_be_a_secret() {
        let patch = json!([
            {"op": "test", "path": "/metadata/uid", "value": "u"},
            {"op": "replace", "path": "/spec/template", "value": {"spec": {"containers": [
                {"name": "c", "image": "x:1", "args": ["--token=canary"], "env": [{"name": "A", "value": "canary"}]}]}}},
            {"op": "replace", "path": "/metadata/annotations/last", "value": "canary"},
        ]);
        let shown = masked(&patch).to_string();
        assert!(!shown.contains("canary") && shown.contains("x:1") && shown.contains("\"A\""), "{shown}");
    }
}
