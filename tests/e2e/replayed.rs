//! What a daemon observed, recorded by `lastgood record`, must be judged by `lastgood replay` as it was live.
use crate::{
    daemon::Daemon,
    fail::{Context, Result, bail},
    process::{self, Process},
    runner::Run,
    wait,
};
use serde_json::Value;
use std::{path::PathBuf, time::Duration};

/// A recording that goes on for as long as the story.
pub(crate) struct Recording {
    process: Process,
    trace: PathBuf,
    log: PathBuf,
}

/// What was decided of one rollout: the reason, and whether it was undone or only told.
type Decided = (String, bool);

impl Recording {
    /// Starts it, and waits until it listens: what happens from then on is whole.
    pub(crate) async fn start(run: &Run<'_>, daemon: &Daemon) -> Result<Self> {
        let (trace, log) = (run.folder.join("trace.jsonl"), run.folder.join("record.log"));
        let mut command = process::command(&run.stage.lastgood);
        command.args(["record", "--server", &format!("http://{}", daemon.listen), "--to"]).arg(&trace);
        let process = Process::start("lastgood record", command, &log)?;
        let mut recording = Self { process, trace, log };
        wait::until("lastgood record listens", Duration::from_secs(20), async || {
            recording.process.must_live().map_err(wait::Missing::for_ever)?;
            let said = std::fs::read_to_string(&recording.log).unwrap_or_default();
            if said.contains("recording") { Ok(()) } else { Err("it has not said so".into()) }
        })
        .await?;
        Ok(recording)
    }

    /// Ctrl-C.
    async fn end(&mut self) -> Result<()> {
        self.process.signal("INT").await?;
        wait::until("lastgood record ends", Duration::from_secs(20), async || match self.process.ended() {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(wait::Missing::for_ever(status)),
            None => Err("it runs".into()),
        })
        .await
    }
}

impl Run<'_> {
    /// Ends the recording of a story that has one, and holds its replay against what was done live.
    pub(crate) async fn check_replay(&mut self) -> Result<()> {
        let Some(mut recording) = self.recording.take() else { return Ok(()) };
        recording.end().await?;
        let thresholds = self.folder.join("config-main").join("thresholds.yaml");
        let mut args: Vec<String> = ["replay", "--interval", "5", "-o", "json", "--thresholds"].map(Into::into).into();
        args.extend([thresholds.display().to_string(), recording.trace.display().to_string()]);
        let said = process::run(&self.stage.lastgood, &args, None, Duration::from_secs(120)).await?;
        let said = said.ok("lastgood replay")?;
        let lines: Vec<Value> = said
            .lines()
            .map(|line| serde_json::from_str(line).context("a line of the replay"))
            .collect::<Result<_>>()?;
        let story = self.story;
        for workload in &story.workloads {
            let (name, id) = (&workload.name, format!("{}/{}/{}", self.namespace, workload.kind, workload.name));
            let summaries = || lines.iter().filter(|line| line["kind"] == "summary" && line["workload"] == id.as_str());
            let acted = summaries().filter(|line| line["action"] != "none");
            let replayed: Vec<Decided> = acted.map(|line| (text(&line["reason"]), line["action"] == "undo")).collect();
            let incidents = self.incidents(name).await?;
            let undone = |i: &Value| i["status"]["phase"] != "Reported";
            let live: Vec<Decided> = incidents.iter().map(|i| (text(&i["spec"]["reason"]), undone(i))).collect();
            if live != replayed {
                bail!(
                    "{name}: judged otherwise in the replay of {}: {replayed:?} instead of {live:?}",
                    recording.trace.display()
                );
            }
            if summaries().next().is_none() {
                bail!("{name}: no rollout was recorded");
            }
            for summary in summaries() {
                let revision = text(&summary["to"]);
                let (again, (live, log_e)) = (word(summary), self.decided(&id, &revision)?);
                // To the last digit: else what is decided by a hair is one day decided otherwise.
                let alike = summary["verdict"] != "fail" || summary["logE"] == log_e;
                if again != live || !alike {
                    bail!(
                        "{name}: {revision} is {again} by {} in the replay of {} and was {live} by {log_e}",
                        summary["logE"],
                        recording.trace.display()
                    );
                }
                self.tell(&format!("the replay of what was recorded says the same of {name}, {revision}: {again}"));
            }
        }
        Ok(())
    }

    /// What the daemon concluded of a revision, by its log, and the evidence when it first did.
    fn decided(&mut self, workload: &str, revision: &str) -> Result<(String, Value)> {
        let log = self.daemon("main")?.log_text();
        let said = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let of_this = said.filter(|line| line["workload"] == workload && line["revision"] == revision);
        let verdicts: Vec<(String, Value)> =
            of_this.map(|line| (text(&line["verdict"]), line["log_e"].clone())).collect();
        let first = |wanted: &dyn Fn(&str) -> bool| verdicts.iter().find(|(verdict, _)| wanted(verdict)).cloned();
        let found = first(&|verdict| verdict.starts_with("fail(")).or_else(|| first(&|verdict| verdict == "pass"));
        Ok(found.unwrap_or_else(|| ("undecided".to_owned(), Value::Null)))
    }
}

/// What a summary concludes, as the daemon's log writes it.
fn word(summary: &Value) -> String {
    match summary["verdict"].as_str() {
        Some("fail") => format!("fail({})", text(&summary["reason"])),
        Some("pass") => "pass".into(),
        _ => "undecided".into(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
