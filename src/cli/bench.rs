//! `lastgood bench`: the open benchmark of rollback decisions.

use super::{Failure, exit};
use crate::bench;
use clap::{Args, ValueEnum};
use std::io::Write;

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// Only these scenarios, e.g. S03; can be given more than once. Else all.
    #[arg(long, value_name = "ID")]
    scenario: Vec<String>,
    /// Runs of each scenario.
    #[arg(long, value_name = "N", default_value_t = 200)]
    seeds: u64,
    /// The first seed. Tuning may use those below 1,000,000; what is reported uses those from 1,000,001 on.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    first_seed: u64,
    /// Also measure the rules that people use today, on the same observations.
    #[arg(long)]
    rivals: bool,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = bench::SCRAPE)]
    interval: f64,
    /// Threads; else one per processor.
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Write the observations of one run of this scenario as a trace, for `lastgood replay`.
    #[arg(long, value_name = "ID", conflicts_with_all = ["scenario", "rivals"])]
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
}

pub(super) fn bench(args: &BenchArgs, out: &mut dyn Write) -> Result<u8, Failure> {
    if let Some(id) = &args.trace {
        return trace(&find(id)?, args.seed, out);
    }
    let scenarios = match &args.scenario[..] {
        [] => bench::all(),
        ids => ids.iter().map(|id| find(id)).collect::<Result<_, _>>()?,
    };
    let shared = bench::Shared::new(args.interval);
    let workers = args.workers.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    let seeds = args.first_seed..args.first_seed.saturating_add(args.seeds);
    let started = std::time::Instant::now();
    let tallies = bench::run(&scenarios, &seeds, &shared, &bench::lastgood, workers);
    let took = started.elapsed();
    for ((id, judge), t) in &tallies {
        writeln!(
            out,
            "{id} {judge} runs {} must {} in time {} late {} wrong {} target {} | not {} | hold {} held {} right {} {:?} | ttu {:.0?} p95 {:.0?} bound {:.0?} harm {:.0?} | {:?}",
            t.runs,
            t.must,
            t.in_time,
            t.late,
            t.wrong,
            t.wrong_target,
            t.must_not,
            t.must_hold,
            t.held,
            t.held_right,
            t.reasons,
            t.delay(0.5),
            t.delay(0.95),
            t.bound(),
            t.harm(),
            t.failed_seeds
        )?;
    }
    writeln!(out, "{took:.1?}")?;
    Ok(exit::OK)
}

fn find(id: &str) -> Result<bench::Scenario, Failure> {
    bench::find(id).ok_or_else(|| {
        Failure::new(exit::USAGE, format!("there is no scenario \"{id}\"; they are S01 to S50 and A01 and on"))
    })
}

/// One run, as a trace.
fn trace(scenario: &bench::Scenario, seed: u64, out: &mut dyn Write) -> Result<u8, Failure> {
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
