//! `lastgood history`.

use super::{Context, Failure, exit, machine, resolve::WorkloadArg, style};
use crate::{
    clock::{Clock, seconds},
    cluster::revisions,
    domain::Revision,
    record::{Incidents, Pins},
};
use serde::Serialize;
use std::io::Write;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    revision: Revision,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<i64>,
    images: Vec<String>,
    /// `live`, `passed`, `presumed good`, `bad (errors)`, …
    known: Vec<String>,
    created: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    change_cause: Option<String>,
    object: String,
}

pub(super) async fn history(ctx: &Context, args: &WorkloadArg, out: &mut dyn Write) -> Result<u8, Failure> {
    let view = args.find(ctx).await?;
    let clock = Clock::system();
    let entries = revisions(&ctx.cluster.reader, &view.id, &view.uid, &view.selector).await?;
    let pins = Pins::new(ctx.cluster.reader.clone()).of(&view.id, &view.uid).await?;
    // Without the CRD there is simply nothing known to be bad.
    let incidents = Incidents::new(ctx.cluster.reader.clone(), clock, &[]).of(&view.id.namespace, &view.uid).await;
    let incidents = incidents.unwrap_or_default();
    let known = |revision: &Revision| {
        let mut known = Vec::new();
        if *revision == view.template.revision {
            known.push("live".to_owned());
        }
        known.extend(pins.iter().filter(|p| p.mark.revision == *revision).map(|p| match p.state {
            crate::record::PinState::Passed => "passed".to_owned(),
            crate::record::PinState::Presumed => "presumed good".to_owned(),
            crate::record::PinState::Doubted => "measured beyond its limits".to_owned(),
        }));
        let bad = incidents.iter().filter(|i| i.spec.bad.hash == *revision && !i.spec.trigger.manual);
        known.extend(bad.map(|i| format!("bad ({})", i.spec.reason)));
        known
    };
    let mut rows: Vec<Row> = entries
        .iter()
        .map(|e| Row {
            known: known(&e.mark.revision),
            revision: e.mark.revision.clone(),
            number: Some(e.number),
            images: e.mark.images.clone(),
            created: e.created,
            change_cause: e.change_cause.clone(),
            object: e.object.clone(),
        })
        .collect();
    for pin in &pins {
        if !rows.iter().any(|r| r.revision == pin.mark.revision) {
            rows.push(Row {
                known: known(&pin.mark.revision),
                revision: pin.mark.revision.clone(),
                number: None,
                images: pin.mark.images.clone(),
                created: pin.pinned,
                change_cause: None,
                object: format!("ControllerRevision/{}", pin.object),
            });
        }
    }
    let list = serde_json::json!({"apiVersion": "lastgood.dev/v1", "kind": "RevisionList", "items": rows});
    if machine(ctx, &list, out)? {
        return Ok(exit::OK);
    }
    let mut table = style::Table::new(&["REVISION", "HASH", "IMAGES", "AGE", "KNOWN", "CHANGE CAUSE"]);
    let now = seconds(clock.timestamp());
    for row in rows {
        table.row(vec![
            row.number.map_or("pin".into(), |n| n.to_string()),
            row.revision.to_string(),
            row.images.join(","),
            style::age(now - row.created),
            if row.known.is_empty() { "-".into() } else { row.known.join(", ") },
            row.change_cause.unwrap_or_else(|| "-".into()),
        ]);
    }
    table.print(out, ctx.style, true)?;
    Ok(exit::OK)
}
