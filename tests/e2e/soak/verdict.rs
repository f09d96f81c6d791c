//! The invariants, when everything has come to its end.
use crate::{conditions::image_of, fail::Result, runner::Run};
use serde_json::Value;
use std::collections::BTreeMap;

/// Phases from which an Incident does not go on.
const ENDS: [&str; 6] = ["Reported", "Verified", "Unproven", "DidNotHelp", "Superseded", "Failed"];

/// What is still going on: open Incidents (I7), and bad revisions that nobody has noticed.
pub(super) async fn unfinished(run: &Run<'_>, deployed: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let mut open = Vec::new();
    let incidents = incidents(run).await?;
    for incident in &incidents {
        let phase = incident["status"]["phase"].as_str().unwrap_or("none");
        if !ENDS.contains(&phase) {
            open.push(format!("{} is {phase}", incident["metadata"]["name"]));
        }
    }
    for (workload, image) in deployed.iter().filter(|(_, image)| !image.contains(":ok-")) {
        let live = run.live(workload).await?;
        let noticed = incidents.iter().any(|i| i["spec"]["bad"]["images"][0] == image.as_str());
        if image_of(&live["spec"]["template"]) == image && !noticed {
            open.push(format!("{workload} runs {image}, and there is no Incident"));
        }
    }
    Ok(open)
}

/// Workloads whose rollouts are held because others show the same fault.
pub(super) fn held(snapshot: &str) -> Vec<String> {
    let snapshot: Value = serde_json::from_str(snapshot).unwrap_or_default();
    let shared = |w: &&Value| w["judgement"]["verdict"] == "hold" && w["judgement"]["reason"] == "shared";
    let name = |w: &Value| Some(w["workload"].as_str()?.rsplit('/').next()?.to_owned());
    snapshot["workloads"].as_array().into_iter().flatten().filter(shared).filter_map(name).collect()
}

/// A StatefulSet never replaces a pod of an earlier revision that will not be Ready. Where it was the team that went
/// on to another version, it is not for Lastgood to do so: a person deletes that pod, as `explain` says.
pub(super) async fn clear_the_way(run: &Run<'_>) -> Result<()> {
    for workload in run.story.workloads.iter().filter(|workload| workload.kind == "StatefulSet") {
        let wanted = &run.live(&workload.name).await?["status"]["updateRevision"];
        for pod in
            run.get(&["pods", "-l", &format!("app={}", workload.name)]).await?["items"].as_array().into_iter().flatten()
        {
            let waiting = pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str();
            let stuck = matches!(waiting, Some("ImagePullBackOff" | "ErrImagePull" | "CrashLoopBackOff"));
            if stuck && pod["metadata"]["labels"]["controller-revision-hash"] != *wanted {
                let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                println!("a person deletes {name}, which is in the way");
                run.kubectl(&["delete", "pod", name, "--wait=false"]).await?;
            }
        }
    }
    Ok(())
}

/// Everything that is wrong at the end.
pub(super) async fn faults(run: &Run<'_>, deployed: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let mut faults = unfinished(run, deployed).await?;
    let incidents = incidents(run).await?;
    let ids: Vec<&str> = incidents.iter().filter_map(|i| i["status"]["undoId"].as_str()).collect();
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for workload in &run.story.workloads {
        for undo in run.stage.audit.undos(&run.namespace, &workload.name) {
            let tested = |path: &str| operation(&undo.body, "test", path)["value"].to_string();
            // I1: one applied undo per uid and bad template.
            *seen.entry(format!("{} {}", tested("/metadata/uid"), tested("/spec/template"))).or_default() += 1;
            let mark = &operation(&undo.body, "add", "/metadata/annotations/lastgood.dev~1undo")["value"];
            let id = mark.as_str().and_then(|m| m.rsplit('/').next()).unwrap_or_default();
            if !ids.contains(&id) {
                faults.push(format!("{} was written to outside of an undo that an Incident tells of", workload.name));
            }
        }
    }
    let twice = seen.values().filter(|n| **n > 1).count();
    if twice > 0 {
        faults.push(format!("{twice} bad revisions were undone more than once"));
    }
    println!("{} Incidents, {} undos; phases: {:?}", incidents.len(), seen.values().sum::<u32>(), phases(&incidents));
    Ok(faults)
}

async fn incidents(run: &Run<'_>) -> Result<Vec<Value>> {
    Ok(run.get(&["incidents.lastgood.dev"]).await?["items"].as_array().cloned().unwrap_or_default())
}

fn phases(incidents: &[Value]) -> BTreeMap<&str, u32> {
    let mut phases = BTreeMap::new();
    for incident in incidents {
        *phases.entry(incident["status"]["phase"].as_str().unwrap_or("none")).or_default() += 1;
    }
    phases
}

fn operation<'a>(patch: &'a Value, op: &str, path: &str) -> &'a Value {
    let found = patch.as_array().into_iter().flatten().find(|o| o["op"] == op && o["path"] == path);
    found.unwrap_or(&Value::Null)
}
