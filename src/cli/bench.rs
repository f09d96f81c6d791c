//! `lastgood bench`: the open benchmark of rollback decisions.

use super::{Failure, cannot_write, exit, writable};
use crate::bench::{self, Further, Report, Scenario, Shared};
use clap::{Args, ValueEnum};
use std::{
    collections::BTreeSet,
    io::Write,
    num::NonZeroUsize,
    ops::Range,
    path::{Path, PathBuf},
    time::Instant,
};

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// Only these scenarios, e.g. S03; can be given more than once. Else all.
    #[arg(long, value_name = "ID")]
    scenario: Vec<String>,
    /// Runs of each scenario.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=SEEDS_MOST))]
    seeds: Option<u64>,
    /// The first seed. Tune on those up to 1,000,000; report on those from 1,000,001 on.
    #[arg(long, value_name = "SEED", value_parser = clap::value_parser!(u64).range(..=SEEDS_MOST))]
    first_seed: Option<u64>,
    /// Also measure the rules that people use today, on the same observations.
    #[arg(long)]
    rivals: bool,
    /// Further clean deploys, by which false undos are counted.
    #[arg(long, value_name = "N")]
    clean: Option<u64>,
    /// Further runs of each scenario of cluster-wide trouble, in which nothing may be undone.
    #[arg(long, value_name = "N")]
    trouble: Option<u64>,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = bench::SCRAPE)]
    interval: f64,
    /// Threads; else one per processor.
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
    /// Measure everything on the reporting seeds; write decision-benchmark.md and its pictures into this folder.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["scenario", "output"])]
    document: Option<PathBuf>,
    /// Write the observations of one run of this scenario as a trace, for `lastgood replay`.
    #[arg(
        long,
        value_name = "ID",
        conflicts_with_all = [
            "scenario", "rivals", "document", "output", "seeds", "first_seed", "clean", "trouble", "interval", "workers",
        ]
    )]
    trace: Option<String>,
    /// The seed of that run.
    #[arg(long, requires = "trace", default_value_t = 1)]
    seed: u64,
    /// How to write the answer.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// The document; without --scenario also by the size of the fault and by traffic, which takes minutes.
    Markdown,
    /// Recall against false undos, as a picture.
    Svg,
}

/// Far more than anybody can wait for, and far from overflowing.
const SEEDS_MOST: u64 = 1 << 48;
/// Runs of each scenario, unless said otherwise: for a look, and for the document.
const SEEDS: [u64; 2] = [100, 300];
/// Clean deploys of the document.
const CLEAN: u64 = 100_000;
/// Runs of each scenario of cluster-wide trouble in the document.
const TROUBLE: u64 = 10_000;
/// Runs of each size of a fault and each traffic.
const SWEEP: u64 = 100;
/// The pictures of the document, beside it.
const PICTURES: [&str; 2] = ["decision-benchmark-recall.svg", "decision-benchmark-delay.svg"];

pub(super) fn bench(args: &BenchArgs, out: &mut dyn Write) -> Result<u8, Failure> {
    if !(args.interval > 0.0 && args.interval <= 3600.0) {
        return Err(Failure::new(exit::USAGE, "--interval must be more than 0 and at most 3600 seconds"));
    }
    if let Some(id) = &args.trace {
        return trace(&find(id)?, args.seed, out);
    }
    let whole = args.document.is_some();
    if let Some(folder) = &args.document {
        // Said now, and not after half an hour of measuring.
        [&["decision-benchmark.md"][..], &PICTURES]
            .concat()
            .iter()
            .try_for_each(|name| writable(&folder.join(name)).map(drop))?;
    }
    let first = args.first_seed.unwrap_or(if whole { bench::REPORTING } else { 1 });
    let seeds = first..first.saturating_add(args.seeds.unwrap_or(SEEDS[usize::from(whole)]).max(1));
    let report = measure(args, seeds, whole)?;
    if let Some(folder) = &args.document {
        return write_document(&report, folder, out);
    }
    match args.output {
        Format::Text => write!(out, "{}", bench::text(&report))?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, &report)?;
            writeln!(out)?;
        }
        Format::Markdown => write!(out, "{}", bench::document(&report, PICTURES))?,
        Format::Svg => write!(out, "{}", bench::recall_against_false_undos(&report))?,
    }
    Ok(exit::OK)
}

