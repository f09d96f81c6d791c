//! The stories: Lastgood on a real control plane. Started by `tests/e2e/run`; see `--help` there.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

mod audit;
mod conditions;
#[path = "../conformance/mod.rs"]
mod conformance;
mod daemon;
mod expectations;
mod fail;
mod faults;
mod figures;
mod http;
mod kubelet;
mod load;
mod manifest;
mod narrate;
mod network;
mod options;
mod plane;
mod process;
mod receiver;
mod relay;
mod replayed;
mod runner;
mod scale;
mod soak;
mod steps;
mod story;
mod summary;
mod true_path;
mod wait;
mod wanted;

use fail::{Context, Result, bail};
use futures::{StreamExt, stream};
use options::Options;
use runner::{Outcome, Run, Stage};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};
use story::Story;
use tokio::{sync::oneshot, task::JoinSet, time::Instant};

fn main() -> ExitCode {
    let done =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Into::into).and_then(|runtime| {
            let done = runtime.block_on(suite());
            // Servers of pods may still be waiting for clients.
            runtime.shutdown_background();
            done
        });
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tests/e2e: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Plays the chosen stories; says how many failed.
async fn suite() -> Result<usize> {
    let options = Options::read(std::env::args().skip(1))?;
    let root = variable("LASTGOOD_E2E_ROOT")?;
    let stories = options.choose(story::read_all(&root.join("tests/e2e/stories"))?)?;
    if options.list {
        for story in &stories {
            println!("{:<34} {}", story.name, story.description);
        }
        return Ok(0);
    }
    let lastgood = variable("LASTGOOD_BIN")?;
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        bail!("a TLS provider was installed already");
    }
    let run = tempfile::Builder::new().prefix("lastgood-e2e-").tempdir()?;
    let out = root.join("target/e2e");
    std::fs::create_dir_all(&out).context(out.display())?;

    if let Some(wanted) = &options.true_path {
        let played = tokio::select! {
            played = true_path::run(wanted, run.path(), &out) => played,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        };
        keep_logs(run.path(), &out);
        return played;
    }
    let bin = variable("LASTGOOD_PLANE")?;

    // Ctrl-C ends the suite like any other end: processes stopped, folders removed.
    tokio::select! {
        played = perform(&options, stories, &bin, run.path(), &root, &out, lastgood) => played,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
}

async fn perform(
    options: &Options,
    stories: Vec<Story>,
    bin: &Path,
    run: &Path,
    root: &Path,
    out: &Path,
    lastgood: PathBuf,
) -> Result<usize> {
    let began = Instant::now();
    println!("starting etcd, kube-apiserver, kube-controller-manager and Prometheus");
    let plane = match plane::Plane::start(bin, run, root).await {
        Ok(plane) => plane,
        Err(error) => {
            keep_logs(run, out);
            return Err(error).context("the control plane does not start");
        }
    };
    println!("the control plane is up after {:.1} s", began.elapsed().as_secs_f64());
    if let Some(scale) = &options.scale {
        return at_scale(plane, scale, run, out, &lastgood).await;
    }
    let audit = Arc::new(audit::Audit::default());
    let follower = audit.follow(&plane.audit_log).await?;
    let world = Arc::new(kubelet::World::default());
    let mut background = JoinSet::new();
    background.spawn(kubelet::run(plane.kubelet.clone(), world.clone()));
    background.spawn(network::run(plane.kubelet.clone()));
    let (scraper, folder) = (plane.kubelet.clone(), run.to_owned());
    background.spawn(async move { plane::prometheus::follow_pods(scraper, &folder).await });
    let unmet = if options.with_conformance() { conform(&plane, options).await? } else { 0 };
    if options.conformance {
        keep_logs(run, out);
        plane.stop().await;
        return Ok(unmet);
    }
    let plane = Arc::new(plane);
    let stage = Stage { plane, world, audit, lastgood, out: out.into(), show: options.show };

    if let Some(soak) = &options.soak {
        let soaked = tokio::select! {
            soaked = soak::run(&stage, soak) => soaked,
            Some(ended) = background.join_next() => bail!("the kubelet or the proxies ended: {ended:?}"),
        };
        keep_logs(run, out);
        drop(background);
        follower.abort();
        stage.plane.stop().await;
        let faults = soaked?;
        faults.iter().for_each(|fault| println!("FAILED: {fault}"));
        println!("\n{} passed, {} failed", usize::from(faults.is_empty()), usize::from(!faults.is_empty()));
        return Ok(faults.len());
    }
    let mut outcomes = if options.keep {
        play_and_keep(&stage, stories, root).await?
    } else {
        tokio::select! {
            outcomes = play(&stage, stories, options.jobs) => outcomes?,
            Some(ended) = background.join_next() => {
                bail!("the kubelet or the proxies ended: {ended:?}");
            }
        }
    };
    outcomes.sort_by(|a, b| a.story.name.cmp(&b.story.name));
    keep_logs(run, out);
    drop(background);
    follower.abort();
    stage.plane.stop().await;
    summary::tell(&outcomes, began.elapsed().as_secs_f64(), out)?;
    let failed: Vec<&Outcome> = outcomes.iter().filter(|o| o.failure.is_some()).collect();
    for outcome in &failed {
        let text = outcome.failure.as_deref().unwrap_or_default();
        println!("\nFAILED {}: {text}\n  see {}", outcome.story.name, runner::evidence(out, &outcome.story.name));
    }
    println!("\n{} passed, {} failed", outcomes.len() - failed.len(), failed.len());
    Ok(failed.len() + unmet)
}

