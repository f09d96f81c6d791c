//! What a story waits for, or makes sure does not happen.
use crate::{
    audit::Request,
    fail::{Result, bail},
    receiver::Notice,
    runner::Run,
    wait::{self, Missing},
    wanted::{Condition, Pods, VerdictIs},
};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{Instant, sleep};

/// Requests seen when a step began, by workload.
type Before = BTreeMap<String, u64>;

impl Run<'_> {
    pub(crate) async fn wait(&mut self, condition: &Condition) -> Result<()> {
        let what = describe(condition);
        let before = self.before();
        let since = Instant::now();
        wait::until(&what, condition.within, async || self.holds(condition, &before).await).await?;
        self.tell(&format!("seen after {:.0} s: {what}", since.elapsed().as_secs_f64()));
        Ok(())
    }

    pub(crate) async fn never(&mut self, condition: &Condition) -> Result<()> {
        let what = describe(condition);
        let before = self.before();
        let end = Instant::now() + condition.within;
        while Instant::now() < end {
            if self.holds(condition, &before).await.is_ok() {
                bail!("happened, and must not: {what}");
            }
            sleep(Duration::from_millis(500)).await;
        }
        self.tell(&format!("not seen for {} s: {what}", condition.within.as_secs()));
        Ok(())
    }

    fn before(&self) -> Before {
        self.loads.iter().map(|(name, load)| (name.clone(), load.seen.total())).collect()
    }

    async fn holds(&mut self, condition: &Condition, before: &Before) -> Result<(), Missing> {
        let c = condition;
        // A daemon that died where the story does not expect it would only show as a late time-out.
        if c.ended.is_none() {
            for (name, daemon) in &mut self.daemons {
                if let Some(status) = daemon.ended() {
                    return Err(Missing::for_ever(format!("daemon {name} has ended ({status})")));
                }
            }
        }
        if let Some(name) = &c.rolled_out {
            let kind = self.kind(name).map_err(|e| e.to_string())?;
            let target = format!("{kind}/{name}");
            let said =
                self.kubectl(&["rollout", "status", &target, "--watch=false"]).await.map_err(|e| e.to_string())?;
            let done = ["successfully rolled out", "roll out complete", "rolling update complete"];
            if said.code != 0 || !done.iter().any(|d| said.out.contains(d)) {
                return Err((said.out + &said.err).into());
            }
        }
        if let Some(wanted) = &c.requests {
            let seen = self.loads.get(&wanted.workload).ok_or("that workload has no load")?.seen.total();
            let new = seen - before.get(&wanted.workload).copied().unwrap_or(0);
            if new < wanted.at_least {
                return Err(format!("{new} requests").into());
            }
        }
        if let Some(pods) = &c.pods {
            self.pods_are(pods).await?;
        }
        if let Some(wanted) = &c.image {
            let live = self.live(&wanted.workload).await.map_err(|e| e.to_string())?;
            let image = image_of(&live["spec"]["template"]);
            if image != wanted.is {
                return Err(format!("image {image}").into());
            }
        }
        if let Some(wanted) = &c.incident {
            let all = self.incidents(&wanted.workload).await.map_err(|e| e.to_string())?;
            let last = all.last().ok_or("no Incident")?;
            let phase = last["status"]["phase"].as_str().unwrap_or("(no phase)");
            if !wanted.phase.is_empty() && !wanted.phase.iter().any(|p| p == phase) {
                return Err(format!("phase {phase}: {}", last["status"]["message"]).into());
            }
        }
        if let Some(name) = &c.undone
            && self.stage.audit.undos(&self.namespace, name).is_empty()
        {
            return Err("no undo".into());
        }
        if let Some(wanted) = &c.verdict {
            self.verdict_is(wanted).await?;
        }
        if let Some(wanted) = &c.prometheus {
            let query = wanted.query.replace("NAMESPACE", &self.namespace);
            let samples = self.stage.plane.query(&query).await.map_err(|e| e.to_string())?;
            if !samples.iter().any(|(_, value)| *value >= wanted.at_least) {
                return Err(format!("{samples:?}").into());
            }
        }
        if let Some(text) = &c.log {
            let daemon = self.daemon("main").map_err(|e| e.to_string())?;
            if !daemon.log_text().contains(text) {
                return Err("not in the log".into());
            }
        }
        if let Some(name) = &c.ended {
            let daemon = self.daemon(name).map_err(|e| e.to_string())?;
            if daemon.ended().is_none() {
                return Err("it still runs".into());
            }
            self.daemons.remove(name);
        }
        if let Some(name) = &c.stopped {
            let state = self.daemon(name).map_err(|e| e.to_string())?.figures().map_err(|e| e.to_string())?.state();
            if state != Some('T') {
                return Err(format!("its state is {state:?}").into());
            }
        }
        if let Some(wanted) = &c.notice {
            let got = self.receiver.as_ref().ok_or("the daemon of this story has no notices")?.got();
            let is = |n: &&Notice| n.channel == wanted.channel && wanted.phase.as_ref().is_none_or(|p| n.phase() == p);
            let count = got.iter().filter(is).count();
            if count < wanted.at_least {
                return Err(format!("{count} notices").into());
            }
        }
        if let Some(wanted) = &c.relisted {
            let of = |r: &Request| r.relists && r.resource == wanted.resource;
            let count = self.stage.audit.by_daemon(&self.namespace, of).len();
            if count < wanted.at_least {
                return Err(format!("{count} watches from the beginning").into());
            }
        }
        if let Some(wanted) = &c.answered {
            let count = self.stage.audit.by_daemon(&self.namespace, |r| r.code == wanted.code).len();
            if count < wanted.at_least {
                return Err(format!("{count} answers").into());
            }
        }
        if let Some(wanted) = &c.serves {
            let listen = self.daemon("main").map_err(|e| e.to_string())?.listen;
            let url = format!("http://{listen}{}", wanted.path);
            let answer = self.stage.plane.http.get(url).send().await.map_err(|e| e.to_string())?;
            let code = answer.status().as_u16();
            let text = answer.text().await.map_err(|e| e.to_string())?;
            if !text.contains(&wanted.text) || wanted.code.is_some_and(|wanted| wanted != code) {
                return Err(format!("it says {}", text.chars().take(300).collect::<String>()).into());
            }
        }
        if let Some(wanted) = &c.event {
            let list = self.get(&["events.events.k8s.io"]).await.map_err(|e| e.to_string())?;
            let about = |e: &&Value| e["regarding"]["name"] == wanted.workload.as_str();
            let events = list["items"].as_array().into_iter().flatten().filter(about);
            let matches = |e: &Value| {
                wanted.reason.as_ref().is_none_or(|r| e["reason"] == r.as_str())
                    && wanted.text.as_ref().is_none_or(|t| e["note"].as_str().is_some_and(|n| n.contains(t)))
            };
            let found: Vec<_> = events.collect();
            if !found.iter().any(|e| matches(e)) {
                let reasons: Vec<_> = found.iter().map(|e| e["reason"].to_string()).collect();
                return Err(format!("Events {}", reasons.join(", ")).into());
            }
        }
        Ok(())
    }

    async fn pods_are(&self, wanted: &Pods) -> Result<(), String> {
        let selector = format!("app={}", wanted.workload);
        let list = self.get(&["pods", "-l", &selector]).await.map_err(|e| e.to_string())?;
        let items: Vec<Value> = list["items"].as_array().cloned().unwrap_or_default();
        let matching = items.iter().filter(|pod| {
            let container = &pod["status"]["containerStatuses"][0];
            wanted.image.as_ref().is_none_or(|i| image_of(pod) == *i)
                && wanted.waiting.as_ref().is_none_or(|w| container["state"]["waiting"]["reason"] == w.as_str())
                && wanted.ready.is_none_or(|r| container["ready"] == r)
                && wanted.restarts.is_none_or(|r| container["restartCount"].as_i64().is_some_and(|n| n >= r))
        });
        let count = matching.count();
        if count >= wanted.at_least { Ok(()) } else { Err(format!("{count} of {} pods", items.len())) }
    }

    /// What the daemon says of a workload, as `lastgood get` would show it.
    async fn verdict_is(&mut self, wanted: &VerdictIs) -> Result<(), String> {
        let listen = self.daemon("main").map_err(|e| e.to_string())?.listen;
        let kind = self.kind(&wanted.workload).map_err(|e| e.to_string())?;
        let url = format!("http://{listen}/api/v1/workloads/{}/{kind}/{}", self.namespace, wanted.workload);
        let answer = self.stage.plane.http.get(url).send().await.map_err(|e| e.to_string())?;
        let text = answer.text().await.map_err(|e| e.to_string())?;
        let found: Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
        let judgement = &found["judgement"];
        let word = judgement["verdict"].as_str().unwrap_or("none");
        let verdict = judgement["reason"].as_str().map_or(word.to_owned(), |r| format!("{word}({r})"));
        if verdict.starts_with(&wanted.is) {
            Ok(())
        } else {
            Err(format!("{verdict}: {}", judgement["explanation"].as_str().unwrap_or_default()))
        }
    }
}

