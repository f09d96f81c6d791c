//! `lastgood incident list|show`.

use super::{Context, Failure, Output, exit, machine, resolve::near, style};
use crate::{
    clock::{Clock, seconds},
    record::{Incident, Incidents},
    report::{self, markdown, text},
};
use clap::{Args, Subcommand};
use kube::ResourceExt;
use std::io::Write;

/// Arguments of `incident`.
#[derive(Debug, Args)]
pub(super) struct IncidentArgs {
    #[command(subcommand)]
    command: IncidentCommand,
}

/// What to do with incidents.
#[derive(Debug, Subcommand)]
enum IncidentCommand {
    /// List them, newest first.
    List {
        /// All namespaces.
        #[arg(short = 'A', long)]
        all_namespaces: bool,
    },
    /// Show the report of one.
    Show {
        /// Its name, or a unique part of it.
        name: String,
    },
}

pub(super) async fn incident(ctx: &Context, args: IncidentArgs, out: &mut dyn Write) -> Result<u8, Failure> {
    let reader = |scope: Option<&str>| {
        let scopes: Vec<String> = scope.map(str::to_owned).into_iter().collect();
        Incidents::new(ctx.cluster.reader.clone(), Clock::system(), &scopes)
    };
    match args.command {
        IncidentCommand::List { all_namespaces } => {
            let mut list = reader((!all_namespaces).then(|| ctx.namespace())).all().await?;
            list.sort_by_key(|incident| std::cmp::Reverse(incident.spec.decided));
            write_list(ctx, &list, out)?;
        }
        IncidentCommand::Show { name } => {
            let list = reader(ctx.global.namespace.as_deref()).all().await?;
            let incident = pick(&list, &name)?;
            if !machine(ctx, incident, out)? {
                let context =
                    report::Context { version: env!("CARGO_PKG_VERSION").into(), ..report::Context::default() };
                write!(out, "{}", markdown::render(incident, &context))?;
            }
        }
    }
    Ok(exit::OK)
}

fn pick<'a>(list: &'a [Incident], name: &str) -> Result<&'a Incident, Failure> {
    if let Some(exact) = list.iter().find(|i| i.name_any() == name) {
        return Ok(exact);
    }
    let parts: Vec<&Incident> = list.iter().filter(|i| i.name_any().contains(name)).collect();
    match parts[..] {
        [one] => Ok(one),
        [] => {
            let names: Vec<String> = list.iter().map(ResourceExt::name_any).collect();
            let near = near(name, &names).map(|n| format!("; did you mean \"{n}\"?")).unwrap_or_default();
            Err(Failure::new(exit::ERROR, format!("there is no incident \"{name}\"{near}")))
        }
        _ => {
            let names: Vec<String> = parts.iter().map(|i| i.name_any()).collect();
            Err(Failure::new(exit::USAGE, format!("\"{name}\" fits several: {}", names.join(", "))))
        }
    }
}

fn write_list(ctx: &Context, list: &[Incident], out: &mut dyn Write) -> Result<(), Failure> {
    let items = serde_json::json!({"apiVersion": "lastgood.dev/v1", "kind": "IncidentList", "items": list});
    if machine(ctx, &items, out)? {
        return Ok(());
    }
    if ctx.global.output == Output::Name {
        list.iter().try_for_each(|i| writeln!(out, "{}", i.name_any()))?;
        return Ok(());
    }
    let now = Clock::system().now();
    let mut table = style::Table::new(&["NAMESPACE", "INCIDENT", "OUTCOME", "REASON", "AGE", "WHAT"]);
    for i in list {
        table.row(vec![
            i.namespace().unwrap_or_default(),
            i.name_any(),
            i.status.as_ref().map(|s| s.phase).unwrap_or_default().as_str().to_owned(),
            i.spec.reason.clone(),
            style::age(now - seconds(i.spec.decided)),
            text::headline(i),
        ]);
    }
    table.print(out, ctx.style, true)?;
    if list.is_empty() {
        writeln!(std::io::stderr(), "no incidents")?;
    }
    Ok(())
}