/// Plays the conformance cases, so many side by side; says how many do not hold. Prometheus earns its trust meanwhile.
async fn conform(plane: &plane::Plane, options: &Options) -> Result<usize> {
    let (cases, client) = (options.choose_cases(), plane.plain_client().await?);
    let began = Instant::now();
    let played = stream::iter(&cases).map(async |case| (case.name, case.play(client.clone()).await));
    let mut playing = std::pin::pin!(played.buffer_unordered(2 * options.jobs));
    let mut unmet = 0;
    while let Some((name, result)) = playing.next().await {
        if let Err(why) = result {
            unmet += 1;
            println!("DOES NOT HOLD  {name}: {why}");
        }
    }
    let (all, seconds) = (cases.len(), began.elapsed().as_secs_f64());
    println!("conformance: {} of {all} cases hold ({seconds:.0} s)", all - unmet);
    Ok(unmet)
}

/// Measures the daemon in a large cluster instead of playing stories.
async fn at_scale(plane: plane::Plane, scale: &options::Scale, run: &Path, out: &Path, bin: &Path) -> Result<usize> {
    let mut background = JoinSet::new();
    background.spawn(kubelet::run(plane.kubelet.clone(), Arc::default()));
    let (scraper, folder) = (plane.kubelet.clone(), run.to_owned());
    background.spawn(async move { plane::prometheus::follow_pods(scraper, &folder).await });
    let measured = tokio::select! {
        measured = scale::run(&plane, bin, out, scale) => measured,
        Some(ended) = background.join_next() => bail!("the kubelet ended: {ended:?}"),
    };
    keep_logs(run, out);
    drop(background);
    plane.stop().await;
    measured.map(|()| 0)
}

/// Plays all stories, so many side by side.
async fn play(stage: &Stage, mut stories: Vec<Story>, jobs: usize) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    stories.sort_by_key(|s| !s.long);
    let (alone, together): (Vec<&Story>, Vec<&Story>) = stories.iter().partition(|s| s.alone);
    let mut together =
        stream::iter(together).map(|story| Run::play(stage, story, false)).buffer_unordered(jobs).boxed_local();
    let mut alone = stream::iter(alone).then(|story| Run::play(stage, story, false)).boxed_local();
    loop {
        let played = match together.next().await {
            None => alone.next().await,
            played => played,
        };
        let Some(played) = played else { break };
        let (outcome, _) = played?;
        stage.plane.must_live().await?;
        let result = if outcome.failure.is_some() { "FAILED" } else { "passed" };
        println!("{result}  {}  ({:.0} s)", outcome.story.name, outcome.seconds);
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// Plays one story after the other and leaves everything up until somebody has looked around.
async fn play_and_keep(stage: &Stage, stories: Vec<Story>, root: &Path) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    let mut kept = Vec::new();
    for story in &stories {
        let (outcome, run) = Run::play(stage, story, true).await?;
        if let Some(failure) = &outcome.failure {
            println!("FAILED {}: {failure}", story.name);
        }
        outcomes.push(outcome);
        kept.extend(run);
    }
    // /proc is the machine's own, also from inside a process namespace.
    let pid = std::fs::read_link("/proc/self").context("/proc/self")?;
    let enter = std::env::var("LASTGOOD_E2E_ENTER").unwrap_or_default();
    let enter = format!("{enter} --target {}", pid.display());
    println!("\nEverything is still up. From another terminal:");
    println!("  {enter} env KUBECONFIG={} bash", stage.plane.kubeconfig.display());
    println!("and there:");
    println!("  {} get incidents,deployments,pods -A", stage.plane.kubectl_path().display());
    println!("  curl {}/api/v1/targets", plane::prometheus::URL);
    for run in &kept {
        println!("  {} get -n {} --kubeconfig $KUBECONFIG", stage.lastgood.display(), run.namespace);
        for (name, daemon) in &run.daemons {
            println!("  curl http://{}/readyz     # daemon {name}, log {}", daemon.listen, daemon.log.display());
        }
    }
    println!("(repository: {})\nEnter or Ctrl-C ends it.", root.display());
    enter_pressed().await;
    for run in &mut kept {
        run.clean_up().await?;
    }
    Ok(outcomes)
}

/// Waits for Enter. Without a terminal there is none: then only a signal ends the suite.
async fn enter_pressed() {
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line).is_ok_and(|n| n > 0) {
            let _ = tell.send(());
        }
    });
    if told.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Keeps the logs of the control plane for those who look into a failure.
fn keep_logs(run: &Path, out: &Path) {
    for name in ["etcd", "kube-apiserver", "kube-controller-manager", "prometheus"] {
        let file = format!("{name}.log");
        let _ = std::fs::copy(run.join(&file), out.join(&file));
    }
}

fn variable(name: &str) -> Result<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).context(format!("{name} is not set: start me by tests/e2e/run"))
}
