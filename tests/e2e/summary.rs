//! The table at the end, for people and as JSON.
use crate::{
    fail::{Context, Result},
    runner::Outcome,
};
use serde_json::json;
use std::{collections::BTreeMap, path::Path};

/// Prints who passed and how fast undos came, and writes `summary.json`.
pub(crate) fn tell(outcomes: &[Outcome], seconds: f64, out: &Path) -> Result<()> {
    println!();
    println!("{:<34} {:>6}  {:>14}  {:>14}  RESULT", "STORY", "TOOK", "HARM TO PATCH", "PATCH TO DONE");
    for outcome in outcomes {
        let time = |t: Option<f64>| t.map_or("-".to_owned(), |t| format!("{t:.1} s"));
        let result = if outcome.failure.is_some() { "FAILED" } else { "passed" };
        println!(
            "{:<34} {:>4.0} s  {:>14}  {:>14}  {result}",
            outcome.story.name,
            outcome.seconds,
            time(outcome.harm_to_patch),
            time(outcome.patch_to_finished),
        );
    }
    let mut kinds: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for outcome in outcomes {
        let Some(kind) = outcome.story.timed.as_deref() else { continue };
        kinds.entry(kind).or_default().extend(outcome.harm_to_patch);
        if let Some(t) = outcome.third_restart_to_patch {
            kinds.entry("crash loop, since the third restart").or_default().push(t);
        }
    }
    kinds.retain(|_, times| !times.is_empty());
    if !kinds.is_empty() {
        println!("\n{:<40} {:>3}  {:>8}  {:>8}", "FROM FIRST HARM TO THE PATCH", "N", "P50", "P95");
    }
    let mut table = serde_json::Map::new();
    for (kind, times) in &mut kinds {
        times.sort_by(f64::total_cmp);
        let (p50, p95) = (quantile(times, 0.50), quantile(times, 0.95));
        println!("{kind:<40} {:>3}  {p50:>6.1} s  {p95:>6.1} s", times.len());
        table.insert((*kind).to_owned(), json!({"n": times.len(), "p50Seconds": p50, "p95Seconds": p95}));
    }
    let stories: Vec<_> = outcomes
        .iter()
        .map(|o| {
            json!({
                "story": o.story.name, "passed": o.failure.is_none(), "seconds": o.seconds, "failure": o.failure,
                "kind": o.story.timed, "harmToPatchSeconds": o.harm_to_patch,
                "thirdRestartToPatchSeconds": o.third_restart_to_patch, "patchToFinishedSeconds": o.patch_to_finished,
                "prometheusQueries": o.queries,
            })
        })
        .collect();
    let summary = json!({"seconds": seconds, "harmToPatch": table, "stories": stories});
    let path = out.join("summary.json");
    std::fs::write(&path, serde_json::to_string_pretty(&summary)?).context(path.display())?;
    println!("\ntook {seconds:.0} s; written to {}", path.display());
    Ok(())
}

/// Nearest rank.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "small counts"
    )]
    let rank = (sorted.len() as f64 * q).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len()) - 1).copied().unwrap_or(f64::NAN)
}