/// Image of the first container of a pod or a template.
pub(crate) fn image_of(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
}

fn describe(condition: &Condition) -> String {
    // The YAML's own words, without what was not given.
    let text = format!("{condition:?}");
    let mut parts = Vec::new();
    let c = condition;
    if let Some(name) = &c.rolled_out {
        parts.push(format!("{name} is rolled out"));
    }
    if let Some(r) = &c.requests {
        parts.push(format!("{} more requests to {}", r.at_least, r.workload));
    }
    if let Some(p) = &c.pods {
        let mut is = Vec::new();
        is.extend(p.image.as_ref().map(|i| format!("run {i}")));
        is.extend(p.waiting.as_ref().map(|w| format!("wait: {w}")));
        is.extend(p.ready.map(|r| if r { "are Ready".into() } else { "are not Ready".into() }));
        is.extend(p.restarts.map(|r| format!("have {r} restarts")));
        parts.push(format!("{} pod(s) of {} {}", p.at_least, p.workload, is.join(", ")));
    }
    if let Some(i) = &c.image {
        parts.push(format!("{} has image {}", i.workload, i.is));
    }
    if let Some(i) = &c.incident {
        parts.push(format!("Incident of {}: {}", i.workload, i.phase.join(" or ")));
    }
    if let Some(name) = &c.undone {
        parts.push(format!("{name} was patched back"));
    }
    if let Some(v) = &c.verdict {
        parts.push(format!("verdict on {}: {}", v.workload, v.is));
    }
    if let Some(q) = &c.prometheus {
        parts.push(format!("{} >= {}", q.query, q.at_least));
    }
    if let Some(text) = &c.log {
        parts.push(format!("the log says \"{text}\""));
    }
    if let Some(name) = &c.ended {
        parts.push(format!("daemon {name} has ended"));
    }
    if let Some(name) = &c.stopped {
        parts.push(format!("daemon {name} stands still"));
    }
    if let Some(n) = &c.notice {
        parts.push(format!("{} notice(s) of {} to {}", n.at_least, n.phase.as_deref().unwrap_or("any"), n.channel));
    }
    if let Some(r) = &c.relisted {
        parts.push(format!("{} watch(es) of {} from the beginning", r.at_least, r.resource));
    }
    if let Some(a) = &c.answered {
        parts.push(format!("{} request(s) answered with {}", a.at_least, a.code));
    }
    if let Some(s) = &c.serves {
        let code = s.code.map(|code| format!(" {code}")).unwrap_or_default();
        parts.push(format!("{} answers{code} \"{}\"", s.path, s.text));
    }
    if let Some(e) = &c.event {
        let what = e.reason.as_deref().or(e.text.as_deref()).unwrap_or("any");
        parts.push(format!("Event on {}: {what}", e.workload));
    }
    if parts.is_empty() { text } else { parts.join(", ") }
}
