//! `lastgood pause` and `resume`: a person says "do not act". Writes annotations and one ConfigMap, with the
//! person's own rights; never a template.

use super::{Context, Failure, exit, resolve::WorkloadArg};
use crate::{
    clock::Clock,
    cluster::{PAUSE_CONFIG_MAP, PAUSE_REASON, PAUSE_UNTIL, WRITE_DEADLINE, raw_api, within},
    config::parse_duration,
    domain::FIELD_MANAGER,
};
use clap::Args;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::{io::Write, time::Duration};

/// What is paused.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Scope {
    /// NAME, KIND/NAME or NAMESPACE/KIND/NAME of one workload.
    #[arg(value_name = "WORKLOAD")]
    workload: Option<String>,
    /// All workloads of the namespace given with -n.
    #[arg(long)]
    all: bool,
    /// The whole cluster.
    #[arg(long)]
    cluster: bool,
}

/// Arguments of `pause`.
#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    scope: Scope,
    /// For how long; without it, until resumed.
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// Why; shown wherever the pause is.
    #[arg(long)]
    reason: String,
}

/// Arguments of `resume`.
#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    scope: Scope,
}

pub(super) async fn pause(ctx: &Context, args: &PauseArgs, out: &mut dyn Write) -> Result<u8, Failure> {
    let until = match args.ttl {
        None => "forever".to_owned(),
        Some(ttl) => {
            let ttl = SignedDuration::try_from(ttl).map_err(|e| Failure::new(exit::USAGE, e.to_string()))?;
            Clock::system().timestamp().checked_add(ttl)?.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
        }
    };
    let what = write(ctx, &args.scope, Some((&until, &args.reason))).await?;
    let until = if args.ttl.is_some() { format!("until {until}") } else { "until resumed".into() };
    writeln!(out, "{what} is paused {until}: nothing is undone there; rollouts are still watched and reported")?;
    Ok(exit::OK)
}

pub(super) async fn resume(ctx: &Context, args: &ResumeArgs, out: &mut dyn Write) -> Result<u8, Failure> {
    let what = write(ctx, &args.scope, None).await?;
    writeln!(out, "{what} is no longer paused")?;
    Ok(exit::OK)
}

async fn write(ctx: &Context, scope: &Scope, pause: Option<(&str, &str)>) -> Result<String, Failure> {
    let (until, reason) = pause.map_or((Value::Null, Value::Null), |(until, reason)| (json!(until), json!(reason)));
    let annotations = json!({"metadata": {"annotations": {PAUSE_UNTIL: until, PAUSE_REASON: reason}}});
    if let Some(workload) = &scope.workload {
        let view = WorkloadArg { workload: workload.clone() }.find(ctx).await?;
        let api = raw_api(&ctx.cluster.writer, &view.id.namespace, view.id.kind.as_str());
        annotate(&api, &view.id.name, &annotations).await?;
        return Ok(view.id.to_string());
    }
    if scope.all {
        let api: Api<DynamicObject> = Api::all_with(ctx.cluster.writer.clone(), &ApiResource::erase::<Namespace>(&()));
        annotate(&api, ctx.namespace(), &annotations).await?;
        return Ok(format!("namespace {}", ctx.namespace()));
    }
    let api: Api<ConfigMap> = Api::namespaced(ctx.cluster.writer.clone(), &ctx.global.daemon_namespace);
    if pause.is_some() {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": PAUSE_CONFIG_MAP},
                         "data": {"until": until, "reason": reason}});
        let params = PatchParams::apply("lastgood-cli").force();
        let apply = async { api.patch(PAUSE_CONFIG_MAP, &params, &Patch::Apply(&map)).await };
        within(WRITE_DEADLINE, "pausing the cluster", apply).await?;
    } else {
        let delete = async { api.delete(PAUSE_CONFIG_MAP, &kube::api::DeleteParams::default()).await };
        match within(WRITE_DEADLINE, "resuming the cluster", delete).await {
            Err(crate::cluster::ReadError::Api { source, .. }) if matches!(source.as_ref(), kube::Error::Api(status) if status.code == 404) =>
                {}
            done => {
                done?;
            }
        }
    }
    Ok("the cluster".into())
}

async fn annotate(api: &Api<DynamicObject>, name: &str, annotations: &Value) -> Result<(), Failure> {
    let params = PatchParams { field_manager: Some(format!("{FIELD_MANAGER}-cli")), ..PatchParams::default() };
    let patch = async { api.patch(name, &params, &Patch::Merge(annotations)).await };
    within(WRITE_DEADLINE, format!("annotating {name}"), patch).await?;
    Ok(())
}