fn measure(args: &BenchArgs, seeds: Range<u64>, whole: bool) -> Result<Report, Failure> {
    let scenarios: Vec<Scenario> = match &args.scenario[..] {
        [] => bench::all(),
        ids => {
            let mut chosen: Vec<Scenario> = ids.iter().map(|id| find(id)).collect::<Result<_, _>>()?;
            let mut seen = BTreeSet::new();
            chosen.retain(|scenario| seen.insert(scenario.id));
            chosen
        }
    };
    let shared = Shared::new(args.interval);
    let workers = args.workers.or_else(|| std::thread::available_parallelism().ok()).map_or(1, usize::from);
    let judges: bench::Judges<'_> = if args.rivals || whole { &bench::everyone } else { &bench::lastgood };
    let timed = |scenarios: &[Scenario], seeds: &Range<u64>, judges: bench::Judges<'_>| {
        let started = Instant::now();
        (bench::run(scenarios, seeds, &shared, judges, workers), started.elapsed().as_secs_f64())
    };
    let (tallies, took) = timed(&scenarios, &seeds, judges);
    // Further runs are disjoint from those above, and on the same side of the line between tuning and reporting.
    let further = |scenarios: &[Scenario], each: u64| {
        timed(scenarios, &(seeds.end..seeds.end.saturating_add(each)), &bench::lastgood)
    };
    let clean = args.clean.or(whole.then_some(CLEAN)).map(|deploys| {
        let mix: Vec<Scenario> = bench::all().into_iter().filter(|scenario| scenario.clean).collect();
        let (tallies, took) = further(&mix, deploys.div_ceil(mix.len() as u64));
        (Further::new(deploys, &tallies, took), tallies)
    });
    let (clean, clean_tallies) = clean.unzip();
    let mut report = Report::new(&scenarios, &tallies, clean_tallies.as_ref(), seeds.clone(), args.interval);
    report.clean = clean;
    report.took_seconds = took;
    report.trouble = args.trouble.or(whole.then_some(TROUBLE)).map(|each| {
        let trouble: Vec<Scenario> = bench::TROUBLE.into_iter().filter_map(bench::find).collect();
        let (tallies, took) = further(&trouble, each);
        Further::new(each, &tallies, took)
    });
    if whole || args.output == Format::Markdown && args.scenario.is_empty() {
        report.sweep = bench::sweep(&(seeds.start..seeds.start + SWEEP), &shared, workers);
    }
    Ok(report)
}

fn write_document(report: &Report, folder: &Path, out: &mut dyn Write) -> Result<u8, Failure> {
    let files = [
        ("decision-benchmark.md", bench::document(report, PICTURES)),
        (PICTURES[0], bench::recall_against_false_undos(report)),
        (PICTURES[1], bench::delays(report)),
    ];
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|e| cannot_write(&path, &e))?;
        writeln!(out, "{}", path.display())?;
    }
    Ok(exit::OK)
}

fn find(id: &str) -> Result<Scenario, Failure> {
    bench::find(id).ok_or_else(|| {
        let all = bench::all();
        let last = all.last().map_or("", |scenario| scenario.id);
        Failure::new(exit::USAGE, format!("there is no scenario \"{id}\"; they are S01 to S50 and A01 to {last}"))
    })
}

/// One run, as a trace.
fn trace(scenario: &Scenario, seed: u64, out: &mut dyn Write) -> Result<u8, Failure> {
    let (world, random) = scenario.world(seed);
    let mut result = Ok(());
    bench::Feed::new(world, random).run(&mut |observed| {
        if result.is_ok() {
            result =
                serde_json::to_writer(&mut *out, observed).map_err(std::io::Error::from).and_then(|()| writeln!(out));
        }
    });
    result?;
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn run(args: &[&str]) -> Result<String, String> {
        let line = Line::try_parse_from([&["bench"], args].concat()).map_err(|e| e.to_string())?;
        let mut out = Vec::new();
        bench(&line.args, &mut out).map_err(|failure| failure.text)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_scenario_is_measured_and_both_kinds_of_seeds_are_named() {
        let text = run(&["--scenario", "s16", "--seeds", "2", "--rivals"]).unwrap();
        assert!(text.contains("seeds 1 to 2") && text.contains("tuning uses those up to 999999"), "{text}");
        assert!(text.contains("S16") && text.contains("Flagger-like") && text.contains("oracle"), "{text}");
        let json = run(&["--scenario", "S16", "--seeds", "1", "--first-seed", "1000001", "-o", "json"]).unwrap();
        let report: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(report["rows"][0]["id"], "S16");
        assert_eq!(report["seeds"]["start"], 1_000_001);
    }

    #[test]
    fn a_run_can_be_written_as_a_trace() {
        let trace = run(&["--trace", "S06", "--seed", "7"]).unwrap();
        let lines: Vec<serde_json::Value> = trace.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["kind"], &lines[0]["version"]), (&"trace".into(), &1.into()));
        assert_eq!(lines[lines.len() - 1]["kind"], "end");
    }

    #[test]
    fn what_does_not_exist_is_said() {
        assert!(run(&["--scenario", "S99"]).unwrap_err().contains("no scenario \"S99\""));
        assert!(run(&["--scenario", "S99"]).unwrap_err().contains("A01 to A22"));
        assert!(run(&["--interval", "0"]).unwrap_err().contains("--interval"));
        assert!(run(&["--seeds", "0"]).unwrap_err().contains("--seeds"));
        assert!(run(&["--trace", "S03", "--seeds", "3"]).unwrap_err().contains("--seeds"));
        let nowhere = run(&["--document", "/dev/null/x", "--seeds", "1"]).unwrap_err();
        assert!(nowhere.contains("cannot write /dev/null/x/decision-benchmark.md"), "{nowhere}");
    }

    #[test]
    fn a_scenario_that_is_named_twice_is_measured_once() {
        let json = run(&["--scenario", "S16", "--scenario", "s16", "--seeds", "1", "-o", "json"]).unwrap();
        let report: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((report["rows"].as_array().unwrap().len(), &report["rows"][0]["runs"]), (1, &1.into()));
    }
}
