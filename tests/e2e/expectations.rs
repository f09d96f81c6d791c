//! What must be true when a story has been played; the audit log is the oracle for what was written.
use crate::{
    audit::{MARK, Request, is_daemon, touches_template},
    conditions::image_of,
    fail::{Context, Failure, Result},
    runner::Run,
    wait,
    wanted::{Expectation, IncidentExpected},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

impl Run<'_> {
    /// Checks everything and reports every fault, not only the first.
    pub(crate) async fn check_all(&mut self) -> Result<()> {
        self.catch_up_with_the_log().await?;
        let mut faults = Vec::new();
        for expected in &self.story.expect {
            for fault in self.check(expected).await? {
                faults.push(format!("{}: {fault}", expected.workload));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(Failure::new(faults.join("\n  "))) }
    }

    /// The log may lag behind the answers: it is read up to a request that is made now.
    async fn catch_up_with_the_log(&self) -> Result<()> {
        wait::until("the audit log", Duration::from_secs(30), async || {
            // Asked for again and again: a server that restarts logs it in the end, too.
            let _ = self.get(&["deployment", MARK]).await;
            let seen = |r: &Request| r.namespace == self.namespace && r.name == MARK;
            if self.stage.audit.select(seen).is_empty() {
                Err("our own last request is not in it".into())
            } else {
                Ok(())
            }
        })
        .await
    }

    async fn check(&self, expected: &Expectation) -> Result<Vec<String>> {
        let name = &expected.workload;
        let live = self.live(name).await?;
        let template = &live["spec"]["template"];
        let mut faults = Vec::new();
        let mut same = |what: &str, is: Value, wanted: Value| {
            if is != wanted {
                faults.push(format!("{what} is {is} instead of {wanted}"));
            }
        };
        if let Some(image) = &expected.image {
            same("the live image", image_of(template).into(), image.clone().into());
        }
        if let Some(replicas) = expected.replicas {
            same("spec.replicas", live["spec"]["replicas"].clone(), replicas.into());
        }
        if let Some(env) = &expected.env {
            let list: Vec<_> = env.iter().map(|(k, v)| json!({"name": k, "value": v})).collect();
            let is = template["spec"]["containers"][0]["env"].clone();
            same("the environment", if is.is_null() { json!([]) } else { is }, list.into());
        }
        if expected.template_as_remembered {
            let remembered = self.remembered.get(name).context("nothing was remembered")?;
            same("the template", template.clone(), remembered.clone());
        }
        let undos = self.stage.audit.undos(&self.namespace, name);
        if let Some(count) = expected.undos {
            same("the number of undos", undos.len().into(), count.into());
        }
        if let Some(count) = expected.undos_in_namespace {
            let all = self.story.workloads.iter().map(|w| self.stage.audit.undos(&self.namespace, &w.name).len());
            same("the number of undos in the namespace", all.sum::<usize>().into(), count.into());
        }
        let of_this = |r: &Request| r.name == *name;
        if expected.no_writes {
            let writes =
                self.stage.audit.by_daemon(&self.namespace, |r| r.writes_workload() && of_this(r) && !r.dry_run);
            same("the number of writes to the workload", writes.len().into(), 0.into());
        }
        if let Some(count) = expected.evictions {
            let evicted = |r: &Request| r.resource == "pods/eviction" && r.succeeded() && !r.dry_run;
            same(
                "the number of evictions",
                self.stage.audit.by_daemon(&self.namespace, evicted).len().into(),
                count.into(),
            );
        }
        if let Some(least) = expected.pins {
            let pinned = |r: &Request| r.resource == "controllerrevisions" && r.verb == "create" && r.succeeded();
            let pins = self.stage.audit.by_daemon(&self.namespace, pinned).len();
            if pins < least {
                faults.push(format!("{pins} pins instead of at least {least}"));
            }
        }
        if let Some(most) = expected.writes_at_most {
            let writes = self.stage.audit.by_daemon(&self.namespace, Request::is_write).len();
            if writes > most {
                faults.push(format!("{writes} write requests instead of at most {most}"));
            }
        }
        for (channel, phases) in &expected.notices {
            let receiver = self.receiver.as_ref().context("the daemon of this story has no notices")?;
            faults.extend(receiver.faults(channel, phases));
        }
        if let Some(owners) = &expected.template_owners {
            faults.extend(foreign_owners(&live, owners));
        }
        if let Some(image) = &expected.pods_run {
            faults.extend(self.pods_run(name, image).await?);
        }
        let harm = self.stage.world.harm(&self.namespace);
        let bounds = [
            ("first harm", harm.first, expected.undo_within),
            ("the third restart", harm.third_restart, expected.undo_within_of_third_restart),
        ];
        for (since, from, bound) in bounds {
            let Some(bound) = bound else { continue };
            match (from, undos.first()) {
                (Some(from), Some(undo)) => {
                    let took = undo.at.duration_since(from).as_secs_f64();
                    if took > bound.as_secs_f64() {
                        faults
                            .push(format!("the undo came {took:.1} s after {since}, later than {} s", bound.as_secs()));
                    }
                }
                _ => faults.push(format!("no {since} or no undo to measure between")),
            }
        }
        let incidents = self.incidents(name).await?;
        if let Some(count) = expected.incidents
            && incidents.len() != count
        {
            faults.push(format!("{} Incidents instead of {count}", incidents.len()));
        }
        if let Some(wanted) = &expected.incident {
            match incidents.last() {
                Some(last) => faults.extend(check_incident(last, wanted)),
                None => faults.push("there is no Incident".into()),
            }
        }
        if let Some(texts) = &expected.report {
            faults.extend(self.check_report(texts));
        }
        Ok(faults)
    }

    /// Pods on their way out get half a minute.
    async fn pods_run(&self, workload: &str, image: &str) -> Result<Vec<String>> {
        let what = format!("every pod of {workload} runs {image} and is Ready");
        let looked = wait::until(&what, Duration::from_secs(30), async || {
            let list = self.get(&["pods", "-l", &format!("app={workload}")]).await.map_err(|e| e.to_string())?;
            let pods = list["items"].as_array().cloned().unwrap_or_default();
            let wrong = pods.iter().filter(|pod| {
                let ready = pod["status"]["containerStatuses"][0]["ready"] == true;
                image_of(pod) != image || !ready || !pod["metadata"]["deletionTimestamp"].is_null()
            });
            let wrong: Vec<String> = wrong.map(|p| format!("{} with {}", p["metadata"]["name"], image_of(p))).collect();
            match pods.is_empty() {
                true => Err("no pods".into()),
                false if wrong.is_empty() => Ok(()),
                false => Err(wrong.join(", ").into()),
            }
        });
        Ok(looked.await.err().map(|e| e.to_string()).into_iter().collect())
    }

    /// One report tells of this workload and says all texts; none tells of another namespace.
    fn check_report(&self, texts: &[String]) -> Vec<String> {
        let folder = self.folder.join("reports");
        let files = std::fs::read_dir(&folder).into_iter().flatten().filter_map(|e| Some(e.ok()?.path()));
        let reports = files.filter(|f| f.extension().is_some_and(|e| e == "md"));
        let (own, foreign): (Vec<String>, Vec<String>) = reports
            .map(|f| std::fs::read_to_string(f).unwrap_or_default())
            .partition(|text| text.contains(&format!("{}/", self.namespace)));
        let mut faults = Vec::new();
        if !foreign.is_empty() {
            faults.push(format!("{} reports tell of namespaces that this daemon does not watch", foreign.len()));
        }
        let missing = |text: &String| texts.iter().find(|t| !text.contains(t.as_str())).cloned();
        if own.is_empty() {
            faults.push(format!("no report in {}", folder.display()));
        } else if let Some(Some(said_by_none)) = own.iter().map(missing).min() {
            faults.push(format!("the report does not say \"{said_by_none}\""));
        }
        faults
    }

    /// Invariants of every story: what the daemon may write at all, and that it never reads a Secret.
    pub(crate) fn check_writes(&self) -> Vec<String> {
        let audit = &self.stage.audit;
        let mut faults = Vec::new();
        for read in audit.select(|r| is_daemon(&r.user) && r.resource.starts_with("secrets")) {
            faults.push(format!("the daemon asked for Secrets: {} {}/{}", read.verb, read.namespace, read.name));
        }
        for write in audit.by_daemon(&self.namespace, |r| r.is_write() && r.succeeded()) {
            let allowed: &[&str] = match write.resource.as_str() {
                "deployments" | "statefulsets" | "daemonsets" => &["patch"],
                "controllerrevisions" => &["create", "delete"],
                "events" => &["create", "patch"],
                "incidents" | "incidents/status" => &["create", "update", "patch"],
                "pods/eviction" => &["create"],
                // Only where a story has its Lease in its own namespace.
                "leases" => &["create", "update"],
                _ => &[],
            };
            let what = format!("{} {}/{}", write.verb, write.resource, write.name);
            if !allowed.contains(&write.verb.as_str()) {
                faults.push(format!("the daemon may not {what}"));
            } else if write.writes_workload() {
                faults.extend(check_patch(&write.body).into_iter().map(|f| format!("{what}: {f}")));
            }
        }
        faults
    }
}

/// I4 and I5 of one patch: what it tests, and what it changes.
fn check_patch(body: &Value) -> Vec<String> {
    let Some(operations) = body.as_array() else { return vec![format!("is no JSON patch: {body}")] };
    let paths = |op: fn(&Value) -> bool| -> BTreeSet<&str> {
        operations.iter().filter(|o| op(&o["op"])).filter_map(|o| o["path"].as_str()).collect()
    };
    let tested = paths(|op| op == "test");
    let mut faults = Vec::new();
    for operation in operations.iter().filter(|o| o["op"] != "test") {
        let path = operation["path"].as_str().unwrap_or_default();
        let allowed = match path {
            "/spec/template"
            | "/metadata/annotations/lastgood.dev~1undo"
            | "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration" => true,
            // Only to make room for the first annotation.
            "/metadata/annotations" => {
                operation["op"] == "add"
                    && operation["value"].as_object().is_some_and(|m| m.keys().all(|k| k == "lastgood.dev/undo"))
            }
            _ => path.starts_with("/metadata/managedFields"),
        };
        if !allowed {
            faults.push(format!("changes {path}"));
        }
    }
    if touches_template(body) {
        for needed in ["/metadata/uid", "/spec/template"] {
            if !tested.contains(needed) {
                faults.push(format!("does not test {needed}"));
            }
        }
    }
    faults
}

/// Managers beside `owners` that own a field of the template.
fn foreign_owners(live: &Value, owners: &[String]) -> Vec<String> {
    let entries = live["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let of_template = entries.iter().filter(|e| !e["fieldsV1"]["f:spec"]["f:template"].is_null());
    let managers = of_template.filter_map(|e| e["manager"].as_str());
    let foreign = managers.filter(|m| !owners.iter().any(|o| o == m));
    foreign.map(|m| format!("manager {m} owns fields of the template")).collect()
}

fn check_incident(incident: &Value, wanted: &IncidentExpected) -> Vec<String> {
    let (spec, status) = (&incident["spec"], &incident["status"]);
    let mut faults = Vec::new();
    let phase = status["phase"].as_str().unwrap_or("(none)");
    if !wanted.phase.is_empty() && !wanted.phase.iter().any(|p| p == phase) {
        faults.push(format!("the Incident's phase is {phase} ({})", status["message"]));
    }
    let pairs = [
        ("reason", &spec["reason"], &wanted.reason),
        ("bad image", &spec["bad"]["images"][0], &wanted.bad),
        ("target image", &spec["target"]["images"][0], &wanted.target),
    ];
    for (what, is, expected) in pairs {
        if let Some(expected) = expected
            && is != expected.as_str()
        {
            faults.push(format!("the Incident's {what} is {is} instead of \"{expected}\""));
        }
    }
    if let Some(manual) = wanted.manual
        && spec["trigger"]["manual"] != manual
    {
        faults.push(format!("the Incident's trigger is {}", spec["trigger"]));
    }
    let all = incident.to_string().to_lowercase();
    let missing = wanted.says.iter().filter(|t| !all.contains(&t.to_lowercase()));
    faults.extend(
        missing.map(|t| format!("the Incident does not say \"{t}\": {} {}", spec["explanation"], status["journal"])),
    );
    faults
}
